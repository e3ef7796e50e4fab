//! Tries that the database prepares: what is left of whom, and who finds it.

use std::marker::PhantomData;
use std::time::Duration;

use serde_json::json;
use tcc_client::{
    BoxError, Call, Database, Dialect, Participants, Prepared, SqlDatabase, Tried, XaDatabase, XaParticipant,
};
#[cfg(feature = "tokio-postgres")]
use tcc_client::{Commit, PgDatabase, Row, Xa, XaError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

#[cfg(feature = "tokio-postgres")]
use crate::banks::Postgres;
use crate::banks::{Bank, Books, GuardRow, Open, Pooled, XaBank};
use crate::cleaning::forget;
use crate::flaky::{Fate, Flaky};
use crate::payment::{Caller, Charge, How, Seen};

on_each_xa!(
    a_try_alone_is_written_and_the_database_does_the_rest,
    a_payload_that_can_no_longer_be_read_is_confirmed_all_the_same,
    nothing_of_a_try_is_seen_before_it_is_confirmed,
    p2_a_prepare_that_was_not_answered_is_found_by_whatever_comes_next,
    p2_an_end_that_was_not_answered_is_found_by_its_repeat,
    p4_a_try_in_the_middle_of_a_cancel_is_undone_by_its_repeat,
    p5_a_method_cannot_end_its_transaction,
    p6_what_was_noted_and_not_prepared_is_not_tried,
    a_branch_that_was_tried_without_xa_is_not_taken_for_confirmed,
    decisions_do_not_wait_for_connections_behind_tries_that_wait_for_them,
    participants_of_one_server_do_not_end_each_others_tries,
    the_longest_ids_have_a_name_each,
    what_is_prepared_is_listed_by_its_age_and_nothing_ends_it,
    what_is_prepared_keeps_its_note_when_others_go,
    what_was_prepared_without_a_note_is_listed_and_can_be_ended,
    a_deadlock_runs_a_try_again,
    many_instances_may_create_the_table_of_notes_at_once,
);

const UNTOUCHED: Books = Books { free: 1000, reserved: 0, spent: 0 };
const SPENT: Books = Books { free: 990, reserved: 0, spent: 10 };

/// A participant as an application writes it.
struct Spend<B>(PhantomData<B>);

impl<B: Bank<Database: XaDatabase>> XaParticipant for Spend<B> {
    type Database = B::Database;
    type Payload = Charge;

    async fn try_(
        &self,
        call: &Call,
        charge: &Charge,
        tx: &mut <B::Database as Database>::Tx,
    ) -> Result<Tried, BoxError> {
        let by = Books { free: -charge.cents, reserved: 0, spent: charge.cents };
        let paid = B::move_money(tx, call, &charge.account, by).await?;
        Ok(if paid { Tried::with_reply(json!("paid")) } else { Tried::refused("no funds") })
    }
}

/// A caller of that participant.
fn spending<B: Pooled<Database: XaDatabase>>(bank: &XaBank<B>) -> Caller {
    let service = Participants::new().xa("payment", Spend::<B>(PhantomData), bank.xa.clone());
    Caller { service, ..Caller::new(bank) }
}

/// Makes a call that this befalls, and whose caller learns nothing.
async fn befalls<B: Bank>(bank: &B, fate: Fate, operation: &str, gid: &str) {
    let flaky = Flaky::new(bank);
    flaky.next(fate);
    let seen = Caller::new(&flaky).once(operation, gid).await;
    assert_eq!((seen.status, seen.code()), (500, "unknown"));
}

async fn a_try_alone_is_written_and_the_database_does_the_rest<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = spending(&bank);
    let paid = Seen { status: 200, body: json!("paid") };
    for end in ["confirm", "cancel"] {
        for _ in 0..2 {
            assert_eq!(caller.call("try", end).await, paid);
        }
        for _ in 0..2 {
            assert_eq!(caller.call(end, end).await, Seen::done());
        }
    }
    assert_eq!(caller.call("try", "confirm").await, paid, "late, and with the reply");
    assert!(caller.call("try", "cancel").await.refused());
    let mut poor = caller.clone();
    poor.charge.cents = 100_000;
    assert_eq!(poor.call("try", "poor").await.body["detail"], "no funds");
    assert_eq!(poor.call("cancel", "poor").await, Seen::done());
    assert_eq!((bank.books().await, bank.prepared().await), (SPENT, vec![]));
    for (gid, state) in [("confirm", "confirmed"), ("cancel", "cancelled"), ("poor", "refused")] {
        assert_eq!(bank.row(gid).await.unwrap(), state);
    }
}

