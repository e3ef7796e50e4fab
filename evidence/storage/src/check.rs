//! Opens what a power cut left and holds it against what was answered before it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tcc_core::contract::row;
use tcc_core::store::{Filter, Found, Page, Row, Store, Write, Written, load};
use tcc_core::{Gid, Phase};
use tcc_server::store::{SqliteOptions, SqliteStore};

use crate::disk::File;
use crate::history::{Expected, History};
use crate::lab::wait;

/// A promise that was not kept.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// The store does not open.
    #[error("the store does not open: {0}")]
    Closed(String),
    /// The store cannot be read or written after it opened.
    #[error("the store opened and then failed: {0}")]
    Failed(String),
    /// SQLite finds the file damaged.
    #[error("quick_check says: {0}")]
    Damaged(String),
    /// An acknowledged write is gone.
    #[error("{gid} was acknowledged at version {acked}, and {found} is there")]
    Lost {
        /// Of which transaction.
        gid: Gid,
        /// Its version.
        acked: u64,
        /// What is there.
        found: String,
    },
    /// A decision was acknowledged, and another one is there.
    #[error("{gid} was acknowledged as {acked:?}, and {found:?} is there")]
    Reversed {
        /// Of which transaction.
        gid: Gid,
        /// As what.
        acked: Phase,
        /// What is there.
        found: Phase,
    },
    /// A row that nobody wrote, or that was said not to be written.
    #[error("{gid} is there at version {version}, as nobody wrote it, or as it was refused")]
    Invented {
        /// The gid.
        gid: Gid,
        /// Its version.
        version: u64,
    },
    /// A purge was said to be done, and the document is still there.
    #[error("{0} was purged and is back")]
    Unpurged(Gid),
    /// A row was shown, and after that it was gone or another.
    #[error("{gid} was shown at version {shown}, and then {found} was there")]
    Unshown {
        /// The gid.
        gid: Gid,
        /// The version that was shown.
        shown: u64,
        /// The one that was there; 0 for none.
        found: u64,
    },
    /// The document cannot be read.
    #[error("{0} cannot be read")]
    Undecodable(Gid),
    /// The kept counts are not what counting gives.
    #[error("the store counts {kept:?}, and there are {counted:?}")]
    Miscounted {
        /// What it says.
        kept: [u64; 6],
        /// What is there.
        counted: [u64; 6],
    },
    /// A write that was on its way does not fare as the contract says when it is offered again.
    #[error("{gid} at version {version} was offered again: {found}")]
    Again {
        /// The gid.
        gid: Gid,
        /// Its version.
        version: u64,
        /// What came of it.
        found: String,
    },
}

/// What was seen in an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Rows there.
    pub rows: usize,
    /// Acknowledged writes whose row was looked for.
    pub acked: usize,
    /// Writes on their way that are there.
    pub arrived: usize,
    /// Writes on their way that are not.
    pub vanished: usize,
    /// Rows whose document was purged.
    pub purged: usize,
}

/// Opens the log in a folder as the next process would.
///
/// # Errors
/// When it does not open, or SQLite finds it damaged.
pub fn open(folder: &Path) -> Result<SqliteStore, Violation> {
    // As with a workload, nothing is to happen by the clock of the machine.
    let settle = Duration::from_secs(3600);
    let options = SqliteOptions { readers: 1, settle, ..SqliteOptions::default() };
    let path = folder.join(File::Db.name());
    let store = SqliteStore::open(&path, options).map_err(|error| Violation::Closed(format!("{error:?}")))?;
    let check = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0))
    };
    match check() {
        Ok(said) if said == "ok" => Ok(store),
        Ok(said) => Err(Violation::Damaged(said)),
        Err(error) => Err(Violation::Damaged(error.to_string())),
    }
}

/// Looks at every row.
///
/// # Errors
/// The first promise that was not kept.
pub fn look(store: &SqliteStore, history: &History, at: usize) -> Result<Seen, Violation> {
    let expected = history.expected(at);
    let emptied = history.must_be_emptied(at);
    let mut seen = Seen::default();
    let rows = rows(store)?;
    let mut counted = [0; 6];
    for (gid, row) in &rows {
        if !expected.contains_key(gid) {
            return Err(Violation::Invented { gid: gid.clone(), version: row.version });
        }
        counted[Phase::ALL.iter().position(|phase| *phase == row.phase).unwrap_or_default()] += 1;
    }
    let counts = wait(store.counts()).map_err(failed)?;
    if counts.phases != counted {
        return Err(Violation::Miscounted { kept: counts.phases, counted });
    }
    for (gid, expected) in &expected {
        let row = wait(store.load(gid)).map_err(failed)?;
        if row.as_ref().filter(|row| !row.document.is_empty()) != rows.get(gid) {
            return Err(Violation::Failed(format!("{gid} is listed otherwise than it is loaded")));
        }
        compare(gid, row.as_ref(), expected, history, at)?;
        if row.as_ref().is_some_and(|row| !row.document.is_empty()) && emptied.contains(gid) {
            return Err(Violation::Unpurged(gid.clone()));
        }
        decode(store, gid)?;
        let version = row.as_ref().map_or(0, |row| row.version);
        let arrived = expected.in_flight.iter().filter(|write| write.row.version <= version).count();
        seen.acked += usize::from(expected.acked.is_some());
        seen.arrived += arrived;
        seen.vanished += expected.in_flight.len() - arrived;
        seen.rows += usize::from(row.is_some());
        seen.purged += usize::from(row.is_some_and(|row| row.document.is_empty()));
    }
    Ok(seen)
}

