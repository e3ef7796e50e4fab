//! The stores: what they promise, on files and disks that do not behave.

mod batched;
mod contract;
mod files;
mod full_disk;
mod process;
mod trouble;

use tcc_core::store::{Row, Write, Written};
use tcc_core::{Phase, Store};

/// An insert of a transaction that begins now.
fn insert(store: &dyn Store, gid: &str, document: usize) -> Write {
    let now = store.now();
    let row = Row {
        gid: gid.parse().expect("a gid"),
        document: vec![b'x'; document],
        phase: Phase::Trying,
        due_at: Some(now),
        attention: false,
        created_at: now,
        ended_at: None,
        digest: None,
        version: 1,
        tag: 1,
    };
    Write { row, replaces: None, claim: None }
}

async fn win(store: &dyn Store, write: Write) {
    assert_eq!(store.commit(vec![write]).await.expect("a known outcome"), [Written::Won]);
}

/// Says that a test could not run here, so that nobody takes it for passed.
fn skipped(test: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{test} must run in CI: {why}");
    eprintln!("SKIPPED {test}: {why}");
    if let Some(list) = std::env::var_os("TCC_SKIPPED") {
        use std::io::Write as _;
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).expect("TCC_SKIPPED");
        writeln!(list, "{test}: {why}").expect("TCC_SKIPPED");
    }
}
