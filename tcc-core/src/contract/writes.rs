//! What becomes of writes.

use super::{HOUR, Subject, begun, commit, due, ended, gid, insert, load, replace, then, together, win};
use crate::store::{Parked, Refusal, Row, Write, Written};
use crate::{Digest, Phase, Timestamp};

pub(super) async fn an_insert_wins_once(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let first = begun(&*store, "order-1");
    assert_eq!(load(&*store, "order-1").await, None);
    assert_eq!(commit(&*store, insert(&first)).await, Written::Won);

    let second = Row { tag: 77, document: b"another".to_vec(), ..first.clone() };
    assert_eq!(commit(&*store, insert(&second)).await, Written::Lost);
    assert_eq!(load(&*store, "order-1").await, Some(first), "the loser changed nothing");
}

pub(super) async fn a_replace_wins_at_its_version_only(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let first = begun(&*store, "a");
    let second = then(&first, Phase::Confirming);
    assert_eq!(commit(&*store, replace(&second)).await, Written::Lost, "there is nothing to replace");
    assert_eq!(load(&*store, "a").await, None);

    win(&*store, insert(&first)).await;
    win(&*store, replace(&second)).await;
    assert_eq!(load(&*store, "a").await, Some(second.clone()));

    let stale = Row { tag: 77, phase: Phase::Cancelling, ..second.clone() };
    assert_eq!(commit(&*store, replace(&stale)).await, Written::Lost, "of a version that is gone");
    let early = Row { version: 4, ..stale };
    assert_eq!(commit(&*store, replace(&early)).await, Written::Lost, "of a version that is still to come");
    assert_eq!(load(&*store, "a").await, Some(second), "the losers changed nothing");
}

/// A write whose outcome was unknown is offered again until it is known.
pub(super) async fn the_same_write_has_won_again(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let first = begun(&*store, "a");
    let second = then(&first, Phase::Confirming);
    let other_tag = |row: &Row| Row { tag: row.tag + 77, ..row.clone() };

    win(&*store, insert(&first)).await;
    assert_eq!(commit(&*store, insert(&first)).await, Written::Won);
    assert_eq!(commit(&*store, insert(&other_tag(&first))).await, Written::Lost);

    win(&*store, replace(&second)).await;
    assert_eq!(commit(&*store, replace(&second)).await, Written::Won);
    assert_eq!(commit(&*store, replace(&other_tag(&second))).await, Written::Lost);
    assert_eq!(commit(&*store, insert(&first)).await, Written::Lost, "it has been replaced since");
    assert_eq!(load(&*store, "a").await, Some(second), "nothing was written twice");
    assert_eq!(store.counts().await.expect("counts").phases, [0, 1, 0, 0, 0, 0], "nor counted");
}

pub(super) async fn each_write_of_a_batch_has_its_own_result(subject: &dyn Subject) {
    let store = subject.fresh().await;
    assert_eq!(store.commit(Vec::new()).await.expect("nothing to do"), []);

    let (a, b, c) = (begun(&*store, "a"), begun(&*store, "b"), begun(&*store, "c"));
    win(&*store, insert(&a)).await;
    let a2 = then(&a, Phase::Cancelling);
    let batch = vec![
        insert(&Row { tag: 9, ..a.clone() }),
        insert(&b),
        replace(&then(&c, Phase::Confirming)),
        replace(&a2),
        insert(&a),
        insert(&c),
    ];
    let written = store.commit(batch).await.expect("a known outcome");
    use Written::{Lost, Won};
    assert_eq!(written, [Lost, Won, Lost, Won, Lost, Won]);
    assert_eq!(load(&*store, "a").await, Some(a2));
    assert_eq!(load(&*store, "b").await, Some(b));
    assert_eq!(load(&*store, "c").await, Some(c));
}

pub(super) async fn writes_on_one_gid_act_in_order(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let first = begun(&*store, "a");
    let second = then(&first, Phase::Confirming);
    let third = ended(&second, Phase::Confirmed, store.now());
    let rival = Row { tag: 77, ..second.clone() };
    let batch = vec![insert(&first), replace(&second), replace(&rival), replace(&second), replace(&third)];
    let written = store.commit(batch).await.expect("a known outcome");
    use Written::{Lost, Won};
    assert_eq!(written, [Won, Won, Lost, Won, Won]);
    assert_eq!(load(&*store, "a").await, Some(third));
    assert_eq!(store.counts().await.expect("counts").phases, [0, 0, 1, 0, 0, 0]);
}

