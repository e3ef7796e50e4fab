//! A message whose sender says nothing more once its local transaction is over, or never begins it: it has to be asked.
//!
//! Its progress: the first of two who are told is told, which frees the second. A message that is dropped has nothing to
//! call: the decision's write is the end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tcc_client::{
    BoxError, Branch, Call, Database, Message, MessageError, Participants, Receiver, Retry, SqliteDatabase,
};
use tcc_tests::{Fault, Times};
use tokio::task::JoinHandle;

use crate::coordinator::Coordinator;
use crate::world::eventually;

const GID: &str = "order/1042";

/// Somebody who is told of orders.
struct Told(&'static str);

impl Receiver for Told {
    type Database = SqliteDatabase;
    type Message = i64;

    async fn receive(
        &self,
        _: &Call,
        order: &i64,
        tx: &mut <SqliteDatabase as Database>::Tx,
    ) -> Result<(), BoxError> {
        tx.execute("INSERT INTO told VALUES (?1, ?2)", (self.0, order))?;
        Ok(())
    }
}

/// A shop that sends messages, and two who receive them: one database, served by this process, which does not die.
struct Shop {
    coordinator: Coordinator,
    db: SqliteDatabase,
    at: String,
}

impl Shop {
    /// With a coordinator that will end itself at a point.
    async fn doomed(at: &str) -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        let db = SqliteDatabase::open(directory.path().join("shop.db")).expect("a database");
        db.create_schema().await.expect("a guard");
        let tables = "CREATE TABLE orders (number INTEGER); CREATE TABLE told (who TEXT, number INTEGER)";
        db.with(|connection| connection.execute_batch(tables)).await.expect("tables");
        let participants = Participants::new()
            .senders("orders", db.clone())
            .receiver("points", Told("points"), db.clone())
            .receiver("mail", Told("mail"), db.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = axum::Router::new().fallback_service(participants);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut coordinator = Coordinator::asleep(directory, &[]).await;
        coordinator.start_doomed(at).await;
        Self { coordinator, db, at: format!("http://{address}") }
    }

    fn message(&self) -> Message {
        let tell = |who: &str| {
            Branch::new(who)
                .confirm(format!("{}/{who}/confirm", self.at))
                .payload(&1042)
                .expect("JSON")
                .retry(Retry::Exponential {
                    first: Duration::from_millis(20),
                    longest: Duration::from_millis(100),
                })
        };
        self.coordinator
            .client()
            .message(GID.parse().expect("a gid"), format!("{}/orders/check", self.at))
            .check_after(Duration::from_millis(300))
            .deliver(tell("points"))
            .deliver(tell("mail").after("points"))
    }

    /// Places an order, and has the others told.
    fn sends(&self) -> JoinHandle<Result<(), MessageError>> {
        let (message, db) = (self.message(), self.db.clone());
        tokio::spawn(async move {
            let sent = message.send(&db, |tx| {
                Box::pin(async move {
                    tx.execute("INSERT INTO orders VALUES (1042)", [])?;
                    Ok(())
                })
            });
            sent.await
        })
    }

    /// Waits until the message is begun and has ended.
    async fn ended(&self) -> Value {
        eventually("the end of the message", async || {
            let (status, view) = self.coordinator.view(GID).await;
            let ended = ["Confirmed", "Cancelled"].iter().any(|phase| view["phase"] == json!(phase));
            (status == 200 && ended).then_some(view)
        })
        .await
    }

    /// The orders, who was told, and the sender's row.
    async fn books(&self) -> (i64, Vec<String>, String) {
        let read = self.db.with(|connection| {
            let orders = connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0))?;
            let mut told = connection.prepare("SELECT who || ' ' || number FROM told ORDER BY who")?;
            let told = told.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let sender = "SELECT state FROM tcc_guard WHERE branch = 'tcc/sender'";
            Ok((orders, told, connection.query_row(sender, [], |row| row.get(0))?))
        });
        read.await.expect("they can be read")
    }
}

/// The local transaction commits, and its sender's word never arrives.
async fn is_delivered(at: &str) {
    let mut shop = Shop::doomed(at).await;
    shop.coordinator.proxy.inflict(Fault::LoseRequest, Times::Always, "POST", "/confirm");
    let sending = shop.sends();
    shop.coordinator.dies_and_comes_back().await;
    let view = shop.ended().await;
    sending.abort();
    assert_eq!(
        (&view["phase"], &view["reason"]),
        (&json!("Confirmed"), &json!("the check answered: committed"))
    );
    let told = vec!["mail 1042".to_owned(), "points 1042".to_owned()];
    assert_eq!(shop.books().await, (1, told, "confirmed".to_owned()));
}

/// The local transaction is never begun before the check, which bars it.
async fn is_dropped(shop: &mut Shop, dies: bool) {
    shop.coordinator.proxy.inflict(Fault::LoseReply, Times::Always, "POST", "/transactions");
    let sending = shop.sends();
    if dies {
        shop.coordinator.dies_and_comes_back().await;
    }
    let view = shop.ended().await;
    assert_eq!(view["phase"], json!("Cancelled"), "{view}");
    assert!(view["reason"].as_str().is_some_and(|why| why.starts_with("the check answered: ")), "{view}");
    shop.coordinator.proxy.heal();
    let sent = sending.await.expect("it does not panic");
    assert!(matches!(sent, Err(MessageError::Dropped)), "{sent:?}");
    assert_eq!(shop.books().await, (0, Vec::new(), "cancelled".to_owned()));
}

async fn killed_and_dropped(at: &str) {
    is_dropped(&mut Shop::doomed(at).await, true).await;
}

#[tokio::test]
async fn cancel_path_there_is_no_write_but_the_begin_and_the_decision() {
    for at in ["progress:before", "end:before"] {
        is_dropped(&mut Shop::doomed(at).await, false).await;
    }
}

#[tokio::test]
async fn confirm_path_killed_before_the_begin() {
    is_delivered("begin:before").await;
}

#[tokio::test]
async fn confirm_path_killed_after_the_begin() {
    is_delivered("begin:after").await;
}

#[tokio::test]
async fn confirm_path_killed_before_the_progress() {
    is_delivered("progress:before").await;
}

#[tokio::test]
async fn confirm_path_killed_after_the_progress() {
    is_delivered("progress:after").await;
}

#[tokio::test]
async fn confirm_path_killed_before_the_decision() {
    is_delivered("decision:before").await;
}

#[tokio::test]
async fn confirm_path_killed_after_the_decision() {
    is_delivered("decision:after").await;
}

#[tokio::test]
async fn confirm_path_killed_before_the_end() {
    is_delivered("end:before").await;
}

#[tokio::test]
async fn confirm_path_killed_after_the_end() {
    is_delivered("end:after").await;
}

#[tokio::test]
async fn cancel_path_killed_before_the_begin() {
    killed_and_dropped("begin:before").await;
}

#[tokio::test]
async fn cancel_path_killed_after_the_begin() {
    killed_and_dropped("begin:after").await;
}

#[tokio::test]
async fn cancel_path_killed_before_the_decision() {
    killed_and_dropped("decision:before").await;
}

#[tokio::test]
async fn cancel_path_killed_after_the_decision() {
    killed_and_dropped("decision:after").await;
}
