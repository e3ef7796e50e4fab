//! The books, read from the databases themselves, and what must be true of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tcc_client::{BoxError, Decision, Phase};

use super::plan::Plan;
use crate::order::{Answer, Order};
use crate::{inventory, payment};

/// All money and all goods, wherever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) stock: BTreeMap<String, Goods>,
}

/// Cents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) available: i64,
    pub(super) frozen: i64,
}

/// Pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Goods {
    pub(super) available: i64,
    pub(super) reserved: i64,
    pub(super) sold: i64,
}

/// What became of an order.
pub(super) struct Outcome {
    pub(super) order: Order,
    /// What the order service said, in the end.
    pub(super) told: Answer,
    /// Where the coordinator says it stands, `None` if it could not be asked.
    pub(super) phase: Option<Phase>,
    /// Why, as the coordinator says.
    pub(super) reason: String,
}

/// Something that must be true.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) says: &'static str,
    pub(super) holds: bool,
}

/// Where the participants keep their part of them.
pub(super) fn payment_db(folder: &Path) -> PathBuf {
    folder.join("payment.db")
}

/// Where the participants keep their part of them.
pub(super) fn inventory_db(folder: &Path) -> PathBuf {
    folder.join("inventory.db")
}

impl Books {
    /// Fills the databases.
    pub(super) fn open(folder: &Path, plan: &Plan) -> Result<Self, BoxError> {
        let accounts = Connection::open(payment_db(folder))?;
        accounts.execute_batch(payment::SCHEMA)?;
        for row in &plan.accounts {
            accounts.execute("INSERT INTO accounts (name, available) VALUES (?1, ?2)", row)?;
        }
        let stock = Connection::open(inventory_db(folder))?;
        stock.execute_batch(inventory::SCHEMA)?;
        for row in &plan.stock {
            stock.execute("INSERT INTO stock (item, available) VALUES (?1, ?2)", row)?;
        }
        Self::read(folder)
    }

    /// What the databases say, while nobody writes to them.
    pub(super) fn read(folder: &Path) -> Result<Self, BoxError> {
        let mut books = Self::default();
        let accounts = Connection::open(payment_db(folder))?;
        let mut rows = accounts.prepare("SELECT name, available, frozen FROM accounts")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let account = Account { available: row.get(1)?, frozen: row.get(2)? };
            books.accounts.insert(row.get(0)?, account);
        }
        let stock = Connection::open(inventory_db(folder))?;
        let mut rows = stock.prepare("SELECT item, available, reserved, sold FROM stock")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let goods = Goods { available: row.get(1)?, reserved: row.get(2)?, sold: row.get(3)? };
            books.stock.insert(row.get(0)?, goods);
        }
        Ok(books)
    }

    pub(super) fn money(&self) -> i64 {
        self.accounts.values().map(|account| account.available + account.frozen).sum()
    }

    pub(super) fn shop(&self) -> i64 {
        self.accounts.get("shop").map_or(0, |shop| shop.available)
    }

    pub(super) fn frozen(&self) -> i64 {
        self.accounts.values().map(|account| account.frozen).sum()
    }

    pub(super) fn goods(&self) -> i64 {
        self.stock.values().map(|goods| goods.available + goods.reserved + goods.sold).sum()
    }

    pub(super) fn reserved(&self) -> i64 {
        self.stock.values().map(|goods| goods.reserved).sum()
    }

    pub(super) fn sold(&self) -> i64 {
        self.stock.values().map(|goods| goods.sold).sum()
    }

    /// What they must be once these orders have happened and nothing else has.
    fn with<'o>(&self, orders: impl Iterator<Item = &'o Order>) -> Self {
        let mut books = self.clone();
        for order in orders {
            let (cents, pieces) = (i64::from(order.cents), i64::from(order.quantity));
            books.accounts.entry(order.account.clone()).or_default().available -= cents;
            books.accounts.entry("shop".to_owned()).or_default().available += cents;
            let goods = books.stock.entry(order.item.clone()).or_default();
            goods.available -= pieces;
            goods.sold += pieces;
        }
        books
    }
}

impl Outcome {
    /// What was decided, if it was carried out everywhere.
    pub(super) fn ended(&self) -> Option<Decision> {
        self.phase.filter(|phase| phase.ended()).and_then(Phase::decision)
    }

