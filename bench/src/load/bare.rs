//! No coordinator: the load makes the calls of a transaction itself, all tries at once and then all confirms at once.

use futures_util::future::try_join_all;

use super::PAYLOAD;
use crate::Failure;
use crate::client::{Headers, HttpClient};

pub(super) struct Calls {
    client: HttpClient,
    tries: Vec<String>,
    confirms: Vec<String>,
    headers: Headers,
}

impl Calls {
    pub(super) fn new(client: HttpClient, participants: &[String], headers: Headers) -> Self {
        let urls =
            |operation: &str| participants.iter().map(|at| format!("http://{at}/{operation}")).collect();
        Self { client, tries: urls("try"), confirms: urls("confirm"), headers }
    }

    pub(super) async fn transact(&self) -> Result<(), Failure> {
        for urls in [&self.tries, &self.confirms] {
            try_join_all(urls.iter().map(|url| self.client.done(url, &self.headers, PAYLOAD))).await?;
        }
        Ok(())
    }
}
