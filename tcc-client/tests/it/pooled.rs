//! What databases that are servers with a pool have in common. The tests stand in the modules of each, which say in its
//! own SQL what differs.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::banks::{Bank, Books};
use crate::payment::{Caller, How, Seen};

/// A bank with one connection.
pub(crate) async fn a_pool_that_is_in_use_too_long_answers_425(bank: &impl Bank) {
    let caller = Caller::new(bank);
    let gated = caller.how("try", How::Gate);
    let trying = tokio::spawn(async move { gated.once("try", "t").await });
    caller.watch.arrived.acquire().await.unwrap().forget();
    let seen = caller.once("try", "another").await;
    assert_eq!((seen.status, seen.code()), (425, "pending"));
    caller.watch.gate.add_permits(1);
    assert_eq!(trying.await.unwrap(), Seen::done());
    assert_eq!(caller.once("try", "another").await, Seen::done());
}

/// `both` waits until two are there, and then wants the account of the other, whose name it is given.
pub(crate) async fn a_deadlock_runs_one_of_its_methods_again(
    bank: &impl Bank,
    both: impl Fn(&str) -> String,
) {
    bank.fund("bob", 1000).await;
    // Each has its own account, and wants the other's once both are there.
    let alice = Caller::new(bank).how("try", How::Statement(both("bob")));
    let mut bob = alice.how("try", How::Statement(both("alice")));
    bob.charge.account = "bob".into();
    let seen = tokio::join!(alice.once("try", "a"), bob.once("try", "b"));
    assert_eq!(seen, (Seen::done(), Seen::done()));
    // Where the second run is quicker than the other's waking up, they meet once more.
    assert!(alice.runs() >= 3, "one of the two ran again: {}", alice.runs());
    assert_eq!(bank.books().await, Books { free: 1980, reserved: 20, spent: 0 });
}

/// Waits until a query finds nothing: what a server has given up on leaves its lists a little later.
pub(crate) async fn until_none(bank: &impl Bank, sql: &str) {
    let none = async {
        while !bank.query(sql).await.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(15), none).await.expect("nothing is left of it");
}
