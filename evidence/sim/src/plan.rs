//! What a transaction is to be: every shape that the core knows, drawn from the seed and its number alone, so that
//! it is the same whichever others take place.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tcc_core::wire::{BeginRequest, BranchRequest, RetryRequest};
use tcc_core::{Begin, Invalid};

use crate::book::{self, CHILD};
use crate::business::{ACCOUNTS, Kind, Work};
use crate::service::{CHECK, INBOX, SERVICES};

/// The shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    TccCoordinator,
    TccInitiator,
    SagaSequence,
    SagaConcurrent,
    SagaGraph,
    ForwardOnly,
    Pivot,
    Message,
    Ladder,
    MessageCompensated,
    Mixed,
    MixedInitiator,
    /// One of its branches is a participant that begins a transaction of its own.
    Nested,
    /// What that participant begins.
    Inner,
    /// What an operator has delivered anew of a ladder that came to its end.
    Resent,
}

impl Shape {
    /// Those that initiators begin of their own accord.
    pub(crate) const ALL: [Self; 13] = [
        Self::TccCoordinator,
        Self::TccInitiator,
        Self::SagaSequence,
        Self::SagaConcurrent,
        Self::SagaGraph,
        Self::ForwardOnly,
        Self::Pivot,
        Self::Message,
        Self::Ladder,
        Self::MessageCompensated,
        Self::Mixed,
        Self::MixedInitiator,
        Self::Nested,
    ];
}

/// Who tries a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TriedBy {
    Coordinator,
    Initiator,
    /// It has no try: its confirm alone delivers.
    Nobody,
}

/// One branch.
#[derive(Clone, Debug)]
pub(crate) struct BranchPlan {
    pub(crate) work: Work,
    pub(crate) service: usize,
    pub(crate) after: Vec<usize>,
    pub(crate) tried_by: TriedBy,
    /// Whether it has a confirm; a step of a saga has none.
    pub(crate) confirms: bool,
    /// Whether its try can be undone.
    pub(crate) cancels: bool,
    /// Whether its participant begins a transaction of its own.
    pub(crate) nests: bool,
    pub(crate) ladder: Option<Vec<u64>>,
    delay_ms: Option<u64>,
    pub(crate) reserves_ms: Option<u64>,
    timeout_ms: Option<u64>,
    retry_ms: (u64, u64),
}

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    /// When it begins, in thousandths of the time in which initiators are busy.
    pub(crate) start: u64,
    pub(crate) by_initiator: bool,
    pub(crate) timeout_ms: u64,
    /// The participant in whose database its initiator's local transaction is, where it has one and is asked about it.
    pub(crate) sender: Option<usize>,
    check_after_ms: u64,
    /// How many of its branches come with its begin.
    pub(crate) at_begin: usize,
    pub(crate) branches: Vec<BranchPlan>,
    /// For each of them all that come before it, across others.
    pub(crate) in_front: Vec<Vec<usize>>,
    /// The transaction that may follow from it.
    pub(crate) child: Option<Arc<Self>>,
    /// Each of them as it is written in a request.
    written: Vec<BranchRequest>,
    /// Its begin, read once: what coordinators are handed is a copy.
    begin: Option<Begin>,
}

