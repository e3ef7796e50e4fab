//! Every limit of a participant, each with its reason. The protocol's own stand in [`tcc_core::limits`].

use std::time::Duration;

/// How long a call waits for a lock, a connection or its turn before it answers 425. Short, since what it waits for
/// is mostly another call of its own branch or a hot row, and the coordinator asks again after a second; long
/// enough for a queue of ordinary transactions to drain.
pub const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Runs of one unit that a deadlock or a serialization failure may cost before the call answers 425.
pub const RUNS: u32 = 8;
/// The longest wait before the second run; it doubles with each. A deadlock's two sides must not meet again.
pub const FIRST_BACKOFF: Duration = Duration::from_millis(4);
/// How long beginning a local transaction may take where no call says how long it waits: a wait for a connection, and
/// making one at a second address. A host that goes away without a word must not hold a relay or a sender for ever.
pub const BEGIN: Duration = Duration::from_secs(15);
/// How long a commit or a rollback may take after the call's own time has run out. A commit that was sent is
/// better waited for than guessed at, but a dead connection must not hold its unit for ever.
pub const FINISH: Duration = Duration::from_secs(5);
/// Connections of one `PgDatabase` or `MysqlDatabase`: enough for a busy service, few enough for ten of them on one server.
pub const CONNECTIONS: usize = 8;
/// Connections that an `Xa` has beside those of its tries: each confirm, cancel and note takes a few milliseconds of one, and
/// none of them waits for a row that a prepared try has locked.
pub const XA_CONNECTIONS: usize = 4;
/// Guard rows that are deleted in one local transaction: a few milliseconds of work, for which a call may have to wait
/// where a database has one writer.
pub const CLEANING_BATCH: u32 = 500;
/// One message in so many has a batch of old rows deleted: far more than are written in between.
pub const CLEANING_SENDS: u32 = 16;
/// How long a clean-up pauses after each batch, so that it never has more than a part of the database's time.
pub const CLEANING_PAUSE: Duration = Duration::from_millis(20);
/// How long a participant rests before its first clean-up and between any two. The coordinator's mark moves on every
/// few seconds, and a write for each would be waste.
pub const CLEANING_REST: Duration = Duration::from_secs(60);
/// How long a consumer knows a broker's message again, unless it is told: brokers keep theirs for a week, mostly.
pub const CONSUMED_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);
/// How long connecting to one address of a server may take, unless the configuration says otherwise.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long the suite for participants may take, unless it is told: what does not answer is called three times in each
/// of its checks.
pub const CONFORMANCE: Duration = Duration::from_secs(180);
/// The wait before the suite repeats a call: of 60 that are answered pending, six seconds.
pub const CONFORMANCE_PAUSE: Duration = Duration::from_millis(100);
/// How long the coordinator of the test kit drives transactions at most, by its own clock: what does not end in a day of
/// calls every minute never does.
pub const TEST_RUN: Duration = Duration::from_secs(24 * 3600);
/// Calls that the coordinator of the test kit makes at most: some days of a call every minute.
pub const TEST_CALLS: usize = 10_000;
