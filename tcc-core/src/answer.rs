//! What an answer means: the one place where a participant's reply is judged, for every transport.
//!
//! Only status codes and typed fields speak, never a word found in a body. What is unclear is
//! [`Reply::Unknown`], and unknown is neither done nor refused.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canonical::canonical;
use crate::definition::is_readable;
use crate::{Operation, limits, protocol};

/// What a transport saw.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An answer came, whole or cut at [`limits::REPLY`].
    Response(Response),
    /// None came. Whether the participant worked is not known.
    None(Failure),
}

/// An answer in the terms of HTTP, which every transport speaks.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// `Retry-After`, where it was given in seconds.
    pub retry_after: Option<Duration>,
    /// The body, or `None` if it was longer than [`limits::REPLY`].
    pub body: Option<Vec<u8>>,
}

/// For a participant in the coordinator's own process; one behind HTTP gives these by their status codes.
impl Response {
    /// It was done.
    #[must_use]
    pub fn done() -> Self {
        Self::replied("")
    }

    /// A try was done, and this JSON text is its reply.
    #[must_use]
    pub fn replied(json: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, retry_after: None, body: Some(json.into()) }
    }

    /// It is being done: ask again soon.
    #[must_use]
    pub fn pending() -> Self {
        Self { status: 425, retry_after: None, body: None }
    }

    /// The participant will not do it, and this is why.
    #[must_use]
    pub fn refused(detail: &str) -> Self {
        let problem = serde_json::json!({ "code": protocol::REFUSED, "detail": detail });
        Self { status: 409, retry_after: None, body: Some(problem.to_string().into_bytes()) }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not within the time the call had.
    TimedOut,
    /// The name has no address.
    Dns,
    /// No connection could be made.
    Connect,
    /// TLS failed.
    Tls,
    /// The connection broke before the answer was whole.
    Broken,
    /// The address is one that must not be called.
    Forbidden,
    /// A participant in the coordinator's own process panicked.
    Panicked,
    /// Something else.
    Other,
}

impl Failure {
    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "timed-out",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Broken => "broken",
            Self::Forbidden => "forbidden",
            Self::Panicked => "panicked",
            Self::Other => "other",
        }
    }
}

/// What an answer means to the transaction.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It was done; the reply of a try is kept.
    Done(Option<Arc<RawValue>>),
    /// It is being done: ask again soon, no failure.
    Pending(Option<Duration>),
    /// The participant will not do it, and said so.
    Refused(String),
    /// It may or may not have been done.
    Unknown {
        /// What was seen, for people.
        seen: String,
        /// When the participant would like to be asked again.
        retry_after: Option<Duration>,
        /// Whether waiting alone can mend it.
        outlook: Outlook,
    },
}

/// Whether an unknown outcome may mend itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Try again, it may pass.
    Passing,
    /// A human should look, and it is retried slowly.
    Attention,
}

/// Which of the columns of the table in DESIGN.md §4 applies to a branch's confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The branch only ever confirms: a delivery, for which 202 is an acknowledgement.
    ConfirmsOnly,
    /// Any other branch, and the check.
    Other,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    detail: Option<String>,
}

/// Judges an answer.
#[must_use]
pub fn judge(operation: Operation, shape: Shape, answer: Answer) -> Reply {
    let response = match answer {
        Answer::Response(response) => response,
        Answer::None(failure) => return unknown(failure.as_str(), None, Outlook::Passing),
    };
    let Response { status, retry_after, body } = response;
    // What an initiator answers to a check calls for a human by its age alone.
    let mistaken = if operation == Operation::Check { Outlook::Passing } else { Outlook::Attention };
    match status {
        425 => Reply::Pending(retry_after),
        202 if !(operation == Operation::Confirm && shape == Shape::ConfirmsOnly) => {
            Reply::Pending(retry_after)
        }
        200..300 => match (operation, body) {
            (Operation::Try, None) => unknown("a reply that is too long", retry_after, Outlook::Passing),
            (Operation::Try, Some(body)) => Reply::Done(json(body)),
            // Only 200 means "committed": a 204 from a handler that forgot to answer must not move money.
            (Operation::Check, _) if status != 200 => {
                unknown(&format!("status {status}"), retry_after, mistaken)
            }
            (Operation::Confirm | Operation::Cancel | Operation::Check, _) => Reply::Done(None),
        },
        409 | 422 => match body.and_then(|body| serde_json::from_slice::<Problem>(&body).ok()) {
            Some(problem) if problem.code == protocol::REFUSED => {
                Reply::Refused(cut(problem.detail.as_deref().unwrap_or("refused")))
            }
            Some(problem) => {
                let seen = format!("status {status}, code {:?}", cut(&problem.code));
                unknown(&seen, retry_after, mistaken)
            }
            None => unknown(&format!("status {status}"), retry_after, mistaken),
        },
        408 | 429 => unknown(&format!("status {status}"), retry_after, Outlook::Passing),
        400..500 => unknown(&format!("status {status}"), retry_after, mistaken),
        _ => unknown(&format!("status {status}"), retry_after, Outlook::Passing),
    }
}

fn unknown(seen: &str, retry_after: Option<Duration>, outlook: Outlook) -> Reply {
    Reply::Unknown { seen: seen.to_owned(), retry_after, outlook }
}

/// A reply that can stand in a view: one that readers do not take would hide the other branches from them. Some refuse
/// what is 128 levels deep, and there it stands in three already, so it may be no deeper than a payload.
fn json(body: Vec<u8>) -> Option<Arc<RawValue>> {
    let text = String::from_utf8(body).ok()?;
    let json = RawValue::from_string(text.trim().to_owned()).ok()?;
    (is_readable(&json).is_ok() && canonical(&json).is_ok()).then(|| Arc::from(json))
}

