//! What the headers of a call say, read once.

use std::str::FromStr;
use std::time::Duration;

use http::HeaderMap;
use tcc_core::signature::Signed;
use tcc_core::{BadId, BranchId, Digest, Gid, Operation, Timestamp, limits, protocol};

/// One call of the coordinator, as its headers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The transaction.
    pub gid: Gid,
    /// The participant's part in it. Together with the gid it is the key of the guard row, and a good key for
    /// whatever else must happen once. A check has none: then it is `tcc/sender`, the key of the sender's row.
    pub branch: BranchId,
    /// What is asked.
    pub operation: Operation,
    /// How many times this was asked before, plus one. For logs alone: it may skip and repeat.
    pub attempt: u32,
    /// How long the coordinator listens for the answer, counted from the arrival of the call. At most
    /// [`limits::CALL_TIMEOUT`].
    pub timeout: Duration,
    /// When the transaction began, by the coordinator's clock; only to be compared with `settled`.
    pub begun: Timestamp,
    /// Every transaction begun before this moment has ended. Absent from a try that the initiator makes itself, and older
    /// on a call that was long on its way: whoever deletes guard rows by it has to keep the highest.
    pub settled: Option<Timestamp>,
}

/// Why headers describe no call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    /// This header is needed.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// This header stands there more than once, so nobody can say which of them counts.
    #[error("the header {0} stands there more than once")]
    Repeated(&'static str),
    /// This header holds no id.
    #[error("the header {0} {1}")]
    Id(&'static str, BadId),
    /// `Tcc-Operation` holds none of the words `try`, `confirm`, `cancel`, `check`.
    #[error("the header {} holds none of try, confirm, cancel, check", protocol::OPERATION)]
    Operation,
    /// This header holds no number, or one out of range.
    #[error("the header {0} holds no number in its range")]
    Number(&'static str),
}

impl Call {
    /// Reads a call. `Tcc-Attempt` (1), `Tcc-Timeout` ([`limits::DEFAULT_CALL_TIMEOUT`]) and `Tcc-Settled` may be
    /// absent, the others not: without `Tcc-Begun` nobody could tell a late try from a new one.
    ///
    /// # Errors
    /// When a header is missing, repeated or unreadable.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, BadCall> {
        let operation = match text(headers, protocol::OPERATION)?.and_then(|word| word.parse().ok()) {
            Some(operation) => operation,
            None => {
                // A missing header and a wrong one are told apart for whoever writes a coordinator.
                needed(headers, protocol::OPERATION)?;
                return Err(BadCall::Operation);
            }
        };
        let gid = needed(headers, protocol::GID)?.parse().map_err(|bad| BadCall::Id(protocol::GID, bad))?;
        let branch = match operation {
            Operation::Check => sender(),
            Operation::Try | Operation::Confirm | Operation::Cancel => needed(headers, protocol::BRANCH)?
                .parse()
                .map_err(|bad| BadCall::Id(protocol::BRANCH, bad))?,
        };
        Self::of(gid, branch, operation, headers)
    }

    /// Reads a call that was signed: what it asks for was, and only the rest is read from its headers.
    pub(crate) fn from_signed(signed: Signed, headers: &HeaderMap) -> Result<Self, BadCall> {
        let branch = match signed.operation {
            Operation::Check => sender(),
            Operation::Try | Operation::Confirm | Operation::Cancel => {
                signed.branch.ok_or(BadCall::Missing(protocol::BRANCH))?
            }
        };
        Self::of(signed.gid, branch, signed.operation, headers)
    }

    fn of(gid: Gid, branch: BranchId, operation: Operation, headers: &HeaderMap) -> Result<Self, BadCall> {
        Ok(Self {
            gid,
            branch,
            operation,
            attempt: number(headers, protocol::ATTEMPT)?.unwrap_or(1),
            timeout: timeout(headers)?,
            begun: moment(headers, protocol::BEGUN)?.ok_or(BadCall::Missing(protocol::BEGUN))?,
            settled: moment(headers, protocol::SETTLED)?,
        })
    }

    /// The call that a message's sender makes of itself.
    #[cfg(feature = "initiator")]
    pub(crate) fn of_sender(gid: Gid, begun: Timestamp) -> Self {
        let (operation, timeout) = (Operation::Check, limits::CALL_TIMEOUT);
        Self { gid, branch: sender(), operation, attempt: 1, timeout, begun, settled: None }
    }

    /// The call that a consumer makes of itself, under the key of a broker's message.
    pub(crate) const fn of_consumer(gid: Gid, branch: BranchId, begun: Timestamp) -> Self {
        let (operation, timeout) = (Operation::Confirm, limits::CALL_TIMEOUT);
        Self { gid, branch, operation, attempt: 1, timeout, begun, settled: None }
    }

    /// Whether the guard row of this call may have been deleted already, so that its absence proves nothing.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.is_some_and(|settled| self.begun < settled)
    }
}

