//! Participants that believe signed calls alone.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tcc_client::SigningKey;
use tcc_core::signature;
use tower_service::Service;

use crate::banks::{Bank, Sqlite};
use crate::payment::{Caller, Seen};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const BODY: &str = r#"{"account":"alice","cents":10}"#;

fn keys(texts: &[&str]) -> Vec<SigningKey> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// The headers that sign a call with this id.
fn signing(by: &[&str], id: &str, at: i64) -> Vec<(&'static str, String)> {
    let signatures = signature::sign(&keys(by), id, at, BODY.as_bytes());
    vec![("webhook-id", id.into()), ("webhook-timestamp", at.to_string()), ("webhook-signature", signatures)]
}

/// Calls with these headers beside the usual ones.
async fn call(caller: &Caller, path: &str, headers: HeaderMap, body: &str) -> Seen {
    let mut request = Request::post(path).body(Full::<Bytes>::from(body.to_owned())).unwrap();
    *request.headers_mut() = headers;
    let response = caller.service.clone().call(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Seen { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

fn with(mut headers: HeaderMap, more: Vec<(&'static str, String)>) -> HeaderMap {
    for (name, value) in more {
        headers.insert(name, value.parse().unwrap());
    }
    headers
}

async fn verifying(by: &[&str]) -> (Sqlite, Caller) {
    let bank = Sqlite::open().await;
    let mut caller = Caller::new(&bank);
    caller.service = caller.service.verified_by(keys(by));
    (bank, caller)
}

#[tokio::test]
async fn a_signed_call_is_obeyed_by_what_was_signed_alone() {
    let (_bank, caller) = verifying(&[OLD]).await;
    // What its unsigned headers say of the same things is not looked at.
    let misled = with(caller.headers("cancel", "other"), signing(&[OLD], "g~payment~try", now()));
    assert_eq!(call(&caller, "/payment/try", misled, BODY).await, Seen::done());
    let mut bare = with(caller.headers("try", "g"), signing(&[OLD], "g~payment~confirm", now()));
    for name in ["tcc-gid", "tcc-branch", "tcc-operation"] {
        bare.remove(name);
    }
    assert_eq!(call(&caller, "/payment/confirm", bare.clone(), BODY).await, Seen::done());
    assert_eq!(call(&caller, "/payment/confirm", bare, BODY).await, Seen::done(), "a repeat is one");
    let cancel = with(caller.headers("cancel", "g"), signing(&[OLD], "g~payment~cancel", now()));
    assert_eq!(call(&caller, "/payment/cancel", cancel, BODY).await.code(), "already-confirmed");
    assert_eq!(caller.runs(), 2, "it was tried and confirmed, of the one signed gid");
}

#[tokio::test]
async fn while_a_key_is_changed_both_are_believed() {
    let (_bank, caller) = verifying(&[OLD, NEW]).await;
    for (gid, by) in [("a", &[OLD][..]), ("b", &[NEW]), ("c", &[NEW, OLD])] {
        let headers = with(caller.headers("try", gid), signing(by, &format!("{gid}~payment~try"), now()));
        assert_eq!(call(&caller, "/payment/try", headers, BODY).await, Seen::done());
    }
}

#[tokio::test]
async fn an_unsigned_or_wrongly_signed_call_is_answered_401_and_touches_nothing() {
    let (bank, caller) = verifying(&[OLD]).await;
    let before = bank.books().await;
    let right = signing(&[OLD], "g~payment~try", now());
    let without = |name: &str| right.iter().filter(|(known, _)| *known != name).cloned().collect::<Vec<_>>();
    let change = |name: &'static str, value: &str| {
        let mut headers = without(name);
        headers.push((name, value.to_owned()));
        headers
    };
    let old = now() - 3600;
    for (why, headers, code) in [
        ("nothing is signed", vec![], "unsigned"),
        ("no id", without("webhook-id"), "unsigned"),
        ("no timestamp", without("webhook-timestamp"), "unsigned"),
        ("no signature", without("webhook-signature"), "unsigned"),
        ("another id", change("webhook-id", "h~payment~try"), "bad-signature"),
        ("another operation", change("webhook-id", "g~payment~confirm"), "bad-signature"),
        ("another moment", change("webhook-timestamp", &(now() + 7).to_string()), "bad-signature"),
        ("another signature", change("webhook-signature", "v1,AAAA"), "bad-signature"),
        ("an unknown key", signing(&[NEW], "g~payment~try", now()), "bad-signature"),
        ("an old one", signing(&[OLD], "g~payment~try", old), "bad-signature"),
        ("one of the future", signing(&[OLD], "g~payment~try", now() + 3600), "bad-signature"),
        ("an id that names no call", signing(&[OLD], "msg_1", now()), "bad-signature"),
    ] {
        let headers = with(caller.headers("try", "g"), headers);
        for path in ["/payment/try", "/nobody/try", "/payment"] {
            let seen = call(&caller, path, headers.clone(), BODY).await;
            assert_eq!((seen.status, seen.code()), (401, code), "{why} at {path}");
        }
    }
    let headers = with(caller.headers("try", "g"), right);
    let seen = call(&caller, "/payment/try", headers.clone(), r#"{"account":"alice","cents":99}"#).await;
    assert_eq!((seen.status, seen.code()), (401, "bad-signature"), "another body");
    // What is signed, and for another path, is no call for this one.
    let seen = call(&caller, "/payment/confirm", headers.clone(), BODY).await;
    assert_eq!((seen.status, seen.code()), (400, "bad-call"));
    let check = with(caller.headers("try", "g"), signing(&[OLD], "g~~check", now()));
    assert_eq!(call(&caller, "/payment/try", check, BODY).await.code(), "bad-call");
    assert_eq!(caller.runs(), 0);
    assert_eq!(bank.books().await, before);
    // It would have been obeyed.
    assert_eq!(call(&caller, "/payment/try", headers, BODY).await, Seen::done());
}
