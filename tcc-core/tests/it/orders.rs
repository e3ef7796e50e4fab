//! Random orders of events: one transaction over a memory store, and two nodes that crash, race and hold stale copies.
//!
//! The nodes load, plan, call, apply and save in an order drawn by proptest; answers come at once, late, twice or never.
//! What was called, saved and told is recorded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use tcc_core::answer::{Outlook, Reply};
use tcc_core::store::{Found, SaveError, load};
use tcc_core::wire::BeginRequest;
use tcc_core::{
    Applied, BranchId, Change, Event, MemoryStore, Operation, Phase, Plan, Random, Rejection, Stored,
    Timestamp, Transaction,
};

use crate::support::{PATIENCE, branches, id};

/// One step of the world.
#[derive(Clone, Debug)]
pub(crate) enum Step {
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
pub(crate) enum Said {
    Done,
    Pending,
    Refused,
    Unknown,
    Attention,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    ConfirmAll,
    ConfirmSome,
    Cancel,
    Register,
    Force(u8),
    Retry,
    Acknowledge,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
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
pub(crate) const SHAPES: [&str; 11] = [
    r#"{"gid":"g","decider":"initiator","branches":[{"id":"a","confirm":"t:a","cancel":"t:a"},{"id":"b","after":["a"],"confirm":"t:b","cancel":"t:b"}]}"#,
    r#"{"gid":"g","decider":"initiator","branches":[{"id":"a","at":"t:a","reserves_ms":9000},{"id":"b","try":"t:b","confirm":"t:b","cancel":"t:b"}]}"#,
    r#"{"gid":"g","branches":[{"id":"a","at":"t:a"},{"id":"b","at":"t:b"},{"id":"c","confirm":"t:c"}]}"#,
    r#"{"gid":"g","branches":[{"id":"a","try":"t:a","cancel":"t:a"},{"id":"b","after":["a"],"try":"t:b","cancel":"t:b"},{"id":"c","after":["b"],"try":"t:c","cancel":"none"}]}"#,
    r#"{"gid":"g","branches":[{"id":"c","after":["b"],"at":"t:c"},{"id":"b","after":["a"],"confirm":"t:b"},{"id":"a","at":"t:a"},{"id":"d","after":["a"],"at":"t:d","delay_ms":500}]}"#,
    r#"{"gid":"g","branches":[{"id":"a","confirm":"t:a","retry":{"intervals_ms":[100],"give_up":true}},{"id":"b","after":["a"],"confirm":"t:b"}]}"#,
    r#"{"gid":"g","decider":"initiator","check":"t:check","branches":[{"id":"a","confirm":"t:a"},{"id":"b","confirm":"t:b","cancel":"t:b"}]}"#,
    r#"{"gid":"g","decider":"initiator","timeout_ms":5000,"branches":[]}"#,
    r#"{"gid":"g","branches":[{"id":"a","confirm":"t:a"},{"id":"b","after":["a"],"confirm":"t:b","delay_ms":500},{"id":"c","after":["a"],"confirm":"t:c"}]}"#,
    r#"{"gid":"g","branches":[{"id":"a","try":"t:a","cancel":"t:a"},{"id":"b","after":["a"],"try":"t:b","cancel":"none"},{"id":"c","after":["b"],"confirm":"t:c"}]}"#,
    r#"{"gid":"g","branches":[{"id":"a","try":"t:a","cancel":"t:a"},{"id":"b","try":"t:b","cancel":"t:b"},{"id":"c","after":["a","b"],"at":"t:c"},{"id":"d","after":["a"],"confirm":"t:d"}]}"#,
];

/// What was seen to happen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Every version the store ever held, in order, as the transaction it was.
    pub(crate) versions: Vec<Transaction>,
    /// Every call: what was called, and how many versions there were by then.
    pub(crate) calls: Vec<(Option<BranchId>, Operation, usize)>,
    /// Every answer: to which call, what it said, and how many versions there were by then.
    pub(crate) answers: Vec<(Option<BranchId>, Operation, Said, usize)>,
    /// What callers were told: their request, and how the store held the transaction when they were told.
    pub(crate) told: Vec<(Asked, Result<Phase, Rejection>, Phase)>,
}

pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) clock: Arc<AtomicI64>,
    pub(crate) nodes: [Option<Stored>; 2],
    pub(crate) in_flight: Vec<(usize, Option<BranchId>, Operation)>,
    pub(crate) tag: u64,
    pub(crate) seen: Seen,
}

/// Runs a future that never waits: the memory store answers at once.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the memory store made its caller wait"),
    }
}

impl World {
    pub(crate) fn new(shape: &str) -> Self {
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

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.load(Ordering::Relaxed))
    }

    pub(crate) fn save(&mut self, change: Change) -> Option<Stored> {
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

    pub(crate) fn load(&self) -> Stored {
        match now(load(&self.store, &"g".parse().unwrap())).unwrap() {
            Some(Found::Stored(stored)) => *stored,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
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

    pub(crate) fn call(&mut self, node: usize) {
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

    pub(crate) fn answer(&mut self, call: usize, said: Said) {
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
    pub(crate) fn apply(&mut self, node: usize, event: &Event) {
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

    pub(crate) fn ask(&mut self, node: usize, asked: Asked) {
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
    pub(crate) fn finish(&mut self) {
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

pub(crate) fn run(shape: usize, steps: Vec<Step>) -> Seen {
    let mut world = World::new(SHAPES[shape]);
    for step in steps {
        world.step(&step);
    }
    world.finish();
    world.seen
}
