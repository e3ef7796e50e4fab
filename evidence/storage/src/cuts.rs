//! The campaign of power cuts: many runs, each cut at many moments, each cut with many images.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use fastrand::Rng;
use tempfile::TempDir;

use crate::check::{self, Seen, Violation};
use crate::disk::{Disk, Fault, File, Op};
use crate::image::{Cut, Image, Recording};
use crate::run::{Run, folder, run};
use crate::workload::Workload;

/// Cuts of one run: more than one, for a run takes as long as a hundred images.
const CUTS_PER_RUN: usize = 25;
/// Cuts of one recovery.
const RECOVERY_CUTS: usize = 3;

/// What is done.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// All that is drawn is drawn from it.
    pub seed: u64,
    /// How often the power is cut.
    pub cuts: usize,
    /// Images of each cut.
    pub images: usize,
    /// How many threads work.
    pub threads: usize,
    /// Only this run of them.
    pub only: Option<usize>,
    /// What the disk does wrong in the runs, to see that it is seen.
    pub fault: Option<Fault>,
    /// What it does wrong when a process is started again.
    pub restart_fault: Option<Fault>,
}

/// A situation that must have come up, or the campaign has shown nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Situation {
    /// Cut while a new log was made.
    Opening,
    /// Cut between a write to the WAL and its sync.
    BetweenWriteAndSync,
    /// A frame of the WAL made it in part.
    TornFrame,
    /// Cut while a checkpoint wrote to the database.
    InCheckpoint,
    /// A page of the database made it in part.
    TornPage,
    /// Cut after the WAL was begun anew or cut off, before that was durable.
    WalRestarts,
    /// Cut while a purge was writing.
    InPurge,
    /// Cut while the store was closed.
    Closing,
    /// Cut again while the store was opened after a cut.
    InRecovery,
    /// The same, while its checkpoint wrote to the database.
    InRecoveryCheckpoint,
    /// Cut after the process had died and the next one had shown what it found.
    Restarted,
    /// A write that was not acknowledged is there.
    Arrived,
    /// A write that was not acknowledged is not there.
    Vanished,
    /// A purged row is there without its document.
    Purged,
}

impl Situation {
    const ALL: [(Self, &str); 14] = [
        (Self::Opening, "cut while a new log was made"),
        (Self::BetweenWriteAndSync, "cut between a write to the WAL and its sync"),
        (Self::TornFrame, "image with a torn frame of the WAL"),
        (Self::InCheckpoint, "cut while a checkpoint wrote to the database"),
        (Self::TornPage, "image with a torn page of the database"),
        (Self::WalRestarts, "cut while the WAL was begun anew"),
        (Self::InPurge, "cut while a purge was writing"),
        (Self::Closing, "cut while the store was closed"),
        (Self::InRecovery, "cut again while the store was opened"),
        (Self::InRecoveryCheckpoint, "cut again while that wrote to the database"),
        (Self::Restarted, "cut after a restart had shown what it found"),
        (Self::Arrived, "image with a write that was not acknowledged"),
        (Self::Vanished, "image without a write that was on its way"),
        (Self::Purged, "image with a purged row"),
    ];
}

/// What was done and seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Cuts, those of recoveries not counted.
    pub cuts: u64,
    /// Images opened, those of recoveries counted.
    pub images: u64,
    /// Writes offered in all runs.
    pub offered: u64,
    /// Transactions looked for in an image because a write of theirs was acknowledged.
    pub acked: u64,
    /// Pieces of writes, at most a sector each, that were not synced and were lost.
    pub lost: u64,
    /// Those that were not synced and made it.
    pub kept: u64,
    /// How often each situation came up.
    pub situations: BTreeMap<Situation, u64>,
}

/// Where a promise was broken.
#[derive(Debug, thiserror::Error)]
#[error("run {run} (seed {seed}), cut after {at} calls, image {image}: {violation}")]
pub struct Broken {
    /// The number of the run.
    pub run: usize,
    /// Its seed.
    pub seed: u64,
    /// The cut.
    pub at: usize,
    /// The number of the image.
    pub image: usize,
    /// Which promise.
    pub violation: Violation,
}

