//! The simulator, in its short form: that it repeats itself, that it finds nothing, and that it would.

use tcc_sim::{Break, Fault, Options, replay, run, story};

fn quick(transactions: usize, seed: u64) -> Options {
    Options { transactions, seed, world_size: 60, threads: 2, ..Options::default() }
}

#[test]
fn a_seed_is_a_world() {
    let options = quick(600, 11);
    let (first, second) = (run(&options, |_| ()), run(&Options { threads: 1, ..options.clone() }, |_| ()));
    assert_eq!(first.hash, second.hash, "whatever the threads");
    assert_ne!(first.hash, run(&quick(600, 12), |_| ()).hash);
    // Two thousand lines that differ are no help: the first one that does is.
    let (one, other) = (replay(&options, 13), replay(&options, 13));
    let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert_eq!(differs, None);
    assert!(one.lines().count() > 500, "{one}");
}

#[test]
fn everything_ends_everywhere_or_nowhere_whatever_goes_wrong() {
    let summary = run(&quick(4_000, 2026), |_| ());
    assert!(summary.failure.is_none(), "{:?}: cargo sim -- --world-size 60 --seed …", summary.failure);
    assert!(summary.faults() > 4_000, "{} faults", summary.faults());
    // A full run is red at the first that never came about; so short a one may miss some of the rarest.
    assert!(summary.never().len() < 15, "never: {:?}", summary.never());
}

#[test]
fn each_break_of_the_environment_is_seen() {
    for broken in Break::ALL {
        let options = Options { broken: Some(*broken), world_size: 200, ..quick(40_000, 5) };
        let summary = run(&options, |_| ());
        let failure = summary.failure.unwrap_or_else(|| panic!("{broken:?} was not seen"));
        println!("{broken:?}: {}", failure.why);
    }
}

#[test]
fn a_failure_is_told_as_a_short_story() {
    let options = Options { broken: Some(Break::TimeoutAsDone), ..quick(3_000, 5) };
    let failure = run(&options, |_| ()).failure.expect("a failure");
    let story = story(&options, failure.seed).expect("it fails again");
    let cases = story.lines().find(|line| line.starts_with("with ")).expect("the transactions");
    assert!(cases.split(',').count() <= 3, "{story}");
    assert!(story.contains("VIOLATION"), "{story}");
}

#[test]
fn faults_have_names_and_can_be_switched_off() {
    for fault in Fault::ALL {
        assert_eq!(Fault::named(fault.text()), Some(*fault));
    }
    let options = Options { without: Fault::ALL.to_vec(), ..quick(300, 3) };
    let summary = run(&options, |_| ());
    assert!(summary.failure.is_none(), "{:?}", summary.failure);
    assert_eq!(summary.faults(), 0);
}
