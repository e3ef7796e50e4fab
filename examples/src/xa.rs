//! Money in PostgreSQL and stock in MariaDB, in one transaction: each database prepares what the try of its service has
//! written, and commits it or rolls it back as the coordinator decides.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use mysql_async::prelude::Queryable;
use serde::{Deserialize, Serialize};
use tcc_client::{
    BoxError, Branch, Call, Client, Gid, MysqlDatabase, MysqlTx, Participants, PgDatabase, PgTx, RunError,
    Standing, Stop, Submission, Tried, Wait, Xa, XaParticipant,
};
use tcc_server::{Scheduler, Settings};
use tokio_postgres::NoTls;

use crate::serving::{self, serve};

/// What is paid.
#[derive(Serialize, Deserialize)]
pub struct Charge {
    /// By whom.
    pub account: String,
    /// How much.
    pub cents: i64,
}

/// What is bought.
#[derive(Serialize, Deserialize)]
pub struct Take {
    /// What.
    pub item: String,
    /// How many pieces.
    pub quantity: i64,
}

/// The payment service.
struct Payment;

impl XaParticipant for Payment {
    type Database = PgDatabase;
    type Payload = Charge;

    async fn try_(&self, _: &Call, charge: &Charge, tx: &mut PgTx) -> Result<Tried, BoxError> {
        let paid = tx
            .execute(
                "UPDATE accounts SET cents = cents - $2 WHERE name = $1 AND cents >= $2",
                &[&charge.account, &charge.cents],
            )
            .await?;
        Ok(if paid == 1 { Tried::accepted() } else { Tried::refused("insufficient funds") })
    }
}

/// The inventory service.
struct Inventory;

impl XaParticipant for Inventory {
    type Database = MysqlDatabase;
    type Payload = Take;

    async fn try_(&self, _: &Call, take: &Take, tx: &mut MysqlTx) -> Result<Tried, BoxError> {
        tx.exec_drop(
            "UPDATE stock SET pieces = pieces - ? WHERE item = ? AND pieces >= ?",
            (take.quantity, &take.item, take.quantity),
        )
        .await?;
        Ok(if tx.affected_rows() == 1 { Tried::accepted() } else { Tried::refused("out of stock") })
    }
}

/// Both services and a coordinator, in one process.
pub struct Shop {
    client: Client,
    money: Xa<PgDatabase>,
    stock: Xa<MysqlDatabase>,
    payment: String,
    inventory: String,
    accounts: tokio_postgres::Client,
    shelves: mysql_async::Opts,
    _scheduler: Scheduler,
}

impl Shop {
    /// Opens the shop on two empty databases, with 60.00 in alice's account and ten books on the shelf.
    ///
    /// # Errors
    /// When a server cannot be reached or prepares nothing, or a file or a port cannot be opened.
    pub async fn open(folder: &Path, postgres: &str, mysql: &str) -> Result<Self, BoxError> {
        let (accounts, connection) = tokio_postgres::connect(postgres, NoTls).await?;
        tokio::spawn(connection);
        let table = "CREATE TABLE accounts (name text PRIMARY KEY, cents bigint NOT NULL);
                     INSERT INTO accounts VALUES ('alice', 6000)";
        accounts.batch_execute(table).await?;
        let shelves = mysql_async::Opts::from_url(mysql)?;
        let table =
            "CREATE TABLE stock (item varchar(40) PRIMARY KEY, pieces bigint NOT NULL) ENGINE = InnoDB;
                     INSERT INTO stock VALUES ('book', 10)";
        mysql_async::Conn::new(shelves.clone()).await?.query_drop(table).await?;

        let money = payments(postgres).await?;
        let router = Participants::new().xa("payment", Payment, money.clone()).into_router();
        let payment = serve(Router::new().nest("/tcc", router)).await?;
        let db = MysqlDatabase::new(shelves.clone());
        db.create_schema().await?;
        let stock = Xa::new(db);
        stock.create_schema().await?;
        let router = Participants::new().xa("inventory", Inventory, stock.clone()).into_router();
        let inventory = serve(Router::new().nest("/tcc", router)).await?;

        let (at, scheduler) =
            serving::coordinator(folder, Settings::default(), std::future::pending()).await?;
        let client = Client::new(&at)?;
        Ok(Self { client, money, stock, payment, inventory, accounts, shelves, _scheduler: scheduler })
    }

    /// Buys so many books for so much, and waits for the end.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub async fn buy(&self, number: u32, quantity: i64, cents: i64) -> Result<Standing, BoxError> {
        let (payment, inventory) = (&self.payment, &self.inventory);
        let take = Take { item: "book".to_owned(), quantity };
        let charge = Charge { account: "alice".to_owned(), cents };
        let order = Submission::new(format!("order/{number}").parse()?)
            .branch(Branch::at("stock", format!("{inventory}/tcc/inventory")).payload(&take)?)
            .branch(Branch::at("money", format!("{payment}/tcc/payment")).payload(&charge)?);
        Ok(self.client.submit(order.wait(Wait::End)).await?)
    }

    /// The same, by a customer who thinks better of it when both databases have prepared what is to be. Returns what was
    /// prepared then, and why it was cancelled.
    ///
    /// # Errors
    /// When it ended in another way.
    pub async fn reconsider(&self, number: u32) -> Result<(Vec<String>, String), BoxError> {
        let gid: Gid = format!("order/{number}").parse()?;
        let take = Take { item: "book".to_owned(), quantity: 1 };
        let charge = Charge { account: "alice".to_owned(), cents: 1000 };
        let mut prepared = Vec::new();
        let run = self.client.transaction(gid.clone()).run(async |tcc| {
            tcc.try_branch("stock", &format!("{}/tcc/inventory", self.inventory), &take).await?;
            tcc.try_branch("money", &format!("{}/tcc/payment", self.payment), &charge).await?;
            prepared = self.prepared().await?;
            Err::<(), _>(Stop::because("the customer thought better of it"))
        });
        let Err(RunError::Cancelled(why)) = run.await else { return Err("it was not cancelled".into()) };
        self.client.wait(&gid, Wait::End, Duration::from_secs(30)).await?;
        Ok((prepared, why.to_string()))
    }

    /// What is prepared in both databases, as `gid branch`.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub async fn prepared(&self) -> Result<Vec<String>, tcc_client::LocalError> {
        let mut all = self.stock.prepared(Duration::ZERO).await?;
        all.extend(self.money.prepared(Duration::ZERO).await?);
        let named =
            all.iter().filter_map(|left| Some(format!("{} {}", left.gid.as_ref()?, left.branch.as_ref()?)));
        Ok(named.collect())
    }

    /// Alice's cents, and the books on the shelf.
    ///
    /// # Errors
    /// When a database does not answer.
    pub async fn books(&self) -> Result<(i64, i64), BoxError> {
        let cents = self.accounts.query_one("SELECT cents FROM accounts", &[]).await?.try_get(0)?;
        let mut conn = mysql_async::Conn::new(self.shelves.clone()).await?;
        let pieces: Option<i64> = conn.query_first("SELECT pieces FROM stock").await?;
        conn.disconnect().await?;
        Ok((cents, pieces.ok_or("there is a shelf")?))
    }
}

async fn payments(url: &str) -> Result<Xa<PgDatabase>, BoxError> {
    let db = PgDatabase::new(url.parse()?, NoTls);
    db.create_schema().await?;
    let xa = Xa::new(db);
    xa.create_schema().await?;
    Ok(xa)
}
