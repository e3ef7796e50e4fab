//! The stored record: how a transaction is written down. Versioned, and JSON, so that an operator can read it with
//! nothing but the store's own tools.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::branch::{Branch, End, Patience, Progress, Tried};
use crate::definition::{Check, Decider, Definition};
use crate::retry::{Retry, Then};
use crate::transaction::{Decided, Transaction};
use crate::{BranchId, Endpoint, Gid, Phase, Timestamp};

/// The version this code writes, and the newest it reads.
const VERSION: u32 = 1;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it was written by a newer version (record {0}, this one reads up to {VERSION})")]
    Newer(u32),
    #[error("it is no record")]
    Malformed(#[source] serde_json::Error),
    #[error("{0:?} is no endpoint")]
    Endpoint(String),
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Record {
    v: u32,
    decider: DeciderRecord,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    check: Option<(String, u64)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    parent: Option<Gid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    trace: Option<String>,
    patience: (u32, u64),
    begun: i64,
    deadline: i64,
    phase: PhaseRecord,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    decided: Option<(i64, Option<String>)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ended: Option<i64>,
    #[serde(skip_serializing_if = "ProgressRecord::is_fresh", default)]
    asking: ProgressRecord,
    branches: Vec<BranchRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DeciderRecord {
    Initiator,
    Coordinator,
}

#[derive(Serialize, Deserialize)]
enum PhaseRecord {
    Trying,
    Confirming,
    Confirmed,
    Cancelling,
    Cancelled,
    Abandoned,
}

#[derive(Serialize, Deserialize)]
struct BranchRecord {
    id: BranchId,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    after: Vec<BranchId>,
    #[serde(rename = "try", skip_serializing_if = "Option::is_none", default)]
    try_: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    confirm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    cancel: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    no_cancel: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    payload: Option<Arc<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retry: Option<RetryRecord>,
    #[serde(skip_serializing_if = "is_zero", default)]
    delay: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reserves: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tried: Option<TriedRecord>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    end: Option<EndRecord>,
    #[serde(skip_serializing_if = "ProgressRecord::is_fresh", default)]
    progress: ProgressRecord,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RetryRecord {
    Exponential(u64, u64),
    Intervals(Vec<u64>),
    Ladder(Vec<u64>),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TriedRecord {
    Done(Option<Arc<RawValue>>),
    Refused(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EndRecord {
    Done,
    GivenUp,
    Forced(String, i64),
    NotNeeded,
}

#[derive(Serialize, Deserialize, Default)]
struct ProgressRecord {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    due: Option<i64>,
    #[serde(skip_serializing_if = "is_zero", default)]
    attempts: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    attention: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    seen: Option<String>,
}

impl ProgressRecord {
    const fn is_fresh(&self) -> bool {
        self.due.is_none() && self.attempts == 0 && self.attention.is_none() && self.seen.is_none()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Writes a transaction down. Its gid is the row's key and does not stand in the document.
pub(crate) fn encode(transaction: &Transaction) -> Vec<u8> {
    let record = Record {
        v: VERSION,
        decider: match transaction.decider {
            Decider::Initiator => DeciderRecord::Initiator,
            Decider::Coordinator => DeciderRecord::Coordinator,
        },
        check: transaction.check.as_ref().map(|check| (check.at.to_string(), millis(check.after))),
        parent: transaction.parent.clone(),
        trace: transaction.traceparent.clone(),
        patience: (transaction.patience.attempts, millis(transaction.patience.age)),
        begun: transaction.begun.as_millis(),
        deadline: transaction.deadline.as_millis(),
        phase: match transaction.phase {
            Phase::Trying => PhaseRecord::Trying,
            Phase::Confirming => PhaseRecord::Confirming,
            Phase::Confirmed => PhaseRecord::Confirmed,
            Phase::Cancelling => PhaseRecord::Cancelling,
            Phase::Cancelled => PhaseRecord::Cancelled,
            Phase::Abandoned => PhaseRecord::Abandoned,
        },
        decided: transaction.decided.as_ref().map(|decided| (decided.at.as_millis(), decided.reason.clone())),
        ended: transaction.ended.map(Timestamp::as_millis),
        asking: progress_record(&transaction.asking),
        branches: transaction.branches.iter().map(branch_record).collect(),
    };
    serde_json::to_vec(&record).expect("a record has string keys and no failing serializer")
}

fn branch_record(branch: &Branch) -> BranchRecord {
    let definition = &branch.definition;
    let text = |endpoint: &Option<Endpoint>| endpoint.as_ref().map(ToString::to_string);
    BranchRecord {
        id: definition.id.clone(),
        after: definition.after.clone(),
        try_: text(&definition.try_),
        confirm: text(&definition.confirm),
        cancel: text(&definition.cancel),
        no_cancel: definition.no_cancel,
        payload: definition.payload.clone(),
        headers: definition.headers.clone(),
        retry: (definition.retry != Retry::default()).then(|| retry_record(&definition.retry)),
        delay: millis(definition.delay),
        reserves: definition.reserves.map(millis),
        timeout: definition.timeout.map(millis),
        tried: match &branch.tried {
            Tried::NotYet => None,
            Tried::Done(reply) => Some(TriedRecord::Done(reply.clone())),
            Tried::Refused(reason) => Some(TriedRecord::Refused(reason.clone())),
        },
        end: branch.end.as_ref().map(|end| match end {
            End::Done => EndRecord::Done,
            End::GivenUp => EndRecord::GivenUp,
            End::Forced { reason, at } => EndRecord::Forced(reason.clone(), at.as_millis()),
            End::NotNeeded => EndRecord::NotNeeded,
        }),
        progress: progress_record(&branch.progress),
    }
}

fn retry_record(retry: &Retry) -> RetryRecord {
    match retry {
        Retry::Exponential { first, longest } => RetryRecord::Exponential(millis(*first), millis(*longest)),
        Retry::Intervals { waits, then } => {
            let waits = waits.iter().copied().map(millis).collect();
            match then {
                Then::Repeat => RetryRecord::Intervals(waits),
                Then::GiveUp => RetryRecord::Ladder(waits),
            }
        }
    }
}

fn progress_record(progress: &Progress) -> ProgressRecord {
    ProgressRecord {
        due: progress.due.map(Timestamp::as_millis),
        attempts: progress.attempts.into(),
        attention: progress.attention.clone(),
        seen: progress.seen.clone(),
    }
}

/// Reads a transaction.
pub(crate) fn decode(gid: &Gid, document: &[u8]) -> Result<Transaction, DecodeError> {
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
        begun: Timestamp::from_millis(record.begun),
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
    Ok(transaction)
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
    }
}

fn endpoint(text: String) -> Result<Endpoint, DecodeError> {
    text.parse().map_err(|_| DecodeError::Endpoint(text))
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
