//! What every adapter for MySQL and MariaDB says to it, and how it reads an error.

use std::fmt::Write;

#[cfg(feature = "mysql_async")]
use crate::XaName;
use crate::limits::LOCK_WAIT;
use crate::{Call, Row, Timestamp, Trouble};

pub(super) const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS tcc_guard (
    gid    varbinary(128) NOT NULL,
    branch varbinary(64) NOT NULL,
    state  varchar(9) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
           CHECK (state IN ('tried', 'refused', 'confirmed', 'cancelled')),
    kept   mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    begun  bigint NOT NULL,
    PRIMARY KEY (gid, branch),
    KEY tcc_guard_begun (begun)
) ENGINE = InnoDB;
CREATE TABLE IF NOT EXISTS tcc_settled (
    id      tinyint NOT NULL PRIMARY KEY CHECK (id = 1),
    settled bigint NOT NULL
) ENGINE = InnoDB;
";

/// The savepoint lasts as long as the transaction, so that its end is found out: one that the method did not mean (a
/// deadlock whose error it ignored) or did mean.
pub(super) const START: &str = "START TRANSACTION READ WRITE; SAVEPOINT tcc_unit";

/// Without `autocommit`, what follows such an end is not committed by itself. `wait_timeout` (of
/// `tcc_core::limits::CALL_TIMEOUT`) only matters when this process is cut off and can neither finish its
/// transaction nor hang up.
pub(super) const SESSION: &str =
    "SET autocommit = 0, innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = 60";

// The text above spells these out.
const _: () = assert!(LOCK_WAIT.as_secs() == 2 && tcc_core::limits::CALL_TIMEOUT.as_secs() == 60);

/// Of prepared transactions, whose own rows nobody can read.
#[cfg(feature = "mysql_async")]
pub(super) const NOTES: &[&str] = &["CREATE TABLE IF NOT EXISTS tcc_prepared (
    name   varchar(101) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    gid    varbinary(128) NOT NULL,
    branch varbinary(64) NOT NULL,
    kept   mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    begun  bigint NOT NULL,
    noted  bigint NOT NULL,
    KEY tcc_prepared_begun (begun)
) ENGINE = InnoDB"];

/// `formatID` of our names: `tcc` in ASCII.
#[cfg(feature = "mysql_async")]
pub(super) const FORMAT: i64 = 7_627_619;

/// `ER_XAER_NOTA`: nothing is prepared under this name, or its own connection has not left it yet.
#[cfg(feature = "mysql_async")]
pub(super) const NO_SUCH_XA: u16 = 1397;

/// A name, as it stands after XA START, END, PREPARE, COMMIT and ROLLBACK.
#[cfg(feature = "mysql_async")]
pub(super) fn xid(name: &XaName) -> String {
    format!("'{}','{}',{FORMAT}", name.gtrid(), name.bqual())
}

/// Ends the local transaction that has only looked, and begins one that can be prepared, with the same savepoint.
#[cfg(feature = "mysql_async")]
pub(super) fn open(name: &XaName) -> String {
    format!("ROLLBACK AND NO CHAIN NO RELEASE; XA START {}; SAVEPOINT tcc_unit", xid(name))
}

/// Whether a server of this version may roll back what is prepared when its connection ends (MariaDB until 10.5), or is too
/// old for the clean-up (10.6).
#[cfg(feature = "mysql_async")]
pub(super) fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    let has: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    has < if version.contains("MariaDB") { (10, 6) } else { (8, 0) }
}

pub(super) const SETTLED: &str = "SELECT settled FROM tcc_settled";

/// `ER_SP_DOES_NOT_EXIST`, which is also said of savepoints.
pub(super) const NO_SAVEPOINT: u16 = 1305;

