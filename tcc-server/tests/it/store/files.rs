//! Which files are opened, how, and by whom.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rusqlite::Connection;
use tcc_core::contract::row;
use tcc_core::store::{Counts, Filter, Page, Parked, Row, Write, Written};
use tcc_core::{Phase, Store};
use tcc_server::limits;
use tcc_server::store::{OpenError, SqliteOptions, SqliteStore};
use tempfile::TempDir;

use super::process;
use super::{insert, win};

/// Opens it. A process that another test is just starting holds, until it runs its own program, whatever was open
/// when it was forked: also the lock of a store that was dropped since.
fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    let bound = Instant::now() + Duration::from_secs(10);
    loop {
        match SqliteStore::open(path, SqliteOptions::default()) {
            Err(OpenError::InUse { .. }) if Instant::now() < bound => thread::sleep(Duration::from_millis(5)),
            opened => return opened,
        }
    }
}

fn refused(path: &Path) -> OpenError {
    SqliteStore::open(path, SqliteOptions::default()).err().expect("a refusal")
}

/// SQLite before 3.51.3 can lose commits.
#[test]
fn the_sqlite_linked_in_is_one_that_keeps_its_commits() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let store = open(&path).expect("a store");
    let write = insert(&store, "order-1", 1000);
    win(&store, write.clone()).await;
    let counts = store.counts().await.expect("counts");
    drop(store);
    let wal = fs::metadata(directory.path().join("log.db-wal")).map_or(0, |wal| wal.len());
    assert_eq!(wal, 0, "the WAL is empty after a close in good order");

    let store = open(&path).expect("a store");
    assert_eq!(store.load(&write.row.gid).await.expect("a load"), Some(write.row));
    assert_eq!(store.counts().await.expect("counts"), counts);
    assert_eq!(store.claim(Duration::MAX, 10).await.expect("claims").rows.len(), 1);
}

/// The files of a log as a crash would leave them now.
fn crash(path: &Path) -> PathBuf {
    let crashed = path.with_extension("crashed");
    for file in ["", "-wal"] {
        let of = |path: &Path| format!("{}{file}", path.display());
        fs::copy(of(path), of(&crashed)).expect("a copy");
    }
    crashed
}

/// A crash leaves in the journal what was not moved into the table yet. The next process finds it, in whatever part of its
/// life each row was moved, and what it shows is what the last one showed.
#[tokio::test]
async fn what_stands_in_the_journal_is_there_after_a_crash() {
    let directory = TempDir::new().expect("a directory");
    for journal_writes in [usize::MAX, 7, 1] {
        let path = directory.path().join(format!("{journal_writes}.db"));
        let settle = Duration::from_secs(3600);
        let options = SqliteOptions { journal_writes, settle, ..SqliteOptions::default() };
        let store = SqliteStore::open(&path, options.clone()).expect("a store");
        for number in 0..40 {
            let write = insert(&store, &format!("n{number}"), 100);
            win(&store, write.clone()).await;
            for (phase, version) in
                [(Phase::Confirming, 2), (Phase::Confirmed, 3)].into_iter().take(number % 3)
            {
                let (ended_at, due_at) =
                    (phase.ended().then(|| store.now()), write.row.due_at.filter(|_| !phase.ended()));
                let row = Row {
                    phase,
                    version,
                    tag: version,
                    ended_at,
                    due_at,
                    attention: number == 4,
                    ..write.row.clone()
                };
                win(&store, Write { row, replaces: Some(version - 1), claim: None }).await;
            }
        }
        let next = SqliteStore::open(crash(&path), options).expect("a store");
        let (then, now) = (all(&store).await, all(&next).await);
        assert_eq!((then.len(), &then), (40, &now), "{journal_writes}");
        assert_eq!(store.counts().await.expect("counts"), next.counts().await.expect("counts"));
        assert_eq!(next.counts().await.expect("counts").phases, [14, 13, 13, 0, 0, 0]);
        assert_eq!(next.claim(Duration::MAX, 100).await.expect("claims").rows.len(), 27);
        assert!(next.now() >= now.iter().filter_map(|row| row.ended_at).max().expect("some ended"));
        // Its ids go on where those of the last process ended.
        win(&next, insert(&next, "later", 10)).await;
        assert_eq!(all(&next).await.last().map(|row| row.gid.as_str()), Some("later"));
    }
}

async fn all(store: &SqliteStore) -> Vec<Row> {
    store.list(&Filter::default(), Page { after: None, size: 100 }).await.expect("a list").rows
}

