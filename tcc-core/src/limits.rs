//! Every limit of the protocol, each with its reason. The server's own limits stand in `tcc_server::limits`.

use std::time::Duration;

/// Characters in a gid: a UUID, an order number or a path fit, and an index over it stays small.
pub const GID_LENGTH: usize = 128;
/// Characters in a branch id; together with the gid it is the key of a guard row.
pub const BRANCH_ID_LENGTH: usize = 64;
/// Characters in the name of a topic.
pub const TOPIC_LENGTH: usize = 64;
/// Characters in a subscriber's id: with the branch it becomes the id of a branch.
pub const SUBSCRIBER_ID_LENGTH: usize = 32;
/// Subscribers of one topic: each becomes a branch of what is published.
pub const SUBSCRIBERS: usize = 50;
/// Subscribers of all topics together: they are told in one answer.
pub const SUBSCRIPTIONS: usize = 2000;
/// Branches of one transaction: its document is rewritten whole at each change.
pub const BRANCHES: usize = 100;
/// Bytes of one branch's payload.
pub const PAYLOAD: usize = 64 * 1024;
/// Bytes of all payloads of a transaction, for the same reason as [`BRANCHES`].
pub const PAYLOADS: usize = 256 * 1024;
/// Levels of objects and lists in a payload: whoever reads it may do so by recursion.
pub const JSON_DEPTH: usize = 64;
/// Bytes of an endpoint.
pub const ENDPOINT: usize = 2048;
/// Headers of one branch.
pub const HEADERS: usize = 32;
/// Bytes of one branch's headers, names and values together.
pub const HEADER_BYTES: usize = 8 * 1024;
/// Bytes of a try's reply that are kept; a longer one is no answer.
pub const REPLY: usize = 64 * 1024;
/// Bytes of a reason or of a participant's detail; the rest is cut off.
pub const REASON: usize = 1024;
/// Calls of a transaction that are kept: they stand in its document, which is rewritten whole at each change.
pub const HISTORY: usize = 48;
/// Of these, how many from its beginning.
pub const HISTORY_FIRST: usize = 8;
/// Bytes of what is kept of a call's outcome.
pub const OUTCOME: usize = 128;
/// Intervals in a retry ladder.
pub const INTERVALS: usize = 64;

/// Signatures of one call that are looked at: two while keys change, and some to spare.
pub const SIGNATURES: usize = 16;
/// How far the clocks of whoever signs and whoever verifies may be apart, with the way in between.
pub const SIGNATURE_TOLERANCE: Duration = Duration::from_secs(300);

/// The longest deadline, delay, reservation or retry interval that can be asked for.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest time-out of one call. A claim on a transaction outlives it.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The default time-out of one call.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The default deadline of a transaction, counted from its begin.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long after its begin the initiator is first asked, by default.
pub const DEFAULT_CHECK_AFTER: Duration = Duration::from_secs(10);

/// The shortest wait between two calls of one branch, so that no answer can make a busy loop.
pub const SHORTEST_RETRY: Duration = Duration::from_millis(20);
/// The wait after a 425 or a pending answer.
pub const PENDING_RETRY: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is honoured: a participant must not be able to park a transaction.
pub const RETRY_AFTER: Duration = Duration::from_secs(3600);
