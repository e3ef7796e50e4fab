//! What a participant answers, and how that looks in HTTP.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use tcc_core::protocol;

/// What the guard makes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200: it is as asked, now or since an earlier call; with the reply of a try.
    Done(Option<String>),
    /// 409 `refused`: the only answer that means no.
    Refused(String),
    /// 425: nothing happened, since another call holds what this one needs.
    Pending,
    /// It cannot be obeyed, and repeating will not help: a human has to look.
    Alarm(Alarm),
    /// 500: nothing is known, or nothing happened; the caller has to repeat.
    Unknown(Unknown),
}

/// Why a confirm or a cancel cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// A confirm without an accepted try; P6.
    NotTried(String),
    /// A confirm after the cancel.
    AlreadyCancelled,
    /// A cancel after the confirm.
    AlreadyConfirmed,
    /// This version of the participant cannot read the payload that its try could.
    UnreadablePayload(String),
}

/// Why the caller has to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// An error or a panic; rolled back.
    Internal,
    /// Not finished in time; rolled back.
    TimedOut,
    /// The commit was sent and not answered.
    Commit,
}

/// An RFC 9457 problem.
#[derive(Serialize)]
pub(crate) struct Problem<'a> {
    #[serde(serialize_with = "as_number")]
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) detail: &'a str,
}

// The signature is serde's.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serialize_with passes references")]
fn as_number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

impl Answer {
    /// The word for logs.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Refused(_) => "refused",
            Self::Pending => "pending",
            Self::Alarm(alarm) => alarm.code(),
            Self::Unknown(unknown) => unknown.code(),
        }
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Done(None) => Response::new(Full::default()),
            Self::Done(Some(reply)) => {
                let mut response = Response::new(Full::from(reply));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Self::Refused(reason) => {
                problem(StatusCode::CONFLICT, protocol::REFUSED, "the try is refused", &reason)
            }
            Self::Pending => {
                problem(StatusCode::TOO_EARLY, "pending", "another call is at work; ask again soon", "")
            }
            Self::Alarm(alarm) => alarm.into_response(),
            Self::Unknown(unknown) => {
                problem(StatusCode::INTERNAL_SERVER_ERROR, unknown.code(), unknown.title(), "")
            }
        }
    }
}

impl Alarm {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NotTried(_) => "not-tried",
            Self::AlreadyCancelled => "already-cancelled",
            Self::AlreadyConfirmed => "already-confirmed",
            Self::UnreadablePayload(_) => "unreadable-payload",
        }
    }

    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::NotTried(detail) | Self::UnreadablePayload(detail) => detail,
            Self::AlreadyCancelled | Self::AlreadyConfirmed => "",
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let (status, title) = match self {
            Self::NotTried(_) => (StatusCode::CONFLICT, "there is no accepted try to confirm"),
            Self::AlreadyCancelled => {
                (StatusCode::CONFLICT, "the branch is cancelled and cannot be confirmed")
            }
            Self::AlreadyConfirmed => {
                (StatusCode::CONFLICT, "the branch is confirmed and cannot be cancelled")
            }
            // Not 422: whatever reads status codes alone must not take it for a refusal.
            Self::UnreadablePayload(_) => (StatusCode::BAD_REQUEST, "the payload cannot be read"),
        };
        problem(status, self.code(), title, self.detail())
    }
}

impl Unknown {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::TimedOut => "timed-out",
            Self::Commit => "unknown",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Internal => "failed and rolled back; the participant's log says why",
            Self::TimedOut => "not finished in time and rolled back",
            Self::Commit => "the commit was not answered",
        }
    }
}

/// A response that holds a problem.
pub(crate) fn problem(
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: &str,
) -> Response<Full<Bytes>> {
    let body =
        serde_json::to_vec(&Problem { status, code, title, detail }).expect("a struct of texts is JSON");
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(protocol::PROBLEM_JSON));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}