async fn a_payload_that_can_no_longer_be_read_is_confirmed_all_the_same<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = spending(&bank);
    let first = caller.send("try", "refused", b"{\"account\":7}".into()).await;
    assert!(first.refused(), "{first:?}");
    for end in ["confirm", "cancel"] {
        assert_eq!(caller.call("try", end).await.status, 200);
        assert_eq!(caller.insist(end, end, b"{\"of\": \"another version\"}".into()).await, Seen::done());
    }
    assert_eq!(bank.books().await, SPENT);
}

async fn nothing_of_a_try_is_seen_before_it_is_confirmed<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = spending(&bank);
    assert_eq!(caller.call("try", "t").await.status, 200);
    // As others read it, not as these tests count it.
    assert_eq!((bank.bank.books().await, bank.bank.rows().await), (UNTOUCHED, vec![]));
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
    let kept = Some("\"paid\"".to_owned());
    let row = GuardRow { gid: "t".into(), branch: "payment".into(), state: "confirmed".into(), kept };
    assert_eq!((bank.bank.books().await, bank.bank.rows().await), (SPENT, vec![row]));
}

async fn p2_a_prepare_that_was_not_answered_is_found_by_whatever_comes_next<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = Caller::new(&bank);
    for (gid, next, row) in
        [("t", "try", "tried"), ("u", "confirm", "confirmed"), ("v", "cancel", "cancelled")]
    {
        befalls(&bank, Fate::AnswerLost, "try", gid).await;
        let runs = caller.runs();
        assert_eq!(caller.call(next, gid).await, Seen::done());
        assert_eq!(caller.runs() - runs, usize::from(next != "try"), "the try ran once");
        assert_eq!(bank.row(gid).await.unwrap(), row);
        assert_eq!(caller.call(if next == "confirm" { next } else { "cancel" }, gid).await, Seen::done());
    }
    // It was not prepared after all.
    for (next, answer) in [("try", "done"), ("cancel", "done"), ("confirm", "not-tried")] {
        let gid = format!("lost-{next}");
        befalls(&bank, Fate::CommitLost, "try", &gid).await;
        assert_eq!(caller.call(next, &gid).await.code(), answer);
        assert_eq!(caller.call("cancel", &gid).await, Seen::done());
    }
    assert_eq!((bank.books().await, bank.prepared().await), (SPENT, vec![]));
}

async fn p2_an_end_that_was_not_answered_is_found_by_its_repeat<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = Caller::new(&bank);
    for (operation, other, code) in
        [("confirm", "cancel", "already-confirmed"), ("cancel", "confirm", "already-cancelled")]
    {
        for fate in [Fate::AnswerLost, Fate::CommitLost] {
            let gid = format!("{operation}-{fate:?}");
            assert_eq!(caller.call("try", &gid).await, Seen::done());
            befalls(&bank, fate, operation, &gid).await;
            assert_eq!(bank.prepared().await.len(), usize::from(fate == Fate::CommitLost));
            assert_eq!(caller.call(operation, &gid).await, Seen::done());
            assert_eq!(caller.call(other, &gid).await.code(), code);
        }
    }
    assert_eq!(bank.books().await, Books { free: 980, reserved: 0, spent: 20 });
}

async fn p4_a_try_in_the_middle_of_a_cancel_is_undone_by_its_repeat<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = Caller::new(&bank);
    assert_eq!(caller.call("try", "t").await, Seen::done());
    // As far as a cancel comes whose process dies before it has left its row.
    let [prepared] = &*bank.prepared().await else { panic!("it is prepared") };
    bank.roll_back(prepared).await;
    assert_eq!(bank.row("t").await, None);
    assert_eq!(caller.call("try", "t").await, Seen::done(), "a late one");
    assert_eq!(caller.call("cancel", "t").await, Seen::done());
    assert!(caller.call("try", "t").await.refused());
    assert_eq!((bank.books().await, bank.prepared().await), (UNTOUCHED, vec![]));
}

