//! The short form of the campaigns, and the proof that they see.

use tcc_storage::check::Violation;
use tcc_storage::cuts::{Campaign, Tally};
use tcc_storage::disk::{Effect, Fault, Point};
use tcc_storage::inject::{HEAD, Injection};

fn campaign(seed: u64, cuts: usize) -> Campaign {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Campaign { seed, cuts, images: 4, threads, only: None, fault: None, restart_fault: None }
}

fn lie(point: Point) -> Option<Fault> {
    Some(Fault { point, nth: 1, lasting: u64::MAX, effect: Effect::Lie })
}

/// C1, C2, C4, C6: whatever a power cut leaves, what was acknowledged is there and no decision is another.
#[test]
fn no_power_cut_loses_or_reverses_what_was_acknowledged() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let tally = campaign(seed, 125).run().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    println!("{tally}");
    assert_eq!(tally.never(), Vec::<&str>::new(), "seed {seed}");
    assert_eq!(tally.cuts, 125);
}

/// C4: a call that fails is answered for as documented, and the files hold what was answered.
#[test]
fn no_failing_call_loses_or_reverses_what_was_acknowledged() {
    let seed = fastrand::u64(..);
    println!("seed {seed}\n{HEAD}");
    let lines = Injection { seed, first: 1, beyond: 2 }.run(|line| println!("{line}"));
    let lines = lines.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    let never: Vec<&str> = lines.iter().filter(|line| line.struck == 0).map(|line| line.name).collect();
    assert_eq!(never, Vec::<&str>::new(), "seed {seed}");
}

/// A disk, or a setting, that acknowledges what it has not synced is found out.
#[test]
fn a_lying_sync_of_the_wal_is_seen_as_lost_writes() {
    let broken = Campaign { fault: lie(Point::WalSync), ..campaign(1, 50) }.run().expect_err("a lie");
    assert!(matches!(broken.violation, Violation::Lost { .. } | Violation::Reversed { .. }), "{broken}");
}

#[test]
fn a_lying_sync_of_the_database_is_seen() {
    let broken = Campaign { fault: lie(Point::DbSync), ..campaign(1, 100) }.run().expect_err("a lie");
    println!("{broken}");
}

/// What a new log is made of must be synced with its folder: else its journal comes back and empties it.
#[test]
fn a_new_log_that_is_not_synced_is_seen() {
    let broken = Campaign { fault: lie(Point::Own), ..campaign(1, 50) }.run().expect_err("a lie");
    println!("{broken}");
}

/// Visible is not yet durable: a store that acts on what it finds must have synced it.
#[test]
fn a_store_that_does_not_sync_what_it_finds_is_seen() {
    let broken = Campaign { restart_fault: lie(Point::Own), ..campaign(1, 100) }.run().expect_err("a lie");
    assert!(matches!(broken.violation, Violation::Unshown { .. }), "{broken}");
}

/// The same seed does the same, whatever the threads do.
#[test]
fn a_campaign_repeats_itself() {
    let numbers = |tally: Tally| (tally.images, tally.acked, tally.lost, tally.kept, tally.situations);
    let once = || numbers(campaign(5, 25).run().expect("no violation"));
    assert_eq!(once(), once());
}
