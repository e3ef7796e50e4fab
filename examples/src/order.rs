//! The order service: it begins the transactions, by a closure or by one submission.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tcc_client::{BoxError, Branch, Client, Decision, Gid, Retry, RunError, Standing, Submission};

use crate::inventory::Reserve;
use crate::payment::Charge;

/// How long an order may stay undecided before the coordinator cancels it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An order. Its number is the gid of its transaction, so that ordering again starts nothing new.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Unique for ever.
    pub number: Gid,
    /// Who pays.
    pub account: String,
    /// For what.
    pub item: String,
    /// How many.
    pub quantity: u32,
    /// The price of all of them.
    pub cents: u32,
    /// How the service has it done.
    pub style: Style,
}

/// The two styles of an initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// A closure tries the branches; its value confirms them, its error cancels them.
    Closure,
    /// All branches are submitted at once; the coordinator tries them.
    Submitted,
}

/// What became of an order, as far as the service knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Answer {
    /// It happens, everywhere.
    Confirmed,
    /// It happens nowhere.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// Not known now. Ordering again with the same number finds it out.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Where the order service finds the others.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The coordinator.
    pub tcc: Client,
    /// The inventory service's participant.
    pub inventory: String,
    /// The payment service's participant.
    pub payment: String,
}

impl Orders {
    /// The service: `POST /orders`.
    pub fn service(self) -> Router {
        Router::new().route("/orders", post(place)).with_state(Arc::new(self))
    }

    async fn by_closure(&self, order: &Order) -> Result<Answer, BoxError> {
        let transaction = self.tcc.transaction(order.number.clone()).timeout(PATIENCE);
        let run = transaction.run(async |tcc| {
            tokio::try_join!(tcc.try_(self.stock(order)?), tcc.try_(self.money(order)?))?;
            Ok(())
        });
        match run.await {
            Ok(()) => Ok(Answer::Confirmed),
            Err(RunError::Cancelled(stop)) => Ok(Answer::Cancelled { reason: stop.to_string() }),
            // By an earlier run of the same order, whose answer was lost.
            Err(RunError::Decided(_)) => Ok(told(&self.tcc.status(&order.number).await?)),
            Err(error) => Err(error.into()),
        }
    }

    async fn by_submission(&self, order: &Order) -> Result<Answer, BoxError> {
        let submission = Submission::new(order.number.clone())
            .timeout(PATIENCE)
            .branch(self.stock(order)?)
            .branch(self.money(order)?);
        Ok(told(&self.tcc.submit(submission).await?))
    }

    fn stock(&self, order: &Order) -> Result<Branch, serde_json::Error> {
        let reserve = Reserve { item: order.item.clone(), quantity: order.quantity };
        Branch::at("stock", &self.inventory).retry(SOON).payload(&reserve)
    }

    fn money(&self, order: &Order) -> Result<Branch, serde_json::Error> {
        let charge = Charge { account: order.account.clone(), cents: order.cents };
        Branch::at("money", &self.payment).retry(SOON).payload(&charge)
    }
}

/// Services here are back within a second, and somebody is watching.
const SOON: Retry = Retry::Exponential { first: Duration::from_millis(200), longest: Duration::from_secs(1) };

async fn place(State(orders): State<Arc<Orders>>, Json(order): Json<Order>) -> (StatusCode, Json<Answer>) {
    let answer = match order.style {
        Style::Closure => orders.by_closure(&order).await,
        Style::Submitted => orders.by_submission(&order).await,
    };
    match answer.unwrap_or_else(|error| Answer::Unknown { why: error.to_string() }) {
        answer @ Answer::Confirmed => (StatusCode::CREATED, Json(answer)),
        answer @ Answer::Cancelled { .. } => (StatusCode::CONFLICT, Json(answer)),
        answer @ Answer::Unknown { .. } => (StatusCode::ACCEPTED, Json(answer)),
    }
}

fn told(standing: &Standing) -> Answer {
    match standing.decision() {
        Some(Decision::Confirm) => Answer::Confirmed,
        Some(Decision::Cancel) => {
            Answer::Cancelled { reason: standing.reason().unwrap_or_default().to_owned() }
        }
        None => Answer::Unknown { why: "not decided yet".to_owned() },
    }
}
