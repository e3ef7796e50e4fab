//! Try-Confirm-Cancel for applications.
//!
//! A **participant** is a service's part in transactions: three methods, run in a local transaction of its own
//! database together with a *guard*, which keeps duplicated, crossed and late calls away from them.
//!
#![cfg_attr(feature = "rusqlite", doc = "```")]
#![cfg_attr(not(feature = "rusqlite"), doc = "```ignore")]
//! use tcc_client::{BoxError, Call, Participant, Participants, SqliteDatabase, Tried, Tx};
//!
//! struct Payment;
//!
//! #[derive(serde::Deserialize)]
//! struct Charge { account: String, cents: i64 }
//!
//! impl Participant for Payment {
//!     type Database = SqliteDatabase;
//!     type Payload = Charge;
//!
//!     async fn try_(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
//!         let reserved = tx.execute(
//!             "UPDATE account SET free = free - ?2, reserved = reserved + ?2 WHERE name = ?1 AND free >= ?2",
//!             (&charge.account, charge.cents),
//!         )?;
//!         Ok(if reserved == 1 { Tried::accepted() } else { Tried::refused("no funds") })
//!     }
//!
//!     async fn confirm(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
//!         tx.execute("UPDATE account SET reserved = reserved - ?2 WHERE name = ?1", (&charge.account, charge.cents))?;
//!         Ok(())
//!     }
//!
//!     async fn cancel(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
//!         tx.execute(
//!             "UPDATE account SET free = free + ?2, reserved = reserved - ?2 WHERE name = ?1",
//!             (&charge.account, charge.cents),
//!         )?;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
//! # let folder = tempfile::tempdir()?; let path = folder.path().join("payment.db");
//! let db = SqliteDatabase::open(path)?;
//! db.create_schema().await?;
//! let service = Participants::new().add("payment", Payment, db);   // POST /payment/try, /confirm, /cancel
//! # let _ = service; Ok(()) }
//! ```
//!
//! Serve it with anything that takes a [`tower_service::Service`]; in axum,
//! `Router::new().nest("/tcc", service.into_router())`. The coordinator then calls the branch at
//! `http://…/tcc/payment`.
//!
//! # What the guard promises
//!
//! One row per transaction and branch, in the table `tcc_guard`, committed together with the participant's own:
//!
//! - **P1** Confirm and cancel exclude each other.
//! - **P2** A repeat has no second effect and gets the same answer, a refusal included.
//! - **P3** A cancel before its try succeeds and does nothing (*empty cancel*),
//! - **P4** and then bars that try (*hanging*).
//! - **P5** Business rows and guard row commit in one local transaction.
//! - **P6** A confirm without a try is an alarm, not a success.
//!
//! What it cannot do: undo what a method did outside `tx`.
//!
//! # Databases
//!
//! | feature | adapter | |
//! |---|---|---|
//! | `rusqlite` | `SqliteDatabase` | SQLite 3.51.3 or newer, bundled |
//! | `tokio-postgres` | `PgDatabase` | PostgreSQL, with a pool of its own |
//! | `mysql_async` | `MysqlDatabase` | MySQL and MariaDB (InnoDB), with a pool of its own; tested on MariaDB |
//! | `sqlx-postgres` | `SqlxPgDatabase` | PostgreSQL, through the application's pool of sqlx 0.9; needs Rust 1.94 |
//! | `sqlx-mysql` | `SqlxMysqlDatabase` | MySQL and MariaDB, likewise |
//! | `redis` | `RedisDatabase` | data in the same Redis; what a crash of it takes is said there |
//! | | [`Unguarded`] | no database, and so no guard: what the methods then have to see to is said there |
//!
//! Others implement [`Database`], in about a hundred lines. The feature `axum` adds `Participants::into_router`.
//!
//! sqlx 0.9 and the feature `rusqlite` go together. Where sqlx has `sqlite`, or a feature that might draw it in
//! (`json`, `macros`, `migrate`, `uuid`, …, also its defaults), Cargo has to take rusqlite 0.39 for both. sqlx 0.8
//! and the feature `rusqlite` never do.
//!
//! # Rows of long ago
//!
//! Guard rows go by themselves once their transactions have ended: the coordinator says with its calls which those
//! are (`Tcc-Settled`), and now and then a participant deletes what began before, in small batches beside its calls.
//! It keeps that mark in the table `tcc_settled`, and refuses a try that comes later still. A mark is worth nothing
//! beside the moments of another coordinator, so the tables of a guard belong to one.
//!
//! # Beginning transactions
//!
//! With the feature `initiator` a `Client` of the coordinator begins them, in two styles. All at once, as data; the
//! coordinator tries, and decides by the answers:
//!
#![cfg_attr(feature = "initiator", doc = "```no_run")]
#![cfg_attr(not(feature = "initiator"), doc = "```ignore")]
//! use tcc_client::{Branch, Client, Submission, new_gid};
//!
//! # async fn order(reserve: Vec<u8>, charge: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:7780")?;
//! let order = Submission::new(new_gid())      // keep the gid first: submitting it again starts nothing new
//!     .branch(Branch::at("stock", "http://inventory/tcc/stock").payload(&reserve)?)
//!     .branch(Branch::at("money", "http://payment/tcc/payment").payload(&charge)?);
//! let standing = client.submit(order).await?;
//! println!("{:?}, since {:?}", standing.decision(), standing.reason());
//! # Ok(()) }
//! ```
//!
//! Or by a closure that makes the tries itself, and whose value is returned once the confirm is durable; a refusal,
//! an error, a panic or a drop cancels. See `Transaction::run`.
//!
#![cfg_attr(feature = "initiator", doc = "```no_run")]
#![cfg_attr(not(feature = "initiator"), doc = "```ignore")]
//! # use tcc_client::{Client, Stop, new_gid};
//! # async fn order(client: Client, reserve: Vec<u8>, charge: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! let shelf = client.transaction(new_gid()).run(async |tcc| {
//!     let shelf: String = tcc.try_branch("stock", "http://inventory/tcc/stock", &reserve).await?.json()?;
//!     if shelf.is_empty() {
//!         return Err(Stop::because("no shelf has it"));
//!     }
//!     tcc.try_branch("money", "http://payment/tcc/payment", &charge).await?;
//!     Ok(shelf)
//! }).await?;
//! # Ok(()) }
//! ```
//!
//! The feature `tls` adds https. Take it too where another crate of the program, as tcc-server with its defaults,
//! gives reqwest its TLS: Cargo's features add up, and reqwest then wants a provider even for http.
//!
//! # Messages
//!
//! Where one local transaction decides, and others have only to hear of it, `Client::message` runs that local transaction
//! and has a message delivered if, and only if, it commits. [`Participants::senders`] answers the coordinator, which asks
//! what became of it (*check-back*) if the sender died; a [`Receiver`] takes each message in once, however often it comes.
//!
//! # Testing
//!
//! With the feature `testing`, among the dev-dependencies: `testing::Conformance` plays against a participant what networks
//! and crashes do to calls, and names each promise that breaks. `testing::Coordinator` drives whole transactions through
//! the participants of a test, by a clock of its own, while requests and answers are lost, doubled, delayed and reordered
//! and the coordinator crashes, as planned or drawn from a seed.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod participant;
mod call;
mod guard;
mod database;
mod cleaning;
mod participants;
mod receiver;
mod local;
mod sql;
mod consumer;
mod signed;
mod answer;
#[cfg(feature = "initiator")]
mod initiator;
#[cfg(feature = "initiator")]
mod retrying;
#[cfg(feature = "testing")]
pub mod testing;
pub mod limits;

