//! The words on the wire between coordinator and participant: operations, phases, headers.

use std::fmt;

/// What the ids of our own begin with: of the coordinator's alerts, and of the guard's rows for what is no branch.
pub const OWN: &str = "tcc/";

/// What is asked of a participant, or of the initiator ([`Operation::Check`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Check and reserve.
    Try,
    /// Do what was reserved.
    Confirm,
    /// Give back what was reserved.
    Cancel,
    /// Asked of the initiator: did your local transaction commit?
    Check,
}

impl Operation {
    /// The word used in URLs, headers and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Try => "try",
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
            Self::Check => "check",
        }
    }
}

impl std::str::FromStr for Operation {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "try" => Ok(Self::Try),
            "confirm" => Ok(Self::Confirm),
            "cancel" => Ok(Self::Cancel),
            "check" => Ok(Self::Check),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The header that names the transaction.
pub const GID: &str = "tcc-gid";
/// The header that names the branch; absent on a check.
pub const BRANCH: &str = "tcc-branch";
/// The header that names the [`Operation`].
pub const OPERATION: &str = "tcc-operation";
/// How many times this operation was called before, plus one; for logs alone.
pub const ATTEMPT: &str = "tcc-attempt";
/// Milliseconds after which the coordinator stops listening for the answer.
pub const TIMEOUT: &str = "tcc-timeout";
/// When the transaction began, in milliseconds of the coordinator's clock; only to be compared with [`SETTLED`].
pub const BEGUN: &str = "tcc-begun";
/// Every transaction begun before this moment of the coordinator's clock has ended, be it just now; the moment itself is
/// at least the retention ago.
pub const SETTLED: &str = "tcc-settled";

/// The header that holds a signed call's [id](crate::signature::id).
pub const WEBHOOK_ID: &str = "webhook-id";
/// The header that holds when a call was signed, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// The header that holds a call's [signatures](crate::signature::sign).
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// Whether a header, whose name is in lower case, is the protocol's or the connection's, so that nobody else sets it.
#[must_use]
pub fn is_reserved(header: &str) -> bool {
    const RESERVED: [&str; 12] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "upgrade",
    ];
    ["tcc-", "webhook-", "proxy-"].iter().any(|prefix| header.starts_with(prefix))
        || RESERVED.contains(&header)
}

/// The `code` of the only answer that refuses a try: 409 or 422 with a JSON body that has it.
pub const REFUSED: &str = "refused";
/// The media type of every error body (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";
