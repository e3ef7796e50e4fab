//! A participant without a database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tcc_client::{BoxError, Call, Operation, Participant, Participants, Tried, Tx, Unguarded};
use tower_service::Service;

/// A carrier that knows its bookings by a key: it answers repeats as the first, and bars what was dropped.
#[derive(Clone, Default)]
struct Carrier(Arc<Mutex<BTreeMap<String, Booking>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Booking {
    Booked,
    NoVan,
    Dispatched,
    Dropped,
}

/// All that a participant without a guard does by itself.
struct Shipping {
    carrier: Carrier,
    calls: Arc<Mutex<Vec<Operation>>>,
}

impl Shipping {
    fn is_called(&self, call: &Call) -> String {
        self.calls.lock().unwrap().push(call.operation);
        format!("{}~{}", call.gid, call.branch)
    }
}

impl Participant for Shipping {
    type Database = Unguarded;
    type Payload = String;

    async fn try_(&self, call: &Call, to: &String, _: &mut Tx<Self>) -> Result<Tried, BoxError> {
        let key = self.is_called(call);
        let mut bookings = self.carrier.0.lock().unwrap();
        let first = if to == "the moon" { Booking::NoVan } else { Booking::Booked };
        Ok(match bookings.entry(key.clone()).or_insert(first) {
            Booking::Booked | Booking::Dispatched => Tried::with_reply(json!({ "parcel": key })),
            Booking::NoVan => Tried::refused("no van goes there"),
            Booking::Dropped => Tried::refused("it was cancelled"),
        })
    }

    async fn confirm(&self, call: &Call, _: &String, _: &mut Tx<Self>) -> Result<(), BoxError> {
        let key = self.is_called(call);
        match self.carrier.0.lock().unwrap().get_mut(&key) {
            Some(booking @ (Booking::Booked | Booking::Dispatched)) => *booking = Booking::Dispatched,
            other => return Err(format!("cannot dispatch {other:?}").into()),
        }
        Ok(())
    }

    async fn cancel(&self, call: &Call, _: &String, _: &mut Tx<Self>) -> Result<(), BoxError> {
        let key = self.is_called(call);
        match self.carrier.0.lock().unwrap().entry(key).or_insert(Booking::Dropped) {
            Booking::Dispatched => return Err("it is on its way".into()),
            booking @ (Booking::Booked | Booking::NoVan | Booking::Dropped) => *booking = Booking::Dropped,
        }
        Ok(())
    }
}

struct Shop {
    service: Participants,
    carrier: Carrier,
    calls: Arc<Mutex<Vec<Operation>>>,
}

impl Shop {
    fn new() -> Self {
        let (carrier, calls) = (Carrier::default(), Arc::<Mutex<Vec<_>>>::default());
        let shipping = Shipping { carrier: carrier.clone(), calls: calls.clone() };
        Self { service: Participants::new().add("shipping", shipping, Unguarded), carrier, calls }
    }

    async fn call(&self, operation: &str, gid: &str, settled: u32, body: &str) -> (u16, Value) {
        let request = Request::post(format!("/shipping/{operation}"))
            .header("tcc-gid", gid)
            .header("tcc-branch", "parcel")
            .header("tcc-operation", operation)
            .header("tcc-begun", 1000)
            .header("tcc-settled", settled);
        let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
        let response = self.service.clone().call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn booking(&self, gid: &str) -> Option<Booking> {
        self.carrier.0.lock().unwrap().get(&format!("{gid}~parcel")).copied()
    }
}

#[tokio::test]
async fn every_call_reaches_the_methods_of_a_participant_without_a_database() {
    let shop = Shop::new();
    let order = ["cancel", "confirm", "try", "try", "confirm", "cancel"];
    for operation in order {
        shop.call(operation, "t", 0, "\"home\"").await;
    }
    let called: Vec<_> = shop.calls.lock().unwrap().iter().map(|operation| operation.as_str()).collect();
    assert_eq!(called, order);
}

#[tokio::test]
async fn a_participant_without_a_database_can_keep_the_promises_by_a_key() {
    let shop = Shop::new();
    let reply = (200, json!({ "parcel": "a~parcel" }));
    for operation in ["try", "try"] {
        assert_eq!(shop.call(operation, "a", 0, "\"home\"").await, reply, "P2");
    }
    for _ in 0..2 {
        assert_eq!(shop.call("confirm", "a", 0, "\"home\"").await.0, 200, "P2");
        assert_eq!(shop.call("cancel", "a", 0, "\"home\"").await.0, 500, "P1");
    }
    assert_eq!(shop.call("try", "a", 0, "\"home\"").await, reply);
    assert_eq!(shop.booking("a"), Some(Booking::Dispatched));
    assert_eq!(shop.call("cancel", "b", 0, "\"home\"").await.0, 200, "P3");
    let (status, problem) = shop.call("try", "b", 0, "\"home\"").await;
    assert_eq!((status, &problem["code"]), (409, &json!("refused")), "P4");
    assert_eq!(shop.call("confirm", "b", 0, "\"home\"").await.0, 500, "P1");
    assert_eq!(shop.call("confirm", "c", 0, "\"home\"").await.0, 500, "P6");
    for _ in 0..2 {
        let (status, problem) = shop.call("try", "d", 0, "\"the moon\"").await;
        assert_eq!((status, &problem["detail"]), (409, &json!("no van goes there")), "P2");
    }
    assert_eq!(shop.call("cancel", "d", 0, "\"the moon\"").await.0, 200);
}

#[tokio::test]
async fn what_needs_no_memory_is_done_for_it_all_the_same() {
    let shop = Shop::new();
    let (status, problem) = shop.call("try", "t", 1001, "\"home\"").await;
    assert_eq!((status, &problem["code"]), (409, &json!("refused")), "it began before its own mark");
    let (status, problem) = shop.call("try", "t", 0, "7").await;
    assert_eq!((status, &problem["code"]), (409, &json!("refused")), "it cannot be read");
    let (status, problem) = shop.call("confirm", "t", 0, "7").await;
    assert_eq!((status, &problem["code"]), (400, &json!("unreadable-payload")));
    assert_eq!((shop.booking("t"), shop.calls.lock().unwrap().len()), (None, 0));
}
