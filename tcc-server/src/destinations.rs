//! How many calls each destination gets at once: a hung one holds up nobody but those who call it, and one that
//! does not answer is asked now and then, and not by everybody (C9).
//!
//! Who finds no place is parked in the store and claimed again when there is one, so that a crowd costs neither memory
//! nor time of those who go elsewhere.
//!
//! The breaker: after [`limits::FAILURES`] calls in a row without an answer the destination is *shut*. Then one
//! call at a time probes it, ever more seldom while it fails. The first answer opens it again, for two calls at once,
//! and each further answer for one more, up to its limit.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foldhash::HashMap;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits;
use crate::settings::Settings;

/// The places at each destination.
pub(crate) struct Destinations {
    most: usize,
    /// Those that have another limit.
    own: HashMap<String, usize>,
    by_name: Mutex<HashMap<String, Arc<Destination>>>,
    /// Somebody was parked.
    pub(crate) parked: Notify,
}

struct Destination {
    name: String,
    /// Places at once when all is well.
    most: usize,
    /// The places that can be had now: none while it is shut.
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    taken: usize,
    /// Places at once now; fewer than usual for a while after it was shut.
    allowed: usize,
    /// Places that are not given to anybody else when they come free, for there are fewer now.
    surplus: usize,
    /// Those who wait for a place, each with a driver of its own.
    waiting: usize,
    /// How long a place is held: the mean of the last few.
    held: Duration,
    /// Calls that failed in a row, by their weight.
    failures: u32,
    shut: Option<Shut>,
    /// How long it is shut until the first probe, the next time.
    pause: Duration,
}

struct Shut {
    /// When the next probe is made.
    until: Instant,
    /// One is being made.
    probing: bool,
}

/// A place at a destination, until it is dropped.
pub(crate) struct Place {
    destination: Arc<Destination>,
    since: Instant,
    /// None where it is a probe, or taken although the destination is shut.
    permit: Option<OwnedSemaphorePermit>,
    probe: bool,
}

/// There is no place, and no use in waiting for one.
#[derive(Debug)]
pub(crate) struct NoPlace {
    /// The destination is shut.
    pub(crate) shut: bool,
}

/// How a destination took a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// It answered, whatever it said.
    Well,
    /// It answered with an error.
    Badly,
    /// It did not answer.
    NotAtAll,
}

impl Took {
    /// What it adds to the failures that shut a destination. An error may be the call's own fault, so it takes more.
    const fn weight(self) -> u32 {
        match self {
            Self::Well => 0,
            Self::Badly => 1,
            Self::NotAtAll => SILENCE,
        }
    }
}

/// A call without an answer weighs as much as so many errors.
const SILENCE: u32 = 4;

impl Destinations {
    pub(crate) fn new(settings: &Settings) -> Self {
        let own = settings
            .destinations
            .iter()
            .filter_map(|(name, bounds)| Some((name.clone(), bounds.calls?.max(1))));
        let (most, own) = (settings.per_destination.max(1), own.collect());
        Self { most, own, by_name: Mutex::default(), parked: Notify::new() }
    }

    /// A place. Whoever has only so many calls to make is not kept from one because others failed.
    ///
    /// # Errors
    /// [`NoPlace`] if the destination is shut, no place came free in time, or as many as there are places wait already:
    /// whoever waits holds a driver, of which healthy transactions need some too.
    pub(crate) async fn place(&self, name: &str, even_if_shut: bool) -> Result<Place, NoPlace> {
        let destination = self.of(name);
        if let Some(place) = destination.enter(even_if_shut)? {
            return Ok(place);
        }
        let _waiting = Waiting::enter(&destination)?;
        let permit = destination.places.clone().acquire_owned();
        match tokio::time::timeout(limits::DESTINATION_WAIT, permit).await {
            // The semaphore is never closed.
            Ok(permit) => Ok(destination.seat(permit.ok(), false)),
            Err(_) => Err(NoPlace { shut: destination.state().shut.is_some() }),
        }
    }

