//! A bank: one account, behind the guard, in a SQLite file of its own; and whatever fault a payload asks for.
//!
//! `participant DIRECTORY [ADDRESS]` keeps its file there and says `listening on ADDRESS` once it does. Where there is a
//! file `keys` beside it, it believes calls alone that one of them signed.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use serde::Deserialize;
use tcc_client::{BoxError, Call, Participant, Participants, SigningKey, SqliteDatabase, Tried, Tx};
use tcc_tests::mishap::{Mishap, Mishaps, beset};

/// What a branch carries.
#[derive(Deserialize)]
struct Entry {
    /// What is put into the account, or taken from it if negative.
    amount: i64,
    #[serde(default)]
    faults: Vec<Mishap>,
}

struct Bank {
    mishaps: Arc<Mishaps>,
}

impl Participant for Bank {
    type Database = SqliteDatabase;
    type Payload = Entry;

    async fn try_(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
        let booked = tx.execute(
            "UPDATE account SET available = available + min(?1, 0), frozen = frozen - min(?1, 0),
                                incoming = incoming + max(?1, 0)
             WHERE available + min(?1, 0) >= 0",
            [entry.amount],
        )?;
        self.mishaps.in_the_midst(call, &entry.faults)?;
        if self.mishaps.refuse(call, &entry.faults) {
            return Ok(Tried::refused("the account is closed"));
        }
        Ok(if booked == 1 { Tried::accepted() } else { Tried::refused("no funds") })
    }

    async fn confirm(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        tx.execute(
            "UPDATE account SET frozen = frozen + min(?1, 0), incoming = incoming - max(?1, 0),
                                available = available + max(?1, 0)",
            [entry.amount],
        )?;
        self.mishaps.in_the_midst(call, &entry.faults)
    }

    async fn cancel(&self, call: &Call, entry: &Entry, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        tx.execute(
            "UPDATE account SET available = available - min(?1, 0), frozen = frozen + min(?1, 0),
                                incoming = incoming - max(?1, 0)",
            [entry.amount],
        )?;
        self.mishaps.in_the_midst(call, &entry.faults)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tcc_tests::die_with_the_test();
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("which directory?")?);
    let database = SqliteDatabase::open(directory.join("bank.db"))?;
    database.create_schema().await?;
    let create = "CREATE TABLE IF NOT EXISTS account (
            id        INTEGER PRIMARY KEY,
            available INTEGER NOT NULL CHECK (available >= 0),
            frozen    INTEGER NOT NULL CHECK (frozen >= 0),
            incoming  INTEGER NOT NULL CHECK (incoming >= 0)
        ) STRICT;
        INSERT OR IGNORE INTO account VALUES (1, 1000, 0, 0);";
    database.with(|connection| connection.execute_batch(create)).await?;
    let mishaps = Arc::new(Mishaps::load(directory.join("faults")));
    let mut participants = Participants::new().add("account", Bank { mishaps: mishaps.clone() }, database);
    if let Ok(keys) = std::fs::read_to_string(directory.join("keys")) {
        participants = participants.verified_by(SigningKey::read_all(&keys)?);
    }
    let router = beset(Router::new().fallback_service(participants), mishaps);
    let address = std::env::args().nth(2).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
