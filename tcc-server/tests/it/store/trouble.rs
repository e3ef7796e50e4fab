//! Commits that fail in a way that leaves open what became of them (C4).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tcc_core::store::Written;
use tcc_core::{Gid, Store};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use super::process::{arguments, run, says};
use super::{insert, skipped};

/// The other process: says every commit it was told of, until one fails, and then what the store still answers.
pub(super) async fn commit_until_it_fails(path: &Path) {
    let store = SqliteStore::open(path, SqliteOptions::default()).expect("a store");
    let failed = store.failed();
    for number in 0..10_000 {
        let gid = format!("n{number}");
        match store.commit(vec![insert(&store, &gid, 1000)]).await {
            Ok(written) => {
                assert_eq!(written, [Written::Won]);
                says(format!("acked {gid}"));
            }
            Err(unknown) => {
                says(format!("unknown {gid}"));
                assert!(std::error::Error::source(&unknown).is_some());
                break;
            }
        }
    }
    tokio::time::timeout(Duration::from_secs(10), failed).await.expect("the owner is told");
    assert!(store.commit(vec![insert(&store, "after", 10)]).await.is_err(), "nothing is committed any more");
    let gid: Gid = "n0".parse().expect("a gid");
    assert!(store.load(&gid).await.is_err() && store.counts().await.is_err(), "nor read");
    assert!(store.claim(Duration::ZERO, 1).await.is_err(), "nor claimed");
    let now = store.now();
    assert!(store.purge(now, now, 1).await.is_err(), "nor purged");
    says("poisoned");
}

/// Runs it under this command, then looks at what the next process finds.
async fn fails_and_loses_nothing(command: Command) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("log.db");
    let said = run(command, "commit until it fails", &path);
    let acked: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("acked ")).collect();
    let unknown: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("unknown ")).collect();
    assert!(!acked.is_empty() && unknown.len() == 1, "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("poisoned"));

    let store = SqliteStore::open(&path, SqliteOptions::default()).expect("the next process opens it");
    for id in &acked {
        let gid: Gid = id.parse().expect("a gid");
        assert!(store.load(&gid).await.expect("a load").is_some(), "{id} was acked");
    }
    let trying = store.counts().await.expect("counts").phases[0];
    let acked = u64::try_from(acked.len()).expect("a number");
    assert!(trying == acked || trying == acked + 1, "{trying} rows for {acked} acked and one unknown");
    // What it finds is durable now and can be built on.
    let again = store.commit(vec![insert(&store, unknown[0], 1000)]).await.expect("a known outcome");
    assert_eq!(again, [Written::Won], "the same write has won, again or for the first time");
}

/// A write beyond a limit of the process fails with EFBIG, which SQLite reports as an I/O error.
#[cfg(unix)]
#[tokio::test]
async fn after_a_write_that_failed_nothing_is_answered_and_nothing_acked_is_lost() {
    let mut command = Command::new("sh");
    // The limit is in blocks of 512 bytes; the signal that comes with it would end the process.
    command.args(["-c", "trap '' XFSZ; ulimit -f 600; exec \"$@\"", "sh"]).args(arguments());
    fails_and_loses_nothing(command).await;
}

/// After a failed fsync the commit may be there after all: never is it taken for refused. One fsync fails and the
/// next would succeed, so that nothing but the store's own memory keeps it from going on.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn after_an_fsync_that_failed_nothing_is_answered_and_nothing_acked_is_lost() {
    let test = "store::trouble::after_an_fsync_that_failed";
    let tracer = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"];
    let works = Command::new("strace").args(tracer).arg("true").output().is_ok_and(|o| o.status.success());
    if !works {
        return skipped(test, "strace cannot be used here");
    }
    let mut command = Command::new("strace");
    command.args(tracer).args(["-e", "inject=fsync,fdatasync:error=EIO:when=20"]).args(arguments());
    fails_and_loses_nothing(command).await;
}
