//! A full disk is certain, and passes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tcc_core::store::{Refusal, Subscription, Written};
use tcc_core::topic::Subscriber;
use tcc_core::{Gid, Store, SubscriberId};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use super::{insert, skipped, win};

/// A small disk of its own.
struct Disk(TempDir);

impl Disk {
    fn mount(kib: u32) -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let size = format!("size={kib}k");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tcc-test"])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn there(store: &dyn Store, id: &str) -> bool {
    let gid: Gid = id.parse().expect("a gid");
    store.load(&gid).await.expect("reads go on").is_some()
}

/// C4, C6: what could not be written is refused and not there, what was acked stays, reads go on, and once there is
/// room writes succeed by themselves.
#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let Some(disk) = Disk::mount(2048) else {
        return skipped("store::full_disk::a_full_disk_refuses_writes", "a tmpfs cannot be mounted");
    };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 1000 * 1024]).expect("room for ballast");
    let path = disk.path().join("log.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).expect("a store");
    let mut failed = Box::pin(store.failed());
    let store = Arc::new(store);

    let mut acked = Vec::new();
    let mut refused = Vec::new();
    for number in 0..2000 {
        let id = format!("n{number}");
        match &store.commit(vec![insert(&*store, &id, 3000)]).await.expect("a known outcome")[..] {
            [Written::Won] => acked.push(id),
            [Written::Refused(Refusal::Full)] => refused.push(id),
            other => panic!("{other:?}"),
        }
        if refused.len() == 20 {
            break;
        }
    }
    assert!(!acked.is_empty() && refused.len() == 20, "{} acked, {} refused", acked.len(), refused.len());
    assert!(there(&*store, &acked[0]).await && there(&*store, &acked[acked.len() - 1]).await);
    for id in &refused {
        assert!(!there(&*store, id).await, "{id} was refused");
    }
    assert_eq!(store.counts().await.expect("reads go on").phases[0], acked.len() as u64);
    // A write that was acked before the disk was full is still acked when it is offered again.
    let again = store.commit(vec![insert(&*store, &acked[0], 3000), insert(&*store, &refused[0], 3000)]);
    let full = Written::Refused(Refusal::Full);
    assert_eq!(again.await.expect("a known outcome"), [Written::Won, full]);

    // As with rows, so with who subscribes.
    let mut left_out = Vec::new();
    for number in 0..10 {
        let deliver = format!("http://points/{}", "x".repeat(2000)).parse().expect("an endpoint");
        let id: SubscriberId = format!("s{number}").parse().expect("an id");
        let one = Subscriber { topic: "order.created".parse().expect("a topic"), id, deliver };
        match store.subscribe(Subscription::Put(one.clone())).await.expect("a known outcome") {
            Ok(()) => {}
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Full);
                left_out.push(one);
            }
        }
    }
    assert!(!left_out.is_empty(), "there was room for all of them");
    let kept = store.subscribers(None).await.expect("reads go on");
    assert!(left_out.iter().all(|one| !kept.contains(one)), "what was refused is not there");

    fs::remove_file(&ballast).expect("the ballast");
    for one in &left_out {
        assert_eq!(store.subscribe(Subscription::Put(one.clone())).await.expect("a known outcome"), Ok(()));
    }
    for id in refused.drain(..) {
        win(&*store, insert(&*store, &id, 3000)).await;
        acked.push(id);
    }
    let pending =
        std::future::poll_fn(|context| std::task::Poll::Ready(failed.as_mut().poll(context).is_pending()));
    assert!(pending.await, "a full disk is no failure of the store");

    drop(store);
    tokio::task::yield_now().await;
    let store = SqliteStore::open(&path, SqliteOptions::default()).expect("a store");
    for id in &acked {
        assert!(there(&store, id).await, "{id} was acked");
    }
    assert_eq!(store.counts().await.expect("counts").phases[0], acked.len() as u64);
    assert_eq!(store.subscribers(None).await.expect("subscribers").len(), 10);
}
