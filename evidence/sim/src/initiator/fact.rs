//! An initiator's own local transaction, as `Client::message` has it: the sender's row first, and one commit for all.

use std::sync::Arc;
use std::time::Duration;

use tcc_client::{Call, Commit, Database, Row};
use tcc_core::{Operation, Timestamp, protocol};
use tokio::time::sleep;

use crate::book;
use crate::database::Db;
use crate::fault::Rare;
use crate::log::Who;
use crate::world::World;

/// What came of it, as far as its initiator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Committed,
    /// A check was first, and left a tombstone.
    Barred,
    /// It surely did not commit, and is not run again.
    Failed,
    Unknown,
}

/// Times it is run, one after the other, where others are in its way.
const RUNS: u64 = 4;

/// Runs the local transaction.
pub(crate) async fn commit(world: &Arc<World>, number: usize, sender: usize, begun: Timestamp) -> Came {
    let mut headers = http::HeaderMap::new();
    for (name, value) in [
        (protocol::GID, book::name(number)),
        (protocol::OPERATION, Operation::Check.as_str().to_owned()),
        (protocol::BEGUN, begun.as_millis().to_string()),
    ] {
        headers.insert(name, value.parse().expect("a value"));
    }
    let call = Call::from_headers(&headers).expect("a call");
    let mut came = Came::Failed;
    for run in 0..RUNS {
        match once(world, &world.services[sender].db, &call).await {
            Some(done) => {
                came = done;
                break;
            }
            None => sleep(Duration::from_millis(50 << run)).await,
        }
    }
    if came == Came::Barred {
        world.saw(Rare::TombstoneWon);
    }
    world.note(Who::Initiator, Some(number), "local transaction", || format!("{came:?}"));
    came
}

/// Runs it once; `None` if it is to be run again.
async fn once(world: &World, db: &Db, call: &Call) -> Option<Came> {
    let mut tx = db.open();
    let committed = Row::Confirmed { reply: None };
    if !Db::insert(&mut tx, call, &committed).await.ok()? {
        return match Db::load(&mut tx, call).await.ok()?? {
            Row::Confirmed { .. } => Some(Came::Committed),
            Row::Cancelled | Row::Refused { .. } | Row::Tried { .. } => Some(Came::Barred),
        };
    }
    // What it does takes its time now and then, and whoever asks meanwhile has to wait.
    if world.dice(|dice| dice.u32(0..4) == 0) {
        sleep(world.millis(0..6_000)).await;
    }
    Db::set(&mut tx, call, &committed).await.ok()?;
    match Db::commit(tx).await {
        Ok(Commit::Committed) => Some(Came::Committed),
        Ok(_) => None,
        Err(_) => Some(Came::Unknown),
    }
}
