//! One real transaction, looked at from all sides: what the lower bounds have to exchange and to write.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tcc_core::Store;
use tcc_core::store::{Filter, Page, Row};
use tcc_server::store::{SqliteOptions, SqliteStore};

use crate::client::{Headers, HttpClient};
use crate::load::PAYLOAD;
use crate::measure::{participants, seen};
use crate::participant::Answers;
use crate::process::{Process, Role};
use crate::{Failure, coordinator};

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The body of the coordinator's answer.
    pub(crate) answer: String,
    /// The headers of a call to a participant.
    pub(crate) headers: Headers,
    /// The size of what the log holds of it at its end.
    pub(crate) document_bytes: usize,
}

impl Sample {
    /// Has the coordinator make one, with a log in this folder.
    pub(crate) async fn take(folder: &Path, branches: usize) -> Result<Self, Failure> {
        let log = folder.join(format!("sample-{branches}.db"));
        let options = coordinator::Options { log: Some(log.clone()), retention_ms: None };
        let coordinator = Process::start(&Role::Coordinator(options)).await?;
        let mut participants = participants(branches, Answers::AtOnce).await?;
        let body = begin("bench-sample-1234567890", participants.iter().map(|one| one.ready.as_str()));
        let url = format!("http://{}/v1/transactions?wait=end", coordinator.ready);
        let answer = HttpClient::new().done(&url, &Vec::new(), body).await?;
        let headers = seen(&mut participants).await?.headers;
        coordinator.finish().await?;
        let answer = String::from_utf8(answer.to_vec())?;
        Ok(Self { answer, headers, document_bytes: only_row(&log).await?.document.len() })
    }
}

/// The body that begins a TCC which the coordinator tries.
pub(crate) fn begin<'a>(gid: &str, participants: impl Iterator<Item = &'a str>) -> String {
    let branch = |(i, at)| format!(r#"{{"id":"b{i}","at":"http://{at}","payload":{PAYLOAD}}}"#);
    let branches: Vec<String> = participants.enumerate().map(branch).collect();
    let day = Duration::from_secs(24 * 3600).as_millis();
    format!(r#"{{"gid":"{gid}","timeout_ms":{day},"branches":[{}]}}"#, branches.join(","))
}

/// What a log of one transaction holds.
pub(crate) async fn only_row(log: &Path) -> Result<Row, Failure> {
    let store = SqliteStore::open(log, SqliteOptions::default())?;
    let mut rows = store.list(&Filter::default(), Page { after: None, size: 2 }).await?.rows;
    match (rows.pop(), rows.pop()) {
        (Some(row), None) => Ok(row),
        _ => Err("the log of one transaction does not hold one".into()),
    }
}
