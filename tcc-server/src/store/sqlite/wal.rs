//! When the WAL is checkpointed. Only the writer does it, between two commits: a second connection that checkpoints
//! beside a writer is what lost commits in older versions of SQLite.

use rusqlite::{Connection, ErrorCode};

use crate::limits;

/// What the writer knows of the WAL.
#[derive(Default)]
pub(super) struct Wal {
    /// Rows and bytes of documents written since its size was last looked at.
    rows: usize,
    bytes: usize,
    /// Whether it may hold what the file does not.
    filled: bool,
    /// Whether the disk was full when it was last checkpointed.
    stuck: bool,
    /// Checkpoints so far.
    pub(super) checkpoints: u64,
    /// Bytes it held when last looked at.
    pub(super) size: u64,
}

impl Wal {
    /// Notes what was committed to it.
    pub(super) fn note(&mut self, rows: usize, bytes: usize) {
        self.rows += rows;
        self.bytes += bytes;
        self.filled = true;
    }

    /// Checkpoints if it has grown beyond `most` bytes. Its size is asked for only after so many rows.
    ///
    /// # Errors
    /// Those of [`Wal::empty`].
    pub(super) fn tend(&mut self, writer: &Connection, most: u64) -> rusqlite::Result<()> {
        if self.rows < limits::WAL_LOOK_ROWS && self.bytes < limits::WAL_LOOK_BYTES {
            return Ok(());
        }
        (self.rows, self.bytes) = (0, 0);
        self.checkpoint(writer, "NOOP")?;
        if self.size >= most.saturating_mul(limits::WAL_OVERGROWN) {
            // Readers kept every passive one from reaching its end: wait for them this once.
            self.checkpoint(writer, "TRUNCATE")
        } else if self.size >= most {
            self.checkpoint(writer, "PASSIVE")
        } else {
            Ok(())
        }
    }

    /// Copies all of it into the file and cuts it off, if there is anything to copy.
    ///
    /// # Errors
    /// When it is not known what the file holds now. A full disk is no error: the WAL still holds everything.
    pub(super) fn empty(&mut self, writer: &Connection) -> rusqlite::Result<()> {
        if self.filled { self.checkpoint(writer, "TRUNCATE") } else { Ok(()) }
    }

    /// As [`Wal::empty`], because the WAL itself may be what fills the disk; but once only until it succeeds.
    ///
    /// # Errors
    /// Those of [`Wal::empty`].
    pub(super) fn make_room(&mut self, writer: &Connection) -> rusqlite::Result<()> {
        if self.stuck { Ok(()) } else { self.empty(writer) }
    }

    fn checkpoint(&mut self, writer: &Connection, mode: &str) -> rusqlite::Result<()> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let done = writer.prepare_cached(&sql)?.query_row([], |found| {
            let (busy, frames, copied): (bool, i64, i64) = (found.get(0)?, found.get(1)?, found.get(2)?);
            Ok((busy, u64::try_from(frames).unwrap_or(0), frames == copied))
        });
        match done {
            Ok((busy, frames, all)) => {
                self.size = frames * limits::PAGE_BYTES;
                if mode != "NOOP" {
                    self.checkpoints += 1;
                    self.stuck = false;
                    self.filled &= busy || !all || mode == "PASSIVE";
                }
                Ok(())
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                self.stuck = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
