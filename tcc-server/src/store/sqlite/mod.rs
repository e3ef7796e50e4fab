//! The log in one SQLite file, for one process.
//!
//! - One thread writes, a batch to a transaction, and checkpoints; a few threads read. No write ever waits for a
//!   read, nor a read for a write.
//! - A batch is one entry of a journal, in the same file; what rows came to is moved into their table later, many at a
//!   time. Until then they stand in memory too, and whoever reads the table looks there first.
//! - What is visible is durable: WAL with `synchronous=FULL` shows a commit after its fsync, and
//!   [`SqliteStore::open`] syncs whatever a crash left before it answers anything.
//! - A full disk is certain: the writes are refused, reads go on, and later writes succeed once there is room. Any
//!   other failure of a commit is not: the store answers [`Unknown`] from there on, and [`SqliteStore::failed`] tells
//!   its owner to end the process. The next one reads in the file what became of it.

mod claims;
mod file;
mod fresh;
mod journal;
mod reader;
mod rows;
mod subscribers;
mod wal;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tcc_core::store::{
    BoxFuture, Claimed, Counts, Filter, Listing, Page, Refusal, Row, Store, Subscription, Unavailable,
    Unknown, Write, Written,
};
use tcc_core::topic::Subscriber;
use tcc_core::{Gid, Timestamp, TopicName};
use tokio::sync::{Semaphore, oneshot, watch};

use self::claims::Claims;
use self::file::LogFile;
use self::fresh::Fresh;
use self::journal::Found;
use self::reader::Readers;
use self::writer::{Job, Purge, Task, Writer};
use crate::limits;
use crate::metrics::StoreMeter;

pub use self::file::OpenError;

/// How a file is used. None of it touches durability.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Threads that load rows.
    pub readers: usize,
    /// Bytes of WAL after which it is checkpointed.
    pub wal_bytes: u64,
    /// After so long without a write the WAL is emptied.
    pub idle: Duration,
    /// Writes after which rows are moved from the journal into the table, which costs the less the more they are.
    pub journal_writes: usize,
    /// How long rows may stand in the journal until then.
    pub settle: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: 2,
            wal_bytes: limits::WAL_BYTES,
            idle: limits::WAL_IDLE,
            journal_writes: limits::JOURNAL_WRITES,
            settle: limits::SETTLE,
        }
    }
}

/// A log in a SQLite file. Dropping it finishes what was asked, empties the WAL and lets go of the file.
pub struct SqliteStore {
    clock: Clock,
    claims: Arc<Mutex<Claims>>,
    fresh: Arc<Fresh>,
    meter: Arc<StoreMeter>,
    failed: watch::Receiver<Option<Failure>>,
    /// Those that look at one row, or at what is due.
    loads: Readers,
    /// The one that looks at many rows, so that no load waits behind it.
    lists: Readers,
    places: Arc<Semaphore>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    _file: LogFile,
}

impl SqliteStore {
    /// Opens a file, or creates it.
    ///
    /// # Errors
    /// [`OpenError`] names the file and the cause.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, OpenError> {
        let (file, connection) = LogFile::open(path.as_ref())?;
        let unreadable = |source| OpenError::Sqlite { doing: "read", path: file.path.clone(), source };
        let loads = (0..options.readers.max(1)).map(|_| file.reader()).collect::<Result<_, _>>()?;
        let lists = vec![file.reader()?];
        let thread_error = |source| OpenError::Thread { path: file.path.clone(), source };
        let loads = Readers::start("tcc-load", loads).map_err(thread_error)?;
        let lists = Readers::start("tcc-list", lists).map_err(thread_error)?;

        let found = Found::read(&connection, options.journal_writes).map_err(unreadable)?;
        let (clock, fresh) = (Clock::start(found.written_at), found.fresh.clone());
        let (claims, meter) = (Arc::default(), Arc::<StoreMeter>::default());
        let (failing, failed) = watch::channel(None);
        let (jobs, waiting) = mpsc::channel();
        let writer =
            Writer::new(connection, options, clock, Arc::clone(&claims), Arc::clone(&meter), failing, found);
        let writer = thread::Builder::new()
            .name("tcc-write".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(thread_error)?;
        Ok(Self {
            clock,
            claims,
            fresh,
            meter,
            failed,
            loads,
            lists,
            places: Arc::new(Semaphore::new(limits::STORE_JOBS)),
            jobs: Some(jobs),
            writer: Some(writer),
            _file: file,
        })
    }

    /// Waits until the file failed in a way that leaves unclear what it holds. From then on nothing is answered, and
    /// the process should end and be started again. Never comes if that never happens.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + use<> {
        let mut failed = self.failed.clone();
        async move {
            let failure = match failed.wait_for(Option::is_some).await {
                Ok(failure) => failure.clone(),
                Err(_) => None,
            };
            match failure {
                Some(failure) => failure,
                // The store was dropped in good order.
                None => std::future::pending().await,
            }
        }
    }

    /// What was done since it was opened.
    #[must_use]
    pub fn stats(&self) -> SqliteStats {
        SqliteStats {
            commits: self.meter.rows.count(),
            writes: self.meter.rows.sum(),
            moves: self.meter.moves.value(),
            unmoved: self.meter.unmoved.value(),
            checkpoints: self.meter.checkpoints.value(),
            wal_bytes: self.meter.wal_bytes.value(),
        }
    }

    /// What it counts, for [`Coordinator::meter`](crate::Coordinator::meter).
    #[must_use]
    pub fn meter(&self) -> Arc<StoreMeter> {
        self.meter.clone()
    }

    async fn ask<T>(&self, task: impl FnOnce(oneshot::Sender<T>) -> Task) -> Option<T> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        self.jobs.as_ref()?.send(Job { task: task(answer), _place: place }).ok()?;
        answered.await.ok()
    }

    fn readable(&self) -> Result<(), Unavailable> {
        match &*self.failed.borrow() {
            Some(failure) => Err(Unavailable(failure.clone().into())),
            None => Ok(()),
        }
    }
}