    /// How many of those parked at a destination it takes until somebody looks again: those for whom there is a place,
    /// and those for whom one comes free until then.
    pub(crate) fn room(&self, name: &str) -> usize {
        let destination = self.of(name);
        let state = destination.state();
        if let Some(shut) = &state.shut {
            return usize::from(!shut.probing && shut.until <= Instant::now());
        }
        let rounds = limits::NEXT_RELEASE.as_secs_f64() / state.held.as_secs_f64();
        let soon = if rounds < 1.0 { (state.allowed as f64 * rounds) as usize } else { state.allowed };
        destination.places.available_permits() + soon.saturating_sub(state.waiting)
    }

    /// How many are shut.
    pub(crate) fn shut(&self) -> usize {
        let by_name = self.by_name.lock().expect("no code under this lock can panic");
        by_name.values().filter(|destination| destination.state().shut.is_some()).count()
    }

    fn of(&self, name: &str) -> Arc<Destination> {
        let mut by_name = self.by_name.lock().expect("no code under this lock can panic");
        if let Some(known) = by_name.get(name) {
            return known.clone();
        }
        if by_name.len() >= limits::DESTINATIONS {
            by_name.retain(|_, destination| destination.state().taken > 0);
        }
        let new = Arc::new(Destination::new(name, self.own.get(name).copied().unwrap_or(self.most)));
        by_name.insert(name.to_owned(), new.clone());
        new
    }
}

impl Destination {
    fn new(name: &str, most: usize) -> Self {
        let state = State {
            taken: 0,
            allowed: most,
            surplus: 0,
            waiting: 0,
            held: Duration::ZERO,
            failures: 0,
            shut: None,
            pause: limits::FIRST_PAUSE,
        };
        Self { name: name.to_owned(), most, places: Arc::new(Semaphore::new(most)), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code under this lock can panic")
    }

    /// Takes a place if there is one. Where somebody waits there is none.
    fn enter(self: &Arc<Self>, even_if_shut: bool) -> Result<Option<Place>, NoPlace> {
        let mut state = self.state();
        if even_if_shut && state.allowed < self.most && state.taken < self.most {
            drop(state);
            return Ok(Some(self.seat(None, false)));
        }
        if let Some(shut) = &mut state.shut {
            if shut.probing || Instant::now() < shut.until {
                return Err(NoPlace { shut: true });
            }
            shut.probing = true;
            drop(state);
            return Ok(Some(self.seat(None, true)));
        }
        drop(state);
        let permit = self.places.clone().try_acquire_owned().ok();
        Ok(permit.map(|permit| self.seat(Some(permit), false)))
    }

    fn seat(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>, probe: bool) -> Place {
        self.state().taken += 1;
        Place { destination: self.clone(), since: Instant::now(), permit, probe }
    }

    /// Takes in how a call went.
    fn learn(&self, took: Took, probe: bool) {
        let mut state = self.state();
        match (took, &state.shut) {
            (Took::Well, shut) => {
                let was_shut = shut.is_some();
                state.failures = 0;
                state.shut = None;
                let more = if was_shut { 2 } else { 1 };
                (0..more).for_each(|_| self.allow_one_more(&mut state));
                if state.allowed == self.most {
                    state.pause = limits::FIRST_PAUSE;
                }
                if was_shut {
                    tracing::info!(destination = self.name, "answers again");
                }
            }
            // Those that were under way when it was shut tell nothing new.
            (Took::Badly | Took::NotAtAll, Some(_)) if !probe => {}
            (Took::Badly | Took::NotAtAll, Some(_)) => self.shut(&mut state, took),
            (Took::Badly | Took::NotAtAll, None) => {
                state.failures = state.failures.saturating_add(took.weight());
                // Whoever is just being let in again is not given as many tries.
                let failures = limits::FAILURES.min(u32::try_from(state.allowed).unwrap_or(u32::MAX));
                if state.failures >= failures * SILENCE {
                    tracing::warn!(destination = self.name, "does not answer; it is asked now and then");
                    self.shut(&mut state, took);
                }
            }
        }
    }

    fn allow_one_more(&self, state: &mut State) {
        if state.allowed == self.most {
            return;
        }
        state.allowed += 1;
        match state.surplus.checked_sub(1) {
            Some(less) => state.surplus = less,
            None => self.places.add_permits(1),
        }
    }

    fn shut(&self, state: &mut State, took: Took) {
        let pause = if took == Took::Badly { limits::PAUSE_AFTER_ERROR } else { state.pause };
        state.pause = (state.pause * 2).min(limits::LONGEST_PAUSE);
        let until = Instant::now() + pause;
        state.surplus += state.allowed - self.places.forget_permits(state.allowed);
        state.allowed = 0;
        state.shut = Some(Shut { until, probing: false });
    }
}

impl Place {
    /// Says how the destination took the call, and gives the place back.
    pub(crate) fn leave(self, took: Took) {
        self.destination.learn(took, self.probe);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.destination.state();
        state.taken -= 1;
        state.held = (state.held * 7 + self.since.elapsed()) / 8;
        if self.probe
            && let Some(shut) = &mut state.shut
        {
            shut.probing = false;
        }
        if let Some(permit) = self.permit.take()
            && let Some(less) = state.surplus.checked_sub(1)
        {
            state.surplus = less;
            permit.forget();
        }
    }
}

/// Somebody who waits for a place.
struct Waiting<'a>(&'a Destination);

