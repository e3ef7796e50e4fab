//! A transactional message: an order is placed in one local transaction, and points are credited elsewhere if, and only
//! if, it commits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde::{Deserialize, Serialize};
use tcc_client::{BoxError, Branch, Call, Client, Database, Gid, Participants, Receiver, SqliteDatabase};
use tcc_server::api::{self, Callers, Listening};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_server::transport::{AllowList, HttpTransport, Transports};
use tcc_server::{Coordinator, Scheduler, Settings};
use tokio::sync::Notify;

/// The message: which order deserves points.
#[derive(Serialize, Deserialize)]
pub struct Points {
    /// Its number.
    pub order: u32,
}

/// The loyalty service. A message that arrives twice is credited once.
struct Loyalty;

impl Receiver for Loyalty {
    type Database = SqliteDatabase;
    type Message = Points;

    async fn receive(
        &self,
        _: &Call,
        points: &Points,
        tx: &mut <SqliteDatabase as Database>::Tx,
    ) -> Result<(), BoxError> {
        tx.execute("INSERT INTO points (number, points) VALUES (?1, 10)", [points.order])?;
        Ok(())
    }
}

/// Both services and a coordinator, in one process and one folder.
pub struct Shop {
    client: Client,
    orders_db: SqliteDatabase,
    loyalty_db: SqliteDatabase,
    orders: String,
    loyalty: String,
    cut: Arc<Notify>,
    _scheduler: Scheduler,
}

impl Shop {
    /// Opens the shop.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn open(folder: &Path) -> Result<Self, BoxError> {
        let db = database(folder, "orders", "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY)")
            .await?;
        let checks = Participants::new().senders("orders", db.clone()).into_router();
        let orders = serve(Router::new().nest("/tcc", checks)).await?;

        let loyalty_table = "CREATE TABLE IF NOT EXISTS points (number INTEGER PRIMARY KEY, points INTEGER)";
        let loyalty_db = database(folder, "loyalty", loyalty_table).await?;
        let receivers = Participants::new().receiver("points", Loyalty, loyalty_db.clone()).into_router();
        let loyalty = serve(receivers).await?;

        let store = SqliteStore::open(folder.join("tcc.db"), SqliteOptions::default())?;
        let transports = Transports::new().with(HttpTransport::new(AllowList::default())?);
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
        Ok(Self { client, orders_db: db, loyalty_db, orders, loyalty, cut, _scheduler: scheduler })
    }

    /// Places an order. The points follow by themselves. On the way something may happen, before the commit.
    ///
    /// # Errors
    /// When it was not placed, or nobody knows.
    pub async fn place(&self, number: u32, mishap: Option<Mishap>) -> Result<(), BoxError> {
        let (client, db, orders, loyalty) = (&self.client, &self.orders_db, &self.orders, &self.loyalty);
        let cut = self.cut.clone();
        let gid: Gid = format!("order/{number}").parse()?;

        let points = Branch::new("points").confirm(format!("{loyalty}/points/confirm"));
        let points = points.payload(&Points { order: number })?;
        let message = client.message(gid, format!("{orders}/tcc/orders/check")).deliver(points);
        message
            .check_after(Duration::from_secs(2))
            .send(db, move |tx| {
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

    /// The orders that were placed, and those that have their points.
    ///
    /// # Errors
    /// When a database cannot be read.
    pub async fn books(&self) -> Result<(Vec<u32>, Vec<u32>), BoxError> {
        Ok((numbers(&self.orders_db, "orders").await?, numbers(&self.loyalty_db, "points").await?))
    }
}

/// What can happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The coordinator cannot be reached any more, and asks itself.
    TheConfirmIsLost,
    /// The local transaction fails.
    TheOrderIsRefused,
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
