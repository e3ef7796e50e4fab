//! Claims.

use std::time::Duration;

use super::{
    HOUR, SOON, Subject, begun, claim, claiming, commit, due, ended, insert, names, replace, then, together,
    win,
};
use crate::store::{Row, Written};
use crate::{Phase, Store, Timestamp};

/// When the next row can be claimed. Claims none: nothing may be due.
async fn next(store: &dyn Store) -> Option<Timestamp> {
    let claimed = store.claim(HOUR, 100).await.expect("a store that can be reached");
    assert_eq!(names(&claimed.rows), [""; 0]);
    claimed.next
}

pub(super) async fn only_what_is_due_is_claimed(subject: &dyn Subject) {
    let store = subject.fresh().await;
    assert_eq!(claim(&*store, HOUR, 100).await, [""; 0]);
    let now = store.now();
    win(&*store, insert(&due(&*store, "due", now))).await;
    win(&*store, insert(&due(&*store, "soon", now + SOON))).await;
    win(&*store, insert(&due(&*store, "later", now + HOUR))).await;
    let over = due(&*store, "over", now);
    win(&*store, insert(&over)).await;
    win(&*store, replace(&ended(&over, Phase::Cancelled, now))).await;

    let claimed = store.claim(HOUR, 100).await.expect("a store that can be reached");
    let first = names(&claimed.rows);
    assert!(first == ["due"] || first == ["due", "soon"], "{first:?}");
    subject.pass(SOON).await;
    let rest = claim(&*store, HOUR, 100).await;
    assert_eq!([first, rest].concat(), ["due", "soon"], "and never what has ended");
}

pub(super) async fn the_longest_due_is_claimed_first(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let now = store.now();
    for (id, minutes) in [("c", 1), ("a", 3), ("d", 0), ("b", 2)] {
        let row = Row { attention: id == "b", ..due(&*store, id, now - Duration::from_secs(60) * minutes) };
        win(&*store, insert(&row)).await;
    }
    let claimed = store.claim(HOUR, 2).await.expect("a store that can be reached");
    assert_eq!(names(&claimed.rows), ["a", "b"]);
    assert!(claimed.rows[1].attention && claimed.rows[1].document == b"b begins", "rows come whole");
    assert!(claimed.next.is_some_and(|next| next <= now), "more are due");
    assert_eq!(claim(&*store, HOUR, 0).await, [""; 0]);
    assert_eq!(claim(&*store, HOUR, 1).await, ["c"]);
    assert_eq!(claim(&*store, HOUR, 100).await, ["d"]);
}

pub(super) async fn nothing_is_claimed_twice_within_its_lease(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let ids: Vec<String> = (10..30).map(|number| format!("n{number}")).collect();
    for id in &ids {
        win(&*store, insert(&due(&*store, id, store.now()))).await;
    }
    let mut claimed = together((0..10).map(|_| claim(&*store, HOUR, 3)).collect()).await.concat();
    claimed.sort();
    assert_eq!(claimed, ids);
    assert_eq!(claim(&*store, HOUR, 100).await, [""; 0]);
}

pub(super) async fn a_claim_runs_out(subject: &dyn Subject) {
    let store = subject.fresh().await;
    win(&*store, insert(&due(&*store, "a", store.now() - HOUR))).await;
    win(&*store, claiming(insert(&due(&*store, "b", store.now())), SOON)).await;
    assert_eq!(claim(&*store, SOON, 1).await, ["a"]);
    subject.pass(SOON).await;
    let mut again = claim(&*store, HOUR, 100).await;
    again.sort();
    assert_eq!(again, ["a", "b"]);
    subject.pass(SOON).await;
    assert_eq!(claim(&*store, HOUR, 100).await, [""; 0]);
}

pub(super) async fn a_write_takes_a_claim_or_lets_it_go(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let first = due(&*store, "a", store.now());
    win(&*store, claiming(insert(&first), HOUR)).await;
    assert_eq!(claim(&*store, HOUR, 1).await, [""; 0], "begin took it");
    let second = then(&first, Phase::Confirming);
    win(&*store, replace(&second)).await;
    assert_eq!(claim(&*store, HOUR, 1).await, ["a"], "a write without a claim let it go");
    let third = then(&second, Phase::Confirming);
    win(&*store, claiming(replace(&third), HOUR)).await;
    assert_eq!(claim(&*store, HOUR, 1).await, [""; 0], "the holder renewed it");
    let (fourth, fifth) = (then(&third, Phase::Confirming), then(&then(&third, third.phase), third.phase));
    let batch = vec![replace(&fourth), claiming(replace(&fifth), HOUR)];
    assert_eq!(store.commit(batch).await.expect("a known outcome"), [Written::Won, Written::Won]);
    assert_eq!(claim(&*store, HOUR, 1).await, [""; 0], "of two writes in a batch the last one counts");
    let (sixth, seventh) = (then(&fifth, fifth.phase), then(&then(&fifth, fifth.phase), fifth.phase));
    let batch = vec![claiming(replace(&sixth), HOUR), replace(&seventh)];
    assert_eq!(store.commit(batch).await.expect("a known outcome"), [Written::Won, Written::Won]);
    assert_eq!(claim(&*store, HOUR, 1).await, ["a"], "of two writes in a batch the last one counts");
}

pub(super) async fn a_write_that_loses_leaves_the_claim(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let (free, held) = (due(&*store, "free", store.now()), due(&*store, "held", store.now()));
    win(&*store, insert(&free)).await;
    win(&*store, claiming(insert(&held), HOUR)).await;
    let late = claiming(insert(&Row { tag: 77, ..free.clone() }), HOUR);
    assert_eq!(commit(&*store, late).await, Written::Lost);
    let stale = replace(&Row { version: 5, tag: 77, ..held.clone() });
    assert_eq!(commit(&*store, stale).await, Written::Lost);
    assert_eq!(claim(&*store, HOUR, 100).await, ["free"]);
}

pub(super) async fn next_is_when_the_next_row_is_due(subject: &dyn Subject) {
    let store = subject.fresh().await;
    assert_eq!(next(&*store).await, None);
    let soon = store.now() + Duration::from_secs(600);
    let later = begun(&*store, "later");
    win(&*store, insert(&later)).await;
    assert_eq!(next(&*store).await, later.due_at);
    let sooner = due(&*store, "sooner", soon);
    win(&*store, insert(&sooner)).await;
    assert_eq!(next(&*store).await, Some(soon));

    win(&*store, insert(&due(&*store, "due", store.now()))).await;
    let claimed = store.claim(HOUR, 1).await.expect("a store that can be reached");
    assert_eq!((names(&claimed.rows), claimed.next), (vec!["due".to_owned()], Some(soon)));
    win(&*store, replace(&ended(&sooner, Phase::Cancelled, soon))).await;
    assert_eq!(next(&*store).await, later.due_at, "what has ended is not waited for");

    let late = store.now();
    win(&*store, insert(&due(&*store, "one", late))).await;
    win(&*store, insert(&due(&*store, "two", late))).await;
    let claimed = store.claim(HOUR, 1).await.expect("a store that can be reached");
    assert!(claimed.next.is_some_and(|next| next <= store.now()), "another is due already");
}
