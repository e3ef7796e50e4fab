//! Claims what is due in windows, has it driven, and keeps house: nothing else here acts of its own accord.

use std::sync::Arc;
use std::time::Duration;

use tcc_core::Stored;
use tcc_core::store::{Unavailable, Undecodable, claim, claim_parked};
use tokio::task::JoinSet;

use crate::coordinator::{Coordinator, chain};
use crate::crash::{self, Moment, Site};
use crate::{alerts, driver, limits};

/// Has everything done that falls due.
#[must_use = "dropping it leaves what falls due undone"]
pub struct Scheduler {
    coordinator: Arc<Coordinator>,
    tasks: JoinSet<()>,
}

impl Scheduler {
    /// Starts to act on what the store holds. There is no recovery apart from this: a transaction that was left by a
    /// process that died is due like any other.
    pub fn start(coordinator: Arc<Coordinator>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(claim_what_is_due(coordinator.clone()));
        tasks.spawn(release_what_is_parked(coordinator.clone()));
        tasks.spawn(keep_house(coordinator.clone()));
        tasks.spawn(alerts::tell(coordinator.clone()));
        Self { coordinator, tasks }
    }

    /// Makes no more calls, waits at most so long for those in flight, and says whether all of them came to an end.
    pub async fn drain(mut self, longest: Duration) -> Drained {
        self.coordinator.stop();
        self.tasks.shutdown().await;
        let deadline = tokio::time::Instant::now() + longest;
        while self.coordinator.live.len() > 0 {
            if tokio::time::Instant::now() >= deadline || self.coordinator.has_failed() {
                return Drained::CutShort(self.coordinator.live.len());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Drained::Whole
    }
}

/// How a drain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// No call was in flight any more.
    Whole,
    /// So many transactions still had calls in flight. Their outcome is unknown, and they are called again.
    CutShort(usize),
}

async fn claim_what_is_due(coordinator: Arc<Coordinator>) {
    let mut announcements = coordinator.live.announcements();
    loop {
        coordinator.live.take_announced();
        let room = room(&coordinator);
        let mut next = None;
        if room > 0 && coordinator.acts() {
            match claim(&*coordinator.store, limits::LEASE, room).await {
                Ok((claimed, due)) => {
                    next = due;
                    drive(&coordinator, claimed);
                }
                Err(error) => {
                    tracing::error!(error = %chain(&error), "the store cannot be asked what is due")
                }
            }
        }
        wait(&coordinator, &mut announcements, next).await;
    }
}

/// Has those driven that are parked at destinations which take calls, as many as each takes now.
async fn release_what_is_parked(coordinator: Arc<Coordinator>) {
    loop {
        match release(&coordinator).await {
            Ok(Some(1..)) => tokio::time::sleep(limits::NEXT_RELEASE).await,
            Ok(Some(0)) => tokio::time::sleep(limits::RELEASE).await,
            Ok(None) => {
                // Other nodes park, too.
                let _ = tokio::time::timeout(limits::POLL, coordinator.destinations.parked.notified()).await;
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the store cannot be asked what is parked");
                tokio::time::sleep(limits::POLL).await;
            }
        }
    }
}

/// How many; `None` if nobody is parked.
async fn release(coordinator: &Arc<Coordinator>) -> Result<Option<usize>, Unavailable> {
    let store = &*coordinator.store;
    let mut released = None;
    for destination in store.parked_at(limits::DESTINATIONS).await? {
        let released = released.get_or_insert(0);
        let room = coordinator.destinations.room(&destination).min(room(coordinator));
        if room == 0 || !coordinator.acts() {
            continue;
        }
        let claimed = claim_parked(store, &destination, limits::LEASE, room).await?;
        *released += claimed.len();
        drive(coordinator, claimed);
    }
    Ok(released)
}

/// How many more may be claimed from the store at once.
fn room(coordinator: &Coordinator) -> usize {
    coordinator.live.room_for_claimed().min(limits::CLAIM_WINDOW)
}

fn drive(coordinator: &Arc<Coordinator>, claimed: Vec<Result<Stored, Undecodable>>) {
    for stored in claimed {
        match stored {
            Ok(stored) => driver::start_claimed(coordinator, stored),
            // It stays claimed for a lease, and holds up nobody.
            Err(poison) => {
                tracing::error!(error = %chain(&poison), "a transaction cannot be read");
                let coordinator = coordinator.clone();
                tokio::spawn(async move { coordinator.call_a_human_for(&poison.gid).await });
            }
        }
    }
}

/// Waits until something is due, was announced, or it is time to look for what other nodes left behind.
async fn wait(
    coordinator: &Coordinator,
    announcements: &mut tokio::sync::watch::Receiver<Option<tcc_core::Timestamp>>,
    mut next: Option<tcc_core::Timestamp>,
) {
    let poll = tokio::time::Instant::now() + limits::POLL;
    loop {
        let now = coordinator.now();
        let announced = *announcements.borrow_and_update();
        next = next.into_iter().chain(announced).min();
        let due = next.map_or(limits::POLL, |next| next.since(now));
        // A full house or a store that cannot be asked must not make a busy loop.
        let due = due.max(Duration::from_millis(5));
        let until = poll.min(tokio::time::Instant::now() + due);
        tokio::select! {
            biased;
            Ok(()) = announcements.changed() => {}
            () = tokio::time::sleep_until(until) => return,
        }
    }
}

async fn keep_house(coordinator: Arc<Coordinator>) {
    loop {
        if let Err(error) = tidy_up(&coordinator).await {
            tracing::warn!(error = %chain(&error), "the store cannot be tidied up");
        }
        tokio::time::sleep(limits::HOUSEKEEPING).await;
    }
}

/// Renews the watermark and purges what ended long ago, in small batches so that nobody else waits for it.
async fn tidy_up(coordinator: &Coordinator) -> Result<(), Unavailable> {
    let settings = &coordinator.settings;
    let now = coordinator.now();
    let counts = coordinator.store.counts().await?;
    let kept = now - settings.retention;
    let settled = kept.min(now - limits::WATERMARK_LAG);
    coordinator.set_settled(counts.oldest_unfinished.map_or(settled, |oldest| oldest.min(settled)));
    loop {
        crash::point(Site::Purge, Moment::Before);
        let touched = coordinator.store.purge(kept, kept - settings.remember, limits::PURGE_BATCH).await?;
        crash::point(Site::Purge, Moment::After);
        coordinator.metrics.purged.add(touched as u64);
        if touched < limits::PURGE_BATCH {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
