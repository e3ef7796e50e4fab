//! C1 to C8, each as a property over random orders of events, with two nodes that crash, race and hold stale copies.
//!
//! Every case is one transaction of a random shape over a memory store. The nodes load, plan, call, apply and save in
//! an order drawn by proptest; answers come at once, late, twice or never. What was called, saved and told is
//! recorded, and each promise is a question to that record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use tcc_core::answer::{Outlook, Reply};
use tcc_core::store::{Found, SaveError, load};
use tcc_core::wire::BeginRequest;
use tcc_core::{
    Applied, BranchId, Change, Decision, End, Event, MemoryStore, Operation, Phase, Plan, Random, Rejection,
    Stored, Timestamp, Transaction, Tried,
};

use crate::support::{PATIENCE, branches, id};

/// One step of the world.
#[derive(Clone, Debug)]
enum Step {
    /// A node reads the transaction anew.
    Load(usize),
    /// A node forgets what it holds: it died.
    Crash(usize),
    /// A node plans from what it holds and makes its calls.
    Call(usize),
    /// A call, if there is one in flight, is answered to the node that made it; it may be answered again.
    Answer(usize, Said),
    /// A caller's request, by way of a node, with a fresh look at the store.
    Ask(usize, Asked),
    /// Time goes on.
    Pass(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Done,
    Pending,
    Refused,
    Unknown,
    Attention,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    ConfirmAll,
    ConfirmSome,
    Cancel,
    Register,
    Force(u8),
    Retry,
    Acknowledge,
}

fn step() -> impl Strategy<Value = Step> {
    let said = prop_oneof![5 => Just(Said::Done), 1 => Just(Said::Pending), 1 => Just(Said::Refused),
                           2 => Just(Said::Unknown), 1 => Just(Said::Attention)];
    let asked = prop_oneof![4 => Just(Asked::ConfirmAll), 1 => Just(Asked::ConfirmSome), 2 => Just(Asked::Cancel),
                            3 => Just(Asked::Register), 1 => (0..4u8).prop_map(Asked::Force), 1 => Just(Asked::Retry), 1 => Just(Asked::Acknowledge)];
    prop_oneof![
        3 => (0..2usize).prop_map(Step::Load),
        1 => (0..2usize).prop_map(Step::Crash),
        6 => (0..2usize).prop_map(Step::Call),
        8 => (0..8usize, said).prop_map(|(call, said)| Step::Answer(call, said)),
        2 => (0..2usize, asked).prop_map(|(node, asked)| Step::Ask(node, asked)),
        2 => (1..20_000u16).prop_map(Step::Pass),
    ]
}

/// The shapes of DESIGN.md §3, some of them mixed.
const SHAPES: [&str; 8] = [
    r#"{"gid":"g","decider":"initiator","branches":[{"id":"a","confirm":"t:a","cancel":"t:a"},{"id":"b","after":["a"],"confirm":"t:b","cancel":"t:b"}]}"#,
    r#"{"gid":"g","decider":"initiator","branches":[{"id":"a","at":"t:a","reserves_ms":9000},{"id":"b","try":"t:b","confirm":"t:b","cancel":"t:b"}]}"#,
    r#"{"gid":"g","branches":[{"id":"a","at":"t:a"},{"id":"b","at":"t:b"},{"id":"c","confirm":"t:c"}]}"#,
    r#"{"gid":"g","branches":[{"id":"a","try":"t:a","cancel":"t:a"},{"id":"b","after":["a"],"try":"t:b","cancel":"t:b"},{"id":"c","after":["b"],"try":"t:c","cancel":"none"}]}"#,
    r#"{"gid":"g","branches":[{"id":"c","after":["b"],"at":"t:c"},{"id":"b","after":["a"],"confirm":"t:b"},{"id":"a","at":"t:a"},{"id":"d","after":["a"],"at":"t:d","delay_ms":500}]}"#,
    r#"{"gid":"g","branches":[{"id":"a","confirm":"t:a","retry":{"intervals_ms":[100],"give_up":true}},{"id":"b","after":["a"],"confirm":"t:b"}]}"#,
    r#"{"gid":"g","decider":"initiator","check":"t:check","branches":[{"id":"a","confirm":"t:a"},{"id":"b","confirm":"t:b","cancel":"t:b"}]}"#,
    r#"{"gid":"g","decider":"initiator","timeout_ms":5000,"branches":[]}"#,
];

/// What was seen to happen.
#[derive(Default)]
struct Seen {
    /// Every version the store ever held, in order, as the transaction it was.
    versions: Vec<Transaction>,
    /// Every call: what was called, and how many versions there were by then.
    calls: Vec<(Option<BranchId>, Operation, usize)>,
    /// Every answer: to which call, what it said, and how many versions there were by then.
    answers: Vec<(Option<BranchId>, Operation, Said, usize)>,
    /// What callers were told: their request, and how the store held the transaction when they were told.
    told: Vec<(Asked, Result<Phase, Rejection>, Phase)>,
}

struct World {
    store: MemoryStore,
    clock: Arc<AtomicI64>,
    nodes: [Option<Stored>; 2],
    in_flight: Vec<(usize, Option<BranchId>, Operation)>,
    tag: u64,
    seen: Seen,
}

/// Runs a future that never waits: the memory store answers at once.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the memory store made its caller wait"),
    }
}