/// Neither its document nor, later, what was remembered of it: the journal still holds it because of another row.
#[tokio::test]
async fn what_was_purged_does_not_come_back_from_the_journal() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let settle = Duration::from_secs(3600);
    let options = SqliteOptions { journal_writes: 1, settle, ..SqliteOptions::default() };
    let store = SqliteStore::open(&path, options.clone()).expect("a store");
    let (begun, now) = (insert(&store, "over", 10), store.now());
    let ended = Row { phase: Phase::Cancelled, due_at: None, ended_at: Some(now), ..begun.row.clone() };
    let batch = vec![insert(&store, "unfinished", 10), Write { row: ended, ..begun.clone() }];
    assert_eq!(store.commit(batch).await.expect("a known outcome"), [Written::Won, Written::Won]);
    let later = now + Duration::from_secs(1);
    for (forget_before, document) in [(now, Some(0)), (later, None)] {
        assert_eq!(store.purge(later, forget_before, 1).await.expect("a purge"), 1);
        let next = SqliteStore::open(crash(&path), options.clone()).expect("a store");
        let found = next.load(&begun.row.gid).await.expect("a load");
        assert_eq!(found.map(|row| row.document.len()), document);
    }
}

/// Nothing is guessed: what was acknowledged may be in it.
#[tokio::test]
async fn a_journal_that_cannot_be_read_is_not_passed_over() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    drop(open(&path).expect("a store"));
    let file = Connection::open(&path).expect("SQLite");
    for entry in ["x'01'", "x'0200000000000000'", "x'0100000000000000000102'"] {
        file.execute(&format!("REPLACE INTO journal VALUES (1, {entry})"), []).expect("the damage");
        let error = open(&path).err().expect("a refusal");
        assert!(matches!(error, OpenError::Sqlite { doing: "read", .. }), "{error:?}");
    }
    file.execute("DELETE FROM journal", []).expect("the mend");
    open(&path).expect("a store");
}

/// A clock that was set back, or a machine that woke without one: what is due would wait for it to catch up.
#[tokio::test]
async fn c10_the_clock_of_a_log_never_goes_back() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let store = open(&path).expect("a store");
    win(&store, insert(&store, "order-1", 10)).await;
    let written = store.now();
    drop(store);
    // As if it had been written by a clock two hours ahead of this one.
    let file = Connection::open(&path).expect("SQLite");
    let ahead = 2 * 3_600_000;
    assert_eq!(file.execute("UPDATE counts SET written_at = written_at + ?", [ahead]).expect("a log"), 1);
    drop(file);
    let store = open(&path).expect("a store");
    let ahead = Duration::from_millis(ahead as u64);
    assert!(store.now() + Duration::from_secs(60) > written + ahead, "{:?}", store.now());
}

/// Claims are of the process: after a crash recovery starts at once and not when they run out.
#[tokio::test]
async fn a_restart_forgets_claims() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let lease = Duration::from_secs(3600);
    for _ in 0..2 {
        let store = open(&path).expect("a store");
        store.commit(vec![insert(&store, "order-1", 10)]).await.expect("a known outcome");
        assert_eq!(store.claim(lease, 10).await.expect("claims").rows.len(), 1);
        assert_eq!(store.claim(lease, 10).await.expect("claims").rows.len(), 0);
    }
}

#[tokio::test]
async fn a_second_store_on_one_file_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let store = open(&path).expect("a store");
    win(&store, insert(&store, "order-1", 10)).await;

    let error = refused(&path);
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    let said = process::run(process::plain(), "open", &path);
    assert!(said[0].starts_with("in use: ") && said[0].contains("log.db is in use"), "{said:?}");
    #[cfg(unix)]
    {
        let alias = directory.path().join("alias.db");
        std::os::unix::fs::symlink(&path, &alias).expect("a link");
        assert!(matches!(refused(&alias), OpenError::InUse { .. }), "by another name");
    }

    drop(store);
    assert_eq!(process::run(process::plain(), "open", &path), ["opened"]);
    open(&path).expect("a store, once the others are gone");
}

#[test]
fn another_schema_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    drop(open(&path).expect("a store"));
    Connection::open(&path).expect("SQLite").pragma_update(None, "user_version", 5).expect("a pragma");
    let error = open(&path).err().expect("a refusal");
    assert!(matches!(error, OpenError::Newer { found: 5, .. }), "{error:?}");
    assert!(error.to_string().contains("log.db has schema 5"), "{error}");
    Connection::open(&path).expect("SQLite").pragma_update(None, "user_version", 3).expect("a pragma");
    let error = open(&path).err().expect("a refusal");
    assert!(matches!(error, OpenError::Older { found: 3, .. }), "{error:?}");
}

#[test]
fn a_file_of_another_program_is_refused_and_left_as_it_is() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("theirs.db");
    let theirs = Connection::open(&path).expect("SQLite");
    theirs.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").expect("their table");
    drop(theirs);
    let before = fs::read(&path).expect("their file");
    assert!(matches!(refused(&path), OpenError::Foreign { application_id: 0, .. }));
    assert_eq!(fs::read(&path).expect("their file"), before);

    let text = directory.path().join("notes.txt");
    fs::write(&text, "not a database, and longer than the header of one. ".repeat(20)).expect("a file");
    let error = refused(&text);
    assert!(matches!(error, OpenError::Sqlite { doing: "read", .. }), "{error:?}");
    assert!(error.to_string().contains("notes.txt"), "{error}");

    let nowhere = directory.path().join("missing/log.db");
    let error = refused(&nowhere);
    assert!(matches!(error, OpenError::Io { doing: "open", .. }), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let store = open(&path).expect("a store");
    win(&store, insert(&store, "order-1", 10)).await;
    for entry in fs::read_dir(directory.path()).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
}

