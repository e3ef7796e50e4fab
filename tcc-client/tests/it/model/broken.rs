//! Guard adapters with a mistake in them, to prove that the model would see it.

use std::collections::BTreeSet;
use std::time::Duration;

use tcc_client::{BoxError, Call, Commit, Database, Row, Timestamp, Trouble};
use tokio::time::sleep;

use crate::banks::{Bank, Books};

/// A bank whose adapter makes one mistake, or none.
#[derive(Clone)]
pub(super) struct Broken<B: Bank> {
    bank: B,
    mistake: Option<Mistake>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    /// An empty cancel leaves no row, so it does not bar its try.
    ForgetsCancels,
    /// A refusal leaves no row.
    ForgetsRefusals,
    /// A reply is not kept for repeats.
    ForgetsReplies,
    /// Says that it inserted a row where there was one.
    InsertsTwice,
    /// Commits what the method wrote before, and apart from, what becomes of the guard row.
    CommitsApart,
    /// Keys its rows by transaction alone.
    OneBranchOnly,
    /// Reads the row without a lock. To be seen only where two units are at work at once.
    ReadsUnlocked,
    /// Deletes rows, and keeps no mark.
    ForgetsTheMark,
    /// Deletes the rows begun at the mark too.
    ForgetsTooMuch,
    /// Commits that rows are deleted before it keeps the mark.
    ForgetsTooSoon,
}

impl Mistake {
    pub(super) const ALL: [Self; 10] = [
        Self::ForgetsCancels,
        Self::ForgetsRefusals,
        Self::ForgetsReplies,
        Self::InsertsTwice,
        Self::CommitsApart,
        Self::OneBranchOnly,
        Self::ReadsUnlocked,
        Self::ForgetsTheMark,
        Self::ForgetsTooMuch,
        Self::ForgetsTooSoon,
    ];
}

pub(super) struct BrokenTx<B: Bank> {
    /// Empty only when the second of two transactions could not begin.
    tx: Option<<B::Database as Database>::Tx>,
    broken: Broken<B>,
}

impl<B: Bank> Broken<B> {
    pub(super) fn new(bank: &B, mistake: Option<Mistake>) -> Self {
        Self { bank: bank.clone(), mistake }
    }
}

impl<B: Bank> BrokenTx<B> {
    fn tx(&mut self) -> Result<&mut <B::Database as Database>::Tx, BoxError> {
        self.tx.as_mut().ok_or_else(|| "no transaction".into())
    }

    /// The call as the adapter keys it.
    fn keyed(&self, call: &Call) -> Call {
        let mut call = call.clone();
        if self.broken.mistake == Some(Mistake::OneBranchOnly) {
            call.branch = "b0".parse().unwrap();
        }
        call
    }
}

fn here(call: &Call) -> String {
    format!("FROM tcc_guard WHERE gid = '{}' AND branch = '{}'", call.gid, call.branch)
}

impl<B: Bank> Database for Broken<B> {
    type Tx = BrokenTx<B>;

    async fn begin(&self) -> Result<BrokenTx<B>, BoxError> {
        Ok(BrokenTx { tx: Some(self.bank.database().begin().await?), broken: self.clone() })
    }

    async fn insert(tx: &mut BrokenTx<B>, call: &Call, row: &Row) -> Result<bool, BoxError> {
        let (call, mistake) = (tx.keyed(call), tx.broken.mistake);
        let inserted = B::Database::insert(tx.tx()?, &call, row).await?;
        let forgets = match row {
            Row::Cancelled => mistake == Some(Mistake::ForgetsCancels),
            Row::Refused { .. } => mistake == Some(Mistake::ForgetsRefusals),
            Row::Tried { .. } | Row::Confirmed { .. } => false,
        };
        if inserted && forgets {
            B::statement(tx.tx()?, &format!("DELETE {}", here(&call))).await?;
        }
        Ok(inserted || mistake == Some(Mistake::InsertsTwice))
    }