/// A text that came from outside, cut to [`limits::REASON`] and freed of control characters.
#[must_use]
pub fn cut(text: &str) -> String {
    let end = (0..=limits::REASON.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Cancel, Check, Confirm, Try};

    fn word(operation: Operation, shape: Shape, status: u16, body: &str) -> &'static str {
        let response = Response { status, retry_after: None, body: Some(body.into()) };
        match judge(operation, shape, Answer::Response(response)) {
            Reply::Done(_) => "done",
            Reply::Pending(_) => "pending",
            Reply::Refused(_) => "refused",
            Reply::Unknown { outlook: Outlook::Passing, .. } => "unknown",
            Reply::Unknown { outlook: Outlook::Attention, .. } => "attention",
        }
    }

    #[test]
    fn the_table_of_answers_holds() {
        let refused = r#"{"code":"refused","detail":"sold out"}"#;
        #[rustfmt::skip]
        let table = [
            // status, body,                try,         confirm,     deliver,     cancel,      check
            (200, "{}",                   ["done",      "done",      "done",      "done",      "done"]),
            (204, "",                     ["done",      "done",      "done",      "done",      "unknown"]),
            (202, "",                     ["pending",   "pending",   "done",      "pending",   "pending"]),
            (425, "",                     ["pending",   "pending",   "pending",   "pending",   "pending"]),
            (409, refused,                ["refused",   "refused",   "refused",   "refused",   "refused"]),
            (422, refused,                ["refused",   "refused",   "refused",   "refused",   "refused"]),
            (409, r#"{"code":"x"}"#,      ["attention", "attention", "attention", "attention", "unknown"]),
            (409, "refused",              ["attention", "attention", "attention", "attention", "unknown"]),
            (400, refused,                ["attention", "attention", "attention", "attention", "unknown"]),
            (404, "",                     ["attention", "attention", "attention", "attention", "unknown"]),
            (410, "",                     ["attention", "attention", "attention", "attention", "unknown"]),
            (408, refused,                ["unknown",   "unknown",   "unknown",   "unknown",   "unknown"]),
            (429, "",                     ["unknown",   "unknown",   "unknown",   "unknown",   "unknown"]),
            (500, refused,                ["unknown",   "unknown",   "unknown",   "unknown",   "unknown"]),
            (503, "",                     ["unknown",   "unknown",   "unknown",   "unknown",   "unknown"]),
            (307, "",                     ["unknown",   "unknown",   "unknown",   "unknown",   "unknown"]),
            (101, "",                     ["unknown",   "unknown",   "unknown",   "unknown",   "unknown"]),
            (999, "",                     ["unknown",   "unknown",   "unknown",   "unknown",   "unknown"]),
            (200, "SUCCESS FAILURE",      ["done",      "done",      "done",      "done",      "done"]),
        ];
        for (status, body, expected) in table {
            let seen = [
                word(Try, Shape::Other, status, body),
                word(Confirm, Shape::Other, status, body),
                word(Confirm, Shape::ConfirmsOnly, status, body),
                word(Cancel, Shape::Other, status, body),
                word(Check, Shape::Other, status, body),
            ];
            assert_eq!(seen, expected, "{status} {body}");
        }
    }

    #[test]
    fn the_answers_of_a_function_mean_what_they_are_called() {
        let judged = |response: Response| judge(Try, Shape::Other, response.into());
        assert!(matches!(judged(Response::done()), Reply::Done(None)));
        assert!(matches!(judged(Response::replied("17")), Reply::Done(Some(json)) if json.get() == "17"));
        assert!(matches!(judged(Response::pending()), Reply::Pending(None)));
        assert!(
            matches!(judged(Response::refused("sold \"out\"")), Reply::Refused(why) if why == "sold \"out\"")
        );
    }

    #[test]
    fn an_overlong_reply_is_no_answer_to_a_try_and_none_is_needed_of_a_confirm() {
        let long = || Answer::Response(Response { status: 200, retry_after: None, body: None });
        assert!(matches!(judge(Try, Shape::Other, long()), Reply::Unknown { .. }));
        assert!(matches!(judge(Confirm, Shape::Other, long()), Reply::Done(None)));
    }

    #[test]
    fn a_reply_is_kept_when_it_is_json_and_a_reason_is_made_harmless() {
        let try_ = |status, body: &str| {
            judge(
                Try,
                Shape::Other,
                Answer::Response(Response { status, retry_after: None, body: Some(body.into()) }),
            )
        };
        assert!(
            matches!(try_(200, r#" {"seat": "12A"} "#), Reply::Done(Some(json)) if json.get() == r#"{"seat": "12A"}"#)
        );
        // Nor is what would make the whole view unreadable to whoever reads it.
        // In the view a reply stands some levels deep already.
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let (deep, most) = (nested(limits::JSON_DEPTH + 1), nested(limits::JSON_DEPTH));
        assert!(matches!(try_(200, &most), Reply::Done(Some(_))));
        for body in ["not json", "1e400", r#""\ud800""#, &deep] {
            assert!(matches!(try_(200, body), Reply::Done(None)));
        }
        let refusal = format!(r#"{{"code":"refused","detail":"a\nb{}"}}"#, "é".repeat(2000));
        assert!(
            matches!(try_(409, &refusal), Reply::Refused(reason) if reason.starts_with("a b") && reason.len() <= 1024)
        );
    }
}
