//! Who orders what, how much there is of it, and where somebody is killed: the same for the same seed.

use std::collections::BTreeMap;

use fastrand::Rng;
use tcc_client::Gid;

use super::event::{Event, Moment, What, Who};
use super::role::Hold;
use crate::order::{Order, Style};

const CUSTOMERS: [&str; 8] = ["ada", "alan", "barbara", "dennis", "edsger", "frances", "ken", "margaret"];
/// Has enough for all she orders.
const RICH: &str = "grace";
/// Has nothing.
const POOR: &str = "zoe";

const ITEMS: [(&str, u32); 6] =
    [("book", 1_950), ("chair", 12_900), ("keyboard", 8_990), ("mug", 790), ("pen", 220), ("tent", 24_900)];
/// There is enough of it for all who order it.
const PLENTY: (&str, u32) = ("lamp", 2_990);

/// What a run of the demo is made of.
pub(super) struct Plan {
    pub(super) orders: Vec<Order>,
    /// Names and cents.
    pub(super) accounts: BTreeMap<String, u32>,
    /// Items and pieces.
    pub(super) stock: BTreeMap<String, u32>,
    pub(super) scenes: Vec<Scene>,
}

/// One kill: who is killed where.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) victim: Who,
    /// Whose call is held back until the victim is dead.
    pub(super) at: Who,
    pub(super) hold: Hold,
    /// Where that is, in words.
    pub(super) told: &'static str,
}

impl Plan {
    pub(super) fn new(orders: u32, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut orders: Vec<Order> = (1..=orders).map(|number| order(number, &mut random)).collect();
        let scenes = scenes(&mut orders);
        let (mut accounts, mut stock) = (BTreeMap::new(), BTreeMap::new());
        for order in &orders {
            *accounts.entry(order.account.clone()).or_default() += order.cents;
            *stock.entry(order.item.clone()).or_default() += order.quantity;
        }
        // Not enough for all: about half of the customers and of the shelves fall short.
        for (name, cents) in &mut accounts {
            *cents = share(*cents, if name == RICH { 100 } else { random.u32(60..=115) });
        }
        for (item, pieces) in &mut stock {
            *pieces = share(*pieces, if item == PLENTY.0 { 100 } else { random.u32(60..=115) });
        }
        accounts.insert(POOR.to_owned(), 0);
        accounts.insert("shop".to_owned(), 0);
        Self { orders, accounts, stock, scenes }
    }

    /// What is to be held back at a service.
    pub(super) fn holds<'a>(scenes: impl IntoIterator<Item = &'a Scene>, at: Who) -> Vec<Hold> {
        scenes.into_iter().filter(|scene| scene.at == at).map(|scene| scene.hold.clone()).collect()
    }
}

impl Scene {
    pub(super) fn is_reached_by(&self, event: &Event) -> bool {
        let Hold { moment, operation, gid } = &self.hold;
        matches!(&event.what, What::Held { operation: held, moment: when }
            if event.gid == *gid && held == operation && when == moment)
    }
}

fn order(number: u32, random: &mut Rng) -> Order {
    let (item, price) = ITEMS[random.usize(..ITEMS.len())];
    let quantity = random.u32(1..=3);
    Order {
        number: gid(number),
        account: CUSTOMERS[random.usize(..CUSTOMERS.len())].to_owned(),
        item: item.to_owned(),
        quantity,
        cents: quantity * price,
        style: if number.is_multiple_of(2) { Style::Submitted } else { Style::Closure },
    }
}

fn gid(number: u32) -> Gid {
    format!("order-{number:04}").parse().expect("letters and digits are a gid")
}

/// A share of what is asked for: all of it, or from a part to more than enough.
fn share(wanted: u32, percent: u32) -> u32 {
    u32::try_from(u64::from(wanted) * u64::from(percent) / 100).unwrap_or(u32::MAX)
}

/// Chooses the orders during which somebody is killed, and sees to it that they come that far.
fn scenes(orders: &mut [Order]) -> Vec<Scene> {
    let fifth = orders.len() / 5;
    let mut scene = |nth: usize, account: &str, victim, at, moment, operation, told| {
        let order = &mut orders[nth * fifth - 1];
        order.account = account.to_owned();
        order.item = PLENTY.0.to_owned();
        order.cents = order.quantity * PLENTY.1;
        order.style = if nth.is_multiple_of(2) { Style::Submitted } else { Style::Closure };
        Scene { victim, at, hold: Hold { moment, operation, gid: order.number.to_string() }, told }
    };
    use Moment::{After, Before};
    use Who::{Coordinator, Inventory, Payment};
    vec![
        scene(1, RICH, Payment, Payment, After, "try", "its try committed, not yet answered"),
        scene(2, RICH, Coordinator, Payment, Before, "confirm", "right after it decided to confirm"),
        scene(3, RICH, Inventory, Inventory, After, "confirm", "its confirm committed, not yet answered"),
        scene(4, POOR, Coordinator, Inventory, Before, "cancel", "right after it decided to cancel"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_orders_and_every_scene_its_own() {
        let (plan, again) = (Plan::new(10, 7), Plan::new(10, 7));
        let numbers = |plan: &Plan| serde_json::to_string(&plan.orders).unwrap();
        assert_eq!(numbers(&plan), numbers(&again));
        assert_ne!(numbers(&plan), numbers(&Plan::new(10, 8)));
        let mut gids: Vec<&str> = plan.scenes.iter().map(|scene| scene.hold.gid.as_str()).collect();
        gids.dedup();
        assert_eq!(gids, ["order-0002", "order-0004", "order-0006", "order-0008"]);
    }

    #[test]
    fn a_hold_is_read_as_it_is_written() {
        for scene in Plan::new(300, 1).scenes {
            assert_eq!(scene.hold.to_string().parse(), Ok(scene.hold));
        }
        assert!("confirm".parse::<Hold>().is_err());
    }
}
