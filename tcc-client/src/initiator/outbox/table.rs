//! What is said to the table `tcc_outbox`.
//!
//! A row is `pending` until the coordinator has answered, then `done` and soon deleted, or `refused` and kept. Moments
//! are the database's own. `due` of a pending row is when a relay may take it: one that takes it moves it on by its
//! lease, so that nobody holds a lock while the coordinator is asked.

use std::time::Duration;

use tcc_core::Gid;

use super::millis;
use crate::guard::reason;
use crate::local::{self, End};
use crate::{BoxError, Dialect, LocalError, SqlDatabase};

impl Dialect {
    pub(super) const fn outbox(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &[
                "CREATE TABLE IF NOT EXISTS tcc_outbox (
    gid     TEXT    NOT NULL PRIMARY KEY,
    state   TEXT    NOT NULL CHECK (state IN ('pending', 'done', 'refused')),
    due     INTEGER NOT NULL,
    tries   INTEGER NOT NULL,
    created INTEGER NOT NULL,
    request TEXT    NOT NULL,
    trace   TEXT,
    reason  TEXT
) STRICT",
                "CREATE INDEX IF NOT EXISTS tcc_outbox_due ON tcc_outbox (state, due)",
            ],
            Self::Postgres => &[
                "CREATE TABLE IF NOT EXISTS tcc_outbox (
    gid     text COLLATE \"C\" NOT NULL PRIMARY KEY,
    state   text NOT NULL CHECK (state IN ('pending', 'done', 'refused')),
    due     bigint NOT NULL,
    tries   integer NOT NULL,
    created bigint NOT NULL,
    request text NOT NULL,
    trace   text,
    reason  text
)",
                "CREATE INDEX IF NOT EXISTS tcc_outbox_due ON tcc_outbox (state, due)",
            ],
            Self::Mysql => &["CREATE TABLE IF NOT EXISTS tcc_outbox (
    gid     varbinary(128) NOT NULL PRIMARY KEY,
    state   varchar(7) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
            CHECK (state IN ('pending', 'done', 'refused')),
    due     bigint NOT NULL,
    tries   int NOT NULL,
    created bigint NOT NULL,
    request mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    trace   text CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    reason  text CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    KEY tcc_outbox_due (state, due)
) ENGINE = InnoDB"],
        }
    }
}

/// What waits in an outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Messages that the coordinator does not have yet.
    pub pending: u64,
    /// How long the oldest of them has been waiting.
    pub oldest: Option<Duration>,
    /// Messages that the coordinator has refused for good. They call for a human.
    pub refused: u64,
}

impl Backlog {
    /// The same as gauges in the text format of Prometheus, for what the application answers at its own `/metrics`. The
    /// label `outbox` tells the outboxes of several services apart.
    ///
    /// | gauge | |
    /// |---|---|
    /// | `tcc_outbox_pending` | messages that the coordinator does not have yet |
    /// | `tcc_outbox_oldest_seconds` | how long the oldest of them has been waiting; 0 if there is none |
    /// | `tcc_outbox_refused` | messages that the coordinator has refused for good |
    ///
    /// ```
    /// let nothing = tcc_client::Backlog::default().to_prometheus("orders");
    /// assert!(nothing.contains("\ntcc_outbox_pending{outbox=\"orders\"} 0\n"));
    /// ```
    #[must_use]
    pub fn to_prometheus(&self, outbox: &str) -> String {
        let outbox = outbox.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        let gauge = |name: &str, help: &str, value: String| {
            format!(
                "# HELP tcc_outbox_{name} {help}\n# TYPE tcc_outbox_{name} gauge\n\
                 tcc_outbox_{name}{{outbox=\"{outbox}\"}} {value}\n"
            )
        };
        let oldest = self.oldest.unwrap_or_default().as_secs_f64();
        [
            gauge("pending", "Messages that the coordinator does not have yet.", self.pending.to_string()),
            gauge("oldest_seconds", "How long the oldest of them has been waiting.", oldest.to_string()),
            gauge("refused", "Messages that the coordinator has refused for good.", self.refused.to_string()),
        ]
        .concat()
    }
}

/// A message that the coordinator has refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Its gid.
    pub gid: String,
    /// Why.
    pub reason: String,
    /// What was to be begun, as JSON.
    pub request: String,
}

/// What finds a row: the bytes of its gid in hex. Whoever else writes to the table may have written what is no gid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(String);

/// A message that a relay has for itself, for a while.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) row: Key,
    pub(super) gid: String,
    pub(super) request: String,
    pub(super) trace: Option<String>,
    /// How often it was taken, this time included.
    pub(super) tries: u32,
}

/// What came of a message.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    Refused(String),
    Later(Duration),
}

