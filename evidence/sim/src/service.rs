//! A participant: the real guard over a simulated database, a receiver and senders of messages beside it, and its moods.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tcc_client::{BoxError, Call, Participant, Participants, Receiver, Tried};
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::{Operation, protocol};
use tcc_server::transport::Outgoing;
use tokio::time::Instant;
use tower_service::Service as _;

use crate::book::Answered;
use crate::business::Work;
use crate::database::{Db, Tx};
use crate::fault::Fault;
use crate::log::Who;
use crate::nested;
use crate::setup::Break;
use crate::world::{World, lock};

/// How many participants there are.
pub(crate) const SERVICES: usize = 4;
/// Where messages are received.
pub(crate) const INBOX: &str = "inbox/confirm";
/// Where it is asked about the local transactions of those who send messages.
pub(crate) const CHECK: &str = "orders/check";

/// One participant.
pub(crate) struct Service {
    number: usize,
    pub(crate) db: Db,
    participants: Participants,
    moods: Mutex<Moods>,
}

#[derive(Default)]
struct Moods {
    down_until: Option<Instant>,
    poisonous_until: Option<Instant>,
}

/// The business behind the guard.
struct Clerk;

impl Participant for Clerk {
    type Database = Db;
    type Payload = Work;

    async fn try_(&self, call: &Call, work: &Work, tx: &mut Tx) -> Result<Tried, BoxError> {
        let world = tx.world();
        match tx.work(call, Operation::Try, *work).await? {
            // A number of its own for each run: a repeat must bring back the one that was kept.
            Ok(()) => Ok(Tried::with_reply(world.dice(|dice| dice.u32(..)))),
            Err(why) => Ok(Tried::refused(why)),
        }
    }

    async fn confirm(&self, call: &Call, work: &Work, tx: &mut Tx) -> Result<(), BoxError> {
        tx.work(call, Operation::Confirm, *work).await?.map_err(BoxError::from)
    }

    async fn cancel(&self, call: &Call, work: &Work, tx: &mut Tx) -> Result<(), BoxError> {
        tx.work(call, Operation::Cancel, *work).await?.map_err(BoxError::from)
    }
}

/// Takes in messages, with what follows from each in one local transaction.
struct Inbox;

impl Receiver for Inbox {
    type Database = Db;
    type Message = Work;

    async fn receive(&self, call: &Call, work: &Work, tx: &mut Tx) -> Result<(), BoxError> {
        tx.work(call, Operation::Confirm, *work).await?.map_err(BoxError::from)
    }
}

impl Service {
    /// All of a world's.
    pub(crate) fn all(world: &Weak<World>) -> Vec<Self> {
        let one = |number| {
            let db = Db::new(world.clone(), number);
            let participants = Participants::new()
                .add("clerk", Clerk, db.clone())
                .receiver("inbox", Inbox, db.clone())
                .senders("orders", db.clone());
            Self { number, db, participants, moods: Mutex::default() }
        };
        (0..SERVICES).map(one).collect()
    }

    /// Crashes, and is down for a while.
    pub(crate) fn crash(&self, world: &World) {
        world.note(Who::Participant(self.number), None, "crashes", String::new);
        self.db.crash();
        self.go_down(world.millis(300..8_000));
    }

    /// Takes no calls for a while.
    pub(crate) fn go_down(&self, length: Duration) {
        lock(&self.moods).down_until = Some(Instant::now() + length);
    }

    /// Answers nonsense for a while.
    pub(crate) fn turn_poisonous(&self, length: Duration) {
        lock(&self.moods).poisonous_until = Some(Instant::now() + length);
    }

