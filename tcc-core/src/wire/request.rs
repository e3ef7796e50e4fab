//! What callers send, and how it is checked: each mistake is named by its place, nothing is guessed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::canonical::{canonical, is_plain};
use crate::definition::{Begin, Check, Decider, Definition, Digest, Invalid, is_readable};
use crate::retry::{Retry, Then};
use crate::{BranchId, Endpoint, Gid, answer, limits, protocol};

/// Begins a transaction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({
    "gid": "order/1042",
    "timeout_ms": 20000,
    "branches": [
        { "id": "stock", "at": "http://inventory:8081/tcc/stock", "payload": { "item": "tea", "quantity": 2 } },
        { "id": "money", "at": "http://payment:8082/tcc/account", "payload": { "account": "alice", "amount": 1250 } }
    ]
})))]
#[serde(deny_unknown_fields)]
pub struct BeginRequest {
    /// Its id; made for the caller if absent, but then a repeat of this request begins another transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_:/-]{1,128}$", example = "order/1042"))]
    pub gid: Option<String>,
    /// `coordinator` (the default) or `initiator`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(coordinator|initiator)$"))]
    pub decider: Option<String>,
    /// How long it may stay undecided; 60,000 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 31_622_400_000_u64))]
    pub timeout_ms: Option<u64>,
    /// Where the initiator is asked whether its local transaction committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// How long after begin it is asked first; 10,000 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 31_622_400_000_u64))]
    pub check_after_ms: Option<u64>,
    /// The transaction this one is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_:/-]{1,128}$"))]
    pub parent: Option<String>,
    /// Its branches, so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(max_items = 100))]
    pub branches: Vec<BranchRequest>,
}

/// One branch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BranchRequest {
    /// Its id, unique in the transaction.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_:/-]{1,64}$", example = "stock"))]
    pub id: String,
    /// The branches before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// Stands for `at/confirm` and `at/cancel` and, when the coordinator decides, `at/try`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "http://inventory:8081/tcc/stock"))]
    pub at: Option<String>,
    /// What the coordinator calls to try it; a saga's `action` is the same, under its own name.
    #[serde(rename = "try", alias = "action", skip_serializing_if = "Option::is_none")]
    pub try_: Option<String>,
    /// What is called to confirm it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
    /// What is called to cancel it, or `none` for a try that needs no cancel; a saga's `compensate` is the same.
    #[serde(alias = "compensate", skip_serializing_if = "Option::is_none")]
    pub cancel: Option<String>,
    /// The body of each call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub payload: Option<Arc<RawValue>>,
    /// Headers sent along; stored and never returned.
    #[serde(default, deserialize_with = "unrepeated", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// When a call is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryRequest>,
    /// How long the first forward call is held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 31_622_400_000_u64))]
    pub delay_ms: Option<u64>,
    /// How long a reservation made by its try holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 31_622_400_000_u64))]
    pub reserves_ms: Option<u64>,
    /// How long one call may take; 10,000 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 60_000))]
    pub timeout_ms: Option<u64>,
}

/// When a call is repeated: either `first_ms` and `longest_ms`, or `intervals_ms`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// The bound of the first, random wait; 500 if absent. It doubles from wait to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_ms: Option<u64>,
    /// The bound of every wait; 60,000 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_ms: Option<u64>,
    /// The waits, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 64))]
    pub intervals_ms: Option<Vec<u64>>,
    /// Whether the branch is given up after the last interval; otherwise that is repeated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub give_up: bool,
}

/// Registers branches.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({
    "branches": [{ "id": "coupon", "at": "http://coupons:8083/tcc/coupon", "payload": { "code": "TEA20" } }]
})))]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// They; those registered already with the same content are left as they are.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 100))]
    pub branches: Vec<BranchRequest>,
}

/// Says confirm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmRequest {
    /// The branches that were registered without a `try`, every one of which the initiator saw tried.
    #[cfg_attr(feature = "openapi", schema(max_items = 100, example = json!(["stock", "money"])))]
    pub tried: Vec<String>,
}

