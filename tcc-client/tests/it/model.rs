//! Random calls, duplicates, crossings and crashes against a model of the guard.
//!
//! A case is a sequence of steps that [`steps`] draws: calls of a few branches on two poor accounts, alone, twice,
//! two to four at once; refused, failing and unreadable ones; before and after the mark `Tcc-Settled`; clean-ups by
//! that mark with late calls in the middle; commits that are lost, connections that are killed, callers that leave, processes that die and begin again. [`play`] makes
//! them on a real database and reads it after each step. What was heard and what is found must be what *some* order
//! of the step's calls comes to in [`world`], the model; an answer that nobody heard leaves both possibilities open
//! until then.
//!
//! `TCC_CASES=100 cargo test -p tcc-client --all-features model` plays a hundred times as many. A failure prints
//! the seed of its cases, for `PROPTEST_RNG_SEED`, and the shortest case that still fails. The seed gives the same
//! steps; where calls race, the database may still take another turn.

use std::cell::RefCell;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use proptest_state_machine::ReferenceStateMachine;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use self::broken::Mistake;
use self::play::{Stage, Tally, Violation};
use self::steps::{Machine, Step};
use self::world::World;
use crate::banks::Bank;

/// Guard adapters with mistakes.
mod broken;
/// A process that dies in the middle of its calls.
mod death;
/// The system under test.
mod play;
/// What may happen.
mod steps;
/// The model.
mod world;

on_each_database!(whatever_is_called_the_guard_does_as_the_model;
    sql_alone:
    a_guard_with_a_mistake_is_found_out,
);

on_each_xa!(whatever_is_called_the_guard_does_as_the_model);

/// Of a day's test, so that it takes about ten seconds.
const CASES: u32 = 48;
const STEPS: std::ops::RangeInclusive<usize> = 12..=24;
/// Shorter cases to look for, once there is one that fails.
const SHRINKS: u32 = 200;
/// Enough to meet each mistake with; most need a few.
const CASES_WITH_A_MISTAKE: u32 = 200;

/// Every answer there is, by its code; and `nothing`, where the caller had left.
const ANSWERS: [&str; 9] = [
    "done",
    "refused",
    "not-tried",
    "already-cancelled",
    "already-confirmed",
    "unreadable-payload",
    "internal",
    "unknown",
    "nothing",
];

async fn whatever_is_called_the_guard_does_as_the_model<B: Bank>(bank: B) {
    let times: u32 = env::var("TCC_CASES").map_or(1, |times| times.parse().expect("TCC_CASES is a number"));
    // The second driver of a server says the same to it.
    let (cases, answers) = if is_second_driver(&bank) {
        (CASES / 3, &ANSWERS[..2])
    } else if B::PREPARES {
        // Duplicates wait seconds for what is prepared.
        (CASES / 3, &ANSWERS[..])
    } else {
        (CASES, &ANSWERS[..])
    };
    let Campaign { seed, tally, failed } = campaign(bank, None, cases * times, SHRINKS).await;
    if let Some(error) = failed {
        panic!("PROPTEST_RNG_SEED={seed} {error}");
    }
    println!("{tally:?}");
    for answer in answers {
        assert!(
            tally.heard.contains_key(*answer),
            "PROPTEST_RNG_SEED={seed} {answer} was never heard: {tally:?}"
        );
    }
    assert!(tally.clean_ups > 0, "PROPTEST_RNG_SEED={seed} nothing was cleaned up: {tally:?}");
    assert!(tally.deaths > 0, "PROPTEST_RNG_SEED={seed} no process died: {tally:?}");
}

async fn a_guard_with_a_mistake_is_found_out<B: Bank>(bank: B) {
    // That tests the model.
    if is_second_driver(&bank) {
        return;
    }
    for mistake in Mistake::ALL {
        // SQLite has one writer at a time, whom the missing lock of a row does not let in.
        if mistake == Mistake::ReadsUnlocked && !bank.place().contains("://") {
            continue;
        }
        let Campaign { seed, tally, failed } =
            campaign(bank.clone(), Some(mistake), CASES_WITH_A_MISTAKE, 1).await;
        let Some(TestError::Fail(how, _)) = failed else {
            panic!("PROPTEST_RNG_SEED={seed} {mistake:?} was not found out: {failed:?}");
        };
        assert!(how.message().starts_with(Violation::WORD), "{mistake:?} failed otherwise: {how}");
        println!("{mistake:?}, after {} cases and {} steps: {how}", tally.cases, tally.steps);
    }
}

fn is_second_driver<B: Bank>(bank: &B) -> bool {
    bank.place().starts_with("sqlx-")
}

/// What a number of cases came to.
struct Campaign {
    seed: u64,
    tally: Tally,
    failed: Option<TestError<Case>>,
}

type Case = (World, Vec<Step>, Option<Arc<AtomicUsize>>);

/// Plays cases until one fails, and then looks for a shorter one that does. On this thread, which proptest blocks.
async fn campaign<B: Bank>(bank: B, mistake: Option<Mistake>, cases: u32, shrinks: u32) -> Campaign {
    let mut config =
        Config { cases, failure_persistence: None, max_shrink_iters: shrinks, ..Config::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => fastrand::u64(..),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    // Not by `StateMachineTest`: its functions have no argument through which a bank could come.
    let stage = RefCell::new(Stage::new(bank, mistake).await);
    let played = |(_, steps, seen): Case| {
        let count = || {
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        };
        let playing = block_in_place(|| Handle::current().block_on(stage.borrow_mut().play(&steps, count)));
        playing.map_err(|violation| TestCaseError::fail(violation.to_string()))
    };
    let steps = if B::PREPARES {
        Machine::<true>::sequential_strategy(STEPS)
    } else {
        Machine::<false>::sequential_strategy(STEPS)
    };
    let failed = TestRunner::new(config).run(&steps, played).err();
    Campaign { seed, tally: stage.into_inner().tally, failed }
}
