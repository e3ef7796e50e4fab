//! A disk that remembers every call, fails when it is told to, and lets the writer go on when it is told to.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rusqlite::ffi;

/// A file that outlives a power cut. The shared memory beside a WAL is not one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// The database.
    Db,
    /// Its write-ahead log.
    Wal,
    /// Its rollback journal: there only while a new file is switched to a WAL.
    Journal,
}

impl File {
    /// Every file.
    pub const ALL: [Self; 3] = [Self::Db, Self::Wal, Self::Journal];

    /// Its name in the folder of a log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Db => "log.db",
            Self::Wal => "log.db-wal",
            Self::Journal => "log.db-journal",
        }
    }
}

/// A call.
#[derive(Clone, Debug)]
pub enum Op {
    /// The file was not there and was opened.
    Create,
    /// Bytes were written.
    Write {
        /// Where.
        offset: u64,
        /// Which.
        bytes: Vec<u8>,
        /// Whether the file had to grow for it.
        grows: bool,
    },
    /// The file was cut to a size.
    Truncate {
        /// In bytes.
        size: u64,
    },
    /// All that happened to it before this place in the record became durable.
    Sync {
        /// The place.
        upto: usize,
    },
    /// It was removed.
    Delete {
        /// Whether the folder was synced.
        durable: bool,
    },
    /// The folder was synced: which files there are is durable, whatever they hold.
    SyncFolder,
    /// It was read; not recorded.
    Read,
}

/// What happened to which file.
#[derive(Clone, Debug)]
pub struct Event {
    /// The file.
    pub file: File,
    /// What happened.
    pub op: Op,
}

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A write to the WAL.
    WalWrite,
    /// A sync of the WAL.
    WalSync,
    /// The WAL is cut off.
    WalTruncate,
    /// A read of the WAL, by the writer or a reader.
    WalRead,
    /// A write to the database: a checkpoint.
    DbWrite,
    /// One of those for which the file has to grow.
    DbGrowth,
    /// A sync of the database.
    DbSync,
    /// What the store does to its files by itself, without SQLite. It can be ignored, as by a lie.
    Own,
}

impl Point {
    fn is(self, op: &Op, file: File) -> bool {
        match self {
            Self::WalWrite => file == File::Wal && matches!(op, Op::Write { .. }),
            Self::WalSync => file == File::Wal && matches!(op, Op::Sync { .. }),
            Self::WalTruncate => file == File::Wal && matches!(op, Op::Truncate { .. }),
            Self::WalRead => file == File::Wal && matches!(op, Op::Read),
            Self::DbWrite => file == File::Db && matches!(op, Op::Write { .. }),
            Self::DbGrowth => file == File::Db && matches!(op, Op::Write { grows: true, .. }),
            Self::DbSync => file == File::Db && matches!(op, Op::Sync { .. }),
            Self::Own => false,
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// EIO, and nothing was done.
    Io,
    /// EIO after half of a write.
    HalfThenIo,
    /// ENOSPC, and nothing was done.
    Full,
    /// ENOSPC after half of a write, as SQLite sees a short one.
    Short,
    /// It takes this long and then succeeds.
    Slow(Duration),
    /// It says it was done, and it was not.
    Lie,
}

/// A fault to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which calls.
    pub point: Point,
    /// The first that fails, counted from 1 once the fault is armed.
    pub nth: u64,
    /// How many fail from there on.
    pub lasting: u64,
    /// How.
    pub effect: Effect,
}

/// What a call is to do.
pub(crate) enum Verdict {
    Pass,
    Lie,
    Fail {
        code: i32,
        /// How many bytes of a write are done all the same.
        keep: usize,
    },
}

/// Whether calls that change files go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// Until the next commit is synced.
    OneCommit,
    Closed,
}

/// What was written to the WAL last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Written {
    #[default]
    Nothing,
    HeaderOfCommit,
    /// A whole commit, which its sync makes durable.
    Commit,
}

/// A folder that is watched.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Debug, Default)]
struct State {
    record: Vec<Event>,
    gate: Gate,
    written: Written,
    fault: Option<Fault>,
    /// Calls of the fault's kind since it was armed.
    calls: u64,
    fired: Vec<usize>,
}

