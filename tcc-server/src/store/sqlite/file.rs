//! The file: who may open it, how every connection is set, and what makes the visible durable.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// "tccL": how `file(1)` and we tell our files from others.
const APPLICATION_ID: i32 = 0x7463_634c;
/// Counted up by one with every change of the schema.
const SCHEMA: i32 = 4;
/// 3.51.3: two connections that write and checkpoint at once could lose commits in every version before it
/// (<https://sqlite.org/wal.html#the_wal_reset_bug>).
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long a connection waits for a lock that somebody with an SQLite shell may hold.
const BUSY: Duration = Duration::from_secs(5);
/// KiB of pages the writer keeps in memory: the inner pages of its indexes.
const WRITER_CACHE: i64 = 32 * 1024;
/// KiB of pages each reader keeps in memory.
const READER_CACHE: i64 = 8 * 1024;

/// Why a file could not be opened as a log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The SQLite linked in has a bug that loses commits.
    #[error("SQLite {0} may lose commits; 3.51.3 or later is needed")]
    OldSqlite(&'static str),
    /// The directory, the file or its lock could not be reached.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use: another coordinator holds the lock {}", path.display(), lock.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// The lock beside it.
        lock: PathBuf,
    },
    /// It was not written by this program.
    #[error("{} is not a log of tcc (application id {application_id:#x})", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        application_id: i32,
    },
    /// It was written by a later version of this program.
    #[error("{} has schema {found}; this program knows schemas up to {SCHEMA}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// It was written before the first release.
    #[error("{} has schema {found}, which no release had; this program knows schema {SCHEMA}", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// SQLite did not take a setting that durability rests on.
    #[error("{}: {setting} is {found} instead of {wanted}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// The pragma.
        setting: &'static str,
        /// What was asked for.
        wanted: String,
        /// What it says.
        found: String,
    },
    /// SQLite failed.
    #[error("cannot {doing} {}", path.display())]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for {}", path.display())]
    Thread {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A file that this process alone has open. The lock goes when it is dropped.
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    _lock: File,
}

impl LogFile {
    /// Takes the file for this process and makes all it shows durable. Also gives the connection for the writer.
    pub(super) fn open(path: &Path) -> Result<(Self, Connection), OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldSqlite(rusqlite::version()));
        }
        let path = resolve(path)?;
        let file = Self { _lock: lock(&path)?, path };
        file.sync()?;
        let writer = file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let schema = file.schema_of(&writer)?;
        file.set(&writer, WRITER_SETTINGS)?;
        file.cache(&writer, WRITER_CACHE)?;
        file.empty_wal(&writer)?;
        if schema == 0 {
            file.create_schema(&writer)?;
            file.sync()?;
        }
        Ok((file, writer))
    }

    /// One more connection, which cannot write.
    pub(super) fn reader(&self) -> Result<Connection, OpenError> {
        let reader = self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        self.set(&reader, READER_SETTINGS)?;
        self.cache(&reader, READER_CACHE)?;
        Ok(reader)
    }

    /// A crash may have left commits that every reader sees and no disk holds, because their fsync never came or
    /// failed. After a failed one the next succeeds and writes nothing, so the WAL is written anew first.
    fn sync(&self) -> Result<(), OpenError> {
        let wal = beside(&self.path, "-wal");
        let rewrite = || {
            let bytes = fs::read(&wal)?;
            let mut file = OpenOptions::new().write(true).open(&wal)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        if wal.exists() {
            rewrite().map_err(io_error("make durable", &wal))?;
        }
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(io_error("sync", &self.path))?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|file| file.sync_all()).map_err(io_error("sync", directory))
    }

    fn connect(&self, access: OpenFlags) -> Result<Connection, OpenError> {
        let connect = || {
            let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY)?;
            // A connection that failed must leave the file as it is for the next process to look at.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            Ok(connection)
        };
        connect().map_err(self.sqlite_error("open"))
    }

    /// The schema the file has; 0 if it is empty. Looks before anything is written to a file that may not be ours.
    fn schema_of(&self, connection: &Connection) -> Result<i32, OpenError> {
        let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
        let read = || {
            Ok((
                number("PRAGMA application_id")?,
                number("PRAGMA user_version")?,
                number("SELECT count(*) FROM sqlite_schema")?,
            ))
        };
        match read().map_err(self.sqlite_error("read"))? {
            (0, 0, 0) => Ok(0),
            (APPLICATION_ID, found, _) if found > SCHEMA => {
                Err(OpenError::Newer { path: self.path.clone(), found })
            }
            (APPLICATION_ID, found, _) if found < SCHEMA => {
                Err(OpenError::Older { path: self.path.clone(), found })
            }
            (APPLICATION_ID, found, _) => Ok(found),
            (application_id, _, _) => Err(OpenError::Foreign { path: self.path.clone(), application_id }),
        }
    }

    fn create_schema(&self, writer: &Connection) -> Result<(), OpenError> {
        let create = || {
            let transaction = writer.unchecked_transaction()?;
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
            transaction.commit()
        };
        create().map_err(self.sqlite_error("create the tables of"))
    }

    /// Makes the settings and believes none before SQLite has said it back.
    fn set(&self, connection: &Connection, settings: &[(&'static str, &str)]) -> Result<(), OpenError> {
        for (setting, wanted) in settings.iter().copied() {
            // Some pragmas answer when set, some do not; what counts is what they say when asked.
            connection
                .execute_batch(&format!("PRAGMA {setting} = {wanted}"))
                .map_err(self.sqlite_error("configure"))?;
            let found = says(connection, setting).map_err(self.sqlite_error("configure"))?;
            if found != wanted {
                let path = self.path.clone();
                return Err(OpenError::Setting { path, setting, wanted: wanted.to_owned(), found });
            }
        }
        Ok(())
    }

    fn cache(&self, connection: &Connection, kib: i64) -> Result<(), OpenError> {
        connection.pragma_update(None, "cache_size", -kib).map_err(self.sqlite_error("configure"))
    }

    /// Starts with an empty WAL, if the disk has room for what it held and nobody reads it.
    fn empty_wal(&self, writer: &Connection) -> Result<(), OpenError> {
        match writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DiskFull) => {
                Err(self.sqlite_error("checkpoint")(error))
            }
            _ => Ok(()),
        }
    }

    fn sqlite_error(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> OpenError + use<> {
        let path = self.path.clone();
        move |source| OpenError::Sqlite { doing, path: path.clone(), source }
    }
}

