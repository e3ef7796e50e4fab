//! An outbox: orders are placed while the coordinator is away, and their points come once it is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde::{Deserialize, Serialize};
use tcc_client::{
    BoxError, Branch, Call, Client, Database, LocalError, Outbox, Participants, Receiver, SqliteDatabase,
};
use tcc_server::api::{self, Callers, Listening};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_server::transport::{AllowList, HttpTransport, Transports};
use tcc_server::{Coordinator, Scheduler, Settings};

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

/// Both services, in one process and one folder.
pub struct Shop {
    outbox: Outbox<SqliteDatabase>,
    orders_db: SqliteDatabase,
    loyalty_db: SqliteDatabase,
    loyalty: String,
}

impl Shop {
    /// Opens the shop. It needs no coordinator.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn open(folder: &Path) -> Result<Self, BoxError> {
        let table = "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY)";
        let orders_db = database(folder, "orders", table).await?;
        let outbox = Outbox::new("orders", orders_db.clone())?;
        outbox.create_schema().await?;

        let table = "CREATE TABLE IF NOT EXISTS points (number INTEGER PRIMARY KEY, points INTEGER)";
        let loyalty_db = database(folder, "loyalty", table).await?;
        let receivers = Participants::new().receiver("points", Loyalty, loyalty_db.clone()).into_router();
        let loyalty = serve(receivers).await?;
        Ok(Self { outbox, orders_db, loyalty_db, loyalty })
    }

    /// Places an order, with its message in the same local transaction. A number that is taken fails both.
    ///
    /// # Errors
    /// When it was not placed, or nobody knows.
    pub async fn place(&self, number: u32) -> Result<(), LocalError> {
        let (outbox, loyalty) = (self.outbox.clone(), self.loyalty.clone());
        self.outbox
            .transact(move |tx| {
                let (outbox, loyalty) = (outbox.clone(), loyalty.clone());
                Box::pin(async move {
                    let points = Branch::new("points").confirm(format!("{loyalty}/points/confirm"));
                    let points = points.payload(&Points { order: number })?;
                    outbox.put(tx, outbox.message().branch(points)).await?;
                    tx.execute("INSERT INTO orders (number) VALUES (?1)", [number])?;
                    Ok(())
                })
            })
            .await
    }

    /// How many messages the coordinator does not have yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn waiting(&self) -> Result<u64, LocalError> {
        Ok(self.outbox.backlog().await?.pending)
    }

    /// Starts a coordinator, and the relay that hands it what waits.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn start_coordinator(&self, folder: &Path) -> Result<Scheduler, BoxError> {
        let store = SqliteStore::open(folder.join("tcc.db"), SqliteOptions::default())?;
        let transports = Transports::new().with(HttpTransport::new(AllowList::default())?);
        let coordinator = Coordinator::new(Arc::new(store), transports, Settings::default());
        let scheduler = Scheduler::start(coordinator.clone());
        let listening = Listening::on("127.0.0.1:0".parse()?).await?;
        let client = Client::new(&format!("http://{}", listening.address()))?;
        let router = api::router(coordinator, Callers::OfThisMachine);
        tokio::spawn(api::serve(listening, router, std::future::pending(), Duration::ZERO));
        tokio::spawn(self.outbox.relay(client).run());
        Ok(scheduler)
    }

    /// The orders that were placed, and those that have their points.
    ///
    /// # Errors
    /// When a database cannot be read.
    pub async fn books(&self) -> Result<(Vec<u32>, Vec<u32>), BoxError> {
        Ok((numbers(&self.orders_db, "orders").await?, numbers(&self.loyalty_db, "points").await?))
    }
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