impl Store for SqliteStore {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        Box::pin(async move {
            let written = self.ask(|answer| Task::Commit(batch, answer)).await;
            written.unwrap_or_else(|| Err(Unknown("the writer is gone".into())))
        })
    }

    fn load<'a>(&'a self, gid: &'a Gid) -> BoxFuture<'a, Result<Option<Row>, Unavailable>> {
        Box::pin(async move {
            self.readable()?;
            if let Some(row) = self.fresh.load(gid) {
                return Ok(Some(row));
            }
            let gid = gid.clone();
            self.loads.read(move |connection| reader::load(connection, &gid)).await
        })
    }

    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        Box::pin(async move {
            self.readable()?;
            let (filter, fresh) = (filter.clone(), Arc::clone(&self.fresh));
            self.lists.read(move |connection| reader::list(connection, &fresh, &filter, &page)).await
        })
    }

    fn claim(&self, lease: Duration, limit: usize) -> BoxFuture<'_, Result<Claimed, Unavailable>> {
        Box::pin(async move {
            self.readable()?;
            let (claims, fresh, clock) = (Arc::clone(&self.claims), Arc::clone(&self.fresh), self.clock);
            let claim = move |connection: &_| {
                let now = clock.now();
                reader::claim(connection, &fresh, &claims, now, now + lease, limit)
            };
            self.loads.read(claim).await
        })
    }

    fn claim_parked<'a>(
        &'a self,
        destination: &'a str,
        lease: Duration,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, Unavailable>> {
        Box::pin(async move {
            self.readable()?;
            let (claims, fresh, clock) = (Arc::clone(&self.claims), Arc::clone(&self.fresh), self.clock);
            let destination = destination.to_owned();
            let claim = move |connection: &_| {
                let now = clock.now();
                reader::claim_parked(connection, &fresh, &claims, &destination, now, now + lease, limit)
            };
            self.loads.read(claim).await
        })
    }

    fn parked_at(&self, limit: usize) -> BoxFuture<'_, Result<Vec<String>, Unavailable>> {
        Box::pin(async move {
            self.readable()?;
            let fresh = Arc::clone(&self.fresh);
            self.loads.read(move |connection| reader::parked_at(connection, &fresh, limit)).await
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, Unavailable>> {
        Box::pin(async move {
            self.readable()?;
            let fresh = Arc::clone(&self.fresh);
            self.lists.read(move |connection| reader::counts(connection, &fresh)).await
        })
    }

    fn purge(
        &self,
        ended_before: Timestamp,
        forget_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>> {
        Box::pin(async move {
            let mut touched = 0;
            let mut left = limit;
            // A few rows at a time, so that commits find their way in between.
            while left > 0 {
                let purge = Purge { ended_before, forget_before, limit: left.min(limits::PURGE_STEP) };
                left -= purge.limit;
                let done = self.ask(|answer| Task::Purge(purge, answer)).await;
                match done.unwrap_or_else(|| Err(Unavailable("the writer is gone".into())))? {
                    0 => break,
                    done => touched += done,
                }
            }
            Ok(touched)
        })
    }

    fn subscribe(&self, change: Subscription) -> BoxFuture<'_, Result<Result<(), Refusal>, Unknown>> {
        Box::pin(async move {
            let done = self.ask(|answer| Task::Subscribe(change, answer)).await;
            done.unwrap_or_else(|| Err(Unknown("the writer is gone".into())))
        })
    }

    fn subscribers<'a>(
        &'a self,
        topic: Option<&'a TopicName>,
    ) -> BoxFuture<'a, Result<Vec<Subscriber>, Unavailable>> {
        Box::pin(async move {
            self.readable()?;
            let topic = topic.cloned();
            self.loads.read(move |connection| subscribers::read(connection, topic.as_ref())).await
        })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // It panicked: whoever waited for it has been told.
            let _ = writer.join();
        }
    }
}

/// Why a store does not answer any more.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log failed; what it holds is found out by starting again")]
pub struct Failure(#[source] Arc<rusqlite::Error>);

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// What a store did since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqliteStats {
    /// Transactions committed: each is one fsync of the WAL.
    pub commits: u64,
    /// Rows changed by them.
    pub writes: u64,
    /// Times rows were moved from the journal into the table: each is one fsync of the WAL.
    pub moves: u64,
    /// Times there was no room to do so; they are moved later.
    pub unmoved: u64,
    /// Checkpoints: each is an fsync of the WAL and one of the file.
    pub checkpoints: u64,
    /// Bytes in the WAL when last looked at.
    pub wal_bytes: u64,
}

/// Wall time when it was started, carried on by the monotonic clock: setting the system's clock moves no deadline
/// (C10). It never goes back, not even over a restart with a clock that was set back meanwhile: what the last process
/// left due would wait until the clock had caught up.
#[derive(Clone, Copy)]
struct Clock {
    wall: Timestamp,
    monotonic: Instant,
}

impl Clock {
    fn start(written_at: Timestamp) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: written_at.max(Timestamp::from_millis(0) + wall), monotonic: Instant::now() }
    }

    fn now(self) -> Timestamp {
        self.wall + self.monotonic.elapsed()
    }
}
