//! Errors on the wire: RFC 9457 problems with a stable `code`.

use serde::{Deserialize, Serialize};

use crate::{Decision, Gid, Phase};

/// An error answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:tcc:problem:` and the code.
    #[serde(rename = "type")]
    pub type_: String,
    /// The code in words.
    pub title: String,
    /// The status code.
    pub status: u16,
    /// What programs read.
    pub code: String,
    /// What people read.
    pub detail: String,
    /// Where the transaction stands, if it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phase: Option<Phase>,
    /// What was decided, if it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<Decision>,
    /// Whether the same request may succeed later, or its outcome be found out by repeating it.
    pub retryable: bool,
    /// The place of the mistake in the request's body (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pointer: Option<String>,
    /// The transaction.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<Gid>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $retryable:literal, $title:literal;)*) => {
        /// Every code a [`Problem`] can have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $($(#[$doc])* $variant,)*
        }

        impl ProblemCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The status it comes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)* }
            }

            /// The code in words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is no JSON, or not of the right types.
    Malformed = "malformed", 400, false, "The body cannot be read";
    /// A field holds what it must not.
    Invalid = "invalid", 422, false, "A field is not valid";
    /// No token, or a wrong one.
    Unauthorized = "unauthorized", 401, false, "A valid token is required";
    /// There is no such route.
    NotFound = "not-found", 404, false, "There is no such resource";
    /// The route has no such method.
    MethodNotAllowed = "method-not-allowed", 405, false, "The method is not allowed here";
    /// The body did not arrive in time.
    RequestTimeout = "request-timeout", 408, true, "The request did not arrive in time";
    /// The body is too long.
    TooLarge = "too-large", 413, false, "The body is too long";
    /// The body is not declared as JSON.
    UnsupportedMediaType = "unsupported-media-type", 415, false, "The body must be application/json";
    /// Nothing is known of the gid. That does not say that its transaction never happened.
    UnknownGid = "unknown-gid", 404, false, "Nothing is known of this gid";
    /// The gid belongs to a transaction that was begun with other content.
    GidReused = "gid-reused", 409, false, "The gid is taken by a transaction with other content";
    /// The branch is registered with other content.
    BranchReused = "branch-reused", 409, false, "The branch is registered with other content";
    /// Confirm names other branches than were registered, or a try is outstanding.
    NotAllTried = "not-all-tried", 409, false, "Not all branches are known to be tried";
    /// The decision was confirm.
    AlreadyConfirmed = "already-confirmed", 409, false, "The transaction was decided: confirm";
    /// The decision was cancel.
    AlreadyCancelled = "already-cancelled", 409, false, "The transaction was decided: cancel";
    /// Before the decision no branch can be forced.
    NotDecided = "not-decided", 409, false, "The transaction is not decided";
    /// Of this transaction nothing was given up.
    NothingGivenUp = "nothing-given-up", 409, false, "The transaction gave up nothing";
    /// The transaction has no such branch.
    UnknownBranch = "unknown-branch", 404, false, "The transaction has no such branch";
    /// The coordinator decides, not the initiator.
    CoordinatorDecides = "coordinator-decides", 409, false, "The coordinator decides this transaction";
    /// The store is full; nothing was changed.
    StoreFull = "store-full", 503, true, "The store is full";
    /// The store will not take this transaction; nothing was changed.
    Unstorable = "unstorable", 422, false, "The store does not take this transaction";
    /// It may or may not have been done: repeat the request to find out.
    OutcomeUnknown = "outcome-unknown", 503, true, "Whether it was done is not known";
    /// The coordinator cannot serve now; nothing was changed.
    Unavailable = "unavailable", 503, true, "The coordinator is not available";
    /// A bug of the coordinator's.
    Internal = "internal", 500, true, "The coordinator failed";
}

impl std::str::FromStr for ProblemCode {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.iter().find(|code| code.as_str() == word).copied().ok_or(())
    }
}

impl Problem {
    /// A problem of this code.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            type_: format!("urn:tcc:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code: code.as_str().to_owned(),
            detail: detail.into(),
            phase: None,
            decision: None,
            retryable: code.is_retryable(),
            pointer: None,
            gid: None,
        }
    }

    /// The same, of this transaction.
    #[must_use]
    pub fn of(mut self, gid: &Gid) -> Self {
        self.gid = Some(gid.clone());
        self
    }

    /// The same, where the transaction stands in this phase.
    #[must_use]
    pub const fn in_phase(mut self, phase: Phase) -> Self {
        self.phase = Some(phase);
        self.decision = phase.decision();
        self
    }

    /// The same, with the place of the mistake.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }
}
