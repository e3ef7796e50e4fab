//! The payment service's part in an order: money that is available, or frozen for the order.

use std::path::Path;

use axum::Router;
use serde::{Deserialize, Serialize};
use tcc_client::{BoxError, Call, Participant, Participants, SqliteDatabase, Tried, Tx};

/// The tables, beside the guard's own. The shop is an account like any other.
pub const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS accounts (
    name      TEXT PRIMARY KEY,
    available INTEGER NOT NULL CHECK (available >= 0),
    frozen    INTEGER NOT NULL DEFAULT 0 CHECK (frozen >= 0)
) STRICT";

/// What an order costs, and whom.
#[derive(Serialize, Deserialize)]
pub struct Charge {
    /// Who pays.
    pub account: String,
    /// How much.
    pub cents: u32,
}

struct Payment;

impl Participant for Payment {
    type Database = SqliteDatabase;
    type Payload = Charge;

    /// Freezes the money, if it is there.
    async fn try_(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
        let frozen = tx.execute(
            "UPDATE accounts SET available = available - ?2, frozen = frozen + ?2
             WHERE name = ?1 AND available >= ?2",
            (&charge.account, charge.cents),
        )?;
        Ok(if frozen == 1 { Tried::accepted() } else { Tried::refused("insufficient funds") })
    }

    /// Gives what is frozen to the shop.
    async fn confirm(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        let Charge { account, cents } = charge;
        tx.execute("UPDATE accounts SET frozen = frozen - ?2 WHERE name = ?1", (account, cents))?;
        tx.execute("UPDATE accounts SET available = available + ?1 WHERE name = 'shop'", [cents])?;
        Ok(())
    }

    /// Gives it back.
    async fn cancel(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        tx.execute(
            "UPDATE accounts SET frozen = frozen - ?2, available = available + ?2 WHERE name = ?1",
            (&charge.account, charge.cents),
        )?;
        Ok(())
    }
}

/// The service over a database file: `POST /tcc/payment/{try,confirm,cancel}`.
///
/// # Errors
/// When the file cannot be opened.
pub async fn service(file: &Path) -> Result<Router, BoxError> {
    let db = SqliteDatabase::open(file)?;
    db.create_schema().await?;
    db.with(|connection| connection.execute_batch(SCHEMA)).await?;
    Ok(Router::new().nest("/tcc", Participants::new().add("payment", Payment, db).into_router()))
}