/// Says cancel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "the customer left"))]
    pub reason: Option<String>,
}

impl BeginRequest {
    /// Checks the request. `made` is the gid for one that brings none.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn parse(mut self, made: impl FnOnce() -> Gid) -> Result<Begin, Invalid> {
        let digest = self.digest();
        let gid = match self.gid {
            None => made(),
            Some(gid) => gid.parse().map_err(|why| Invalid::new("/gid", why))?,
        };
        let decider = match self.decider.as_deref() {
            None | Some("coordinator") => Decider::Coordinator,
            Some("initiator") => Decider::Initiator,
            Some(_) => return Err(Invalid::new("/decider", "is neither coordinator nor initiator")),
        };
        let check = match self.check {
            None if self.check_after_ms.is_some() => {
                return Err(Invalid::new("/check_after_ms", "says when to ask, but no /check says whom"));
            }
            None => None,
            Some(at) => Some(Check {
                at: endpoint("/check", &at)?,
                after: length("/check_after_ms", self.check_after_ms)?.unwrap_or(limits::DEFAULT_CHECK_AFTER),
            }),
        };
        let parent = match self.parent {
            None => None,
            Some(parent) => Some(parent.parse().map_err(|why| Invalid::new("/parent", why))?),
        };
        let timeout = positive("/timeout_ms", self.timeout_ms)?.unwrap_or(limits::DEFAULT_TIMEOUT);
        Ok(Begin {
            gid,
            decider,
            timeout,
            check,
            parent,
            traceparent: None,
            branches: branches(self.branches, decider)?,
            digest: digest?,
        })
    }

    /// The hash by which a repeat is told from another transaction of the same gid: of everything but the gid, as it
    /// was sent, with each payload in its one spelling.
    fn digest(&mut self) -> Result<Digest, Invalid> {
        let gid = self.gid.take();
        let digest = self.digest_of_all();
        self.gid = gid;
        digest
    }

    fn digest_of_all(&self) -> Result<Digest, Invalid> {
        let mut spelled = Cow::Borrowed(self);
        for (i, branch) in self.branches.iter().enumerate() {
            let Some(payload) = branch.payload.as_ref().filter(|payload| !is_plain(payload)) else {
                continue;
            };
            let text = spell(At(&"/branches", &i), payload)?;
            spelled.to_mut().branches[i].payload = RawValue::from_string(text).ok().map(Arc::from);
        }
        let text =
            serde_json::to_string(&spelled).expect("a request has string keys and no failing serializer");
        Ok(Digest::of(&text))
    }
}

/// A place in a request: a step below another. Put into words where there is something to say of it.
#[derive(Clone, Copy)]
struct At<'a>(&'a dyn fmt::Display, &'a dyn fmt::Display);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

fn spell(branch: At<'_>, payload: &RawValue) -> Result<String, Invalid> {
    canonical(payload).map_err(|why| Invalid::new(At(&branch, &"payload"), why))
}

impl RegisterRequest {
    /// Checks the request.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn parse(self) -> Result<Vec<Definition>, Invalid> {
        if self.branches.is_empty() {
            return Err(Invalid::new("/branches", "is empty"));
        }
        branches(self.branches, Decider::Initiator)
    }
}

impl ConfirmRequest {
    /// Checks the request.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn parse(self) -> Result<BTreeSet<BranchId>, Invalid> {
        if self.tried.len() > limits::BRANCHES {
            return Err(Invalid::new("/tried", format!("names more than {} branches", limits::BRANCHES)));
        }
        let ids = self.tried.iter().enumerate();
        ids.map(|(i, id)| id.parse().map_err(|why| Invalid::new(format!("/tried/{i}"), why))).collect()
    }
}

impl CancelRequest {
    /// The reason, made fit to be stored.
    #[must_use]
    pub fn parse(self) -> String {
        self.reason.as_deref().map_or_else(|| "cancelled by the initiator".to_owned(), answer::cut)
    }
}

