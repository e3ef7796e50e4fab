//! A participant's own database: local transactions with row locks, in memory, and everything that can befall them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tcc_client::{BoxError, Call, Commit, Database, Row, Trouble, limits};
use tcc_core::{BranchId, Gid, Operation, Timestamp};
use tokio::time::{Instant, sleep};

use crate::book::{Fact, number};
use crate::business::{ACCOUNTS, Account, Work};
use crate::fault::{Fault, Rare};
use crate::log::Who;
use crate::setup::Break;
use crate::world::{World, lock};

/// A database. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Db {
    world: Weak<World>,
    pub(crate) number: usize,
    state: Arc<Mutex<State>>,
}

struct State {
    /// One more with each crash; a transaction of an earlier one is gone.
    epoch: u64,
    guard: HashMap<Key, Kept>,
    accounts: [Account; ACCOUNTS],
    locked: HashSet<Lock>,
    settled: Timestamp,
}

/// The key of a guard row.
type Key = (Gid, BranchId);

#[derive(Clone)]
struct Kept {
    row: Row,
    begun: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Lock {
    Guard(Key),
    Account(usize),
}

/// A local transaction. Nothing of it is seen before its commit; dropped, it never was.
pub(crate) struct Tx {
    db: Db,
    epoch: u64,
    locks: Vec<Lock>,
    guard: Option<(Key, Kept)>,
    account: Option<(usize, Account)>,
    effect: Option<(usize, BranchId, Operation)>,
}

/// What goes wrong in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    Locked,
    Connection,
    Statement,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Failed {}

impl Db {
    pub(crate) fn new(world: Weak<World>, number: usize) -> Self {
        let state = State {
            epoch: 0,
            guard: HashMap::new(),
            accounts: [Account::new(); ACCOUNTS],
            locked: HashSet::new(),
            settled: Timestamp::from_millis(i64::MIN),
        };
        Self { world, number, state: Arc::new(Mutex::new(state)) }
    }

    /// The world, which outlives its databases.
    pub(crate) fn world(&self) -> Arc<World> {
        self.world.upgrade().expect("a database in a world")
    }

    /// Crashes: what is not committed is gone, and so are its locks.
    pub(crate) fn crash(&self) {
        let mut state = lock(&self.state);
        state.epoch += 1;
        state.locked.clear();
    }

    /// How many times it has crashed.
    pub(crate) fn epoch(&self) -> u64 {
        lock(&self.state).epoch
    }

    /// The accounts, as committed.
    pub(crate) fn accounts(&self) -> [Account; ACCOUNTS] {
        lock(&self.state).accounts
    }

    /// Forgets the guard rows of transactions begun before the watermark, as every guard may that remembers the
    /// mark in their place: a request may be in the network for longer than the coordinator remembers, so what a
    /// late try says of the mark itself proves nothing.
    pub(crate) fn forget(&self, settled: Timestamp) {
        let mut state = lock(&self.state);
        if settled <= state.settled {
            return;
        }
        state.settled = settled;
        let before = state.guard.len();
        let State { guard, locked, .. } = &mut *state;
        guard.retain(|key, kept| kept.begun >= settled || locked.contains(&Lock::Guard(key.clone())));
        let forgotten = before - guard.len();
        drop(state);
        if forgotten > 0 {
            let world = self.world();
            world.saw(Rare::GuardForgot);
            world.note(Who::Participant(self.number), None, "forgot guard rows", || forgotten.to_string());
        }
    }

    /// The watermark it went by last.
    pub(crate) fn settled(&self) -> Timestamp {
        lock(&self.state).settled
    }

    /// What the guard row of a branch says, as committed.
    pub(crate) fn guard_row(&self, gid: &Gid, branch: &BranchId) -> Option<Row> {
        lock(&self.state).guard.get(&(gid.clone(), branch.clone())).map(|kept| kept.row.clone())
    }

