//! Reading: a few threads, each with its own connection, and what they ask.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{io, iter};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use tcc_core::store::{Claimed, Counts, Filter, Listing, Page, Row, Unavailable};
use tcc_core::{Gid, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::claims::Claims;
use super::fresh::{Fresh, Overlay};
use super::rows::{self, COLUMNS, index};
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
    fresh: &Fresh,
    claims: &Mutex<Claims>,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Claimed> {
    let mut taken = Vec::new();
    let mut next: Option<Timestamp> = None;
    let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = fresh.all();
    let snapshot = connection.unchecked_transaction()?;
    {
        let mut due = snapshot.prepare_cached(
            "SELECT due_at, id FROM transactions WHERE due_at IS NOT NULL ORDER BY due_at, created_at, id",
        )?;
        let of_table = due.query_map([], |found| Ok((moment(found, 0)?, found.get(1)?)))?;
        let own = fresh.rows().filter_map(|(id, row)| Some((row.due_at?, id)));
        for found in merged(&fresh, of_table, own) {
            let (due_at, id) = found?;
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
    Ok(Claimed { rows: read(&snapshot, &fresh, &taken)?, next })
}

/// As [`claim`], of what is parked at a destination, due or not.
pub(super) fn claim_parked(
    connection: &Connection,
    fresh: &Fresh,
    claims: &Mutex<Claims>,
    destination: &str,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    let mut taken = Vec::new();
    let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = fresh.all();
    let snapshot = connection.unchecked_transaction()?;
    {
        let mut parked = snapshot
            .prepare_cached("SELECT since, id FROM transactions WHERE parked = ? ORDER BY since, id")?;
        let of_table = parked.query_map([destination], |found| Ok((moment(found, 0)?, found.get(1)?)))?;
        let own = fresh.rows().filter_map(|(id, row)| Some((row.parked.as_ref()?, id)));
        let own = own.filter(|(parked, _)| parked.at == destination).map(|(parked, id)| (parked.since, id));
        for found in merged(&fresh, of_table, own) {
            if taken.len() >= limit {
                break;
            }
            let (_, id) = found?;
            if claims.free_at(id, now) <= now {
                claims.take(id, now, until);
                taken.push(id);
            }
        }
    }
    drop(claims);
    read(&snapshot, &fresh, &taken)
}

/// Rows of the table but for those that stand in the journal, with those of the journal, the earliest first.
fn merged(
    fresh: &Overlay,
    of_table: impl Iterator<Item = rusqlite::Result<(Timestamp, i64)>>,
    own: impl Iterator<Item = (Timestamp, i64)>,
) -> impl Iterator<Item = rusqlite::Result<(Timestamp, i64)>> {
    let mut of_table = of_table.filter(|found| !matches!(found, Ok((_, id)) if fresh.hides(*id))).peekable();
    let mut own: Vec<_> = own.collect();
    own.sort_unstable();
    let mut own = own.into_iter().peekable();
    iter::from_fn(move || match (of_table.peek(), own.peek()) {
        (Some(Ok(theirs)), Some(ours)) if ours < theirs => own.next().map(Ok),
        (Some(_), _) => of_table.next(),
        (None, _) => own.next().map(Ok),
    })
}

fn moment(found: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    found.get(column).map(Timestamp::from_millis)
}

/// One step through the index for each, however many are parked there.
pub(super) fn parked_at(
    connection: &Connection,
    fresh: &Fresh,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let fresh = fresh.all();
    let mut destinations: BTreeSet<String> =
        fresh.rows().filter_map(|(_, row)| Some(row.parked.as_ref()?.at.clone())).collect();
    let snapshot = connection.unchecked_transaction()?;
    let mut next = snapshot
        .prepare_cached("SELECT parked FROM transactions WHERE parked > ? ORDER BY parked LIMIT 1")?;
    let mut rows = snapshot.prepare_cached("SELECT id FROM transactions WHERE parked = ?")?;
    let (mut last, mut found) = (String::new(), 0);
    while found < limit
        && let Some(destination) = next.query_row([&last], |found| found.get::<_, String>(0)).optional()?
    {
        // Of those that the table shows parked there one at least still is.
        let mut ids = rows.query_map([&destination], |found| found.get(0))?;
        if ids.any(|id| !matches!(id, Ok(id) if fresh.hides(id))) {
            destinations.insert(destination.clone());
            found += 1;
        }
        last = destination;
    }
    Ok(destinations.into_iter().take(limit).collect())
}

/// Reads rows. One that nobody can read, because the file was damaged, takes no other with it.
fn read(snapshot: &Connection, fresh: &Overlay, ids: &[i64]) -> rusqlite::Result<Vec<Row>> {
    let mut by_id = snapshot.prepare_cached(&format!("SELECT {COLUMNS} FROM transactions WHERE id = ?1"))?;
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(row) = fresh.get(*id) {
            rows.push(row.clone());
            continue;
        }
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

pub(super) fn counts(connection: &Connection, fresh: &Fresh) -> rusqlite::Result<Counts> {
    let (tally, fresh) = {
        let rows = fresh.rows();
        (rows.tally, rows.all())
    };
    let snapshot = connection.unchecked_transaction()?;
    // Without reading a row, and without a look at any that ended.
    let oldest = |but: &str| {
        let sql = format!(
            "SELECT min(created_at), id FROM transactions INDEXED BY due WHERE due_at IS NOT NULL {but}"
        );
        let mut oldest = snapshot.prepare_cached(&sql)?;
        let hidden = (!but.is_empty()).then(|| fresh.ids());
        oldest
            .query_row(params_from_iter(hidden), |found| Ok((found.get::<_, Option<i64>>(0)?, found.get(1)?)))
    };
    let of_table = match oldest("")? {
        (Some(_), Some(id)) if fresh.hides(id) => oldest("AND id NOT IN (SELECT value FROM json_each(?))")?.0,
        (oldest, _) => oldest,
    };
    let own = fresh.rows().filter(|(_, row)| row.due_at.is_some()).map(|(_, row)| row.created_at);
    Ok(Counts {
        phases: tally.phases.map(i64::cast_unsigned),
        attention: tally.attention.cast_unsigned(),
        oldest_unfinished: of_table.map(Timestamp::from_millis).into_iter().chain(own).min(),
    })
}

/// One page. Never are many more than [`limits::LIST_SCAN`] rows looked at for it, so it may end short of its size
/// with more to come.
pub(super) fn list(
    connection: &Connection,
    fresh: &Fresh,
    filter: &Filter,
    page: &Page,
) -> rusqlite::Result<Listing> {
    let fresh = fresh.all();
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
    // So far it was looked, and for what stands in the journal too.
    let looked_to = if rows.len() > page.size { rows.last().map(|(_, id)| *id) } else { scanned_to };
    rows.retain(|(_, id)| !fresh.hides(*id));
    let own = fresh.rows().filter(|(id, _)| (after + 1..=looked_to.unwrap_or(i64::MAX)).contains(id));
    rows.extend(own.filter(|(_, row)| is_of(filter, row)).map(|(id, row)| (row.clone(), id)));
    rows.sort_unstable_by_key(|(_, id)| *id);
    let more = rows.len() > page.size;
    rows.truncate(page.size);
    let next = if more { rows.last().map(|(_, id)| *id) } else { looked_to };
    let next = next.and_then(|id| u64::try_from(id).ok());
    Ok(Listing { rows: rows.into_iter().map(|(row, _)| row).collect(), next })
}

/// Whether a row is what [`conditions`] ask for.
fn is_of(filter: &Filter, row: &Row) -> bool {
    let Filter { phase, attention, prefix, created_from, created_before } = filter;
    phase.is_none_or(|phase| row.phase == phase)
        && attention.is_none_or(|attention| row.attention == attention)
        && prefix.as_ref().is_none_or(|prefix| row.gid.as_str().starts_with(prefix))
        && created_from.is_none_or(|from| row.created_at >= from)
        && created_before.is_none_or(|before| row.created_at < before)
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
