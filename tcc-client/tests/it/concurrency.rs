//! Duplicated and crossed calls at the same time.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::banks::{Bank, Books};
use crate::payment::{Caller, How, Seen};

on_each_database!(
    p1_of_confirms_and_cancels_at_once_one_kind_wins,
    p2_twenty_equal_calls_at_once_have_one_effect,
    p2_twenty_equal_refused_tries_get_one_reason,
    p4_of_tries_and_cancels_at_once_nothing_stays_reserved,
    a_hundred_transactions_on_a_hot_account_balance;
    sql_alone:
    p4_a_cancel_that_meets_its_running_try_undoes_it,
    a_lock_that_is_held_too_long_answers_425,
);

// The last one needs its accounts to be let go of before the transaction is decided.
on_each_xa!(
    p1_of_confirms_and_cancels_at_once_one_kind_wins,
    p2_twenty_equal_calls_at_once_have_one_effect,
    p2_twenty_equal_refused_tries_get_one_reason,
    p4_of_tries_and_cancels_at_once_nothing_stays_reserved,
    p4_a_cancel_that_meets_its_running_try_undoes_it,
    a_lock_that_is_held_too_long_answers_425,
);

/// Makes all calls at once, and returns what they were answered in the end.
async fn all(calls: impl IntoIterator<Item = (&Caller, &'static str, String)>) -> Vec<(&'static str, Seen)> {
    let mut set = JoinSet::new();
    for (caller, operation, gid) in calls {
        let caller = caller.clone();
        set.spawn(async move { (operation, caller.call(operation, &gid).await) });
    }
    set.join_all().await
}

async fn p1_of_confirms_and_cancels_at_once_one_kind_wins<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let (mut spent, mut free) = (0, 1000);
    for round in 0..20 {
        let gid = format!("t{round}");
        assert_eq!(caller.call("try", &gid).await, Seen::done());
        let calls = ["confirm", "cancel", "cancel", "confirm"];
        let seen = all(calls.map(|operation| (&caller, operation, gid.clone()))).await;
        let confirmed = bank.row(&gid).await.unwrap() == "confirmed";
        for (operation, seen) in seen {
            match (operation, confirmed) {
                // What is prepared is gone a moment before the cancel's row is there.
                ("confirm", false) if B::PREPARES && seen.code() == "not-tried" => {}
                ("confirm", false) => assert_eq!(seen.code(), "already-cancelled"),
                ("cancel", true) => assert_eq!(seen.code(), "already-confirmed"),
                _ => assert_eq!(seen, Seen::done()),
            }
        }
        assert_eq!(bank.effects(&gid).await, if confirmed { &["try", "confirm"] } else { B::UNDONE });
        if confirmed {
            (spent, free) = (spent + 10, free - 10);
        }
    }
    assert_eq!(bank.books().await, Books { free, reserved: 0, spent });
}

async fn p2_twenty_equal_calls_at_once_have_one_effect<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for operation in ["try", "confirm"] {
        for (_, seen) in all((0..20).map(|_| (&caller, operation, "t".to_owned()))).await {
            assert_eq!(seen, Seen::done());
        }
    }
    assert_eq!(bank.effects("t").await, ["try", "confirm"]);
    assert_eq!(bank.books().await, Books { free: 990, reserved: 0, spent: 10 });
    // Also when there was no try: an empty cancel is a write, which duplicates race for.
    for (_, seen) in all((0..20).map(|_| (&caller, "cancel", "empty".to_owned()))).await {
        assert_eq!(seen, Seen::done());
    }
    assert_eq!(bank.effects("empty").await, [""; 0]);
}

async fn p2_twenty_equal_refused_tries_get_one_reason<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let callers: Vec<_> = (0..20).map(|n| caller.how("try", How::Refuse(format!("reason {n}")))).collect();
    let seen = all(callers.iter().map(|caller| (caller, "try", "t".to_owned()))).await;
    let rows = bank.rows().await;
    assert_eq!(rows.len(), 1);
    for (_, seen) in seen {
        assert!(seen.refused());
        assert_eq!(seen.body["detail"].as_str(), rows[0].kept.as_deref());
    }
    assert_eq!(bank.effects("t").await, [""; 0]);
}

