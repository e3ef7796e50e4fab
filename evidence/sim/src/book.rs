//! What is known of every transaction, by looking at the store, at the participants and at the network: the truth
//! that the checkers hold everyone to.

use std::sync::Arc;

use tcc_client::Row;
use tcc_core::{BranchId, Call, Decision, Gid, Operation, Phase, Timestamp};

use crate::check::{answers, calls, decision, guard};
use crate::initiator::ask::{Ask, Told};
use crate::plan::Plan;
use crate::setup::Setup;
use crate::world::World;

/// All transactions of a world, by number.
pub(crate) struct Book {
    cases: Vec<Option<Case>>,
}

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
    /// Whether the initiator is still there.
    pub(crate) initiator_lives: bool,
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
}

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
    gid.as_str().strip_prefix('t').and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX)
}

/// The number in a branch's id.
pub(crate) fn place(branch: &BranchId) -> usize {
    branch.as_str()[1..].parse().expect("branches are called b0, b1, …")
}

impl Book {
    /// A book of the transactions that take place.
    pub(crate) fn new(setup: &Setup) -> Self {
        let mut cases = Vec::new();
        for number in &setup.cases {
            if cases.len() <= *number {
                cases.resize_with(number + 1, || None);
            }
            let plan = Plan::draw(setup.seed, *number);
            let mut branches = vec![BranchCase::default(); plan.branches.len()];
            branches.iter_mut().take(plan.at_begin).for_each(|branch| branch.registered = true);
            cases[*number] = Some(Case {
                row: None,
                decision: None,
                asked_confirm: false,
                asked_cancel: false,
                refused: false,
                told_new: false,
                fact: Fact::Open,
                initiator_lives: true,
                branches,
                plan,
            });
        }
        Self { cases }
    }

    /// A transaction.
    pub(crate) fn case(&mut self, number: usize) -> &mut Case {
        self.cases[number].as_mut().expect("a transaction that takes place")
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &Case)> {
        self.cases.iter().enumerate().filter_map(|(number, case)| Some((number, case.as_ref()?)))
    }

    /// What the store says was decided.
    pub(crate) fn decision(&self, number: usize) -> Option<Decision> {
        self.cases.get(number)?.as_ref()?.decision
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
