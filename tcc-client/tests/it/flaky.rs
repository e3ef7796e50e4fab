//! A bank whose local transactions go wrong, each at a moment that a test chooses.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tcc_client::{BoxError, Call, Columns, Commit, Database, Dialect, Row, SqlDatabase, Timestamp, Trouble};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::banks::{Bank, Books};

#[derive(Clone)]
pub(crate) struct Flaky<B: Bank> {
    bank: B,
    shared: Arc<Shared>,
}

/// What becomes of the next unit that comes as far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    Well,
    /// The commit fails, and is known to have.
    Conflict,
    /// It is committed, and nobody says so.
    AnswerLost,
    /// It is not committed, and nobody says so.
    CommitLost,
    /// The connection dies before the first statement of the guard.
    KilledFirst,
    /// The connection dies when the method has written and its guard row has not moved on.
    KilledHalfway,
    /// The connection dies while it commits, before or after.
    KilledCommitting,
    /// The caller leaves once the unit has begun. The database does not notice.
    HungUp,
}

struct Shared {
    fate: Mutex<Fate>,
    away: AtomicBool,
    /// How many steps of units this process has left to live.
    life: Option<Arc<AtomicUsize>>,
    begun: Arc<Semaphore>,
    turned_away: Semaphore,
    gone: Arc<Semaphore>,
}

pub(crate) struct FlakyTx<B: Bank> {
    /// Empty once its connection is lost.
    tx: Option<<B::Database as Database>::Tx>,
    flaky: Flaky<B>,
}

impl<B: Bank> Flaky<B> {
    pub(crate) fn new(bank: &B) -> Self {
        Self::with_life(bank, None)
    }

    /// One that ends the process at a step of one of its units, without a word to anybody.
    pub(crate) fn mortal(bank: &B, steps: Arc<AtomicUsize>) -> Self {
        Self::with_life(bank, Some(steps))
    }

    fn with_life(bank: &B, life: Option<Arc<AtomicUsize>>) -> Self {
        let (begun, gone) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (fate, away) = (Mutex::new(Fate::Well), AtomicBool::new(false));
        let turned_away = Semaphore::new(0);
        let shared = Shared { fate, away, life, begun, turned_away, gone };
        Self { bank: bank.clone(), shared: shared.into() }
    }

    pub(crate) fn next(&self, fate: Fate) {
        *self.shared.fate.lock().unwrap() = fate;
    }

    /// Whether nobody can connect, from now on.
    pub(crate) fn away(&self, away: bool) {
        self.shared.away.store(away, Ordering::SeqCst);
    }

    /// Has a permit for each time that somebody could not connect.
    pub(crate) fn turned_away(&self) -> &Semaphore {
        &self.shared.turned_away
    }

    /// Has a permit for each unit that has begun.
    pub(crate) fn begun(&self) -> Arc<Semaphore> {
        self.shared.begun.clone()
    }

    /// Has a permit once nothing uses this bank any more, its units included.
    pub(crate) fn gone(&self) -> Arc<Semaphore> {
        self.shared.gone.clone()
    }

    fn strikes(&self, fate: Fate) -> bool {
        let mut next = self.shared.fate.lock().unwrap();
        let strikes = *next == fate;
        if strikes {
            *next = Fate::Well;
        }
        strikes
    }

    fn step(&self) {
        if let Some(life) = &self.shared.life
            && life.fetch_sub(1, Ordering::SeqCst) == 1
        {
            std::process::abort();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.gone.add_permits(1);
    }
}

impl<B: Bank> FlakyTx<B> {
    fn tx(&mut self) -> Result<&mut <B::Database as Database>::Tx, BoxError> {
        self.tx.as_mut().ok_or_else(lost)
    }

    /// Ends the connection; in PostgreSQL the adapter has to find that out by itself.
    async fn kill(&mut self) -> Result<(), BoxError> {
        match B::killing(self.tx()?).await? {
            Some(sql) => self.flaky.bank.execute(&sql).await,
            None => drop(self.tx.take()),
        }
        Ok(())
    }
}

fn lost() -> BoxError {
    "secret: the connection was reset".into()
}

impl<B: Bank> Database for Flaky<B> {
    type Tx = FlakyTx<B>;

    async fn begin(&self) -> Result<FlakyTx<B>, BoxError> {
        if self.shared.away.load(Ordering::SeqCst) {
            self.shared.turned_away.add_permits(1);
            return Err("secret: the connection was refused".into());
        }
        let tx = self.bank.database().begin().await?;
        self.step();
        self.shared.begun.add_permits(1);
        Ok(FlakyTx { tx: Some(tx), flaky: self.clone() })
    }

