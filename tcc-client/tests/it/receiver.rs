//! Messages that arrive more than once have their effect once.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tcc_client::{BoxError, Call, Database, Participants, Receiver};

use crate::banks::{Bank, Books};
use crate::payment::{Caller, Seen};

on_each_sql_database!(
    p2_a_message_that_arrives_again_has_its_effect_once,
    p2_messages_that_arrive_at_once_have_their_effect_once,
    a_message_that_fails_leaves_nothing_and_comes_again,
    a_message_that_cannot_be_read_waits_for_somebody_who_can,
    p4_a_message_of_long_ago_is_not_received_anew,
);

/// Spends cents of alice's, but for the first so many times.
struct Points<B> {
    fails: AtomicUsize,
    bank: PhantomData<B>,
}

impl<B: Bank> Receiver for Points<B> {
    type Database = B::Database;
    type Message = i64;

    async fn receive(
        &self,
        call: &Call,
        cents: &i64,
        tx: &mut <B::Database as Database>::Tx,
    ) -> Result<(), BoxError> {
        let by = Books { free: -cents, reserved: 0, spent: *cents };
        assert!(B::move_money(tx, call, "alice", by).await?, "she has enough");
        let left = self.fails.load(Ordering::SeqCst);
        if left > 0 {
            self.fails.store(left - 1, Ordering::SeqCst);
            return Err("not now".into());
        }
        Ok(())
    }
}

fn receiving<B: Bank>(bank: &B, fails: usize) -> Caller {
    let points = Points::<B> { fails: AtomicUsize::new(fails), bank: PhantomData };
    let service = Participants::new().receiver("payment", points, bank.database());
    Caller { service, ..Caller::new(bank) }
}

async fn spent<B: Bank>(bank: &B) -> i64 {
    bank.books().await.spent
}

async fn p2_a_message_that_arrives_again_has_its_effect_once<B: Bank>(bank: B) {
    let caller = receiving(&bank, 0);
    for _ in 0..3 {
        assert_eq!(caller.insist("confirm", "m", b"10".to_vec()).await, Seen::done());
    }
    assert_eq!((spent(&bank).await, bank.row("m").await), (10, Some("confirmed".to_owned())));
    assert_eq!(caller.insist("confirm", "another", b"10".to_vec()).await, Seen::done());
    assert_eq!(spent(&bank).await, 20);
    assert!(caller.insist("try", "m2", b"10".to_vec()).await.refused(), "there is nothing to try");
}

async fn p2_messages_that_arrive_at_once_have_their_effect_once<B: Bank>(bank: B) {
    let caller = Arc::new(receiving(&bank, 0));
    let arriving = (0..8).map(|_| {
        let caller = caller.clone();
        tokio::spawn(async move { caller.insist("confirm", "m", b"10".to_vec()).await })
    });
    for arrived in arriving.collect::<Vec<_>>() {
        assert_eq!(arrived.await.unwrap(), Seen::done());
    }
    assert_eq!(spent(&bank).await, 10);
}

async fn a_message_that_fails_leaves_nothing_and_comes_again<B: Bank>(bank: B) {
    let caller = receiving(&bank, 2);
    for _ in 0..2 {
        assert_eq!(caller.insist("confirm", "m", b"10".to_vec()).await.status, 500);
        assert_eq!((spent(&bank).await, bank.row("m").await), (0, None));
    }
    assert_eq!(caller.insist("confirm", "m", b"10".to_vec()).await, Seen::done());
    assert_eq!(spent(&bank).await, 10);
}

async fn a_message_that_cannot_be_read_waits_for_somebody_who_can<B: Bank>(bank: B) {
    let caller = receiving(&bank, 0);
    let seen = caller.insist("confirm", "m", b"\"ten\"".to_vec()).await;
    assert_eq!((seen.status, seen.code(), bank.row("m").await), (400, "unreadable-payload", None));
    assert_eq!(caller.insist("confirm", "m", b"10".to_vec()).await, Seen::done());
    assert_eq!(spent(&bank).await, 10);
}

async fn p4_a_message_of_long_ago_is_not_received_anew<B: Bank>(bank: B) {
    let caller = receiving(&bank, 0);
    assert_eq!(caller.insist("confirm", "m", b"10".to_vec()).await, Seen::done());
    crate::cleaning::forget(bank.database(), caller.begun + 1, 10).await.unwrap();
    assert_eq!(bank.row("m").await, None);
    for settled in [Some(caller.begun + 1), Some(1), None] {
        let late = Caller { settled, ..caller.clone() };
        assert_eq!(late.insist("confirm", "m", b"10".to_vec()).await, Seen::done());
    }
    assert_eq!(spent(&bank).await, 10);
}
