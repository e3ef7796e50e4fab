//! The campaign of failing calls: each kind of call, each way to fail, at the n-th call for many n.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use tcc_server::store::SqliteStore;

use crate::check;
use crate::cuts::{self, Tally};
use crate::disk::{Disk, Effect, Fault, File, Point};
use crate::history::Answer;
use crate::image::Recording;
use crate::run::{Run, run};
use crate::workload::Workload;

/// What a store is documented to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Documented {
    /// It does not know, says so from there on to everybody, tells its owner, and leaves the files as they are.
    Fails,
    /// It refuses, goes on reading, and writes again as soon as it can.
    Refuses,
    /// It goes on: what failed can be done later.
    GoesOn,
    /// It answers nobody before.
    Waits,
    /// It fails if the writer was struck and goes on if a reader was.
    FailsOrGoesOn,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    point: Point,
    effect: Effect,
    lasting: u64,
    documented: Documented,
}

const SLOW: Duration = Duration::from_millis(200);
/// For how many calls a disk stays full.
const LASTING: u64 = 7;

const fn case(
    name: &'static str,
    point: Point,
    effect: Effect,
    lasting: u64,
    documented: Documented,
) -> Case {
    Case { name, point, effect, lasting, documented }
}

const CASES: [Case; 20] = {
    use Documented::{Fails, FailsOrGoesOn, GoesOn, Refuses, Waits};
    use Effect::{Full, HalfThenIo, Io, Short, Slow};
    use Point::{DbGrowth, DbSync, DbWrite, WalRead, WalSync, WalTruncate, WalWrite};
    [
        case("WAL write: EIO", WalWrite, Io, 1, Fails),
        case("WAL write: half, then EIO", WalWrite, HalfThenIo, 1, Fails),
        case("WAL write: ENOSPC once", WalWrite, Full, 1, Refuses),
        case("WAL write: ENOSPC for a while", WalWrite, Full, LASTING, Refuses),
        case("WAL write: short once", WalWrite, Short, 1, Refuses),
        case("WAL write: short for a while", WalWrite, Short, LASTING, Refuses),
        case("WAL sync: EIO", WalSync, Io, 1, Fails),
        case("WAL sync: 200 ms", WalSync, Slow(SLOW), 1, Waits),
        case("WAL truncate: EIO", WalTruncate, Io, 1, Fails),
        case("WAL read: EIO", WalRead, Io, 1, FailsOrGoesOn),
        case("database write: EIO", DbWrite, Io, 1, Fails),
        case("database write: half, then EIO", DbWrite, HalfThenIo, 1, Fails),
        case("database write: ENOSPC once", DbWrite, Full, 1, GoesOn),
        case("database write: ENOSPC for a while", DbWrite, Full, LASTING, GoesOn),
        case("database write: short once", DbWrite, Short, 1, GoesOn),
        case("database growth: EIO", DbGrowth, Io, 1, Fails),
        case("database growth: ENOSPC once", DbGrowth, Full, 1, GoesOn),
        case("database growth: short for a while", DbGrowth, Short, LASTING, GoesOn),
        case("database sync: EIO", DbSync, Io, 1, Fails),
        case("database sync: 200 ms", DbSync, Slow(SLOW), 1, Waits),
    ]
};

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Injection {
    /// All that is drawn is drawn from it.
    pub seed: u64,
    /// Each fault strikes at each of the first so many calls of its kind, and then at fewer and fewer.
    pub first: u64,
    /// How many are tried beyond those.
    pub beyond: u32,
}

/// A row of the result.
#[derive(Clone, Debug)]
pub struct Line {
    /// What failed.
    pub name: &'static str,
    /// While what was done.
    pub during: &'static str,
    /// How often it was armed.
    pub armed: u64,
    /// How often it struck: a run may not make so many calls.
    pub struck: u64,
    /// Writes acknowledged in those runs.
    pub won: usize,
    /// Writes refused.
    pub refused: usize,
    /// Writes whose outcome was said to be unknown.
    pub unknown: usize,
    /// What was seen in the files afterwards.
    pub tally: Tally,
    /// What it was documented to do, and did.
    pub did: String,
}

