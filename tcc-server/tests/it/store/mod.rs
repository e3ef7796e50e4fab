//! The stores: what they promise, on files and disks that do not behave.

mod batched;
mod contract;
mod files;
mod full_disk;
mod process;
mod trouble;

use tcc_core::Store;
use tcc_core::contract::row;
use tcc_core::store::{Write, Written};

/// An insert of a transaction that begins now.
fn insert(store: &dyn Store, gid: &str, document: usize) -> Write {
    let row = row(gid, vec![b'x'; document], store.now());
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
