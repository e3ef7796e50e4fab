//! Rows of transactions that ended long ago: which go, which stay, and what a try is answered that comes later still.

use tcc_client::{BoxError, Commit, Database, Timestamp, Trouble};
use tokio::task::JoinSet;

use crate::banks::{Bank, Books};
use crate::payment::{Caller, Seen};

on_each_database!(
    what_began_before_the_mark_goes_and_nothing_else,
    a_batch_has_a_bound_and_takes_the_oldest,
    p4_a_late_try_whose_row_was_cleaned_up_is_refused,
    p4_a_try_that_waits_for_the_clean_up_of_its_row_is_refused,
    p4_late_tries_in_the_middle_of_clean_ups_are_refused,
    clean_ups_at_the_same_time_do_no_harm,
    the_mark_never_goes_back,
);

/// One batch of a clean-up.
pub(crate) async fn forget<D: Database>(database: D, settled: i64, most: u32) -> Result<u32, BoxError> {
    database.run(batch(database.clone(), settled, most)).await?
}

async fn batch<D: Database>(database: D, settled: i64, most: u32) -> Result<u32, BoxError> {
    let mut tx = database.begin().await?;
    let forgotten = D::forget(&mut tx, Timestamp::from_millis(settled), most).await?;
    match D::commit(tx).await? {
        Commit::Committed => Ok(forgotten),
        conflict => Err(format!("{conflict:?}").into()),
    }
}

/// A clean-up, however often others get in its way.
async fn clean_up<D: Database>(database: D, settled: i64, most: u32) -> u32 {
    let mut all = 0;
    loop {
        match forget(database.clone(), settled, most).await {
            Ok(forgotten) if forgotten < most => return all + forgotten,
            Ok(forgotten) => all += forgotten,
            Err(error) => assert_ne!(D::trouble(&error), Trouble::Other, "{error}"),
        }
    }
}

async fn gids<B: Bank>(bank: &B) -> Vec<String> {
    let mut gids: Vec<_> = bank.rows().await.into_iter().map(|row| row.gid).collect();
    gids.sort();
    gids
}

/// A caller of transactions that began then, and that knows of no mark.
fn at(caller: &Caller, begun: i64) -> Caller {
    Caller { begun, settled: None, ..caller.clone() }
}

async fn what_began_before_the_mark_goes_and_nothing_else<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for (begun, gid) in [(10, "a"), (11, "b"), (12, "c")] {
        assert_eq!(at(&caller, begun).call("try", &format!("{gid}-open")).await, Seen::done());
        for end in ["confirm", "cancel"] {
            let gid = format!("{gid}-{end}");
            assert_eq!(at(&caller, begun).call("try", &gid).await, Seen::done());
            assert_eq!(at(&caller, begun).call(end, &gid).await, Seen::done());
        }
    }
    let books = bank.books().await;
    assert_eq!(clean_up(bank.database(), 10, 100).await, 0);
    assert_eq!(clean_up(bank.database(), 11, 100).await, 3);
    assert_eq!(gids(&bank).await, ["b-cancel", "b-confirm", "b-open", "c-cancel", "c-confirm", "c-open"]);
    assert_eq!(bank.books().await, books);
    assert_eq!(at(&caller, 11).call("confirm", "b-open").await, Seen::done());
    assert_eq!(at(&caller, 12).call("cancel", "c-open").await, Seen::done());
    assert_eq!(at(&caller, 11).call("try", "b-new").await, Seen::done(), "begun at the mark, not before");
}

async fn a_batch_has_a_bound_and_takes_the_oldest<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for begun in [14, 10, 13, 11, 12] {
        assert_eq!(at(&caller, begun).call("cancel", &format!("t{begun}")).await, Seen::done());
    }
    assert_eq!(forget(bank.database(), 14, 3).await.unwrap(), 3);
    assert_eq!(gids(&bank).await, ["t13", "t14"]);
    assert_eq!(forget(bank.database(), 14, 3).await.unwrap(), 1);
    assert_eq!(gids(&bank).await, ["t14"]);
}