/// An ended transaction would take the row without the business: PostgreSQL tells by a setting, SQLite before it runs
/// this; MySQL's sessions commit nothing by themselves, and whoever commits has to look.
pub(super) fn put(dialect: Dialect, gid: &Gid, request: &str, trace: Option<&str>) -> String {
    let now = dialect.now();
    let (request, trace) =
        (dialect.text(request), trace.map_or("NULL".to_owned(), |trace| dialect.text(trace)));
    let whole = match dialect {
        Dialect::Postgres => "WHERE current_setting('tcc.unit', true) = 'begun'",
        Dialect::Sqlite | Dialect::Mysql => "",
    };
    format!(
        "INSERT INTO tcc_outbox (gid, state, due, tries, created, request, trace)
         SELECT '{gid}', 'pending', {now}, 0, {now}, {request}, {trace} {whole}"
    )
}

/// Fails where the transaction has ended.
pub(super) async fn is_whole<D: SqlDatabase>(tx: &mut D::Tx) -> Result<(), BoxError> {
    let whole = match D::DIALECT {
        Dialect::Sqlite => D::query(tx, "SELECT 'begun'".into()).await?,
        Dialect::Postgres => D::query(tx, "SELECT current_setting('tcc.unit', true)".into()).await?,
        Dialect::Mysql => {
            D::execute(tx, "RELEASE SAVEPOINT tcc_unit".into()).await?;
            return Ok(());
        }
    };
    match whole.first().and_then(|row| row.first()?.as_deref()) {
        Some("begun") => Ok(()),
        Some(_) | None => Err("the local transaction has ended already".into()),
    }
}

/// Takes messages that are due, the longest due first.
pub(super) async fn claim<D: SqlDatabase>(
    database: &D,
    most: usize,
    lease: Duration,
) -> Result<Vec<Claimed>, LocalError> {
    let (now, skip, lease) = (D::DIALECT.now(), D::DIALECT.skip_locked(), millis(lease));
    let (key, tries) = (Key::of(D::DIALECT), D::DIALECT.number("tries"));
    let due = format!(
        "SELECT {key}, request, trace, {tries} FROM tcc_outbox
         WHERE state = 'pending' AND due <= {now} ORDER BY due LIMIT {most} {skip}"
    );
    local::run(database, move |tx| {
        let due = due.clone();
        Box::pin(async move {
            let rows = D::query(tx, due).await?;
            let claimed = rows.into_iter().map(claimed).collect::<Result<Vec<_>, _>>()?;
            if claimed.is_empty() {
                return Ok(End::Rollback(claimed));
            }
            let gids = listed(D::DIALECT, claimed.iter().map(|claimed| &claimed.row));
            let take = format!(
                "UPDATE tcc_outbox SET due = {now} + {lease}, tries = tries + 1 WHERE gid IN ({gids})"
            );
            D::execute(tx, take).await?;
            Ok(End::Commit(claimed))
        })
    })
    .await
}

fn claimed(row: Vec<Option<String>>) -> Result<Claimed, BoxError> {
    let Ok([Some(key), Some(request), trace, Some(tries)]) = <[_; 4]>::try_from(row) else {
        return Err("a row of tcc_outbox has no gid, no request or no tries".into());
    };
    let row = Key(key);
    Ok(Claimed { gid: row.text(), row, request, trace, tries: tries.parse::<u32>()?.saturating_add(1) })
}

/// Notes what came of messages. What is done was done, whoever says something else.
pub(super) async fn mark<D: SqlDatabase>(
    database: &D,
    mut outcomes: Vec<(Key, Outcome)>,
) -> Result<(), LocalError> {
    if outcomes.is_empty() {
        return Ok(());
    }
    // In one order, so that relays that mark the same rows do not deadlock.
    outcomes.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (dialect, now) = (D::DIALECT, D::DIALECT.now());
    let statement = |(row, outcome): &(Key, Outcome)| {
        let gid = row.literal(dialect);
        let set = match outcome {
            Outcome::Done => {
                return format!("UPDATE tcc_outbox SET state = 'done', due = {now} WHERE gid = {gid}");
            }
            Outcome::Refused(why) => {
                format!("state = 'refused', due = {now}, reason = {}", dialect.text(&reason(why)))
            }
            Outcome::Later(wait) => format!("due = {now} + {}", millis(*wait)),
        };
        format!("UPDATE tcc_outbox SET {set} WHERE gid = {gid} AND state = 'pending'")
    };
    let all_done = outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Done));
    let statements = if all_done {
        let gids = listed(dialect, outcomes.iter().map(|(row, _)| row));
        vec![format!("UPDATE tcc_outbox SET state = 'done', due = {now} WHERE gid IN ({gids})")]
    } else {
        outcomes.iter().map(statement).collect()
    };
    local::commit(database, move |tx| {
        let statements = statements.clone();
        Box::pin(async move {
            for statement in statements {
                D::execute(tx, statement).await?;
            }
            Ok(())
        })
    })
    .await
}

/// Makes due what a clock that has been turned back since has put off: no relay has a message for longer than this, and
/// none is left alone for longer.
pub(super) async fn bring_back<D: SqlDatabase>(database: &D, longest: Duration) -> Result<u64, LocalError> {
    let (now, longest) = (D::DIALECT.now(), millis(longest));
    let back =
        format!("UPDATE tcc_outbox SET due = {now} WHERE state = 'pending' AND due > {now} + {longest}");
    execute(database, back).await
}

