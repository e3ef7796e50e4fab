//! What Redis does in its own way: no locks, and nothing is undone.

use redis::{AsyncTypedCommands, Client};
use tcc_client::{BoxError, Consumer, Local, LocalError, Participants, Received, RedisDatabase, RedisTx};

use crate::banks::{Bank, Books, Open, Redis};
use crate::cleaning::forget;
use crate::payment::{Caller, How, Seen};

const UNTOUCHED: Books = Books { free: 1000, reserved: 0, spent: 0 };
const NONE: &[&str] = &[];

macro_rules! bank {
    () => {
        match Redis::open().await {
            Some(bank) => bank,
            None => return,
        }
    };
}

#[tokio::test]
async fn p4_a_cancel_that_meets_its_running_try_bars_it() {
    let bank = bank!();
    let caller = Caller::new(&bank).how("try", How::Gate);
    let trying = tokio::spawn({
        let caller = caller.clone();
        async move { caller.once("try", "t").await }
    });
    caller.watch.arrived.acquire().await.unwrap().forget();
    // It need not wait, since the try has done nothing yet.
    assert_eq!(caller.once("cancel", "t").await, Seen::done());
    caller.watch.gate.add_permits(1);
    assert!(trying.await.unwrap().refused());
    assert_eq!((bank.effects("t").await, bank.books().await), (vec![], UNTOUCHED));
}

#[tokio::test]
async fn p4_a_cancel_that_came_and_was_forgotten_during_a_try_bars_it() {
    let bank = bank!();
    let caller = Caller::new(&bank).how("try", How::Gate);
    let trying = tokio::spawn({
        let caller = caller.clone();
        async move { caller.once("try", "t").await }
    });
    caller.watch.arrived.acquire().await.unwrap().forget();
    assert_eq!(caller.once("cancel", "t").await, Seen::done());
    assert_eq!(forget(bank.database(), caller.begun + 1, 10).await.unwrap(), 1);
    caller.watch.gate.add_permits(1);
    // There is no row, as when it began.
    assert!(trying.await.unwrap().refused());
    assert_eq!((bank.effects("t").await, bank.books().await), (vec![], UNTOUCHED));
}

#[tokio::test]
async fn a_check_that_turns_out_otherwise_in_the_script_refuses_the_try() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    let gated = caller.how("try", How::Gate);
    let trying = tokio::spawn(async move { gated.once("try", "t").await });
    caller.watch.arrived.acquire().await.unwrap().forget();
    // It had looked, and there was enough.
    bank.set_free("alice", 5).await;
    caller.watch.gate.add_permits(1);
    let seen = trying.await.unwrap();
    assert!(seen.refused());
    assert_eq!(seen.body["detail"], "no funds");
    bank.set_free("alice", 1000).await;
    assert_eq!(caller.once("try", "t").await, seen, "for good");
    assert_eq!((bank.effects("t").await, bank.books().await), (vec![], UNTOUCHED));
}

#[tokio::test]
async fn a_check_cannot_refuse_a_confirm() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    let gated = caller.how("confirm", How::Gate);
    let confirming = tokio::spawn(async move { gated.once("confirm", "t").await });
    caller.watch.arrived.acquire().await.unwrap().forget();
    bank.set_free("alice", -1).await;
    caller.watch.gate.add_permits(1);
    let seen = confirming.await.unwrap();
    assert_eq!((seen.status, seen.code()), (500, "internal"));
    assert_eq!(bank.row("t").await.unwrap(), "tried");
    bank.set_free("alice", 990).await;
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
    assert_eq!(bank.books().await, Books { free: 990, reserved: 0, spent: 10 });
}

