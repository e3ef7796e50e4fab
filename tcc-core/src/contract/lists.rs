//! Lists and counts.

use std::time::Duration;

use super::{HOUR, Subject, begun, ended, finish, insert, names, replace, then, win};
use crate::store::{Counts, Filter, Page, Row};
use crate::{Phase, Store, Timestamp};

/// The gids of every page.
async fn list(store: &dyn Store, filter: &Filter, size: usize) -> Vec<String> {
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let listing = store.list(filter, Page { after, size }).await.expect("a store that can be read");
        assert!(listing.rows.len() <= size, "{} rows on a page of {size}", listing.rows.len());
        listed.extend(names(&listing.rows));
        assert!(listing.next.is_none() || listing.next > after, "pages go forward");
        after = listing.next;
        if after.is_none() {
            return listed;
        }
    }
}

/// Six transactions, one in each phase, begun an hour apart; those that are deciding call for a human.
async fn six(store: &dyn Store, start: Timestamp) {
    for (hours, phase) in Phase::ALL.into_iter().enumerate() {
        let hours = u32::try_from(hours).expect("six fit");
        let id = format!("{}/{hours}", if hours < 3 { "early" } else { "late" });
        let first = Row { created_at: start + HOUR * hours, ..begun(store, &id) };
        win(store, insert(&first)).await;
        let attention = matches!(phase, Phase::Confirming | Phase::Cancelling | Phase::Abandoned);
        let second = if phase.ended() { ended(&first, phase, store.now()) } else { then(&first, phase) };
        win(store, replace(&Row { attention, ..second })).await;
    }
}

pub(super) async fn each_filter_holds(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let start = store.now();
    six(&*store, start).await;
    let all = ["early/0", "early/1", "early/2", "late/3", "late/4", "late/5"];
    assert_eq!(list(&*store, &Filter::default(), 100).await, all);
    for (id, phase) in all.into_iter().zip(Phase::ALL) {
        let filter = Filter { phase: Some(phase), ..Filter::default() };
        assert_eq!(list(&*store, &filter, 100).await, [id], "{phase:?}");
    }
    let filter = Filter { attention: Some(true), ..Filter::default() };
    assert_eq!(list(&*store, &filter, 100).await, ["early/1", "late/3", "late/5"]);
    let filter = Filter { attention: Some(false), ..Filter::default() };
    assert_eq!(list(&*store, &filter, 100).await, ["early/0", "early/2", "late/4"]);
    let filter = Filter { prefix: Some("early/".into()), ..Filter::default() };
    assert_eq!(list(&*store, &filter, 100).await, all[..3]);
    let filter = Filter { created_from: Some(start + HOUR * 2), ..Filter::default() };
    assert_eq!(list(&*store, &filter, 100).await, all[2..], "at that moment is in");
    let filter = Filter { created_before: Some(start + HOUR * 2), ..Filter::default() };
    assert_eq!(list(&*store, &filter, 100).await, all[..2], "at that moment is out");
}

pub(super) async fn filters_combine(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let start = store.now();
    six(&*store, start).await;
    let attention = Filter { attention: Some(true), ..Filter::default() };
    let late = Filter { prefix: Some("late".into()), ..attention.clone() };
    assert_eq!(list(&*store, &late, 1).await, ["late/3", "late/5"]);
    let until = Filter { created_before: Some(start + HOUR * 5), ..late.clone() };
    assert_eq!(list(&*store, &until, 1).await, ["late/3"]);
    let phase = Filter { phase: Some(Phase::Abandoned), created_from: Some(start), ..late.clone() };
    assert_eq!(list(&*store, &phase, 1).await, ["late/5"]);
    let unfinished = Filter { phase: Some(Phase::Cancelling), attention: None, ..until };
    assert_eq!(list(&*store, &unfinished, 1).await, ["late/3"]);
    let nothing = Filter { phase: Some(Phase::Trying), ..late };
    assert_eq!(list(&*store, &nothing, 1).await, [""; 0]);
    let never = Filter { created_from: Some(start), created_before: Some(start), ..Filter::default() };
    assert_eq!(list(&*store, &never, 1).await, [""; 0]);
}