fn branches(requests: Vec<BranchRequest>, decider: Decider) -> Result<Vec<Definition>, Invalid> {
    if requests.len() > limits::BRANCHES {
        return Err(Invalid::new("/branches", format!("are more than {}", limits::BRANCHES)));
    }
    requests.into_iter().enumerate().map(|(i, branch)| branch.parse(At(&"/branches", &i), decider)).collect()
}

impl BranchRequest {
    fn parse(self, place: At<'_>, decider: Decider) -> Result<Definition, Invalid> {
        let id: BranchId = self.id.parse().map_err(|why| Invalid::new(At(&place, &"id"), why))?;
        if id.as_str().starts_with(protocol::OWN) {
            // A guard has rows under such names for what is no branch.
            return Err(Invalid::new(
                At(&place, &"id"),
                format!("begins with {}, as only our own do", protocol::OWN),
            ));
        }
        if self.after.len() > limits::BRANCHES {
            return Err(Invalid::new(
                At(&place, &"after"),
                format!("names more than {} branches", limits::BRANCHES),
            ));
        }
        let mut after = Vec::new();
        for (j, before) in self.after.iter().enumerate() {
            after.push(before.parse().map_err(|why| Invalid::new(At(&At(&place, &"after"), &j), why))?);
        }
        let base = self.at.as_deref().map(|base| endpoint(At(&place, &"at"), base)).transpose()?;
        let resolve = |field: &str, given: Option<&str>, from_base: bool| match (given, &base) {
            (Some(given), _) => endpoint(At(&place, &field), given).map(Some),
            (None, Some(base)) if from_base => {
                base.join(field).map(Some).map_err(|why| Invalid::new(At(&place, &"at"), why))
            }
            (None, _) => Ok(None),
        };
        let no_cancel = self.cancel.as_deref() == Some("none");
        let try_ = resolve("try", self.try_.as_deref(), decider == Decider::Coordinator)?;
        let confirm = resolve("confirm", self.confirm.as_deref(), true)?;
        let cancel = if no_cancel { None } else { resolve("cancel", self.cancel.as_deref(), true)? };
        if try_.is_none() && confirm.is_none() && cancel.is_none() {
            return Err(Invalid::new(
                place,
                "has no endpoint: give it try, confirm, cancel, or at for all of them",
            ));
        }
        if try_.is_some() && cancel.is_none() && !no_cancel {
            let why = "is missing: a try needs its cancel, or \"none\" if there is nothing to undo";
            return Err(Invalid::new(At(&place, &"cancel"), why));
        }
        if let Some(payload) = &self.payload {
            check_payload(place, payload)?;
        }
        check_headers(At(&place, &"headers"), &self.headers)?;
        let retry =
            self.retry.map(|retry| retry.parse(At(&place, &"retry"))).transpose()?.unwrap_or_default();
        if retry.ends() && (try_.is_some() || cancel.is_some() || no_cancel) {
            let why = "only a branch with confirm alone may be given up";
            return Err(Invalid::new(At(&place, &"retry/give_up"), why));
        }
        let timeout = positive(At(&place, &"timeout_ms"), self.timeout_ms)?;
        if timeout.is_some_and(|timeout| timeout > limits::CALL_TIMEOUT) {
            return Err(Invalid::new(
                At(&place, &"timeout_ms"),
                format!("is over {}", limits::CALL_TIMEOUT.as_millis()),
            ));
        }
        Ok(Definition {
            id,
            after,
            try_,
            confirm,
            cancel,
            no_cancel,
            payload: self.payload,
            headers: self.headers,
            retry,
            delay: length(At(&place, &"delay_ms"), self.delay_ms)?.unwrap_or_default(),
            reserves: positive(At(&place, &"reserves_ms"), self.reserves_ms)?,
            timeout,
        })
    }
}

