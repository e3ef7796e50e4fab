//! What only HTTP can get wrong.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tcc_client::BoxError;
use tower_service::Service;

use crate::banks::{Bank, Sqlite};
use crate::payment::{Caller, How, Seen};

/// A body that is no well-behaved one.
#[derive(Clone, Copy, PartialEq)]
enum Bad {
    Stalled,
    Broken,
    Endless,
    Announced(u64),
}

impl Body for Bad {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match *self {
            Self::Stalled | Self::Announced(_) => Poll::Pending,
            Self::Broken => Poll::Ready(Some(Err("reset by peer".into()))),
            Self::Endless => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1024]))))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if let Self::Announced(size) = *self { SizeHint::with_exact(size) } else { SizeHint::default() }
    }
}

async fn code(response: Response<Full<Bytes>>) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status);
    (status, problem["code"].as_str().unwrap().into())
}

#[tokio::test]
async fn what_is_no_call_is_answered_with_a_problem_that_is_no_refusal() {
    let bank = Sqlite::open().await;
    let caller = Caller::new(&bank);
    for (method, path, status, name) in [
        ("POST", "/", 404, "unknown-operation"),
        ("POST", "/payment", 404, "unknown-operation"),
        ("POST", "/payment/deliver", 404, "unknown-operation"),
        ("POST", "/payment/try/", 404, "unknown-operation"),
        ("POST", "/payment/a/try", 404, "unknown-operation"),
        ("POST", "/stock/try", 404, "unknown-participant"),
        ("GET", "/payment/try", 405, "not-post"),
        ("POST", "/payment/check", 400, "bad-call"),
        ("POST", "/payment/confirm", 400, "bad-call"),
    ] {
        let mut request = Request::new(Full::<Bytes>::from(r#"{"account":"alice","cents":10}"#));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = caller.headers("try", "t");
        let answer = code(caller.service.clone().call(request).await.unwrap()).await;
        assert_eq!(answer, (status, name.to_owned()), "{method} {path}");
    }
    for missing in ["tcc-gid", "tcc-branch", "tcc-operation", "tcc-begun"] {
        let mut request = Request::post("/payment/try").body(Full::<Bytes>::default()).unwrap();
        *request.headers_mut() = caller.headers("try", "t");
        request.headers_mut().remove(missing);
        let answer = code(caller.service.clone().call(request).await.unwrap()).await;
        assert_eq!(answer, (400, "bad-call".to_owned()), "without {missing}");
    }
    assert_eq!((caller.runs(), bank.row("t").await), (0, None));
}

#[tokio::test]
async fn a_body_is_bounded_in_size_and_time() {
    let bank = Sqlite::open().await;
    let caller = Caller { timeout: Duration::from_millis(100), ..Caller::new(&bank) };
    for (body, status, name) in [
        (Bad::Stalled, 408, "incomplete-body"),
        (Bad::Announced(65_536), 408, "incomplete-body"),
        (Bad::Broken, 408, "incomplete-body"),
        (Bad::Announced(65_537), 413, "payload-too-large"),
        (Bad::Endless, 413, "payload-too-large"),
    ] {
        let mut request = Request::post("/payment/try").body(body).unwrap();
        *request.headers_mut() = caller.headers("try", "t");
        let answer = code(caller.service.clone().call(request).await.unwrap()).await;
        assert_eq!(answer, (status, name.to_owned()));
    }
    assert_eq!(bank.row("t").await, None);
}

#[tokio::test]
async fn the_longest_payload_and_the_longest_reply_pass() {
    let bank = Sqlite::open().await;
    // As JSON it has two quotes more.
    let reply = Value::String("x".repeat(tcc_core::limits::REPLY - 2));
    let caller = Caller::new(&bank).how("try", How::Reply(Value::Null));
    let mut body = serde_json::to_vec(&caller.charge).unwrap();
    body.resize(tcc_core::limits::PAYLOAD, b' ');
    assert_eq!(caller.send("try", "t", body.clone()).await, Seen { status: 200, body: Value::Null });
    body.push(b' ');
    assert_eq!(caller.send("try", "u", body).await.status, 413);
    // The payload carries the reply, so this one goes round the limit of HTTP alone.
    let small = Caller::new(&bank).how("try", How::Reply("y".into()));
    assert_eq!(small.once("try", "v").await.body, "y");
    bank.execute(&format!("UPDATE tcc_guard SET kept = '{reply}' WHERE gid = 'v'")).await;
    assert_eq!(small.once("try", "v").await.body, reply);
}

#[tokio::test]
async fn a_reply_is_json_and_no_reply_is_an_empty_body() {
    let bank = Sqlite::open().await;
    let caller = Caller::new(&bank).how("try", How::Reply("14C".into()));
    for (operation, media, length) in [("try", Some("application/json"), 5), ("confirm", None, 0)] {
        let body = Full::<Bytes>::from(serde_json::to_vec(&caller.charge).unwrap());
        let mut request = Request::post(format!("/payment/{operation}")).body(body).unwrap();
        *request.headers_mut() = caller.headers(operation, "t");
        let response = caller.service.clone().call(request).await.unwrap();
        assert_eq!(response.headers().get("content-type").map(|media| media.to_str().unwrap()), media);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), length);
    }
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// On one thread, whose log this is.
#[tokio::test]
async fn a_failed_call_is_logged_with_its_names_and_its_cause() {
    let caller = Caller::new(&Sqlite::open().await).how("try", How::Fail("the cause".into()));
    // While there is one subscriber alone, a place in the code that another test's thread is the first to pass stays
    // mute for it, since only that thread's own is asked. Of two both are asked, whoever passes.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // A thread that came to such a place before there were two is done with it by now.
    assert_eq!(caller.once("try", "order/6").await.status, 500);
    tracing::callsite::rebuild_interest_cache();
    log.0.lock().unwrap().clear();
    assert_eq!(caller.once("try", "order/7").await.status, 500);
    let bytes = log.0.lock().unwrap().clone();
    let events: Vec<Value> =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let failed = events.iter().find(|event| event["fields"]["message"] == "the call failed").unwrap();
    assert_eq!((&failed["level"], &failed["fields"]["error"]), (&"ERROR".into(), &"the cause".into()));
    let span = &failed["span"];
    for (field, value) in [("name", "call"), ("gid", "order/7"), ("branch", "payment"), ("operation", "try")]
    {
        assert_eq!(span[field], value, "{span}");
    }
    assert_eq!((&span["participant"], &span["attempt"]), (&"payment".into(), &1.into()));
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_can_nest_participants() {
    let bank = Sqlite::open().await;
    let caller = Caller::new(&bank);
    let body = || axum::body::Body::from(serde_json::to_vec(&caller.charge).unwrap());
    let mut router = axum::Router::<()>::new().nest("/tcc", caller.service.clone().into_router());
    for (path, status) in [("/tcc/payment/try", 200), ("/tcc/stock/try", 404), ("/payment/try", 404)] {
        let mut request = Request::post(path).body(body()).unwrap();
        *request.headers_mut() = caller.headers("try", "t");
        assert_eq!(router.call(request).await.unwrap().status(), status, "{path}");
    }
    assert_eq!(bank.effects("t").await, ["try"]);
}
