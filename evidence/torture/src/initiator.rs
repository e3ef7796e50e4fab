//! Whoever begins a transaction: it repeats itself until it knows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tcc_client::Decision;
use tcc_core::Decider;
use tcc_tests::http::{self, Message};
use tokio::time::{sleep, timeout};

use crate::Broken;
use crate::answers::Answers;
use crate::plan::Plan;
use crate::shape::{Branch, Outcome, Shape};

/// How long anything may take to be found out: less than a claim holds (90 s), for nothing may have to wait until that
/// of a dead process runs out.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one request may wait at the coordinator, and how long its answer is waited for.
const WAIT: (u32, Duration) = (2_000, Duration::from_secs(6));
/// Between a request that brought nothing and the next one.
const PAUSE: Duration = Duration::from_millis(15);

/// An initiator, and whoever else asks the coordinator.
#[derive(Clone, Debug)]
pub struct Initiator {
    coordinator: SocketAddr,
    answers: Arc<Answers>,
}

/// What a try by the initiator came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    Done,
    Refused,
}

impl Initiator {
    /// One that asks this coordinator and notes what it is told.
    #[must_use]
    pub const fn new(coordinator: SocketAddr, answers: Arc<Answers>) -> Self {
        Self { coordinator, answers }
    }

    /// What was told so far.
    #[must_use]
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Has a transaction done, up to where its decision is known, or where nothing more is for the initiator to do.
    ///
    /// # Errors
    /// When the answers are not those that such a transaction can have.
    pub async fn play(&self, plan: &Plan) -> Result<(), Broken> {
        if plan.shape == Shape::CancelFirst {
            let (status, body) = self.say(plan, "cancel", json!({"reason": "changed my mind"})).await?;
            return expect(&[200], status, &body);
        }
        let (status, body) = self.ask(&plan.gid, "POST", "", Some(&plan.begin())).await?;
        expect(&[200, 201], status, &body)?;
        match plan.shape.decider() {
            Decider::Coordinator => self.until(plan, "decision").await.map(drop),
            Decider::Initiator if plan.shape.checks() => self.commit(plan).await,
            Decider::Initiator => self.try_all(plan, &body["begun"]).await,
        }
    }

