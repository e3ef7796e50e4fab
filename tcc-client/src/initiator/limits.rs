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

/// Messages that one relay hands over at once: enough for a coordinator's group commit, few enough to be lost with it.
pub(super) const RELAY_IN_FLIGHT: usize = 64;
/// How long one message may take to be handed over, repeats included, before its row is left for later.
pub(super) const RELAY_SUBMIT: Duration = Duration::from_secs(15);
/// How long a relay has a message for itself: longer than it takes to hand over and to mark. What a dead relay had is
/// taken by another after that.
pub(super) const RELAY_LEASE: Duration = Duration::from_secs(30);
/// How soon a relay looks again after a put whose commit it cannot see; the pause doubles from look to look.
pub(super) const RELAY_FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How often a relay looks at least: for messages of other processes, and those that were left for later.
pub(super) const RELAY_SCAN: Duration = Duration::from_secs(5);
/// How long a message is left alone after its first failure; this doubles with each.
pub(super) const RELAY_FIRST_WAIT: Duration = Duration::from_millis(250);
/// How long a message is left alone at most: a coordinator that is back should have it soon.
pub(super) const RELAY_LONGEST_WAIT: Duration = Duration::from_secs(30);