    /// The guard row of a branch; one that is forgotten stands for all that it could have said: there is nothing
    /// to confirm, nothing to cancel, and a try comes too late.
    fn row(&self, key: &Key, begun: Timestamp) -> Option<Row> {
        let state = lock(&self.state);
        let forgotten = begun < state.settled && !self.world().breaks(Break::MarkForgotten);
        let kept = state.guard.get(key).map(|kept| kept.row.clone());
        kept.or_else(|| forgotten.then(|| Row::Refused { reason: "forgotten".to_owned() }))
    }

    /// Begins a transaction.
    pub(crate) fn open(&self) -> Tx {
        let epoch = self.epoch();
        Tx { db: self.clone(), epoch, locks: Vec::new(), guard: None, account: None, effect: None }
    }
}

impl Tx {
    /// The world of its database.
    pub(crate) fn world(&self) -> Arc<World> {
        self.db.world()
    }

    /// Does a piece of business within this transaction; the inner `Err` says why it will not be done.
    pub(crate) async fn work(
        &mut self,
        call: &Call,
        operation: Operation,
        work: Work,
    ) -> Result<Result<(), &'static str>, BoxError> {
        let world = self.db.world();
        self.lock(Lock::Account(work.row)).await?;
        if world.strikes(Fault::ParticipantSlow) {
            sleep(world.millis(200..12_000)).await;
        }
        if world.strikes(Fault::LocalFails) {
            return Err(Failed::Statement.into());
        }
        let account = lock(&self.db.state).accounts[work.row];
        match account.after(operation, work) {
            Err(why) => Ok(Err(why)),
            Ok(after) => {
                self.account = Some((work.row, after));
                self.effect = Some((number(&call.gid), call.branch.clone(), operation));
                Ok(Ok(()))
            }
        }
    }

    async fn lock(&mut self, wanted: Lock) -> Result<(), Failed> {
        if self.locks.contains(&wanted) {
            return Ok(());
        }
        let until = Instant::now() + limits::LOCK_WAIT;
        loop {
            {
                let mut state = lock(&self.db.state);
                if state.epoch != self.epoch {
                    return Err(Failed::Connection);
                }
                if state.locked.insert(wanted.clone()) {
                    drop(state);
                    self.locks.push(wanted);
                    return Ok(());
                }
            }
            if Instant::now() >= until {
                return Err(Failed::Locked);
            }
            let world = self.db.world();
            sleep(world.millis(2..30)).await;
        }
    }

    /// Makes it durable, unless the database crashed since it began.
    fn apply(&mut self) -> Result<(), Failed> {
        let world = self.db.world();
        let mut state = lock(&self.db.state);
        if state.epoch != self.epoch {
            return Err(Failed::Connection);
        }
        if world.breaks(Break::LocalCommitLost) && self.effect.is_some() && world.dice(|d| d.u32(0..50) == 0)
        {
            return Ok(());
        }
        let mut fact = None;
        if let Some((key, kept)) = self.guard.take() {
            if world.breaks(Break::GuardApart) && self.effect.is_some() && world.dice(|d| d.u32(0..10) == 0) {
                world.note(Who::Participant(self.db.number), None, "leaves the guard out", String::new);
            } else if world.breaks(Break::TombstoneDropped) && kept.row == Row::Cancelled {
                state.guard.remove(&key);
            } else {
                state.guard.insert(key.clone(), kept.clone());
            }
            fact = is_sender(&key).then(|| (number(&key.0), fact_of(&kept.row)));
        }
        let mut balances = true;
        if let Some((row, account)) = self.account.take() {
            state.accounts[row] = account;
            balances = account.balances();
        }
        drop(state);
        if let Some((case, fact)) = fact {
            let checked = lock(&world.book).fact(case, fact);
            world.hold(Some(case), checked);
        }
        if let Some((case, branch, operation)) = self.effect.take() {
            world.note(Who::Participant(self.db.number), Some(case), "committed", || {
                format!("{operation} of {branch}")
            });
            let checked = lock(&world.book).effect(case, &branch, operation);
            world.hold(Some(case), checked);
            let books = if balances {
                Ok(())
            } else {
                Err(format!("the books do not balance: {operation} of {branch}"))
            };
            world.hold(Some(case), books);
        }
        Ok(())
    }
}

