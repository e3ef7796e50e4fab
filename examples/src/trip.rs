//! A trip as a saga: flight, hotel and car are booked one after the other, and if one cannot be had, those before it are
//! given back in reverse.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tcc_client::{
    BoxError, Branch, Call, Client, Participant, Participants, Phase, SqliteDatabase, Submission, Tried, Tx,
    Wait,
};

use crate::serving::{self, serve};

/// What is booked: one place, for whom.
#[derive(Serialize, Deserialize)]
pub struct Booking {
    /// Who travels.
    pub traveller: String,
}

/// A service that has places: an airline, a hotel, a garage. Each step is one local transaction behind the guard, so that
/// one that is repeated books once, and a compensation whose action never came gives back nothing.
struct Places;

impl Participant for Places {
    type Database = SqliteDatabase;
    type Payload = Booking;

    /// The action: it books, there and then.
    async fn try_(&self, call: &Call, booking: &Booking, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
        if tx.execute("UPDATE places SET free = free - 1 WHERE free > 0", [])? == 0 {
            return Ok(Tried::refused("booked out"));
        }
        tx.execute("INSERT INTO bookings VALUES (?1, ?2)", (call.gid.as_str(), &booking.traveller))?;
        Ok(Tried::with_reply(serde_json::json!({ "booking": call.gid.as_str() })))
    }

    /// A saga has nothing to confirm: its actions are done.
    async fn confirm(&self, _: &Call, _: &Booking, _: &mut Tx<Self>) -> Result<(), BoxError> {
        Ok(())
    }

    /// The compensation: it gives the place back.
    async fn cancel(&self, call: &Call, _: &Booking, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        tx.execute("DELETE FROM bookings WHERE gid = ?1", [call.gid.as_str()])?;
        tx.execute("UPDATE places SET free = free + 1", [])?;
        Ok(())
    }
}

/// What became of a trip.
pub struct Trip {
    /// How it ended.
    pub phase: Phase,
    /// Why, if it was cancelled.
    pub reason: Option<String>,
    /// Every call, in its order: the operation, the branch and what became of it.
    pub calls: Vec<(String, String, String)>,
    /// How many places are left, of each service.
    pub left: Vec<(&'static str, u32)>,
}

const SCHEMA: &str = "
    CREATE TABLE places (free INTEGER NOT NULL CHECK (free >= 0)) STRICT;
    CREATE TABLE bookings (gid TEXT PRIMARY KEY, traveller TEXT NOT NULL) STRICT;";

/// Books a trip over services that have so many places each, everything in one process and one folder.
///
/// # Errors
/// When a file or a port cannot be opened, or the coordinator does not answer.
pub async fn book(folder: &Path, places: [(&'static str, u32); 3]) -> Result<Trip, BoxError> {
    let mut services = Vec::new();
    for (name, free) in places {
        let db = SqliteDatabase::open(folder.join(name).with_extension("db"))?;
        db.create_schema().await?;
        db.with(|connection| connection.execute_batch(SCHEMA)).await?;
        db.with(move |connection| connection.execute("INSERT INTO places VALUES (?1)", [free])).await?;
        let at = serve(Participants::new().add("places", Places, db.clone()).into_router()).await?;
        services.push((name, at, db));
    }
    let (at, scheduler) = serving::coordinator(folder, std::future::pending()).await?;
    let client = Client::new(&at)?;

    let gid = "trip/2026-12".parse()?;
    let mut trip = Submission::new(gid).wait(Wait::End);
    let mut before = None;
    for (name, at, _) in &services {
        let step = Branch::step(*name, format!("{at}/places/try"), format!("{at}/places/cancel"));
        let step = step.payload(&Booking { traveller: "grace".to_owned() })?;
        trip = trip.branch(match before {
            None => step,
            Some(before) => step.after(before),
        });
        before = Some(*name);
    }
    let standing = client.submit(trip).await?;

    let told = client.events(standing.gid()).await?;
    let calls = told.events.into_iter().filter_map(|event| {
        Some((event.operation?, event.branch?.to_string(), event.outcome.unwrap_or_default()))
    });
    let mut left = Vec::new();
    for (name, _, db) in &services {
        let free = db.with(|c| c.query_row("SELECT free FROM places", [], |row| row.get(0))).await?;
        left.push((*name, free));
    }
    scheduler.drain(Duration::from_secs(5)).await;
    let (phase, reason) = (standing.phase(), standing.reason().map(str::to_owned));
    Ok(Trip { phase, reason, calls: calls.collect(), left })
}
