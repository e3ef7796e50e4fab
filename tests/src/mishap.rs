//! What goes wrong in a participant because a payload asks for it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::future::pending;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tcc_client::{BoxError, Call};
use tower_service::Service;

/// Something that goes wrong.
#[derive(Clone, Debug, Deserialize)]
pub struct Mishap {
    /// In this operation.
    pub on: String,
    /// What does.
    pub what: What,
    /// So often, counted over all lives of the process.
    pub times: usize,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The try says no; a confirm or a cancel does, as it never should.
    Refuse,
    /// An error; rolled back.
    Fail,
    /// Nothing is done, and no answer ever comes.
    Hang,
    /// It is done, and no answer ever comes.
    DoAndHang,
    /// It is done, and the answer takes three seconds.
    DoAndDawdle,
    /// The process ends before the commit.
    DieBeforeCommit,
    /// The process ends after the commit, before the answer.
    DieAfterCommit,
}

/// How often each mishap has happened, in a file that outlives the process: a line for each time.
#[derive(Debug)]
pub struct Mishaps {
    file: PathBuf,
    counts: Mutex<HashMap<String, usize>>,
}

impl Mishaps {
    /// Those that happened in earlier lives.
    #[must_use]
    pub fn load(file: PathBuf) -> Self {
        let mut counts = HashMap::new();
        for line in std::fs::read_to_string(&file).unwrap_or_default().lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        Self { file, counts: Mutex::new(counts) }
    }

    /// What is to happen now, if it is one of these.
    ///
    /// # Panics
    /// When it cannot be written down.
    pub fn now(&self, key: &str, operation: &str, mishaps: &[Mishap], of: &[What]) -> Option<What> {
        let mut counts = self.counts.lock().expect("no code under this lock panics");
        mishaps.iter().enumerate().find_map(|(i, mishap)| {
            if mishap.on != operation || !of.contains(&mishap.what) {
                return None;
            }
            let line = format!("{key} {operation} {i}");
            let count = counts.entry(line.clone()).or_default();
            if *count >= mishap.times {
                return None;
            }
            *count += 1;
            let file = OpenOptions::new().create(true).append(true).open(&self.file);
            file.and_then(|mut file| writeln!(file, "{line}")).expect("a writable file");
            Some(mishap.what)
        })
    }

    /// Those in the midst of a local transaction.
    ///
    /// # Errors
    /// When it is to fail.
    pub fn in_the_midst(&self, call: &Call, mishaps: &[Mishap]) -> Result<(), BoxError> {
        let of = [What::Fail, What::DieBeforeCommit];
        match self.now(&key(call), call.operation.as_str(), mishaps, &of) {
            Some(What::Fail) => Err("a fault that was asked for".into()),
            Some(_) => std::process::abort(),
            None => Ok(()),
        }
    }

    /// Whether a try is to be refused.
    pub fn refuse(&self, call: &Call, mishaps: &[Mishap]) -> bool {
        self.now(&key(call), "try", mishaps, &[What::Refuse]).is_some()
    }
}

fn key(call: &Call) -> String {
    format!("{} {}", call.gid, call.branch)
}

/// Puts before a service the mishaps that come before a call reaches it, and after its answer: those that stand in the
/// field `faults` of the body.
pub fn beset(service: Router, mishaps: Arc<Mishaps>) -> Router {
    Router::new().fallback(answer).with_state(Front { service, mishaps })
}

#[derive(Clone)]
struct Front {
    service: Router,
    mishaps: Arc<Mishaps>,
}

#[derive(Deserialize)]
struct Beset {
    #[serde(default)]
    faults: Vec<Mishap>,
}

async fn answer(State(mut front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let faults = serde_json::from_slice::<Beset>(&body).map(|beset| beset.faults).unwrap_or_default();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = header("tcc-operation").to_owned();
    let key = format!("{} {}", header("tcc-gid"), header("tcc-branch"));
    // The refusal of a try belongs into its local transaction.
    let before: &[What] = if operation == "try" { &[What::Hang] } else { &[What::Hang, What::Refuse] };
    match front.mishaps.now(&key, &operation, &faults, before) {
        Some(What::Refuse) => {
            let said = r#"{"code":"refused","detail":"not in the mood"}"#;
            return (StatusCode::CONFLICT, said).into_response();
        }
        Some(_) => pending().await,
        None => {}
    }
    let request = Request::from_parts(parts, Body::from(body));
    let Ok(answer) = Service::<Request>::call(&mut front.service, request).await;
    let after = [What::DoAndHang, What::DoAndDawdle, What::DieAfterCommit];
    match front.mishaps.now(&key, &operation, &faults, &after) {
        Some(What::DieAfterCommit) => std::process::abort(),
        Some(What::DoAndDawdle) => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            answer
        }
        Some(_) => pending().await,
        None => answer,
    }
}