/// Deletes messages that are done, at most so many. Returns how many.
pub(super) async fn forget<D: SqlDatabase>(database: &D, most: u32) -> Result<u64, LocalError> {
    execute(database, D::DIALECT.delete("tcc_outbox", "state = 'done'", most)).await
}

pub(super) async fn retry_refused<D: SqlDatabase>(database: &D) -> Result<u64, LocalError> {
    let again = format!(
        "UPDATE tcc_outbox SET state = 'pending', tries = 0, due = {}, reason = NULL WHERE state = 'refused'",
        D::DIALECT.now()
    );
    execute(database, again).await
}

pub(super) async fn backlog<D: SqlDatabase>(database: &D) -> Result<Backlog, LocalError> {
    let (count, age) =
        (D::DIALECT.number("count(*)"), D::DIALECT.number(&format!("({} - min(created))", D::DIALECT.now())));
    let ask = format!(
        "SELECT state, {count}, {age} FROM tcc_outbox WHERE state IN ('pending', 'refused') GROUP BY state"
    );
    local::commit(database, move |tx| {
        let ask = ask.clone();
        Box::pin(async move {
            let mut backlog = Backlog::default();
            for row in D::query(tx, ask).await? {
                let [Some(state), Some(count), Some(age)] = &row[..] else {
                    return Err("a count of tcc_outbox is NULL".into());
                };
                if state == "refused" {
                    backlog.refused = count.parse()?;
                } else {
                    backlog.pending = count.parse()?;
                    // Clocks may be turned back.
                    backlog.oldest = Some(Duration::from_millis(age.parse::<i64>()?.max(0).cast_unsigned()));
                }
            }
            Ok(backlog)
        })
    })
    .await
}

pub(super) async fn refused<D: SqlDatabase>(database: &D, most: u32) -> Result<Vec<Refused>, LocalError> {
    let key = Key::of(D::DIALECT);
    let ask = format!(
        "SELECT {key}, reason, request FROM tcc_outbox WHERE state = 'refused' ORDER BY due, gid LIMIT {most}"
    );
    local::commit(database, move |tx| {
        let ask = ask.clone();
        Box::pin(async move {
            let rows = D::query(tx, ask).await?.into_iter().map(|row| match <[_; 3]>::try_from(row) {
                Ok([Some(key), reason, Some(request)]) => {
                    Ok(Refused { gid: Key(key).text(), reason: reason.unwrap_or_default(), request })
                }
                Ok(_) | Err(_) => Err("a row of tcc_outbox has no gid or no request".into()),
            });
            rows.collect()
        })
    })
    .await
}

async fn execute<D: SqlDatabase>(database: &D, sql: String) -> Result<u64, LocalError> {
    local::commit(database, move |tx| {
        let sql = sql.clone();
        Box::pin(async move { D::execute(tx, sql).await })
    })
    .await
}

fn listed<'r>(dialect: Dialect, rows: impl IntoIterator<Item = &'r Key>) -> String {
    rows.into_iter().map(|row| row.literal(dialect)).collect::<Vec<_>>().join(", ")
}

impl Key {
    /// What selects it.
    const fn of(dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite | Dialect::Mysql => "hex(gid)",
            Dialect::Postgres => "encode(convert_to(gid, 'UTF8'), 'hex')",
        }
    }

    /// The gid as a literal of its column's type.
    fn literal(&self, dialect: Dialect) -> String {
        if let Ok(gid) = self.text().parse::<Gid>() {
            return format!("'{gid}'");
        }
        match dialect {
            Dialect::Sqlite => format!("CAST(x'{}' AS TEXT)", self.0),
            Dialect::Postgres => format!("convert_from(decode('{}', 'hex'), 'UTF8')", self.0),
            Dialect::Mysql => format!("x'{}'", self.0),
        }
    }

    /// The gid as a text, whatever its bytes are.
    fn text(&self) -> String {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |two: &[u8]| Some(16 * digit(two.first()?)? + digit(two.get(1)?)?);
        let bytes: Vec<u8> = self.0.as_bytes().chunks(2).filter_map(byte).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_three_gauges() {
        let oldest = Some(Duration::from_millis(1250));
        let text = Backlog { pending: 3, oldest, refused: 1 }.to_prometheus("a\"b\\c\nd");
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let label = r#"{outbox="a\"b\\c\nd"}"#;
        assert_eq!(
            samples,
            [("pending", "3"), ("oldest_seconds", "1.25"), ("refused", "1")]
                .map(|(name, value)| format!("tcc_outbox_{name}{label} {value}"))
        );
        assert_eq!((text.lines().count(), text.matches("# TYPE").count()), (9, 3), "{text}");
    }

    #[test]
    fn a_key_is_the_bytes_of_a_gid() {
        assert_eq!(Key("6F72646572732F31".into()).text(), "orders/1");
        assert_eq!(Key("6f72646572732f31".into()).literal(Dialect::Mysql), "'orders/1'");
        assert_eq!(Key("6127FF".into()).text(), "a'\u{fffd}");
        assert_eq!(Key("6127FF".into()).literal(Dialect::Sqlite), "CAST(x'6127FF' AS TEXT)");
    }
}
