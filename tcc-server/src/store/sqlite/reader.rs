//! Reading: a few threads, each with its own connection, and what they ask.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{io, iter};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use tcc_core::store::{Claimed, Counts, Filter, Listing, Page, Row, Unavailable};
use tcc_core::{Gid, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::claims::Claims;
use super::rows::{self, COLUMNS, Tally, index};
use crate::limits;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Threads that read. A thread each, and not the runtime's blocking pool: a load is in the path of every request, and
/// a connection that stays on its thread needs no lock.
pub(super) struct Readers {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(name: &str, connections: Vec<Connection>) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel(limits::STORE_READS);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut readers = Self { jobs: Some(jobs), threads: Vec::new() };
        for connection in connections {
            let waiting = Arc::clone(&waiting);
            let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                iter::from_fn(next).for_each(|job: Job| job(&connection));
            })?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Reads on the next thread that is free.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody may be waiting any more.
            let _ = answer.send(query(connection));
        });
        let gone = || Unavailable("the readers are gone".into());
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(|error| Unavailable(error.into()))
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // It panicked: whoever waited for it has been told.
            let _ = thread.join();
        }
    }
}

pub(super) fn load(connection: &Connection, gid: &Gid) -> rusqlite::Result<Option<Row>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM transactions WHERE gid = ?1"))?
        .query_row([gid.as_str()], rows::read)
        .optional()
}

