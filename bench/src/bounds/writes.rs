//! The writes without the coordinator: SQLite as fast as one thread can commit, whoever waits sharing its fsync.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::Failure;

/// What waits for the writer; everyone in flight has a place.
const WAITING: usize = 65_536;
/// Writes in one commit.
const COMMIT_WRITES: usize = 512;

/// Begin, decision, end: the durable writes of one transaction.
const STEPS: [&str; 3] = [
    "INSERT INTO transactions (gid, version, document) VALUES (?1, 1, ?2)",
    "UPDATE transactions SET version = 2, document = ?2 WHERE gid = ?1 AND version = 1",
    "UPDATE transactions SET version = 3, document = ?2 WHERE gid = ?1 AND version = 2",
];

/// A file that is written to by a thread of its own.
pub(crate) struct Writes {
    waiting: SyncSender<Write>,
    commits: Arc<AtomicU64>,
    document: Vec<u8>,
}

struct Write {
    sql: &'static str,
    gid: String,
    document: Vec<u8>,
    durable: oneshot::Sender<()>,
}

impl Writes {
    /// Makes a file for documents of this size.
    pub(crate) fn start(file: &Path, document_bytes: usize) -> Result<Self, Failure> {
        let connection = Connection::open(file)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute_batch(
            "CREATE TABLE transactions (
                 id INTEGER PRIMARY KEY, gid TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, document BLOB NOT NULL)",
        )?;
        let (waiting, queue) = sync_channel(WAITING);
        let commits = Arc::new(AtomicU64::new(0));
        let counted = commits.clone();
        std::thread::spawn(move || {
            if let Err(error) = commit_all(&connection, &queue, &counted) {
                // Whoever waits finds the writer gone.
                eprintln!("tcc-bench: {error}");
            }
        });
        Ok(Self { waiting, commits, document: vec![b'x'; document_bytes] })
    }

    /// Makes the writes of one transaction, one after the other.
    pub(crate) async fn transact(&self, gid: &str) -> Result<(), Failure> {
        for sql in STEPS {
            let (durable, done) = oneshot::channel();
            self.waiting.send(Write {
                sql,
                gid: gid.to_owned(),
                document: self.document.clone(),
                durable,
            })?;
            done.await?;
        }
        Ok(())
    }

    /// Commits so far.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

fn commit_all(connection: &Connection, queue: &Receiver<Write>, commits: &AtomicU64) -> Result<(), Failure> {
    while let Ok(first) = queue.recv() {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut durable = Vec::new();
        for write in std::iter::once(first).chain(queue.try_iter().take(COMMIT_WRITES - 1)) {
            let changed =
                connection.prepare_cached(write.sql)?.execute(params![write.gid, write.document])?;
            if changed != 1 {
                return Err(format!("a write changed {changed} rows").into());
            }
            durable.push(write.durable);
        }
        connection.execute_batch("COMMIT")?;
        commits.fetch_add(1, Ordering::Relaxed);
        for durable in durable {
            let _ = durable.send(());
        }
    }
    Ok(())
}
