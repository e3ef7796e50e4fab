//! One run: a workload on a disk that remembers, and what is left to look at.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tcc_core::{Store as _, Timestamp};
use tcc_server::store::SqliteStore;
use tempfile::TempDir;

use crate::disk::{Disk, Effect, Fault, File};
use crate::history::History;
use crate::image::Recording;
use crate::lab::{Lab, wait};
use crate::workload::Workload;

/// What a run left.
pub struct Run {
    /// The disk, call by call.
    pub recording: Recording,
    /// What was asked and answered.
    pub history: History,
    /// How much had happened when the store was open.
    pub opened: usize,
    /// How much had happened when the last transaction was done; what follows is the close.
    pub worked: usize,
    /// Where faults struck.
    pub fired: Vec<usize>,
    /// Whether the store said that it failed.
    pub failed: bool,
    /// Checkpoints made by then.
    pub checkpoints: u64,
    /// Times there was no room to move rows from the journal into the table.
    pub unmoved: u64,
    /// What the store answered once the workload was over: whether it can be read, and whether written.
    pub after: After,
}

/// What a store still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// Whether it can be read.
    pub reads: bool,
    /// Whether it takes a purge, which changes it.
    pub writes: bool,
}

/// A folder for logs: in memory where there is such a place, for durability is what the record says.
///
/// # Panics
/// When none can be made.
#[must_use]
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("tcc-storage-").tempdir_in(place).expect("a folder")
}

/// Runs a workload on a new log, with a fault that may strike once the log is open.
///
/// # Panics
/// When the new log does not open.
#[must_use]
pub fn run(workload: &Workload, fault: Option<Fault>) -> Run {
    let folder = folder();
    let path: PathBuf = folder.path().canonicalize().expect("the folder");
    let disk = Disk::watch(&path);
    // A lie begins with the first call; a failure is looked for once the log is open.
    disk.arm(fault.filter(|fault| fault.effect == Effect::Lie));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let seen = runtime.block_on(async {
        let store = SqliteStore::open(path.join(File::Db.name()), workload.options()).expect("a new log");
        let failed = store.failed();
        let opened = disk.position();
        disk.arm(fault);
        let lab = Arc::new(Lab::new(store, Arc::clone(&disk)));
        workload.run(&lab, &path).await;
        disk.open_gate();
        // The purge comes first: by the time it is answered the writer is done with what came before.
        let nothing = Timestamp::from_millis(0);
        let writes = wait(lab.inner().purge(nothing, nothing, 1)).is_ok();
        let reads = wait(lab.inner().counts()).is_ok();
        let failed = tokio::time::timeout(Duration::ZERO, failed).await.is_ok();
        let stats = lab.inner().stats();
        (lab.history(), opened, disk.position(), failed, stats, After { reads, writes })
    });
    // With it goes the store, which empties its WAL if it is well.
    drop(runtime);
    let (history, opened, worked, failed, stats, after) = seen;
    let (checkpoints, unmoved) = (stats.checkpoints, stats.unmoved);
    let recording = Recording { base: Default::default(), record: disk.record() };
    Run { recording, history, opened, worked, fired: disk.fired(), failed, checkpoints, unmoved, after }
}
