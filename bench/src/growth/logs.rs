//! Logs made for a measurement, through the store, from one real row; and how long looking into one takes.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tcc_core::store::{Filter, Page, Row, Write, Written};
use tcc_core::wire::BeginRequest;
use tcc_core::{Change, MemoryStore, Patience, Phase, Store, Timestamp, Transaction};
use tcc_server::store::{SqliteOptions, SqliteStore};

use super::{BRANCHES, ENDED_AGO};
use crate::Failure;
use crate::row::median;
use crate::sample::{begin, only_row};

/// Rows in one commit.
const COMMIT: usize = 512;
/// Rows in one page of a list.
const PAGE: usize = 100;
/// How often each look is repeated.
const LOOKS: usize = 15;

/// Milliseconds that the store takes, the median of a few.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Looks {
    /// The first page of all.
    pub(super) list_ms: f64,
    /// The first page of those that are being tried.
    pub(super) list_trying_ms: f64,
    /// How many there are of what.
    pub(super) counts_ms: f64,
}

/// A transaction whose participant is dead, as a log holds it once it has begun.
pub(super) async fn waiting(dead: &str) -> Result<Row, Failure> {
    let body = begin("waiting", std::iter::repeat_n(dead, BRANCHES));
    let request: BeginRequest = serde_json::from_str(&body)?;
    let begin = request.parse(|| unreachable!("the request has a gid"))?;
    let patience = Patience { attempts: 20, age: Duration::from_secs(300) };
    let now = now();
    let gid = begin.gid.clone();
    let digest = begin.digest;
    let transaction = Transaction::begin(begin, patience, now)?;
    let store = MemoryStore::new(move || now);
    Change::begin(transaction, Some(digest)).save(&store, 1, None).await?;
    store.load(&gid).await?.ok_or_else(|| "what was saved is not there".into())
}

/// A transaction that has ended: the sample's, which is in this folder.
pub(super) async fn finished(folder: &Path, branches: usize) -> Result<Row, Failure> {
    let row = only_row(&folder.join(format!("sample-{branches}.db"))).await?;
    let ended = now() - ENDED_AGO;
    Ok(Row { created_at: ended, ended_at: Some(ended), ..row })
}

/// Makes a log of so many copies of a row, each with a gid of its own.
pub(super) async fn fill(log: &Path, row: &Row, count: usize) -> Result<(), Failure> {
    let store = SqliteStore::open(log, SqliteOptions::default())?;
    for from in (0..count).step_by(COMMIT) {
        let write = |i: usize| {
            let gid = format!("{}/{i:09}", row.gid).parse()?;
            let row = Row { gid, version: 1, tag: i as u64, ..row.clone() };
            Ok::<_, Failure>(Write { row, replaces: None, claim: None })
        };
        let batch = (from..count.min(from + COMMIT)).map(write).collect::<Result<_, _>>()?;
        let written = store.commit(batch).await?;
        if let Some(other) = written.into_iter().find(|written| *written != Written::Won) {
            return Err(format!("a row of the log could not be made: {other:?}").into());
        }
    }
    Ok(())
}

/// Looks into a log that no coordinator has open.
pub(super) async fn look(log: &Path) -> Result<Looks, Failure> {
    let store = SqliteStore::open(log, SqliteOptions::default())?;
    let all = Filter::default();
    let trying = Filter { phase: Some(Phase::Trying), ..Filter::default() };
    let page = || Page { after: None, size: PAGE };
    Ok(Looks {
        list_ms: timed(async || store.list(&all, page()).await.map(drop)).await?,
        list_trying_ms: timed(async || store.list(&trying, page()).await.map(drop)).await?,
        counts_ms: timed(async || store.counts().await.map(drop)).await?,
    })
}

async fn timed<E: Into<Failure>>(look: impl AsyncFn() -> Result<(), E>) -> Result<f64, Failure> {
    let mut times = Vec::new();
    for _ in 0..LOOKS {
        let started = Instant::now();
        look().await.map_err(Into::into)?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(times))
}

fn now() -> Timestamp {
    Timestamp::from_millis(0) + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
