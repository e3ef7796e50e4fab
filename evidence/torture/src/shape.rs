//! The transactions that are tortured: every shape, and every way it can end.

use std::time::Duration;

use tcc_core::Decider;
use tcc_core::store::Step;
use tcc_server::crash::Site;

use crate::words::words;
use crate::work::Kind;

words! {
    /// A shape: a way to fill in a transaction.
    pub enum Shape {
        /// Reservations, tried by the coordinator at once.
        Tcc = "tcc",
        /// The same, one after the other, with a deadline that comes from a reservation.
        TccInOrder = "tcc-in-order",
        /// Reservations, registered and tried by the initiator.
        TccByInitiator = "tcc-by-initiator",
        /// Reservations of which the second is held back.
        Delayed = "delayed",
        /// Actions one after the other, compensated in reverse.
        Saga = "saga",
        /// Actions at once.
        SagaConcurrent = "saga-concurrent",
        /// Actions in a graph: two between a first and a last.
        SagaGraph = "saga-graph",
        /// Actions made by the initiator, compensated by the coordinator.
        SagaByInitiator = "saga-by-initiator",
        /// Actions that are only ever confirmed, the second held back.
        ForwardOnly = "forward-only",
        /// A reservation, a step that cannot be undone, and what must follow it.
        Pivot = "pivot",
        /// A message that goes with a local transaction, of which the initiator tells.
        Message = "message",
        /// The same, of which the initiator has to be asked.
        MessageChecked = "message-checked",
        /// A message that is taken back.
        MessageCompensated = "message-compensated",
        /// A notification that is given up after a few calls, and one that is not.
        Notification = "notification",
        /// Reservations, an action, a try that needs no cancel and a message, tried by the coordinator.
        Mixed = "mixed",
        /// An action tried by the coordinator, a message, and reservations tried by the initiator.
        MixedByInitiator = "mixed-by-initiator",
        /// A cancel of what nobody began, and the begin that comes too late.
        CancelFirst = "cancel-first",
    }
}

words! {
    /// How a transaction ends.
    pub enum Outcome {
        /// Everything is done.
        Confirmed = "confirmed",
        /// Somebody said no.
        Cancelled = "cancelled",
        /// The deadline decided.
        Expired = "expired",
        /// Decided to be done, and a notification was given up.
        Abandoned = "abandoned",
    }
}

words! {
    /// What is called of a branch, and who tries it: every way that the core takes.
    pub enum Way {
        /// The coordinator tries, confirms and cancels.
        Reserves = "reserves",
        /// The initiator tries; the coordinator confirms and cancels.
        ReservesByInitiator = "reserves-by-initiator",
        /// The coordinator tries and cancels.
        Acts = "acts",
        /// The initiator tries; the coordinator cancels.
        ActsByInitiator = "acts-by-initiator",
        /// The coordinator tries; there is nothing to cancel.
        Turns = "turns",
        /// The coordinator tries and confirms; there is nothing to cancel.
        Notes = "notes",
        /// The coordinator confirms.
        Delivers = "delivers",
    }
}

impl Way {
    /// Whether it has a `try`, a `confirm` and a `cancel` to be called by the coordinator.
    #[must_use]
    pub const fn endpoints(self) -> [bool; 3] {
        match self {
            Self::Reserves => [true, true, true],
            Self::ReservesByInitiator => [false, true, true],
            Self::Acts => [true, false, true],
            Self::ActsByInitiator => [false, false, true],
            Self::Turns => [true, false, false],
            Self::Notes => [true, true, false],
            Self::Delivers => [false, true, false],
        }
    }

    /// Whether the initiator tries it.
    #[must_use]
    pub const fn by_initiator(self) -> bool {
        matches!(self.endpoints(), [false, _, true])
    }

    /// Whether anybody tries it.
    #[must_use]
    pub const fn is_tried(self) -> bool {
        self.endpoints()[0] || self.by_initiator()
    }
}

/// A branch as its shape has it.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Its id.
    pub id: &'static str,
    /// What is called of it.
    pub way: Way,
    /// What it does.
    pub kind: Kind,
    /// To how many.
    pub n: i64,
    /// Which of the two services it is at.
    pub service: usize,
    /// The branches before it.
    pub after: &'static [&'static str],
    /// How long it is held back.
    pub delay: Option<Duration>,
    /// Whether it is given up in the end.
    pub ladder: bool,
}

/// A branch after no other, with what it does where it is done and to as many as is usual.
const fn step(id: &'static str, way: Way, kind: Kind) -> Branch {
    let (n, service) = match kind {
        Kind::Debit | Kind::Pay => (7, 0),
        Kind::Credit | Kind::Gain => (7, 1),
        Kind::Reserve | Kind::Ship => (2, 0),
        Kind::Tell => (1, 1),
    };
    Branch { id, way, kind, n, service, after: &[], delay: None, ladder: false }
}

