//! A bank: one account, behind the guard, in a SQLite file of its own; and whatever fault a payload asks for.
//!
//! `participant DIRECTORY` keeps its file there and says `listening on ADDRESS` once it does.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::future::pending;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tcc_client::{BoxError, Call, Participant, Participants, SqliteDatabase, Tried, Tx};
use tower_service::Service;

/// What a branch carries.
#[derive(Deserialize)]
struct Entry {
    /// What is put into the account, or taken from it if negative.
    amount: i64,
    #[serde(default)]
    faults: Vec<Fault>,
}

/// Something that goes wrong.
#[derive(Deserialize)]
struct Fault {
    /// In this operation.
    on: String,
    what: What,
    /// So often, counted over all lives of this process.
    times: usize,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// The try says no; a confirm or a cancel does, as it never should.
    Refuse,
    /// An error; rolled back.
    Fail,
    /// Nothing is done, and no answer ever comes.
    Hang,
    /// It is done, and no answer ever comes.
    DoAndHang,
    DieBeforeCommit,
    DieAfterCommit,
}

/// How often each fault has happened, in a file that outlives the process: a line for each time.
struct Happened {
    file: PathBuf,
    counts: Mutex<HashMap<String, usize>>,
}

impl Happened {
    fn load(file: PathBuf) -> Self {
        let mut counts = HashMap::new();
        for line in std::fs::read_to_string(&file).unwrap_or_default().lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        Self { file, counts: Mutex::new(counts) }
    }

    /// The fault that is to happen now, if it is one of these.
    fn now(&self, key: &str, operation: &str, faults: &[Fault], of: &[What]) -> Option<What> {
        let mut counts = self.counts.lock().expect("no code under this lock panics");
        faults.iter().enumerate().find_map(|(i, fault)| {
            let line = format!("{key} {operation} {i}");
            let count = counts.entry(line.clone()).or_default();
            if fault.on != operation || !of.contains(&fault.what) || *count >= fault.times {
                return None;
            }
            *count += 1;
            let file = OpenOptions::new().create(true).append(true).open(&self.file);
            file.and_then(|mut file| writeln!(file, "{line}")).expect("a writable file");
            Some(fault.what)
        })
    }
}

struct Bank {
    happened: Arc<Happened>,
}

impl Bank {
    /// The faults in the midst of a local transaction.
    fn trouble(&self, call: &Call, entry: &Entry) -> Result<(), BoxError> {
        let key = format!("{} {}", call.gid, call.branch);
        let operation = call.operation.as_str();
        match self.happened.now(&key, operation, &entry.faults, &[What::Fail, What::DieBeforeCommit]) {
            Some(What::Fail) => Err("a fault that was asked for".into()),
            Some(_) => std::process::abort(),
            None => Ok(()),
        }
    }
}

impl Participant for Bank {
    type Database = SqliteDatabase;
    type Payload = Entry;

    async fn try_(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
        let booked = tx.execute(
            "UPDATE account SET available = available + min(?1, 0), frozen = frozen - min(?1, 0),
                                incoming = incoming + max(?1, 0)
             WHERE available + min(?1, 0) >= 0",
            [entry.amount],
        )?;
        self.trouble(call, entry)?;
        let key = format!("{} {}", call.gid, call.branch);
        if self.happened.now(&key, "try", &entry.faults, &[What::Refuse]).is_some() {
            return Ok(Tried::refused("the account is closed"));
        }
        Ok(if booked == 1 { Tried::accepted() } else { Tried::refused("no funds") })
    }

    async fn confirm(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        tx.execute(
            "UPDATE account SET frozen = frozen + min(?1, 0), incoming = incoming - max(?1, 0),
                                available = available + max(?1, 0)",
            [entry.amount],
        )?;
        self.trouble(call, entry)
    }

    async fn cancel(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        tx.execute(
            "UPDATE account SET available = available - min(?1, 0), frozen = frozen + min(?1, 0),
                                incoming = incoming - max(?1, 0)",
            [entry.amount],
        )?;
        self.trouble(call, entry)
    }
}

/// What stands around the guard: the faults before a call reaches it, and after its answer.
#[derive(Clone)]
struct Front {
    participants: Participants,
    happened: Arc<Happened>,
}

async fn answer(State(mut front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let faults = serde_json::from_slice::<Entry>(&body).map(|entry| entry.faults).unwrap_or_default();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = header("tcc-operation").to_owned();
    let key = format!("{} {}", header("tcc-gid"), header("tcc-branch"));
    // The refusal of a try belongs into its local transaction.
    let before: &[What] = if operation == "try" { &[What::Hang] } else { &[What::Hang, What::Refuse] };
    match front.happened.now(&key, &operation, &faults, before) {
        Some(What::Refuse) => {
            let said = r#"{"code":"refused","detail":"not in the mood"}"#;
            return (StatusCode::CONFLICT, said).into_response();
        }
        Some(_) => pending().await,
        None => {}
    }
    let request = Request::from_parts(parts, http_body_util::Full::new(body));
    let Ok(answer) = front.participants.call(request).await;
    match front.happened.now(&key, &operation, &faults, &[What::DoAndHang, What::DieAfterCommit]) {
        Some(What::DieAfterCommit) => std::process::abort(),
        Some(_) => pending().await,
        None => answer.map(Body::new),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tcc_tests::die_with_the_test();
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("which directory?")?);
    let database = SqliteDatabase::open(directory.join("bank.db"))?;
    database.create_schema().await?;
    let create = "CREATE TABLE IF NOT EXISTS account (
            id        INTEGER PRIMARY KEY,
            available INTEGER NOT NULL CHECK (available >= 0),
            frozen    INTEGER NOT NULL CHECK (frozen >= 0),
            incoming  INTEGER NOT NULL CHECK (incoming >= 0)
        ) STRICT;
        INSERT OR IGNORE INTO account VALUES (1, 1000, 0, 0);";
    database.with(|connection| connection.execute_batch(create)).await?;
    let happened = Arc::new(Happened::load(directory.join("faults")));
    let bank = Bank { happened: happened.clone() };
    let participants = Participants::new().add("account", bank, database);
    let router = Router::new().fallback(answer).with_state(Front { participants, happened });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
