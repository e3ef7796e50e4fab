//! The binary as one of the services: served over HTTP, watched, and gone when the demo is.

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use clap::Parser;
use http_body_util::BodyExt;
use tcc_client::{BoxError, Call, Client};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::event::{Event, Moment, What, Who};
use crate::{inventory, order, payment};

/// The arguments of a service.
#[derive(Parser)]
struct Flags {
    /// Which service this is.
    #[arg(long = "as")]
    who: Who,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long, required_if_eq_any([("who", "payment"), ("who", "inventory")]))]
    db: Option<PathBuf>,
    #[arg(long, required_if_eq("who", "order"))]
    coordinator: Option<String>,
    #[arg(long, required_if_eq("who", "order"))]
    payment: Option<String>,
    #[arg(long, required_if_eq("who", "order"))]
    inventory: Option<String>,
    #[arg(long)]
    hold: Vec<Hold>,
}

/// Calls to be held back until the demo says otherwise, which it does by a line on standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) moment: Moment,
    pub(super) operation: &'static str,
    pub(super) gid: String,
}

/// Runs as `--as …` says.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let holds = Arc::new(watch::Sender::new(Vec::new()));
    obey_the_demo(holds.clone());
    if arguments.get(2).is_some_and(|who| who == "coordinator") {
        let name = OsString::from("tcc-server");
        return tcc_server::cli::main(std::iter::once(name).chain(arguments[3..].iter().cloned()));
    }
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    let flags = Flags::parse_from(arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let served = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve(flags, holds)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The demo has the other end of standard input: it writes there what is to be held back no longer. However it ends,
/// the input does too, and nothing is left behind.
fn obey_the_demo(holds: Arc<watch::Sender<Vec<Hold>>>) {
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            holds.send_modify(|holds| holds.retain(|hold| hold.to_string() != line));
        }
        std::process::exit(0);
    });
}

async fn serve(flags: Flags, holds: Arc<watch::Sender<Vec<Hold>>>) -> Result<(), BoxError> {
    let file = flags.db.unwrap_or_default();
    let service = match flags.who {
        Who::Payment => payment::service(&file).await?,
        Who::Inventory => inventory::service(&file).await?,
        Who::Order => orders(flags.coordinator, flags.payment, flags.inventory)?,
        Who::Customer | Who::Coordinator => return Err("is no service of the shop".into()),
    };
    holds.send_replace(flags.hold);
    let stage = Arc::new(Stage { who: flags.who, holds });
    let service = service.layer(from_fn_with_state(stage, watched));
    let listener = TcpListener::bind(flags.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, service).await?)
}

fn orders(
    coordinator: Option<String>,
    payment: Option<String>,
    inventory: Option<String>,
) -> Result<Router, BoxError> {
    let tcc = Client::new(&coordinator.unwrap_or_default())?;
    let [payment, inventory] = [payment, inventory].map(Option::unwrap_or_default);
    Ok(order::Orders { tcc, inventory, payment }.service())
}

/// What the demo adds to a participant, around it and not in it: it writes down calls and holds some back.
struct Stage {
    who: Who,
    holds: Arc<watch::Sender<Vec<Hold>>>,
}

async fn watched(State(stage): State<Arc<Stage>>, request: Request, next: Next) -> Response {
    let Ok(call) = Call::from_headers(request.headers()) else { return next.run(request).await };
    stage.hold(&call, Moment::Before).await;
    let work = {
        let (stage, call) = (stage.clone(), call.clone());
        async move { stage.note(&call, next.run(request).await).await }
    };
    // In a task of its own: a caller who is killed does not keep the call from being done, nor from being noted.
    let response = tokio::spawn(work).await.unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR));
    stage.hold(&call, Moment::After).await;
    response
}

impl Stage {
    /// Waits with a call that is to be held back.
    async fn hold(&self, call: &Call, moment: Moment) {
        let hold = Hold { moment, operation: call.operation.as_str(), gid: call.gid.to_string() };
        let mut holds = self.holds.subscribe();
        if holds.borrow_and_update().contains(&hold) {
            self.say(call, What::Held { operation: call.operation.to_string(), moment });
            // It fails when nobody can say so any more, and then this process ends.
            let _ = holds.wait_for(|holds| !holds.contains(&hold)).await;
        }
    }

    async fn note(&self, call: &Call, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        let Ok(body) = body.collect().await else { return status(StatusCode::INTERNAL_SERVER_ERROR) };
        let body = body.to_bytes();
        let answer = if parts.status.is_success() { "done".to_owned() } else { problem(parts.status, &body) };
        self.say(call, What::Answered { operation: call.operation.to_string(), answer });
        Response::from_parts(parts, Body::from(body))
    }

    fn say(&self, call: &Call, what: What) {
        let event = Event::now(self.who, call.gid.as_str(), what);
        let line = serde_json::to_string(&event).expect("an event has string keys and no failing serializer");
        // Without a demo nobody reads it, and this process is about to end.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// What an answer that is no success says, as `refused: insufficient funds`.
fn problem(status: StatusCode, body: &[u8]) -> String {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match (problem["code"].as_str(), problem["detail"].as_str()) {
        (Some(code), Some(detail)) if !detail.is_empty() => format!("{code}: {detail}"),
        (Some(code), _) => code.to_owned(),
        (None, _) => status.to_string(),
    }
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.moment.word(), self.operation, self.gid)
    }
}

impl FromStr for Hold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        let [moment, operation, gid] = parts[..] else { return Err("is no moment:operation:gid".to_owned()) };
        let moment = [Moment::Before, Moment::After].into_iter().find(|known| known.word() == moment);
        let operation = ["try", "confirm", "cancel"].into_iter().find(|known| *known == operation);
        let (Some(moment), Some(operation)) = (moment, operation) else {
            return Err("is unknown".to_owned());
        };
        Ok(Self { moment, operation, gid: gid.to_owned() })
    }
}
