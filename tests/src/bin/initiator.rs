//! Somebody who has one transfer done, in a process of its own, and says what came of it.
//!
//! `initiator TRANSFER`, a JSON object, writes one line: the decision, `not-begun`, or `unknown`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tcc_client::{BoxError, Branch, Client, Decision, Gid, Outcome, Retry, RunError, Wait};

#[derive(Deserialize)]
struct Transfer {
    coordinator: String,
    gid: Gid,
    /// Where the two accounts are, and what goes wrong with them.
    from: Account,
    to: Account,
    amount: i64,
    deadline_ms: u64,
    /// How long one answer of the coordinator is waited for, and how long it is asked.
    request_ms: u64,
    repeat_ms: u64,
    call_ms: u64,
}

#[derive(Deserialize)]
struct Account {
    at: String,
    faults: serde_json::Value,
}

impl Transfer {
    fn branch(&self, id: &str, account: &Account, amount: i64) -> Result<Branch, BoxError> {
        let branch = Branch::at(id, &account.at).timeout(Duration::from_millis(self.call_ms));
        let (first, longest) = (Duration::from_millis(20), Duration::from_millis(100));
        let branch = branch.retry(Retry::Exponential { first, longest });
        Ok(branch.payload(&json!({"amount": amount, "faults": account.faults}))?)
    }

    async fn run(&self) -> Result<&'static str, BoxError> {
        let client = Client::builder(&self.coordinator)
            .request_timeout(Duration::from_millis(self.request_ms))
            .repeat_for(Duration::from_millis(self.repeat_ms))
            .repeat_after(Duration::from_millis(20), Duration::from_millis(100))
            .build()?;
        let from = self.branch("from", &self.from, -self.amount)?;
        let to = self.branch("to", &self.to, self.amount)?;
        let run = client.transaction(self.gid.clone()).timeout(Duration::from_millis(self.deadline_ms));
        let run = run.wait(Wait::Decision).run(async |tcc| {
            tcc.try_(from).await?;
            tcc.try_(to).await?;
            Ok(())
        });
        Ok(match run.await {
            Ok(()) => "confirm",
            Err(RunError::Cancelled(_)) => "cancel",
            Err(RunError::Decided(phase)) => phase.decision().map_or("trying", Decision::as_str),
            Err(RunError::NotBegun(error)) if error.outcome() == Outcome::Known => "not-begun",
            Err(_) => "unknown",
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tcc_tests::die_with_the_test();
    let transfer = std::env::args().nth(1).ok_or("which transfer?")?;
    let transfer: Transfer = serde_json::from_str(&transfer)?;
    println!("{}", transfer.run().await?);
    Ok(())
}
