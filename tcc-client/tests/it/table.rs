//! Every short sequence of calls against a table of what it must come to.

use crate::banks::Bank;
use crate::payment::{Caller, How};

on_each_database!(every_order_of_four_calls_answers_as_the_table_says);
on_each_xa!(every_order_of_four_calls_answers_as_the_table_says);

const CALLS: [&str; 4] = ["try", "refused try", "confirm", "cancel"];

/// What a guard row comes to, told once more and independently of the guard: the state and the call, then the
/// answer, the state after it, and the effect.
fn expected(state: &str, call: &str) -> (&'static str, &'static str, Option<&'static str>) {
    match (state, call) {
        ("", "try") => ("done", "tried", Some("try")),
        ("", "refused try") => ("refused", "refused", None),
        ("", "confirm") => ("not-tried", "", None),
        ("", "cancel") => ("done", "cancelled", None),
        ("tried", "try" | "refused try") => ("done", "tried", None),
        ("tried", "confirm") => ("done", "confirmed", Some("confirm")),
        ("tried", "cancel") => ("done", "cancelled", Some("cancel")),
        ("refused", "try" | "refused try") => ("refused", "refused", None),
        ("refused", "confirm") => ("not-tried", "refused", None),
        ("refused", "cancel") => ("done", "refused", None),
        ("confirmed", "try" | "refused try" | "confirm") => ("done", "confirmed", None),
        ("confirmed", "cancel") => ("already-confirmed", "confirmed", None),
        ("cancelled", "try" | "refused try") => ("refused", "cancelled", None),
        ("cancelled", "confirm") => ("already-cancelled", "cancelled", None),
        ("cancelled", "cancel") => ("done", "cancelled", None),
        _ => unreachable!("{state} {call}"),
    }
}

async fn every_order_of_four_calls_answers_as_the_table_says<B: Bank>(bank: B) {
    let mut caller = Caller::new(&bank);
    for number in 0..CALLS.len().pow(4) {
        let gid = format!("order-{number}");
        bank.fund(&gid, 10).await;
        caller.charge.account = gid.clone();
        let refusing = caller.how("try", How::Refuse("sold out".into()));
        let order: Vec<_> =
            (0..4).map(|place| CALLS[number / CALLS.len().pow(place) % CALLS.len()]).collect();
        let (mut state, mut effects) = ("", Vec::new());
        for call in &order {
            let seen = match *call {
                "refused try" => refusing.call("try", &gid).await,
                operation => caller.call(operation, &gid).await,
            };
            let (answer, next, effect) = expected(state, call);
            assert_eq!(seen.code(), answer, "{call} of {state:?} in {order:?}");
            state = next;
            effects.extend(effect);
        }
        assert_eq!(bank.row(&gid).await.unwrap_or_default(), state, "{order:?}");
        if effects == ["try", "cancel"] {
            effects = B::UNDONE.to_vec();
        }
        assert_eq!(bank.effects(&gid).await, effects, "{order:?}");
    }
}