impl World {
    fn new(shape: &str) -> Self {
        let clock = Arc::new(AtomicI64::new(1_000_000));
        let read = clock.clone();
        let store = MemoryStore::new(move || Timestamp::from_millis(read.load(Ordering::Relaxed)));
        let mut world =
            Self { store, clock, nodes: [None, None], in_flight: vec![], tag: 0, seen: Seen::default() };
        let request: BeginRequest = serde_json::from_str(shape).unwrap();
        let begin = request.parse(|| unreachable!("it has a gid")).unwrap();
        let digest = begin.digest;
        let transaction = Transaction::begin(begin, PATIENCE, world.time()).unwrap();
        world.nodes[0] = world.save(Change::begin(transaction, Some(digest)));
        assert!(world.nodes[0].is_some());
        world
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.load(Ordering::Relaxed))
    }

    fn save(&mut self, change: Change) -> Option<Stored> {
        self.tag += 1;
        match now(change.save(&self.store, self.tag, None)) {
            Ok(stored) => {
                self.seen.versions.push(stored.transaction().clone());
                Some(stored)
            }
            Err(SaveError::Conflict) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn load(&self) -> Stored {
        match now(load(&self.store, &"g".parse().unwrap())).unwrap() {
            Some(Found::Stored(stored)) => *stored,
            other => panic!("{other:?}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Load(node) => self.nodes[node] = Some(self.load()),
            Step::Crash(node) => self.nodes[node] = None,
            Step::Pass(millis) => {
                self.clock.fetch_add(i64::from(millis), Ordering::Relaxed);
            }
            Step::Call(node) => self.call(node),
            Step::Answer(call, said) => self.answer(call, said),
            Step::Ask(node, asked) => self.ask(node, asked),
        }
    }

    fn call(&mut self, node: usize) {
        let Some(stored) = &self.nodes[node] else { return };
        match stored.plan(self.time()) {
            Plan::Finished => {}
            Plan::Expire => self.apply(node, &Event::Expire),
            Plan::Work { calls, .. } => {
                for call in calls {
                    // One call in flight per branch and node.
                    if !self.in_flight.iter().any(|(n, b, _)| *n == node && *b == call.branch) {
                        self.seen.calls.push((call.branch.clone(), call.operation, self.seen.versions.len()));
                        self.in_flight.push((node, call.branch, call.operation));
                    }
                }
            }
        }
    }

    fn answer(&mut self, call: usize, said: Said) {
        if self.in_flight.is_empty() {
            return;
        }
        let call = call % self.in_flight.len();
        // Every third answer stays in flight and comes again.
        let (node, branch, operation) =
            if call % 3 == 2 { self.in_flight[call].clone() } else { self.in_flight.swap_remove(call) };
        self.seen.answers.push((branch.clone(), operation, said, self.seen.versions.len()));
        let reply = match said {
            Said::Done => Reply::Done(None),
            Said::Pending => Reply::Pending(None),
            Said::Refused => Reply::Refused("no".into()),
            Said::Unknown | Said::Attention => Reply::Unknown {
                seen: "nothing".into(),
                retry_after: None,
                outlook: if matches!(said, Said::Unknown) { Outlook::Passing } else { Outlook::Attention },
            },
        };
        self.apply(node, &Event::Reply { branch, operation, reply, random: Random(7 << 20) });
    }

    /// A node applies what it learned to what it holds, and where another was first, to that.
    fn apply(&mut self, node: usize, event: &Event) {
        let Some(mut stored) = self.nodes[node].take() else { return };
        loop {
            match stored.apply(event.clone(), self.time()) {
                Applied::Kept(kept) | Applied::Rejected(kept, _) => break self.nodes[node] = Some(kept),
                Applied::Changed(change) => match self.save(change) {
                    Some(saved) => break self.nodes[node] = Some(saved),
                    None => stored = self.load(),
                },
            }
        }
    }

    fn ask(&mut self, node: usize, asked: Asked) {
        let stored = self.load();
        let mut ids: BTreeSet<BranchId> = stored
            .transaction()
            .branches()
            .iter()
            .filter(|b| b.definition().try_.is_none())
            .map(|b| b.definition().id.clone())
            .collect();
        if matches!(asked, Asked::ConfirmSome) {
            ids.pop_first();
        }
        let event = match asked {
            Asked::ConfirmAll | Asked::ConfirmSome => Event::Confirm { tried: ids },
            Asked::Cancel => Event::Cancel { reason: "asked".into() },
            Asked::Register => Event::Register(branches(r#"[{"id":"late","confirm":"t:l","cancel":"t:l"}]"#)),
            Asked::Retry => Event::Retry,
            Asked::Acknowledge => Event::Acknowledge { reason: "seen".into() },
            Asked::Force(i) => {
                Event::Force { branch: id(["a", "b", "c", "late"][usize::from(i)]), reason: "by hand".into() }
            }
        };
        let told = match stored.apply(event, self.time()) {
            Applied::Kept(stored) => Ok(stored),
            Applied::Rejected(_, why) => Err(why),
            // Nobody can be between: the load was just now.
            Applied::Changed(change) => Ok(self.save(change).unwrap()),
        };
        let held = self.load().transaction().phase();
        if let Ok(stored) = &told
            && node == 0
        {
            self.nodes[0] = Some(stored.clone());
        }
        self.seen.told.push((asked, told.map(|stored| stored.transaction().phase()), held));
    }

    /// Faults stop: node 0 drives on, every call is done, until the transaction has ended.
    fn finish(&mut self) {
        self.in_flight.clear();
        self.nodes[0] = Some(self.load());
        for _ in 0..200 {
            self.clock.fetch_add(20_000, Ordering::Relaxed);
            self.call(0);
            while !self.in_flight.is_empty() {
                self.answer(0, Said::Done);
            }
        }
    }
}

fn run(shape: usize, steps: Vec<Step>) -> Seen {
    let mut world = World::new(SHAPES[shape]);
    for step in steps {
        world.step(&step);
    }
    world.finish();
    world.seen
}

fn decision_of(operation: Operation) -> Option<Decision> {
    match operation {
        Operation::Confirm => Some(Decision::Confirm),
        Operation::Cancel => Some(Decision::Cancel),
        Operation::Try | Operation::Check => None,
    }
}

/// The branches in front of `i` in the direction of the decision, across those that have nothing to call.
fn in_front(transaction: &Transaction, i: usize, forwards: bool) -> BTreeSet<usize> {
    let all = transaction.branches();
    let next = |i: usize| -> Vec<usize> {
        (0..all.len())
            .filter(|j| {
                let (before, behind) = if forwards { (*j, i) } else { (i, *j) };
                all[behind].definition().after.contains(&all[before].definition().id)
            })
            .collect()
    };
    let mut found = BTreeSet::new();
    let mut left = next(i);
    while let Some(j) = left.pop() {
        if found.insert(j) {
            left.extend(next(j));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c1_one_decision_is_taken_and_no_call_of_the_other_kind_follows(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        let decisions: Vec<Decision> = seen.versions.iter().filter_map(|t| t.phase().decision()).collect();
        prop_assert!(decisions.windows(2).all(|two| two[0] == two[1]), "{decisions:?}");
        let kinds: BTreeSet<_> = seen.calls.iter().filter_map(|(_, operation, _)| decision_of(*operation)).map(Decision::as_str).collect();
        prop_assert!(kinds.len() <= 1, "{kinds:?}");
    }

    #[test]
    fn c2_a_branch_is_durable_before_its_try_and_the_decision_before_its_first_call(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for (branch, operation, versions) in &seen.calls {
            let durable = &seen.versions[..*versions];
            prop_assert!(branch.as_ref().is_none_or(|id| durable.iter().any(|t| t.branch(id).is_some())));
            if let Some(decision) = decision_of(*operation) {
                prop_assert!(durable.iter().any(|t| t.phase().decision() == Some(decision)), "{operation} before its decision");
            }
        }
    }

    #[test]
    fn c3_callers_are_told_what_the_store_holds(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for (asked, told, held) in &seen.told {
            match (asked, told) {
                (_, Ok(phase)) => prop_assert_eq!(phase, held),
                (Asked::ConfirmAll | Asked::ConfirmSome, Err(Rejection::Decided(phase))) => {
                    prop_assert_eq!(phase, held);
                    prop_assert_eq!(phase.decision(), Some(Decision::Cancel));
                }
                (Asked::Cancel, Err(Rejection::Decided(phase))) => {
                    prop_assert_eq!(phase, held);
                    prop_assert_eq!(phase.decision(), Some(Decision::Confirm));
                }
                (_, Err(Rejection::NotAllTried(_) | Rejection::NotDecided)) => prop_assert_eq!(*held, Phase::Trying),
                (_, Err(_)) => {}
            }
        }
    }

    #[test]
    fn c4_nothing_unclear_counts_as_done_or_refused(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        // The same run, with every answer that says something turned into one that does not.
        let unclear = steps.into_iter().map(|step| match step {
            Step::Answer(call, Said::Done | Said::Refused) => Step::Answer(call, Said::Unknown),
            Step::Ask(node, Asked::Force(_)) => Step::Load(node),
            step => step,
        });
        let mut world = World::new(SHAPES[shape]);
        unclear.for_each(|step| world.step(&step));
        for transaction in &world.seen.versions {
            for branch in transaction.branches() {
                prop_assert!(matches!(branch.tried(), Tried::NotYet), "tried by an unclear answer");
                prop_assert!(!matches!(branch.end(), Some(End::Done)), "ended by an unclear answer");
            }
        }
    }

    #[test]
    fn c4_nothing_counts_as_done_or_refused_before_an_answer_says_so(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for (version, transaction) in seen.versions.iter().enumerate() {
            let ends = |operation: &Operation| decision_of(*operation) == transaction.phase().decision();
            let ending = [Operation::Confirm, Operation::Cancel].into_iter().find(ends);
            for branch in transaction.branches() {
                let id = Some(&branch.definition().id);
                let heard = |operation, wanted| seen.answers.iter().any(|(branch, asked, said, at)| {
                    (branch.as_ref(), Some(*asked), *said) == (id, operation, wanted) && *at <= version
                });
                let tried = match branch.tried() {
                    Tried::NotYet => true,
                    Tried::Done(_) => heard(Some(Operation::Try), Said::Done),
                    Tried::Refused(_) => heard(Some(Operation::Try), Said::Refused),
                };
                prop_assert!(tried, "{id:?} counts as {:?}", branch.tried());
                prop_assert!(branch.end() != Some(&End::Done) || heard(ending, Said::Done), "{id:?} counts as done");
            }
        }
    }

    #[test]
    fn c5_a_version_is_written_once_and_only_its_writer_goes_on(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(SHAPES[shape]);
        for step in steps {
            world.step(&step);
            let held = world.load().version();
            // As many versions as saves that were reported won: none was overwritten, none was lost.
            prop_assert_eq!(held, world.seen.versions.len() as u64);
            prop_assert!(world.nodes.iter().flatten().all(|node| node.version() <= held));
        }
    }

    #[test]
    fn c6_what_has_not_ended_is_due_and_nothing_disappears(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(SHAPES[shape]);
        for step in steps {
            world.step(&step);
            let stored = world.load();
            let transaction = stored.transaction();
            prop_assert_eq!(transaction.phase().ended(), transaction.due().is_none(), "{:?}", transaction);
        }
        let mut branches = BTreeMap::new();
        for transaction in &world.seen.versions {
            for branch in transaction.branches() {
                branches.insert(branch.definition().id.clone(), branch.definition().endpoints().count());
            }
            prop_assert_eq!(transaction.branches().len(), branches.len(), "a branch is gone");
        }
    }

    #[test]
    fn c7_no_branch_joins_after_the_decision_and_whoever_tries_is_told(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        let decided: Vec<usize> = seen.versions.iter().filter(|t| t.phase().decision().is_some()).map(|t| t.branches().len()).collect();
        prop_assert!(decided.windows(2).all(|two| two[0] == two[1]));
        for (asked, told, held) in &seen.told {
            if matches!(asked, Asked::Register) && held.decision().is_some() {
                // Either the rejection says so, or the answer shows the decision that the deadline just took.
                prop_assert!(told.as_ref().map_or(true, |phase| phase.decision().is_some()), "{told:?}");
            }
        }
    }

    #[test]
    fn c8_calls_keep_to_their_order_and_cancel_reaches_exactly_the_frozen_set(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        for (branch, operation, versions) in &seen.calls {
            let (Some(id), held) = (branch, &seen.versions[..*versions]) else { continue };
            // Somebody held a version from which the call could be planned: what is in front had ended in it.
            let allowed = held.iter().any(|transaction| {
                let Some(i) = transaction.branches().iter().position(|b| b.definition().id == *id) else { return false };
                let all = transaction.branches();
                match decision_of(*operation) {
                    None => in_front(transaction, i, true).iter().all(|j| all[*j].definition().try_.is_none() || matches!(all[*j].tried(), Tried::Done(_))),
                    Some(decision) => transaction.phase().decision() == Some(decision)
                        && in_front(transaction, i, decision == Decision::Confirm).iter().all(|j| all[*j].end().is_some()),
                }
            });
            prop_assert!(allowed, "{operation} {id} was called too early");
        }
        let decided = seen.versions.iter().position(|t| t.phase().decision() == Some(Decision::Cancel));
        let Some(decided) = decided.filter(|decided| *decided > 0) else { return Ok(()) };
        // The set is frozen in the decision's own write, from the version before it.
        let before = &seen.versions[decided - 1];
        let frozen: BTreeSet<&BranchId> = before.branches().iter().enumerate().filter(|(i, b)| {
            let all = before.branches();
            b.definition().cancel.is_some() && (b.definition().try_.is_none()
                || in_front(before, *i, true).iter().all(|j| all[*j].definition().try_.is_none() || matches!(all[*j].tried(), Tried::Done(_))))
        }).map(|(_, b)| &b.definition().id).collect();
        let forced = |id: &BranchId| seen.versions.iter().any(|t| matches!(t.branch(id).and_then(|b| b.end()), Some(End::Forced { .. })));
        let cancelled: BTreeSet<&BranchId> = seen.calls.iter().filter(|(_, operation, _)| *operation == Operation::Cancel).filter_map(|(b, ..)| b.as_ref()).collect();
        prop_assert!(cancelled.is_subset(&frozen), "{cancelled:?} of {frozen:?}");
        prop_assert!(frozen.iter().all(|id| cancelled.contains(id) || forced(id)), "{cancelled:?} of {frozen:?}");
    }

    #[test]
    fn c9_everything_ends_once_faults_stop(shape in 0..SHAPES.len(), steps in prop::collection::vec(step(), 1..60)) {
        let seen = run(shape, steps);
        let last = seen.versions.last().unwrap();
        prop_assert!(last.phase().ended(), "{last:?}");
    }
}

#[test]
fn c8_a_forced_branch_does_not_let_those_behind_it_pass() {
    let mut world = World::new(SHAPES[4]);
    let done = |world: &mut World| (0..8).for_each(|_| world.answer(0, Said::Done));
    world.step(&Step::Call(0));
    done(&mut world);
    world.step(&Step::Pass(500));
    world.step(&Step::Call(0));
    done(&mut world);
    assert_eq!(world.load().transaction().phase(), Phase::Confirming);
    // c comes after b, and b after a, which is not confirmed yet.
    world.step(&Step::Ask(0, Asked::Force(1)));
    world.step(&Step::Call(0));
    let confirmed: Vec<_> = world.seen.calls.iter().filter(|call| call.1 == Operation::Confirm).collect();
    assert_eq!(confirmed.len(), 1, "{confirmed:?}");
    assert_eq!(confirmed[0].0, Some(id("a")));
}

/// The properties would hold of a world in which nothing happens. It does.
#[test]
fn the_random_orders_reach_every_phase_and_every_operation() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut phases, mut operations, mut told) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    // One order in five hundred gives a branch up.
    for case in 0..1600 {
        let steps = prop::collection::vec(step(), 1..60).new_tree(&mut runner).unwrap().current();
        let seen = run(case % SHAPES.len(), steps);
        phases.extend(seen.versions.iter().map(|t| t.phase().as_str()));
        operations.extend(seen.calls.iter().map(|(_, operation, _)| operation.as_str()));
        told.extend(seen.told.iter().map(|(asked, told, _)| format!("{asked:?} {}", told.is_ok())));
    }
    assert_eq!(phases.len(), Phase::ALL.len(), "{phases:?}");
    assert_eq!(operations.len(), 4, "{operations:?}");
    assert!(told.contains("Retry true"), "{told:?}");
    for asked in ["ConfirmAll", "Cancel", "Register", "Force(0)"] {
        for fine in [true, false] {
            assert!(told.contains(&format!("{asked} {fine}")), "{asked} {fine} is not in {told:?}");
        }
    }
}
