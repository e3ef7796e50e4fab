//! P1 to P6 of the guard, one test or more for each.

use serde_json::json;

use crate::banks::{Bank, Books};
use crate::payment::{Caller, How, Seen};

on_each_database!(
    p1_a_confirmed_branch_cannot_be_cancelled,
    p1_a_cancelled_branch_cannot_be_confirmed,
    p2_a_repeat_has_no_second_effect_and_gets_the_same_reply,
    p2_a_refusal_is_kept_though_the_reason_is_gone,
    p2_an_unreadable_payload_is_refused_for_good,
    p3_a_cancel_before_its_try_succeeds_and_does_nothing,
    p4_a_late_try_after_cancel_is_refused,
    p4_a_late_try_whose_row_was_forgotten_is_refused,
    p5_a_refusal_takes_back_what_the_try_wrote,
    p5_an_error_takes_back_business_and_guard_together,
    p6_a_confirm_without_a_try_is_an_alarm,
    p6_a_confirm_of_a_refused_branch_is_an_alarm,
    a_cancel_of_a_refused_branch_succeeds_and_does_nothing,
    a_confirm_that_cannot_read_its_payload_is_an_alarm_and_does_nothing,
    a_payload_is_read_only_when_a_method_runs,
    branches_of_one_transaction_do_not_meet,
);

// Four tries at once would wait for one account of a bank whose tries are prepared.
on_each_xa!(
    p1_a_confirmed_branch_cannot_be_cancelled,
    p1_a_cancelled_branch_cannot_be_confirmed,
    p2_a_repeat_has_no_second_effect_and_gets_the_same_reply,
    p2_a_refusal_is_kept_though_the_reason_is_gone,
    p2_an_unreadable_payload_is_refused_for_good,
    p3_a_cancel_before_its_try_succeeds_and_does_nothing,
    p4_a_late_try_after_cancel_is_refused,
    p4_a_late_try_whose_row_was_forgotten_is_refused,
    p5_a_refusal_takes_back_what_the_try_wrote,
    p5_an_error_takes_back_business_and_guard_together,
    p6_a_confirm_without_a_try_is_an_alarm,
    p6_a_confirm_of_a_refused_branch_is_an_alarm,
    a_cancel_of_a_refused_branch_succeeds_and_does_nothing,
    a_confirm_that_cannot_read_its_payload_is_an_alarm_and_does_nothing,
    a_payload_is_read_only_when_a_method_runs,
);

const UNTOUCHED: Books = Books { free: 1000, reserved: 0, spent: 0 };
const RESERVED: Books = Books { free: 990, reserved: 10, spent: 0 };
const SPENT: Books = Books { free: 990, reserved: 0, spent: 10 };

async fn p1_a_confirmed_branch_cannot_be_cancelled<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.call("try", "t").await, Seen::done());
    assert_eq!(bank.books().await, RESERVED);
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
    for _ in 0..2 {
        let cancel = caller.call("cancel", "t").await;
        assert_eq!((cancel.status, cancel.code()), (409, "already-confirmed"));
    }
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
    assert_eq!(bank.books().await, SPENT);
    assert_eq!(bank.effects("t").await, ["try", "confirm"]);
}

async fn p1_a_cancelled_branch_cannot_be_confirmed<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.call("try", "t").await, Seen::done());
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    for _ in 0..2 {
        let confirm = caller.call("confirm", "t").await;
        assert_eq!((confirm.status, confirm.code()), (409, "already-cancelled"));
    }
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert_eq!(bank.books().await, UNTOUCHED);
    assert_eq!(bank.effects("t").await, B::UNDONE);
}