/// Whether a row may be what is there.
fn compare(
    gid: &Gid,
    row: Option<&Row>,
    expected: &Expected<'_>,
    history: &History,
    at: usize,
) -> Result<(), Violation> {
    let Some(row) = row else {
        let forgotten = |row: &&Row| history.may_be_forgotten(row, at);
        return match expected.acked {
            Some(acked) if !expected.candidates.iter().any(forgotten) => {
                Err(Violation::Lost { gid: gid.clone(), acked: acked.version, found: "nothing".into() })
            }
            Some(_) | None => Ok(()),
        };
    };
    if let Some(acked) = expected.acked {
        if acked.phase.decision().is_some() && acked.phase.decision() != row.phase.decision() {
            return Err(Violation::Reversed { gid: gid.clone(), acked: acked.phase, found: row.phase });
        }
        if row.version < acked.version {
            let found = format!("version {}", row.version);
            return Err(Violation::Lost { gid: gid.clone(), acked: acked.version, found });
        }
    }
    let is = |candidate: &&Row| {
        let emptied = || Row {
            document: Vec::new(),
            attention: false,
            version: candidate.version + 1,
            ..(*candidate).clone()
        };
        *candidate == row || (history.may_be_emptied(candidate, at) && emptied() == *row)
    };
    if expected.candidates.iter().any(is) {
        Ok(())
    } else {
        Err(Violation::Invented { gid: gid.clone(), version: row.version })
    }
}

/// Goes on where the power was cut: offers what was on its way again, and begins something new.
///
/// # Errors
/// When a write does not fare as the contract says.
pub fn go_on(store: &SqliteStore, history: &History, at: usize) -> Result<(), Violation> {
    for expected in history.expected(at).into_values() {
        for write in expected.in_flight {
            let before = wait(store.load(&write.row.gid)).map_err(failed)?;
            let version = before.as_ref().map(|row| row.version);
            let there =
                before.is_some_and(|row| (row.version, row.tag) == (write.row.version, write.row.tag));
            let wanted = if there || version == write.replaces { Written::Won } else { Written::Lost };
            offer(store, write, &wanted)?;
        }
    }
    let row = row("t/afterwards", b"{}".to_vec(), store.now());
    offer(store, &Write { row, replaces: None, claim: None }, &Written::Won)
}

fn offer(store: &SqliteStore, write: &Write, wanted: &Written) -> Result<(), Violation> {
    let written = wait(store.commit(vec![write.clone()])).map_err(failed)?;
    if written.first() == Some(wanted) {
        return Ok(());
    }
    let found = format!("{written:?} instead of {wanted:?}");
    Err(Violation::Again { gid: write.row.gid.clone(), version: write.row.version, found })
}

/// Whether what was shown once is still there.
///
/// # Errors
/// The first row that is not.
pub fn same(shown: &BTreeMap<Gid, Row>, found: &BTreeMap<Gid, Row>) -> Result<(), Violation> {
    for (gid, row) in shown {
        if found.get(gid) != Some(row) {
            let now = found.get(gid).map_or(0, |row| row.version);
            return Err(Violation::Unshown { gid: gid.clone(), shown: row.version, found: now });
        }
    }
    Ok(())
}

/// The rows whose documents are there.
///
/// # Errors
/// When they cannot be read.
pub fn rows(store: &SqliteStore) -> Result<BTreeMap<Gid, Row>, Violation> {
    let mut rows = BTreeMap::new();
    let mut after = None;
    loop {
        let page = wait(store.list(&Filter::default(), Page { after, size: 10_000 })).map_err(failed)?;
        rows.extend(page.rows.into_iter().map(|row| (row.gid.clone(), row)));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(rows),
        }
    }
}

fn decode(store: &SqliteStore, gid: &Gid) -> Result<(), Violation> {
    match wait(load(store, gid)) {
        Ok(None | Some(Found::Purged { .. })) => Ok(()),
        Ok(Some(Found::Stored(stored))) if stored.transaction().gid() == gid => Ok(()),
        Ok(Some(Found::Stored(_))) | Err(_) => Err(Violation::Undecodable(gid.clone())),
    }
}

fn failed(error: impl std::fmt::Debug) -> Violation {
    Violation::Failed(format!("{error:?}"))
}