impl<'a> Waiting<'a> {
    fn enter(destination: &'a Destination) -> Result<Self, NoPlace> {
        let mut state = destination.state();
        if state.waiting >= destination.most {
            return Err(NoPlace { shut: false });
        }
        state.waiting += 1;
        Ok(Self(destination))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Bounds;

    fn destinations_of(per_destination: usize) -> Destinations {
        Destinations::new(&Settings { per_destination, ..Settings::default() })
    }

    async fn place(destinations: &Destinations) -> Place {
        destinations.place("a", false).await.unwrap_or_else(|none| panic!("there is a place: {none:?}"))
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_released_as_find_a_place_until_the_next_release() {
        let destinations = destinations_of(4);
        assert_eq!(destinations.room("a"), 8, "nobody knows yet how long a call takes");
        for (length, room) in [(5, 8), (20, 6), (1000, 4)] {
            for _ in 0..64 {
                let place = place(&destinations).await;
                tokio::time::sleep(Duration::from_millis(length)).await;
                place.leave(Took::Well);
            }
            assert_eq!(destinations.room("a"), room, "a call takes {length} ms");
        }
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(place(&destinations).await);
        }
        assert_eq!(destinations.room("a"), 0);
    }

    #[tokio::test]
    async fn a_destination_may_have_a_limit_of_its_own() {
        let bounds = Bounds { calls: Some(2), call_timeout: None };
        let own = [("b".to_owned(), bounds)].into();
        let settings = Settings { per_destination: 3, destinations: own, ..Settings::default() };
        let destinations = Destinations::new(&settings);
        for (name, most) in [("a", 3), ("b", 2), ("c", 3)] {
            assert_eq!(destinations.of(name).places.available_permits(), most, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_served_in_the_order_of_coming_and_before_newcomers() {
        let destinations = Arc::new(destinations_of(2));
        let held = [place(&destinations).await, place(&destinations).await];
        let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..2 {
            let (destinations, served) = (destinations.clone(), served.clone());
            tokio::spawn(async move {
                let place = place(&destinations).await;
                served.send(number).unwrap();
                place.leave(Took::Well);
            });
            tokio::task::yield_now().await;
        }
        let [first, second] = held;
        drop(first);
        let newcomer = tokio::spawn({
            let (destinations, served) = (destinations.clone(), served.clone());
            async move {
                let _place = place(&destinations).await;
                served.send(2).unwrap();
            }
        });
        newcomer.await.unwrap();
        drop(second);
        assert_eq!([order.recv().await, order.recv().await, order.recv().await], [Some(0), Some(1), Some(2)]);
    }

    /// Places that are free now.
    fn free(destinations: &Destinations) -> usize {
        destinations.of("a").places.available_permits()
    }

    /// Makes a call that is taken so, if there is a place.
    async fn call(destinations: &Destinations, took: Took) -> bool {
        let placed = destinations.place("a", false).await;
        let called = placed.is_ok();
        if let Ok(place) = placed {
            place.leave(took);
        }
        called
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_does_not_answer_is_shut_and_probed_ever_more_seldom() {
        let destinations = destinations_of(64);
        for _ in 0..limits::FAILURES {
            assert!(call(&destinations, Took::NotAtAll).await, "it is not shut yet");
        }
        let mut pause = limits::FIRST_PAUSE;
        for _ in 0..8 {
            assert!(!call(&destinations, Took::Well).await, "it is shut");
            assert_eq!(destinations.room("a"), 0);
            tokio::time::sleep(pause).await;
            assert_eq!(destinations.room("a"), 1);
            let probe = place(&destinations).await;
            assert_eq!(destinations.room("a"), 0, "one at a time");
            assert!(!call(&destinations, Took::Well).await, "one at a time");
            probe.leave(Took::NotAtAll);
            pause = (pause * 2).min(limits::LONGEST_PAUSE);
        }
        tokio::time::sleep(limits::LONGEST_PAUSE).await;
        drop(place(&destinations).await);
        assert!(call(&destinations, Took::Well).await, "a probe that was not made is made by another");
        assert_eq!(free(&destinations), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_answers_again_is_let_have_more_with_every_answer() {
        let destinations = destinations_of(8);
        while call(&destinations, Took::NotAtAll).await {}
        tokio::time::sleep(limits::FIRST_PAUSE).await;
        assert_eq!(destinations.room("a"), 1);
        for allowed in [0, 2, 3, 4, 5, 6, 7, 8] {
            assert_eq!(free(&destinations), allowed);
            assert!(call(&destinations, Took::Well).await);
        }
        assert_eq!(free(&destinations), 8, "never more than its limit");
        tokio::time::sleep(limits::FIRST_PAUSE).await;
        while call(&destinations, Took::NotAtAll).await {}
        tokio::time::sleep(limits::FIRST_PAUSE).await;
        assert_eq!(destinations.room("a"), 1, "it was well: it is probed as soon as at first");
        assert!(call(&destinations, Took::Well).await);
        assert!(call(&destinations, Took::NotAtAll).await);
        assert!(call(&destinations, Took::NotAtAll).await);
        assert!(!call(&destinations, Took::Well).await, "whoever is being let in again has fewer tries");
    }

    #[tokio::test(start_paused = true)]
    async fn errors_shut_a_destination_later_than_silence_and_any_answer_counts_them_anew() {
        let destinations = destinations_of(64);
        let errors = limits::FAILURES * SILENCE;
        for _ in 1..errors {
            assert!(call(&destinations, Took::Badly).await);
        }
        assert!(call(&destinations, Took::Well).await);
        for _ in 0..errors {
            assert!(call(&destinations, Took::Badly).await);
        }
        for _ in 0..8 {
            assert!(!call(&destinations, Took::Well).await);
            tokio::time::sleep(limits::PAUSE_AFTER_ERROR).await;
            assert!(call(&destinations, Took::Badly).await, "it is there, and the next call may fare better");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_that_the_destination_is_shut_and_whoever_must_call_may() {
        let destinations = Arc::new(destinations_of(8));
        for _ in 1..limits::FAILURES {
            assert!(call(&destinations, Took::NotAtAll).await);
        }
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(place(&destinations).await);
        }
        let waits = tokio::spawn({
            let destinations = destinations.clone();
            async move { destinations.place("a", false).await.err() }
        });
        tokio::task::yield_now().await;
        held.into_iter().for_each(|place| place.leave(Took::NotAtAll));
        assert!(!call(&destinations, Took::Well).await);
        assert!(matches!(waits.await.unwrap(), Some(NoPlace { shut: true })));
        let place = destinations.place("a", true).await.unwrap_or_else(|none| panic!("may call: {none:?}"));
        place.leave(Took::Well);
        assert_eq!(free(&destinations), 2, "an answer is an answer");
        tokio::time::sleep(limits::LONGEST_PAUSE).await;
        let held = [destinations.place("a", false).await, destinations.place("a", false).await];
        assert_eq!(free(&destinations), 0, "those places that came free late are not had twice");
        drop(held);
    }
}