#[tokio::test]
async fn an_effect_that_fails_leaves_the_guard_row_as_it_was() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    for (operation, before) in [("try", None), ("confirm", Some("tried".to_owned()))] {
        for lua in ["redis.call('INCR', 'log')", "error('no')", "this is no Lua"] {
            let failing = caller.how(operation, How::Statement(lua.into()));
            let seen = failing.once(operation, "t").await;
            assert_eq!((seen.status, seen.code()), (500, "unknown"), "{lua}");
            assert_eq!(bank.row("t").await, before, "{lua}");
            assert_eq!(bank.connection().zcard("tcc:begun").await.unwrap(), usize::from(before.is_some()));
        }
        // As the docs say, what ran before the failure stays; the text that is no Lua ran not at all.
        assert_eq!(bank.effects("t").await.iter().filter(|effect| **effect == operation).count(), 2);
        assert_eq!(caller.once(operation, "t").await, Seen::done());
    }
}

#[tokio::test]
async fn a_server_that_takes_no_writes_leaves_everything_as_it_was() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    // For this client alone: the server is of all tests.
    let acl = async |rule: &str| {
        let mut set = redis::cmd("ACL");
        set.arg(&["SETUSER", "reader", "on", "nopass", "~*", "+@all", rule]);
        set.exec_async(&mut bank.connection()).await.unwrap();
    };
    acl("-set").await;
    let url = bank.place().replace("?", "?user=reader&pass=x&");
    let database = RedisDatabase::new(Client::open(url).unwrap()).unwrap();
    let denied = Caller {
        service: Participants::new().add("payment", caller.participant::<Redis>(), database),
        ..caller.clone()
    };
    let seen = denied.once("try", "t").await;
    assert_eq!((seen.status, seen.code()), (500, "unknown"));
    assert_eq!((bank.row("t").await, bank.books().await), (None, UNTOUCHED));
    acl("+set").await;
    assert_eq!(denied.once("try", "t").await, Seen::done());
}

#[tokio::test]
async fn pieces_have_keys_and_arguments_of_their_own() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    let leaky = "local tcc_key, KEYS = 7, nil; redis.call('SET', 'seen', 'it'); return 'no refusal' -- end";
    assert_eq!(caller.how("try", How::Statement(leaky.into())).once("try", "t").await, Seen::done());
    assert_eq!(bank.connection().get("seen").await.unwrap().unwrap(), "it");
    assert_eq!(bank.books().await, Books { free: 990, reserved: 10, spent: 0 });
}

#[tokio::test]
async fn services_of_one_database_are_kept_apart_by_their_prefix() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    let other = Caller {
        service: Participants::new().add(
            "payment",
            caller.participant::<Redis>(),
            bank.database().prefix("other:"),
        ),
        ..caller.clone()
    };
    assert_eq!(caller.once("cancel", "t").await, Seen::done());
    assert_eq!(other.once("try", "t").await, Seen::done());
    assert_eq!(bank.connection().get("other:t|payment").await.unwrap().unwrap(), "tried|");
}

#[tokio::test]
async fn p5_a_connection_that_is_lost_is_made_again() {
    let bank = bank!();
    let caller = Caller::new(&bank);
    assert_eq!(caller.once("try", "t").await, Seen::done());
    let own: i64 = redis::cmd("CLIENT").arg("ID").query_async(&mut bank.connection()).await.unwrap();
    for client in bank.served().await {
        let id = client.strip_prefix("id=").unwrap();
        if id != own.to_string() {
            redis::cmd("CLIENT").arg(&["KILL", "ID", id]).exec_async(&mut bank.connection()).await.unwrap();
        }
    }
    // The first may find out, and the coordinator asks again.
    let mut seen = caller.call("confirm", "t").await;
    for _ in 0..100 {
        if seen == Seen::done() {
            break;
        }
        assert_eq!(seen.status, 500);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        seen = caller.call("confirm", "t").await;
    }
    assert_eq!(seen, Seen::done());
    assert_eq!(bank.books().await, Books { free: 990, reserved: 0, spent: 10 });
}