/// Longer than a driver waits for what is due soon, however slowly it gets there.
const DELAY: Duration = Duration::from_millis(1200);

impl Branch {
    const fn after(mut self, after: &'static [&'static str]) -> Self {
        self.after = after;
        self
    }

    /// At the other service than is usual.
    const fn there(mut self) -> Self {
        self.service = 1 - self.service;
        self
    }

    const fn delayed(mut self) -> Self {
        self.delay = Some(DELAY);
        self
    }

    const fn given_up(mut self) -> Self {
        self.ladder = true;
        self
    }
}

impl Shape {
    /// How it can end.
    #[must_use]
    pub const fn outcomes(self) -> &'static [Outcome] {
        use Outcome::{Abandoned, Cancelled, Confirmed, Expired};
        match self {
            Self::Tcc
            | Self::TccInOrder
            | Self::TccByInitiator
            | Self::Saga
            | Self::SagaByInitiator
            | Self::Pivot
            | Self::Mixed
            | Self::MixedByInitiator => &[Confirmed, Cancelled, Expired],
            Self::Delayed
            | Self::SagaConcurrent
            | Self::SagaGraph
            | Self::Message
            | Self::MessageChecked
            | Self::MessageCompensated => &[Confirmed, Cancelled],
            Self::ForwardOnly => &[Confirmed],
            Self::Notification => &[Confirmed, Abandoned],
            Self::CancelFirst => &[Cancelled],
        }
    }

    /// Who decides.
    #[must_use]
    pub const fn decider(self) -> Decider {
        match self {
            Self::Tcc
            | Self::TccInOrder
            | Self::Delayed
            | Self::Saga
            | Self::SagaConcurrent
            | Self::SagaGraph
            | Self::ForwardOnly
            | Self::Pivot
            | Self::MessageCompensated
            | Self::Notification
            | Self::Mixed
            | Self::CancelFirst => Decider::Coordinator,
            Self::TccByInitiator
            | Self::SagaByInitiator
            | Self::Message
            | Self::MessageChecked
            | Self::MixedByInitiator => Decider::Initiator,
        }
    }

    /// Whether the initiator has a local transaction that the coordinator may ask about.
    #[must_use]
    pub const fn checks(self) -> bool {
        matches!(self, Self::Message | Self::MessageChecked)
    }

    /// Its branches. Money goes from the first service to the second.
    #[must_use]
    pub fn branches(self) -> Vec<Branch> {
        use Kind::{Credit, Debit, Gain, Pay, Reserve, Ship, Tell};
        use Way::{Acts, ActsByInitiator, Delivers, Notes, Reserves, ReservesByInitiator, Turns};
        match self {
            Self::Tcc | Self::CancelFirst => {
                vec![step("a", Reserves, Debit), step("b", Reserves, Reserve), step("c", Reserves, Credit)]
            }
            Self::TccInOrder => vec![step("a", Reserves, Debit), step("b", Reserves, Credit).after(&["a"])],
            Self::TccByInitiator => {
                vec![step("a", ReservesByInitiator, Debit), step("b", ReservesByInitiator, Credit)]
            }
            Self::Delayed => {
                vec![step("a", Reserves, Debit), step("b", Reserves, Credit).after(&["a"]).delayed()]
            }
            Self::Saga => vec![
                step("a", Acts, Pay),
                step("b", Acts, Gain).after(&["a"]),
                step("c", Acts, Ship).there().after(&["b"]),
            ],
            Self::SagaConcurrent => vec![step("a", Acts, Pay), step("b", Acts, Gain)],
            Self::SagaGraph => vec![
                step("a", Acts, Ship),
                step("b", Acts, Pay).after(&["a"]),
                step("c", Acts, Gain).after(&["a"]),
                step("d", Acts, Tell).after(&["b", "c"]),
            ],
            Self::SagaByInitiator => {
                vec![step("a", ActsByInitiator, Pay), step("b", ActsByInitiator, Gain).after(&["a"])]
            }
            Self::ForwardOnly => {
                vec![step("a", Delivers, Pay), step("b", Delivers, Gain).after(&["a"]).delayed()]
            }
            Self::Pivot => vec![
                step("a", Reserves, Debit),
                step("b", Turns, Tell).after(&["a"]),
                step("c", Delivers, Gain).after(&["b"]),
            ],
            Self::Message | Self::MessageChecked => {
                vec![step("a", Delivers, Gain), step("b", Delivers, Tell).there().after(&["a"])]
            }
            Self::MessageCompensated => vec![step("a", Acts, Gain), step("b", Acts, Pay).after(&["a"])],
            Self::Notification => {
                vec![step("a", Delivers, Tell).given_up(), step("b", Delivers, Tell).there().after(&["a"])]
            }
            Self::Mixed => vec![
                step("a", Reserves, Debit),
                step("b", Reserves, Credit),
                step("c", Notes, Tell),
                step("d", Acts, Ship).after(&["a"]),
                step("e", Delivers, Tell).there().after(&["d"]),
            ],
            Self::MixedByInitiator => vec![
                step("a", Acts, Ship),
                step("b", ReservesByInitiator, Debit),
                step("c", ReservesByInitiator, Credit),
                step("d", Delivers, Tell).after(&["c"]),
            ],
        }
    }

    /// The branch that says no, or never answers, where that is the outcome: the last of those that are tried.
    #[must_use]
    pub fn culprit(self) -> Option<&'static str> {
        self.branches().iter().rev().find(|branch| branch.way.is_tried()).map(|branch| branch.id)
    }

    /// How many of its branches come with its begin; the others are registered one by one.
    #[must_use]
    pub fn at_begin(self) -> usize {
        match self {
            Self::TccByInitiator | Self::SagaByInitiator => 0,
            Self::MixedByInitiator => 1,
            Self::Tcc
            | Self::TccInOrder
            | Self::Delayed
            | Self::Saga
            | Self::SagaConcurrent
            | Self::SagaGraph
            | Self::ForwardOnly
            | Self::Pivot
            | Self::Message
            | Self::MessageChecked
            | Self::MessageCompensated
            | Self::Notification
            | Self::Mixed
            | Self::CancelFirst => self.branches().len(),
        }
    }

    /// How many durable writes of a site there are when nothing goes wrong: so many surely, and never more than so many.
    /// Cells find out whether this is so.
    #[must_use]
    pub const fn writes(self, outcome: Outcome, site: Site) -> (u32, u32) {
        match site {
            Site::Step(Step::Begin) | Site::Purge => (1, 1),
            Site::Step(Step::Decision) if self.decided_at_begin() => (0, 0),
            Site::Step(Step::Decision) => (1, 1),
            Site::Step(Step::End) if self.ends_with_decision(outcome) => (0, 0),
            Site::Step(Step::End) => (1, 1),
            Site::Step(Step::Progress) => self.progress(outcome),
        }
    }

    /// Why there is no such write.
    #[must_use]
    pub const fn why_none(self, outcome: Outcome, site: Site) -> Option<&'static str> {
        let (surely, _) = self.writes(outcome, site);
        if surely > 0 {
            return None;
        }
        Some(match site {
            Site::Step(Step::Begin) | Site::Purge => "there is always one",
            Site::Step(Step::Decision) => "nothing has to be waited for, so its begin decides",
            Site::Step(Step::End) => "nothing is called after the decision, so its write is the end",
            Site::Step(Step::Progress) => {
                "no result in between is waited for, so it rides along with the next write"
            }
        })
    }

    const fn decided_at_begin(self) -> bool {
        matches!(self, Self::ForwardOnly | Self::Notification | Self::CancelFirst)
    }

    const fn ends_with_decision(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Confirmed => matches!(
                self,
                Self::Saga
                    | Self::SagaConcurrent
                    | Self::SagaGraph
                    | Self::SagaByInitiator
                    | Self::MessageCompensated
            ),
            Outcome::Cancelled => matches!(self, Self::Message | Self::MessageChecked | Self::CancelFirst),
            Outcome::Expired | Outcome::Abandoned => false,
        }
    }

    const fn progress(self, outcome: Outcome) -> (u32, u32) {
        let confirmed = matches!(outcome, Outcome::Confirmed | Outcome::Abandoned);
        let exactly = match self {
            Self::Tcc | Self::SagaConcurrent | Self::CancelFirst => 0,
            // Something released by each `after`, tries as well as confirms or cancels.
            Self::TccInOrder => 2,
            Self::MessageCompensated => {
                if confirmed {
                    1
                } else {
                    2
                }
            }
            Self::Saga | Self::SagaGraph => {
                if confirmed {
                    2
                } else {
                    4
                }
            }
            Self::Pivot => {
                if confirmed {
                    2
                } else {
                    1
                }
            }
            Self::Message | Self::MessageChecked => {
                if confirmed {
                    1
                } else {
                    0
                }
            }
            Self::Notification => 1,
            Self::Mixed => 2,
            // Each register; where the compensations are in order, one of them.
            Self::TccByInitiator => 2,
            Self::SagaByInitiator => {
                if confirmed {
                    2
                } else {
                    3
                }
            }
            // What is held back for long is given back to the store.
            Self::Delayed => 3,
            Self::ForwardOnly => 2,
            // The try, giving it back to the store, the registers; and giving it back again where these came between.
            Self::MixedByInitiator => {
                return match outcome {
                    Outcome::Confirmed | Outcome::Abandoned => (6, 9),
                    Outcome::Cancelled => (4, 6),
                    Outcome::Expired => (5, 8),
                };
            }
        };
        (exactly, exactly)
    }
}
