//! The suite for participants, played against those of this crate: in process, and by URL.

use serde_json::json;
use tcc_client::testing::Conformance;

use crate::banks::Bank;
use crate::payment::Caller;

on_each_database!(a_participant_of_ours_keeps_every_promise);

/// All of it: each database has its own way to be exclusive.
async fn a_participant_of_ours_keeps_every_promise<B: Bank>(bank: B) {
    let caller = Caller::new(&bank);
    let report = conformance(&bank, Conformance::of(caller.service.clone(), "/payment")).run().await;
    assert!(report.is_complete(), "{report}");
    assert_eq!(bank.books().await.reserved, 0);
}

fn conformance<B: Bank>(bank: &B, conformance: Conformance) -> Conformance {
    let bank = bank.clone();
    let charge = |cents: i64| json!({ "account": "alice", "cents": cents });
    let with = conformance.payload(&charge(10)).unwrap().refused_payload(&charge(100_000)).unwrap();
    with.effect(move || {
        let bank = bank.clone();
        async move {
            let books = bank.books().await;
            Ok([books.free, books.reserved, books.spent])
        }
    })
}

#[cfg(feature = "rusqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn who_believes_signed_calls_alone_passes_when_they_are_signed() {
    use tcc_client::SigningKey;
    let key: SigningKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
    let bank = crate::banks::Sqlite::open().await;
    let service = Caller::new(&bank).service.verified_by([key.clone()]);
    let signed =
        conformance(&bank, Conformance::of(service.clone(), "/payment")).signed_by([key]).run().await;
    assert!(signed.is_complete(), "{signed}");
    let unsigned = conformance(&bank, Conformance::of(service, "/payment")).run().await;
    assert!(!unsigned.holds() && unsigned.to_string().contains("401 unsigned"), "{unsigned}");
}

#[cfg(all(feature = "rusqlite", feature = "axum", feature = "initiator"))]
#[tokio::test(flavor = "multi_thread")]
async fn the_same_by_url() {
    let bank = crate::banks::Sqlite::open().await;
    let router = Caller::new(&bank).service.into_router::<()>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/payment", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let report = conformance(&bank, Conformance::at(&url).unwrap()).run().await;
    assert!(report.is_complete(), "{report}");
}

#[cfg(feature = "initiator")]
#[tokio::test]
async fn a_url_that_nobody_answers_at_is_unclear() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/payment", listener.local_addr().unwrap());
    drop(listener);
    let report = Conformance::at(&url).unwrap().run().await;
    assert!(!report.holds() && report.broken().count() == 0, "{report}");
    assert!(report.to_string().contains("connect"), "{report}");
}
