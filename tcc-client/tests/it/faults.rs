//! Methods that fail, panic, hang or break their transaction; callers that hang up.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::banks::{Bank, Books};
use crate::flaky::{Fate, Flaky};
use crate::payment::{Caller, How, Seen};

on_each_database!(
    p5_a_panic_rolls_back,
    p5_a_method_that_hangs_is_rolled_back_in_time,
    p5_a_method_that_blocks_past_its_time_is_rolled_back,
    p5_a_caller_who_hangs_up_stops_nothing_half_way,
    a_reply_that_is_too_long_is_no_answer,
    a_lost_answer_to_a_commit_is_unknown_and_the_repeat_finds_it,
    a_lost_commit_is_unknown_and_the_repeat_does_it,
    a_conflict_at_the_commit_runs_everything_again;
    sql_alone:
    p5_a_method_that_ends_its_transaction_is_found_out,
);

on_each_xa!(
    p5_a_panic_rolls_back,
    p5_a_method_that_hangs_is_rolled_back_in_time,
    p5_a_method_that_blocks_past_its_time_is_rolled_back,
    p5_a_caller_who_hangs_up_stops_nothing_half_way,
    a_reply_that_is_too_long_is_no_answer,
    a_lost_answer_to_a_commit_is_unknown_and_the_repeat_finds_it,
    a_lost_commit_is_unknown_and_the_repeat_does_it,
    a_conflict_at_the_commit_runs_everything_again,
);

const UNTOUCHED: Books = Books { free: 1000, reserved: 0, spent: 0 };
const RESERVED: Books = Books { free: 990, reserved: 10, spent: 0 };

/// A try that does this comes to that problem and to nothing else, and does not stop the next one.
async fn comes_to_nothing<B: Bank>(bank: &B, caller: &Caller, how: How, code: &str) {
    let seen = caller.how("try", how).once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (500, code));
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
    assert_eq!(
        Caller { timeout: Duration::from_secs(10), ..caller.clone() }.once("try", "t").await,
        Seen::done()
    );
    assert_eq!(bank.books().await, RESERVED);
    assert_eq!(bank.effects("t").await, ["try"]);
}

async fn p5_a_panic_rolls_back<B: Bank>(bank: B) {
    comes_to_nothing(&bank, &Caller::new(&bank), How::Panic, "internal").await;
}

async fn p5_a_method_that_hangs_is_rolled_back_in_time<B: Bank>(bank: B) {
    let caller = Caller { timeout: Duration::from_millis(200), ..Caller::new(&bank) };
    let asked = Instant::now();
    comes_to_nothing(&bank, &caller, How::Hang, "timed-out").await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

async fn p5_a_method_that_blocks_past_its_time_is_rolled_back<B: Bank>(bank: B) {
    let caller = Caller { timeout: Duration::from_millis(200), ..Caller::new(&bank) };
    comes_to_nothing(&bank, &caller, How::Block, "timed-out").await;
}

async fn p5_a_method_that_ends_its_transaction_is_found_out<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let ends = How::Statement("ROLLBACK".into());
    comes_to_nothing(&bank, &caller, ends.clone(), "internal").await;
    // There is a row by now, which must not move on alone.
    for operation in ["confirm", "cancel"] {
        let seen = caller.how(operation, ends.clone()).once(operation, "t").await;
        assert_eq!((seen.status, seen.code()), (500, "internal"));
        assert_eq!((bank.row("t").await.as_deref(), bank.books().await), (Some("tried"), RESERVED));
    }
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
}

async fn p5_a_caller_who_hangs_up_stops_nothing_half_way<B: Bank>(bank: B) {
    let caller = Caller::new(&bank).how("try", How::Gate);
    let asking = tokio::spawn({
        let caller = caller.clone();
        async move { caller.once("try", "t").await }
    });
    caller.watch.arrived.acquire().await.unwrap().forget();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    caller.watch.gate.add_permits(1);
    let finished = async {
        while bank.row("t").await.is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), finished).await.expect("the unit goes on without its caller");
    assert_eq!(bank.books().await, RESERVED);
    assert_eq!(caller.call("try", "t").await, Seen::done());
    assert_eq!(caller.runs(), 1);
}

async fn a_reply_that_is_too_long_is_no_answer<B: Bank>(bank: B) {
    comes_to_nothing(&bank, &Caller::new(&bank), How::LongReply, "internal").await;
}

async fn a_lost_answer_to_a_commit_is_unknown_and_the_repeat_finds_it<B: Bank>(bank: B) {
    let flaky = Flaky::new(&bank);
    let caller = Caller::new(&flaky).how("try", How::Reply(json!("kept")));
    for (operation, answer) in [("try", json!("kept")), ("confirm", json!(null))] {
        flaky.next(Fate::AnswerLost);
        let seen = caller.once(operation, "t").await;
        assert_eq!((seen.status, seen.code()), (500, "unknown"));
        assert!(!seen.body.to_string().contains("secret"));
        assert_eq!(caller.once(operation, "t").await, Seen { status: 200, body: answer });
    }
    assert_eq!(bank.effects("t").await, ["try", "confirm"]);
    assert_eq!(caller.runs(), 2);
}

async fn a_lost_commit_is_unknown_and_the_repeat_does_it<B: Bank>(bank: B) {
    let flaky = Flaky::new(&bank);
    let caller = Caller::new(&flaky);
    for operation in ["try", "cancel"] {
        flaky.next(Fate::CommitLost);
        let seen = caller.once(operation, "t").await;
        assert_eq!((seen.status, seen.code()), (500, "unknown"));
        assert_eq!(caller.once(operation, "t").await, Seen::done());
    }
    assert_eq!(bank.effects("t").await, B::UNDONE);
    assert_eq!((caller.runs(), bank.books().await), (4, UNTOUCHED));
}

async fn a_conflict_at_the_commit_runs_everything_again<B: Bank>(bank: B) {
    let flaky = Flaky::new(&bank);
    let caller = Caller::new(&flaky);
    flaky.next(Fate::Conflict);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    assert_eq!((caller.runs(), bank.effects("t").await), (2, vec!["try".to_owned()]));
}
