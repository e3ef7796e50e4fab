//! This coordinator's API: a TCC tried by the coordinator in one request, until its end; or one tried by the
//! initiator, which begins, registers and tries branch by branch, and confirms, until the decision.

use serde_json::json;

use super::{PAYLOAD, TriedBy};
use crate::Failure;
use crate::client::{Headers, HttpClient};

pub(super) struct Api {
    client: HttpClient,
    tried_by: TriedBy,
    /// Of the transactions.
    url: String,
    participants: Vec<String>,
    /// What follows the gid in a begin.
    branches: String,
    /// The body of each registration.
    registrations: Vec<String>,
    /// What confirm names.
    tried: String,
    headers: Headers,
}

impl Api {
    pub(super) fn new(
        client: HttpClient,
        coordinator: &str,
        tried_by: TriedBy,
        participants: &[String],
        headers: Headers,
    ) -> Self {
        let ids: Vec<String> = (0..participants.len()).map(|i| format!("b{i}")).collect();
        let branch = |(id, at): (&String, &String)| {
            format!(r#"{{"id":"{id}","at":"http://{at}","payload":{PAYLOAD}}}"#)
        };
        let branches: Vec<String> = ids.iter().zip(participants).map(branch).collect();
        Self {
            client,
            tried_by,
            url: format!("http://{coordinator}/v1/transactions"),
            participants: participants.to_vec(),
            branches: branches.join(","),
            registrations: branches.iter().map(|branch| format!(r#"{{"branches":[{branch}]}}"#)).collect(),
            tried: json!({ "tried": ids }).to_string(),
            headers,
        }
    }

    pub(super) async fn transact(&self, gid: &str) -> Result<(), Failure> {
        match self.tried_by {
            TriedBy::Coordinator => self.submit(gid).await,
            TriedBy::Initiator => self.try_and_confirm(gid).await,
        }
    }

    async fn submit(&self, gid: &str) -> Result<(), Failure> {
        let body = format!(r#"{{"gid":"{gid}","branches":[{}]}}"#, self.branches);
        let (status, answer) = self.client.post(&format!("{}?wait=end", self.url), &Vec::new(), body).await?;
        is(gid, "Confirmed", (status == 201).then_some(&answer).ok_or_else(|| format!("{gid}: {status}"))?)
    }

    async fn try_and_confirm(&self, gid: &str) -> Result<(), Failure> {
        let none = Vec::new();
        let body = format!(r#"{{"gid":"{gid}","decider":"initiator"}}"#);
        self.client.done(&self.url, &none, body).await?;
        let url = format!("{}/{gid}", self.url);
        for (registration, at) in self.registrations.iter().zip(&self.participants) {
            self.client.done(&format!("{url}/branches"), &none, registration.clone()).await?;
            self.client.done(&format!("http://{at}/try"), &self.headers, PAYLOAD).await?;
        }
        let answer = self.client.done(&format!("{url}/confirm"), &none, self.tried.clone()).await?;
        is(gid, "Confirm", &answer)
    }
}

/// The phase in an answer begins with this word.
fn is(gid: &str, phase: &str, answer: &[u8]) -> Result<(), Failure> {
    let text = std::str::from_utf8(answer)?;
    if text.contains(&format!(r#""phase":"{phase}"#)) {
        Ok(())
    } else {
        Err(format!("{gid} is {text}").into())
    }
}
