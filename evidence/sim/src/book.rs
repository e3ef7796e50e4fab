//! What is known of every transaction, by looking at the store, at the participants and at the network: the truth
//! that the checkers hold everyone to.

use std::collections::BTreeMap;
use std::sync::Arc;

use tcc_client::Row;
use tcc_core::answer::Answer;
use tcc_core::{BranchId, Call, Decision, Gid, Operation, Phase, Timestamp};

use crate::check::{answers, calls, decision, guard, nested, sender};
use crate::initiator::ask::{Ask, Told};
use crate::plan::Plan;
use crate::setup::Setup;
use crate::world::World;

/// All transactions of a world, by number.
pub(crate) struct Book {
    cases: BTreeMap<usize, Case>,
}

/// What follows from a transaction has its number and this.
pub(crate) const CHILD: usize = 1 << 20;

/// One transaction.
pub(crate) struct Case {
    pub(crate) plan: Arc<Plan>,
    /// What the store holds.
    pub(crate) row: Option<RowSeen>,
    pub(crate) decision: Option<Decision>,
    /// What the initiator has asked for so far, heard or not.
    pub(crate) asked_confirm: bool,
    pub(crate) asked_cancel: bool,
    /// Whether a participant really refused a try.
    pub(crate) refused: bool,
    /// Whether somebody was told that a begin was the first.
    pub(crate) told_new: bool,
    pub(crate) fact: Fact,
    /// Whether the initiator will never commit its local transaction, whoever asks.
    pub(crate) renounced: bool,
    pub(crate) branches: Vec<BranchCase>,
}

/// What the store holds of a transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSeen {
    pub(crate) phase: Phase,
    pub(crate) version: u64,
    pub(crate) created_at: Timestamp,
    /// Whether it was begun; if not, it was cancelled before that.
    pub(crate) is_begin: bool,
    pub(crate) attention: bool,
}

/// What an initiator's own database says of its local transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    Open,
    Committed,
    RolledBack,
}

/// One branch.
#[derive(Clone, Debug, Default)]
pub(crate) struct BranchCase {
    /// How often try, confirm and cancel had an effect.
    pub(crate) effects: [u8; 3],
    /// The first answer that settled its try.
    pub(crate) tried: Option<Tried>,
    /// Whether it was answered that its confirm, its cancel is done.
    pub(crate) confirmed: bool,
    pub(crate) cancelled: bool,
    /// Whether the initiator was told that it is registered.
    pub(crate) registered: bool,
    /// Who called it last.
    pub(crate) called_by: Option<usize>,
    /// How often it was called, all in all.
    pub(crate) calls: u32,
    /// How many of its calls each process saw come to something other than "pending".
    pub(crate) counted: BTreeMap<Process, u32>,
}

/// One life of a node: what it counts, it counts until it dies.
pub(crate) type Process = (usize, u64);

/// How a try was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    Done(Vec<u8>),
    Refused,
}

/// An answer of a participant, and what its guard said before it.
pub(crate) struct Answered<'a> {
    pub(crate) operation: Operation,
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    pub(crate) before: Option<Row>,
    /// Whether the guard may have forgotten the branch.
    pub(crate) forgotten: bool,
}

/// What was so when a request was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Before {
    pub(crate) version: u64,
    pub(crate) decision: Option<Decision>,
}

/// The number in a gid.
pub(crate) fn number(gid: &Gid) -> usize {
    let digits = gid.as_str().trim_start_matches('t');
    let (digits, child) = digits.strip_suffix(OF_CHILD).map_or((digits, 0), |digits| (digits, CHILD));
    digits.parse().map_or(usize::MAX, |number: usize| number + child)
}

/// The gid of a number, as a text.
pub(crate) fn name(number: usize) -> String {
    match number.checked_sub(CHILD) {
        None => format!("t{number}"),
        Some(parent) => format!("t{parent}{OF_CHILD}"),
    }
}

/// The gid of a number.
pub(crate) fn gid(number: usize) -> Gid {
    name(number).parse().expect("a gid")
}

const OF_CHILD: &str = "/2";

/// The number in a branch's id.
pub(crate) fn place(branch: &BranchId) -> usize {
    branch.as_str()[1..].parse().expect("branches are called b0, b1, …")
}

