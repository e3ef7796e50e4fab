//! One row in SQL: what stands there, and a write to it.

use foldhash::HashMap;
use rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use tcc_core::store::{BoxError, Parked, Refusal, Row, Write};
use tcc_core::{BadId, Digest, Gid, Phase, Timestamp};

use crate::limits;

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
pub(super) fn write(
    connection: &Connection,
    write: &Write,
    recent: &mut Recent,
    tally: &mut Tally,
) -> rusqlite::Result<Outcome> {
    let row = &write.row;
    let version = |held: &Option<Held>| held.as_ref().map(|held| held.version.cast_unsigned());
    // What was written lately need not be looked up: a write that misses changes nothing.
    let held = recent.get(&row.gid);
    if version(&held) == write.replaces
        && let Some(outcome) = put(connection, held, row, recent, tally)?
    {
        return Ok(outcome);
    }
    let held = Held::load(connection, &row.gid)?;
    if held.as_ref().is_some_and(|held| held.is(row)) {
        return Ok(Outcome::Again);
    }
    if version(&held) != write.replaces {
        return Ok(Outcome::Lost);
    }
    Ok(put(connection, held, row, recent, tally)?.unwrap_or(Outcome::Lost))
}

/// Inserts a row, or puts it in the place of what is held. `None` if something else is there.
fn put(
    connection: &Connection,
    held: Option<Held>,
    row: &Row,
    recent: &mut Recent,
    tally: &mut Tally,
) -> rusqlite::Result<Option<Outcome>> {
    let phase = number(row.phase);
    let (sql, key, values): (_, &dyn rusqlite::ToSql, _) = match &held {
        None => (INSERT, &row.gid.as_str(), 12),
        Some(held) => (REPLACE, &held.id, 13),
    };
    let changed = connection.prepare_cached(sql)?.execute(
        &params![
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
            row.parked.as_ref().map(|parked| &parked.at),
            row.parked.as_ref().map(|parked| parked.since.as_millis()),
            held.map(|held| held.version),
        ][..values],
    );
    match changed {
        Ok(1) => {}
        Ok(_) => return Ok(None),
        // SQLite undoes a statement that breaks a rule, and that statement alone.
        Err(error) if of_the_row(&error) && !connection.is_autocommit() => {
            let taken =
                error.sqlite_error().map(|error| error.extended_code) == Some(SQLITE_CONSTRAINT_UNIQUE);
            let refused = Outcome::Refused(Refusal::Unstorable(error.to_string()));
            return Ok((!taken).then_some(refused));
        }
        Err(error) => return Err(error),
    }
    if let Some(held) = &held {
        tally.remove(held.phase, held.attention);
    }
    tally.add(phase, row.attention);
    let id = held.map_or_else(|| connection.last_insert_rowid(), |held| held.id);
    recent.note(row, id);
    Ok(Some(Outcome::Changed(id)))
}

const INSERT: &str = "INSERT INTO transactions \
    (gid, version, tag, phase, attention, due_at, created_at, ended_at, digest, document, parked, since) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const REPLACE: &str = "UPDATE transactions SET \
    version = ?2, tag = ?3, phase = ?4, attention = ?5, due_at = ?6, created_at = ?7, ended_at = ?8, digest = ?9, \
    document = ?10, parked = ?11, since = ?12 WHERE id = ?1 AND version = ?13";

/// What a write finds.
#[derive(Clone, Copy)]
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

/// What was written lately and has not ended, as it stands in the file or in the open transaction: most writes are to
/// such rows. Whoever rolls back forgets it.
#[derive(Default)]
pub(super) struct Recent {
    rows: HashMap<Gid, Held>,
}

impl Recent {
    fn get(&self, gid: &Gid) -> Option<Held> {
        self.rows.get(gid).copied()
    }

    fn note(&mut self, row: &Row, id: i64) {
        if row.ended_at.is_some() {
            self.rows.remove(&row.gid);
            return;
        }
        if self.rows.len() >= limits::RECENT {
            self.rows.clear();
        }
        let (version, tag) = (row.version.cast_signed(), row.tag.cast_signed());
        let held = Held { id, version, tag, phase: number(row.phase), attention: row.attention };
        self.rows.insert(row.gid.clone(), held);
    }

    pub(super) fn forget(&mut self) {
        self.rows.clear();
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
    "gid, version, tag, phase, attention, due_at, created_at, ended_at, digest, parked, since, document, id";

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
        parked: match (found.get(9)?, moment(10)?) {
            (Some(at), Some(since)) => Some(Parked { at, since }),
            _ => None,
        },
        document: found.get::<_, Option<Vec<u8>>>(11)?.unwrap_or_default(),
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