    async fn load(tx: &mut BrokenTx<B>, call: &Call) -> Result<Option<Row>, BoxError> {
        let call = tx.keyed(call);
        if tx.broken.mistake != Some(Mistake::ReadsUnlocked) {
            return B::Database::load(tx.tx()?, &call).await;
        }
        // As if over the transaction's own connection, which has to be alive for that.
        B::statement(tx.tx()?, "SELECT 1").await?;
        let columns = format!("SELECT state || '|' || COALESCE(kept, '') {}", here(&call));
        let Some(columns) = tx.broken.bank.query(&columns).await.pop() else { return Ok(None) };
        let (state, kept) = columns.split_once('|').expect("two columns");
        Ok(Some(Row::from_columns(state, (!kept.is_empty()).then(|| kept.to_owned()))?))
    }

    async fn set(tx: &mut BrokenTx<B>, call: &Call, row: &Row) -> Result<(), BoxError> {
        let call = tx.keyed(call);
        if tx.broken.mistake == Some(Mistake::CommitsApart)
            && let Some(first) = tx.tx.take()
        {
            B::Database::commit(first).await?;
            tx.tx = Some(tx.broken.bank.database().begin().await?);
        }
        let forgets = tx.broken.mistake == Some(Mistake::ForgetsReplies) && matches!(row, Row::Tried { .. });
        let row = if forgets { &Row::Tried { reply: None } } else { row };
        B::Database::set(tx.tx()?, &call, row).await
    }

    async fn settled(tx: &mut BrokenTx<B>) -> Result<Option<Timestamp>, BoxError> {
        B::Database::settled(tx.tx()?).await
    }

    async fn forget(tx: &mut BrokenTx<B>, settled: Timestamp, most: u32) -> Result<u32, BoxError> {
        let mark = settled.as_millis();
        match tx.broken.mistake {
            Some(Mistake::ForgetsTheMark) => {
                B::statement(tx.tx()?, &format!("DELETE FROM tcc_guard WHERE begun < {mark}")).await?;
                return Ok(0);
            }
            Some(Mistake::ForgetsTooMuch) => {
                B::statement(tx.tx()?, &format!("DELETE FROM tcc_guard WHERE begun <= {mark}")).await?;
            }
            Some(Mistake::ForgetsTooSoon) => {
                B::statement(tx.tx()?, &format!("DELETE FROM tcc_guard WHERE begun < {mark}")).await?;
                B::Database::commit(tx.tx.take().ok_or("no transaction")?).await?;
                sleep(Duration::from_millis(5)).await;
                tx.tx = Some(tx.broken.bank.database().begin().await?);
            }
            Some(_) | None => {}
        }
        B::Database::forget(tx.tx()?, settled, most).await
    }

    async fn commit(tx: BrokenTx<B>) -> Result<Commit, BoxError> {
        B::Database::commit(tx.tx.ok_or("no transaction")?).await
    }

    async fn rollback(tx: BrokenTx<B>) -> Result<(), BoxError> {
        B::Database::rollback(tx.tx.ok_or("no transaction")?).await
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

impl<B: Bank> Bank for Broken<B> {
    type Database = Self;

    const PREPARES: bool = B::PREPARES;

    fn database(&self) -> Self {
        self.clone()
    }

    fn place(&self) -> String {
        self.bank.place()
    }

    async fn at(place: &str) -> Self {
        Self::new(&B::at(place).await, None)
    }

    async fn move_money(
        tx: &mut BrokenTx<B>,
        call: &Call,
        account: &str,
        by: Books,
    ) -> Result<bool, BoxError> {
        B::move_money(tx.tx()?, call, account, by).await
    }

    async fn statement(tx: &mut BrokenTx<B>, sql: &str) -> Result<(), BoxError> {
        B::statement(tx.tx()?, sql).await
    }

    async fn execute(&self, sql: &str) {
        self.bank.execute(sql).await;
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        self.bank.query(sql).await
    }

    async fn killing(tx: &mut BrokenTx<B>) -> Result<Option<String>, BoxError> {
        B::killing(tx.tx()?).await
    }

    async fn served(&self) -> BTreeSet<String> {
        self.bank.served().await
    }
}
