//! A state of the world in a few bytes: the store's one row, two nodes, the participants, the network, the initiator.

use tcc_core::Operation;

use crate::document::{Doc, Standing};
use crate::guard::{Party, Said};
use crate::shape::{BRANCHES, Budget, CHECK, Play};

/// How many coordinators there are over the store.
pub(crate) const NODES: usize = 2;
/// How many facts a node can have learned since its last save; the budgets keep it below.
pub(crate) const FACTS: usize = 6;

/// Something a node learned: an answer, its absence, or that the deadline has come. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Fact(u8);

/// A call of a node that is under way, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Slot(u8);

/// What the initiator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Begin,
    /// The branches of one of the shape's registers.
    Register(u8),
    /// Naming the first branch alone: the second was forgotten, or its register was never answered.
    ConfirmFirst,
    ConfirmAll,
    Cancel,
    /// An operator takes note of what calls for a human.
    Acknowledge,
}

/// A request's write of unknown outcome, which its node will offer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Offered {
    pub(crate) request: Request,
    pub(crate) doc: Doc,
    pub(crate) standing: Standing,
}

/// One coordinator: what it holds in memory, and loses when it crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Node {
    /// The copy its driver holds, with what it noted; 0 if it drives nothing.
    pub(crate) held: Doc,
    pub(crate) standing: Standing,
    /// What was learned since the last save.
    facts: [Fact; FACTS],
    learned: u8,
    /// How many of the facts the copy has in it.
    pub(crate) applied: u8,
    pub(crate) slots: [Slot; CHECK + 1],
}

/// The initiator's local transaction, which a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Local {
    #[default]
    Open,
    Committed,
    RolledBack,
}

/// What the initiator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Knows {
    pub(crate) begun: bool,
    pub(crate) registered: [bool; BRANCHES],
    pub(crate) tried: [bool; BRANCHES],
}

/// A state of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// What the store holds; 0 if nothing.
    pub(crate) row: Doc,
    pub(crate) purged: bool,
    /// The deadline has passed. A node whose clock is behind may still read otherwise.
    pub(crate) late: bool,
    pub(crate) nodes: [Node; NODES],
    pub(crate) offered: Option<Offered>,
    /// The branches' participants.
    pub(crate) parties: [Party; BRANCHES],
    /// Calls that a coordinator ever sent, a bit for each branch and operation. Any of them may arrive at any later time, and
    /// again, or never: a network that duplicates, reorders and holds back without bound.
    pub(crate) sent: u16,
    pub(crate) knows: Knows,
    pub(crate) local: Local,
    pub(crate) left: Budget,
}

const OPERATIONS: [Operation; 4] = [Operation::Try, Operation::Confirm, Operation::Cancel, Operation::Check];
const SAID: [Said; 5] = [Said::Done, Said::Pending, Said::Refused, Said::Nothing, Said::Alarm];

impl Fact {
    pub(crate) const EXPIRED: Self = Self(u8::MAX);

    pub(crate) const fn replied(place: usize, operation: Operation, said: Said) -> Self {
        Self(1 + (place as u8 * 4 + operation as u8) * 5 + said as u8)
    }

    /// The call and its answer, or nothing where it is the deadline's.
    pub(crate) const fn reply(self) -> Option<(usize, Operation, Said)> {
        if self.0 == Self::EXPIRED.0 {
            return None;
        }
        let code = self.0 as usize - 1;
        Some((code / 20, OPERATIONS[code / 5 % 4], SAID[code % 5]))
    }
}

impl Fact {
    /// Whether it is more than one call more that brought nothing: of those each counts.
    pub(crate) fn settles(self) -> bool {
        self.reply().is_none_or(|(_, _, said)| matches!(said, Said::Done | Said::Refused | Said::Alarm))
    }
}

impl Slot {
    pub(crate) const IDLE: Self = Self(0);

    pub(crate) const fn called(operation: Operation) -> Self {
        Self(1 + operation as u8)
    }

    pub(crate) const fn is_idle(self) -> bool {
        self.0 == 0
    }

    /// The operation that is under way.
    pub(crate) const fn operation(self) -> Option<Operation> {
        match self.0 {
            0 => None,
            code => Some(OPERATIONS[code as usize - 1]),
        }
    }
}

impl Request {
    pub(crate) const ALL: [Self; 7] = [
        Self::Begin,
        Self::Register(0),
        Self::Register(1),
        Self::ConfirmFirst,
        Self::ConfirmAll,
        Self::Cancel,
        Self::Acknowledge,
    ];
}

impl Node {
    pub(crate) fn facts(&self) -> &[Fact] {
        &self.facts[..usize::from(self.learned)]
    }