impl BranchPlan {
    fn write(&self, i: usize) -> BranchRequest {
        let whom = if self.nests { "nested" } else { "clerk" };
        let at = |word| Some(format!("sim:p{}/{whom}/{word}", self.service));
        let inbox = self.tried_by == TriedBy::Nobody;
        let payload =
            serde_json::to_string(&self.work).ok().and_then(|json| RawValue::from_string(json).ok());
        BranchRequest {
            id: format!("b{i}"),
            after: self.after.iter().map(|j| format!("b{j}")).collect(),
            try_: if self.tried_by == TriedBy::Coordinator { at("try") } else { None },
            confirm: match (inbox, self.confirms) {
                (true, _) => Some(format!("sim:p{}/{INBOX}", self.service)),
                (false, true) => at("confirm"),
                (false, false) => None,
            },
            cancel: match (inbox, self.cancels) {
                (true, _) => None,
                (false, true) => at("cancel"),
                (false, false) => Some("none".to_owned()),
            },
            payload: payload.map(Arc::from),
            retry: Some(match &self.ladder {
                Some(waits) => RetryRequest {
                    intervals_ms: Some(waits.clone()),
                    give_up: true,
                    ..RetryRequest::default()
                },
                None => RetryRequest {
                    first_ms: Some(self.retry_ms.0),
                    longest_ms: Some(self.retry_ms.1),
                    ..RetryRequest::default()
                },
            }),
            delay_ms: self.delay_ms,
            reserves_ms: self.reserves_ms,
            timeout_ms: self.timeout_ms,
            ..BranchRequest::default()
        }
    }
}

/// A step on the way to a branch.
struct Draft<'a>(&'a mut fastrand::Rng);

impl Draft<'_> {
    fn branch(&mut self, kind: Kind, n: i64, tried_by: TriedBy) -> BranchPlan {
        let dice = &mut *self.0;
        let first = [50, 200, 500][dice.usize(0..3)];
        BranchPlan {
            work: Work { kind, row: dice.usize(0..ACCOUNTS), n },
            service: dice.usize(0..SERVICES),
            after: Vec::new(),
            tried_by,
            confirms: !matches!(kind, Kind::Pay | Kind::Gain) || tried_by == TriedBy::Nobody,
            cancels: true,
            nests: false,
            ladder: None,
            delay_ms: (dice.u32(0..12) == 0).then(|| dice.u64(1..8_000)),
            reserves_ms: None,
            timeout_ms: [Some(300), Some(2_000), Some(5_000), None][dice.usize(0..4)],
            retry_ms: (first, [2_000, 10_000, 20_000][dice.usize(0..3)]),
        }
    }

    fn amount(&mut self) -> i64 {
        self.0.i64(1..60)
    }

    /// Money from one account to another.
    fn transfer(&mut self, from: Kind, to: Kind, tried_by: TriedBy) -> Vec<BranchPlan> {
        let n = self.amount();
        vec![self.branch(from, n, tried_by), self.branch(to, n, tried_by)]
    }

    fn reserve(&mut self, tried_by: TriedBy) -> BranchPlan {
        let n = self.0.i64(1..6);
        self.branch(Kind::Reserve, n, tried_by)
    }

    fn message(&mut self) -> BranchPlan {
        self.branch(Kind::Tell, 0, TriedBy::Nobody)
    }

    fn tcc(&mut self, tried_by: TriedBy) -> Vec<BranchPlan> {
        let mut branches = self.transfer(Kind::Debit, Kind::Credit, tried_by);
        if self.0.bool() {
            branches.push(self.reserve(tried_by));
        }
        for branch in &mut branches {
            branch.reserves_ms = (self.0.u32(0..10) == 0).then(|| self.0.u64(3_000..40_000));
        }
        branches
    }

    fn saga(&mut self) -> Vec<BranchPlan> {
        let mut branches = self.transfer(Kind::Pay, Kind::Gain, TriedBy::Coordinator);
        if self.0.bool() {
            branches.extend(self.transfer(Kind::Pay, Kind::Gain, TriedBy::Coordinator));
        }
        if self.0.bool() {
            branches.push(self.reserve(TriedBy::Coordinator));
        }
        branches
    }

    fn delivery(&mut self) -> Vec<BranchPlan> {
        let mut branches = self.transfer(Kind::Pay, Kind::Gain, TriedBy::Nobody);
        branches.push(self.message());
        branches
    }

    fn branches(&mut self, shape: Shape) -> Vec<BranchPlan> {
        use TriedBy::{Coordinator, Initiator};
        let mut branches = match shape {
            Shape::TccCoordinator => self.tcc(Coordinator),
            Shape::TccInitiator => self.tcc(Initiator),
            Shape::SagaSequence | Shape::SagaConcurrent | Shape::SagaGraph => self.saga(),
            Shape::ForwardOnly | Shape::Message => self.delivery(),
            Shape::Pivot => {
                let n = self.amount();
                let (pay, mut pivot) =
                    (self.branch(Kind::Pay, n, Coordinator), self.branch(Kind::Tell, 0, Coordinator));
                (pivot.confirms, pivot.cancels) = (false, false);
                vec![pay, pivot, self.branch(Kind::Gain, n, TriedBy::Nobody)]
            }
            Shape::Ladder => {
                let mut branches = vec![self.message(), self.message()];
                branches[0].ladder = Some((0..self.0.usize(1..4)).map(|_| self.0.u64(50..3_000)).collect());
                branches
            }
            Shape::MessageCompensated => self.transfer(Kind::Gain, Kind::Pay, Coordinator),
            Shape::Mixed => {
                let mut branches = self.tcc(Coordinator);
                branches.extend(self.transfer(Kind::Pay, Kind::Gain, Coordinator));
                branches.push(self.message());
                branches
            }
            Shape::MixedInitiator => {
                let mut branches = self.transfer(Kind::Pay, Kind::Gain, Coordinator);
                branches.push(self.message());
                branches.extend(self.tcc(Initiator));
                branches
            }
            Shape::Nested => {
                let mut branches = vec![self.branch(Kind::Tell, 0, Coordinator)];
                branches[0].nests = true;
                branches.extend(self.transfer(Kind::Debit, Kind::Credit, Coordinator));
                branches
            }
            Shape::Inner => self.transfer(Kind::Debit, Kind::Credit, Coordinator),
            Shape::Resent => Vec::new(),
        };
        for (i, branch) in branches.iter_mut().enumerate().skip(1) {
            let links = match shape {
                Shape::SagaSequence | Shape::Pivot | Shape::MessageCompensated => vec![i - 1],
                Shape::ForwardOnly if i == 1 => vec![0],
                Shape::SagaGraph | Shape::Mixed | Shape::Nested => {
                    (0..i).filter(|_| self.0.u32(0..3) == 0).collect()
                }
                Shape::TccCoordinator if self.0.u32(0..4) == 0 => vec![0],
                _ => Vec::new(),
            };
            branch.after = links;
        }
        branches
    }
}