/// The kept counts are what counting gives, also after a crash, for they are written with the rows.
#[tokio::test]
async fn kept_counts_are_what_counting_gives() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let store = open(&path).expect("a store");
    let batch = (0..50).map(|number| insert(&store, &format!("n{}", number % 40), 10)).collect();
    let written = store.commit(batch).await.expect("a known outcome");
    assert!(written.iter().all(|written| *written == Written::Won), "the same write wins again");
    let expected = Counts {
        phases: [40, 0, 0, 0, 0, 0],
        oldest_unfinished: store.counts().await.expect("counts").oldest_unfinished,
        ..Counts::default()
    };
    assert_eq!(store.counts().await.expect("counts"), expected);
    drop(store);
    let file = Connection::open(&path).expect("SQLite");
    let counted: u64 = file
        .query_row("SELECT count(*) FROM transactions WHERE phase = 0", [], |row| row.get::<_, u32>(0))
        .expect("a count")
        .into();
    let check: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!((counted, check.as_str()), (40, "ok"));
}

/// However much is written, the WAL stays near its size; what it held is in the file.
#[tokio::test]
async fn the_wal_is_kept_small() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let options = SqliteOptions { wal_bytes: 256 * 1024, ..SqliteOptions::default() };
    let store = SqliteStore::open(&path, options).expect("a store");
    for round in 0..40 {
        let batch = (0..50).map(|number| insert(&store, &format!("n{round}/{number}"), 2000)).collect();
        store.commit(batch).await.expect("a known outcome");
    }
    let wal = fs::metadata(directory.path().join("log.db-wal")).expect("a WAL").len();
    assert!(wal < 4 * 1024 * 1024, "{wal} bytes of WAL");
    let stats = store.stats();
    assert_eq!((stats.commits, stats.writes), (40, 2000));
    assert!(stats.checkpoints > 2, "{stats:?}");
}

/// Where no index leads to the rows a page stops after so many, and the pages are complete all the same.
#[tokio::test]
async fn a_list_of_few_among_many_is_complete() {
    let directory = TempDir::new().expect("a directory");
    let store = open(&directory.path().join("log.db")).expect("a store");
    let total = usize::try_from(limits::LIST_SCAN).expect("a number") + 1000;
    let mut expected = Vec::new();
    for start in (0..total).step_by(500) {
        let batch = (start..start + 500).map(|number| {
            let mut write = insert(&store, &format!("n/{number}"), 10);
            if number % 7000 == 6999 {
                expected.push(write.row.gid.clone());
                let now = store.now();
                let row = write.row;
                write.row = Row { phase: Phase::Cancelled, due_at: None, ended_at: Some(now), ..row };
            }
            write
        });
        store.commit(batch.collect()).await.expect("a known outcome");
    }
    let cancelled = Filter { phase: Some(Phase::Cancelled), ..Filter::default() };
    let prefix = Filter { prefix: Some("n/".into()), ..cancelled.clone() };
    let trying = Filter { phase: Some(Phase::Trying), prefix: Some("n/13".into()), ..Filter::default() };
    for (filter, count) in [(cancelled, 3), (prefix, 3), (trying, 1110)] {
        let (mut gids, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = store.list(&filter, Page { after, size: 200 }).await.expect("a page");
            gids.extend(page.rows.into_iter().map(|row| row.gid));
            after = page.next;
            pages += 1;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(gids.len(), count, "{filter:?}");
        assert!(pages <= count / 200 + 2, "{pages} pages for {filter:?}");
        if count == 3 {
            assert_eq!(gids, expected);
        }
    }
}

/// Whatever damaged it.
#[tokio::test]
async fn a_row_that_cannot_be_read_takes_no_other_with_it() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let store = open(&path).expect("a store");
    for gid in ["damaged", "whole"] {
        let parked = Parked { at: "payment".to_owned(), since: store.now() };
        let row = Row { parked: Some(parked), ..row(gid, gid.into(), store.now()) };
        win(&store, Write { row, replaces: None, claim: None }).await;
    }
    drop(store);
    let file = Connection::open(&path).expect("SQLite");
    file.execute("UPDATE transactions SET digest = x'00' WHERE gid = 'damaged'", []).expect("the damage");
    let store = open(&path).expect("a store");
    let lease = Duration::from_millis(1);
    let claimed = store.claim(lease, 100).await.expect("a store that can be reached").rows;
    assert_eq!(claimed.iter().map(|row| row.gid.as_str()).collect::<Vec<_>>(), ["whole"]);
    thread::sleep(lease * 2);
    let claimed = store.claim_parked("payment", lease, 100).await.expect("a store that can be reached");
    assert_eq!(claimed.iter().map(|row| row.gid.as_str()).collect::<Vec<_>>(), ["whole"]);
}
