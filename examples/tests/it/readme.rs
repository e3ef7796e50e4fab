//! What the README shows, run. The docs test holds that it is the same text.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use serde::{Deserialize, Serialize};
use tcc_client::{
    BoxError, Branch, Call, Client, Decision, Participant, Participants, Phase, SigningKey, SqliteDatabase,
    Standing, Submission, Tried, Tx, Wait,
};
use tcc_examples::inventory::{self, Reserve};
use tcc_server::api::{self, Callers, Listening};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_server::transport::{AllowList, HttpTransport, Transports};
use tcc_server::{Coordinator, Scheduler, Settings};

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[rustfmt::skip]
async fn payment(db: SqliteDatabase) -> SocketAddr {
    struct Payment;

    #[derive(Deserialize)]
    struct Charge { account: String, cents: i64 }

    impl Participant for Payment {
        type Database = SqliteDatabase;          // or PgDatabase, MysqlDatabase, RedisDatabase, …
        type Payload = Charge;

        async fn try_(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
            let frozen = tx.execute(
                "UPDATE accounts SET available = available - ?2, frozen = frozen + ?2
                 WHERE name = ?1 AND available >= ?2",
                (&charge.account, charge.cents),
            )?;
            Ok(if frozen == 1 { Tried::accepted() } else { Tried::refused("insufficient funds") })
        }

        async fn confirm(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
            tx.execute("UPDATE accounts SET frozen = frozen - ?2 WHERE name = ?1", (&charge.account, charge.cents))?;
            Ok(())
        }

        async fn cancel(&self, _: &Call, charge: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
            tx.execute(
                "UPDATE accounts SET frozen = frozen - ?2, available = available + ?2 WHERE name = ?1",
                (&charge.account, charge.cents),
            )?;
            Ok(())
        }
    }

    let router = Participants::new().add("payment", Payment, db).into_router();   // POST /payment/try, …
    serve(Router::new().nest("/tcc", router)).await
}

#[rustfmt::skip]
async fn signed(file: &std::path::Path, db: SqliteDatabase) -> Result<SocketAddr, BoxError> {
    struct Payment;

    impl Participant for Payment {
        type Database = SqliteDatabase;
        type Payload = serde_json::Value;

        async fn try_(&self, _: &Call, _: &Self::Payload, _: &mut Tx<Self>) -> Result<Tried, BoxError> {
            Ok(Tried::accepted())
        }

        async fn confirm(&self, _: &Call, _: &Self::Payload, _: &mut Tx<Self>) -> Result<(), BoxError> {
            Ok(())
        }

        async fn cancel(&self, _: &Call, _: &Self::Payload, _: &mut Tx<Self>) -> Result<(), BoxError> {
            Ok(())
        }
    }

    let key: SigningKey = std::fs::read_to_string(file)?.trim().parse()?;
    let participants = Participants::new().add("payment", Payment, db).verified_by([key]);
    Ok(serve(participants.into_router()).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_participant_that_verifies_answers_nobody_who_does_not_sign() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tcc.key");
    std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let db = SqliteDatabase::open(folder.path().join("payment.db")).unwrap();
    let address = signed(&file, db).await.unwrap();
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    let request =
        b"POST /payment/try HTTP/1.1\r\nhost: payment\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    connection.write_all(request).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[derive(Serialize)]
struct Money {
    account: &'static str,
    cents: i64,
}

#[rustfmt::skip]
async fn order(client: &Client, inventory: &str, payment: &str) -> Result<Standing, BoxError> {
    let reserve = Reserve { item: "tea".to_owned(), quantity: 2 };
    let charge = Money { account: "alice", cents: 60 };

    let order = Submission::new("order/1042".parse()?)
        .branch(Branch::at("stock", format!("{inventory}/tcc/inventory")).payload(&reserve)?)
        .branch(Branch::at("money", format!("{payment}/tcc/payment")).payload(&charge)?);
    let standing = client.submit(order).await?;          // submitting it again starts nothing new

    Ok(standing)
}

#[tokio::test]
async fn the_participant_and_the_initiator_of_the_readme_do_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let db = SqliteDatabase::open(folder.path().join("payment.db")).unwrap();
    db.create_schema().await.unwrap();
    let table = "CREATE TABLE accounts (name TEXT PRIMARY KEY, available INTEGER, frozen INTEGER DEFAULT 0);
                 INSERT INTO accounts (name, available) VALUES ('alice', 100)";
    db.with(move |connection| connection.execute_batch(table)).await.unwrap();
    let payment = format!("http://{}", payment(db.clone()).await);
    let goods = folder.path().join("inventory.db");
    let inventory = format!("http://{}", serve(inventory::service(&goods).await.unwrap()).await);
    let fill = "INSERT INTO stock (item, available) VALUES ('tea', 10)";
    rusqlite::Connection::open(&goods).unwrap().execute(fill, []).unwrap();

    let store = SqliteStore::open(folder.path().join("tcc.db"), SqliteOptions::default()).unwrap();
    let transports = Transports::new().with(HttpTransport::new(AllowList::default()).unwrap());
    let coordinator = Coordinator::new(std::sync::Arc::new(store), transports, Settings::default());
    let _scheduler = Scheduler::start(coordinator.clone());
    let listening = Listening::on("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let client = Client::new(&format!("http://{}", listening.address())).unwrap();
    let router = api::router(coordinator, Callers::OfThisMachine);
    tokio::spawn(api::serve(listening, router, std::future::pending(), Duration::from_secs(1)));

    for time in ["first", "again"] {
        let standing = order(&client, &inventory, &payment).await.unwrap();
        assert_eq!(standing.decision(), Some(Decision::Confirm), "{time}");
    }
    let gid = "order/1042".parse().unwrap();
    let ended = client.wait(&gid, Wait::End, Duration::from_secs(30)).await.unwrap();
    assert_eq!(ended.phase(), Phase::Confirmed);
    let sum = "SELECT available, frozen FROM accounts";
    let left = db.with(move |c| c.query_row(sum, [], |row| Ok((row.get(0)?, row.get(1)?)))).await;
    assert_eq!(left.unwrap(), (40i64, 0i64));
}
