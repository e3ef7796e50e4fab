//! A loyalty service, which hears of orders by messages and credits points for them, and the books of both.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tcc_client::{BoxError, Call, Database, Participants, Receiver, SqliteDatabase};

use crate::serving::serve;

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

/// The databases of the orders and of their points.
pub struct Books {
    /// Has a table `orders` of their numbers.
    pub orders: SqliteDatabase,
    loyalty: SqliteDatabase,
}

impl Books {
    /// Opens both, and serves the loyalty service. Returns its URL, too.
    ///
    /// # Errors
    /// When a file or a port cannot be opened.
    pub async fn open(folder: &Path) -> Result<(Self, String), BoxError> {
        let table = "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY)";
        let orders = database(folder, "orders", table).await?;
        let table = "CREATE TABLE IF NOT EXISTS points (number INTEGER PRIMARY KEY, points INTEGER)";
        let loyalty = database(folder, "loyalty", table).await?;
        let receivers = Participants::new().receiver("points", Loyalty, loyalty.clone()).into_router();
        Ok((Self { orders, loyalty }, serve(receivers).await?))
    }

    /// The orders that were placed, and those that have their points.
    ///
    /// # Errors
    /// When a database cannot be read.
    pub async fn read(&self) -> Result<(Vec<u32>, Vec<u32>), BoxError> {
        Ok((numbers(&self.orders, "orders").await?, numbers(&self.loyalty, "points").await?))
    }

    /// Waits until each order has its points, and none has any that was not placed, at most half a minute.
    /// Returns what [`read`](Self::read) then does.
    ///
    /// # Errors
    /// When they do not come, or a database cannot be read.
    pub async fn balanced(&self) -> Result<(Vec<u32>, Vec<u32>), BoxError> {
        for _ in 0..300 {
            let (orders, points) = self.read().await?;
            if orders == points {
                return Ok((orders, points));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("the points did not come".into())
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
