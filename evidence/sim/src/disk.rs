//! What all coordinators write to: a store in memory that outlives each of them, and that is watched.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tcc_core::store::{Write, Written};
use tcc_core::{MemoryStore, Store, Timestamp};
use tokio::time::Instant;

use crate::book::{RowSeen, number};
use crate::fault::Rare;
use crate::log::Who;
use crate::setup::Break;
use crate::world::{World, lock};

/// The store of a world.
pub(crate) struct Disk {
    pub(crate) inner: MemoryStore,
    /// The latest moment its clock ever showed: what was due by then may have been acted on.
    latest: AtomicI64,
    /// How far its clock has been set back, all in all.
    set_back: AtomicI64,
    full_until: Mutex<Option<Instant>>,
}

impl Disk {
    pub(crate) fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            inner: MemoryStore::new(clock),
            latest: AtomicI64::new(0),
            set_back: AtomicI64::new(0),
            full_until: Mutex::default(),
        }
    }

    /// What the clock shows, which is remembered.
    pub(crate) fn look_at_clock(&self) -> Timestamp {
        let now = self.inner.now();
        self.latest.fetch_max(now.as_millis(), Ordering::Relaxed);
        now
    }

    /// The latest moment its clock ever showed, up to now.
    fn latest(&self) -> Timestamp {
        self.look_at_clock();
        Timestamp::from_millis(self.latest.load(Ordering::Relaxed))
    }

    /// The clock has been set back.
    pub(crate) fn set_back(&self, millis: i64) {
        self.set_back.fetch_add(millis, Ordering::Relaxed);
    }

    /// Takes no write until then.
    pub(crate) fn fill(&self, until: Instant) {
        *lock(&self.full_until) = Some(until);
    }

    /// Whether it takes none now.
    pub(crate) fn is_full(&self) -> bool {
        lock(&self.full_until).is_some_and(|until| Instant::now() < until)
    }

    /// Makes a write durable, if it wins, before the eyes of the checkers.
    pub(crate) fn apply(&self, world: &World, node: usize, write: Write) -> Written {
        let case = number(&write.row.gid);
        let seen = RowSeen {
            phase: write.row.phase,
            version: write.row.version,
            created_at: write.row.created_at,
            is_begin: write.row.digest.is_some(),
            attention: write.row.attention,
        };
        let decides = lock(&world.book).decision(case).is_none() && seen.phase.decision().is_some();
        let loses = match world.broken {
            Some(Break::AckedWriteLost) => world.dice(|dice| dice.u32(0..100) == 0),
            Some(Break::DecisionForgotten) => decides && world.dice(|dice| dice.u32(0..20) == 0),
            _ => false,
        };
        if loses {
            world.note(Who::Store, Some(case), "loses a write", String::new);
            return Written::Won;
        }
        let committed = self.inner.commit(vec![write]).now_or_never();
        let written = committed.and_then(Result::ok).and_then(|mut written| written.pop());
        let written = written.expect("a store in memory answers at once");
        match &written {
            Written::Won => {
                world.note(Who::Node(node), Some(case), "wrote", || {
                    format!("{} v{}", seen.phase.as_str(), seen.version)
                });
                // A length counted from a clock that was set back ends so much earlier.
                let set_back = u64::try_from(self.set_back.load(Ordering::Relaxed)).unwrap_or(0);
                let latest = self.latest() + Duration::from_millis(set_back);
                let checked = lock(&world.book).written(world, case, seen, latest);
                world.hold(Some(case), checked);
            }
            Written::Lost => {
                world.saw(Rare::WriteLost);
                world.note(Who::Node(node), Some(case), "lost the race", || format!("v{}", seen.version));
                if world.breaks(Break::LostAsWon) {
                    return Written::Won;
                }
            }
            Written::Refused(refusal) => {
                world.hold(Some(case), Err(format!("a write nobody can store: {refusal}")));
            }
        }
        written
    }
}