/// The branch id under which a message's sender keeps its row.
fn sender() -> BranchId {
    "tcc/sender".parse().expect("it is an id")
}

/// How long the coordinator listens for the answer.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Duration, BadCall> {
    let timeout = number::<u64>(headers, protocol::TIMEOUT)?;
    let timeout = timeout.map_or(limits::DEFAULT_CALL_TIMEOUT, Duration::from_millis);
    Ok(timeout.min(limits::CALL_TIMEOUT))
}

/// A header that may stand there once.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, BadCall> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(BadCall::Repeated(name));
    }
    // What is not ASCII is neither an id nor a number nor an operation: the replacement fails every parse below.
    Ok(Some(value.to_str().unwrap_or("\u{fffd}")))
}

fn needed<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, BadCall> {
    text(headers, name)?.ok_or(BadCall::Missing(name))
}

fn number<N: FromStr>(headers: &HeaderMap, name: &'static str) -> Result<Option<N>, BadCall> {
    text(headers, name)?.map(|digits| digits.parse().map_err(|_| BadCall::Number(name))).transpose()
}

fn moment(headers: &HeaderMap, name: &'static str) -> Result<Option<Timestamp>, BadCall> {
    Ok(number(headers, name)?.map(Timestamp::from_millis))
}

/// A hash of two texts: no two others, put together, read the same.
pub(crate) fn pair(one: &str, other: &str) -> Digest {
    Digest::of(&format!("{}:{one}{other}", one.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(changes: &[(&'static str, Option<&str>)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (protocol::GID, "order/7"),
            (protocol::BRANCH, "payment"),
            (protocol::OPERATION, "try"),
            (protocol::ATTEMPT, "3"),
            (protocol::TIMEOUT, "2500"),
            (protocol::BEGUN, "1000"),
            (protocol::SETTLED, "900"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        for (name, value) in changes {
            match value {
                Some(value) => drop(headers.insert(*name, value.parse().unwrap())),
                None => drop(headers.remove(*name)),
            }
        }
        headers
    }

    #[test]
    fn headers_describe_a_call() {
        let call = Call::from_headers(&headers(&[])).unwrap();
        assert_eq!((call.gid.as_str(), call.branch.as_str()), ("order/7", "payment"));
        assert_eq!((call.operation, call.attempt), (Operation::Try, 3));
        assert_eq!(call.timeout, Duration::from_millis(2500));
        assert_eq!((call.begun.as_millis(), call.settled.map(Timestamp::as_millis)), (1000, Some(900)));
        assert!(!call.is_settled());
    }

    #[test]
    fn what_is_for_logs_and_patience_has_defaults_within_bounds() {
        let call = Call::from_headers(&headers(&[
            (protocol::ATTEMPT, None),
            (protocol::TIMEOUT, None),
            (protocol::SETTLED, None),
        ]))
        .unwrap();
        assert_eq!((call.attempt, call.timeout), (1, limits::DEFAULT_CALL_TIMEOUT));
        assert!(!call.is_settled());
        let call = Call::from_headers(&headers(&[(protocol::TIMEOUT, Some("99999999"))])).unwrap();
        assert_eq!(call.timeout, limits::CALL_TIMEOUT);
    }

    #[test]
    fn headers_that_describe_no_call_say_which_and_why() {
        for (name, value, why) in [
            (protocol::GID, None, BadCall::Missing(protocol::GID)),
            (protocol::GID, Some("a b"), BadCall::Id(protocol::GID, BadId::Character(' ', "_:/-"))),
            (protocol::BRANCH, Some(""), BadCall::Id(protocol::BRANCH, BadId::Empty)),
            (protocol::OPERATION, None, BadCall::Missing(protocol::OPERATION)),
            (protocol::OPERATION, Some("deliver"), BadCall::Operation),
            (protocol::OPERATION, Some("Try"), BadCall::Operation),
            (protocol::ATTEMPT, Some("-1"), BadCall::Number(protocol::ATTEMPT)),
            (protocol::TIMEOUT, Some("5s"), BadCall::Number(protocol::TIMEOUT)),
            (protocol::BEGUN, None, BadCall::Missing(protocol::BEGUN)),
            (protocol::SETTLED, Some(""), BadCall::Number(protocol::SETTLED)),
        ] {
            assert_eq!(Call::from_headers(&headers(&[(name, value)])), Err(why), "{name}: {value:?}");
        }
        let mut twice = headers(&[]);
        twice.append(protocol::GID, "order/8".parse().unwrap());
        assert_eq!(Call::from_headers(&twice), Err(BadCall::Repeated(protocol::GID)));
    }
}