impl Campaign {
    /// Runs it.
    ///
    /// # Errors
    /// The first promise that was broken, in the order of the runs.
    ///
    /// # Panics
    /// When a thread does.
    pub fn run(&self) -> Result<Tally, Box<Broken>> {
        let runs: Vec<usize> = match self.only {
            Some(number) => vec![number],
            None => (0..self.cuts.div_ceil(CUTS_PER_RUN)).collect(),
        };
        let (next, stopped) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let results: Mutex<BTreeMap<usize, Result<Tally, Box<Broken>>>> = Mutex::default();
        thread::scope(|scope| {
            for _ in 0..self.threads.clamp(1, runs.len()) {
                scope.spawn(|| {
                    while let Some(number) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if *number > stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        let result = self.one(*number);
                        if result.is_err() {
                            stopped.fetch_min(*number, Ordering::Relaxed);
                        }
                        results.lock().unwrap_or_else(PoisonError::into_inner).insert(*number, result);
                    }
                });
            }
        });
        let mut tally = Tally::default();
        for result in results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
            tally += &result?;
        }
        Ok(tally)
    }

    /// One run and all its cuts.
    fn one(&self, number: usize) -> Result<Tally, Box<Broken>> {
        let seed = Rng::with_seed(self.seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..);
        let mut rng = Rng::with_seed(seed);
        let run = run(&Workload::draw(seed), self.fault);
        let mut tally = Tally { runs: 1, offered: run.history.offers.len() as u64, ..Tally::default() };
        let cuts = CUTS_PER_RUN.min(self.cuts - number * CUTS_PER_RUN);
        let places = Places::of(&run);
        for turn in 0..cuts {
            let at = places.draw(turn, &run, &mut rng);
            let cut = run.recording.cut(at);
            tally.cut(&run, &cut, at);
            let broken =
                |image| move |violation| Box::new(Broken { run: number, seed, at, image, violation });
            for image in 0..self.images {
                open((&run, &cut, at), image, &mut rng, &mut tally).map_err(broken(image))?;
            }
            restart((&run, &cut, at), self.restart_fault, &mut rng, &mut tally)
                .map_err(broken(self.images))?;
        }
        Ok(tally)
    }
}

