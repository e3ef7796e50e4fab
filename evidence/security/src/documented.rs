//! Whether an answer is one that `docs/http-api.md` speaks of.

use serde_json::Value;
use tcc_core::wire::{ProblemCode, TransactionEvents, TransactionList, TransactionView};

use crate::exchange::Answer;
use crate::secrets::{NOT_IN_ANSWERS, found};

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The API, for it was asked in good HTTP: always in JSON, and always as documented.
    Api,
    /// Perhaps the HTTP library below it, which answers what is no HTTP with a status and nothing else, or hangs up.
    Wire,
}

/// What an answer says.
#[derive(Clone, Debug)]
pub enum Said {
    /// How a transaction stands.
    View(Box<TransactionView>),
    /// What happened to one.
    Events,
    /// Figures for Prometheus.
    Metrics,
    /// Who has subscribed to topics.
    Topics,
    /// One page of a list of so many.
    List(usize),
    /// An error.
    Problem(ProblemCode),
    /// A probe's word.
    Probe,
    /// A status without a body: to HEAD, or to what is no HTTP.
    Bare(u16),
}

const VIEW: [&str; 13] = [
    "gid",
    "phase",
    "decision",
    "reason",
    "attention",
    "acknowledged",
    "decider",
    "parent",
    "begun",
    "age_ms",
    "deadline_ms",
    "purged",
    "branches",
];
const SUMMARY: [&str; 8] =
    ["gid", "phase", "decision", "attention", "begun", "age_ms", "branches", "unreadable"];
const EVENT: [&str; 10] = [
    "after_ms",
    "event",
    "branch",
    "operation",
    "attempt",
    "endpoint",
    "took_ms",
    "outcome",
    "decision",
    "reason",
];
const BRANCH: [&str; 7] = ["id", "state", "attempts", "seen", "next_ms", "reason", "reply"];
const PROBLEM: [&str; 10] =
    ["type", "title", "status", "code", "detail", "phase", "decision", "retryable", "pointer", "gid"];

/// Reads an answer as its documentation says.
///
/// # Errors
/// What about it is not documented, or must not be.
pub fn read(answer: &Answer, by: By, bodyless: bool) -> Result<Said, String> {
    if let Some(secret) = found(answer.head.as_bytes(), &NOT_IN_ANSWERS) {
        return Err(format!("its head holds {secret}"));
    }
    if let Some(secret) = found(&answer.body, &NOT_IN_ANSWERS) {
        return Err(format!("it holds {secret}: {}", answer.text()));
    }
    if answer.header("access-control-allow-origin").is_some() || answer.header("location").is_some() {
        return Err(format!("it invites others or leads elsewhere: {}", answer.head));
    }
    let status = answer.status;
    match answer.header("content-type") {
        Some(_) if bodyless && status < 500 => Ok(Said::Bare(status)),
        Some("application/problem+json") => problem(answer),
        Some("application/json") => view(answer),
        Some("text/plain; charset=utf-8") if status == 200 && ["ok", "ready"].contains(&&*answer.text()) => {
            Ok(Said::Probe)
        }
        Some("text/plain; version=0.0.4; charset=utf-8")
            if status == 200 && answer.body.starts_with(b"# HELP tcc_") =>
        {
            Ok(Said::Metrics)
        }
        None if by == By::Wire && [400, 414, 431].contains(&status) && answer.body.is_empty() => {
            Ok(Said::Bare(status))
        }
        _ => Err(format!("nobody knows it: {}{}", answer.head, answer.text())),
    }
}

fn only(object: &Value, known: &[&str]) -> Result<(), String> {
    let object = object.as_object().ok_or_else(|| format!("it is no object: {object}"))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("nobody knows its {key}")),
        None => Ok(()),
    }
}

fn problem(answer: &Answer) -> Result<Said, String> {
    let said = answer.json();
    only(&said, &PROBLEM)?;
    let code: ProblemCode = said["code"]
        .as_str()
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| format!("its code is not known: {said}"))?;
    let right = said["status"] == answer.status
        && answer.status == code.status()
        && said["type"] == format!("urn:tcc:problem:{}", code.as_str())
        && said["title"] == code.title()
        && said["retryable"] == code.is_retryable()
        && said["detail"].as_str().is_some_and(|detail| !detail.is_empty() && detail.len() < 16 * 1024);
    if !right {
        return Err(format!("it does not fit its code: {} {said}", answer.status));
    }
    if answer.status >= 500 && answer.status != 503 {
        return Err(format!("it is a bug: {said}"));
    }
    let promised = match answer.status {
        401 => answer.header("www-authenticate") == Some("Bearer"),
        503 => answer.header("retry-after").is_some(),
        _ => true,
    };
    if promised { Ok(Said::Problem(code)) } else { Err(format!("a header is missing: {}", answer.head)) }
}

fn view(answer: &Answer) -> Result<Said, String> {
    if ![200, 201, 202].contains(&answer.status) {
        return Err(format!("a view comes with {}", answer.status));
    }
    if answer.body.starts_with(br#"{"transactions":"#) {
        return list(answer);
    }
    if answer.body.starts_with(br#"{"openapi":"#) {
        return Ok(Said::Probe);
    }
    if answer.body.starts_with(br#"{"topic"#) {
        return topics(answer);
    }
    if let Ok(TransactionEvents { .. }) = serde_json::from_slice(&answer.body) {
        return events(answer);
    }
    // A reply may be nested deeper than a generic reader takes: the branches are read without it.
    let view: TransactionView =
        serde_json::from_slice(&answer.body).map_err(|why| format!("it is no view: {why}"))?;
    if let Ok(said) = serde_json::from_slice::<Value>(&answer.body) {
        only(&said, &VIEW)?;
        for branch in said["branches"].as_array().into_iter().flatten() {
            only(branch, &BRANCH)?;
        }
    }
    Ok(Said::View(Box::new(view)))
}

fn events(answer: &Answer) -> Result<Said, String> {
    let said = answer.json();
    only(&said, &["gid", "phase", "why", "events", "left_out"])?;
    for one in said["events"].as_array().into_iter().flatten() {
        only(one, &EVENT)?;
    }
    Ok(Said::Events)
}

fn topics(answer: &Answer) -> Result<Said, String> {
    let said = answer.json();
    let all = match said.get("topics") {
        Some(all) => {
            only(&said, &["topics"])?;
            all.as_array().cloned().unwrap_or_default()
        }
        None => vec![said],
    };
    for topic in &all {
        only(topic, &["topic", "subscribers"])?;
        for subscriber in topic["subscribers"].as_array().into_iter().flatten() {
            only(subscriber, &["id", "deliver"])?;
        }
    }
    Ok(Said::Topics)
}

fn list(answer: &Answer) -> Result<Said, String> {
    let said = answer.json();
    only(&said, &["transactions", "next"])?;
    for one in said["transactions"].as_array().into_iter().flatten() {
        only(one, &SUMMARY)?;
    }
    let list: TransactionList =
        serde_json::from_slice(&answer.body).map_err(|why| format!("it is no list: {why}"))?;
    if answer.status == 200 && list.transactions.len() <= 200 {
        Ok(Said::List(list.transactions.len()))
    } else {
        Err(format!("a list of {} comes with {}", list.transactions.len(), answer.status))
    }
}
