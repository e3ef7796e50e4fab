//! Logs made for a measurement, through the store, from one real row; and how long looking into one takes.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::OptionalExtension;
use serde::Serialize;
use tcc_core::store::{Filter, Page, Row, Write, Written};
use tcc_core::{Phase, Store, Timestamp};
use tcc_server::limits;
use tcc_server::store::{SqliteOptions, SqliteStore};

use super::{BRANCHES, ENDED_AGO};
use crate::client::HttpClient;
use crate::process::{Process, Role};
use crate::row::median;
use crate::sample::{begin, only_row};
use crate::{Failure, coordinator};

/// Rows in one commit.
const COMMIT: usize = 512;
/// Transactions begun at a dead participant until one of them must have been parked.
const SAMPLES: usize = 200;
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

/// A transaction that waits on a dead participant, as the coordinator leaves it once it knows.
pub(super) async fn waiting(folder: &Path, dead: &str) -> Result<Row, Failure> {
    let log = folder.join("sample-waiting.db");
    let options = coordinator::Options { log: Some(log.clone()), retention_ms: None };
    let coordinator = Process::start(&Role::Coordinator(options)).await?;
    let (client, none) = (HttpClient::new(), Vec::new());
    let url = format!("http://{}/v1/transactions", coordinator.ready);
    let looking = rusqlite::Connection::open(&log)?;
    for number in 0..SAMPLES {
        client
            .done(&url, &none, begin(&format!("waiting-{number}"), std::iter::repeat_n(dead, BRANCHES)))
            .await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let parked =
            looking.query_row("SELECT gid FROM transactions WHERE parked IS NOT NULL LIMIT 1", [], |found| {
                found.get(0)
            });
        if let Some(gid) = parked.optional()? {
            drop(looking);
            coordinator.finish().await?;
            let gid: String = gid;
            let row = SqliteStore::open(&log, SqliteOptions::default())?.load(&gid.parse()?).await?;
            return row.ok_or_else(|| "what was saved is not there".into());
        }
    }
    Err(format!("of {SAMPLES} transactions that wait on a dead participant none was parked").into())
}

/// A transaction that has ended: the sample's, which is in this folder.
pub(super) async fn finished(folder: &Path, branches: usize) -> Result<Row, Failure> {
    let row = only_row(&folder.join(format!("sample-{branches}.db"))).await?;
    let ended = now() - ENDED_AGO;
    Ok(Row { created_at: ended, ended_at: Some(ended), ..row })
}

/// Makes a log of so many copies of a row, each with a gid of its own. Those that wait are looked at within an hour,
/// one after the other, as they would be had they come one after the other.
pub(super) async fn fill(log: &Path, row: &Row, count: usize) -> Result<(), Failure> {
    let store = SqliteStore::open(log, SqliteOptions::default())?;
    let first = now();
    for from in (0..count).step_by(COMMIT) {
        let write = |i: usize| {
            let gid = format!("{}/{i:09}", row.gid).parse()?;
            let due_at = row.due_at.map(|_| first + limits::PARKED.mul_f64(i as f64 / count as f64));
            let row = Row { gid, version: 1, tag: i as u64, due_at, ..row.clone() };
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