/// Marks rows as claimed while the claims are locked, and reads them afterwards, in the same snapshot: what a holder
/// wrote before it let go is in it.
pub(super) fn claim(
    connection: &Connection,
    claims: &Mutex<Claims>,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Claimed> {
    let mut taken = Vec::new();
    let mut next: Option<Timestamp> = None;
    let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
    let snapshot = connection.unchecked_transaction()?;
    {
        let mut due = snapshot.prepare_cached(
            "SELECT due_at, id FROM transactions WHERE due_at IS NOT NULL ORDER BY due_at, created_at, id",
        )?;
        let mut due = due.query([])?;
        while let Some(found) = due.next()? {
            let (due_at, id) = (Timestamp::from_millis(found.get(0)?), found.get(1)?);
            if next.is_some_and(|next| next <= due_at) {
                break;
            }
            let mut free_at = claims.free_at(id, due_at);
            if free_at <= now && taken.len() < limit {
                claims.take(id, now, until);
                taken.push(id);
                free_at = until;
            }
            next = Some(next.map_or(free_at, |next| next.min(free_at)));
        }
    }
    drop(claims);
    Ok(Claimed { rows: read(&snapshot, &taken)?, next })
}

/// As [`claim`], of what is parked at a destination, due or not.
pub(super) fn claim_parked(
    connection: &Connection,
    claims: &Mutex<Claims>,
    destination: &str,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    let mut taken = Vec::new();
    let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
    let snapshot = connection.unchecked_transaction()?;
    {
        let mut parked =
            snapshot.prepare_cached("SELECT id FROM transactions WHERE parked = ? ORDER BY since, id")?;
        let mut parked = parked.query([destination])?;
        while taken.len() < limit
            && let Some(found) = parked.next()?
        {
            let id = found.get(0)?;
            if claims.free_at(id, now) <= now {
                claims.take(id, now, until);
                taken.push(id);
            }
        }
    }
    drop(claims);
    read(&snapshot, &taken)
}

/// One step through the index for each, however many are parked there.
pub(super) fn parked_at(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<String>> {
    let snapshot = connection.unchecked_transaction()?;
    let mut next = snapshot
        .prepare_cached("SELECT parked FROM transactions WHERE parked > ? ORDER BY parked LIMIT 1")?;
    let mut destinations: Vec<String> = Vec::new();
    while destinations.len() < limit {
        let last = destinations.last().map_or("", String::as_str);
        match next.query_row([last], |found| found.get(0)).optional()? {
            Some(destination) => destinations.push(destination),
            None => break,
        }
    }
    Ok(destinations)
}

/// Reads rows. One that nobody can read, because the file was damaged, takes no other with it.
fn read(snapshot: &Connection, ids: &[i64]) -> rusqlite::Result<Vec<Row>> {
    let mut by_id = snapshot.prepare_cached(&format!("SELECT {COLUMNS} FROM transactions WHERE id = ?1"))?;
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        match by_id.query_row([id], rows::read) {
            Ok(row) => rows.push(row),
            Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => {
                tracing::error!(id, %error, "a row of the log cannot be read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}

pub(super) fn counts(connection: &Connection) -> rusqlite::Result<Counts> {
    let snapshot = connection.unchecked_transaction()?;
    let tally = Tally::load(&snapshot)?;
    // Without reading a row, and without a look at any that ended.
    let oldest = "SELECT min(created_at) FROM transactions INDEXED BY due WHERE due_at IS NOT NULL";
    let oldest: Option<i64> = snapshot.query_row(oldest, [], |found| found.get(0))?;
    Ok(Counts {
        phases: tally.phases.map(i64::cast_unsigned),
        attention: tally.attention.cast_unsigned(),
        oldest_unfinished: oldest.map(Timestamp::from_millis),
    })
}

/// One page. Never are many more than [`limits::LIST_SCAN`] rows looked at for it, so it may end short of its size
/// with more to come.
pub(super) fn list(connection: &Connection, filter: &Filter, page: &Page) -> rusqlite::Result<Listing> {
    let snapshot = connection.unchecked_transaction()?;
    let after = page.after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
    let by = index_for(&snapshot, filter)?;
    let scanned_to: Option<i64> = match by {
        Some(_) => None,
        None => snapshot
            .prepare_cached("SELECT id FROM transactions WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?")?
            .query_row([after, limits::LIST_SCAN - 1], |found| found.get(0))
            .optional()?,
    };
    let size = index(page.size);
    let (conditions, mut values) = conditions(filter);
    values.extend([after, scanned_to.unwrap_or(i64::MAX), size.saturating_add(1)].map(Value::Integer));
    let by = by.map_or("NOT INDEXED".to_owned(), |index| format!("INDEXED BY {index}"));
    let sql = format!(
        "SELECT {COLUMNS} FROM transactions {by} WHERE {conditions} AND id > ? AND id <= ? ORDER BY id LIMIT ?"
    );
    let found = |found: &rusqlite::Row<'_>| Ok((rows::read(found)?, found.get::<_, i64>(12)?));
    let mut rows: Vec<(Row, i64)> = snapshot
        .prepare(&sql)?
        .query_map(params_from_iter(values), found)?
        .collect::<rusqlite::Result<_>>()?;
    let more = rows.len() > page.size;
    rows.truncate(page.size);
    let next = if more { rows.last().map(|(_, id)| *id) } else { scanned_to };
    let next = next.and_then(|id| u64::try_from(id).ok());
    Ok(Listing { rows: rows.into_iter().map(|(row, _)| row).collect(), next })
}

/// An index that leads to so few rows that all of them can be looked at.
fn index_for(snapshot: &Connection, filter: &Filter) -> rusqlite::Result<Option<&'static str>> {
    let unfinished = filter.phase.is_some_and(|phase| !phase.ended());
    let prefix = filter.prefix.as_deref().unwrap_or_default();
    let candidates = [
        (filter.attention == Some(true), "attention", "attention = 1", Vec::new()),
        (unfinished, "due", "due_at IS NOT NULL", Vec::new()),
        (!prefix.is_empty(), "sqlite_autoindex_transactions_1", BY_PREFIX, range(prefix)),
    ];
    for (_, index, rows, values) in candidates.into_iter().filter(|(applies, ..)| *applies) {
        let sql = format!(
            "SELECT 1 FROM transactions INDEXED BY {index} WHERE {rows} LIMIT 1 OFFSET {}",
            limits::LIST_SCAN
        );
        if !snapshot.prepare_cached(&sql)?.exists(params_from_iter(values))? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

const BY_PREFIX: &str = "gid >= ? AND gid < ?";

/// What a gid lies between that begins so. The end is greater than each of them, for gids are ASCII.
fn range(prefix: &str) -> Vec<Value> {
    vec![Value::Text(prefix.to_owned()), Value::Text(format!("{prefix}\u{10ffff}"))]
}

/// What a row must be. Phase and attention are written out, for an index over some rows is used only where the text
/// of the query says that it asks for no others.
fn conditions(filter: &Filter) -> (String, Vec<Value>) {
    let mut sql = "document IS NOT NULL".to_owned();
    let mut values = Vec::new();
    if let Some(phase) = filter.phase {
        sql += &format!(" AND phase = {}", rows::number(phase));
        sql += if phase.ended() { "" } else { " AND due_at IS NOT NULL" };
    }
    if let Some(attention) = filter.attention {
        sql += &format!(" AND attention = {}", u8::from(attention));
    }
    if let Some(prefix) = &filter.prefix {
        sql += " AND ";
        sql += BY_PREFIX;
        values.extend(range(prefix));
    }
    if let Some(from) = filter.created_from {
        sql += " AND created_at >= ?";
        values.push(Value::Integer(from.as_millis()));
    }
    if let Some(before) = filter.created_before {
        sql += " AND created_at < ?";
        values.push(Value::Integer(before.as_millis()));
    }
    (sql, values)
}