    /// Waits for the end of a transaction, and returns its view.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&self, plan: &Plan) -> Result<Value, Broken> {
        self.until(plan, "end").await
    }

    async fn until(&self, plan: &Plan, what: &str) -> Result<Value, Broken> {
        let end = Instant::now() + PATIENCE;
        let path = format!("/{}?wait={what}&timeout_ms={}", plan.gid, WAIT.0);
        while Instant::now() < end {
            let (status, body) = self.ask(&plan.gid, "GET", &path, None).await?;
            expect(&[200, 202], status, &body)?;
            if status == 200 {
                return Ok(body);
            }
        }
        let (_, body) = self.view(&plan.gid).await?;
        Err(format!("{} never came to its {what}: {body}", plan.gid))
    }

    /// The local transaction, and then the word, if it is this one that is given.
    async fn commit(&self, plan: &Plan) -> Result<(), Broken> {
        let commit = plan.decision() == Decision::Confirm;
        let local = json!({"gid": plan.gid, "n": plan.pays(), "commit": commit}).to_string();
        let request = Message::request("POST", "/local", Some(&local));
        let (status, body) = repeated(plan.services[plan.payer], &request, |_, _| {}).await?;
        expect(&[200], status, &body)?;
        if plan.shape == Shape::MessageChecked {
            return Ok(());
        }
        let said = if commit { ("confirm", json!({"tried": ids(plan)})) } else { ("cancel", json!({})) };
        let (status, body) = self.say(plan, said.0, said.1).await?;
        expect(&[200], status, &body)
    }

    async fn try_all(&self, plan: &Plan, begun: &Value) -> Result<(), Broken> {
        // What the coordinator tries comes first: so it is not left to chance how often that is written down.
        let tried_there = |branch: &&Branch| branch.way.endpoints()[0];
        for branch in plan.branches.iter().filter(tried_there) {
            self.tried_there(plan, branch).await?;
        }
        for branch in &plan.branches[plan.shape.at_begin()..] {
            let register = json!({"branches": [plan.branch(branch)]});
            let (status, body) = self.say(plan, "branches", register).await?;
            expect(&[200, 409], status, &body)?;
            if status == 409 {
                return self.too_late(plan, &body);
            }
            if branch.way.by_initiator() && self.try_(plan, branch, begun).await? == Try::Refused {
                let (status, body) = self.say(plan, "cancel", json!({"reason": "refused"})).await?;
                return expect(&[200], status, &body);
            }
        }
        if plan.outcome == Outcome::Expired {
            // And was never seen again.
            return Ok(());
        }
        let (status, body) = self.say(plan, "confirm", json!({"tried": ids(plan)})).await?;
        expect(&[200], status, &body)
    }

    fn too_late(&self, plan: &Plan, body: &Value) -> Result<(), Broken> {
        let expired = plan.outcome == Outcome::Expired && body["decision"] == json!("cancel");
        if expired { Ok(()) } else { Err(format!("{} was closed too early: {body}", plan.gid)) }
    }

    async fn tried_there(&self, plan: &Plan, branch: &Branch) -> Result<(), Broken> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let (_, view) = self.view(&plan.gid).await?;
            let branches = view["branches"].as_array().cloned().unwrap_or_default();
            let state = branches.iter().find(|it| it["id"] == json!(branch.id)).map(|it| it["state"].clone());
            if state != Some(json!("registered")) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Err(format!("{} of {} was never tried", branch.id, plan.gid))
    }

    async fn try_(&self, plan: &Plan, branch: &Branch, begun: &Value) -> Result<Try, Broken> {
        let payload = plan.payload(branch).to_string();
        let request = Message::request("POST", "/clerk/try", Some(&payload))
            .with("tcc-gid", &plan.gid)
            .with("tcc-branch", branch.id)
            .with("tcc-operation", "try")
            .with("tcc-timeout", "5000")
            .with("tcc-begun", &begun.to_string());
        let (status, body) = repeated(plan.address(branch), &request, |_, _| {}).await?;
        expect(&[200, 409], status, &body)?;
        Ok(if status == 200 { Try::Done } else { Try::Refused })
    }

    async fn say(&self, plan: &Plan, what: &str, body: Value) -> Result<(u16, Value), Broken> {
        self.ask(&plan.gid, "POST", &format!("/{}/{what}", plan.gid), Some(&body)).await
    }

    /// What is known of a transaction.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn view(&self, gid: &str) -> Result<(u16, Value), Broken> {
        self.ask(gid, "GET", &format!("/{gid}"), None).await
    }

    /// Says everything again that can be said of a transaction that has ended: it is told the same, and nothing happens.
    ///
    /// # Errors
    /// When it is told anything else.
    pub async fn repeat(&self, plan: &Plan) -> Result<(), Broken> {
        let decision = json!(plan.decision().as_str());
        let (status, body) = self.ask(&plan.gid, "POST", "", Some(&plan.begin())).await?;
        // One that was cancelled first was never begun, and is not now.
        expect(if plan.shape == Shape::CancelFirst { &[409] } else { &[200] }, status, &body)?;
        if body["decision"] != decision {
            return Err(format!("a repeated begin of {} is told {body}", plan.gid));
        }
        let confirmed = plan.decision() == Decision::Confirm;
        let (status, body) = self.say(plan, "cancel", json!({})).await?;
        expect(if confirmed { &[409] } else { &[200] }, status, &body)?;
        if plan.shape.decider() == Decider::Initiator {
            let (status, body) = self.say(plan, "confirm", json!({"tried": ids(plan)})).await?;
            expect(if confirmed { &[200] } else { &[409] }, status, &body)?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        gid: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Broken> {
        let body = body.map(Value::to_string);
        let request = Message::request(method, &format!("/v1/transactions{path}"), body.as_deref());
        let mut before = self.answers.known(gid);
        repeated(self.coordinator, &request, |status, body| {
            self.answers.take_in(gid, &before, status, body);
            before = self.answers.known(gid);
        })
        .await
    }
}

/// The branches that were registered without a `try`.
fn ids(plan: &Plan) -> Vec<&'static str> {
    plan.branches.iter().filter(|branch| !branch.way.endpoints()[0]).map(|branch| branch.id).collect()
}

fn expect(these: &[u16], status: u16, body: &Value) -> Result<(), Broken> {
    if these.contains(&status) { Ok(()) } else { Err(format!("instead of {these:?}: {status} {body}")) }
}

/// Sends a request until it is answered for good, and shows every answer.
async fn repeated(
    to: SocketAddr,
    request: &Message,
    mut see: impl FnMut(u16, &Value),
) -> Result<(u16, Value), Broken> {
    let end = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < end {
        match timeout(WAIT.1, http::call(to, request)).await {
            Ok(Ok(answer)) => {
                let status = answer.status();
                let body = serde_json::from_slice(&answer.body).unwrap_or_default();
                see(status, &body);
                if !matches!(status, 408 | 425 | 429 | 500..) {
                    return Ok((status, body));
                }
                last = format!("{status} {body}");
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer".to_owned(),
        }
        sleep(PAUSE).await;
    }
    Err(format!("{} {} is not answered: {last}", request.method(), request.path()))
}