async fn p5_a_method_cannot_end_its_transaction<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = Caller::new(&bank);
    for statement in ["ROLLBACK", "ROLLBACK; UPDATE account SET spent = 7"] {
        let ends = caller.how("try", How::Statement(statement.into()));
        assert_eq!(ends.once("try", "t").await.code(), "internal", "{statement}");
        assert_eq!((bank.row("t").await, bank.prepared().await), (None, vec![]), "{statement}");
    }
    // Where it can be done at all, it is found out, and nobody takes it for more than it is.
    let commits = caller.how("try", How::Statement("COMMIT".into()));
    assert_eq!(commits.once("try", "u").await.code(), "internal");
    let left = bank.row("u").await.map_or("not-tried", |_| "internal");
    assert_eq!((caller.once("confirm", "u").await.code(), bank.prepared().await), (left, vec![]));
    assert_eq!(caller.once("try", "v").await, Seen::done());
    assert_eq!(caller.once("confirm", "v").await, Seen::done());
}

async fn p6_what_was_noted_and_not_prepared_is_not_tried<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = Caller::new(&bank);
    befalls(&bank, Fate::CommitLost, "try", "t").await;
    assert_eq!(bank.query("SELECT branch FROM tcc_prepared").await, ["payment"]);
    assert_eq!(bank.prepared().await, []);
    for _ in 0..2 {
        let seen = caller.call("confirm", "t").await;
        assert_eq!((seen.status, seen.code()), (409, "not-tried"));
    }
    assert_eq!((caller.runs(), bank.books().await), (0, UNTOUCHED));
}

async fn a_branch_that_was_tried_without_xa_is_not_taken_for_confirmed<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let before = Caller::new(&bank.bank);
    assert_eq!(before.call("try", "t").await, Seen::done());
    let caller = Caller::new(&bank);
    for operation in ["try", "confirm", "cancel"] {
        let seen = caller.call(operation, "t").await;
        assert_eq!((seen.status, seen.code()), (500, "internal"), "{operation}");
    }
    assert_eq!((caller.runs(), before.call("confirm", "t").await), (0, Seen::done()));
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
}

async fn decisions_do_not_wait_for_connections_behind_tries_that_wait_for_them<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    // More tries for one account than there are connections: all but one wait, for a lock or for a connection.
    let caller = spending(&bank);
    let mut set = JoinSet::new();
    for number in 0..24 {
        let (caller, gid) = (caller.clone(), format!("t{number}"));
        set.spawn(async move {
            assert_eq!(caller.call("try", &gid).await.status, 200);
            let asked = Instant::now();
            assert_eq!(caller.once("confirm", &gid).await, Seen::done());
            asked.elapsed()
        });
    }
    let all = timeout(Duration::from_secs(60), set.join_all()).await.expect("each lets the next one in");
    let longest = all.into_iter().max().unwrap();
    assert!(longest < tcc_client::limits::LOCK_WAIT, "{longest:?}");
    assert_eq!(bank.books().await, Books { free: 760, reserved: 0, spent: 240 });
}

async fn participants_of_one_server_do_not_end_each_others_tries<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let Some(other) = XaBank::<B>::open().await else { return };
    let (here, there) = (Caller::new(&bank), Caller::new(&other));
    assert_eq!(here.call("try", "t").await, Seen::done());
    assert_eq!(there.call("confirm", "t").await.code(), "not-tried");
    assert_eq!(there.call("cancel", "t").await, Seen::done());
    assert_eq!(bank.prepared().await.len(), 1);
    assert_eq!(there.call("try", "u").await, Seen::done());
    assert_eq!(here.once("try", "v").await.code(), "pending", "its own account is locked");
    assert_eq!(here.call("confirm", "t").await, Seen::done());
    assert_eq!(here.call("try", "u").await, Seen::done());
    let names = [bank.prepared().await, other.prepared().await].map(|mut left| left.pop().unwrap());
    assert_eq!(names[0].gid, names[1].gid);
    assert_ne!(names[0].name, names[1].name);
    assert_eq!(here.call("confirm", "u").await, Seen::done());
    assert_eq!(there.call("cancel", "u").await, Seen::done());
    assert_eq!(bank.books().await, Books { free: 980, reserved: 0, spent: 20 });
    assert_eq!(other.books().await, UNTOUCHED);
}

