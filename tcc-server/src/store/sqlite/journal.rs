//! The journal: what was written lately, an entry a commit, until it is moved into the table.
//!
//! A transaction is written three times within some milliseconds. Each time to find its row, replace it, and move its
//! places in the indexes would dirty some six pages a transaction; an entry of the journal is appended, and shared by
//! all that commit together. The table takes what a row came to, once, with many others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::Type;
use rusqlite::{Connection, params};
use tcc_core::store::{BoxError, Parked, Row};
use tcc_core::{Digest, Gid, Timestamp};

use super::fresh::{Entry, Fresh};
use super::rows::{self, Held, Tally, number, phase_of};
use crate::limits;

/// What every entry begins with: how it is written.
const FORMAT: u8 = 1;

/// How far the journal goes. The place of an entry is a number greater than that of every entry before it.
pub(super) struct Journal {
    next_id: i64,
    next_at: i64,
    /// Where it begins.
    first_at: i64,
    /// Writes that make it long.
    most: usize,
    /// Where it ended when rows were last moved out of it, when that was, and how many were written since.
    moved_at: i64,
    moved: Instant,
    writes: usize,
    /// Of these, how many make it long now.
    long: usize,
}

/// What a file holds when it is opened.
pub(super) struct Found {
    pub(super) fresh: Arc<Fresh>,
    pub(super) table: Tally,
    pub(super) journal: Journal,
    /// When anything was last written.
    pub(super) written_at: Timestamp,
}

impl Found {
    /// Reads it. `most` is how many writes make the journal long.
    pub(super) fn read(connection: &Connection, most: usize) -> rusqlite::Result<Self> {
        let table = Tally::load(connection)?;
        let last_id: Option<i64> =
            connection.query_row("SELECT max(id) FROM transactions", [], |found| found.get(0))?;
        let (mut last_id, mut first_at, mut next_at) = (last_id.unwrap_or(0), None, 1);
        let mut written_at = rows::written_at(connection)?;
        let fresh = Fresh::default();
        let mut rows = fresh.rows();
        rows.tally = table;
        let mut entries = connection.prepare("SELECT at, entry FROM journal ORDER BY at")?;
        let mut entries = entries.query([])?;
        while let Some(found) = entries.next()? {
            let (at, entry) = (found.get(0)?, found.get_ref(1)?.as_blob()?);
            let unreadable = |cause| rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, cause);
            let (written, written_rows) = decode(entry).map_err(unreadable)?;
            written_at = written_at.max(written);
            first_at.get_or_insert(at);
            next_at = after(at, entry);
            for (id, row) in written_rows {
                last_id = last_id.max(id);
                let table = match rows.get(&row.gid) {
                    Some(before) => before.table,
                    None => match Held::load(connection, &row.gid)? {
                        // It was moved, and is here still because of others.
                        Some(held) if held.version() >= row.version => continue,
                        held => held.map(|held| held.image),
                    },
                };
                rows.put(Entry { id, row: Arc::new(row), table, at });
            }
        }
        drop(rows);
        let journal = Journal {
            next_id: last_id + 1,
            next_at,
            first_at: first_at.unwrap_or(next_at),
            most,
            moved_at: next_at,
            moved: Instant::now(),
            writes: 0,
            long: most,
        };
        Ok(Self { fresh: Arc::new(fresh), table, journal, written_at })
    }
}

fn after(at: i64, entry: &[u8]) -> i64 {
    at + rows::index(entry.len())
}