/// Far beyond all leaps of the clock: what somebody else decides must not be decided by a deadline.
const FAR: u64 = 300 * 24 * 3_600_000;

impl Plan {
    /// The transaction of that number.
    pub(crate) fn draw(seed: u64, number: usize) -> Arc<Self> {
        let mixed = (seed ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ seed;
        let mut dice = fastrand::Rng::with_seed(mixed);
        let shape = Shape::ALL[dice.usize(0..Shape::ALL.len())];
        let branches = Draft(&mut dice).branches(shape);
        let mut plan = Self::of(shape, branches, &mut dice);
        plan.child = match shape {
            Shape::Nested => {
                let branches = Draft(&mut dice).branches(Shape::Inner);
                Some(Self::of(Shape::Inner, branches, &mut dice))
            }
            Shape::Ladder => {
                let given_up =
                    plan.branches.iter().filter(|branch| branch.ladder.is_some()).cloned().collect();
                Some(Self::of(Shape::Resent, given_up, &mut dice))
            }
            _ => None,
        }
        .map(|child| Arc::new(child.numbered(number + CHILD)));
        Arc::new(plan.numbered(number))
    }

    fn of(shape: Shape, branches: Vec<BranchPlan>, dice: &mut fastrand::Rng) -> Self {
        let by_initiator =
            matches!(shape, Shape::TccInitiator | Shape::MixedInitiator | Shape::Message | Shape::Inner);
        let at_begin = match shape {
            Shape::TccInitiator => dice.usize(0..=branches.len()),
            Shape::MixedInitiator => 3,
            _ => branches.len(),
        };
        let timeout_ms = [3_000, 10_000, 30_000, 60_000, 200_000][dice.usize(0..5)];
        Self {
            shape,
            start: dice.u64(0..1000),
            by_initiator,
            timeout_ms: if shape == Shape::Inner { FAR } else { timeout_ms },
            sender: (shape == Shape::Message).then(|| dice.usize(0..SERVICES)),
            check_after_ms: dice.u64(100..8_000),
            at_begin,
            written: branches.iter().enumerate().map(|(i, branch)| branch.write(i)).collect(),
            in_front: in_front(&branches),
            branches,
            child: None,
            begin: None,
        }
    }

    fn numbered(mut self, number: usize) -> Self {
        self.begin = self.request(number, self.timeout_ms).parse(|| unreachable!("it brings a gid")).ok();
        self
    }

    /// Its begin, or one with other content under the same gid.
    pub(crate) fn begin(&self, number: usize, reused: bool) -> Result<Begin, Invalid> {
        match &self.begin {
            Some(begin) if !reused => Ok(begin.clone()),
            _ => self
                .request(number, self.timeout_ms + u64::from(reused))
                .parse(|| unreachable!("it brings a gid")),
        }
    }

    fn request(&self, number: usize, timeout_ms: u64) -> BeginRequest {
        BeginRequest {
            gid: Some(book::name(number)),
            decider: Some(if self.by_initiator { "initiator" } else { "coordinator" }.to_owned()),
            timeout_ms: Some(timeout_ms),
            check: self.sender.map(|service| format!("sim:p{service}/{CHECK}")),
            check_after_ms: self.sender.map(|_| self.check_after_ms),
            parent: number.checked_sub(CHILD).map(book::name),
            branches: self.written[..self.at_begin].to_vec(),
        }
    }

    /// One of its branches.
    pub(crate) fn branch(&self, i: usize) -> BranchRequest {
        self.written[i].clone()
    }

    /// How long its branches are held back, one after another, and those of what follows from it.
    pub(crate) fn delays(&self) -> Duration {
        let own = self.branches.iter().filter_map(|branch| branch.delay_ms).sum();
        Duration::from_millis(own) + self.child.as_ref().map_or(Duration::ZERO, |child| child.delays())
    }

    /// Whether it calls a participant, or what follows from it does.
    pub(crate) fn calls(&self, service: usize) -> bool {
        self.sender == Some(service)
            || self.branches.iter().any(|branch| branch.service == service)
            || self.child.as_ref().is_some_and(|child| child.calls(service))
    }

    /// Whether it is decided by its begin: nothing has to be tried, and the coordinator decides.
    pub(crate) fn is_decided_at_begin(&self) -> bool {
        !self.by_initiator && self.branches.iter().all(|branch| branch.tried_by == TriedBy::Nobody)
    }

    /// How long a call of a branch may take.
    pub(crate) fn call_timeout(&self, i: usize) -> Duration {
        Duration::from_millis(self.branches[i].timeout_ms.unwrap_or(5_000))
    }

    /// The least time after its begin at which its deadline can decide.
    pub(crate) fn least_life(&self) -> Duration {
        let reserved = self.branches.iter().filter_map(|branch| branch.reserves_ms).min();
        Duration::from_millis(reserved.unwrap_or(u64::MAX).min(self.timeout_ms))
    }
}

/// For each branch all that come before it, across others. What a branch comes after stands before it in the list.
fn in_front(branches: &[BranchPlan]) -> Vec<Vec<usize>> {
    let mut in_front: Vec<Vec<usize>> = Vec::new();
    for branch in branches {
        let further = branch.after.iter().flat_map(|j| in_front[*j].iter().copied());
        let mut all: Vec<usize> = branch.after.iter().copied().chain(further).collect();
        all.sort_unstable();
        all.dedup();
        in_front.push(all);
    }
    in_front
}
