//! Writing: one thread with the one connection that writes, which also checkpoints.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, params};
use tcc_core::Timestamp;
use tcc_core::store::{Refusal, Subscription, Unavailable, Unknown, Write, Written};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::super::group::{Answer, Group};
use super::claims::Claims;
use super::rows::{self, Held, Outcome, Recent, Tally, index};
use super::subscribers;
use super::wal::Wal;
use super::{Clock, Failure, SqliteOptions};
use crate::limits;
use crate::metrics::StoreMeter;

/// What the thread is asked to do.
pub(super) struct Job {
    pub(super) task: Task,
    /// Its place in the queue, given up when it is taken up with others, or done.
    pub(super) _place: OwnedSemaphorePermit,
}

pub(super) enum Task {
    Commit(Vec<Write>, Answer),
    Purge(Purge, oneshot::Sender<Result<usize, Unavailable>>),
    Subscribe(Subscription, oneshot::Sender<Result<Result<(), Refusal>, Unknown>>),
}

pub(super) struct Purge {
    pub(super) ended_before: Timestamp,
    pub(super) forget_before: Timestamp,
    pub(super) limit: usize,
}

pub(super) struct Writer {
    connection: Connection,
    options: SqliteOptions,
    clock: Clock,
    claims: Arc<Mutex<Claims>>,
    meter: Arc<StoreMeter>,
    failed: watch::Sender<Option<Failure>>,
    tally: Tally,
    recent: Recent,
    wal: Wal,
    /// Writes in the last commit.
    last_group: usize,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        options: SqliteOptions,
        clock: Clock,
        claims: Arc<Mutex<Claims>>,
        meter: Arc<StoreMeter>,
        failed: watch::Sender<Option<Failure>>,
    ) -> rusqlite::Result<Self> {
        connection.set_prepared_statement_cache_capacity(32);
        let tally = Tally::load(&connection)?;
        Ok(Self {
            connection,
            options,
            clock,
            claims,
            meter,
            failed,
            tally,
            recent: Recent::default(),
            wal: Wal::default(),
            last_group: 0,
        })
    }

    /// Works until the store is dropped, then empties the WAL.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(self.options.idle) {
                Ok(job) => {
                    self.work(job, jobs);
                    self.tend(|wal, connection, options| wal.tend(connection, options.wal_bytes));
                }
                Err(RecvTimeoutError::Timeout) => self.tend(|wal, connection, _| wal.empty(connection)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.tend(|wal, connection, _| wal.empty(connection));
    }

    /// Does a job, with a commit all those that wait behind it: while one is on its way the next fills up, so the
    /// groups are as large as the disk is slow. Nobody who comes alone waits for others.
    fn work(&mut self, first: Job, jobs: &Receiver<Job>) {
        let mut next = Some(first);
        while let Some(Job { task, _place }) = next.take() {
            match task {
                Task::Purge(purge, answer) => {
                    // Whoever asked may have gone; what was asked is done all the same.
                    let _ = answer.send(self.purge(&purge));
                }
                Task::Subscribe(change, answer) => {
                    let _ = answer.send(self.subscribe(&change));
                }
                Task::Commit(batch, answer) => {
                    let mut group = Group::default();
                    group.add(batch, answer);
                    if self.last_group >= limits::GATHER_FROM {
                        // Those whom the last commit held up come again about now: together, they cost one sync.
                        thread::sleep(limits::GATHER);
                    }
                    while let Ok(job) = jobs.try_recv() {
                        match job.task {
                            Task::Commit(batch, answer) if group.has_room_for(&batch) => {
                                group.add(batch, answer)
                            }
                            task => {
                                next = Some(Job { task, ..job });
                                break;
                            }
                        }
                    }
                    let writes = group.take_writes();
                    self.last_group = writes.len();
                    let written = self.commit(&writes);
                    group.tell(written);
                }
            }
        }
    }

    fn commit(&mut self, batch: &[Write]) -> Result<Vec<Written>, Unknown> {
        self.has_not_failed().map_err(|failure| Unknown(failure.into()))?;
        self.try_commit(batch).map_err(|error| Unknown(self.fail(error).into()))
    }

    /// One transaction for the whole batch.
    ///
    /// # Errors
    /// Whatever leaves unclear what became durable.
    fn try_commit(&mut self, batch: &[Write]) -> rusqlite::Result<Vec<Written>> {
        let mut outcomes = Vec::with_capacity(batch.len());
        match self.transact(batch, &mut outcomes) {
            Ok(()) => Ok(outcomes.into_iter().map(Written::from).collect()),
            Err(error) => {
                self.recent.forget();
                if is_full(&error) { self.full(batch, &outcomes, error) } else { Err(error) }
            }
        }
    }

    fn transact(&mut self, batch: &[Write], outcomes: &mut Vec<Outcome>) -> rusqlite::Result<()> {
        let mut tally = self.tally;
        self.sql("BEGIN IMMEDIATE")?;
        for write in batch {
            outcomes.push(rows::write(&self.connection, write, &mut self.recent, &mut tally)?);
        }
        let changed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Changed(_))).count();
        if changed == 0 {
            return self.sql("ROLLBACK");
        }
        // Claimed before others can see the row, and let go after they see what became of it.
        self.claim(batch, outcomes, Claims::take_only);
        self.save(tally)?;
        self.claim(batch, outcomes, Claims::take_or_release);
        self.wal.note(changed, batch.iter().map(|write| write.row.document.len()).sum());
        self.meter.rows.held(changed);
        Ok(())
    }

    /// The disk was full before the frame that commits was written whole, so nothing was committed. Looks before it
    /// says so.
    fn full(
        &mut self,
        batch: &[Write],
        outcomes: &[Outcome],
        error: rusqlite::Error,
    ) -> rusqlite::Result<Vec<Written>> {
        self.roll_back()?;
        let mut written = Vec::with_capacity(batch.len());
        for (at, write) in batch.iter().enumerate() {
            let there = Held::load(&self.connection, &write.row.gid)?.is_some_and(|held| held.is(&write.row));
            written.push(match outcomes.get(at) {
                Some(Outcome::Changed(_)) if there => return Err(error),
                _ if there => Written::Won,
                _ => Written::Refused(Refusal::Full),
            });
        }
        self.wal.make_room(&self.connection)?;
        Ok(written)
    }

    fn purge(&mut self, purge: &Purge) -> Result<usize, Unavailable> {
        self.has_not_failed().map_err(|failure| Unavailable(failure.into()))?;
        match self.transact_purge(purge) {
            Ok(touched) => Ok(touched),
            Err(error) if is_full(&error) => match self.roll_back() {
                Ok(()) => Err(Unavailable(error.into())),
                Err(error) => Err(Unavailable(self.fail(error).into())),
            },
            Err(error) => Err(Unavailable(self.fail(error).into())),
        }
    }

    fn transact_purge(&mut self, purge: &Purge) -> rusqlite::Result<usize> {
        let mut tally = self.tally;
        let limit = index(purge.limit);
        self.sql("BEGIN IMMEDIATE")?;
        let forgotten = self
            .connection
            .prepare_cached(FORGET)?
            .execute(params![purge.forget_before.as_millis(), limit])?;
        let ended: Vec<(i64, usize, bool)> = self
            .connection
            .prepare_cached(ENDED)?
            .query_map(params![purge.ended_before.as_millis(), limit], |found| {
                Ok((found.get(0)?, rows::number(rows::phase(found, 1)?), found.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (id, phase, attention) in &ended {
            self.connection.prepare_cached(EMPTY)?.execute([id])?;
            tally.remove(*phase, *attention);
        }
        let touched = forgotten + ended.len();
        if touched == 0 {
            self.sql("ROLLBACK")?;
            return Ok(0);
        }
        self.save(tally)?;
        self.wal.note(touched, 0);
        self.meter.rows.held(touched);
        Ok(touched)
    }

    fn subscribe(&mut self, change: &Subscription) -> Result<Result<(), Refusal>, Unknown> {
        self.has_not_failed().map_err(|failure| Unknown(failure.into()))?;
        match self.transact_subscription(change) {
            Ok(()) => Ok(Ok(())),
            Err(error) if is_full(&error) => match self.undo_subscription(change, error) {
                Ok(()) => Ok(Err(Refusal::Full)),
                Err(error) => Err(Unknown(self.fail(error).into())),
            },
            Err(error) => Err(Unknown(self.fail(error).into())),
        }
    }

    fn transact_subscription(&mut self, change: &Subscription) -> rusqlite::Result<()> {
        self.sql("BEGIN IMMEDIATE")?;
        if !subscribers::change(&self.connection, change)? {
            return self.sql("ROLLBACK");
        }
        self.save(self.tally)?;
        self.wal.note(1, 0);
        self.meter.rows.held(1);
        Ok(())
    }

    /// As [`full`](Self::full): looks whether there is still something to change before it says that nothing was.
    fn undo_subscription(&mut self, change: &Subscription, error: rusqlite::Error) -> rusqlite::Result<()> {
        self.roll_back()?;
        if subscribers::stands(&self.connection, change)? {
            return Err(error);
        }
        self.wal.make_room(&self.connection)
    }

    /// Commits, with the tally.
    fn save(&mut self, tally: Tally) -> rusqlite::Result<()> {
        tally.save(&self.connection, self.clock.now())?;
        let begun = Instant::now();
        self.sql("COMMIT")?;
        self.meter.commits.took(begun.elapsed());
        self.tally = tally;
        Ok(())
    }

    fn claim(
        &self,
        batch: &[Write],
        outcomes: &[Outcome],
        how: fn(&mut Claims, i64, Timestamp, Option<Timestamp>),
    ) {
        let now = self.clock.now();
        let mut claims: MutexGuard<'_, Claims> = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        for (write, outcome) in batch.iter().zip(outcomes) {
            if let Outcome::Changed(id) = outcome {
                how(&mut claims, *id, now, write.claim.map(|lease| now + lease));
            }
        }
    }

    fn sql(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Some errors roll back by themselves.
    fn roll_back(&self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() { Ok(()) } else { self.sql("ROLLBACK") }
    }

    /// Looks after the WAL, unless the store has failed: then the next process is to find the files as they are.
    fn tend(&mut self, how: fn(&mut Wal, &Connection, &SqliteOptions) -> rusqlite::Result<()>) {
        if self.failed.borrow().is_some() {
            return;
        }
        if let Err(error) = how(&mut self.wal, &self.connection, &self.options) {
            self.fail(error);
        }
        self.meter.checkpoints.set(self.wal.checkpoints);
        self.meter.wal_bytes.set(self.wal.size);
    }

    fn has_not_failed(&self) -> Result<(), Failure> {
        self.failed.borrow().clone().map_or(Ok(()), Err)
    }

    /// From here on nothing is answered: what became of the last commit is for the next process to find out.
    fn fail(&self, error: rusqlite::Error) -> Failure {
        let failure = Failure::from(error);
        tracing::error!(error = ?failure, "the log failed");
        self.failed.send_replace(Some(failure.clone()));
        failure
    }
}

const FORGET: &str = "DELETE FROM transactions \
    WHERE id IN (SELECT id FROM transactions WHERE ended_at < ? AND document IS NULL ORDER BY ended_at LIMIT ?)";

const ENDED: &str = "SELECT id, phase, attention FROM transactions \
    WHERE ended_at < ? AND document IS NOT NULL ORDER BY ended_at LIMIT ?";

/// The version moves on, as with any write: who read the row before it was purged cannot bring it back.
const EMPTY: &str =
    "UPDATE transactions SET document = NULL, attention = 0, version = version + 1 WHERE id = ?";

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

impl From<Outcome> for Written {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Changed(_) | Outcome::Again => Self::Won,
            Outcome::Lost => Self::Lost,
            Outcome::Refused(refusal) => Self::Refused(refusal),
        }
    }
}