async fn p2_a_repeat_has_no_second_effect_and_gets_the_same_reply<B: Bank>(bank: B) {
    let reply = json!({ "seat": "14C", "text": "ü\0\n", "number": 1.5 });
    let caller = Caller::new(&bank).how("try", How::Reply(reply.clone()));
    let first = caller.call("try", "t").await;
    assert_eq!(first, Seen { status: 200, body: reply });
    assert_eq!(caller.call("try", "t").await, first);
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
    // One that was under way all the time.
    assert_eq!(caller.call("try", "t").await, first);
    assert_eq!(bank.effects("t").await, ["try", "confirm"]);
    assert_eq!(caller.runs(), 2);
    assert_eq!(bank.books().await, SPENT);
}

async fn p2_a_refusal_is_kept_though_the_reason_is_gone<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let mut poor = caller.clone();
    bank.fund("bob", 5).await;
    poor.charge.account = "bob".into();
    let first = poor.call("try", "t").await;
    assert!(first.refused());
    assert_eq!(first.body["detail"], "no funds");
    bank.set_free("bob", 100).await;
    assert_eq!(poor.call("try", "t").await, first);
    assert_eq!(poor.runs(), 1);
    assert_eq!(bank.effects("t").await, [""; 0]);
    assert_eq!(poor.call("try", "another").await, Seen::done(), "the money was there");
}

async fn p2_an_unreadable_payload_is_refused_for_good<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for body in ["", "{", "{\"account\":7}", "\u{0}"] {
        let gid = format!("t{}", body.len());
        let first = caller.send("try", &gid, body.into()).await;
        assert!(first.refused(), "{first:?}");
        assert_eq!(bank.row(&gid).await.unwrap(), "refused");
        assert_eq!(caller.call("try", &gid).await, first, "also when it became readable");
    }
    assert_eq!(caller.runs(), 0);
}

async fn p3_a_cancel_before_its_try_succeeds_and_does_nothing<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert_eq!(caller.runs(), 0);
    assert_eq!(bank.books().await, UNTOUCHED);
    assert_eq!(bank.row("t").await.unwrap(), "cancelled");
}

async fn p4_a_late_try_after_cancel_is_refused<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.call("cancel", "empty").await, Seen::done());
    assert_eq!(caller.call("try", "full").await, Seen::done());
    assert_eq!(caller.call("cancel", "full").await, Seen::done());
    for gid in ["empty", "full"] {
        for _ in 0..2 {
            assert!(caller.call("try", gid).await.refused());
        }
        assert_eq!(bank.row(gid).await.unwrap(), "cancelled");
    }
    assert_eq!(bank.books().await, UNTOUCHED);
    assert_eq!(caller.runs(), 2);
}

async fn p4_a_late_try_whose_row_was_forgotten_is_refused<B: Bank>(bank: B) {
    let mut caller = Caller::new(&bank);
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    // What a clean-up may do as soon as the transaction began before the mark.
    bank.forget_rows().await;
    caller.settled = Some(caller.begun + 1);
    assert!(caller.call("try", "t").await.refused());
    assert!(caller.call("try", "t").await.refused());
    assert_eq!(caller.runs(), 0);
    caller.settled = Some(caller.begun);
    assert_eq!(caller.call("try", "begun-at-the-mark").await, Seen::done());
    // A row that is there still answers, and can still be confirmed.
    caller.settled = Some(caller.begun + 1);
    assert_eq!(caller.call("try", "begun-at-the-mark").await, Seen::done());
    assert_eq!(caller.call("confirm", "begun-at-the-mark").await, Seen::done());
}

async fn p5_a_refusal_takes_back_what_the_try_wrote<B: Bank>(bank: B) {
    let caller = Caller::new(&bank).how("try", How::Refuse("sold\0out".into()));
    let seen = caller.call("try", "t").await;
    assert!(seen.refused());
    assert_eq!(seen.body["detail"], "sold\u{fffd}out");
    assert_eq!(bank.books().await, UNTOUCHED);
    assert_eq!(bank.effects("t").await, [""; 0]);
    assert_eq!(bank.row("t").await.unwrap(), "refused");
}

