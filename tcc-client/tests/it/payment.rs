//! The participant under test, and how it is called.

use std::future::pending;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tcc_client::{BoxError, Call, Participant, Participants, Tried, Tx};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tower_service::Service;

use crate::banks::{Bank, Books};

/// A participant that moves money, and does as its payload says after it did.
pub(crate) struct Payment<B> {
    watch: Watch,
    bank: PhantomData<B>,
}

/// What a test sees of the participant's methods, and how it holds them.
#[derive(Clone)]
pub(crate) struct Watch {
    /// Runs of a method, committed or not.
    pub(crate) runs: Arc<AtomicUsize>,
    /// Has a permit for each run that waits at the gate…
    pub(crate) arrived: Arc<Semaphore>,
    /// …until it takes one of these.
    pub(crate) gate: Arc<Semaphore>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) account: String,
    pub(crate) cents: i64,
    /// Which operation does it; the others do nothing special.
    #[serde(default)]
    pub(crate) on: String,
    #[serde(default)]
    pub(crate) how: How,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) enum How {
    #[default]
    Plainly,
    Reply(Value),
    LongReply,
    Refuse(String),
    Fail(String),
    Panic,
    /// Ends the process.
    Die,
    Hang,
    /// Blocks the thread beyond the call's time, and then succeeds.
    Block,
    Gate,
    /// Runs a statement, and fails if it does.
    Statement(String),
    /// Runs a statement, and pretends that it did not fail.
    Spoil(String),
}

impl<B: Bank> Payment<B> {
    async fn run(
        &self,
        call: &Call,
        charge: &Charge,
        tx: &mut Tx<Self>,
        by: Books,
    ) -> Result<Tried, BoxError> {
        self.watch.runs.fetch_add(1, Ordering::SeqCst);
        if !B::move_money(tx, call, &charge.account, by).await? {
            return Ok(Tried::refused("no funds"));
        }
        if charge.on != call.operation.as_str() {
            return Ok(Tried::accepted());
        }
        match charge.how.clone() {
            How::Plainly => {}
            How::Reply(reply) => return Ok(Tried::with_reply(reply)),
            How::LongReply => return Ok(Tried::with_reply("x".repeat(tcc_core::limits::REPLY))),
            How::Refuse(reason) => return Ok(Tried::refused(reason)),
            How::Fail(why) => return Err(why.into()),
            How::Panic => panic!("as the payload says"),
            How::Die => std::process::abort(),
            How::Hang => pending().await,
            How::Block => std::thread::sleep(call.timeout + Duration::from_millis(1)),
            How::Gate => {
                self.watch.arrived.add_permits(1);
                self.watch.gate.acquire().await?.forget();
            }
            How::Statement(sql) => B::statement(tx, &sql).await?,
            How::Spoil(sql) => assert!(B::statement(tx, &sql).await.is_err()),
        }
        Ok(Tried::accepted())
    }
}

impl<B: Bank> Participant for Payment<B> {
    type Database = B::Database;
    type Payload = Charge;

    async fn try_(&self, call: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
        self.run(call, charge, tx, Books { free: -charge.cents, reserved: charge.cents, spent: 0 }).await
    }

    async fn confirm(&self, call: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        let by = Books { free: 0, reserved: -charge.cents, spent: charge.cents };
        obeyed(self.run(call, charge, tx, by).await?)
    }

    async fn cancel(&self, call: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
        let by = Books { free: charge.cents, reserved: -charge.cents, spent: 0 };
        obeyed(self.run(call, charge, tx, by).await?)
    }
}

/// A confirm or a cancel has no way to say no.
fn obeyed(tried: Tried) -> Result<(), BoxError> {
    match tried {
        Tried::Accepted(_) => Ok(()),
        Tried::Refused(reason) => Err(reason.into()),
    }
}

/// A coordinator's side of calls to one participant.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) service: Participants,
    pub(crate) branch: String,
    pub(crate) watch: Watch,
    pub(crate) charge: Charge,
    pub(crate) timeout: Duration,
    pub(crate) begun: i64,
    pub(crate) settled: Option<i64>,
}

/// An answer, as a coordinator sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Caller {
    /// A caller that charges alice 10 cents.
    pub(crate) fn new<B: Bank>(bank: &B) -> Self {
        let watch = Watch {
            runs: Arc::default(),
            arrived: Arc::new(Semaphore::new(0)),
            gate: Arc::new(Semaphore::new(0)),
        };
        let payment = Payment::<B> { watch: watch.clone(), bank: PhantomData };
        Self {
            service: Participants::new().add("payment", payment, bank.database()),
            branch: "payment".into(),
            watch,
            charge: Charge { account: "alice".into(), cents: 10, ..Charge::default() },
            timeout: Duration::from_secs(10),
            begun: 2000,
            settled: Some(1000),
        }
    }

    /// Its participant, to be served with another database.
    pub(crate) fn participant<B: Bank>(&self) -> Payment<B> {
        Payment { watch: self.watch.clone(), bank: PhantomData }
    }

    /// The same, with an operation that does something special.
    pub(crate) fn how(&self, on: &str, how: How) -> Self {
        let charge = Charge { on: on.into(), how, ..self.charge.clone() };
        Self { charge, ..self.clone() }
    }

    pub(crate) fn runs(&self) -> usize {
        self.watch.runs.load(Ordering::SeqCst)
    }

    /// Calls once.
    pub(crate) async fn once(&self, operation: &str, gid: &str) -> Seen {
        self.send(operation, gid, serde_json::to_vec(&self.charge).unwrap()).await
    }

    /// Calls until it is answered, as a coordinator does that is told to ask again.
    pub(crate) async fn call(&self, operation: &str, gid: &str) -> Seen {
        self.insist(operation, gid, serde_json::to_vec(&self.charge).unwrap()).await
    }

    /// The same, with this body.
    pub(crate) async fn insist(&self, operation: &str, gid: &str, body: Vec<u8>) -> Seen {
        loop {
            let seen = self.send(operation, gid, body.clone()).await;
            if seen.status != 425 {
                return seen;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn send(&self, operation: &str, gid: &str, body: Vec<u8>) -> Seen {
        let mut request = Request::post(format!("/payment/{operation}"));
        *request.headers_mut().unwrap() = self.headers(operation, gid);
        let response =
            self.service.clone().call(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Seen { status, body }
    }

    pub(crate) fn headers(&self, operation: &str, gid: &str) -> HeaderMap {
        let headers = [
            ("tcc-gid", gid.to_owned()),
            ("tcc-branch", self.branch.clone()),
            ("tcc-operation", operation.into()),
            ("tcc-attempt", "1".into()),
            ("tcc-timeout", self.timeout.as_millis().to_string()),
            ("tcc-begun", self.begun.to_string()),
        ];
        let settled = self.settled.map(|settled| ("tcc-settled", settled.to_string()));
        headers
            .into_iter()
            .chain(settled)
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }
}

impl Seen {
    /// The `code` of a problem; `done` for a success.
    pub(crate) fn code(&self) -> &str {
        if self.status == 200 { "done" } else { self.body["code"].as_str().expect("a problem has a code") }
    }

    pub(crate) fn refused(&self) -> bool {
        self.status == 409 && self.code() == "refused"
    }

    /// 200 without a reply.
    pub(crate) fn done() -> Self {
        Self { status: 200, body: json!(null) }
    }
}
