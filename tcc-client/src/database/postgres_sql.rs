//! What every adapter for PostgreSQL says to it, and how it reads an error.

use crate::Trouble;
use crate::limits::LOCK_WAIT;

pub(super) const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS tcc_guard (
    gid    text COLLATE \"C\" NOT NULL,
    branch text COLLATE \"C\" NOT NULL,
    state  text NOT NULL CHECK (state IN ('tried', 'refused', 'confirmed', 'cancelled')),
    kept   text,
    begun  bigint NOT NULL,
    PRIMARY KEY (gid, branch)
);
CREATE INDEX IF NOT EXISTS tcc_guard_begun ON tcc_guard (begun);
CREATE TABLE IF NOT EXISTS tcc_settled (
    id      smallint PRIMARY KEY CHECK (id = 1),
    settled bigint NOT NULL
);
";

/// `tcc.unit` lasts as long as the transaction: a method that has ended it, even to begin another, is found out.
///
/// The two long time-outs (of `tcc_core::limits::CALL_TIMEOUT`) only matter when this process is cut off and can
/// neither finish its transaction nor hang up. The last line is for a server on which `synchronous_commit` is off:
/// what is answered must not be lost with its power.
pub(super) const BEGIN: &str = "\
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = 2000;
SET LOCAL statement_timeout = 60000; SET LOCAL idle_in_transaction_session_timeout = 60000;
SET LOCAL tcc.unit = 'begun';
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'";

// The text above spells these out.
const _: () = assert!(LOCK_WAIT.as_millis() == 2000 && tcc_core::limits::CALL_TIMEOUT.as_millis() == 60_000);

pub(super) const INSERT: &str = "\
INSERT INTO tcc_guard (gid, branch, state, kept, begun) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (gid, branch) DO NOTHING";

pub(super) const LOAD: &str = "SELECT state, kept FROM tcc_guard WHERE gid = $1 AND branch = $2 FOR UPDATE";

/// In a transaction that an error has aborted this fails, whereas COMMIT would quietly roll back.
pub(super) const SET: &str = "\
UPDATE tcc_guard SET state = $3, kept = $4 WHERE gid = $1 AND branch = $2
AND current_setting('tcc.unit', true) = 'begun'";

pub(super) const SETTLED: &str = "SELECT settled FROM tcc_settled";

pub(super) const KEEP_MARK: &str = "\
INSERT INTO tcc_settled (id, settled) VALUES (1, $1)
ON CONFLICT (id) DO UPDATE SET settled = greatest(tcc_settled.settled, excluded.settled)";

/// By their place, which nobody can move who does not have their lock.
pub(super) const FORGET: &str = "\
DELETE FROM tcc_guard WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM tcc_guard WHERE begun < $1 ORDER BY begun LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// Of prepared transactions, whose own rows nobody can read.
#[cfg(feature = "tokio-postgres")]
pub(super) const NOTES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS tcc_prepared (
    name   text COLLATE \"C\" NOT NULL PRIMARY KEY,
    gid    text COLLATE \"C\" NOT NULL,
    branch text COLLATE \"C\" NOT NULL,
    kept   text,
    begun  bigint NOT NULL,
    noted  bigint NOT NULL
)",
    "CREATE INDEX IF NOT EXISTS tcc_prepared_begun ON tcc_prepared (begun)",
];

/// By the number of the guard's table, which has one in each schema; and how many transactions can be prepared.
#[cfg(feature = "tokio-postgres")]
pub(super) const PLACE: &str = "\
SELECT current_database() || '/' || to_regclass('tcc_guard')::oid,
       current_setting('max_prepared_transactions')::int";

/// What is said to be wrong of a name under which nothing is prepared.
#[cfg(feature = "tokio-postgres")]
pub(super) const NO_SUCH: &str = "42704";
/// Of a name that another connection is ending right now; and of a server that takes no prepared transactions.
#[cfg(feature = "tokio-postgres")]
pub(super) const NOT_NOW: &str = "55000";
/// Of a server that has as many of them as it takes.
#[cfg(feature = "tokio-postgres")]
pub(super) const NO_ROOM: &str = "53200";

/// Of this database alone: no other connection could end them. The place has no letter that means anything here.
#[cfg(feature = "tokio-postgres")]
pub(super) fn prepared(place: &str) -> String {
    format!(
        "SELECT gid, (extract(epoch FROM clock_timestamp() - prepared) * 1000)::bigint::text
         FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE '{place}:%'"
    )
}

/// The schema, as several may create it at once.
pub(super) fn create_schema() -> String {
    // IF NOT EXISTS alone fails when two do it at once. The number is `tcc_guar` in ASCII.
    format!("BEGIN; SELECT pg_advisory_xact_lock(8386658464824648050); {SCHEMA} COMMIT")
}

/// What an error with this SQLSTATE calls for.
pub(super) fn judge(state: &str) -> Trouble {
    match state {
        // A serialization failure; a deadlock.
        "40001" | "40P01" => Trouble::Conflict,
        // A lock that was waited for too long.
        "55P03" => Trouble::Locked,
        _ => Trouble::Other,
    }
}