/// Numbers as SQLite says them back: `synchronous` 2 is FULL, `temp_store` 2 is memory (a full disk must not keep
/// a statement from rolling back).
const WRITER_SETTINGS: &[(&str, &str)] = &[
    ("journal_mode", "wal"),
    ("synchronous", "2"),
    ("wal_autocheckpoint", "0"),
    ("foreign_keys", "1"),
    ("trusted_schema", "0"),
    ("cell_size_check", "1"),
    ("mmap_size", "0"),
    ("temp_store", "2"),
];

const READER_SETTINGS: &[(&str, &str)] = &[
    ("journal_mode", "wal"),
    ("query_only", "1"),
    ("trusted_schema", "0"),
    ("cell_size_check", "1"),
    ("mmap_size", "0"),
    ("temp_store", "2"),
];

/// What a pragma says when it is asked.
fn says(connection: &Connection, pragma: &str) -> rusqlite::Result<String> {
    let value = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?;
    Ok(match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text,
        other => format!("{other:?}"),
    })
}

/// The one name of the file, whatever links lead there, so that its lock has one name too. Creates an empty file,
/// for its owner alone, where there is none; SQLite gives what it puts beside it the same rights.
fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    owner_only(&mut options);
    options.open(path).map_err(io_error("open", path))?;
    fs::canonicalize(path).map_err(io_error("find", path))
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let name = beside(path, ".lock");
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    owner_only(&mut options);
    let file = options.open(&name).map_err(io_error("open", &name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned(), lock: name }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &name)(source)),
    }
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_: &mut OpenOptions) {}

/// The file that SQLite, or we, keep next to a file.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::Io { doing, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without FULL the last commits acked are lost with the power.
    #[test]
    fn a_connection_is_set_as_durability_needs_it() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let (file, writer) = LogFile::open(&directory.path().join("log.db")).expect("a file");
        let reader = file.reader().expect("a reader");
        for (pragma, wanted) in [
            ("journal_mode", "wal"),
            ("synchronous", "2"),
            ("wal_autocheckpoint", "0"),
            ("foreign_keys", "1"),
            ("trusted_schema", "0"),
            ("busy_timeout", "5000"),
            ("user_version", "4"),
            ("application_id", "1952670540"),
        ] {
            assert_eq!(says(&writer, pragma).expect("a pragma"), wanted, "{pragma}");
        }
        assert_eq!(says(&reader, "query_only").expect("a pragma"), "1");
        reader.execute("DELETE FROM transactions", []).expect_err("a reader cannot write");
    }

    #[test]
    fn a_setting_that_does_not_take_is_an_error() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let (file, writer) = LogFile::open(&directory.path().join("log.db")).expect("a file");
        let error = file.set(&writer, &[("query_only", "7")]).expect_err("SQLite says 1");
        assert!(error.to_string().ends_with("log.db: query_only is 1 instead of 7"), "{error}");
    }
}
