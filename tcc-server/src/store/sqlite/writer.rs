//! Writing: one thread with the one connection that writes, which also checkpoints.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use rusqlite::{Connection, ErrorCode, params};
use tcc_core::store::{Refusal, Subscription, Unavailable, Unknown, Write, Written};
use tcc_core::{Gid, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::super::group::{Answer, Group};
use super::claims::Claims;
use super::fresh::{Entry, Fresh};
use super::journal::{self, Found, Journal};
use super::rows::{self, Held, Image, Outcome, Recent, Tally, index};
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
    fresh: Arc<Fresh>,
    recent: Recent,
    /// What the table shows; the rest is in the journal.
    table: Tally,
    journal: Journal,
    wal: Wal,
    /// Writes in the last commit.
    last_group: usize,
}

/// A row of a batch that is to be written.
struct Staged {
    /// Which write of the batch.
    write: usize,
    held: Held,
    /// What the table shows of it.
    table: Option<Image>,
}

/// Which rows are moved from the journal into the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those that have ended, or were not written since rows were moved the last time: most likely they will not be
    /// written again soon.
    AtRest,
    All,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        options: SqliteOptions,
        clock: Clock,
        claims: Arc<Mutex<Claims>>,
        meter: Arc<StoreMeter>,
        failed: watch::Sender<Option<Failure>>,
        found: Found,
    ) -> Self {
        connection.set_prepared_statement_cache_capacity(32);
        Self {
            connection,
            options,
            clock,
            claims,
            meter,
            failed,
            fresh: found.fresh,
            recent: Recent::default(),
            table: found.table,
            journal: found.journal,
            wal: Wal::default(),
            last_group: 0,
        }
    }

    /// Works until the store is dropped, then leaves everything in the table and the WAL empty.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let at_rest = self.fresh.rows().is_empty();
            let patience = if at_rest { self.options.idle } else { self.options.settle };
            match jobs.recv_timeout(patience) {
                Ok(job) => {
                    self.work(job, jobs);
                    self.tend(|wal, connection, options| wal.tend(connection, options.wal_bytes));
                }
                Err(RecvTimeoutError::Timeout) if at_rest => {
                    self.tend(|wal, connection, _| wal.empty(connection));
                }
                Err(RecvTimeoutError::Timeout) => drop(self.settle(Which::All)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = self.settle(Which::All);
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
                    let written = self.commit(writes);
                    group.tell(written);
                    if self.journal.is_long(self.options.settle) {
                        // Nobody waits for it; a full disk is told of when there is no room for a commit.
                        let _ = self.settle(Which::AtRest);
                    }
                }
            }
        }
    }

    fn commit(&mut self, batch: Vec<Write>) -> Result<Vec<Written>, Unknown> {
        self.has_not_failed().map_err(|failure| Unknown(failure.into()))?;
        self.try_commit(batch).map_err(|error| Unknown(self.fail(error).into()))
    }

    /// One entry of the journal for the whole batch.
    ///
    /// # Errors
    /// Whatever leaves unclear what became durable.
    fn try_commit(&mut self, batch: Vec<Write>) -> rusqlite::Result<Vec<Written>> {
        let (outcomes, staged) = self.stage(&batch)?;
        if !staged.is_empty() {
            let claims: Vec<_> =
                staged.iter().map(|staged| (staged.held.id, batch[staged.write].claim)).collect();
            // Claimed before others can see the row, and let go after they see what became of it.
            self.claim(&claims, Claims::take_only);
            let begun = Instant::now();
            let rows = staged.iter().map(|staged| (staged.held.id, &batch[staged.write].row));
            let entry = journal::encode(self.clock.now(), rows);
            let at = match self.journal.append(&self.connection, &entry, staged.len()) {
                Ok(at) => at,
                Err(error) if is_full(&error) => return self.full(outcomes, error),
                Err(error) => return Err(error),
            };
            self.meter.commits.took(begun.elapsed());
            self.meter.rows.held(staged.len());
            self.wal.note(staged.len(), entry.len());
            self.publish(batch, &staged, at);
            self.claim(&claims, Claims::take_or_release);
        }
        Ok(outcomes.into_iter().map(Written::from).collect())
    }

    /// What becomes of each write, if the rows that are to be written become durable.
    fn stage(&mut self, batch: &[Write]) -> rusqlite::Result<(Vec<Outcome>, Vec<Staged>)> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut staged: Vec<Staged> = Vec::with_capacity(batch.len());
        let mut of_batch: HashMap<&Gid, usize> = HashMap::default();
        for (number, write) in batch.iter().enumerate() {
            let row = &write.row;
            let (held, table) = match of_batch.get(&row.gid) {
                Some(&before) => (Some(staged[before].held), staged[before].table),
                None => self.look(&row.gid)?,
            };
            outcomes.push(match held {
                Some(held) if held.is(row) => Outcome::Again,
                held if held.map(|held| held.version()) != write.replaces => Outcome::Lost,
                held => match rows::flaw(row) {
                    Some(refusal) => Outcome::Refused(refusal),
                    None => {
                        let id = held.map_or_else(|| self.journal.new_id(), |held| held.id);
                        of_batch.insert(&row.gid, staged.len());
                        staged.push(Staged { write: number, held: Held::of(id, row), table });
                        Outcome::Changed
                    }
                },
            });
        }
        Ok((outcomes, staged))
    }

    /// What is held of a gid, and what the table shows of it.
    fn look(&self, gid: &Gid) -> rusqlite::Result<(Option<Held>, Option<Image>)> {
        if let Some(entry) = self.fresh.rows().get(gid) {
            return Ok((Some(entry.held()), entry.table));
        }
        let held = match self.recent.get(gid) {
            Some(held) => Some(held),
            None => Held::load(&self.connection, gid)?,
        };
        Ok((held, held.map(|held| held.image)))
    }

    /// Shows what has become durable.
    fn publish(&mut self, batch: Vec<Write>, staged: &[Staged], at: i64) {
        let mut fresh = self.fresh.rows();
        let mut staged = staged.iter().peekable();
        for (number, write) in batch.into_iter().enumerate() {
            if let Some(Staged { held, table, .. }) = staged.next_if(|staged| staged.write == number) {
                self.recent.remove(&write.row.gid);
                fresh.put(Entry { id: held.id, row: Arc::new(write.row), table: *table, at });
            }
        }
    }

    /// The disk was full before the frame that commits was written whole, so nothing was committed. Looks before it
    /// says so.
    fn full(&mut self, outcomes: Vec<Outcome>, error: rusqlite::Error) -> rusqlite::Result<Vec<Written>> {
        self.roll_back()?;
        if self.journal.holds_more(&self.connection)? {
            return Err(error);
        }
        self.wal.make_room(&self.connection)?;
        let written = |outcome| match outcome {
            Outcome::Changed => Written::Refused(Refusal::Full),
            Outcome::Again | Outcome::Lost | Outcome::Refused(_) => Written::from(outcome),
        };
        Ok(outcomes.into_iter().map(written).collect())
    }

    /// Moves rows from the journal into the table.
    fn settle(&mut self, which: Which) -> Result<(), Unavailable> {
        self.has_not_failed().map_err(|failure| Unavailable(failure.into()))?;
        let at_rest = |entry: &Entry| entry.row.ended_at.is_some() || !self.journal.is_recent(entry.at);
        let (mut moved, kept): (Vec<Entry>, Vec<Entry>) =
            self.fresh.rows().entries().cloned().partition(|entry| which == Which::All || at_rest(entry));
        // In their order, each finds its place next to the one before.
        moved.sort_unstable_by_key(|entry| entry.id);
        match self.transact_move(&moved, &kept) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                self.meter.unmoved.one();
                return Err(self.undo_move(&moved, error));
            }
            Err(error) => return Err(Unavailable(self.fail(error).into())),
        }
        let mut fresh = self.fresh.rows();
        for Entry { id, row, .. } in &moved {
            fresh.remove(&row.gid);
            if row.ended_at.is_none() {
                self.recent.note(&row.gid, Held::of(*id, row));
            }
        }
        Ok(())
    }

    /// The journal has made them durable: if this is lost with the power, they are moved again.
    fn transact_move(&mut self, moved: &[Entry], kept: &[Entry]) -> rusqlite::Result<()> {
        let mut tally = self.table;
        self.sql("BEGIN IMMEDIATE")?;
        for Entry { id, row, table, .. } in moved {
            rows::put(&self.connection, *id, row, *table)?;
            if let Some(image) = table {
                tally.remove(*image);
            }
            tally.add(Image::of(row));
        }
        let first_at = self.journal.cut(&self.connection, kept.iter().map(|entry| entry.at).min())?;
        tally.save(&self.connection, self.clock.now())?;
        self.sql("COMMIT")?;
        self.table = tally;
        self.journal.moved(kept.len(), first_at);
        self.meter.moves.one();
        self.wal.note(moved.len(), moved.iter().map(|entry| entry.row.document.len()).sum());
        Ok(())
    }

    /// As [`full`](Self::full): looks whether any was moved before it says that none was.
    fn undo_move(&mut self, moved: &[Entry], error: rusqlite::Error) -> Unavailable {
        let undo = || {
            self.roll_back()?;
            let Some(Entry { row, .. }) = moved.first() else { return Ok(false) };
            Ok(Held::load(&self.connection, &row.gid)?.is_some_and(|held| held.is(row)))
        };
        match undo() {
            Ok(true) => Unavailable(self.fail(error).into()),
            Ok(false) => match self.wal.make_room(&self.connection) {
                Ok(()) => Unavailable(error.into()),
                Err(error) => Unavailable(self.fail(error).into()),
            },
            Err(error) => Unavailable(self.fail(error).into()),
        }
    }

    fn purge(&mut self, purge: &Purge) -> Result<usize, Unavailable> {
        self.has_not_failed().map_err(|failure| Unavailable(failure.into()))?;
        self.settle_for(purge)?;
        match self.transact_purge(purge) {
            Ok(touched) => Ok(touched),
            Err(error) if is_full(&error) => match self.roll_back() {
                Ok(()) => Err(Unavailable(error.into())),
                Err(error) => Err(Unavailable(self.fail(error).into())),
            },
            Err(error) => Err(Unavailable(self.fail(error).into())),
        }
    }

    /// Has the table show what is to be purged. What is to be forgotten must not stand in the journal any more, which would
    /// bring it back.
    fn settle_for(&mut self, purge: &Purge) -> Result<(), Unavailable> {
        let forgets =
            || self.connection.prepare_cached(FORGETTABLE)?.exists([purge.forget_before.as_millis()]);
        let forgets = forgets().map_err(|error| Unavailable(self.fail(error).into()))?;
        if forgets {
            return if self.journal.is_empty() { Ok(()) } else { self.settle(Which::All) };
        }
        let ended = |entry: &Entry| entry.row.ended_at.is_some_and(|ended| ended < purge.ended_before);
        let behind = self.fresh.rows().entries().any(ended);
        if behind { self.settle(Which::AtRest) } else { Ok(()) }
    }

    fn transact_purge(&mut self, purge: &Purge) -> rusqlite::Result<usize> {
        let mut tally = self.table;
        let limit = index(purge.limit);
        self.sql("BEGIN IMMEDIATE")?;
        let forgotten = self
            .connection
            .prepare_cached(FORGET)?
            .execute(params![purge.forget_before.as_millis(), limit])?;
        let ended: Vec<(i64, Image)> = self
            .connection
            .prepare_cached(ENDED)?
            .query_map(params![purge.ended_before.as_millis(), limit], |found| {
                Ok((
                    found.get(0)?,
                    Image { phase: rows::number(rows::phase(found, 1)?), attention: found.get(2)? },
                ))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (id, image) in &ended {
            self.connection.prepare_cached(EMPTY)?.execute([id])?;
            tally.remove(*image);
        }
        let touched = forgotten + ended.len();
        if touched == 0 {
            self.sql("ROLLBACK")?;
            return Ok(0);
        }
        self.save(tally)?;
        let mut fresh = self.fresh.rows();
        ended.iter().for_each(|(_, image)| fresh.tally.remove(*image));
        drop(fresh);
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
        self.save(self.table)?;
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
        self.table = tally;
        Ok(())
    }

    fn claim(
        &self,
        claimed: &[(i64, Option<Duration>)],
        how: fn(&mut Claims, i64, Timestamp, Option<Timestamp>),
    ) {
        let now = self.clock.now();
        let mut claims: MutexGuard<'_, Claims> = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, lease) in claimed {
            how(&mut claims, *id, now, lease.map(|lease| now + lease));
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

const FORGETTABLE: &str = "SELECT 1 FROM transactions WHERE ended_at < ? AND document IS NULL LIMIT 1";

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
            Outcome::Changed | Outcome::Again => Self::Won,
            Outcome::Lost => Self::Lost,
            Outcome::Refused(refusal) => Self::Refused(refusal),
        }
    }
}