/// Has this done, and a point credited after it.
fn credit(lua: &'static str) -> impl for<'t> Fn(&'t mut RedisTx) -> Local<'t, ()> + Send + Sync + 'static {
    move |tx| {
        tx.effect(lua, NONE, NONE);
        tx.effect("redis.call('INCR', KEYS[1])", "points", NONE);
        Box::pin(async { Ok(()) })
    }
}

async fn points(bank: &Redis) -> String {
    bank.connection().get("points").await.unwrap().unwrap_or_default()
}

#[tokio::test]
async fn p2_a_message_of_a_broker_that_comes_again_has_its_effect_once() {
    let bank = bank!();
    let consumer = || Consumer::new("points", bank.database()).unwrap();
    for expected in [Received::New(()), Received::Repeat, Received::Repeat] {
        assert_eq!(consumer().receive("rabbit", "7", credit("")).await.unwrap(), expected);
    }
    assert_eq!(points(&bank).await, "1");

    let arriving = (0..8).map(|_| {
        let consumer = consumer();
        tokio::spawn(async move { consumer.receive("rabbit", "8", credit("")).await.unwrap() })
    });
    let mut new = 0;
    for arrived in arriving.collect::<Vec<_>>() {
        new += usize::from(arrived.await.unwrap() == Received::New(()));
    }
    assert_eq!((new, &*points(&bank).await), (1, "2"));

    let mail = Consumer::new("mail", bank.database()).unwrap();
    assert_eq!(mail.receive("rabbit", "7", credit("")).await.unwrap(), Received::New(()));
    assert_eq!(consumer().receive("kafka", "7", credit("")).await.unwrap(), Received::New(()));
}

#[tokio::test]
async fn a_message_of_a_broker_that_fails_leaves_no_row_and_comes_again() {
    let bank = bank!();
    let consumer = Consumer::new("points", bank.database()).unwrap();
    let failed = consumer.receive("rabbit", "7", |tx| {
        tx.effect("redis.call('INCR', KEYS[1])", "points", NONE);
        Box::pin(async { Err::<(), BoxError>("not now".into()) })
    });
    assert!(matches!(failed.await, Err(LocalError::Failed(_))));
    let refused = consumer.receive("rabbit", "7", |tx| {
        tx.check("return 'sold out'", NONE, NONE);
        tx.effect("redis.call('INCR', KEYS[1])", "points", NONE);
        Box::pin(async { Ok(()) })
    });
    assert!(matches!(refused.await, Err(LocalError::Failed(why)) if why.to_string() == "sold out"));
    let broken = consumer.receive("rabbit", "7", credit("error('no')")).await;
    assert!(matches!(broken, Err(LocalError::Unknown(_))), "{broken:?}");
    assert_eq!((&*points(&bank).await, bank.rows().await.len()), ("", 0));
    assert_eq!(consumer.receive("rabbit", "7", credit("")).await.unwrap(), Received::New(()));
    assert_eq!(points(&bank).await, "1");
}

#[tokio::test]
async fn what_a_consumer_received_is_kept_for_the_stated_time_and_no_longer() {
    let bank = bank!();
    let consumer = Consumer::new("points", bank.database()).unwrap();
    assert_eq!(consumer.receive("rabbit", "7", credit("")).await.unwrap(), Received::New(()));
    let keys = bank.connection().keys("tcc:message/*").await.unwrap();
    assert_eq!(keys.len(), 1);
    let left: i64 = redis::cmd("PTTL").arg(&keys[0]).query_async(&mut bank.connection()).await.unwrap();
    let days = 24 * 3600 * 1000;
    assert!((13 * days..=14 * days).contains(&left), "{left} ms");
    // No coordinator's mark takes it.
    forget(bank.database(), i64::MAX / 4, 100).await.unwrap();
    assert_eq!(consumer.receive("rabbit", "7", credit("")).await.unwrap(), Received::Repeat);

    let short = consumer.keep_for(std::time::Duration::from_millis(300));
    assert_eq!(short.receive("rabbit", "8", credit("")).await.unwrap(), Received::New(()));
    let again = async {
        while short.receive("rabbit", "8", credit("")).await.unwrap() == Received::Repeat {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), again).await.expect("it is forgotten");
    assert_eq!(points(&bank).await, "3");
}