/// Whether it is the row by which a sender's local transaction is known.
fn is_sender((_, branch): &Key) -> bool {
    branch.as_str() == "tcc/sender"
}

fn fact_of(row: &Row) -> Fact {
    if matches!(row, Row::Confirmed { .. }) { Fact::Committed } else { Fact::RolledBack }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let mut state = lock(&self.db.state);
        if state.epoch == self.epoch {
            for held in &self.locks {
                state.locked.remove(held);
            }
        }
    }
}

impl Database for Db {
    type Tx = Tx;

    async fn begin(&self) -> Result<Tx, BoxError> {
        Ok(self.open())
    }

    async fn insert(tx: &mut Tx, call: &Call, row: &Row) -> Result<bool, BoxError> {
        let world = tx.db.world();
        if world.strikes(Fault::LocalLocked) {
            sleep(limits::LOCK_WAIT).await;
            return Err(Failed::Locked.into());
        }
        let key = (call.gid.clone(), call.branch.clone());
        tx.lock(Lock::Guard(key.clone())).await?;
        if tx.db.row(&key, call.begun).is_some() {
            return Ok(false);
        }
        tx.guard = Some((key, Kept { row: row.clone(), begun: call.begun }));
        Ok(true)
    }

    async fn load(tx: &mut Tx, call: &Call) -> Result<Option<Row>, BoxError> {
        let key = (call.gid.clone(), call.branch.clone());
        tx.lock(Lock::Guard(key.clone())).await?;
        if let Some((own, kept)) = &tx.guard
            && *own == key
        {
            return Ok(Some(kept.row.clone()));
        }
        Ok(tx.db.row(&key, call.begun))
    }

    async fn set(tx: &mut Tx, call: &Call, row: &Row) -> Result<(), BoxError> {
        let key = (call.gid.clone(), call.branch.clone());
        tx.guard = Some((key, Kept { row: row.clone(), begun: call.begun }));
        Ok(())
    }

    async fn commit(mut tx: Tx) -> Result<Commit, BoxError> {
        let db = tx.db.clone();
        let world = db.world();
        if world.strikes(Fault::LocalConflict) {
            return Ok(Commit::Conflict);
        }
        if world.strikes(Fault::LocalUnknownNotWritten) {
            return Err(Failed::Connection.into());
        }
        if world.strikes(Fault::ParticipantCrashBefore) {
            world.services[db.number].crash(&world);
            return Err(Failed::Connection.into());
        }
        let hangs = world.strikes(Fault::LocalHangs);
        if hangs && world.dice(|dice| dice.bool()) {
            sleep(limits::FINISH + Duration::from_secs(1)).await;
            return Err(Failed::Connection.into());
        }
        tx.apply()?;
        if hangs {
            sleep(limits::FINISH + Duration::from_secs(1)).await;
        }
        if world.strikes(Fault::ParticipantCrashAfter) {
            world.services[db.number].crash(&world);
            return Err(Failed::Connection.into());
        }
        if world.strikes(Fault::LocalUnknownWritten) {
            return Err(Failed::Connection.into());
        }
        Ok(Commit::Committed)
    }

    async fn rollback(tx: Tx) -> Result<(), BoxError> {
        drop(tx);
        Ok(())
    }

    fn trouble(error: &BoxError) -> Trouble {
        match error.downcast_ref::<Failed>() {
            Some(Failed::Locked) => Trouble::Locked,
            Some(Failed::Connection | Failed::Statement) | None => Trouble::Other,
        }
    }
}