static WATCHED: Mutex<Vec<Weak<Disk>>> = Mutex::new(Vec::new());
static DISKS: AtomicUsize = AtomicUsize::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Watches a folder for as long as somebody holds what this gives or has a file in it open.
    #[must_use]
    pub fn watch(folder: &Path) -> Arc<Self> {
        crate::shim::install();
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let disk = Arc::new(Self { folder, state: Mutex::default(), turn: Condvar::new() });
        let mut watched = lock(&WATCHED);
        watched.retain(|disk| disk.strong_count() > 0);
        watched.push(Arc::downgrade(&disk));
        DISKS.fetch_add(1, Ordering::Relaxed);
        disk
    }

    /// Whether anything is watched.
    pub(crate) fn any() -> bool {
        DISKS.load(Ordering::Relaxed) > 0
    }

    /// The disk that is this folder.
    pub(crate) fn at(folder: &Path) -> Option<Arc<Self>> {
        lock(&WATCHED).iter().filter_map(Weak::upgrade).find(|disk| disk.folder == folder)
    }

    /// The disk a path lies on, and which of its files it is.
    pub(crate) fn of(path: &Path) -> Option<(Arc<Self>, File)> {
        let name = path.file_name()?.to_str()?;
        let file = File::ALL.into_iter().find(|file| file.name() == name)?;
        Some((Self::at(path.parent()?)?, file))
    }

    /// How much has happened: a place in the record.
    #[must_use]
    pub fn position(&self) -> usize {
        lock(&self.state).record.len()
    }

    /// All that happened so far.
    #[must_use]
    pub fn record(&self) -> Vec<Event> {
        lock(&self.state).record.clone()
    }

    /// Lets every call go on.
    pub fn open_gate(&self) {
        self.set_gate(Gate::Open);
    }

    /// Holds back whoever is about to change a file, so that what happens in between happens in one order.
    pub fn close_gate(&self) {
        self.set_gate(Gate::Closed);
    }

    /// Lets calls go on until a commit is synced.
    pub fn let_one_commit(&self) {
        self.set_gate(Gate::OneCommit);
    }

    fn set_gate(&self, gate: Gate) {
        lock(&self.state).gate = gate;
        self.turn.notify_all();
    }

    /// Sets a fault to come, or none. Calls are counted from here.
    pub fn arm(&self, fault: Option<Fault>) {
        let mut state = lock(&self.state);
        (state.fault, state.calls) = (fault, 0);
    }

    /// Where in the record faults struck.
    #[must_use]
    pub fn fired(&self) -> Vec<usize> {
        lock(&self.state).fired.clone()
    }

    /// What is to become of a call.
    pub(crate) fn asked(&self, op: &Op, file: File) -> Verdict {
        let mut state = lock(&self.state);
        if !matches!(op, Op::Read) {
            state = self
                .turn
                .wait_while(state, |state| state.gate == Gate::Closed)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let Some(fault) = state.fault.filter(|fault| fault.point.is(op, file)) else { return Verdict::Pass };
        state.calls += 1;
        if state.calls < fault.nth || state.calls - fault.nth >= fault.lasting {
            return Verdict::Pass;
        }
        let position = state.record.len();
        state.fired.push(position);
        drop(state);
        let io = match op {
            Op::Write { .. } => ffi::SQLITE_IOERR_WRITE,
            Op::Sync { .. } => ffi::SQLITE_IOERR_FSYNC,
            Op::Truncate { .. } => ffi::SQLITE_IOERR_TRUNCATE,
            Op::Read => ffi::SQLITE_IOERR_READ,
            Op::Create | Op::Delete { .. } | Op::SyncFolder => ffi::SQLITE_IOERR,
        };
        let half = if let Op::Write { bytes, .. } = op { bytes.len() / 2 } else { 0 };
        match fault.effect {
            Effect::Io => Verdict::Fail { code: io, keep: 0 },
            Effect::HalfThenIo => Verdict::Fail { code: io, keep: half },
            Effect::Full => Verdict::Fail { code: ffi::SQLITE_FULL, keep: 0 },
            Effect::Short => Verdict::Fail { code: ffi::SQLITE_FULL, keep: half },
            Effect::Slow(length) => {
                thread::sleep(length);
                Verdict::Pass
            }
            Effect::Lie => Verdict::Lie,
        }
    }

    /// Notes what the store did by itself.
    pub(crate) fn own(&self, op: Op, file: File) {
        let ignored = lock(&self.state).fault.is_some_and(|fault| fault.point == Point::Own);
        if !ignored {
            self.happened(op, file);
        }
    }

    /// Notes what was done.
    pub(crate) fn happened(&self, op: Op, file: File) {
        let mut state = lock(&self.state);
        if file == File::Wal {
            match &op {
                // A frame is a header of 24 bytes and a page; the header of one that commits says how large the
                // database is then.
                Op::Write { bytes, .. } => {
                    let commits = bytes.len() == 24 && bytes[4..8] != [0; 4];
                    state.written = match (bytes.len(), state.written) {
                        (24, _) if commits => Written::HeaderOfCommit,
                        (4096, Written::HeaderOfCommit) => Written::Commit,
                        (_, Written::Nothing | Written::HeaderOfCommit | Written::Commit) => Written::Nothing,
                    };
                }
                // A WAL that is begun anew has its header synced, and a checkpoint syncs it too.
                Op::Sync { .. } if state.written == Written::Commit => {
                    state.written = Written::Nothing;
                    if state.gate == Gate::OneCommit {
                        state.gate = Gate::Closed;
                    }
                }
                Op::Create
                | Op::Truncate { .. }
                | Op::Sync { .. }
                | Op::Delete { .. }
                | Op::SyncFolder
                | Op::Read => {}
            }
        }
        state.record.push(Event { file, op });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        DISKS.fetch_sub(1, Ordering::Relaxed);
    }
}