impl Injection {
    /// Runs it; each line is given to `done` as it is ready.
    ///
    /// # Errors
    /// What went otherwise than documented: the fault, its place and the seed.
    pub fn run(&self, mut done: impl FnMut(&Line)) -> Result<Vec<Line>, String> {
        let mut lines = Vec::new();
        for case in CASES {
            let line = self.case(&case)?;
            done(&line);
            lines.push(line);
            let line = self.open(&case)?;
            if line.struck > 0 {
                done(&line);
                lines.push(line);
            }
        }
        Ok(lines)
    }

    fn places(&self, case: &Case) -> Vec<u64> {
        let first = match case.effect {
            // A slow one takes its time.
            Effect::Slow(_) => self.first.min(3),
            Effect::Io | Effect::HalfThenIo | Effect::Full | Effect::Short | Effect::Lie => self.first,
        };
        let beyond = (1..=self.beyond).map(|step| first + (1_u64 << step.min(40)) * 5);
        (1..=first).chain(beyond).collect()
    }

    fn case(&self, case: &Case) -> Result<Line, String> {
        let mut line = Line::new(case.name, case.documented);
        for nth in self.places(case) {
            let seed = Rng::with_seed(self.seed ^ nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..);
            let fault = Fault { point: case.point, nth, lasting: case.lasting, effect: case.effect };
            let run = run(&Workload::small(seed), Some(fault));
            line.armed += 1;
            if run.fired.is_empty() {
                continue;
            }
            line.struck += 1;
            line.won += run.history.count(Answer::Won);
            line.refused += run.history.count(Answer::Refused);
            line.unknown += run.history.count(Answer::Unknown);
            let found = behaved(case.documented, &run).and_then(|()| {
                consistent(&run, seed, &mut line.tally).map_err(|violation| violation.to_string())
            });
            found.map_err(|error| {
                format!("{}, at call {nth}, seed {} (workload {seed}): {error}", case.name, self.seed)
            })?;
        }
        Ok(line)
    }

    /// The same faults while a log is opened that a process left behind.
    fn open(&self, case: &Case) -> Result<Line, String> {
        let mut line = Line::new(case.name, case.documented);
        line.during = "open";
        line.did = "opens, or says why not; the next open finds all".into();
        let run = run(&Workload::small(self.seed), None);
        let at = run.worked;
        let cut = run.recording.cut(at);
        for nth in self.places(case) {
            let left = cut.as_it_is();
            let folder = cuts::put(&left);
            let disk = Disk::watch(folder.path());
            disk.arm(Some(Fault { point: case.point, nth, lasting: case.lasting, effect: case.effect }));
            line.armed += 1;
            let opened = SqliteStore::open(folder.path().join(File::Db.name()), Default::default());
            disk.arm(None);
            if disk.fired().is_empty() {
                continue;
            }
            line.struck += 1;
            let look = || {
                if let Ok(store) = opened {
                    check::look(&store, &run.history, at)?;
                }
                let image = Recording { base: left.files, record: disk.record() };
                let image = image.cut(image.record.len()).image(&mut Rng::with_seed(nth));
                let seen = check::look(&check::open(folder.path())?, &run.history, at)?;
                line.tally.image(&image, seen);
                let folder = cuts::put(&image);
                line.tally.image(&image, check::look(&check::open(folder.path())?, &run.history, at)?);
                Ok(())
            };
            look().map_err(|violation: check::Violation| {
                format!("{} while opening, at call {nth}, seed {}: {violation}", case.name, self.seed)
            })?;
        }
        Ok(line)
    }
}

