//! One row in SQL: what stands there, and a write to it.

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use tcc_core::store::{BoxError, Refusal, Row, Write};
use tcc_core::{BadId, Digest, Gid, Phase, Timestamp};

use rusqlite::types::Type;

/// A write and what became of it inside a transaction that is not committed yet.
pub(super) enum Outcome {
    /// The row is changed, under this id.
    Changed(i64),
    /// The same write was there already.
    Again,
    /// Something else was there.
    Lost,
    /// The row breaks a rule of the table.
    Refused(Refusal),
}

/// How many rows are in each phase, and how many of them call for a human.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) phases: [i64; 6],
    pub(super) attention: i64,
}

impl Tally {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let sql =
            "SELECT trying, confirming, confirmed, cancelling, cancelled, abandoned, attention FROM counts";
        connection.query_row(sql, [], |found| {
            let mut tally = Self::default();
            for (number, count) in tally.phases.iter_mut().enumerate() {
                *count = found.get(number)?;
            }
            tally.attention = found.get(6)?;
            Ok(tally)
        })
    }

    /// Saves it, and that something is written now.
    pub(super) fn save(&self, connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        let [trying, confirming, confirmed, cancelling, cancelled, abandoned] = self.phases;
        let sql = "UPDATE counts SET trying = ?, confirming = ?, confirmed = ?, cancelling = ?, cancelled = ?, \
                   abandoned = ?, attention = ?, written_at = ?";
        let (attention, now) = (self.attention, now.as_millis());
        connection.prepare_cached(sql)?.execute(params![
            trying, confirming, confirmed, cancelling, cancelled, abandoned, attention, now
        ])?;
        Ok(())
    }

    pub(super) fn add(&mut self, phase: usize, attention: bool) {
        self.phases[phase] += 1;
        self.attention += i64::from(attention);
    }

    pub(super) fn remove(&mut self, phase: usize, attention: bool) {
        self.phases[phase] -= 1;
        self.attention -= i64::from(attention);
    }
}

/// When anything was last written.
pub(super) fn written_at(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let millis = connection.query_row("SELECT written_at FROM counts", [], |found| found.get(0))?;
    Ok(Timestamp::from_millis(millis))
}

/// Makes one write in the open transaction, and counts it.
///
/// # Errors
/// When the transaction cannot go on.
pub(super) fn write(connection: &Connection, write: &Write, tally: &mut Tally) -> rusqlite::Result<Outcome> {
    let (row, phase) = (&write.row, number(write.row.phase));
    let held = Held::load(connection, &row.gid)?;
    if held.as_ref().is_some_and(|held| held.is(row)) {
        return Ok(Outcome::Again);
    }
    if held.as_ref().map(|held| held.version.cast_unsigned()) != write.replaces {
        return Ok(Outcome::Lost);
    }
    let (sql, key): (_, &dyn rusqlite::ToSql) = match &held {
        None => (INSERT, &row.gid.as_str()),
        Some(held) => (REPLACE, &held.id),
    };
    let changed = connection.prepare_cached(sql)?.execute(params![
        key,
        row.version.cast_signed(),
        row.tag.cast_signed(),
        index(phase),
        row.attention,
        row.due_at.map(Timestamp::as_millis),
        row.created_at.as_millis(),
        row.ended_at.map(Timestamp::as_millis),
        row.digest.as_ref().map(|digest| &digest.0),
        row.document,
        row.parked,
    ]);
    match changed {
        Ok(_) => {}
        // SQLite undoes a statement that breaks a rule, and that statement alone.
        Err(error) if of_the_row(&error) && !connection.is_autocommit() => {
            return Ok(Outcome::Refused(Refusal::Unstorable(error.to_string())));
        }
        Err(error) => return Err(error),
    }
    if let Some(held) = &held {
        tally.remove(held.phase, held.attention);
    }
    tally.add(phase, row.attention);
    Ok(Outcome::Changed(held.map_or_else(|| connection.last_insert_rowid(), |held| held.id)))
}

const INSERT: &str = "INSERT INTO transactions \
    (gid, version, tag, phase, attention, due_at, created_at, ended_at, digest, document, parked) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const REPLACE: &str = "UPDATE transactions SET \
    version = ?2, tag = ?3, phase = ?4, attention = ?5, due_at = ?6, created_at = ?7, ended_at = ?8, digest = ?9, \
    document = ?10, parked = ?11 WHERE id = ?1";

/// What a write finds.
pub(super) struct Held {
    id: i64,
    version: i64,
    tag: i64,
    phase: usize,
    attention: bool,
}

impl Held {
    pub(super) fn load(connection: &Connection, gid: &Gid) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached("SELECT id, version, tag, phase, attention FROM transactions WHERE gid = ?")?
            .query_row([gid.as_str()], |found| {
                Ok(Self {
                    id: found.get(0)?,
                    version: found.get(1)?,
                    tag: found.get(2)?,
                    phase: number(phase(found, 3)?),
                    attention: found.get(4)?,
                })
            })
            .optional()
    }

    pub(super) fn is(&self, row: &Row) -> bool {
        (self.version.cast_unsigned(), self.tag.cast_unsigned()) == (row.version, row.tag)
    }
}

/// Whether the row is at fault and not the store.
fn of_the_row(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

/// The columns that [`read`] reads, in its order.
pub(super) const COLUMNS: &str =
    "gid, version, tag, phase, attention, due_at, created_at, ended_at, digest, parked, document, id";

/// A row whose columns are [`COLUMNS`].
pub(super) fn read(found: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let moment = |column| found.get::<_, Option<i64>>(column).map(|at| at.map(Timestamp::from_millis));
    let gid: String = found.get(0)?;
    let digest: Option<[u8; 32]> = found.get(8)?;
    Ok(Row {
        gid: gid.parse().map_err(|bad: BadId| unreadable(0, Type::Text, bad))?,
        version: found.get::<_, i64>(1)?.cast_unsigned(),
        tag: found.get::<_, i64>(2)?.cast_unsigned(),
        phase: phase(found, 3)?,
        attention: found.get(4)?,
        due_at: moment(5)?,
        created_at: Timestamp::from_millis(found.get(6)?),
        ended_at: moment(7)?,
        digest: digest.map(Digest),
        parked: found.get(9)?,
        document: found.get::<_, Option<Vec<u8>>>(10)?.unwrap_or_default(),
    })
}

/// The number of a phase: its place in [`Phase::ALL`].
pub(super) fn number(phase: Phase) -> usize {
    Phase::ALL.iter().position(|other| *other == phase).expect("every phase is in Phase::ALL")
}

pub(super) fn phase(found: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Phase> {
    let number: u8 = found.get(column)?;
    let phase = Phase::ALL.get(usize::from(number)).copied();
    phase.ok_or_else(|| unreadable(column, Type::Integer, "is the number of no phase"))
}

fn unreadable(column: usize, held: Type, cause: impl Into<BoxError>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, held, cause.into())
}

/// A number that SQLite can hold.
pub(super) fn index(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