impl Journal {
    /// The id of a row that is new.
    pub(super) fn new_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Appends an entry of so many rows, and gives its place: as a transaction of its own, so that it is durable when this
    /// returns.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        entry: &[u8],
        rows: usize,
    ) -> rusqlite::Result<i64> {
        let at = self.next_at;
        connection
            .prepare_cached("INSERT INTO journal (at, entry) VALUES (?, ?)")?
            .execute(params![at, entry])?;
        self.next_at = after(at, entry);
        self.writes += rows;
        Ok(at)
    }

    /// Whether it holds an entry of which [`append`](Self::append) said that it failed.
    pub(super) fn holds_more(&self, connection: &Connection) -> rusqlite::Result<bool> {
        connection.prepare_cached("SELECT 1 FROM journal WHERE at >= ?")?.exists([self.next_at])
    }

    /// Whether what was written there was written since rows were last moved out of it.
    pub(super) const fn is_recent(&self, at: i64) -> bool {
        at >= self.moved_at
    }

    /// Whether rows are to be moved out of it, as they are at least so often.
    pub(super) fn is_long(&self, often: Duration) -> bool {
        self.writes >= self.long
            || self.next_at - self.moved_at >= limits::JOURNAL_BYTES
            || self.writes > 0 && self.moved.elapsed() >= often
    }

    /// Whether nothing stands in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.first_at == self.next_at
    }

    /// Removes what stands before a place, or all of it, with the open transaction. Gives where it begins then.
    pub(super) fn cut(&self, connection: &Connection, at: Option<i64>) -> rusqlite::Result<i64> {
        let at = at.unwrap_or(self.next_at);
        connection.prepare_cached("DELETE FROM journal WHERE at < ?")?.execute([at])?;
        Ok(at)
    }

    /// Notes that rows were moved out of it, how many were not, and where it begins now. It is long the later the more
    /// they are: otherwise most of them would be moved in each of their phases.
    pub(super) fn moved(&mut self, kept: usize, first_at: i64) {
        self.first_at = first_at;
        self.moved_at = self.next_at;
        self.moved = Instant::now();
        self.writes = 0;
        self.long = self.most.max(3 * kept);
    }
}

/// Which columns a row has that not every row has, and whether it calls for a human.
mod flags {
    pub(super) const ATTENTION: u8 = 1;
    pub(super) const DUE: u8 = 2;
    pub(super) const ENDED: u8 = 4;
    pub(super) const DIGEST: u8 = 8;
    pub(super) const PARKED: u8 = 16;
}

/// Writes an entry down: when, and then each row. Numbers are little-endian, and a text comes after its length.
pub(super) fn encode<'a>(now: Timestamp, rows: impl Iterator<Item = (i64, &'a Row)> + Clone) -> Vec<u8> {
    let bytes = rows.clone().map(|(_, row)| 128 + row.gid.as_str().len() + row.document.len()).sum::<usize>();
    let mut to = Vec::with_capacity(16 + bytes);
    to.push(FORMAT);
    to.extend(now.as_millis().to_le_bytes());
    for (id, row) in rows {
        put(&mut to, id, row);
    }
    to
}

fn put(to: &mut Vec<u8>, id: i64, row: &Row) {
    let flag = |is: bool, flag: u8| if is { flag } else { 0 };
    to.extend(id.to_le_bytes());
    to.extend(row.version.to_le_bytes());
    to.extend(row.tag.to_le_bytes());
    to.push(u8::try_from(number(row.phase)).expect("there are six"));
    to.push(
        flag(row.attention, flags::ATTENTION)
            | flag(row.due_at.is_some(), flags::DUE)
            | flag(row.ended_at.is_some(), flags::ENDED)
            | flag(row.digest.is_some(), flags::DIGEST)
            | flag(row.parked.is_some(), flags::PARKED),
    );
    to.extend(row.created_at.as_millis().to_le_bytes());
    for moment in [row.due_at, row.ended_at].into_iter().flatten() {
        to.extend(moment.as_millis().to_le_bytes());
    }
    if let Some(Digest(digest)) = &row.digest {
        to.extend(digest);
    }
    if let Some(parked) = &row.parked {
        to.extend(parked.since.as_millis().to_le_bytes());
        text(to, parked.at.as_bytes());
    }
    text(to, row.gid.as_str().as_bytes());
    text(to, &row.document);
}