    async fn insert(tx: &mut FlakyTx<B>, call: &Call, row: &Row) -> Result<bool, BoxError> {
        if tx.flaky.strikes(Fate::KilledFirst) {
            tx.kill().await?;
        }
        let inserted = B::Database::insert(tx.tx()?, call, row).await;
        tx.flaky.step();
        inserted
    }

    async fn load(tx: &mut FlakyTx<B>, call: &Call) -> Result<Option<Row>, BoxError> {
        if tx.flaky.strikes(Fate::KilledFirst) {
            tx.kill().await?;
        }
        let loaded = B::Database::load(tx.tx()?, call).await;
        tx.flaky.step();
        loaded
    }

    async fn set(tx: &mut FlakyTx<B>, call: &Call, row: &Row) -> Result<(), BoxError> {
        tx.flaky.step();
        if tx.flaky.strikes(Fate::KilledHalfway) {
            tx.kill().await?;
        }
        B::Database::set(tx.tx()?, call, row).await
    }

    async fn settled(tx: &mut FlakyTx<B>) -> Result<Option<Timestamp>, BoxError> {
        let settled = B::Database::settled(tx.tx()?).await;
        tx.flaky.step();
        settled
    }

    async fn forget(tx: &mut FlakyTx<B>, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        B::Database::forget(tx.tx()?, settled, most).await
    }

    async fn commit(tx: FlakyTx<B>) -> Result<Commit, BoxError> {
        let FlakyTx { tx, flaky } = tx;
        let mut tx = tx.ok_or_else(lost)?;
        flaky.step();
        let fate = std::mem::replace(&mut *flaky.shared.fate.lock().unwrap(), Fate::Well);
        let committed = match fate {
            Fate::AnswerLost => match B::Database::commit(tx).await? {
                Commit::Committed => Err(lost()),
                // Where there are no locks, much may have changed. It comes to the next commit.
                other => {
                    flaky.next(fate);
                    Ok(other)
                }
            },
            Fate::CommitLost => Err(lost()),
            Fate::Conflict => {
                B::Database::rollback(tx).await?;
                Ok(Commit::Conflict)
            }
            Fate::KilledCommitting => match B::killing(&mut tx).await? {
                Some(sql) => {
                    // Now the one and now the other comes first.
                    let committing = async {
                        for _ in 0..fastrand::u8(..8) {
                            yield_now().await;
                        }
                        B::Database::commit(tx).await
                    };
                    tokio::join!(committing, flaky.bank.execute(&sql)).0
                }
                None => Err(lost()),
            },
            Fate::Well | Fate::KilledFirst | Fate::KilledHalfway | Fate::HungUp => {
                B::Database::commit(tx).await
            }
        };
        flaky.step();
        committed
    }

    async fn rollback(tx: FlakyTx<B>) -> Result<(), BoxError> {
        B::Database::rollback(tx.tx.ok_or_else(lost)?).await
    }

    fn trouble(error: &BoxError) -> Trouble {
        B::Database::trouble(error)
    }

    async fn run<F>(&self, unit: F) -> Result<F::Output, BoxError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.bank.database().run(unit).await
    }
}

impl<B: Bank> SqlDatabase for Flaky<B>
where
    B::Database: SqlDatabase,
{
    const DIALECT: Dialect = B::Database::DIALECT;

    async fn execute(tx: &mut FlakyTx<B>, sql: String) -> Result<u64, BoxError> {
        B::Database::execute(tx.tx()?, sql).await
    }

    async fn query(tx: &mut FlakyTx<B>, sql: String) -> Result<Vec<Columns>, BoxError> {
        B::Database::query(tx.tx()?, sql).await
    }
}

impl<B: Bank> Bank for Flaky<B> {
    type Database = Self;

    const PREPARES: bool = B::PREPARES;

    fn database(&self) -> Self {
        self.clone()
    }

    fn place(&self) -> String {
        self.bank.place()
    }

    async fn at(place: &str) -> Self {
        Self::new(&B::at(place).await)
    }

    async fn move_money(
        tx: &mut FlakyTx<B>,
        call: &Call,
        account: &str,
        by: Books,
    ) -> Result<bool, BoxError> {
        B::move_money(tx.tx()?, call, account, by).await
    }

    async fn statement(tx: &mut FlakyTx<B>, sql: &str) -> Result<(), BoxError> {
        B::statement(tx.tx()?, sql).await
    }

    async fn execute(&self, sql: &str) {
        self.bank.execute(sql).await;
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        self.bank.query(sql).await
    }

    async fn killing(tx: &mut FlakyTx<B>) -> Result<Option<String>, BoxError> {
        B::killing(tx.tx()?).await
    }

    async fn served(&self) -> BTreeSet<String> {
        self.bank.served().await
    }
}