/// This form takes its lock exclusively at once: with INSERT IGNORE, duplicates share one, and deadlock when each
/// then wants to write. It changes nothing; the last inserted id tells that it was taken, whereas the number of
/// affected rows is 1 either way.
pub(super) fn insert(call: &Call, row: &Row) -> String {
    format!(
        "INSERT INTO tcc_guard (gid, branch, state, kept, begun) VALUES ({}, {}, '{}', {}, {})
         ON DUPLICATE KEY UPDATE begun = begun + 0 * LAST_INSERT_ID(1)",
        bytes(call.gid.as_str()),
        bytes(call.branch.as_str()),
        row.state(),
        kept(row),
        call.begun.as_millis()
    )
}

pub(super) fn load(call: &Call) -> String {
    format!("SELECT state, kept FROM tcc_guard WHERE {} FOR UPDATE", key(call))
}

/// Fails with [`NO_SAVEPOINT`] once the transaction has ended.
pub(super) fn set(call: &Call, row: &Row) -> String {
    let (state, kept, key) = (row.state(), kept(row), key(call));
    format!("RELEASE SAVEPOINT tcc_unit; UPDATE tcc_guard SET state = '{state}', kept = {kept} WHERE {key}")
}

pub(super) fn keep_mark(settled: Timestamp) -> String {
    let settled = settled.as_millis();
    format!(
        "INSERT INTO tcc_settled (id, settled) VALUES (1, {settled})
         ON DUPLICATE KEY UPDATE settled = GREATEST(settled, {settled})"
    )
}

/// The rows are looked for apart: a DELETE that did so itself would wait for those that others hold, and for the one after
/// the last, which a prepared transaction may hold until it is decided.
pub(super) fn forget(settled: Timestamp, most: u32) -> String {
    format!(
        "DELETE tcc_guard FROM (
             SELECT gid, branch FROM tcc_guard WHERE begun < {} ORDER BY begun LIMIT {most} FOR UPDATE SKIP LOCKED
         ) old STRAIGHT_JOIN tcc_guard ON tcc_guard.gid = old.gid AND tcc_guard.branch = old.branch",
        settled.as_millis()
    )
}

/// What an error calls for, by number: `HY000` is the state of nearly all of them.
pub(super) fn judge(code: u16, state: &str) -> Trouble {
    match code {
        // A deadlock; a row that changed after the transaction's snapshot; a certification that a group refused.
        1213 | 1020 | 3101 => Trouble::Conflict,
        // The same, told at the next statement of an XA transaction: rolled back, timed out, a deadlock. One of this name
        // is at work already.
        1402 | 1613 | 1614 | 1440 => Trouble::Conflict,
        // A lock that was waited for too long, or that NOWAIT did not wait for.
        1205 | 3572 => Trouble::Locked,
        _ if state == "40001" => Trouble::Conflict,
        _ => Trouble::Other,
    }
}

fn key(call: &Call) -> String {
    format!("gid = {} AND branch = {}", bytes(call.gid.as_str()), bytes(call.branch.as_str()))
}

fn kept(row: &Row) -> String {
    row.kept().map_or_else(|| "NULL".into(), |text| format!("CONVERT({} USING utf8mb4)", bytes(text)))
}

/// As a literal that means the same in every `sql_mode` and character set, which a method may have changed. Prepared
/// statements would too, and cost a round trip each: none outlives the reset of its session.
fn bytes(text: &str) -> String {
    let mut literal = String::with_capacity(3 + 2 * text.len());
    literal.push_str("x'");
    for byte in text.bytes() {
        write!(literal, "{byte:02x}").expect("a String takes everything");
    }
    literal.push('\'');
    literal
}

#[cfg(all(test, feature = "mysql_async"))]
mod tests {
    use super::is_too_old;

    #[test]
    fn it_is_known_which_servers_are_too_old() {
        for (version, too_old) in [
            ("10.11.14-MariaDB-0+deb12u2", false),
            ("10.6.0-MariaDB", false),
            ("11.4.2-MariaDB-log", false),
            ("10.5.29-MariaDB", true),
            ("5.5.68-MariaDB", true),
            ("8.0.36", false),
            ("8.4.0-debug", false),
            ("5.7.44-log", true),
            ("", true),
        ] {
            assert_eq!(is_too_old(version), too_old, "{version}");
        }
    }
}
