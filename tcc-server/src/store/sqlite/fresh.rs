//! What the journal holds and the table does not show yet, in memory: whoever reads the table looks here first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tcc_core::Gid;
use tcc_core::store::Row;

use super::rows::{Held, Image, Tally};

/// Shared by the writer, who alone changes it, and those who read.
#[derive(Default)]
pub(super) struct Fresh(Mutex<Rows>);

/// The rows, as they were last written.
#[derive(Default)]
pub(super) struct Rows {
    by_gid: HashMap<Gid, Entry>,
    /// How many there are of what, here and in the table.
    pub(super) tally: Tally,
}

/// A row that is durable by the journal.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) row: Arc<Row>,
    /// What the table shows of it; `None` if it has no such row yet.
    pub(super) table: Option<Image>,
    /// Where it stands in the journal.
    pub(super) at: i64,
}

impl Entry {
    pub(super) fn held(&self) -> Held {
        Held::of(self.id, &self.row)
    }
}

impl Fresh {
    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        // Nothing that panics runs under it; and what is in it is durable, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row of a gid, if it is here.
    pub(super) fn load(&self, gid: &Gid) -> Option<Row> {
        let row = self.rows().by_gid.get(gid).map(|entry| Arc::clone(&entry.row));
        row.map(|row| Row::clone(&row))
    }

    /// All of them. Taken before the table is read: what is moved there in between is then in both, and counts as it is
    /// here.
    pub(super) fn all(&self) -> Overlay {
        self.rows().all()
    }
}

impl Rows {
    pub(super) fn get(&self, gid: &Gid) -> Option<&Entry> {
        self.by_gid.get(gid)
    }

    pub(super) fn all(&self) -> Overlay {
        let mut rows: Vec<_> = self.entries().map(|entry| (entry.id, Arc::clone(&entry.row))).collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        Overlay(rows)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.by_gid.values()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_gid.is_empty()
    }

    /// Puts in what was written.
    pub(super) fn put(&mut self, entry: Entry) {
        let before = match self.by_gid.get(&entry.row.gid) {
            Some(before) => Some(Image::of(&before.row)),
            None => entry.table,
        };
        if let Some(before) = before {
            self.tally.remove(before);
        }
        self.tally.add(Image::of(&entry.row));
        self.by_gid.insert(entry.row.gid.clone(), entry);
    }

    /// Takes out what the table shows now.
    pub(super) fn remove(&mut self, gid: &Gid) {
        self.by_gid.remove(gid);
    }
}

/// Rows that stand for what the table shows of them, by their ids.
pub(super) struct Overlay(Vec<(i64, Arc<Row>)>);

impl Overlay {
    /// Whether a row of the table is not to be looked at, for it stands here.
    pub(super) fn hides(&self, id: i64) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn get(&self, id: i64) -> Option<&Row> {
        let found = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.0[found].1)
    }

    /// Their ids, as a JSON array.
    pub(super) fn ids(&self) -> String {
        let ids: Vec<String> = self.0.iter().map(|(id, _)| id.to_string()).collect();
        format!("[{}]", ids.join(","))
    }

    /// In the order of their ids.
    pub(super) fn rows(&self) -> impl Iterator<Item = (i64, &Row)> {
        self.0.iter().map(|(id, row)| (*id, &**row))
    }
}