/// An empty document means purged; what has not ended and is never due would wait for ever; what has ended while it
/// has not could be purged (C6).
pub(super) async fn what_cannot_be_stored_is_refused_alone(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let good = |id: &str| begun(&*store, id);
    let flawed = [
        Row { document: Vec::new(), ..good("empty") },
        Row { due_at: None, ..good("never-due") },
        Row { ended_at: Some(store.now()), due_at: None, ..good("ended-while-trying") },
        Row { phase: Phase::Confirmed, ..good("never-ended") },
        Row {
            parked: Some(Parked { at: "payment".to_owned(), since: store.now() }),
            ..ended(&good("parked-after-its-end"), Phase::Confirmed, store.now())
        },
    ];
    for row in flawed {
        let id = row.gid.to_string();
        let (before, after) = (good(&format!("before-{id}")), good(&format!("after-{id}")));
        let batch = vec![insert(&before), insert(&row), insert(&after)];
        let written = store.commit(batch).await.expect("a known outcome");
        let refused = matches!(written[1], Written::Refused(Refusal::Unstorable(_)));
        assert!(refused, "{id} was {:?}", written[1]);
        assert_eq!((&written[0], &written[2]), (&Written::Won, &Written::Won), "the neighbours of {id}");
        assert_eq!(load(&*store, &id).await, None);
        assert_eq!(load(&*store, before.gid.as_str()).await, Some(before));
        assert_eq!(load(&*store, after.gid.as_str()).await, Some(after.clone()));

        let flaw = Row { gid: after.gid.clone(), version: 2, ..row };
        let written = commit(&*store, replace(&flaw)).await;
        assert!(
            matches!(written, Written::Refused(Refusal::Unstorable(_))),
            "replacing with {id}: {written:?}"
        );
        assert_eq!(load(&*store, after.gid.as_str()).await, Some(after));
    }
}

pub(super) async fn every_column_comes_back(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let at = Timestamp::from_millis;
    let every_byte: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let rows = [
        Row { digest: Some(Digest([0xff; 32])), attention: true, ..begun(&*store, "first") },
        Row { document: every_byte, due_at: Some(at(1)), created_at: at(0), ..begun(&*store, "binary") },
        Row { document: vec![0], tag: u64::MAX, ..begun(&*store, "zero") },
        Row {
            parked: Some(Parked { at: "payment.example:8443".to_owned(), since: at(-7) }),
            ..begun(&*store, "parked")
        },
        Row { tag: 0, digest: Some(Digest([0; 32])), ..begun(&*store, &"x".repeat(128)) },
        Row { due_at: Some(at(i64::MAX)), created_at: at(-1), ..begun(&*store, "a_b:c/d-e") },
    ];
    for row in &rows {
        win(&*store, insert(row)).await;
        assert_eq!(load(&*store, row.gid.as_str()).await.as_ref(), Some(row));
    }
    for phase in Phase::ALL {
        let first = begun(&*store, &format!("in-{}", phase.as_str()));
        win(&*store, insert(&first)).await;
        let second = if phase.ended() { ended(&first, phase, store.now()) } else { then(&first, phase) };
        let second = Row { attention: true, digest: Some(Digest([7; 32])), created_at: at(5), ..second };
        win(&*store, replace(&second)).await;
        assert_eq!(load(&*store, second.gid.as_str()).await, Some(second), "{phase:?}");
    }
}

pub(super) async fn gids_are_exact(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let ids = ["order", "ORDER", "Order", "order-", "order/", "orde_", "orde"];
    for id in ids {
        win(&*store, insert(&begun(&*store, id))).await;
    }
    for id in ids {
        assert_eq!(load(&*store, id).await.map(|row| row.gid), Some(gid(id)));
    }
    assert_eq!(load(&*store, "ordeR").await, None);
    assert_eq!(load(&*store, "_rder").await, None);
}

/// C5, C1: whatever the others do at the same time, one of them wins, and only one.
pub(super) async fn one_writer_wins_each_version(subject: &dyn Subject) {
    const WRITERS: u64 = 16;
    let store = subject.fresh().await;
    let first = due(&*store, "contended", store.now());
    let mut held: Option<Row> = None;
    for version in 1..=12 {
        let attempts: Vec<Write> = (0..WRITERS)
            .map(|writer| {
                let document = format!("version {version} by {writer}").into_bytes();
                let row = Row { version, document, tag: version * 1000 + writer, ..first.clone() };
                Write {
                    row,
                    replaces: (version > 1).then(|| version - 1),
                    claim: writer.is_multiple_of(2).then_some(HOUR),
                }
            })
            .collect();
        let store = &*store;
        let written = together(attempts.iter().map(|write| commit(store, write.clone())).collect()).await;
        let winners: Vec<&Write> = attempts
            .iter()
            .zip(&written)
            .filter(|(_, w)| **w == Written::Won)
            .map(|(write, _)| write)
            .collect();
        assert_eq!(winners.len(), 1, "of version {version}: {written:?}");
        held = load(store, "contended").await;
        assert_eq!(held.as_ref(), Some(&winners[0].row), "version {version}");
    }
    assert_eq!(held.map(|row| row.version), Some(12));
}
