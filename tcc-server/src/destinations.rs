//! How many calls each destination gets at once: a hung one holds up nobody but those who call it (C9).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits;

/// The places at each destination.
pub(crate) struct Destinations {
    per_destination: usize,
    by_name: Mutex<HashMap<String, Arc<Destination>>>,
}

struct Destination {
    places: Arc<Semaphore>,
    /// Those who wait for a place, each with a driver of its own.
    waiting: AtomicUsize,
    /// Those who were put off and not served since: roughly how many there are to serve.
    put_off: AtomicUsize,
    pace: Mutex<Pace>,
}

/// How fast places come free.
struct Pace {
    /// How long one is held: the mean of the last few.
    held: Duration,
    /// When one last came free, or was there for the asking.
    moved: Instant,
}

/// A place at a destination, until it is dropped.
pub(crate) struct Place {
    destination: Arc<Destination>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// There is no place, and no use in waiting for one.
pub(crate) struct Crowded {
    /// About how long the others take that were put off before.
    pub(crate) wait: Duration,
}

impl Destinations {
    pub(crate) fn new(per_destination: usize) -> Self {
        Self { per_destination, by_name: Mutex::default() }
    }

    /// A place.
    ///
    /// # Errors
    /// [`Crowded`] if none came free in time, or as many as there are places wait already: whoever waits holds a driver,
    /// of which healthy transactions need some too.
    pub(crate) async fn place(&self, name: String) -> Result<Place, Crowded> {
        let destination = self.of(name);
        if let Ok(permit) = destination.places.clone().try_acquire_owned() {
            destination.put_off.store(0, Ordering::Relaxed);
            destination.pace().moved = Instant::now();
            return Ok(Place::new(destination, permit));
        }
        let _waiting = match Waiting::enter(&destination, self.per_destination) {
            Some(waiting) => waiting,
            None => return Err(self.crowded(&destination)),
        };
        let waited =
            tokio::time::timeout(limits::DESTINATION_WAIT, destination.places.clone().acquire_owned()).await;
        match waited {
            // The semaphore is never closed.
            Ok(permit) => permit
                .map(|permit| Place::new(destination.clone(), permit))
                .map_err(|_| self.crowded(&destination)),
            Err(_) => Err(self.crowded(&destination)),
        }
    }

    fn crowded(&self, destination: &Destination) -> Crowded {
        let before = destination.put_off.fetch_add(1, Ordering::Relaxed);
        let rounds = u32::try_from(2 + before / self.per_destination).unwrap_or(u32::MAX);
        let round = destination.pace().round();
        Crowded { wait: round.saturating_mul(rounds).clamp(limits::SHORTEST_PUT_OFF, limits::PUT_OFF) }
    }

    fn of(&self, name: String) -> Arc<Destination> {
        let mut by_name = self.by_name.lock().expect("no code under this lock can panic");
        if by_name.len() >= limits::DESTINATIONS {
            by_name.retain(|_, destination| destination.places.available_permits() < self.per_destination);
        }
        let new = || {
            Arc::new(Destination {
                places: Arc::new(Semaphore::new(self.per_destination)),
                waiting: AtomicUsize::new(0),
                put_off: AtomicUsize::new(0),
                pace: Mutex::new(Pace { held: Duration::ZERO, moved: Instant::now() }),
            })
        };
        by_name.entry(name).or_insert_with(new).clone()
    }
}

impl Place {
    fn new(destination: Arc<Destination>, permit: OwnedSemaphorePermit) -> Self {
        Self { destination, since: Instant::now(), _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let one_less = |put_off: usize| put_off.checked_sub(1);
        let _ = self.destination.put_off.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        let mut pace = self.destination.pace();
        pace.moved = Instant::now();
        pace.held = (pace.held * 7 + self.since.elapsed()) / 8;
    }
}

impl Destination {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("no code under this lock can panic")
    }
}

impl Pace {
    /// How long it takes until every place has come free once. Where none does, as far as can be told: at a hung
    /// destination that is longer at every look.
    fn round(&self) -> Duration {
        self.held.max(self.moved.elapsed())
    }
}

/// Somebody who waits for a place.
struct Waiting<'a>(&'a Destination);

impl<'a> Waiting<'a> {
    fn enter(destination: &'a Destination, most: usize) -> Option<Self> {
        let waiting = Self(destination);
        if destination.waiting.fetch_add(1, Ordering::Relaxed) < most { Some(waiting) } else { None }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long those are put off who come when every place is taken, and as many wait as may.
    async fn put_off(destinations: &Arc<Destinations>) -> Duration {
        let waiting = destinations.clone();
        let waits = tokio::spawn(async move { drop(waiting.place("a".to_owned()).await) });
        tokio::task::yield_now().await;
        let put_off = destinations.place("a".to_owned()).await.err().expect("it is crowded").wait;
        waits.abort();
        assert!(waits.await.is_err_and(|ended| ended.is_cancelled()));
        put_off
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_put_off_for_as_long_as_places_take_to_come_free() {
        let destinations = Arc::new(Destinations::new(1));
        let place = destinations.place("a".to_owned()).await.ok().expect("it is free");
        drop(place);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let place = destinations.place("a".to_owned()).await.ok().expect("it is free");
        assert_eq!(put_off(&destinations).await, limits::SHORTEST_PUT_OFF, "it was idle, and is not slow");
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(put_off(&destinations).await >= Duration::from_secs(16), "it seems to hang");
        drop(place);
        let _place = destinations.place("a".to_owned()).await.ok().expect("it is free");
        let slow = put_off(&destinations).await;
        assert!(slow >= Duration::from_secs(2) && slow < Duration::from_secs(4), "it was slow: {slow:?}");
    }
}
