//! A participant as a process: money and goods behind the guard in a SQLite file, an inbox for what is only delivered,
//! and an initiator's own local transactions with the answer to the check.
//!
//! Whatever changes the books also writes a line into `ledger`, in the same local transaction and without looking
//! whether there is one already: what happened twice stands there twice.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tcc_client::{BoxError, Call, Operation, Participant, Participants, SqliteDatabase, Tried, Tx};
use tcc_tests::mishap::{Mishap, Mishaps, What, beset};

use crate::work::{INITIAL, Kind, Work};

/// The first argument that makes this package's program a service.
pub const SERVICE: &str = "service";
/// Its file, in its directory.
pub const FILE: &str = "service.db";
/// The branch under which an initiator's own local transaction stands in the ledger.
pub const LOCAL: &str = "local";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS books (
        id        INTEGER PRIMARY KEY,
        available INTEGER NOT NULL CHECK (available >= 0),
        frozen    INTEGER NOT NULL CHECK (frozen >= 0),
        incoming  INTEGER NOT NULL CHECK (incoming >= 0),
        on_hand   INTEGER NOT NULL CHECK (on_hand >= 0),
        held      INTEGER NOT NULL CHECK (held >= 0),
        sold      INTEGER NOT NULL CHECK (sold >= 0)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS ledger (
        id        INTEGER PRIMARY KEY,
        gid       TEXT NOT NULL,
        branch    TEXT NOT NULL,
        operation TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS ledger_gid ON ledger (gid);
    CREATE TABLE IF NOT EXISTS inbox (gid TEXT, branch TEXT, PRIMARY KEY (gid, branch)) STRICT;
    CREATE TABLE IF NOT EXISTS done (gid TEXT PRIMARY KEY, committed INTEGER NOT NULL) STRICT;";

/// How long the check waits for a local transaction that is on its way, and how often it looks.
const ON_ITS_WAY: (u32, Duration) = (500, Duration::from_millis(10));

/// An initiator's own local transaction.
#[derive(Debug, Serialize, Deserialize)]
pub struct Local {
    /// The transaction it belongs to.
    pub gid: String,
    /// What it pays.
    pub n: i64,
    /// Whether it commits; or else it never will.
    pub commit: bool,
}

type Entry = Work<Mishap>;

struct Clerk {
    mishaps: Arc<Mishaps>,
}

fn book(
    tx: &Connection,
    gid: &str,
    branch: &str,
    operation: Operation,
    (kind, n, delivered): (Kind, i64, bool),
) -> rusqlite::Result<()> {
    let change = kind.change(operation, delivered);
    tx.execute(
        "UPDATE books SET available = available + ?1, frozen = frozen + ?2, incoming = incoming + ?3,
                          on_hand = on_hand + ?4, held = held + ?5, sold = sold + ?6",
        [change.available, change.frozen, change.incoming, change.on_hand, change.held, change.sold]
            .map(|piece| n * piece),
    )?;
    tx.execute(
        "INSERT INTO ledger (gid, branch, operation) VALUES (?1, ?2, ?3)",
        [gid, branch, operation.as_str()],
    )?;
    Ok(())
}

impl Clerk {
    fn act(&self, call: &Call, entry: &Entry, tx: &Connection) -> Result<(), BoxError> {
        let work = (entry.kind, entry.n, false);
        book(tx, call.gid.as_str(), call.branch.as_str(), call.operation, work)?;
        self.mishaps.in_the_midst(call, &entry.faults)
    }
}

impl Participant for Clerk {
    type Database = SqliteDatabase;
    type Payload = Entry;

    async fn try_(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
        self.act(call, entry, tx)?;
        let refused = self.mishaps.refuse(call, &entry.faults);
        Ok(if refused { Tried::refused("not today") } else { Tried::accepted() })
    }

    async fn confirm(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        self.act(call, entry, tx)
    }

    async fn cancel(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        self.act(call, entry, tx)
    }
}

#[derive(Clone)]
struct Service {
    database: SqliteDatabase,
    mishaps: Arc<Mishaps>,
}

/// What is only delivered: taken in once, whatever is repeated.
async fn deliver(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
    let (Ok(call), Ok(entry)) = (Call::from_headers(&headers), serde_json::from_slice::<Entry>(&body)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mishaps = service.mishaps.clone();
    let work = move |connection: &Connection| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let (gid, branch) = (call.gid.as_str(), call.branch.as_str());
        let fresh = connection.execute("INSERT OR IGNORE INTO inbox VALUES (?1, ?2)", [gid, branch])? == 1;
        if fresh {
            book(connection, gid, branch, call.operation, (entry.kind, entry.n, true))?;
            if mishaps.in_the_midst(&call, &entry.faults).is_err() {
                connection.execute_batch("ROLLBACK")?;
                return Ok(StatusCode::INTERNAL_SERVER_ERROR);
            }
        }
        connection.execute_batch("COMMIT")?;
        Ok(StatusCode::OK)
    };
    service.database.with(work).await.unwrap_or(StatusCode::SERVICE_UNAVAILABLE).into_response()
}

/// The initiator's local transaction, repeated as often as its answer is lost.
async fn local(State(service): State<Service>, body: Bytes) -> StatusCode {
    let Ok(local) = serde_json::from_slice::<Local>(&body) else { return StatusCode::BAD_REQUEST };
    let work = move |connection: &Connection| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let sql = "INSERT OR IGNORE INTO done VALUES (?1, ?2)";
        if connection.execute(sql, params![local.gid, local.commit])? == 1 && local.commit {
            book(connection, &local.gid, LOCAL, Operation::Confirm, (Kind::Pay, local.n, true))?;
        }
        connection.execute_batch("COMMIT")
    };
    service.database.with(work).await.map_or(StatusCode::SERVICE_UNAVAILABLE, |()| StatusCode::OK)
}

/// Whether the local transaction committed. `dies` is `never`, or says when this process ends, once.
async fn check(State(service): State<Service>, Path(dies): Path<String>, headers: HeaderMap) -> Response {
    let gid = headers.get("tcc-gid").and_then(|gid| gid.to_str().ok()).unwrap_or_default().to_owned();
    let what = match dies.as_str() {
        "before" => Some(What::DieBeforeCommit),
        "after" => Some(What::DieAfterCommit),
        _ => None,
    };
    let mishaps: Vec<Mishap> =
        what.into_iter().map(|what| Mishap { on: "check".to_owned(), what, times: 1 }).collect();
    let die = |when| {
        if service.mishaps.now(&format!("{gid} check"), "check", &mishaps, &[when]).is_some() {
            std::process::abort();
        }
    };
    die(What::DieBeforeCommit);
    for _ in 0..ON_ITS_WAY.0 {
        let asked = gid.clone();
        let sql = "SELECT committed FROM done WHERE gid = ?1";
        let look = move |connection: &Connection| {
            connection.query_row(sql, [asked], |row| row.get::<_, bool>(0)).optional()
        };
        match service.database.with(look).await {
            Ok(Some(committed)) => {
                die(What::DieAfterCommit);
                let refused = || (StatusCode::CONFLICT, r#"{"code":"refused","detail":"rolled back"}"#);
                return if committed { StatusCode::OK.into_response() } else { refused().into_response() };
            }
            Ok(None) => tokio::time::sleep(ON_ITS_WAY.1).await,
            Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }
    StatusCode::ACCEPTED.into_response()
}

/// Runs a service until its caller is gone. `arguments` are its directory.
#[must_use]
pub fn main(directory: Option<PathBuf>) -> ExitCode {
    tcc_tests::die_with_the_test();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match directory
        .ok_or_else(|| "which directory?".into())
        .and_then(|directory| runtime?.block_on(serve(directory)))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(directory: PathBuf) -> Result<(), BoxError> {
    let database = SqliteDatabase::open(directory.join(FILE))?;
    database.create_schema().await?;
    let fill = |connection: &Connection| {
        connection.execute_batch(TABLES)?;
        let sums = [INITIAL.available, INITIAL.on_hand];
        connection.execute("INSERT OR IGNORE INTO books VALUES (1, ?1, 0, 0, ?2, 0, 0)", sums)
    };
    database.with(fill).await?;
    let mishaps = Arc::new(Mishaps::load(directory.join("faults")));
    let service = Service { database: database.clone(), mishaps: mishaps.clone() };
    let participants = Participants::new().add("clerk", Clerk { mishaps: mishaps.clone() }, database);
    let router = Router::new()
        .route("/inbox", post(deliver))
        .route("/local", post(local))
        .route("/check/{dies}", post(check))
        .with_state(service)
        .fallback_service(participants);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, beset(router, mishaps)).await?)
}
