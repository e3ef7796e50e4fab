//! Every limit of an initiator, each with its reason.

use std::time::Duration;

/// How long one answer of the coordinator is waited for, on top of the wait that was asked of it: far more than a
/// durable write takes, and short enough that a repeat finds another node.
pub(super) const REQUEST: Duration = Duration::from_secs(10);
/// How long connecting may take, to the coordinator or to a participant.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How long a request is repeated: longer than a coordinator takes to restart, shorter than most callers wait.
pub(super) const REPEAT: Duration = Duration::from_secs(30);
/// What must be left of that for another attempt: one that is cut off would make a known outcome unknown.
pub(super) const LEAST: Duration = Duration::from_millis(250);
/// The middle of the first wait between two attempts: one lost packet should cost little.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The middle of the longest wait between two attempts: a caller is waiting, so a recovery is to be noticed soon.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The longest `Retry-After` of the coordinator that is honoured as it stands.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long a caller waits for what it asked to wait for, if it says nothing.
pub(super) const WAIT: Duration = Duration::from_secs(30);
/// How long one request waits at the coordinator: below the idle time-outs that proxies have, 30 s and more.
pub(super) const LISTEN: Duration = Duration::from_secs(20);
/// The pause between two waiting requests, so that a coordinator that does not wait makes no busy loop.
pub(super) const PACE: Duration = Duration::from_millis(100);
/// Bytes of one answer: a hundred branches with the longest replies, and some air.
pub(super) const ANSWER: usize = 8 * 1024 * 1024;
/// Bytes of an error answer that is no transaction: a problem has a reason, a pointer and little else.
pub(super) const PROBLEM: usize = 64 * 1024;
/// Idle connections are dropped before most servers drop them: a request on a connection that is just being closed
/// fails in the one way that leaves its outcome unknown.
pub(super) const IDLE_CONNECTION: Duration = Duration::from_secs(10);

/// The moment so much later. A caller may ask for any length, and the clock ends somewhere: beyond a year all are one.
pub(super) fn later(length: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + length.min(tcc_core::limits::LONGEST)
}
