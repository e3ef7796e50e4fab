//! The initiator and a participant of this crate together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tcc_client::{BoxError, Call, Participant, Participants, SqliteDatabase, Tried, Tx, new_gid};

use super::stub::Stub;

/// Counts the runs of its try and says so.
struct Counter(Arc<AtomicU32>);

impl Participant for Counter {
    type Database = SqliteDatabase;
    type Payload = String;

    async fn try_(&self, call: &Call, payload: &String, _: &mut Tx<Self>) -> Result<Tried, BoxError> {
        let run = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        let gid = call.gid.as_str();
        let begun = call.begun.as_millis();
        Ok(Tried::with_reply(json!({"run": run, "gid": gid, "payload": payload, "begun": begun})))
    }

    async fn confirm(&self, _: &Call, _: &String, _: &mut Tx<Self>) -> Result<(), BoxError> {
        Ok(())
    }

    async fn cancel(&self, _: &Call, _: &String, _: &mut Tx<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Both halves of this crate, on one wire: what the initiator sends is what a guard takes, and P2 lets it repeat.
#[tokio::test]
async fn a_guard_takes_the_initiators_tries_and_knows_their_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let db = SqliteDatabase::open(folder.path().join("counter.db")).unwrap();
    db.create_schema().await.unwrap();
    let participants = Participants::new().add("counter", Counter(Arc::default()), db);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}/tcc/counter", listener.local_addr().unwrap());
    let app = axum::Router::new().nest_service("/tcc", participants);
    tokio::spawn(async move { axum::serve(listener, app).await });

    let (stub, gid) = (Stub::start().await, new_gid());
    let run = stub.client().transaction(gid.clone()).run(async |tcc| {
        let first = tcc.try_branch("count", &at, "one").await?.json::<serde_json::Value>()?;
        let again = tcc.try_branch("count", &at, "one").await?.json::<serde_json::Value>()?;
        Ok((first, again))
    });
    let (first, again) = run.await.unwrap();
    let expected = json!({"run": 1, "gid": gid.as_str(), "payload": "one", "begun": stub.begun(&gid)});
    assert_eq!((&first, &again), (&expected, &expected));
    assert_eq!(stub.log().last().unwrap(), "confirm count");
}
