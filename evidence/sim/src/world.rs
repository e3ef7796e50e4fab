//! One world: a seed, a clock, dice, and what lives in it. Everything in it runs on one thread in virtual time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tcc_core::{Phase, Timestamp};
use tokio::time::Instant;

use crate::book::{self, Book};
use crate::disk::Disk;
use crate::fault::{Fault, Rare};
use crate::log::{Keep, Log, Who};
use crate::node::Node;
use crate::service::Service;
use crate::setup::{Break, Nature, Setup};

/// The store's clock stands at this when a world begins.
const DAWN: i64 = 1_700_000_000_000;

/// One world.
pub(crate) struct World {
    pub(crate) nature: Nature,
    pub(crate) broken: Option<Break>,
    pub(crate) disk: Disk,
    pub(crate) nodes: Vec<Node>,
    pub(crate) services: Vec<Service>,
    pub(crate) book: Mutex<Book>,
    pub(crate) log: Mutex<Log>,
    dice: Mutex<fastrand::Rng>,
    counts: Mutex<Counts>,
    failure: Mutex<Option<String>>,
    healed: AtomicBool,
    over: AtomicBool,
    started: Instant,
    ahead: Arc<AtomicI64>,
}

/// How often each fault struck and each rare thing was seen.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) faults: Vec<u64>,
    pub(crate) rare: Vec<u64>,
    /// Transactions by how they ended: confirmed, abandoned, cancelled, never begun.
    pub(crate) ends: [u64; 4],
}

impl Default for Counts {
    fn default() -> Self {
        Self { faults: vec![0; Fault::ALL.len()], rare: vec![0; Rare::ALL.len()], ends: [0; 4] }
    }
}

impl Counts {
    /// Takes in those of another world.
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.faults.iter_mut().zip(&other.faults) {
            *mine += theirs;
        }
        for (mine, theirs) in self.rare.iter_mut().zip(&other.rare) {
            *mine += theirs;
        }
        for (mine, theirs) in self.ends.iter_mut().zip(&other.ends) {
            *mine += theirs;
        }
    }
}

impl World {
    /// A world as the seed would have it. Within a runtime whose time is paused.
    pub(crate) fn new(setup: &Setup, keep: Keep) -> Arc<Self> {
        let nature = Nature::draw(setup);
        let started = Instant::now();
        let ahead = Arc::new(AtomicI64::new(0));
        let clock = {
            let ahead = ahead.clone();
            move || Timestamp::from_millis(DAWN + ahead.load(Ordering::Relaxed)) + started.elapsed()
        };
        Arc::new_cyclic(|world| Self {
            disk: Disk::new(clock),
            nodes: (0..nature.nodes).map(|_| Node::default()).collect(),
            services: Service::all(world),
            book: Mutex::new(Book::new(setup)),
            log: Mutex::new(Log::new(keep)),
            dice: Mutex::new(fastrand::Rng::with_seed(setup.seed ^ 0x0064_6963_6500)),
            counts: Mutex::default(),
            failure: Mutex::default(),
            healed: AtomicBool::new(false),
            over: AtomicBool::new(false),
            broken: setup.broken,
            nature,
            started,
            ahead,
        })
    }

    /// A draw.
    pub(crate) fn dice<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut lock(&self.dice))
    }

    /// A length in milliseconds.
    pub(crate) fn millis(&self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.dice(|dice| dice.u64(range)))
    }

    /// Whether a fault strikes here, which is then counted.
    pub(crate) fn strikes(&self, fault: Fault) -> bool {
        let odds = self.nature.odds[fault as usize];
        if odds == 0 || self.is_healed() || self.dice(|dice| dice.u32(0..1_000_000)) >= odds {
            return false;
        }
        self.struck(fault);
        true
    }

    /// Whether a fault with a moment of its own may come about.
    pub(crate) fn allows(&self, fault: Fault) -> bool {
        self.nature.odds[fault as usize] > 0 && !self.is_healed()
    }

    /// Counts a fault that came about.
    pub(crate) fn struck(&self, fault: Fault) {
        lock(&self.counts).faults[fault as usize] += 1;
    }

    /// Counts a rare thing.
    pub(crate) fn saw(&self, rare: Rare) {
        lock(&self.counts).rare[rare as usize] += 1;
    }

    /// Counts how a transaction ended.
    pub(crate) fn ended(&self, phase: Option<Phase>) {
        let end = match phase {
            Some(Phase::Confirmed | Phase::Confirming) => 0,
            Some(Phase::Abandoned) => 1,
            Some(Phase::Cancelled | Phase::Cancelling | Phase::Trying) => 2,
            None => 3,
        };
        lock(&self.counts).ends[end] += 1;
    }

    /// What was counted.
    pub(crate) fn counted(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Writes down an event.
    pub(crate) fn note(
        &self,
        who: Who,
        case: Option<usize>,
        what: &'static str,
        detail: impl FnOnce() -> String,
    ) {
        lock(&self.log).note(self.passed(), who, case, what, detail);
    }

    /// Milliseconds since the world began.
    pub(crate) fn passed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Believes a check, or ends the world.
    pub(crate) fn hold(&self, case: Option<usize>, checked: Result<(), String>) {
        if let Err(why) = checked {
            self.note(Who::World, case, "VIOLATION", || why.clone());
            let mut failure = lock(&self.failure);
            if failure.is_none() {
                *failure =
                    Some(case.map_or_else(|| why.clone(), |case| format!("{}: {why}", book::name(case))));
            }
        }
    }

    /// What was found wrong first.
    pub(crate) fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// No more faults from here on.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        self.note(Who::World, None, "faults stop", String::new);
    }

    /// Whether faults have stopped.
    pub(crate) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    /// Ends everything that lives in a loop.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.nodes.iter().for_each(Node::remove);
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Sets the store's clock forward, or back.
    pub(crate) fn turn_clock(&self, millis: i64) {
        self.ahead.fetch_add(millis, Ordering::Relaxed);
        self.disk.set_back((-millis).max(0));
        self.disk.look_at_clock();
    }

    /// Whether the environment is broken in this way.
    pub(crate) fn breaks(&self, broken: Break) -> bool {
        self.broken == Some(broken)
    }
}

/// Nothing here panics half way through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
