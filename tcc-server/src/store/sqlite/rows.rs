//! One row in SQL: what stands there, and how it gets there.

use foldhash::HashMap;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};
use tcc_core::store::{BoxError, Parked, Refusal, Row};
use tcc_core::{BadId, Digest, Gid, Phase, Timestamp};

use crate::limits;

/// What becomes of a write.
pub(super) enum Outcome {
    /// It changes its row.
    Changed,
    /// The same write was there already.
    Again,
    /// Something else was there.
    Lost,
    /// The row breaks a rule of the table.
    Refused(Refusal),
}

/// What of a row is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) phase: usize,
    pub(super) attention: bool,
}

impl Image {
    pub(super) fn of(row: &Row) -> Self {
        Self { phase: number(row.phase), attention: row.attention }
    }
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

    pub(super) fn add(&mut self, image: Image) {
        self.phases[image.phase] += 1;
        self.attention += i64::from(image.attention);
    }

    pub(super) fn remove(&mut self, image: Image) {
        self.phases[image.phase] -= 1;
        self.attention -= i64::from(image.attention);
    }
}

/// When anything was last written.
pub(super) fn written_at(connection: &Connection) -> rusqlite::Result<Timestamp> {
    let millis = connection.query_row("SELECT written_at FROM counts", [], |found| found.get(0))?;
    Ok(Timestamp::from_millis(millis))
}

/// Why a row cannot be stored: the rules of the table, which takes it only when it is durable already.
pub(super) fn flaw(row: &Row) -> Option<Refusal> {
    let ended = row.phase.ended();
    let why = if row.document.is_empty() {
        "it has no document"
    } else if row.document.len() > limits::DOCUMENT {
        "its document is too long"
    } else if ended != row.ended_at.is_some() {
        "it has a moment at which it ended just if it has ended"
    } else if ended == row.due_at.is_some() {
        "it is due just until it has ended"
    } else if ended && row.parked.is_some() {
        "it is parked and has ended"
    } else {
        return None;
    };
    Some(Refusal::Unstorable(why.to_owned()))
}

/// Moves a row into the table, of which the table shows this, or nothing.
pub(super) fn put(connection: &Connection, id: i64, row: &Row, table: Option<Image>) -> rusqlite::Result<()> {
    let values = params![
        id,
        row.gid.as_str(),
        row.version.cast_signed(),
        row.tag.cast_signed(),
        index(number(row.phase)),
        row.attention,
        row.due_at.map(Timestamp::as_millis),
        row.created_at.as_millis(),
        row.ended_at.map(Timestamp::as_millis),
        row.digest.as_ref().map(|digest| &digest.0),
        row.document,
        row.parked.as_ref().map(|parked| &parked.at),
        row.parked.as_ref().map(|parked| parked.since.as_millis()),
    ];
    // What the table shows may have been forgotten since it was looked at.
    let replaced = table.is_some() && connection.prepare_cached(REPLACE)?.execute(values)? == 1;
    if !replaced {
        connection.prepare_cached(INSERT)?.execute(values)?;
    }
    Ok(())
}

const INSERT: &str = "INSERT INTO transactions \
    (id, gid, version, tag, phase, attention, due_at, created_at, ended_at, digest, document, parked, since) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const REPLACE: &str = "UPDATE transactions SET \
    version = ?3, tag = ?4, phase = ?5, attention = ?6, due_at = ?7, created_at = ?8, ended_at = ?9, digest = ?10, \
    document = ?11, parked = ?12, since = ?13 WHERE id = ?1 AND gid = ?2";

/// What a write finds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) id: i64,
    version: i64,
    tag: i64,
    pub(super) image: Image,
}

impl Held {
    pub(super) fn of(id: i64, row: &Row) -> Self {
        let (version, tag) = (row.version.cast_signed(), row.tag.cast_signed());
        Self { id, version, tag, image: Image::of(row) }
    }

    /// What the table shows.
    pub(super) fn load(connection: &Connection, gid: &Gid) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached("SELECT id, version, tag, phase, attention FROM transactions WHERE gid = ?")?
            .query_row([gid.as_str()], |found| {
                let image = Image { phase: number(phase(found, 3)?), attention: found.get(4)? };
                Ok(Self { id: found.get(0)?, version: found.get(1)?, tag: found.get(2)?, image })
            })
            .optional()
    }

    pub(super) fn version(&self) -> u64 {
        self.version.cast_unsigned()
    }

    pub(super) fn is(&self, row: &Row) -> bool {
        (self.version.cast_unsigned(), self.tag.cast_unsigned()) == (row.version, row.tag)
    }
}

/// What was moved into the table lately and has not ended: most writes to what the journal does not hold are to such
/// rows, and need not look them up.
#[derive(Default)]
pub(super) struct Recent {
    rows: HashMap<Gid, Held>,
}

impl Recent {
    pub(super) fn get(&self, gid: &Gid) -> Option<Held> {
        self.rows.get(gid).copied()
    }

    pub(super) fn note(&mut self, gid: &Gid, held: Held) {
        if self.rows.len() >= limits::RECENT {
            self.rows.clear();
        }
        self.rows.insert(gid.clone(), held);
    }

    pub(super) fn remove(&mut self, gid: &Gid) {
        self.rows.remove(gid);
    }
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
    phase_of(found.get(column)?).ok_or_else(|| unreadable(column, Type::Integer, "is the number of no phase"))
}

/// The phase of a number.
pub(super) fn phase_of(number: u8) -> Option<Phase> {
    Phase::ALL.get(usize::from(number)).copied()
}

fn unreadable(column: usize, held: Type, cause: impl Into<BoxError>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, held, cause.into())
}

/// A number that SQLite can hold.
pub(super) fn index(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tcc_core::contract::row;

    use super::*;

    /// The journal takes a row before the table does: what the table would not take must not get that far.
    #[test]
    fn whatever_has_no_flaw_the_table_takes_and_nothing_else() {
        let table = Connection::open_in_memory().expect("SQLite");
        table.execute_batch(include_str!("schema.sql")).expect("the schema");
        let moment = Timestamp::from_millis(7);
        let mut taken = 0;
        for number in 0..Phase::ALL.len() << 4 {
            let is = |bit: usize| (number >> bit) & 1 == 1;
            let row = Row {
                phase: Phase::ALL[number >> 4],
                due_at: is(0).then_some(moment),
                ended_at: is(1).then_some(moment),
                parked: is(2).then(|| Parked { at: "payment".to_owned(), since: moment }),
                document: if is(3) { Vec::new() } else { b"{}".to_vec() },
                ..row(&format!("n{number}"), Vec::new(), moment)
            };
            let put = put(&table, index(number) + 1, &row, None);
            assert_eq!(put.is_ok(), flaw(&row).is_none(), "{row:?}: {put:?}");
            taken += u32::from(put.is_ok());
        }
        assert_eq!(taken, 3 * 2 + 3, "unfinished ones, parked or not, and those that ended");
    }
}
