//! How many calls each destination gets at once: a hung one holds up nobody but those who call it (C9).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    /// Those who were put off since a place was last free: roughly how many there are to serve.
    put_off: AtomicUsize,
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

    /// A place, held until it is dropped.
    ///
    /// # Errors
    /// [`Crowded`] if none came free in time, or as many as there are places wait already: whoever waits holds a driver,
    /// of which healthy transactions need some too.
    pub(crate) async fn place(&self, name: String) -> Result<OwnedSemaphorePermit, Crowded> {
        let destination = self.of(name);
        if let Ok(place) = destination.places.clone().try_acquire_owned() {
            destination.put_off.store(0, Ordering::Relaxed);
            return Ok(place);
        }
        let _waiting = match Waiting::enter(&destination, self.per_destination) {
            Some(waiting) => waiting,
            None => return Err(self.crowded(&destination)),
        };
        match tokio::time::timeout(limits::DESTINATION_WAIT, destination.places.clone().acquire_owned()).await
        {
            // The semaphore is never closed.
            Ok(place) => place.map_err(|_| self.crowded(&destination)),
            Err(_) => Err(self.crowded(&destination)),
        }
    }

    fn crowded(&self, destination: &Destination) -> Crowded {
        let before = destination.put_off.fetch_add(1, Ordering::Relaxed);
        let rounds = u32::try_from(2 + before / self.per_destination).unwrap_or(u32::MAX);
        Crowded { wait: limits::DESTINATION_WAIT.saturating_mul(rounds).min(limits::PUT_OFF) }
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
            })
        };
        by_name.entry(name).or_insert_with(new).clone()
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