pub use call::{BadCall, Call};
pub use consumer::{Consumer, Received};
#[cfg(feature = "mysql_async")]
pub use database::mysql::{MysqlDatabase, MysqlTx};
#[cfg(feature = "tokio-postgres")]
pub use database::postgres::{PgDatabase, PgTx};
#[cfg(feature = "redis")]
pub use database::redis::{RedisDatabase, RedisTx};
#[cfg(feature = "rusqlite")]
pub use database::sqlite::{OpenError, SqliteDatabase, SqliteTx};
#[cfg(feature = "sqlx-mysql")]
pub use database::sqlx_mysql::{SqlxMysqlDatabase, SqlxMysqlTx};
#[cfg(feature = "sqlx-postgres")]
pub use database::sqlx_postgres::{SqlxPgDatabase, SqlxPgTx};
pub use database::unguarded::Unguarded;
pub use database::{BadRow, Commit, Database, Row, Trouble};
#[cfg(feature = "initiator")]
pub use initiator::{
    Backlog, Branch, BuildError, Client, ClientBuilder, Error, Failed, Failure, Listed, Message,
    MessageError, Outbox, Outcome, Refused, Relay, Reply, RunError, Scope, Standing, Stop, Submission,
    Transaction, Wait, new_gid,
};
pub use local::{Local, LocalError};
pub use participant::{BoxError, Participant, Tried, Tx};
pub use participants::Participants;
pub use receiver::Receiver;
pub use sql::{Columns, Dialect, SqlDatabase};
pub use tcc_core::signature::{BadKey, SigningKey};
pub use tcc_core::{BadId, BranchId, Gid, Operation, Timestamp};
#[cfg(feature = "initiator")]
pub use tcc_core::{Decision, Phase, Retry, SubscriberId, Then, TopicName, wire};