    /// Whether it is down.
    pub(crate) fn is_down(&self) -> bool {
        lock(&self.moods).down_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether it answers nonsense.
    pub(crate) fn is_poisonous(&self) -> bool {
        lock(&self.moods).poisonous_until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes a call that has arrived, and answers it.
    pub(crate) async fn take(&self, world: &Arc<World>, path: &str, outgoing: Outgoing) -> Answer {
        if self.is_down() {
            return Answer::None(Failure::Connect);
        }
        if path.starts_with("nested/") {
            return nested::take(world, &outgoing.call).await;
        }
        let epoch = self.db.epoch();
        let (gid, branch, operation) =
            (outgoing.call.gid.clone(), outgoing.call.branch.clone(), outgoing.call.operation);
        if let Some(settled) = outgoing.settled {
            self.db.forget(settled);
        }
        let before = branch.as_ref().and_then(|branch| self.db.guard_row(&gid, branch));
        let forgotten = outgoing.call.begun < self.db.settled();
        let request = request(path, outgoing);
        let (status, body) = if operation == Operation::Check && world.breaks(Break::CheckGuesses) {
            (200, Bytes::new())
        } else {
            let answer = self.participants.clone().call(request).await;
            let response = answer.unwrap_or_else(|never| match never {});
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            (status, body.unwrap_or_else(|never| match never {}))
        };
        if self.db.epoch() != epoch {
            return Answer::None(Failure::Broken);
        }
        let case = crate::book::number(&gid);
        if operation == Operation::Check {
            world.note(Who::Participant(self.number), Some(case), "is checked", || status.to_string());
            let checked = lock(&world.book).checked(world, case, status, forgotten);
            world.hold(Some(case), checked);
        }
        if let Some(branch) = branch {
            world.note(Who::Participant(self.number), Some(case), "answered", || {
                format!("{status} to {operation} of {branch}")
            });
            let answered = Answered { operation, status, body: &body, before, forgotten };
            let checked = lock(&world.book).answered(world, case, &branch, answered);
            world.hold(Some(case), checked);
        }
        Answer::Response(Response { status, retry_after: None, body: Some(body.into()) })
    }

    /// What an answer from in front of the participant is, if one came.
    pub(crate) fn in_front(&self, world: &World, operation: Operation, path: &str) -> Option<Response> {
        let answer = |status| Some(Response { status, retry_after: None, body: Some(Vec::new()) });
        if self.is_poisonous() {
            return answer(world.dice(|dice| [400, 404, 500, 501][dice.usize(0..4)]));
        }
        if world.strikes(Fault::AnswerServerError) {
            return answer(world.dice(|dice| [500, 502, 503, 504][dice.usize(0..4)]));
        }
        if world.strikes(Fault::AnswerGarbage) {
            return answer(world.dice(|dice| [101, 301, 307, 400, 401, 418, 599, 999][dice.usize(0..8)]));
        }
        if world.strikes(Fault::AnswerNotFound) {
            return answer(404);
        }
        if world.strikes(Fault::AnswerOtherConflict) {
            let body = world.dice(|dice| [r#"{"code":"version"}"#, "refused", ""][dice.usize(0..3)]);
            return Some(Response { status: 409, retry_after: None, body: Some(body.into()) });
        }
        if world.strikes(Fault::AnswerTooMany) {
            let wait = world.millis(0..5_000);
            return Some(Response { status: 429, retry_after: Some(wait), body: None });
        }
        // To a message 202 would be an acknowledgement, and who acknowledges what it did not take loses it.
        if path != INBOX && world.strikes(Fault::AnswerPending) {
            return answer(world.dice(|dice| [202, 425][dice.usize(0..2)]));
        }
        if operation == Operation::Try && world.strikes(Fault::AnswerTooLong) {
            return Some(Response { status: 200, retry_after: None, body: None });
        }
        None
    }
}

/// The call as it stands in HTTP.
fn request(path: &str, outgoing: Outgoing) -> http::Request<Full<Bytes>> {
    let Outgoing { call, timeout, settled } = outgoing;
    let mut request = http::Request::post(format!("/{path}"))
        .header(protocol::GID, call.gid.as_str())
        .header(protocol::OPERATION, call.operation.as_str())
        .header(protocol::ATTEMPT, call.attempt)
        .header(protocol::TIMEOUT, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
        .header(protocol::BEGUN, call.begun.as_millis());
    if let Some(branch) = &call.branch {
        request = request.header(protocol::BRANCH, branch.as_str());
    }
    if let Some(settled) = settled {
        request = request.header(protocol::SETTLED, settled.as_millis());
    }
    let body = call.payload.as_ref().map_or_else(Bytes::new, |payload| Bytes::from(payload.get().to_owned()));
    request.body(Full::new(body)).expect("ids and numbers stand in headers")
}
