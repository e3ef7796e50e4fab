//! Who drives what, in memory: the file belongs to one process, so a restart may forget it and recovery starts at
//! once.

use foldhash::HashMap;
use tcc_core::Timestamp;

/// Claims by row id.
#[derive(Default)]
pub(super) struct Claims {
    until: HashMap<i64, Timestamp>,
    /// Those that ran out are swept when there are more than this.
    crowded: usize,
}

const CROWDED: usize = 1024;

impl Claims {
    pub(super) fn take(&mut self, id: i64, now: Timestamp, until: Timestamp) {
        if self.until.len() > self.crowded.max(CROWDED) {
            self.until.retain(|_, until| *until > now);
            self.crowded = self.until.len() * 2;
        }
        self.until.insert(id, until);
    }

    /// What a write does to the claim on its row before it is committed.
    pub(super) fn take_only(&mut self, id: i64, now: Timestamp, until: Option<Timestamp>) {
        if let Some(until) = until {
            self.take(id, now, until);
        }
    }

    /// What a write does to the claim on its row once it is committed.
    pub(super) fn take_or_release(&mut self, id: i64, now: Timestamp, until: Option<Timestamp>) {
        match until {
            Some(until) => self.take(id, now, until),
            None => drop(self.until.remove(&id)),
        }
    }

    /// When a row can be claimed that is due then.
    pub(super) fn free_at(&self, id: i64, due_at: Timestamp) -> Timestamp {
        self.until.get(&id).map_or(due_at, |until| due_at.max(*until))
    }
}
