//! What participants do: money and goods that only ever move.

use serde::{Deserialize, Serialize};
use tcc_core::Operation;

/// What a branch moves, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Money out, in two steps: frozen, then gone.
    Debit,
    /// Money in, in two steps: announced, then there.
    Credit,
    /// Goods, in two steps: held, then sold.
    Reserve,
    /// Money out at once, and back if it is compensated.
    Pay,
    /// Money in at once, and out again if it is compensated.
    Gain,
    /// Nothing but the fact.
    Tell,
}

/// A branch's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    pub(crate) row: usize,
    pub(crate) n: i64,
}

/// What a participant keeps of one customer and one kind of goods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) available: i64,
    pub(crate) frozen: i64,
    pub(crate) announced: i64,
    pub(crate) paid_out: i64,
    pub(crate) paid_in: i64,
    pub(crate) goods: i64,
    pub(crate) held: i64,
    pub(crate) sold: i64,
}

/// What each account begins with.
pub(crate) const MONEY: i64 = 80;
/// How many goods there are of each kind at first.
pub(crate) const GOODS: i64 = 15;
/// Accounts of one participant.
pub(crate) const ACCOUNTS: usize = 4;

impl Account {
    /// One at its beginning.
    pub(crate) fn new() -> Self {
        Self { available: MONEY, goods: GOODS, ..Self::default() }
    }

    /// What it is after an operation; `Err` says why the business will not do it.
    pub(crate) fn after(
        mut self,
        operation: Operation,
        Work { kind, n, .. }: Work,
    ) -> Result<Self, &'static str> {
        match (kind, operation) {
            (_, Operation::Check) | (Kind::Tell, _) => {}
            (Kind::Debit | Kind::Pay, Operation::Try) if self.available < n => return Err("no funds"),
            (Kind::Reserve, Operation::Try) if self.goods < n => return Err("sold out"),
            (Kind::Debit, Operation::Try) => {
                (self.available, self.frozen) = (self.available - n, self.frozen + n)
            }
            (Kind::Debit, Operation::Confirm) => {
                (self.frozen, self.paid_out) = (self.frozen - n, self.paid_out + n)
            }
            (Kind::Debit, Operation::Cancel) => {
                (self.frozen, self.available) = (self.frozen - n, self.available + n)
            }
            (Kind::Credit, Operation::Try) => self.announced += n,
            (Kind::Credit, Operation::Confirm) => {
                self.announced -= n;
                (self.available, self.paid_in) = (self.available + n, self.paid_in + n);
            }
            (Kind::Credit, Operation::Cancel) => self.announced -= n,
            (Kind::Reserve, Operation::Try) => (self.goods, self.held) = (self.goods - n, self.held + n),
            (Kind::Reserve, Operation::Confirm) => (self.held, self.sold) = (self.held - n, self.sold + n),
            (Kind::Reserve, Operation::Cancel) => (self.held, self.goods) = (self.held - n, self.goods + n),
            // In one step: by a try that stands, or by the confirm of a branch that has no try.
            (Kind::Pay, Operation::Try | Operation::Confirm) => {
                (self.available, self.paid_out) = (self.available - n, self.paid_out + n);
            }
            (Kind::Pay, Operation::Cancel) => {
                (self.available, self.paid_out) = (self.available + n, self.paid_out - n);
            }
            (Kind::Gain, Operation::Try | Operation::Confirm) => {
                (self.available, self.paid_in) = (self.available + n, self.paid_in + n);
            }
            (Kind::Gain, Operation::Cancel) => {
                (self.available, self.paid_in) = (self.available - n, self.paid_in - n);
            }
        }
        Ok(self)
    }

    /// Whether nothing was made or lost, at any moment.
    pub(crate) fn balances(&self) -> bool {
        self.available + self.frozen + self.paid_out - self.paid_in == MONEY
            && self.goods + self.held + self.sold == GOODS
            && self.frozen >= 0
            && self.announced >= 0
            && self.held >= 0
            && self.goods >= 0
    }

    /// Whether nothing is under way.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.frozen == 0 && self.announced == 0 && self.held == 0
    }
}
