//! A participant that does nothing: it answers every call at once, or never, and counts.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::client::Headers;
use crate::{Failure, process};

#[derive(Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) answers: Answers,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answers {
    AtOnce,
    Never,
}

/// Asks for [`Seen`].
pub(crate) const SEEN: &str = "seen";

/// What it was called for so far.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) tries: u64,
    pub(crate) confirms: u64,
    pub(crate) cancels: u64,
    /// The headers of the first call, but for those that HTTP itself needs.
    pub(crate) headers: Headers,
}

#[derive(Default)]
struct Counters {
    tries: AtomicU64,
    confirms: AtomicU64,
    cancels: AtomicU64,
    first: OnceLock<Headers>,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    let counters = Arc::new(Counters::default());
    tokio::spawn(serve(listener, options.answers, counters.clone()));
    process::answer(&address, async |_| {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Seen {
            tries: of(&counters.tries),
            confirms: of(&counters.confirms),
            cancels: of(&counters.cancels),
            headers: counters.first.get().cloned().unwrap_or_default(),
        })
    })
    .await
}

async fn serve(listener: TcpListener, answers: Answers, counters: Arc<Counters>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let counters = counters.clone();
        let service = service_fn(move |request| answer(request, answers, counters.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    answers: Answers,
    counters: Arc<Counters>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    body.collect().await?;
    let path = head.uri.path();
    let counter = match path.rsplit('/').next() {
        Some("confirm") => &counters.confirms,
        Some("cancel") => &counters.cancels,
        _ => &counters.tries,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    if answers == Answers::Never {
        std::future::pending::<()>().await;
    }
    counters.first.get_or_init(|| {
        let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let of_http = ["host", "content-length", "connection"];
        let kept = head.headers.iter().filter(|(name, _)| !of_http.contains(&name.as_str()));
        kept.map(|(name, value)| (name.to_string(), text(value))).collect()
    });
    // The peers' protocol has its answer in the body.
    let said = if path.starts_with("/dtm/") { r#"{"dtm_result":"SUCCESS"}"# } else { "" };
    Ok(Response::new(Full::from(said)))
}
