//! The participants of the shop keep every promise, and the shop's order ends well whatever happens on the way: both as an
//! application's own tests would say it.

use rusqlite::Connection;
use serde_json::json;
use tcc_client::Operation::{Confirm, Try};
use tcc_client::testing::{Conformance, Coordinator, Fault, Faults, Phase};
use tcc_examples::{inventory, payment};
use tempfile::TempDir;

/// The databases of the shop.
struct Shop(TempDir);

impl Shop {
    async fn open() -> (Self, axum::Router, axum::Router) {
        let shop = Self(tempfile::tempdir().unwrap());
        let payment = payment::service(&shop.0.path().join("payment.db")).await.unwrap();
        let inventory = inventory::service(&shop.0.path().join("inventory.db")).await.unwrap();
        let money = "INSERT INTO accounts VALUES ('alice', 5000, 0), ('shop', 0, 0)";
        shop.database("payment.db").execute_batch(money).unwrap();
        let goods = "INSERT INTO stock VALUES ('book', 100, 0, 0)";
        shop.database("inventory.db").execute_batch(goods).unwrap();
        (shop, payment, inventory)
    }

    fn database(&self, file: &str) -> Connection {
        Connection::open(self.0.path().join(file)).unwrap()
    }

    fn numbers(&self, file: &str, sql: &str) -> [i64; 3] {
        let row = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?]);
        self.database(file).query_row(sql, [], row).unwrap()
    }

    fn money(&self) -> [i64; 3] {
        let sql =
            "SELECT sum(available), sum(frozen), sum(available) FILTER (WHERE name = 'shop') FROM accounts";
        self.numbers("payment.db", sql)
    }

    fn goods(&self) -> [i64; 3] {
        self.numbers("inventory.db", "SELECT available, reserved, sold FROM stock")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payment_service_keeps_every_promise() {
    let (shop, payment, _) = Shop::open().await;
    let charge = |cents| json!({ "account": "alice", "cents": cents });
    let report = Conformance::of(payment, "/tcc/payment")
        .payload(&charge(10))
        .and_then(|it| it.refused_payload(&charge(9_999)))
        .unwrap()
        .effect(move || std::future::ready(Ok(shop.money())))
        .run()
        .await;
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_service_keeps_every_promise() {
    let (shop, _, inventory) = Shop::open().await;
    let reserve = |quantity| json!({ "item": "book", "quantity": quantity });
    let report = Conformance::of(inventory, "/tcc/inventory")
        .payload(&reserve(1))
        .and_then(|it| it.refused_payload(&reserve(1_000)))
        .unwrap()
        .effect(move || std::future::ready(Ok(shop.goods())))
        .run()
        .await;
    assert!(report.is_complete(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_survives_what_happens_on_its_way() {
    let (shop, payment, inventory) = Shop::open().await;
    let faults = Faults::none()
        .on("stock", Try, 1, Fault::LoseAnswer)
        .on("money", Try, 1, Fault::Double)
        .on("money", Confirm, 1, Fault::Crash)
        .on("stock", Confirm, 2, Fault::LoseRequest);
    let mut coordinator = Coordinator::new(faults)
        .participant("http://payment", payment)
        .participant("http://inventory", inventory);
    let order = |cents| {
        json!({ "branches": [
            { "id": "stock", "at": "http://inventory/tcc/inventory", "payload": { "item": "book", "quantity": 2 } },
            { "id": "money", "at": "http://payment/tcc/payment", "payload": { "account": "alice", "cents": cents } },
        ] })
    };
    let bought = coordinator.submit(&order(3998)).await;
    assert_eq!(bought.phase, Phase::Confirmed, "{coordinator}");
    let refused = coordinator.submit(&order(3998)).await;
    assert_eq!(refused.phase, Phase::Cancelled, "{coordinator}");
    assert_eq!(refused.reason.as_deref(), Some("branch money refused: insufficient funds"));
    assert_eq!((shop.money(), shop.goods()), ([5000, 0, 3998], [98, 0, 2]), "{coordinator}");
}