impl RetryRequest {
    fn parse(self, place: At<'_>) -> Result<Retry, Invalid> {
        let Some(intervals) = self.intervals_ms else {
            if self.give_up {
                return Err(Invalid::new(
                    At(&place, &"give_up"),
                    "needs intervals_ms, after the last of which to give up",
                ));
            }
            let Retry::Exponential { first, longest } = Retry::default() else {
                unreachable!("the default is exponential")
            };
            let first = positive(At(&place, &"first_ms"), self.first_ms)?.unwrap_or(first);
            let longest = positive(At(&place, &"longest_ms"), self.longest_ms)?.unwrap_or(longest.max(first));
            if longest < first {
                return Err(Invalid::new(At(&place, &"longest_ms"), "is less than first_ms"));
            }
            return Ok(Retry::Exponential { first, longest });
        };
        if self.first_ms.is_some() || self.longest_ms.is_some() {
            return Err(Invalid::new(At(&place, &"intervals_ms"), "stands beside first_ms or longest_ms"));
        }
        if intervals.is_empty() || intervals.len() > limits::INTERVALS {
            return Err(Invalid::new(
                At(&place, &"intervals_ms"),
                format!("has none or more than {}", limits::INTERVALS),
            ));
        }
        let place = At(&place, &"intervals_ms");
        let waits = intervals
            .into_iter()
            .enumerate()
            .filter_map(|(i, ms)| length(At(&place, &i), Some(ms)).transpose());
        let then = if self.give_up { Then::GiveUp } else { Then::Repeat };
        Ok(Retry::Intervals { waits: waits.collect::<Result<_, _>>()?, then })
    }
}

/// Reads headers, which may be credentials: serde would repeat in its message what has the wrong type.
fn unrepeated<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let headers = Box::<RawValue>::deserialize(from)?;
    serde_json::from_str(headers.get()).map_err(|_| D::Error::custom("headers are an object of texts"))
}

fn check_payload(branch: At<'_>, payload: &RawValue) -> Result<(), Invalid> {
    let place = At(&branch, &"payload");
    if payload.get().len() > limits::PAYLOAD {
        return Err(Invalid::new(place, format!("is longer than {} bytes", limits::PAYLOAD)));
    }
    if is_plain(payload) {
        return Ok(());
    }
    is_readable(payload)
        .map_err(|why| Invalid::new(place, format!("is more than JSON readers take: {why}")))?;
    spell(branch, payload).map(drop)
}

/// Names are tokens (RFC 9110 §5.6.2), values visible ASCII, and none is one of ours or of the connection.
fn check_headers(place: impl fmt::Display, headers: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if headers.len() > limits::HEADERS {
        return Err(Invalid::new(place, format!("are more than {}", limits::HEADERS)));
    }
    if headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > limits::HEADER_BYTES {
        return Err(Invalid::new(place, format!("are longer than {} bytes", limits::HEADER_BYTES)));
    }
    for (name, value) in headers {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            return Err(Invalid::new(place, format!("hold {name:?}, which is no header name")));
        }
        if protocol::is_reserved(&name.to_ascii_lowercase()) {
            return Err(Invalid::new(place, format!("hold {name:?}, which is not the caller's to set")));
        }
        if !value.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(Invalid::new(place, format!("hold a value of {name:?} that is not visible ASCII")));
        }
    }
    Ok(())
}

fn endpoint(place: impl fmt::Display, text: &str) -> Result<Endpoint, Invalid> {
    text.parse().map_err(|why| Invalid::new(place, why))
}

fn length(place: impl fmt::Display, millis: Option<u64>) -> Result<Option<Duration>, Invalid> {
    let length = millis.map(Duration::from_millis);
    if length.is_some_and(|length| length > limits::LONGEST) {
        return Err(Invalid::new(place, format!("is over {} (a year)", limits::LONGEST.as_millis())));
    }
    Ok(length)
}

fn positive(place: impl fmt::Display, millis: Option<u64>) -> Result<Option<Duration>, Invalid> {
    if millis == Some(0) {
        return Err(Invalid::new(place, "is 0"));
    }
    length(place, millis)
}
