//! Waiting until a transaction is decided or has ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tcc_core::{Gid, Phase};
use tokio::time::Instant;

use crate::coordinator::{Coordinator, Known};
use crate::limits;
use crate::live::Waiting;

/// What a waiting caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The decision.
    Decision,
    /// The end of every branch.
    End,
}

impl Wait {
    /// Whether a transaction in this phase need not be waited for.
    #[must_use]
    pub const fn is_over(self, phase: Phase) -> bool {
        match self {
            Self::Decision => phase.decision().is_some(),
            Self::End => phase.ended(),
        }
    }
}

/// Somebody who listens for what becomes of a transaction, and so need not look again at what was learned since.
pub struct Waiter<'a> {
    coordinator: &'a Coordinator,
    waiting: Waiting<'a>,
}

impl<'a> Waiter<'a> {
    pub(crate) fn new(coordinator: &'a Coordinator, gid: &Gid) -> Self {
        Self { coordinator, waiting: coordinator.live.wait_for(gid) }
    }

    /// Waits like [`Coordinator::wait`]. What is `known` was learned since this listens.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn wait(self, mut known: Known, until: Wait, longest: Duration) -> Known {
        let coordinator = self.coordinator;
        let deadline = Instant::now() + longest.min(limits::LONGEST_WAIT);
        if until.is_over(known.phase()) {
            return known;
        }
        // Beyond the limit nobody waits: those who do must not take every connection from those who act.
        let Ok(_place) = coordinator.waits.try_acquire() else { return known };
        let mut stopped = std::pin::pin!(coordinator.stopped.notified());
        stopped.as_mut().enable();
        let stopping = || coordinator.stopping.load(Ordering::Relaxed);
        while !until.is_over(known.phase()) && Instant::now() < deadline && !stopping() {
            let look = deadline.min(Instant::now() + limits::WAIT_POLL);
            known = tokio::select! {
                biased;
                stored = self.waiting.until(until) => Known::Stored(Box::new(stored)),
                // Who waits is told how it stands, and asks the next process.
                () = stopped.as_mut() => break,
                () = tokio::time::sleep_until(look) => coordinator.look(known).await,
            };
        }
        self.or_newer(known)
    }

    /// How it stands, for one who was told of nothing but the end of the wait.
    fn or_newer(&self, known: Known) -> Known {
        match (&known, self.waiting.newest()) {
            (Known::Stored(stored), Some(newest)) if newest.version() > stored.version() => {
                Known::Stored(Box::new(newest))
            }
            (Known::Stored(_) | Known::Purged(..), _) => known,
        }
    }
}
