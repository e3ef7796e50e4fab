//! What a caller asks for, checked: a transaction to begin, branches to register.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::canonical::{canonical, is_plain};
use crate::{BranchId, Endpoint, Gid, Retry, limits};

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The application that began the transaction says confirm or cancel.
    Initiator,
    /// The coordinator confirms once every try is done and cancels when one is refused; without any try it
    /// confirms at begin.
    Coordinator,
}

/// A transaction to begin.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Its id.
    pub gid: Gid,
    /// Who decides.
    pub decider: Decider,
    /// How long it may stay undecided.
    pub timeout: Duration,
    /// Where to ask the initiator for the decision, instead of cancelling at the deadline.
    pub check: Option<Check>,
    /// The transaction this one is a part of; recorded and shown, nothing more.
    pub parent: Option<Gid>,
    /// The trace it belongs to (W3C Trace Context), passed on with every call.
    pub traceparent: Option<String>,
    /// Its branches, so far.
    pub branches: Vec<Definition>,
    /// The hash of what the caller sent, by which a repeat is told from another transaction of the same gid.
    pub digest: Digest,
}

/// Where and when the initiator is asked whether its local transaction committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The endpoint that is called with the operation `check`.
    pub at: Endpoint,
    /// How long after begin the first question is asked.
    pub after: Duration,
}

/// One branch, as its caller defined it.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its id.
    pub id: BranchId,
    /// The branches before it: their try before its try, their confirm before its confirm, its cancel before theirs.
    pub after: Vec<BranchId>,
    /// What the coordinator calls to try it; absent when the initiator tries, or when there is nothing to try.
    pub try_: Option<Endpoint>,
    /// What is called to confirm it.
    pub confirm: Option<Endpoint>,
    /// What is called to cancel it.
    pub cancel: Option<Endpoint>,
    /// Whether its caller said that it needs no cancel: it is tried, and there is nothing to undo.
    pub no_cancel: bool,
    /// The body of each call, a JSON text.
    pub payload: Option<Arc<RawValue>>,
    /// Headers sent along; stored and never returned, for they may be credentials.
    pub headers: BTreeMap<String, String>,
    /// When a call is repeated.
    pub retry: Retry,
    /// How long the first forward call is held back.
    pub delay: Duration,
    /// How long a reservation made by its try holds, from register.
    pub reserves: Option<Duration>,
    /// How long one call may take.
    pub timeout: Option<Duration>,
}

impl Definition {
    /// Whether there is nothing to try and nothing to undo, as for a message.
    #[must_use]
    pub fn confirms_only(&self) -> bool {
        self.try_.is_none() && self.cancel.is_none() && !self.no_cancel
    }

    /// Its endpoints, each with the name of its field.
    pub fn endpoints(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        let fields = [("try", &self.try_), ("confirm", &self.confirm), ("cancel", &self.cancel)];
        fields.into_iter().filter_map(|(field, endpoint)| Some((field, endpoint.as_ref()?)))
    }

    /// Whether two callers defined the same branch.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        let payload = |d: &Self| d.payload.as_deref().map(|payload| canonical(payload).ok());
        self.id == other.id
            && self.after == other.after
            && self.try_ == other.try_
            && self.confirm == other.confirm
            && self.cancel == other.cancel
            && self.no_cancel == other.no_cancel
            && payload(self) == payload(other)
            && self.headers == other.headers
            && self.retry == other.retry
            && self.delay == other.delay
            && self.reserves == other.reserves
            && self.timeout == other.timeout
    }
}

/// Whether readers take a JSON text. A [`RawValue`] is JSON by its grammar alone: nested however deep, with numbers
/// beyond all bounds and halves of surrogate pairs.
pub(crate) fn is_readable(json: &RawValue) -> Result<(), serde_json::Error> {
    if is_plain(json) {
        return Ok(());
    }
    serde_json::from_str::<serde_json::Value>(json.get()).map(drop)
}

/// A hash of what a caller sent (SHA-256).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The hash of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl fmt::Display for Digest {
    /// In hex: 64 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A mistake in what a caller asks for: the place as a JSON pointer (RFC 6901) and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer} {detail}")]
pub struct Invalid {
    /// Where, as in `/branches/2/after/0`.
    pub pointer: String,
    /// What, a clause that reads on from the pointer.
    pub detail: String,
}

impl Invalid {
    pub(crate) fn new(pointer: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self { pointer: pointer.to_string(), detail: detail.to_string() }
    }
}

/// Checks that the branches fit together: `known` are registered already, `new` come with this call.
///
/// # Errors
/// When an id stands twice, an `after` names no branch or closes a cycle, or there are too many of them.
pub(crate) fn fit_together(known: &[&Definition], new: &[Definition]) -> Result<(), Invalid> {
    if known.len() + new.len() > limits::BRANCHES {
        return Err(Invalid::new("/branches", format!("are more than {}", limits::BRANCHES)));
    }
    let payload = |d: &Definition| d.payload.as_ref().map_or(0, |p| p.get().len());
    let payloads: usize = known.iter().copied().chain(new).map(payload).sum();
    if payloads > limits::PAYLOADS {
        return Err(Invalid::new("/branches", format!("have over {} bytes of payload", limits::PAYLOADS)));
    }
    let ids: Vec<&BranchId> = known.iter().copied().chain(new).map(|d| &d.id).collect();
    for (i, branch) in new.iter().enumerate() {
        if ids.iter().filter(|id| ***id == branch.id).count() > 1 {
            return Err(Invalid::new(format!("/branches/{i}/id"), "stands twice"));
        }
        for (j, before) in branch.after.iter().enumerate() {
            let at = format!("/branches/{i}/after/{j}");
            if !ids.contains(&before) {
                return Err(Invalid::new(at, format!("names no branch: {before}")));
            }
            if branch.after[..j].contains(before) {
                return Err(Invalid::new(at, format!("names {before} a second time")));
            }
        }
    }
    acyclic(new)
}

/// Branches registered earlier cannot come after one that is new, so a cycle lies within the new ones.
fn acyclic(new: &[Definition]) -> Result<(), Invalid> {
    let mut left: Vec<usize> = (0..new.len()).collect();
    loop {
        let waits = |i: &usize| new[*i].after.iter().any(|before| left.iter().any(|j| new[*j].id == *before));
        let rest: Vec<usize> = left.iter().filter(|i| waits(i)).copied().collect();
        match rest.first() {
            None => return Ok(()),
            Some(i) if rest.len() == left.len() => {
                return Err(Invalid::new(format!("/branches/{i}/after"), "closes a cycle"));
            }
            Some(_) => left = rest,
        }
    }
}