async fn the_longest_ids_have_a_name_each<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let mut caller = Caller::new(&bank);
    let long = "_:/-".repeat(32);
    // The last two read as one text.
    let ids = [(&*long, "b".repeat(64)), (&long, "B".repeat(64)), ("T", "a/b".into()), ("Ta", "/b".into())];
    for (number, (gid, branch)) in ids.iter().enumerate() {
        caller.charge.account = format!("account-{number}");
        caller.branch = branch.clone();
        bank.fund(&caller.charge.account, 10).await;
        assert_eq!(caller.call("try", gid).await, Seen::done());
    }
    let prepared = bank.xa.prepared(Duration::ZERO).await.unwrap();
    assert_eq!(prepared.len(), ids.len());
    for (gid, branch) in &ids {
        let found = |left: &&Prepared| {
            left.gid.as_ref().unwrap().as_str() == *gid && left.branch.as_ref().unwrap().as_str() == branch
        };
        let name = &prepared.iter().find(found).expect("it is listed").name;
        assert!(name.len() == 101 && name.starts_with("tcc:"), "{name}");
        caller.branch = branch.clone();
        assert_eq!(caller.call("confirm", gid).await, Seen::done());
    }
    assert_eq!(bank.books().await.spent, 40);
}

async fn what_is_prepared_is_listed_by_its_age_and_nothing_ends_it<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = Caller::new(&bank);
    bank.fund("bob", 10).await;
    let mut bob = caller.clone();
    bob.charge.account = "bob".into();
    assert_eq!(caller.call("try", "old").await, Seen::done());
    sleep(Duration::from_millis(300)).await;
    assert_eq!(bob.call("try", "new").await, Seen::done());
    let listed = |prepared: Vec<Prepared>| -> Vec<String> {
        prepared.into_iter().map(|left| left.gid.unwrap().to_string()).collect()
    };
    assert_eq!(listed(bank.prepared().await), ["old", "new"], "the longest first");
    let all = bank.prepared().await;
    let (old, new) = (all[0].age.unwrap(), all[1].age.unwrap());
    assert!(old >= new + Duration::from_millis(290), "{old:?} {new:?}");
    assert_eq!(listed(bank.xa.prepared(old).await.unwrap()), ["old"]);
    assert_eq!(bank.xa.prepared(Duration::from_secs(3600)).await.unwrap(), []);
    // Whoever comes next finds it, over other connections too.
    let bank = bank.reopen().await;
    assert_eq!(listed(bank.prepared().await), ["old", "new"]);
    assert_eq!(Caller::new(&bank).call("confirm", "old").await, Seen::done());
    assert_eq!(Caller::new(&bank).call("cancel", "new").await, Seen::done());
    assert_eq!(bank.prepared().await, []);
}

async fn what_is_prepared_keeps_its_note_when_others_go<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = Caller::new(&bank);
    for gid in ["confirmed", "cancelled"] {
        assert_eq!(caller.call("try", gid).await, Seen::done());
        let end = if gid == "confirmed" { "confirm" } else { "cancel" };
        assert_eq!(caller.call(end, gid).await, Seen::done());
    }
    let at = |begun| Caller { begun, ..caller.clone() };
    assert_eq!(at(9000).call("try", "left").await, Seen::done());
    assert_eq!(forget(bank.database(), 8000, 100).await.unwrap(), 2);
    assert_eq!(bank.query("SELECT gid FROM tcc_prepared").await, ["left"]);
    let left = bank.prepared().await.pop().unwrap();
    assert_eq!(left.gid.unwrap().as_str(), "left");
    assert_eq!(caller.call("cancel", "left").await, Seen::done());
    assert_eq!(forget(bank.database(), 9001, 100).await.unwrap(), 1);
    assert_eq!(bank.query("SELECT gid FROM tcc_prepared").await, [""; 0]);
}

async fn what_was_prepared_without_a_note_is_listed_and_can_be_ended<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    let caller = Caller::new(&bank);
    assert_eq!(caller.call("try", "t").await, Seen::done());
    bank.execute("DELETE FROM tcc_prepared").await;
    let [left] = &*bank.xa.prepared(Duration::ZERO).await.unwrap() else { panic!("it is listed") };
    assert_eq!((&left.gid, &left.branch), (&None, &None));
    assert_eq!(caller.call("try", "t").await, Seen::done(), "without its reply");
    assert_eq!(caller.call("confirm", "t").await, Seen::done());
    assert_eq!(bank.books().await, SPENT);
}

