//! The inventory service's part in an order: goods that are available, reserved for the order, or sold.

use std::path::Path;

use axum::Router;
use serde::{Deserialize, Serialize};
use tcc_client::{BoxError, Call, Participant, Participants, SqliteDatabase, Tried, Tx};

/// The tables, beside the guard's own.
pub const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS stock (
    item      TEXT PRIMARY KEY,
    available INTEGER NOT NULL CHECK (available >= 0),
    reserved  INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    sold      INTEGER NOT NULL DEFAULT 0
) STRICT";

/// What an order takes off the shelf.
#[derive(Serialize, Deserialize)]
pub struct Reserve {
    /// What.
    pub item: String,
    /// How many.
    pub quantity: u32,
}

struct Inventory;

impl Participant for Inventory {
    type Database = SqliteDatabase;
    type Payload = Reserve;

    /// Reserves the goods, if there are so many.
    async fn try_(&self, _: &Call, reserve: &Reserve, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
        let reserved = tx.execute(
            "UPDATE stock SET available = available - ?2, reserved = reserved + ?2
             WHERE item = ?1 AND available >= ?2",
            (&reserve.item, reserve.quantity),
        )?;
        Ok(if reserved == 1 { Tried::accepted() } else { Tried::refused("out of stock") })
    }

    /// Hands over what is reserved.
    async fn confirm(&self, _: &Call, reserve: &Reserve, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        tx.execute(
            "UPDATE stock SET reserved = reserved - ?2, sold = sold + ?2 WHERE item = ?1",
            (&reserve.item, reserve.quantity),
        )?;
        Ok(())
    }

    /// Puts it back on the shelf.
    async fn cancel(&self, _: &Call, reserve: &Reserve, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        tx.execute(
            "UPDATE stock SET reserved = reserved - ?2, available = available + ?2 WHERE item = ?1",
            (&reserve.item, reserve.quantity),
        )?;
        Ok(())
    }
}

/// The service over a database file: `POST /tcc/inventory/{try,confirm,cancel}`.
///
/// # Errors
/// When the file cannot be opened.
pub async fn service(file: &Path) -> Result<Router, BoxError> {
    let db = SqliteDatabase::open(file)?;
    db.create_schema().await?;
    db.with(|connection| connection.execute_batch(SCHEMA)).await?;
    Ok(Router::new().nest("/tcc", Participants::new().add("inventory", Inventory, db).into_router()))
}