async fn p4_a_late_try_whose_row_was_cleaned_up_is_refused<B: Bank>(bank: B) {
    let mut caller = Caller::new(&bank);
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert_eq!(clean_up(bank.database(), caller.begun + 1, 100).await, 1);
    // As it was sent long ago: with an older mark, or by an initiator, who knows of none.
    for settled in [Some(caller.begun), Some(1), None] {
        caller.settled = settled;
        let seen = caller.call("try", "t").await;
        assert!(seen.refused(), "{seen:?}");
    }
    assert_eq!((caller.runs(), bank.row("t").await), (0, None));
    assert_eq!(bank.books().await, Books { free: 1000, reserved: 0, spent: 0 });
    // The others find what they would have found before the first call.
    assert_eq!(caller.call("confirm", "t").await.code(), "not-tried");
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert!(caller.call("try", "t").await.refused());
    assert_eq!(caller.runs(), 0);
}

async fn p4_a_try_that_waits_for_the_clean_up_of_its_row_is_refused<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let late = at(&caller, caller.begun);
    for round in 0..5 {
        let gid = format!("t{round}");
        let begun = caller.begun + round;
        assert_eq!(at(&caller, begun).call("cancel", &gid).await, Seen::done());
        let (database, late) = (bank.database(), Caller { begun, ..late.clone() });
        let unit = async move {
            let mut tx = database.begin().await?;
            let mark = Timestamp::from_millis(begun + 1);
            assert_eq!(B::Database::forget(&mut tx, mark, 10).await?, 1);
            // It asks while mark and deletion are there and not committed.
            let asking = tokio::spawn(async move { late.call("try", &gid).await });
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            assert_eq!(B::Database::commit(tx).await?, Commit::Committed);
            Ok::<_, BoxError>(asking)
        };
        let seen = bank.database().run(unit).await.unwrap().unwrap().await.unwrap();
        assert!(seen.refused(), "{seen:?}");
    }
    assert_eq!(caller.runs(), 0);
}

async fn p4_late_tries_in_the_middle_of_clean_ups_are_refused<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for round in 0..4 {
        let ended = at(&caller, 3000 + 10 * round);
        let open = at(&caller, 3005 + 10 * round);
        assert_eq!(open.call("try", &format!("open{round}")).await, Seen::done());
        for number in 0..8 {
            assert_eq!(ended.call("cancel", &format!("t{round}-{number}")).await, Seen::done());
        }
        let mut set = JoinSet::new();
        for _ in 0..2 {
            let (database, mark) = (bank.database(), open.begun);
            set.spawn(async move {
                clean_up(database, mark, 1).await;
            });
        }
        for first in 0..4 {
            // The same ones again and again, before their row goes, as it goes and after.
            let late = ended.clone();
            set.spawn(async move {
                for number in (0..24).map(|place| (first * 2 + place) % 8) {
                    let seen = late.call("try", &format!("t{round}-{number}")).await;
                    assert!(seen.refused(), "{seen:?}");
                }
            });
        }
        set.join_all().await;
        assert_eq!(open.call("confirm", &format!("open{round}")).await, Seen::done());
    }
    assert_eq!(caller.runs(), 8);
    assert_eq!(bank.books().await, Books { free: 960, reserved: 0, spent: 40 });
}

async fn clean_ups_at_the_same_time_do_no_harm<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    for begun in 10..50 {
        assert_eq!(at(&caller, begun).call("cancel", &format!("t{begun}")).await, Seen::done());
    }
    let mut set = JoinSet::new();
    for mark in [40, 20, 40, 30] {
        let bank = bank.clone();
        set.spawn(async move { clean_up(bank.database(), mark, 3).await });
    }
    assert!(set.join_all().await.iter().sum::<u32>() <= 30, "none twice");
    // What one had locked the others may have left out.
    clean_up(bank.database(), 40, 100).await;
    assert_eq!(gids(&bank).await, (40..50).map(|begun| format!("t{begun}")).collect::<Vec<_>>());
    assert!(at(&caller, 39).call("try", "late").await.refused());
    assert_eq!(at(&caller, 40).call("try", "new").await, Seen::done());
}

async fn the_mark_never_goes_back<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    assert_eq!(at(&caller, 10).call("cancel", "t").await, Seen::done());
    for mark in [20, 5, 15] {
        clean_up(bank.database(), mark, 100).await;
        assert!(at(&caller, 19).call("try", "late").await.refused());
        assert_eq!(at(&caller, 20).call("try", &format!("new-{mark}")).await, Seen::done());
    }
    assert_eq!(bank.mark().await, Some(20));
}