fn text(to: &mut Vec<u8>, text: &[u8]) {
    to.extend(u32::try_from(text.len()).expect("the store refuses longer rows").to_le_bytes());
    to.extend(text);
}

fn decode(entry: &[u8]) -> Result<(Timestamp, Vec<(i64, Row)>), BoxError> {
    let mut from = Reading(entry);
    let [format] = from.array()?;
    if format != FORMAT {
        return Err(format!("an entry of the journal has format {format}").into());
    }
    let written = from.moment()?;
    let mut rows = Vec::new();
    while !from.0.is_empty() {
        rows.push(from.row()?);
    }
    Ok((written, rows))
}

/// What is still to be read of an entry.
struct Reading<'a>(&'a [u8]);

impl Reading<'_> {
    fn row(&mut self) -> Result<(i64, Row), BoxError> {
        let id = i64::from_le_bytes(self.array()?);
        let version = u64::from_le_bytes(self.array()?);
        let tag = u64::from_le_bytes(self.array()?);
        let [phase, has] = self.array()?;
        let has = |flag: u8| has & flag != 0;
        let row = Row {
            version,
            tag,
            phase: phase_of(phase).ok_or("a row of the journal has the number of no phase")?,
            attention: has(flags::ATTENTION),
            created_at: self.moment()?,
            due_at: has(flags::DUE).then(|| self.moment()).transpose()?,
            ended_at: has(flags::ENDED).then(|| self.moment()).transpose()?,
            digest: has(flags::DIGEST).then(|| self.array().map(Digest)).transpose()?,
            parked: has(flags::PARKED).then(|| self.parked()).transpose()?,
            gid: Gid::try_from(self.string()?)?,
            document: self.text()?.to_vec(),
        };
        Ok((id, row))
    }

    fn parked(&mut self) -> Result<Parked, BoxError> {
        Ok(Parked { since: self.moment()?, at: self.string()? })
    }

    fn moment(&mut self) -> Result<Timestamp, BoxError> {
        Ok(Timestamp::from_millis(i64::from_le_bytes(self.array()?)))
    }

    fn string(&mut self) -> Result<String, BoxError> {
        Ok(String::from_utf8(self.text()?.to_vec())?)
    }

    fn text(&mut self) -> Result<&[u8], BoxError> {
        let length = usize::try_from(u32::from_le_bytes(self.array()?))?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(text)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BoxError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(*array)
    }
}

const CUT_OFF: &str = "an entry of the journal is cut off";

#[cfg(test)]
mod tests {
    use tcc_core::Phase;
    use tcc_core::contract::row;

    use super::*;

    #[test]
    fn every_column_comes_back() {
        let at = Timestamp::from_millis;
        let plain = |gid: &str| row(gid, (0..=255).collect(), at(-1));
        let rows = [
            (1, Row { due_at: None, ..plain("a") }),
            (i64::MAX, Row { due_at: Some(at(i64::MIN)), attention: true, tag: u64::MAX, ..plain("b") }),
            (
                3,
                Row {
                    phase: Phase::Abandoned,
                    due_at: None,
                    ended_at: Some(at(5)),
                    ..plain(&"c".repeat(128))
                },
            ),
            (4, Row { digest: Some(Digest([7; 32])), version: u64::MAX, ..plain("d") }),
            (5, Row { parked: Some(Parked { at: "payment:80".to_owned(), since: at(-9) }), ..plain("e") }),
        ];
        let entry = encode(at(42), rows.iter().map(|(id, row)| (*id, row)));
        let (written, read) = decode(&entry).expect("an entry");
        assert_eq!((written, &read[..]), (at(42), &rows[..]));
        for cut in 0..entry.len() {
            let whole = decode(&entry[..cut]);
            assert!(
                whole.is_err() || whole.is_ok_and(|(_, read)| rows.starts_with(&read)),
                "cut off at {cut}"
            );
        }
    }
}
