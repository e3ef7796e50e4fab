//! The stored record: how a transaction is written down. Versioned, and JSON, so that an operator can read it with
//! nothing but the store's own tools.

mod encode;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::branch::{Branch, End, Patience, Progress, Tried};
use crate::definition::{Check, Decider, Definition};
use crate::history::{Act, Attempt, Entry, History, What};
use crate::retry::{Retry, Then};
use crate::transaction::{Decided, Transaction};
use crate::{BranchId, Endpoint, Gid, Operation, Phase, Timestamp};

pub(crate) use encode::encode;

/// The version this code writes, and the newest it reads.
const VERSION: u32 = 1;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it was written by a newer version (record {0}, this one reads up to {VERSION})")]
    Newer(u32),
    #[error("it is no record")]
    Malformed(#[source] serde_json::Error),
    #[error("{0:?} is nothing that happens")]
    Entry(String),
    #[error("{0:?} is no endpoint")]
    Endpoint(String),
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
struct Record {
    v: u32,
    decider: DeciderRecord,
    #[serde(default)]
    check: Option<(String, u64)>,
    #[serde(default)]
    parent: Option<Gid>,
    #[serde(default)]
    trace: Option<String>,
    patience: (u32, u64),
    begun: i64,
    deadline: i64,
    phase: PhaseRecord,
    #[serde(default)]
    decided: Option<(i64, Option<String>)>,
    #[serde(default)]
    ended: Option<i64>,
    #[serde(default)]
    asking: ProgressRecord,
    branches: Vec<BranchRecord>,
    #[serde(default)]
    history: Vec<EntryRecord>,
    #[serde(default)]
    left_out: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum DeciderRecord {
    Initiator,
    Coordinator,
}

#[derive(Deserialize)]
enum PhaseRecord {
    Trying,
    Confirming,
    Confirmed,
    Cancelling,
    Cancelled,
    Abandoned,
}

#[derive(Deserialize)]
struct BranchRecord {
    id: BranchId,
    #[serde(default)]
    after: Vec<BranchId>,
    #[serde(rename = "try", default)]
    try_: Option<String>,
    #[serde(default)]
    confirm: Option<String>,
    #[serde(default)]
    cancel: Option<String>,
    #[serde(default)]
    no_cancel: bool,
    #[serde(default)]
    payload: Option<Arc<RawValue>>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    retry: Option<RetryRecord>,
    #[serde(default)]
    delay: u64,
    #[serde(default)]
    reserves: Option<u64>,
    #[serde(default)]
    timeout: Option<u64>,
    #[serde(default)]
    tried: Option<TriedRecord>,
    #[serde(default)]
    end: Option<EndRecord>,
    #[serde(default)]
    progress: ProgressRecord,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RetryRecord {
    Exponential(u64, u64),
    Intervals(Vec<u64>),
    Ladder(Vec<u64>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TriedRecord {
    Done(Option<Arc<RawValue>>),
    Refused(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EndRecord {
    Done,
    GivenUp,
    Forced(String, i64),
    NotNeeded,
}

#[derive(Deserialize, Default)]
struct ProgressRecord {
    #[serde(default)]
    due: Option<i64>,
    #[serde(default)]
    attempts: u64,
    #[serde(default)]
    attention: Option<String>,
    #[serde(default)]
    seen: Option<String>,
    #[serde(default)]
    acknowledged: bool,
}

/// The moment is counted from the begin.
#[derive(Deserialize)]
#[serde(untagged)]
enum EntryRecord {
    /// The operation, the branch, the number of the call, how long it took and its outcome.
    Called(i64, String, Option<usize>, u32, u64, Option<String>),
    Operated(i64, String, Option<String>),
}

/// Reads a transaction and what happened to it.
pub(crate) fn decode(gid: &Gid, document: &[u8]) -> Result<(Transaction, History), DecodeError> {
    let record: Record = match serde_json::from_slice(document) {
        Ok(record) => record,
        Err(error) => match serde_json::from_slice::<Version>(document) {
            Ok(Version { v }) if v > VERSION => return Err(DecodeError::Newer(v)),
            Ok(_) | Err(_) => return Err(DecodeError::Malformed(error)),
        },
    };
    if record.v > VERSION {
        return Err(DecodeError::Newer(record.v));
    }
    let check = match record.check {
        None => None,
        Some((at, after)) => Some(Check { at: endpoint(at)?, after: Duration::from_millis(after) }),
    };
    let begun = Timestamp::from_millis(record.begun);
    let history = record.history.into_iter().map(|read| entry(read, begun)).collect::<Result<_, _>>()?;
    let mut transaction = Transaction {
        gid: gid.clone(),
        decider: match record.decider {
            DeciderRecord::Initiator => Decider::Initiator,
            DeciderRecord::Coordinator => Decider::Coordinator,
        },
        check,
        parent: record.parent,
        traceparent: record.trace,
        patience: Patience { attempts: record.patience.0, age: Duration::from_millis(record.patience.1) },
        begun,
        deadline: Timestamp::from_millis(record.deadline),
        phase: match record.phase {
            PhaseRecord::Trying => Phase::Trying,
            PhaseRecord::Confirming => Phase::Confirming,
            PhaseRecord::Confirmed => Phase::Confirmed,
            PhaseRecord::Cancelling => Phase::Cancelling,
            PhaseRecord::Cancelled => Phase::Cancelled,
            PhaseRecord::Abandoned => Phase::Abandoned,
        },
        decided: record.decided.map(|(at, reason)| Decided { at: Timestamp::from_millis(at), reason }),
        ended: record.ended.map(Timestamp::from_millis),
        asking: progress(record.asking),
        branches: record.branches.into_iter().map(branch).collect::<Result<_, _>>()?,
    };
    transaction.resolve_order();
    Ok((transaction, History::read(history, record.left_out)))
}

fn entry(record: EntryRecord, begun: Timestamp) -> Result<Entry, DecodeError> {
    let at = |after: i64| Timestamp::from_millis(begun.as_millis().saturating_add(after));
    match record {
        EntryRecord::Called(after, word, branch, number, took, outcome) => {
            let operation = word.parse::<Operation>().map_err(|()| DecodeError::Entry(word))?;
            let took = Duration::from_millis(took);
            let attempt = Attempt { branch, operation, number, took, outcome };
            Ok(Entry { at: at(after), what: What::Called(attempt) })
        }
        EntryRecord::Operated(after, word, reason) => {
            let act =
                Act::ALL.into_iter().find(|act| act.as_str() == word).ok_or(DecodeError::Entry(word))?;
            Ok(Entry { at: at(after), what: What::Operated(act, reason) })
        }
    }
}

fn branch(record: BranchRecord) -> Result<Branch, DecodeError> {
    let definition = Definition {
        id: record.id,
        after: record.after,
        try_: record.try_.map(endpoint).transpose()?,
        confirm: record.confirm.map(endpoint).transpose()?,
        cancel: record.cancel.map(endpoint).transpose()?,
        no_cancel: record.no_cancel,
        payload: record.payload,
        headers: record.headers,
        retry: record.retry.map_or_else(Retry::default, retry),
        delay: Duration::from_millis(record.delay),
        reserves: record.reserves.map(Duration::from_millis),
        timeout: record.timeout.map(Duration::from_millis),
    };
    let tried = match record.tried {
        None => Tried::NotYet,
        Some(TriedRecord::Done(reply)) => Tried::Done(reply),
        Some(TriedRecord::Refused(reason)) => Tried::Refused(reason),
    };
    let end = record.end.map(|end| match end {
        EndRecord::Done => End::Done,
        EndRecord::GivenUp => End::GivenUp,
        EndRecord::Forced(reason, at) => End::Forced { reason, at: Timestamp::from_millis(at) },
        EndRecord::NotNeeded => End::NotNeeded,
    });
    Ok(Branch { tried, end, progress: progress(record.progress), ..Branch::new(definition) })
}

fn retry(record: RetryRecord) -> Retry {
    let lengths = |waits: Vec<u64>| waits.into_iter().map(Duration::from_millis).collect();
    match record {
        RetryRecord::Exponential(first, longest) => Retry::Exponential {
            first: Duration::from_millis(first),
            longest: Duration::from_millis(longest),
        },
        RetryRecord::Intervals(waits) => Retry::Intervals { waits: lengths(waits), then: Then::Repeat },
        RetryRecord::Ladder(waits) => Retry::Intervals { waits: lengths(waits), then: Then::GiveUp },
    }
}

fn progress(record: ProgressRecord) -> Progress {
    Progress {
        due: record.due.map(Timestamp::from_millis),
        attempts: u32::try_from(record.attempts).unwrap_or(u32::MAX),
        attention: record.attention,
        seen: record.seen,
        acknowledged: record.acknowledged,
    }
}

fn endpoint(text: String) -> Result<Endpoint, DecodeError> {
    text.parse().map_err(|_| DecodeError::Endpoint(text))
}