    fn was_told_the_truth(&self) -> bool {
        match &self.told {
            Answer::Confirmed => self.ended() == Some(Decision::Confirm),
            Answer::Cancelled { .. } => self.ended() == Some(Decision::Cancel),
            Answer::Unknown { .. } => false,
        }
    }
}

/// Judges a run.
pub(super) fn audit(before: &Books, after: &Books, outcomes: &[Outcome]) -> Vec<Check> {
    let confirmed = outcomes.iter().filter(|outcome| outcome.ended() == Some(Decision::Confirm));
    let expected = before.with(confirmed.map(|outcome| &outcome.order));
    let check = |says, holds| Check { says, holds };
    vec![
        check("every order ended", outcomes.iter().all(|outcome| outcome.ended().is_some())),
        check("every customer was told what happened", outcomes.iter().all(Outcome::was_told_the_truth)),
        check("no money appeared or vanished", before.money() == after.money()),
        check("no goods appeared or vanished", before.goods() == after.goods()),
        check("nothing is left frozen or reserved", after.frozen() == 0 && after.reserved() == 0),
        check("each account and shelf is what the confirmed orders make of it", *after == expected),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::Style;

    fn outcome(told: Answer, phase: Phase) -> Outcome {
        let order = Order {
            number: "order-1".parse().unwrap(),
            account: "ada".into(),
            item: "mug".into(),
            quantity: 2,
            cents: 30,
            style: Style::Closure,
        };
        Outcome { order, told, phase: Some(phase), reason: String::new() }
    }

    fn books(ada: i64, frozen: i64, shop: i64, mugs: i64, reserved: i64, sold: i64) -> Books {
        Books {
            accounts: BTreeMap::from([
                ("ada".to_owned(), Account { available: ada, frozen }),
                ("shop".to_owned(), Account { available: shop, frozen: 0 }),
            ]),
            stock: BTreeMap::from([("mug".to_owned(), Goods { available: mugs, reserved, sold })]),
        }
    }

    fn faults(after: &Books, told: Answer, phase: Phase) -> Vec<&'static str> {
        let checks = audit(&books(100, 0, 0, 10, 0, 0), after, &[outcome(told, phase)]);
        checks.into_iter().filter(|check| !check.holds).map(|check| check.says).collect()
    }

    fn cancelled() -> Answer {
        Answer::Cancelled { reason: "insufficient funds".into() }
    }

    #[test]
    fn books_that_balance_pass() {
        assert!(faults(&books(70, 0, 30, 8, 0, 2), Answer::Confirmed, Phase::Confirmed).is_empty());
        assert!(faults(&books(100, 0, 0, 10, 0, 0), cancelled(), Phase::Cancelled).is_empty());
    }

    #[test]
    fn each_way_not_to_balance_is_named() {
        let exactly = "each account and shelf is what the confirmed orders make of it";
        for (after, named) in [
            (books(70, 0, 29, 8, 0, 2), vec!["no money appeared or vanished", exactly]),
            (books(70, 0, 30, 8, 0, 1), vec!["no goods appeared or vanished", exactly]),
            (books(70, 30, 0, 8, 0, 2), vec!["nothing is left frozen or reserved", exactly]),
            (books(70, 0, 30, 8, 2, 0), vec!["nothing is left frozen or reserved", exactly]),
            // Paid for and not handed over: all is conserved, and it is wrong all the same.
            (books(70, 0, 30, 10, 0, 0), vec![exactly]),
        ] {
            assert_eq!(faults(&after, Answer::Confirmed, Phase::Confirmed), named, "{after:?}");
        }
    }

    #[test]
    fn a_lie_and_an_order_without_an_end_are_faults() {
        let sold = books(70, 0, 30, 8, 0, 2);
        let told = "every customer was told what happened";
        assert_eq!(faults(&sold, cancelled(), Phase::Confirmed), [told]);
        let unknown = Answer::Unknown { why: "no answer".into() };
        assert_eq!(faults(&sold, unknown, Phase::Confirmed), [told]);
        let found = faults(&books(100, 0, 0, 10, 0, 0), Answer::Confirmed, Phase::Confirming);
        assert_eq!(found, ["every order ended", told]);
    }
}
