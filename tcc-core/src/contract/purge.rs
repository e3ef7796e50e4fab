//! Purging.

use super::{HOUR, Subject, begun, claim, commit, due, finish, insert, load, names, replace, then, win};
use crate::store::{Counts, Filter, Page, Row, Written};
use crate::{Digest, Phase, Store, Timestamp};

const NEVER: Timestamp = Timestamp::from_millis(i64::MIN);
const ALWAYS: Timestamp = Timestamp::from_millis(i64::MAX);

/// Purges what ended before a moment, and forgets what ended before another.
async fn purge(store: &dyn Store, ended_before: Timestamp, forget_before: Timestamp, limit: usize) -> usize {
    store.purge(ended_before, forget_before, limit).await.expect("a store that can be written")
}

/// C3: what is left answers truthfully.
pub(super) async fn a_purge_leaves_the_decision(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let now = store.now();
    let old = finish(&*store, "old", Phase::Confirmed, now - HOUR).await;
    let young = finish(&*store, "young", Phase::Cancelled, now).await;
    assert_eq!(purge(&*store, now - HOUR, NEVER, 100).await, 0, "ended at that moment is not before it");
    assert_eq!(purge(&*store, now, NEVER, 100).await, 1);
    let left = load(&*store, "old").await.expect("something is left");
    assert_eq!((left.gid, left.phase, left.digest), (old.gid, old.phase, Some(Digest::of("old"))));
    assert_eq!(left.document, b"");
    assert_eq!((left.ended_at, left.due_at), (old.ended_at, None));
    assert_eq!(load(&*store, "young").await, Some(young));
    assert_eq!(purge(&*store, now, NEVER, 100).await, 0, "there is nothing to purge twice");
}

pub(super) async fn what_is_purged_is_out_of_sight(subject: &dyn Subject) {
    let store = subject.fresh().await;
    for phase in [Phase::Confirmed, Phase::Cancelled, Phase::Abandoned] {
        let first = Row { attention: true, ..begun(&*store, phase.as_str()) };
        win(&*store, insert(&first)).await;
        win(&*store, replace(&super::ended(&first, phase, store.now()))).await;
    }
    assert_eq!(store.counts().await.expect("counts").attention, 3);
    assert_eq!(purge(&*store, ALWAYS, NEVER, 100).await, 3);
    for attention in [None, Some(true), Some(false)] {
        for prefix in [None, Some("C".to_owned())] {
            let filter = Filter { attention, prefix, ..Filter::default() };
            let listing = store.list(&filter, Page { after: None, size: 10 }).await.expect("a page");
            assert_eq!(names(&listing.rows), [""; 0]);
            assert_eq!(listing.next, None);
        }
    }
    assert_eq!(store.counts().await.expect("counts"), Counts::default());
    assert_eq!(claim(&*store, HOUR, 100).await, [""; 0]);
}

/// A late create is told what was decided, and a writer who read the row before cannot bring it back.
pub(super) async fn what_is_purged_stays_so(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let last = finish(&*store, "a", Phase::Cancelled, store.now()).await;
    assert_eq!(purge(&*store, ALWAYS, NEVER, 100).await, 1);
    let left = load(&*store, "a").await;
    assert_eq!(commit(&*store, insert(&begun(&*store, "a"))).await, Written::Lost);
    assert_eq!(commit(&*store, replace(&then(&last, Phase::Cancelled))).await, Written::Lost);
    assert_eq!(commit(&*store, replace(&last)).await, Written::Lost);
    assert_eq!(load(&*store, "a").await, left);
}

pub(super) async fn what_is_forgotten_can_begin_again(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let now = store.now();
    finish(&*store, "old", Phase::Confirmed, now - HOUR).await;
    finish(&*store, "young", Phase::Confirmed, now).await;
    assert_eq!(purge(&*store, NEVER, ALWAYS, 100).await, 0, "what was not purged is not forgotten");
    assert_eq!(purge(&*store, ALWAYS, NEVER, 100).await, 2);
    assert_eq!(purge(&*store, ALWAYS, now - HOUR, 100).await, 0);
    assert_eq!(purge(&*store, ALWAYS, now, 100).await, 1);
    assert_eq!(load(&*store, "old").await, None);
    assert!(load(&*store, "young").await.is_some());

    let anew = due(&*store, "old", now);
    win(&*store, insert(&anew)).await;
    assert_eq!(load(&*store, "old").await, Some(anew));
    assert_eq!(claim(&*store, HOUR, 100).await, ["old"]);
    assert_eq!(store.counts().await.expect("counts").phases, [1, 0, 0, 0, 0, 0]);
}

/// C6.
pub(super) async fn nothing_unfinished_is_purged(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let mut rows = Vec::new();
    for phase in [Phase::Trying, Phase::Confirming, Phase::Cancelling] {
        let ancient = Timestamp::from_millis(0);
        let first = Row { created_at: ancient, ..due(&*store, phase.as_str(), ancient) };
        win(&*store, insert(&first)).await;
        let second = then(&first, phase);
        win(&*store, replace(&second)).await;
        rows.push(second);
    }
    assert_eq!(purge(&*store, ALWAYS, ALWAYS, 100).await, 0);
    assert_eq!(purge(&*store, ALWAYS, ALWAYS, 100).await, 0);
    for row in rows {
        assert_eq!(load(&*store, row.gid.as_str()).await, Some(row));
    }
}

pub(super) async fn a_purge_keeps_to_its_limit(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let now = store.now();
    for number in 0..7 {
        finish(&*store, &format!("n{number}"), Phase::Confirmed, now).await;
    }
    assert_eq!(purge(&*store, ALWAYS, NEVER, 0).await, 0);
    assert_eq!(purge(&*store, ALWAYS, NEVER, 3).await, 3);
    assert_eq!(store.counts().await.expect("counts").phases, [0, 0, 4, 0, 0, 0]);
    assert_eq!(purge(&*store, ALWAYS, NEVER, 3).await, 3);
    assert_eq!(purge(&*store, ALWAYS, NEVER, 3).await, 1);
    assert_eq!(purge(&*store, NEVER, ALWAYS, 5).await, 5);
    assert_eq!(purge(&*store, NEVER, ALWAYS, 5).await, 2);
    assert_eq!(load(&*store, "n0").await, None);
}