    pub(crate) fn push(&mut self, fact: Fact) {
        self.facts[usize::from(self.learned)] = fact;
        self.learned += 1;
    }

    /// Forgets the fact that comes next.
    pub(crate) fn forget(&mut self) {
        self.facts[usize::from(self.applied)..].rotate_left(1);
        self.learned -= 1;
        self.facts[usize::from(self.learned)..].fill(Fact::default());
    }

    /// Forgets the first `n` facts: they are saved.
    pub(crate) fn drain(&mut self, n: u8) {
        self.facts.rotate_left(usize::from(n));
        self.learned -= n;
        self.facts[usize::from(self.learned)..].fill(Fact::default());
    }

    /// Every fact is in the copy it holds.
    pub(crate) const fn is_settled(&self) -> bool {
        self.applied == self.learned
    }

    /// Its driver may act: it holds a copy, has nothing to take in, and waits for no commit.
    pub(crate) fn acts(&self) -> bool {
        self.held != 0 && self.is_settled() && self.standing != Standing::Mine
    }

    /// Its driver stops, and lets its calls go.
    pub(crate) fn stop_driving(&mut self) {
        *self = Self::default();
    }
}

impl World {
    pub(crate) fn new(left: Budget) -> Self {
        Self {
            row: 0,
            purged: false,
            late: false,
            nodes: [Node::default(); NODES],
            offered: None,
            parties: [Party::default(); BRANCHES],
            sent: 0,
            knows: Knows::default(),
            local: Local::Open,
            left,
        }
    }

    /// Whether a coordinator ever sent a call.
    pub(crate) const fn was_sent(&self, place: usize, operation: Operation) -> bool {
        self.sent & Self::sent_bit(place, operation) != 0
    }

    /// Whether the initiator, or an operator, may have asked for it by now. What it may ask for once it may ask for ever, so a request
    /// can arrive at any later moment, and again: that it was sent need not be remembered.
    pub(crate) fn may_ask(&self, play: Play, request: Request) -> bool {
        let knows = &self.knows;
        match (play, request) {
            (_, Request::Begin | Request::Acknowledge) | (Play::Tries | Play::Watches, Request::Cancel) => {
                true
            }
            (Play::Tries, Request::Register(i)) => {
                if i == 0 {
                    knows.begun
                } else {
                    knows.registered[usize::from(i) - 1]
                }
            }
            (Play::Tries, Request::ConfirmFirst) => knows.tried[0],
            (Play::Tries, Request::ConfirmAll) => knows.tried[0] && knows.tried[1],
            (Play::Commits, Request::ConfirmAll) => self.local == Local::Committed,
            (Play::Commits, Request::Cancel) => self.local == Local::RolledBack,
            (Play::Watches, Request::Register(_) | Request::ConfirmFirst | Request::ConfirmAll)
            | (Play::Commits, Request::Register(_) | Request::ConfirmFirst) => false,
        }
    }

    /// Whether a call may be on its way: a coordinator sent it, or the initiator, which tries what it registered.
    pub(crate) fn may_arrive(&self, play: Play, place: usize, operation: Operation) -> bool {
        let tried_by_initiator = play == Play::Tries && operation == Operation::Try;
        if tried_by_initiator { self.knows.registered[place] } else { self.was_sent(place, operation) }
    }

    /// The bits of every try.
    pub(crate) const TRIES: u16 = 0b001_001_001;

    /// The bit of a call; a check has none, for a late one says nothing new.
    pub(crate) const fn sent_bit(place: usize, operation: Operation) -> u16 {
        if place == CHECK { 0 } else { 1 << (place * 3 + operation as usize) }
    }

    /// Somebody wrote the row: every copy but the writer's is stale now.
    pub(crate) fn written(&mut self, doc: Doc) {
        self.row = doc;
        for node in &mut self.nodes {
            if node.held != 0 {
                node.standing = node.standing.overtaken();
            }
        }
        if let Some(offered) = &mut self.offered {
            offered.standing = offered.standing.overtaken();
        }
    }

    /// The nodes are alike, so of two states that differ only in which node is which, one is enough. Returns whether
    /// they changed places.
    pub(crate) fn in_order(mut self) -> (Self, bool) {
        let rank = |node: &Node| {
            let slots = node.slots.map(|slot| slot.0);
            (node.held, node.standing as u8, node.applied, slots, node.facts.map(|fact| fact.0))
        };
        let swapped = rank(&self.nodes[0]) < rank(&self.nodes[1]);
        if swapped {
            self.nodes.swap(0, 1);
        }
        (self, swapped)
    }
}
