//! What a branch does to the books of its service.

use serde::{Deserialize, Serialize};
use tcc_client::Operation;

/// What the books say, or how they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Money to be spent.
    pub available: i64,
    /// Money reserved to be taken.
    pub frozen: i64,
    /// Money announced.
    pub incoming: i64,
    /// Goods to be sold.
    pub on_hand: i64,
    /// Goods reserved.
    pub held: i64,
    /// Goods sold.
    pub sold: i64,
}

/// What every service has at first: no transaction is ever refused for lack of it.
pub const INITIAL: Sums =
    Sums { available: 1_000_000_000, frozen: 0, incoming: 0, on_hand: 1_000_000_000, held: 0, sold: 0 };

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Money is frozen, and taken when confirmed.
    Debit,
    /// Money is announced, and there when confirmed.
    Credit,
    /// Goods are held, and sold when confirmed.
    Reserve,
    /// Money is taken at once, and given back when cancelled.
    Pay,
    /// Money is there at once, and taken back when cancelled.
    Gain,
    /// Goods are sold at once, and taken back when cancelled.
    Ship,
    /// Somebody is told; nothing else changes.
    Tell,
}

/// What a branch carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work<M> {
    /// What is done.
    pub kind: Kind,
    /// Of how much.
    pub n: i64,
    /// What goes wrong.
    #[serde(default = "Vec::new")]
    pub faults: Vec<M>,
}

impl Kind {
    /// What an operation changes, each for one piece. `delivered` says that the branch has no other.
    #[must_use]
    pub fn change(self, operation: Operation, delivered: bool) -> Sums {
        let no = Sums::default();
        let back = |sums: Sums| no.plus(sums, -1);
        let held = match self {
            Self::Debit => Sums { available: -1, frozen: 1, ..no },
            Self::Credit => Sums { incoming: 1, ..no },
            Self::Reserve => Sums { on_hand: -1, held: 1, ..no },
            Self::Pay | Self::Gain | Self::Ship => self.net(),
            Self::Tell => no,
        };
        match operation {
            Operation::Try => held,
            Operation::Cancel => back(held),
            Operation::Confirm if delivered => self.net(),
            Operation::Confirm => self.net().plus(held, -1),
            Operation::Check => no,
        }
    }

    /// What is different when all is over and confirmed, for one piece.
    #[must_use]
    pub fn net(self) -> Sums {
        let no = Sums::default();
        match self {
            Self::Debit | Self::Pay => Sums { available: -1, ..no },
            Self::Credit | Self::Gain => Sums { available: 1, ..no },
            Self::Reserve | Self::Ship => Sums { on_hand: -1, sold: 1, ..no },
            Self::Tell => no,
        }
    }
}

impl Sums {
    /// These and so many times the others.
    #[must_use]
    pub const fn plus(self, other: Self, times: i64) -> Self {
        Self {
            available: self.available + times * other.available,
            frozen: self.frozen + times * other.frozen,
            incoming: self.incoming + times * other.incoming,
            on_hand: self.on_hand + times * other.on_hand,
            held: self.held + times * other.held,
            sold: self.sold + times * other.sold,
        }
    }
}
