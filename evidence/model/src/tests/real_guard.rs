//! Every cell of the model's guard table, put to the guard of `tcc-client`.

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use tcc_client::{BoxError, Call, Commit, Database, Participant, Participants, Row as RealRow, Tried};
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

fn real_row(row: Row) -> Option<RealRow> {
    match row {
        Row::None => None,
        Row::Tried => Some(RealRow::Tried { reply: None }),
        Row::Refused => Some(RealRow::Refused { reason: "no".to_owned() }),
        Row::Confirmed => Some(RealRow::Confirmed { reply: None }),
        Row::Cancelled => Some(RealRow::Cancelled),
    }
}

/// What the real guard answers, judged by the core, and what it leaves behind.
async fn real(before: Party, operation: Operation, mood: Mood) -> (Said, Kept) {
    let Party { row, reserved, done, undone } = before;
    let database = Memory(Arc::new(Mutex::new(Kept { row: real_row(row), reserved, done, undone })));
    let mut service = Participants::new().add("p", Counts { mood }, database.clone());
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

#[tokio::test]
async fn the_model_answers_as_the_real_guard_does() {
    let party = |row, reserved, done, undone| Party { row, reserved, done, undone };
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
                let (really_said, kept) = real(before, operation, mood).await;
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
