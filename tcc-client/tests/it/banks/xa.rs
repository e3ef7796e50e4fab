//! A bank whose tries are prepared by its database.
//!
//! A try moves the money to where it is to be; nothing of it can be seen before it is confirmed. For the tests what is
//! prepared counts as tried: its row as `tried`, its money as reserved.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcc_client::{BoxError, Call, Dialect, Operation, Prepared, SqlDatabase, Xa, XaDatabase, XaTx};

use super::{Bank, Books, GuardRow, Open, Pooled};

#[cfg(feature = "mysql_async")]
pub(crate) type XaMysql = XaBank<super::Mysql>;
#[cfg(feature = "tokio-postgres")]
pub(crate) type XaPostgres = XaBank<super::Postgres>;

#[derive(Clone)]
pub(crate) struct XaBank<B: Bank<Database: XaDatabase>> {
    pub(crate) bank: B,
    pub(crate) xa: Xa<B::Database>,
}

/// What each try takes in the tests.
const CENTS: i64 = 10;

impl<B: Bank<Database: XaDatabase>> XaBank<B> {
    const PREFIX: &str = "xa+";

    fn over(bank: B) -> Self {
        let xa = Xa::new(bank.database());
        Self { bank, xa }
    }

    /// What is prepared, and neither confirmed nor cancelled.
    pub(crate) async fn prepared(&self) -> Vec<Prepared> {
        self.xa.prepared(Duration::ZERO).await.unwrap()
    }

    /// As an administrator does.
    pub(crate) async fn roll_back(&self, prepared: &Prepared) {
        let (bqual, gtrid) = prepared.name.rsplit_once(':').unwrap();
        let rollback = match B::Database::DIALECT {
            Dialect::Sqlite => unreachable!("it prepares nothing"),
            Dialect::Postgres => format!("ROLLBACK PREPARED '{}'", prepared.name),
            Dialect::Mysql => format!("XA ROLLBACK '{gtrid}','{bqual}',7627619"),
        };
        self.bank.execute(&rollback).await;
    }
}

fn key(prepared: &Prepared) -> (String, String) {
    (prepared.gid.as_ref().unwrap().to_string(), prepared.branch.as_ref().unwrap().to_string())
}

impl<B: Bank<Database: XaDatabase>> Bank for XaBank<B> {
    type Database = Xa<B::Database>;

    const PREPARES: bool = true;

    fn database(&self) -> Self::Database {
        self.xa.clone()
    }

    fn place(&self) -> String {
        format!("{}{}", Self::PREFIX, self.bank.place())
    }

    async fn at(place: &str) -> Self {
        Self::over(B::at(place.strip_prefix(Self::PREFIX).unwrap()).await)
    }

    async fn move_money(
        tx: &mut XaTx<B::Database>,
        call: &Call,
        account: &str,
        by: Books,
    ) -> Result<bool, BoxError> {
        match call.operation {
            Operation::Try => {
                let by = Books { free: by.free, reserved: 0, spent: by.reserved };
                B::move_money(tx.local().unwrap(), call, account, by).await
            }
            Operation::Confirm | Operation::Cancel | Operation::Check => Ok(true),
        }
    }

    async fn statement(tx: &mut XaTx<B::Database>, sql: &str) -> Result<(), BoxError> {
        B::statement(tx.local().unwrap(), sql).await
    }

    async fn execute(&self, sql: &str) {
        self.bank.execute(sql).await;
    }

    async fn query(&self, sql: &str) -> Vec<String> {
        self.bank.query(sql).await
    }

    async fn killing(tx: &mut XaTx<B::Database>) -> Result<Option<String>, BoxError> {
        match tx.local() {
            Some(local) => B::killing(local).await,
            None => Ok(None),
        }
    }

    async fn served(&self) -> BTreeSet<String> {
        self.bank.served().await
    }

    async fn rows(&self) -> Vec<GuardRow> {
        let mut rows = self.bank.rows().await;
        for prepared in self.prepared().await {
            let note =
                format!("SELECT COALESCE(kept, '') FROM tcc_prepared WHERE name = '{}'", prepared.name);
            let kept = self.query(&note).await.pop().unwrap();
            let (gid, branch) = key(&prepared);
            let kept = (!kept.is_empty()).then_some(kept);
            rows.push(GuardRow { gid, branch, state: "tried".into(), kept });
        }
        rows
    }

    async fn accounts(&self) -> BTreeMap<String, Books> {
        let mut accounts = self.bank.accounts().await;
        for prepared in self.prepared().await {
            // Each branch has an account of its name, or takes from the one that all have.
            let (gid, branch) = key(&prepared);
            let own = format!("{gid}/{branch}");
            let account = if accounts.contains_key(&own) { &*own } else { "alice" };
            let books = accounts.get_mut(account).unwrap();
            books.free -= CENTS;
            books.reserved += CENTS;
        }
        accounts
    }

    async fn log(&self) -> Vec<String> {
        let committed = self.bank.log().await;
        let confirmed = committed.into_iter().flat_map(|tried| {
            let confirmed = tried.replace("|try", "|confirm");
            [tried, confirmed]
        });
        let prepared = self.prepared().await.into_iter().map(|prepared| {
            let (gid, branch) = key(&prepared);
            format!("{gid}|{branch}|try")
        });
        confirmed.chain(prepared).collect()
    }

    async fn clear(&self) {
        for prepared in self.prepared().await {
            self.roll_back(&prepared).await;
        }
        self.bank.clear().await;
        self.execute("DELETE FROM tcc_prepared").await;
    }
}

impl<B: Pooled<Database: XaDatabase>> Open for XaBank<B> {
    async fn open() -> Option<Self> {
        let bank = Self::over(B::open().await?);
        bank.xa.create_schema().await.unwrap();
        Some(bank)
    }
}
