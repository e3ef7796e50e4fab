//! What is parked at a destination.

use super::{
    HOUR, SOON, Subject, begun, claim, claiming, due, ended, insert, load, names, replace, then, win,
};
use crate::store::{Parked, Row};
use crate::{Phase, Store, Timestamp};

fn at(destination: &str, since: Timestamp) -> Option<Parked> {
    Some(Parked { at: destination.to_owned(), since })
}

/// A transaction that begins now, parked at a destination until a moment.
fn parked(store: &dyn Store, id: &str, destination: &str, until: Timestamp) -> Row {
    Row { parked: at(destination, store.now()), ..due(store, id, until) }
}

/// The gids claimed, in order.
async fn claim_parked(store: &dyn Store, destination: &str, limit: usize) -> Vec<String> {
    names(&store.claim_parked(destination, HOUR, limit).await.expect("a store that can be reached"))
}

async fn parked_at(store: &dyn Store, limit: usize) -> Vec<String> {
    store.parked_at(limit).await.expect("a store that can be read")
}

pub(super) async fn what_is_parked_is_claimed_by_destination(subject: &dyn Subject) {
    let store = subject.fresh().await;
    assert_eq!(claim_parked(&*store, "payment:80", 100).await, [""; 0]);
    let now = store.now();
    for (id, hours) in [("c", 3), ("a", 5), ("d", 1), ("b", 4), ("due", 2)] {
        let until = if id == "due" { now } else { now + HOUR * (hours % 3 + 1) };
        let row = Row { parked: at("payment:80", now - HOUR * hours), ..due(&*store, id, until) };
        win(&*store, insert(&row)).await;
    }
    win(&*store, insert(&parked(&*store, "elsewhere", "payment:8", now))).await;
    win(&*store, insert(&due(&*store, "nowhere", now))).await;
    assert_eq!(claim_parked(&*store, "payment", 100).await, [""; 0], "names are exact");
    assert_eq!(claim_parked(&*store, "payment:80", 0).await, [""; 0]);
    assert_eq!(claim_parked(&*store, "payment:80", 3).await, ["a", "b", "c"], "the longest parked first");
    let rest = store.claim_parked("payment:80", HOUR, 100).await.expect("a store that can be reached");
    assert_eq!(names(&rest), ["due", "d"]);
    assert_eq!(rest[1].document, b"d begins", "rows come whole");
    assert_eq!(claim_parked(&*store, "payment:80", 100).await, [""; 0], "all are claimed");
}

pub(super) async fn what_is_parked_can_be_claimed_when_it_is_due(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let soon = store.now() + SOON;
    win(&*store, insert(&parked(&*store, "later", "payment", soon + HOUR))).await;
    win(&*store, insert(&parked(&*store, "soon", "payment", soon))).await;
    subject.pass(SOON).await;
    assert_eq!(claim(&*store, HOUR, 100).await, ["soon"]);
    assert_eq!(claim_parked(&*store, "payment", 100).await, ["later"], "the other is claimed");
}

pub(super) async fn claims_hold_whichever_way_they_were_made(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let now = store.now();
    win(&*store, insert(&parked(&*store, "a", "payment", now))).await;
    win(&*store, claiming(insert(&parked(&*store, "b", "payment", now)), HOUR)).await;
    assert_eq!(claim_parked(&*store, "payment", 100).await, ["a"], "begin took the other");
    assert_eq!(claim(&*store, HOUR, 100).await, [""; 0]);
    win(&*store, insert(&parked(&*store, "c", "payment", now))).await;
    let claimed = store.claim_parked("payment", SOON, 100).await.expect("a store that can be reached");
    assert_eq!(names(&claimed), ["c"]);
    subject.pass(SOON).await;
    assert_eq!(claim_parked(&*store, "payment", 100).await, ["c"], "it ran out");
    let row = load(&*store, "c").await.expect("a row");
    win(&*store, replace(&then(&row, Phase::Trying))).await;
    assert_eq!(claim_parked(&*store, "payment", 100).await, ["c"], "a write without a claim let it go");
}

pub(super) async fn destinations_are_told_while_something_is_parked_there(subject: &dyn Subject) {
    let store = subject.fresh().await;
    assert_eq!(parked_at(&*store, 100).await, [""; 0]);
    let until = store.now() + HOUR;
    for (id, destination) in [("a", "stock"), ("b", "payment"), ("c", "payment"), ("d", "coupon")] {
        win(&*store, insert(&parked(&*store, id, destination, until))).await;
    }
    win(&*store, insert(&begun(&*store, "e"))).await;
    assert_eq!(parked_at(&*store, 100).await, ["coupon", "payment", "stock"]);
    assert_eq!(parked_at(&*store, 2).await, ["coupon", "payment"]);

    let [a, b, d] = [load(&*store, "a").await, load(&*store, "b").await, load(&*store, "d").await]
        .map(|row| row.expect("a row"));
    win(&*store, replace(&ended(&a, Phase::Cancelled, store.now()))).await;
    let unparked = Row { parked: None, due_at: Some(until + SOON), ..then(&b, Phase::Cancelling) };
    win(&*store, replace(&unparked)).await;
    let moved = Row { parked: at("stock:1", store.now()), ..then(&d, Phase::Trying) };
    win(&*store, replace(&moved)).await;
    assert_eq!(parked_at(&*store, 100).await, ["payment", "stock:1"]);
    assert_eq!(claim_parked(&*store, "stock:1", 100).await, ["d"]);
    assert_eq!(claim_parked(&*store, "payment", 100).await, ["c"]);
}