pub(super) async fn a_prefix_is_no_pattern(subject: &dyn Subject) {
    let store = subject.fresh().await;
    for id in ["a_b", "aXb", "a_", "a", "A_b", "a_b/c", "a/b"] {
        win(&*store, insert(&begun(&*store, id))).await;
    }
    let by = async |prefix: &str| {
        let filter = Filter { prefix: Some(prefix.into()), ..Filter::default() };
        list(&*store, &filter, 2).await
    };
    assert_eq!(by("a_").await, ["a_b", "a_", "a_b/c"]);
    assert_eq!(by("a_b").await, ["a_b", "a_b/c"]);
    assert_eq!(by("A").await, ["A_b"]);
    assert_eq!(by("").await.len(), 7);
    for nothing in
        ["%", "a%", "*", "a*", "?", "[a]", "\\", "a\\_", "'", "\"", "a_b/c/", "b", "\u{10ffff}", "\0"]
    {
        assert_eq!(by(nothing).await, [""; 0], "{nothing:?}");
    }
}

pub(super) async fn pages_are_complete_and_without_repeats(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let ids: Vec<String> = (0..23).map(|number| format!("n/{}", (number * 7) % 23)).collect();
    for id in &ids {
        win(&*store, insert(&begun(&*store, id))).await;
    }
    for size in [1, 2, 22, 23, 24] {
        assert_eq!(list(&*store, &Filter::default(), size).await, ids, "pages of {size}");
        let filter = Filter { phase: Some(Phase::Trying), ..Filter::default() };
        assert_eq!(list(&*store, &filter, size).await, ids, "pages of {size}, of one phase");
    }
    let last = store.list(&Filter::default(), Page { after: None, size: 23 }).await.expect("a page");
    assert_eq!(last.next, None, "nothing comes after the last row");

    // What changes between two pages neither repeats nor hides what does not.
    let first = store.list(&Filter::default(), Page { after: None, size: 10 }).await.expect("a page");
    assert_eq!(names(&first.rows), ids[..10]);
    for row in [&first.rows[0], &first.rows[9]] {
        win(&*store, replace(&then(row, Phase::Confirming))).await;
    }
    win(&*store, insert(&begun(&*store, "n/late"))).await;
    let rest = store.list(&Filter::default(), Page { after: first.next, size: 100 }).await.expect("a page");
    assert_eq!(names(&rest.rows)[..13], ids[10..]);
    assert_eq!(names(&rest.rows)[13..], ["n/late"]);
}

pub(super) async fn counts_follow_every_write(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let counts = async || store.counts().await.expect("counts");
    assert_eq!(counts().await, Counts::default());

    let start = store.now();
    let old = Row { created_at: start - HOUR, ..begun(&*store, "old") };
    let older = Row { created_at: start - HOUR * 2, attention: true, ..begun(&*store, "older") };
    win(&*store, insert(&old)).await;
    win(&*store, insert(&older)).await;
    finish(&*store, "oldest", Phase::Cancelled, start).await;
    let expected =
        Counts { phases: [2, 0, 0, 0, 1, 0], attention: 1, oldest_unfinished: Some(start - HOUR * 2) };
    assert_eq!(counts().await, expected);

    let confirming = Row { attention: true, ..then(&old, Phase::Confirming) };
    win(&*store, replace(&confirming)).await;
    let cancelled = ended(&older, Phase::Cancelled, start);
    win(&*store, replace(&Row { attention: false, ..cancelled })).await;
    let expected = Counts { phases: [0, 1, 0, 0, 2, 0], attention: 1, oldest_unfinished: Some(start - HOUR) };
    assert_eq!(counts().await, expected);

    win(&*store, replace(&ended(&confirming, Phase::Abandoned, start + Duration::from_millis(1)))).await;
    let expected = Counts { phases: [0, 0, 0, 0, 2, 1], attention: 1, oldest_unfinished: None };
    assert_eq!(counts().await, expected);
}
