//! Points by a broker: an order is placed in one local transaction, its message goes to the broker if, and only if, that
//! commits, and whoever consumes it credits each order once, however often the broker delivers the message.

#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde::{Deserialize, Serialize};
use tcc_client::{
    BoxError, Branch, Client, Consumer, Gid, LocalError, Participants, Received, SqliteDatabase,
};
use tcc_server::api::{self, Callers, Listening};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_server::transport::{AllowList, BrokerOptions, BrokerTransport, HttpTransport, Transports};
use tcc_server::{Coordinator, Scheduler, Settings};
use tokio::sync::Notify;

use crate::points::Mishap;

/// The message: which order deserves points.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Points {
    /// Its number.
    pub order: u32,
}

/// The service that sends, and a coordinator.
pub struct Shop {
    client: Client,
    db: SqliteDatabase,
    orders: String,
    broker: String,
    cut: Arc<Notify>,
    _scheduler: Scheduler,
}

/// The service that consumes.
pub struct Loyalty {
    db: SqliteDatabase,
    consumer: Consumer<SqliteDatabase>,
}

impl Shop {
    /// Opens the shop, whose messages go to this endpoint of a broker.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn open(folder: &Path, broker: String) -> Result<Self, BoxError> {
        let db = database(folder, "orders", "CREATE TABLE orders (number INTEGER PRIMARY KEY)").await?;
        let checks = Participants::new().senders("orders", db.clone()).into_router();
        let orders = serve(checks).await?;

        let store = SqliteStore::open(folder.join("tcc.db"), SqliteOptions::default())?;
        let transports = Transports::new()
            .with(HttpTransport::new(AllowList::default())?)
            .with(BrokerTransport::new(BrokerOptions { source: "shop".to_owned(), ..Default::default() })?);
        let coordinator = Coordinator::new(Arc::new(store), transports, Settings::default());
        let scheduler = Scheduler::start(coordinator.clone());
        let listening = Listening::on("127.0.0.1:0".parse()?).await?;
        let client = Client::builder(&format!("http://{}", listening.address()));
        let client = client.repeat_for(Duration::from_secs(1)).build()?;
        let router = api::router(coordinator, Callers::OfThisMachine);
        let cut = Arc::new(Notify::new());
        let stop = cut.clone();
        tokio::spawn(async move {
            api::serve(listening, router, async { stop.notified().await }, Duration::ZERO).await;
        });
        Ok(Self { client, db, orders, broker, cut, _scheduler: scheduler })
    }

    /// Places an order. On the way something may happen, before the commit.
    ///
    /// # Errors
    /// When it was not placed, or nobody knows.
    pub async fn place(&self, number: u32, mishap: Option<Mishap>) -> Result<(), BoxError> {
        let gid: Gid = format!("order/{number}").parse()?;
        let points = Branch::new("points").confirm(&self.broker).payload(&Points { order: number })?;
        let message = self.client.message(gid, format!("{}/orders/check", self.orders)).deliver(points);
        let cut = self.cut.clone();
        message
            .check_after(Duration::from_secs(2))
            .send(&self.db, move |tx| {
                let cut = cut.clone();
                Box::pin(async move {
                    tx.execute("INSERT INTO orders (number) VALUES (?1)", [number])?;
                    match mishap {
                        None => {}
                        Some(Mishap::TheConfirmIsLost) => cut.notify_one(),
                        Some(Mishap::TheOrderIsRefused) => return Err("no such article".into()),
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }

    /// The orders that were placed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn placed(&self) -> Result<Vec<u32>, BoxError> {
        numbers(&self.db, "orders").await
    }
}

impl Loyalty {
    /// Opens the service.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub async fn open(folder: &Path) -> Result<Self, BoxError> {
        let db = database(folder, "loyalty", "CREATE TABLE points (number INTEGER, points INTEGER)").await?;
        let consumer = Consumer::new("points", db.clone())?;
        Ok(Self { db, consumer })
    }

    /// Takes a message in. It can be acknowledged then.
    ///
    /// # Errors
    /// When it is to be delivered again.
    pub async fn receive(&self, source: &str, id: &str, points: Points) -> Result<Received<()>, LocalError> {
        let received = self.consumer.receive(source, id, move |tx| {
            Box::pin(async move {
                tx.execute("INSERT INTO points (number, points) VALUES (?1, 10)", [points.order])?;
                Ok(())
            })
        });
        let received = received.await?;
        match received {
            Received::New(()) => println!("{id}: credited"),
            Received::Repeat => println!("{id}: it was credited before"),
        }
        Ok(received)
    }

    /// The orders that have their points; twice, if they have them twice.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn credited(&self) -> Result<Vec<u32>, BoxError> {
        numbers(&self.db, "points").await
    }
}

/// Three orders: one that goes well, one that is refused, and one whose confirm is lost. The consumer is given, and runs
/// until every order that was placed has its points.
///
/// # Errors
/// When anything could not be opened, or the points did not come.
pub async fn story<F>(broker: String, consume: impl FnOnce(Arc<Loyalty>) -> F) -> Result<(), BoxError>
where
    F: Future<Output = Result<(), BoxError>>,
{
    let folder = tempfile::tempdir()?;
    let shop = Shop::open(folder.path(), broker).await?;
    for (number, mishap) in
        [(1, None), (2, Some(Mishap::TheOrderIsRefused)), (3, Some(Mishap::TheConfirmIsLost))]
    {
        match shop.place(number, mishap).await {
            Ok(()) => println!("order {number}: placed"),
            Err(error) => println!("order {number}: {error}"),
        }
    }
    let loyalty = Arc::new(Loyalty::open(folder.path()).await?);
    tokio::time::timeout(Duration::from_secs(60), consume(loyalty.clone())).await??;
    println!("placed: {:?}; with points: {:?}", shop.placed().await?, loyalty.credited().await?);
    Ok(())
}

async fn numbers(db: &SqliteDatabase, table: &'static str) -> Result<Vec<u32>, BoxError> {
    let numbers = db.with(move |connection| {
        let mut rows = connection.prepare(&format!("SELECT number FROM {table} ORDER BY number"))?;
        rows.query_map([], |row| row.get(0))?.collect()
    });
    numbers.await
}

async fn database(folder: &Path, name: &str, table: &'static str) -> Result<SqliteDatabase, BoxError> {
    let db = SqliteDatabase::open(folder.join(name).with_extension("db"))?;
    db.create_schema().await?;
    db.with(move |connection| connection.execute_batch(table)).await?;
    Ok(db)
}

async fn serve(router: Router) -> Result<String, BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let at = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(at)
}
