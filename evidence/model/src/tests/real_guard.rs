//! Every cell of the model's guard table, put to the guard of `tcc-client`; and what it takes a receiver of messages
//! and the check of a sender for.

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use tcc_client::{
    BoxError, Call, Commit, Database, Participant, Participants, Receiver, Row as RealRow, Tried,
};
use tcc_core::answer::{Answer, Outlook, Reply, Response, Shape, judge};
use tcc_core::{Operation, protocol};
use tower_service::Service;

use crate::guard::{Flaw, Kind, Mood, Party, Row, Said};

/// A database of one guard row and three counters; a local transaction is a copy of them.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Kept>>);

#[derive(Clone, Default)]
struct Kept {
    row: Option<RealRow>,
    reserved: u8,
    done: u8,
    undone: u8,
}

struct Tx {
    home: Memory,
    kept: Kept,
}

impl Database for Memory {
    type Tx = Tx;

    async fn begin(&self) -> Result<Tx, BoxError> {
        Ok(Tx { home: self.clone(), kept: self.0.lock().expect("nobody panics").clone() })
    }

    async fn insert(tx: &mut Tx, _: &Call, row: &RealRow) -> Result<bool, BoxError> {
        let free = tx.kept.row.is_none();
        if free {
            tx.kept.row = Some(row.clone());
        }
        Ok(free)
    }

    async fn load(tx: &mut Tx, _: &Call) -> Result<Option<RealRow>, BoxError> {
        Ok(tx.kept.row.clone())
    }

    async fn set(tx: &mut Tx, _: &Call, row: &RealRow) -> Result<(), BoxError> {
        tx.kept.row = Some(row.clone());
        Ok(())
    }

    async fn commit(tx: Tx) -> Result<Commit, BoxError> {
        *tx.home.0.lock().expect("nobody panics") = tx.kept;
        Ok(Commit::Committed)
    }

    async fn rollback(_: Tx) -> Result<(), BoxError> {
        Ok(())
    }
}

struct Counts {
    mood: Mood,
}

impl Participant for Counts {
    type Database = Memory;
    type Payload = ();

    async fn try_(&self, _: &Call, (): &(), tx: &mut Tx) -> Result<Tried, BoxError> {
        tx.kept.reserved += 1;
        Ok(if self.mood == Mood::Refuses { Tried::refused("no") } else { Tried::accepted() })
    }

    async fn confirm(&self, _: &Call, (): &(), tx: &mut Tx) -> Result<(), BoxError> {
        tx.kept.done += 1;
        Ok(())
    }

    async fn cancel(&self, _: &Call, (): &(), tx: &mut Tx) -> Result<(), BoxError> {
        tx.kept.undone += 1;
        Ok(())
    }
}

struct Delivered;

impl Receiver for Delivered {
    type Database = Memory;
    type Message = ();

    async fn receive(&self, _: &Call, (): &(), tx: &mut Tx) -> Result<(), BoxError> {
        tx.kept.done += 1;
        Ok(())
    }
}

fn real_row(row: Row) -> Option<RealRow> {
    match row {
        Row::None => None,
        Row::Tried => Some(RealRow::Tried { reply: None }),
        Row::Refused => Some(RealRow::Refused { reason: "no".to_owned() }),
        Row::Confirmed => Some(RealRow::Confirmed { reply: None }),
        Row::Cancelled => Some(RealRow::Cancelled),
    }
}

/// A database in which this stands.
fn database(Party { row, reserved, done, undone }: Party) -> Memory {
    Memory(Arc::new(Mutex::new(Kept { row: real_row(row), reserved, done, undone })))
}

/// What the real guard answers, judged by the core, and what it leaves behind.
async fn real(mut service: Participants, database: Memory, operation: Operation) -> (Said, Kept) {
    let request = http::Request::post(format!("/p/{operation}"))
        .header(protocol::GID, "g")
        .header(protocol::BRANCH, "a")
        .header(protocol::OPERATION, operation.as_str())
        .header(protocol::BEGUN, "1")
        .header(protocol::SETTLED, "0")
        .body(Full::<bytes::Bytes>::default())
        .expect("a request");
    let response = service.call(request).await.expect("it never fails");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes().to_vec();
    let seen = Answer::Response(Response { status, retry_after: None, body: Some(body) });
    let said = match judge(operation, Shape::Other, seen) {
        Reply::Done(_) => Said::Done,
        Reply::Pending(_) => Said::Pending,
        Reply::Refused(_) => Said::Refused,
        Reply::Unknown { outlook: Outlook::Attention, .. } => Said::Alarm,
        Reply::Unknown { outlook: Outlook::Passing, .. } => Said::Nothing,
    };
    let kept = database.0.lock().expect("nobody panics").clone();
    (said, kept)
}

const fn party(row: Row, reserved: u8, done: u8, undone: u8) -> Party {
    Party { row, reserved, done, undone }
}

#[tokio::test]
async fn the_model_answers_as_the_real_guard_does() {
    let rows = [
        party(Row::None, 0, 0, 0),
        party(Row::Tried, 1, 0, 0),
        party(Row::Refused, 0, 0, 0),
        party(Row::Confirmed, 1, 1, 0),
        party(Row::Cancelled, 1, 0, 1),
        party(Row::Cancelled, 0, 0, 0),
    ];
    for before in rows {
        for operation in [Operation::Try, Operation::Confirm, Operation::Cancel] {
            for mood in [Mood::Accepts, Mood::Refuses] {
                let mut after = before;
                let said = after.answer(Kind::Reserves, operation, mood, Flaw::None);
                let database = database(before);
                let service = Participants::new().add("p", Counts { mood }, database.clone());
                let (really_said, kept) = real(service, database, operation).await;
                let cell = format!("{operation} on {:?}, where it {mood:?}", before.row);
                assert_eq!(said, really_said, "{cell}");
                let state = |row: Option<RealRow>| row.map(|row| row.state());
                assert_eq!(state(real_row(after.row)), state(kept.row), "{cell}");
                let counts = (after.reserved, after.done, after.undone);
                assert_eq!(counts, (kept.reserved, kept.done, kept.undone), "{cell}");
            }
        }
    }
}

#[tokio::test]
async fn the_model_receives_as_the_real_receiver_does() {
    for before in [party(Row::None, 0, 0, 0), party(Row::Confirmed, 0, 1, 0)] {
        let mut after = before;
        let said = after.answer(Kind::Receives, Operation::Confirm, Mood::Accepts, Flaw::None);
        let database = database(before);
        let service = Participants::new().receiver("p", Delivered, database.clone());
        let (really_said, kept) = real(service, database, Operation::Confirm).await;
        assert_eq!((said, after.done), (really_said, kept.done), "a message on {:?}", before.row);
    }
}

/// The sender's row says what its local transaction came to. In the model that is `Local`, of which an open one is barred
/// by whoever asks.
#[tokio::test]
async fn the_model_is_asked_as_the_real_sender_is() {
    for (row, said, left) in [
        (Row::None, Said::Refused, Row::Cancelled),
        (Row::Confirmed, Said::Done, Row::Confirmed),
        (Row::Cancelled, Said::Refused, Row::Cancelled),
    ] {
        let database = database(party(row, 0, 0, 0));
        let service = Participants::new().senders("p", database.clone());
        let (really_said, kept) = real(service, database, Operation::Check).await;
        let state = |row: Option<RealRow>| row.map(|row| row.state());
        assert_eq!((said, state(real_row(left))), (really_said, state(kept.row)), "a check on {row:?}");
    }
}
