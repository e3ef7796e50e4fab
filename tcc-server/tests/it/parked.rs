//! A destination that takes no calls: who waits for it is parked, and called again once it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tcc_core::answer::{Answer, Failure};
use tcc_core::store::Store;
use tcc_core::{Operation, Phase};
use tcc_server::limits;
use tcc_server::transport::Outgoing;

use crate::scripted::{BOUND, Bench, Script, gid, start, status, until};
use tokio::sync::Semaphore;

/// Participants of which some are down, and how many calls are being made to those.
#[derive(Clone, Default)]
struct Fate {
    stock_is_down: Arc<AtomicBool>,
    money_is_down: Arc<AtomicBool>,
    calls_to_stock: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Fate {
    fn script(&self) -> Script {
        let fate = self.clone();
        Script::new(move |outgoing: Outgoing| {
            let fate = fate.clone();
            async move {
                let stock = outgoing.call.endpoint.as_str().starts_with("t:stock");
                let down = if stock { &fate.stock_is_down } else { &fate.money_is_down };
                if stock {
                    let at_once = fate.calls_to_stock.fetch_add(1, Ordering::SeqCst) + 1;
                    fate.most_at_once.fetch_max(at_once, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    fate.calls_to_stock.fetch_sub(1, Ordering::SeqCst);
                }
                if down.load(Ordering::SeqCst) { Answer::None(Failure::Connect) } else { status(200) }
            }
        })
    }

    fn of(stock: bool, money: bool) -> (Self, Script) {
        let fate = Self::default();
        fate.stock_is_down.store(stock, Ordering::SeqCst);
        fate.money_is_down.store(money, Ordering::SeqCst);
        let script = fate.script();
        (fate, script)
    }
}

async fn parked_at(bench: &Bench) -> Vec<String> {
    bench.store.parked_at(100).await.unwrap()
}

async fn parked(bench: &Bench, gid_: &str) -> Option<String> {
    bench.store.load(&gid(gid_)).await.unwrap().unwrap().parked.map(|parked| parked.at)
}

async fn until_parked(bench: &Bench, gids: impl IntoIterator<Item = String>) {
    let bound = Instant::now() + BOUND;
    for gid in gids {
        while parked(bench, &gid).await.is_none() {
            assert!(Instant::now() < bound, "{gid} was not parked");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn all_end(bench: &Bench, gids: impl IntoIterator<Item = String>, as_: Phase) {
    for gid_ in gids {
        let known = bench.coordinator.get(&gid(&gid_)).await.unwrap();
        assert_eq!(bench.ends(known).await, as_, "{gid_}");
    }
}

/// It is called again soon, and has ten minutes.
fn order(gid: &str) -> String {
    let branch = |id: &str| format!(r#"{{"id":"{id}","at":"t:{id}","retry":{{"intervals_ms":[200]}}}}"#);
    format!(r#"{{"gid":"{gid}","timeout_ms":600000,"branches":[{},{}]}}"#, branch("stock"), branch("money"))
}

fn orders() -> impl Iterator<Item = String> {
    (0..300).map(|i| format!("order/{i}"))
}

/// Three hundred orders that wait for a stock that is down, four places to each destination.
async fn backlog() -> (Bench, Fate, Script) {
    let (fate, script) = Fate::of(true, false);
    let bench = Bench::new(&script);
    for gid in orders() {
        bench.begin(&order(&gid)).await.unwrap();
    }
    until_parked(&bench, orders()).await;
    (bench, fate, script)
}

#[tokio::test]
async fn a_backlog_is_parked_and_costs_one_call_at_a_time() {
    let (bench, fate, script) = backlog().await;
    assert_eq!(parked_at(&bench).await, ["t:stock"]);
    let before = script.count("try stock");
    fate.most_at_once.store(0, Ordering::SeqCst);
    let healthy = r#"{"gid":"healthy","branches":[{"id":"money","at":"t:money"}]}"#;
    let known = bench.begin(healthy).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
    tokio::time::sleep(limits::LONGEST_PAUSE * 3).await;
    let probes = script.count("try stock") - before;
    assert!((1..=6).contains(&probes), "{probes} probes, one a second at the most");
    assert_eq!(fate.most_at_once.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_was_parked_is_called_when_the_destination_answers_again_and_never_too_many_at_once() {
    let (bench, fate, script) = backlog().await;
    fate.most_at_once.store(0, Ordering::SeqCst);
    fate.stock_is_down.store(false, Ordering::SeqCst);
    all_end(&bench, orders(), Phase::Confirmed).await;
    assert!(fate.most_at_once.load(Ordering::SeqCst) <= 4, "four places");
    assert_eq!(script.count("cancel stock"), 0);
    assert_eq!(parked_at(&bench).await, [""; 0]);
}

#[tokio::test]
async fn the_next_process_calls_who_was_parked_without_waiting_for_its_time() {
    let (mut bench, fate, script) = backlog().await;
    assert_eq!(bench.scheduler.take().unwrap().drain(BOUND).await, tcc_server::Drained::Whole);
    fate.stock_is_down.store(false, Ordering::SeqCst);
    let (coordinator, scheduler) = start(&bench.store, &script);
    (bench.coordinator, bench.scheduler) = (coordinator, Some(scheduler));
    all_end(&bench, orders(), Phase::Confirmed).await;
}

#[tokio::test]
async fn the_deadline_decides_for_who_is_parked_and_its_cancel_is_parked_in_turn() {
    let (bench, fate, script) = backlog().await;
    bench.pass(Duration::from_secs(600));
    let bound = Instant::now() + BOUND;
    while bench.store.counts().await.unwrap().phases[3] < 300 {
        assert!(Instant::now() < bound, "not all are decided");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until_parked(&bench, orders()).await;
    let cancels = script.count("cancel stock");
    assert!(cancels < 20, "{cancels} calls to a dead destination");
    fate.stock_is_down.store(false, Ordering::SeqCst);
    all_end(&bench, orders(), Phase::Cancelled).await;
    assert!(script.count("cancel money") >= 300);
}

#[tokio::test]
async fn a_human_is_told_of_who_is_parked_for_too_long() {
    let (bench, ..) = backlog().await;
    bench.pass(Duration::from_secs(400));
    let bound = Instant::now() + BOUND;
    while bench.store.counts().await.unwrap().attention < 300 {
        assert!(Instant::now() < bound, "not all call for a human");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn one_that_waits_for_two_goes_on_when_both_answer() {
    let (fate, script) = Fate::of(true, true);
    let bench = Bench::new(&script);
    for i in 0..20 {
        bench.begin(&order(&format!("order/{i}"))).await.unwrap();
    }
    let twenty = || (0..20).map(|i| format!("order/{i}"));
    until_parked(&bench, twenty()).await;
    assert_eq!(parked_at(&bench).await, ["t:stock"], "at the first of them");
    fate.stock_is_down.store(false, Ordering::SeqCst);
    let bound = Instant::now() + BOUND;
    while parked_at(&bench).await != ["t:money"] {
        assert!(Instant::now() < bound, "parked at {:?}", parked_at(&bench).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fate.money_is_down.store(false, Ordering::SeqCst);
    all_end(&bench, twenty(), Phase::Confirmed).await;
}

/// It has so many calls, and each of them counts.
#[tokio::test]
async fn a_ladder_goes_on_although_its_destination_is_shut() {
    let (bench, _, script) = backlog().await;
    let notify = r#"{"gid":"notify","branches":[
        {"id":"notify","confirm":"t:stock/notify","retry":{"intervals_ms":[20,20,20],"give_up":true}}]}"#;
    let known = bench.begin(notify).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Abandoned);
    assert_eq!(script.count(&format!("{} notify", Operation::Confirm)), 4);
}

/// Whoever is parked still takes what its initiator says.
#[tokio::test]
async fn one_that_is_parked_can_be_cancelled() {
    let (bench, fate, _) = backlog().await;
    let known = bench.coordinator.cancel(&gid("order/7"), "no longer wanted".to_owned()).await.unwrap();
    assert_eq!(known.phase(), Phase::Cancelling);
    until_parked(&bench, orders()).await;
    fate.stock_is_down.store(false, Ordering::SeqCst);
    assert_eq!(bench.ends(known).await, Phase::Cancelled);
    all_end(&bench, orders().filter(|gid| gid != "order/7"), Phase::Confirmed).await;
}

/// Its row can be claimed as soon as it stands in the store, which its driver may learn later than others.
#[tokio::test]
async fn who_is_claimed_while_its_driver_leaves_is_driven() {
    let money = Arc::new(Semaphore::new(0));
    let (fate, script) = (Fate::default(), money.clone());
    let stock_is_down = fate.stock_is_down.clone();
    stock_is_down.store(true, Ordering::SeqCst);
    let script = Script::new(move |outgoing: Outgoing| {
        let (down, money) = (stock_is_down.clone(), script.clone());
        async move {
            if outgoing.call.endpoint.as_str() == "t:money/try" {
                money.acquire().await.unwrap().forget();
            } else if down.load(Ordering::SeqCst) {
                return Answer::None(Failure::Connect);
            }
            status(200)
        }
    });
    let bench = Bench::new(&script);
    for i in 0..20 {
        let stock = format!(r#"{{"gid":"stock/{i}","branches":[{{"id":"stock","at":"t:stock"}}]}}"#);
        bench.begin(&stock).await.unwrap();
    }
    until_parked(&bench, ["stock/19".to_owned()]).await;
    let known = bench.begin(&order("g")).await.unwrap();
    until("the try of money", || script.count("try money") == 1).await;
    bench.store.late.store(true, Ordering::SeqCst);
    money.add_permits(1);
    until_parked(&bench, ["g".to_owned()]).await;
    fate.stock_is_down.store(false, Ordering::SeqCst);
    // Nobody else is left at the stock, so "g" is claimed by now.
    all_end(&bench, (0..20).map(|i| format!("stock/{i}")), Phase::Confirmed).await;
    tokio::time::sleep(limits::RELEASE * 4).await;
    bench.store.told.add_permits(1);
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
}

/// It answers, and so it may be the fault of those calls: they must not keep all others from being tried.
#[tokio::test]
async fn calls_that_are_answered_with_errors_for_ever_hold_no_others_up_for_long() {
    let script = Script::new(async |outgoing: Outgoing| {
        let bad = outgoing.call.branch.as_ref().is_some_and(|branch| branch.as_str() == "bad");
        status(if bad { 500 } else { 200 })
    });
    let bench = Bench::new(&script);
    for i in 0..100 {
        let retry = r#""retry":{"intervals_ms":[20]}"#;
        let bad = format!(r#"{{"gid":"bad/{i}","branches":[{{"id":"bad","at":"t:p",{retry}}}]}}"#);
        bench.begin(&bad).await.unwrap();
    }
    until_parked(&bench, (0..100).map(|i| format!("bad/{i}"))).await;
    let known = bench.begin(r#"{"gid":"good","branches":[{"id":"good","at":"t:p"}]}"#).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed, "after {} calls", script.calls().len());
}

/// What is due later bounds how long it stays parked, and keeps it from nothing.
#[tokio::test]
async fn one_that_waits_for_something_later_as_well_is_parked_until_then() {
    let (bench, fate, _) = backlog().await;
    let both = r#"{"gid":"g","timeout_ms":7200000,"branches":[
        {"id":"stock","at":"t:stock"},{"id":"money","at":"t:money","delay_ms":600000}]}"#;
    bench.begin(both).await.unwrap();
    until_parked(&bench, ["g".to_owned()]).await;
    let row = async || bench.store.load(&gid("g")).await.unwrap().unwrap();
    let parked = row().await;
    let wait = parked.due_at.unwrap().since(bench.store.now());
    assert!(wait > Duration::from_secs(200) && wait <= Duration::from_secs(600), "{wait:?}");
    tokio::time::sleep(limits::RELEASE * 6).await;
    assert_eq!(row().await.version, parked.version, "nothing was done meanwhile");
    fate.stock_is_down.store(false, Ordering::SeqCst);
    bench.pass(Duration::from_secs(600));
    let known = bench.coordinator.get(&gid("g")).await.unwrap();
    assert_eq!(bench.ends(known).await, Phase::Confirmed);
}