/// One image. The first of each cut is cut again while it is opened; with the second the work goes on.
pub(crate) fn open(
    (run, cut, at): (&Run, &Cut<'_>, usize),
    number: usize,
    rng: &mut Rng,
    tally: &mut Tally,
) -> Result<(), Violation> {
    let image = cut.image(rng);
    let folder = put(&image);
    let disk = (number == 0).then(|| Disk::watch(folder.path()));
    let store = check::open(folder.path())?;
    tally.image(&image, check::look(&store, &run.history, at)?);
    if number == 1 {
        check::go_on(&store, &run.history, at)?;
        drop(store);
        drop(check::open(folder.path())?);
    } else {
        drop(store);
    }
    let Some(disk) = disk else { return Ok(()) };
    let recovery = Recording { base: image.files, record: disk.record() };
    for _ in 0..RECOVERY_CUTS {
        let again = recovery.cut(rng.usize(0..=recovery.record.len()));
        tally.note(Situation::InRecovery);
        if again.is_pending(File::Db) {
            tally.note(Situation::InRecoveryCheckpoint);
        }
        let image = again.image(rng);
        let folder = put(&image);
        let store = check::open(folder.path())?;
        tally.image(&image, check::look(&store, &run.history, at)?);
    }
    Ok(())
}

/// The process dies, the next one shows what it finds, and then the power is cut: what was shown must be there, for
/// somebody may have acted on it.
pub(crate) fn restart(
    (run, cut, at): (&Run, &Cut<'_>, usize),
    fault: Option<Fault>,
    rng: &mut Rng,
    tally: &mut Tally,
) -> Result<(), Violation> {
    let folder = put(&cut.as_it_is());
    let disk = Disk::watch(folder.path());
    disk.arm(fault);
    let store = check::open(folder.path())?;
    let shown = check::rows(&store)?;
    check::look(&store, &run.history, at)?;
    let opened = disk.position();
    drop(store);
    tally.note(Situation::Restarted);
    for forgets in [false, true] {
        let record = disk.record();
        let closed = record.len();
        let recording = cut.went_on(record, forgets);
        let before = recording.record.len() - closed;
        let again = recording.cut(before + rng.usize(opened..=closed));
        let image = again.image(rng);
        let folder = put(&image);
        let store = check::open(folder.path())?;
        tally.image(&image, check::look(&store, &run.history, at)?);
        check::same(&shown, &check::rows(&store)?)?;
    }
    Ok(())
}

pub(crate) fn put(image: &Image) -> TempDir {
    let folder = folder();
    image.write(folder.path()).expect("room for an image");
    folder
}

/// Moments worth a cut: drawn from all of them alike, most would fall between two frames of a commit.
struct Places {
    kinds: Vec<Vec<usize>>,
}

impl Places {
    fn of(run: &Run) -> Self {
        let record = &run.recording.record;
        let after =
            |is: &dyn Fn(usize) -> bool| (1..=record.len()).filter(|at| is(at - 1)).collect::<Vec<_>>();
        let wal = |at: usize| record[at].file == File::Wal;
        let synced_next = |at: usize| {
            record.get(at + 1).is_some_and(|next| matches!(next.op, Op::Sync { .. })) && wal(at + 1)
        };
        let kinds = vec![
            (0..=record.len()).collect(),
            (0..=run.opened).collect(),
            (run.worked..=record.len()).collect(),
            after(&|at| record[at].file == File::Db && matches!(record[at].op, Op::Write { .. })),
            after(&|at| wal(at) && matches!(record[at].op, Op::Write { .. }) && synced_next(at)),
            after(&|at| wal(at) && matches!(record[at].op, Op::Sync { .. })),
            after(&|at| {
                at >= run.opened
                    && wal(at)
                    && matches!(record[at].op, Op::Write { offset: 0, .. } | Op::Truncate { .. })
            }),
            after(&|at| run.history.purging(at + 1) && wal(at) && matches!(record[at].op, Op::Write { .. })),
        ];
        Self { kinds }
    }

    /// Every second one anywhere, the others of each kind in turn.
    fn draw(&self, turn: usize, run: &Run, rng: &mut Rng) -> usize {
        let kind = if turn.is_multiple_of(2) { 0 } else { 1 + turn / 2 % (self.kinds.len() - 1) };
        rng.choice(&self.kinds[kind]).copied().unwrap_or_else(|| rng.usize(0..=run.recording.record.len()))
    }
}

impl Tally {
    fn note(&mut self, situation: Situation) {
        *self.situations.entry(situation).or_default() += 1;
    }

    fn cut(&mut self, run: &Run, cut: &Cut<'_>, at: usize) {
        self.cuts += 1;
        let wal = cut.is_pending(File::Wal);
        for (situation, is) in [
            (Situation::Opening, at < run.opened),
            (Situation::Closing, at > run.worked),
            (Situation::BetweenWriteAndSync, wal),
            (Situation::InCheckpoint, at > run.opened && cut.is_pending(File::Db)),
            (Situation::WalRestarts, cut.wal_restarts()),
            (Situation::InPurge, wal && run.history.purging(at)),
        ] {
            if is {
                self.note(situation);
            }
        }
    }

    pub(crate) fn image(&mut self, image: &Image, seen: Seen) {
        self.images += 1;
        self.acked += seen.acked as u64;
        self.lost += image.lost as u64;
        self.kept += image.kept as u64;
        for (situation, count) in [
            (Situation::TornFrame, image.torn_frames),
            (Situation::TornPage, image.torn_pages),
            (Situation::Arrived, seen.arrived),
            (Situation::Vanished, seen.vanished),
            (Situation::Purged, seen.purged),
        ] {
            if count > 0 {
                self.note(situation);
            }
        }
    }

    /// What should have come up and did not.
    #[must_use]
    pub fn never(&self) -> Vec<&'static str> {
        let never = |(situation, _): &&(Situation, _)| !self.situations.contains_key(situation);
        Situation::ALL.iter().filter(never).map(|(_, name)| *name).collect()
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.runs += other.runs;
        self.cuts += other.cuts;
        self.images += other.images;
        self.offered += other.offered;
        self.acked += other.acked;
        self.lost += other.lost;
        self.kept += other.kept;
        for (situation, count) in &other.situations {
            *self.situations.entry(*situation).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            (self.runs, "runs"),
            (self.offered, "writes offered in them"),
            (self.cuts, "power cuts"),
            (self.images, "images opened"),
            (self.acked, "acknowledged transactions looked for and found in them"),
            (self.lost, "pieces of writes lost that were not synced"),
            (self.kept, "pieces of writes kept that were not synced"),
        ];
        for (number, what) in numbers {
            writeln!(f, "{number:>10}  {what}")?;
        }
        for (situation, name) in Situation::ALL {
            writeln!(f, "{:>10}  {name}", self.situations.get(&situation).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}