async fn p4_of_tries_and_cancels_at_once_nothing_stays_reserved<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for round in 0..20 {
        let gid = format!("t{round}");
        let calls = ["try", "cancel", "try", "cancel", "try"];
        for (operation, seen) in all(calls.map(|operation| (&caller, operation, gid.clone()))).await {
            assert!(seen == Seen::done() || (operation == "try" && seen.refused()), "{operation}: {seen:?}");
        }
        assert_eq!(bank.row(&gid).await.unwrap(), "cancelled");
        let effects = bank.effects(&gid).await;
        assert!(effects.is_empty() || effects == B::UNDONE, "{effects:?}");
    }
    assert_eq!(bank.books().await, Books { free: 1000, reserved: 0, spent: 0 });
}

async fn p4_a_cancel_that_meets_its_running_try_undoes_it<B: Bank>(bank: B) {
    let caller = Caller::new(&bank).how("try", How::Gate);
    let trying = tokio::spawn({
        let caller = caller.clone();
        async move { caller.once("try", "t").await }
    });
    caller.watch.arrived.acquire().await.unwrap().forget();
    let cancelling = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call("cancel", "t").await }
    });
    // However long it is given, it finds no empty place while the try is at work.
    let mut cancelling = cancelling;
    assert!(timeout(Duration::from_millis(200), &mut cancelling).await.is_err());
    caller.watch.gate.add_permits(1);
    assert_eq!(trying.await.unwrap(), Seen::done());
    assert_eq!(cancelling.await.unwrap(), Seen::done());
    assert_eq!(bank.effects("t").await, B::UNDONE);
    assert_eq!(bank.books().await, Books { free: 1000, reserved: 0, spent: 0 });
}

async fn a_lock_that_is_held_too_long_answers_425<B: Bank>(bank: B) {
    let caller = Caller::new(&bank).how("try", How::Gate);
    let trying = tokio::spawn({
        let caller = caller.clone();
        async move { caller.once("try", "t").await }
    });
    caller.watch.arrived.acquire().await.unwrap().forget();
    let asked = Instant::now();
    let seen = caller.once("cancel", "t").await;
    assert_eq!((seen.status, seen.code()), (425, "pending"));
    assert!(asked.elapsed() < tcc_client::limits::LOCK_WAIT * 2, "{:?}", asked.elapsed());
    caller.watch.gate.add_permits(1);
    assert_eq!(trying.await.unwrap(), Seen::done());
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert_eq!(bank.effects("t").await, B::UNDONE);
}

async fn a_hundred_transactions_on_a_hot_account_balance<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    // Enough for 80 at once: some are refused, unless others were cancelled in time.
    bank.set_free("alice", 800).await;
    let mut set = JoinSet::new();
    for number in 0..100 {
        let (caller, gid) = (caller.clone(), format!("t{number}"));
        set.spawn(async move {
            // Four calls each: doubled tries, and for every third transaction crossed by its cancel.
            let crossed = number % 3 == 0;
            let second = if crossed { "cancel" } else { "try" };
            let (first, crossing) = tokio::join!(caller.call("try", &gid), caller.call(second, &gid));
            let confirm = !crossed && first == Seen::done();
            assert!(first == Seen::done() || first.refused(), "{first:?}");
            if crossed {
                assert_eq!(crossing, Seen::done());
            } else {
                assert_eq!(crossing, first);
            }
            let decision = if confirm { "confirm" } else { "cancel" };
            let ended = tokio::join!(caller.call(decision, &gid), caller.call(decision, &gid));
            assert_eq!(ended, (Seen::done(), Seen::done()));
            (gid, decision)
        });
    }
    let (mut confirmed, mut answers) = (0, 0);
    for (gid, decision) in set.join_all().await {
        answers += 4;
        let effects = bank.effects(&gid).await;
        if decision == "confirm" {
            confirmed += 1;
            assert_eq!(effects, ["try", "confirm"]);
        } else {
            assert!(effects.is_empty() || effects == ["try", "cancel"], "{effects:?}");
        }
    }
    assert_eq!(answers, 400);
    assert!(confirmed > 0);
    assert_eq!(bank.books().await, Books { free: 800 - confirmed * 10, reserved: 0, spent: confirmed * 10 });
}