/// Whether the store did what it is documented to do.
fn behaved(documented: Documented, run: &Run) -> Result<(), String> {
    let answers = &run.history.answers;
    let struck = run.fired[0];
    if struck >= run.worked && !run.failed {
        // While it was closed, when nobody asks any more.
        return Ok(());
    }
    let documented = match documented {
        Documented::FailsOrGoesOn if run.failed => Documented::Fails,
        Documented::FailsOrGoesOn => Documented::GoesOn,
        documented => documented,
    };
    let wrong = |wrong: &str| Err(wrong.to_owned());
    if documented == Documented::Fails {
        if !run.failed {
            return wrong("its owner was not told");
        }
        if run.after.reads || run.after.writes {
            return wrong("it still answers");
        }
        let first = answers.iter().position(|answer| *answer == Answer::Unknown).unwrap_or(answers.len());
        if answers[first..].iter().any(|answer| *answer != Answer::Unknown) {
            return wrong("after an unknown outcome there was a known one");
        }
        // Half a write is part of the fault.
        return if run.recording.record.len() > struck + 1 {
            wrong("the files were changed after the fault")
        } else {
            Ok(())
        };
    }
    if run.failed || !run.after.reads || !run.after.writes {
        return wrong("it failed");
    }
    if answers.contains(&Answer::Unknown) {
        return wrong("it says that it does not know");
    }
    let refused = answers.iter().rposition(|answer| *answer == Answer::Refused);
    match (documented, refused) {
        (Documented::Refuses, Some(last)) if answers[last..].contains(&Answer::Won) => Ok(()),
        (Documented::Refuses, Some(_)) => wrong("nothing was written after it refused"),
        // Nobody waits for rows to be moved, and they are moved later.
        (Documented::Refuses, None) if run.unmoved > 0 || run.history.purging(struck + 1) => Ok(()),
        (Documented::Refuses, None) => wrong("it refused nothing"),
        (Documented::GoesOn | Documented::Waits, Some(_)) => wrong("it refused a write"),
        (Documented::Waits, None) => {
            // What was answered while the sync had not ended must have been durable by an earlier one.
            let folder = cuts::put(&run.recording.cut(struck).as_synced());
            let found = check::open(folder.path()).and_then(|log| check::look(&log, &run.history, struck));
            found.map(drop).map_err(|violation| format!("it answered before the sync was done: {violation}"))
        }
        (Documented::GoesOn | Documented::Fails | Documented::FailsOrGoesOn, _) => Ok(()),
    }
}

/// Whether the files hold what was answered: as they are, after a power cut, and after a restart and a power cut;
/// at the end, and while the fault is fresh.
fn consistent(run: &Run, seed: u64, tally: &mut Tally) -> Result<(), check::Violation> {
    let mut rng = Rng::with_seed(seed);
    let end = run.recording.record.len();
    let fresh = rng.usize(run.fired[0]..=end.min(run.fired[0] + 3));
    for at in [fresh, end] {
        let cut = run.recording.cut(at);
        for image in 0..2 {
            cuts::open((run, &cut, at), image, &mut rng, tally)?;
        }
        cuts::restart((run, &cut, at), None, &mut rng, tally)?;
    }
    Ok(())
}

impl Line {
    fn new(name: &'static str, documented: Documented) -> Self {
        let did = match documented {
            Documented::Fails => "unknown from there on; the owner is told; files left alone",
            Documented::Refuses => "refused; reads go on; later writes succeed",
            Documented::GoesOn => "nobody notices",
            Documented::Waits => "answered after it, not before",
            Documented::FailsOrGoesOn => "the writer: unknown from there on; a reader: that read fails",
        };
        let tally = Tally::default();
        Self {
            name,
            during: "work",
            armed: 0,
            struck: 0,
            won: 0,
            refused: 0,
            unknown: 0,
            tally,
            did: did.to_owned(),
        }
    }
}

/// The head of the table.
pub const HEAD: &str = "fault                              during  struck acknowledged  refused  unknown   images  what the store did";

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, during, struck, won, refused, unknown, tally, did, .. } = self;
        write!(
            f,
            "{name:<35}{during:<6}{struck:>8}{won:>13}{refused:>9}{unknown:>9}{:>9}  {did}",
            tally.images
        )
    }
}