async fn a_deadlock_runs_a_try_again<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    bank.fund("bob", 1000).await;
    let wants = |account: &str| {
        let wait = match B::Database::DIALECT {
            Dialect::Sqlite => unreachable!("it prepares nothing"),
            Dialect::Postgres => "SELECT pg_sleep(0.5)",
            Dialect::Mysql => "DO SLEEP(0.5)",
        };
        How::Statement(format!("{wait}; UPDATE account SET free = free + 0 WHERE name = '{account}'"))
    };
    let alice = Caller::new(&bank).how("try", wants("bob"));
    let mut bob = alice.how("try", wants("alice"));
    bob.charge.account = "bob".into();
    // Each has its own account and wants the other's. One is the victim, and goes on once the other is confirmed. Where one
    // was done before the other came, they meet in another round.
    let both = |caller: Caller, gid: String| async move {
        assert_eq!(caller.call("try", &gid).await, Seen::done());
        assert_eq!(caller.call("confirm", &gid).await, Seen::done());
    };
    let mut rounds = 0;
    while alice.runs() == 4 * rounds {
        assert!(rounds < 5, "none of the two ran again");
        rounds += 1;
        tokio::join!(both(alice.clone(), format!("a{rounds}")), both(bob.clone(), format!("b{rounds}")));
    }
    let spent = 20 * i64::try_from(rounds).unwrap();
    assert_eq!(bank.books().await, Books { free: 2000 - spent, reserved: 0, spent });
}

async fn many_instances_may_create_the_table_of_notes_at_once<B>(bank: XaBank<B>)
where
    B: Pooled<Database: XaDatabase>,
{
    bank.execute("DROP TABLE tcc_prepared").await;
    let mut set = JoinSet::new();
    for _ in 0..8 {
        let xa = bank.xa.clone();
        set.spawn(async move { xa.create_schema().await.map_err(|error| error.to_string()) });
    }
    assert_eq!(set.join_all().await, vec![Ok(()); 8]);
    assert_eq!(Caller::new(&bank).once("try", "t").await, Seen::done());
}

/// What a try that is accepted comes to in the guard's own words.
#[cfg(feature = "tokio-postgres")]
async fn tries(xa: &Xa<PgDatabase>, caller: &Caller, gid: &str) -> Result<Commit, BoxError> {
    let call = Call::from_headers(&caller.headers("try", gid)).unwrap();
    let (mut tx, row) = (xa.begin().await?, Row::Tried { reply: None });
    assert!(Xa::insert(&mut tx, &call, &row).await?);
    Xa::set(&mut tx, &call, &row).await?;
    Xa::commit(tx).await
}

#[cfg(feature = "tokio-postgres")]
#[tokio::test]
async fn a_server_that_prepares_nothing_says_so_at_the_start_and_at_each_call() {
    let Some(server) = tcc_tests::postgres_that_prepares_nothing() else { return };
    let bank = Postgres::on(server).await;
    let xa = Xa::new(bank.database());
    assert!(matches!(xa.create_schema().await, Err(XaError::Disabled)));
    let service = Participants::new().xa("payment", Spend::<Postgres>(PhantomData), xa.clone());
    let caller = Caller { service, ..Caller::new(&bank) };
    for operation in ["try", "confirm", "cancel"] {
        let seen = caller.once(operation, "t").await;
        assert_eq!((seen.status, seen.code()), (500, "internal"), "{operation}");
    }
    let error = tries(&xa, &caller, "t").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(XaError::Disabled)), "{error}");
    assert_eq!((bank.books().await, bank.rows().await), (UNTOUCHED, vec![]));
}

#[cfg(feature = "tokio-postgres")]
#[tokio::test]
async fn a_server_that_can_prepare_no_more_says_so_and_rolls_back() {
    let Some(server) = tcc_tests::postgres_that_prepares_one() else { return };
    let bank = Postgres::on(server).await;
    let xa = Xa::new(bank.database());
    xa.create_schema().await.unwrap();
    bank.fund("bob", 10).await;
    let service = Participants::new().xa("payment", Spend::<Postgres>(PhantomData), xa.clone());
    let mut caller = Caller { service, ..Caller::new(&bank) };
    assert_eq!(caller.once("try", "t").await.status, 200);
    caller.charge.account = "bob".into();
    assert_eq!(caller.once("try", "u").await.status, 500);
    let error = tries(&xa, &caller, "u").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(XaError::Full)), "{error}");
    assert_eq!(caller.once("confirm", "t").await, Seen::done());
    assert_eq!(caller.once("try", "u").await.status, 200, "once there is room");
    assert_eq!(caller.once("cancel", "u").await, Seen::done());
    assert_eq!(bank.books().await, Books { free: 1000, reserved: 0, spent: 10 });
}