async fn p5_an_error_takes_back_business_and_guard_together<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for (operation, books) in [("try", UNTOUCHED), ("confirm", RESERVED)] {
        let row = bank.row("t").await;
        let failed = caller.how(operation, How::Fail("password=hunter2".into())).call(operation, "t").await;
        assert_eq!((failed.status, failed.code()), (500, "internal"));
        assert!(!failed.body.to_string().contains("hunter2"), "the log may know, the caller may not");
        assert_eq!((bank.books().await, bank.row("t").await), (books, row));
        assert_eq!(caller.call(operation, "t").await, Seen::done());
    }
    assert_eq!(caller.call("try", "u").await, Seen::done());
    let failed = caller.how("cancel", How::Fail(String::new())).call("cancel", "u").await;
    assert_eq!((failed.status, failed.code()), (500, "internal"));
    assert_eq!(bank.row("u").await.unwrap(), "tried");
    assert_eq!(caller.call("cancel", "u").await, Seen::done());
    assert_eq!(bank.books().await, SPENT);
}

async fn p6_a_confirm_without_a_try_is_an_alarm<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for _ in 0..2 {
        let confirm = caller.call("confirm", "t").await;
        assert_eq!((confirm.status, confirm.code()), (409, "not-tried"));
    }
    assert_eq!(caller.runs(), 0);
    assert_eq!(bank.row("t").await, None, "a try on its way must still find its place");
    assert_eq!(caller.call("try", "t").await, Seen::done());
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
}

async fn p6_a_confirm_of_a_refused_branch_is_an_alarm<B: Bank>(bank: B) {
    let caller = Caller::new(&bank).how("try", How::Refuse("sold out".into()));
    assert!(caller.call("try", "t").await.refused());
    let confirm = caller.call("confirm", "t").await;
    assert_eq!((confirm.status, confirm.code()), (409, "not-tried"));
    assert_eq!(caller.runs(), 1);
    assert_eq!(bank.row("t").await.unwrap(), "refused");
}

async fn a_cancel_of_a_refused_branch_succeeds_and_does_nothing<B: Bank>(bank: B) {
    let caller = Caller::new(&bank).how("try", How::Refuse("sold out".into()));
    let first = caller.call("try", "t").await;
    assert!(first.refused());
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert_eq!(caller.call("try", "t").await, first);
    assert_eq!((caller.runs(), bank.books().await), (1, UNTOUCHED));
}

async fn a_confirm_that_cannot_read_its_payload_is_an_alarm_and_does_nothing<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.call("try", "t").await, Seen::done());
    for operation in ["confirm", "cancel"] {
        let seen = caller.send(operation, "t", b"{}".into()).await;
        assert_eq!((seen.status, seen.code()), (400, "unreadable-payload"));
    }
    assert_eq!((caller.runs(), bank.books().await), (1, RESERVED));
    assert_eq!(caller.call("confirm", "t").await, Seen::done(), "once it can be read");
}

async fn a_payload_is_read_only_when_a_method_runs<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(caller.send("cancel", "empty", b"{".into()).await, Seen::done());
    assert_eq!(caller.call("try", "t").await, Seen::done());
    assert_eq!(caller.send("try", "t", b"{".into()).await, Seen::done());
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
    assert_eq!(caller.send("confirm", "t", b"{".into()).await, Seen::done());
    assert_eq!(caller.send("cancel", "t", b"{".into()).await.code(), "already-confirmed");
}

async fn branches_of_one_transaction_do_not_meet<B: Bank>(bank: B) {
    // The key is the pair: neither part alone, nor both written after one another.
    let caller = Caller::new(&bank);
    for gid in ["a", "ap", "A", "a/p"] {
        assert_eq!(caller.call("try", gid).await, Seen::done());
    }
    assert_eq!(caller.call("cancel", "a").await, Seen::done());
    assert_eq!(caller.call("confirm", "A").await, Seen::done());
    assert_eq!(bank.books().await, Books { free: 970, reserved: 20, spent: 10 });
}
