//! Calls that show who sent them: what has to stand in their headers, and what is believed once their body is there.

use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(any(feature = "initiator", feature = "testing"))]
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use tcc_core::protocol;
use tcc_core::signature::{BadSignature, Presented, Signed, SigningKey};
#[cfg(any(feature = "initiator", feature = "testing"))]
use tcc_core::{BranchId, Gid, Operation, signature};

use crate::answer::problem;
use crate::call::text;
use crate::participants::Rejected;

/// The headers of a call that says it is signed, and not too long ago.
pub(crate) struct Claim {
    id: String,
    timestamp: String,
    signatures: String,
}

impl Claim {
    /// Reads the headers of a call.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Rejected> {
        let needed = |name: &'static str| match text(headers, name) {
            Ok(Some(value)) => Ok(value.to_owned()),
            Ok(None) => Err(unbelieved("unsigned", &format!("the header {name} is missing"))),
            Err(bad) => Err(unbelieved("unsigned", &bad.to_string())),
        };
        let claim = Self {
            id: needed(protocol::WEBHOOK_ID)?,
            timestamp: needed(protocol::WEBHOOK_TIMESTAMP)?,
            signatures: needed(protocol::WEBHOOK_SIGNATURE)?,
        };
        claim.presented().is_timely(now()).map_err(wrong)?;
        Ok(claim)
    }

    /// What is asked, if one of the keys signed it and this body.
    pub(crate) fn verify(&self, keys: &[SigningKey], body: &[u8]) -> Result<Signed, Rejected> {
        self.presented().verify(keys, body, now()).map_err(wrong)
    }

    fn presented(&self) -> Presented<'_> {
        Presented { id: &self.id, timestamp: &self.timestamp, signatures: &self.signatures }
    }
}

/// Adds the headers by which a call shows who sent it; none where there is no key.
#[cfg(any(feature = "initiator", feature = "testing"))]
pub(crate) fn sign(
    keys: &[SigningKey],
    (gid, branch, operation): (&Gid, Option<&BranchId>, Operation),
    body: &[u8],
    headers: &mut HeaderMap,
) -> Option<()> {
    if keys.is_empty() {
        return Some(());
    }
    let (id, now) = (signature::id(gid, branch, operation), now());
    let signatures = signature::sign(keys, &id, now, body);
    for (name, value) in [
        (protocol::WEBHOOK_ID, id),
        (protocol::WEBHOOK_TIMESTAMP, now.to_string()),
        (protocol::WEBHOOK_SIGNATURE, signatures),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value).ok()?);
    }
    Some(())
}

/// Seconds since 1970, by this machine's clock.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn wrong(bad: BadSignature) -> Rejected {
    unbelieved("bad-signature", &bad.to_string())
}

fn unbelieved(code: &'static str, detail: &str) -> Rejected {
    tracing::warn!(code, detail, "a call was not believed");
    Box::new(problem(StatusCode::UNAUTHORIZED, code, "only signed calls are believed here", detail))
}