/// Whether something is as it should be, or why not.
pub(crate) type Checked = Result<(), String>;

impl Case {
    fn new(plan: Arc<Plan>) -> Self {
        let mut branches = vec![BranchCase::default(); plan.branches.len()];
        branches.iter_mut().take(plan.at_begin).for_each(|branch| branch.registered = true);
        Self {
            row: None,
            decision: None,
            asked_confirm: false,
            asked_cancel: false,
            refused: false,
            told_new: false,
            fact: Fact::Open,
            renounced: false,
            branches,
            plan,
        }
    }
}

impl Book {
    /// A book of the transactions that take place.
    pub(crate) fn new(setup: &Setup) -> Self {
        let mut cases = BTreeMap::new();
        for number in &setup.cases {
            let plan = Plan::draw(setup.seed, *number);
            if let Some(child) = &plan.child {
                cases.insert(number + CHILD, Case::new(child.clone()));
            }
            cases.insert(*number, Case::new(plan));
        }
        Self { cases }
    }

    /// A transaction.
    pub(crate) fn case(&mut self, number: usize) -> &mut Case {
        self.cases.get_mut(&number).expect("a transaction that takes place")
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &Case)> {
        self.cases.iter().map(|(number, case)| (*number, case))
    }

    /// What the store says was decided.
    pub(crate) fn decision(&self, number: usize) -> Option<Decision> {
        self.cases.get(&number)?.decision
    }

    /// What is so now.
    pub(crate) fn before(&mut self, number: usize) -> Before {
        let case = self.case(number);
        Before { version: case.row.map_or(0, |row| row.version), decision: case.decision }
    }

    /// The store made a write durable. `latest`: the latest moment its clock has shown.
    pub(crate) fn written(
        &mut self,
        world: &World,
        number: usize,
        seen: RowSeen,
        latest: Timestamp,
    ) -> Result<(), String> {
        if self.case(number).row.is_none()
            && let Some(parent) = number.checked_sub(CHILD)
        {
            let shape = self.case(number).plan.shape;
            decision::follows_from(self.case(parent), shape, seen)?;
        }
        decision::written(world, self.case(number), seen, latest)
    }

    /// A node is about to make a call.
    pub(crate) fn sent(
        &mut self,
        world: &World,
        number: usize,
        node: usize,
        call: &Call,
    ) -> Result<(), String> {
        calls::sent(world, self.case(number), node, call)
    }

    /// A node has seen what came of a call.
    pub(crate) fn heard(&mut self, number: usize, process: Process, call: &Call, answer: &Answer) -> Checked {
        calls::heard(self.case(number), process, call, answer)
    }

    /// A local transaction of an initiator's committed, or is barred.
    pub(crate) fn fact(&mut self, number: usize, fact: Fact) -> Checked {
        sender::fact(self.case(number), fact)
    }

    /// An initiator's check was answered.
    pub(crate) fn checked(&mut self, world: &World, number: usize, status: u16, forgotten: bool) -> Checked {
        sender::checked(world, self.case(number), status, forgotten)
    }

    /// A participant that began a transaction of its own has answered.
    pub(crate) fn nested(&mut self, number: usize, branch: &BranchId, operation: Operation, status: u16) {
        nested::answered(self.case(number), place(branch), operation, status);
    }

    /// A participant's local transaction committed with an effect.
    pub(crate) fn effect(
        &mut self,
        number: usize,
        branch: &BranchId,
        operation: Operation,
    ) -> Result<(), String> {
        guard::effect(self.case(number), branch, operation)
    }

    /// A participant has answered.
    pub(crate) fn answered(
        &mut self,
        world: &World,
        number: usize,
        branch: &BranchId,
        answered: Answered<'_>,
    ) -> Result<(), String> {
        guard::answered(world, self.case(number), branch, answered)
    }

    /// A coordinator has answered its caller.
    pub(crate) fn told(
        &mut self,
        world: &World,
        number: usize,
        before: Before,
        ask: &Ask,
        told: &Told,
    ) -> Result<(), String> {
        answers::told(world, self.case(number), before, ask, told)
    }
}
