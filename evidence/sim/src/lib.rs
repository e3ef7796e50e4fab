//! The real coordinator, scheduling and guard in a seeded world.
//!
//! A world is some hundred transactions of every shape, begun by initiators that vanish, over one to three
//! coordinators that crash, one store that fails and four participants with databases of their own; all of it on one
//! thread, in virtual time, drawn from one seed. Read `live` first, then `node`, `network`, `disk`, and the checkers
//! in `check`; `fault` lists what can happen.

mod book;
mod business;
mod check;
mod database;
mod disk;
mod fault;
mod initiator;
mod live;
mod log;
mod nested;
mod network;
mod node;
mod operator;
mod plan;
mod report;
mod service;
mod setup;
mod shrink;
mod store;
mod trouble;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use fault::{Fault, Rare};
pub use setup::Break;

use crate::live::Outcome;
use crate::log::Keep;
use crate::setup::Setup;
use crate::world::{Counts, lock};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many transactions, in whole worlds.
    pub transactions: usize,
    /// What everything is drawn from; the first world has this seed, the next ones follow from it.
    pub seed: u64,
    /// Transactions in a world.
    pub world_size: usize,
    /// Threads; each runs worlds of its own.
    pub threads: usize,
    /// Faults that are switched off.
    pub without: Vec<Fault>,
    /// What of the environment is broken on purpose.
    pub broken: Option<Break>,
}

impl Default for Options {
    fn default() -> Self {
        Self { transactions: 20_000, seed: 1, world_size: 200, threads: 1, without: Vec::new(), broken: None }
    }
}

impl Options {
    fn setup(&self, seed: u64) -> Setup {
        Setup {
            seed,
            cases: (0..self.world_size).collect(),
            without: self.without.clone(),
            broken: self.broken,
        }
    }

    fn seed_of(&self, world: usize) -> u64 {
        if world == 0 {
            self.seed
        } else {
            fastrand::Rng::with_seed(self.seed.wrapping_add(world as u64)).u64(..)
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Summary {
    /// Worlds and transactions that were run.
    pub worlds: usize,
    /// Transactions in them.
    pub transactions: usize,
    /// How long they lasted, all together, in their own time.
    pub simulated: Duration,
    /// How long that took.
    pub took: Duration,
    /// A hash over everything that happened, whatever the threads.
    pub hash: u64,
    /// The first world in which something was wrong.
    pub failure: Option<Failure>,
    pub(crate) counts: Counts,
}

/// A world in which something was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that brings it back.
    pub seed: u64,
    /// What was wrong.
    pub why: String,
}

impl Summary {
    /// The faults and rare things that never came about.
    #[must_use]
    pub fn never(&self) -> Vec<&'static str> {
        let faults = Fault::ALL.iter().filter(|fault| self.counts.faults[**fault as usize] == 0);
        let rare = Rare::ALL.iter().filter(|rare| self.counts.rare[**rare as usize] == 0);
        faults.map(|fault| fault.text()).chain(rare.map(|rare| rare.text())).collect()
    }

    /// How many faults struck.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.counts.faults.iter().sum()
    }
}

/// Runs worlds until there are enough transactions, or one of them fails.
#[must_use]
pub fn run(options: &Options, progress: impl Fn(usize) + Sync) -> Summary {
    let started = Instant::now();
    let worlds = options.transactions.div_ceil(options.world_size).max(1);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let total = Mutex::new(Summary {
        worlds: 0,
        transactions: 0,
        simulated: Duration::ZERO,
        took: Duration::ZERO,
        hash: 0,
        failure: None,
        counts: Counts::default(),
    });
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let world = next.fetch_add(1, Ordering::Relaxed);
                    if world >= worlds || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = options.seed_of(world);
                    let outcome = live::run(&options.setup(seed), Keep::Hash);
                    let mut total = lock(&total);
                    total.take(seed, options.world_size, outcome);
                    stop.store(total.failure.is_some(), Ordering::Relaxed);
                    progress(total.transactions);
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    total.took = started.elapsed();
    total
}

impl Summary {
    fn take(&mut self, seed: u64, transactions: usize, outcome: Outcome) {
        self.worlds += 1;
        self.transactions += transactions;
        self.simulated += outcome.lasted;
        // In any order the same.
        self.hash = self.hash.wrapping_add(outcome.hash);
        self.counts.add(&outcome.counts);
        if let (None, Some(why)) = (&self.failure, outcome.failure) {
            self.failure = Some(Failure { seed, why });
        }
    }
}

/// The whole log of one world.
#[must_use]
pub fn replay(options: &Options, seed: u64) -> String {
    live::run(&options.setup(seed), Keep::Lines).lines
}

/// The shortest story found that still fails, ready to be read; `None` if the seed's world does not fail.
#[must_use]
pub fn story(options: &Options, seed: u64) -> Option<String> {
    let (setup, outcome) = shrink::shrink(&options.setup(seed));
    let why = outcome.failure?;
    Some(report::story(&setup, &why, &outcome.lines))
}

/// The numbers, and what happened how often.
#[must_use]
pub fn table(summary: &Summary) -> String {
    report::table(summary)
}
