//! What participants can do by their answers: X16, X26.

use std::time::Duration;

use serde_json::json;
use tcc_security::coordinator::Coordinator;
use tcc_security::exchange::PATIENCE;
use tcc_security::participant::{Participant, Reaction, answer};
use tokio::time::{sleep, timeout};

use crate::{begin, confirmed, program, seen, until};

/// A coordinator, and a transaction whose participant always reacts like this.
async fn with(gid: &str, react: impl Fn() -> Reaction + Send + Sync + 'static) -> (Coordinator, Participant) {
    let participant = Participant::start(move |_| react()).await;
    let coordinator = Coordinator::start(program(), &[]).await;
    let mut begin = begin(gid, &format!("http://{}/", participant.address()));
    begin["branches"][0]["timeout_ms"] = json!(3000);
    assert_eq!(coordinator.ask("POST", "", Some(&begin)).await.status, 201);
    (coordinator, participant)
}

/// `{"decompressed":true}` as gzip, stored.
const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x15\x00\xea\xff{\"decompressed\":true}\x02\xe6\x58\xa3\x15\x00\x00\x00";

#[tokio::test]
async fn x16_no_answer_is_decompressed() {
    let gzip = || answer(200, "content-encoding: gzip\r\ncontent-type: application/json\r\n", GZIP);
    let (coordinator, participant) = with("x16", gzip).await;
    let view = until(&coordinator, "x16", confirmed).await;
    assert!(view["branches"][0]["reply"].is_null(), "bytes that are no JSON are kept as no reply: {view}");
    for asked in participant.asked() {
        assert!(asked.header("accept-encoding").is_empty(), "{}", asked.head);
    }
}

/// Some servers refuse a POST that leaves its length open.
#[tokio::test]
async fn a_call_without_a_body_says_so() {
    let (coordinator, participant) = with("empty", || answer(200, "", "")).await;
    until(&coordinator, "empty", confirmed).await;
    for asked in participant.asked() {
        assert_eq!(asked.header("content-length"), ["0"], "{}", asked.head);
    }
}

/// Zeros by the gigabyte, however they are wrapped up, take no more room than the 64 KiB that are read.
#[tokio::test]
async fn x16_x26_an_answer_without_end_is_cut_off() {
    let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"10000\r\n".as_slice(), &[0; 0x1_0000], b"\r\n"].concat();
    let endless = move || Reaction::Endless(head.as_bytes().to_vec(), chunk.clone());
    let (coordinator, _participant) = with("x26", endless).await;
    let before = coordinator.memory();
    let view = until(&coordinator, "x26", seen).await;
    assert_eq!(view["branches"][0]["seen"], "a reply that is too long");
    assert_eq!(view["phase"], "Trying", "it is unknown, and neither done nor refused");
    assert!(coordinator.memory() < before + 64 * 1024, "{} KiB", coordinator.memory());
}

#[tokio::test]
async fn x26_a_head_without_end_is_cut_off() {
    let endless = || Reaction::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-more: and more\r\n".repeat(1000));
    let (coordinator, _participant) = with("x26", endless).await;
    let before = coordinator.memory();
    let view = until(&coordinator, "x26", seen).await;
    assert_eq!(view["branches"][0]["seen"], "broken");
    assert!(coordinator.memory() < before + 64 * 1024, "{} KiB", coordinator.memory());
}

#[tokio::test]
async fn x26_provisional_answers_without_end_are_no_answer() {
    let endless = || Reaction::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000));
    let (coordinator, _participant) = with("x26", endless).await;
    let view = until(&coordinator, "x26", seen).await;
    assert_ne!(view["phase"], "Confirmed");
    assert_eq!(
        coordinator.ask("POST", "/other/cancel", Some(&json!({}))).await.status,
        200,
        "others are served"
    );
}

#[tokio::test]
async fn x26_no_retry_after_parks_a_transaction() {
    let (coordinator, _participant) =
        with("x26", || answer(503, "retry-after: 18446744073709551615\r\n", "")).await;
    let view = until(&coordinator, "x26", |view| view["branches"][0]["next_ms"].is_u64()).await;
    let next = until(&coordinator, "x26", seen).await["branches"][0]["next_ms"].as_u64();
    assert!(next.is_some_and(|next| next <= 3_600_000), "at most an hour: {view}");
}

/// Nor does one of zero make a busy loop, and what is no number is not heard.
#[tokio::test]
async fn x26_no_retry_after_makes_a_busy_loop() {
    for (status, told) in
        [(425, "0"), (503, "0"), (503, "-1"), (425, "Fri, 31 Dec 1999 23:59:59 GMT"), (503, "1e9")]
    {
        let (_coordinator, participant) =
            with("x26", move || answer(status, &format!("retry-after: {told}\r\n"), "")).await;
        let called = async || {
            while participant.asked().is_empty() {
                sleep(Duration::from_millis(10)).await
            }
        };
        timeout(PATIENCE, called()).await.expect("it is called");
        let (before, began) = (participant.asked().len(), std::time::Instant::now());
        sleep(Duration::from_millis(300)).await;
        let most = began.elapsed().as_millis() / 20 + 2;
        let calls = participant.asked().len() - before;
        assert!(calls as u128 <= most, "{status} {told}: {calls} calls");
    }
}

/// Words in a body move nothing: only status codes and typed fields speak, and of their own branch alone.
#[tokio::test]
async fn x26_forged_answers_move_nothing_but_their_own_branch() {
    let good = Participant::start(|_| answer(200, "", "{}")).await;
    let coordinator = Coordinator::start(program(), &[]).await;
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let forged: [(u16, String); 9] = [
        (500, r#"{"code":"refused"}"#.to_owned()),
        (400, r#"{"code":"refused"}"#.to_owned()),
        (409, r#"{"code":["refused"]}"#.to_owned()),
        (409, "refused".to_owned()),
        (409, r#"{"Code":"refused"}"#.to_owned()),
        (200, r#"{"gid":"x26","phase":"Cancelled","decision":"cancel"}"#.to_owned()),
        (200, deep),
        (200, "1e400".to_owned()),
        (101, String::new()),
    ];
    for (i, (status, body)) in forged.into_iter().enumerate() {
        let done = status == 200;
        let headers = "tcc-gid: another\r\ntcc-operation: cancel\r\nset-cookie: a=b\r\n";
        let evil = Participant::start(move |_| answer(status, headers, &body)).await;
        let (gid, retry) = (format!("x26/{i}"), json!({"first_ms": 50, "longest_ms": 100}));
        let at = |of: &Participant| format!("http://{}/{i}", of.address());
        let begin = json!({"gid": gid, "branches": [
            {"id": "evil", "at": at(&evil), "retry": retry}, {"id": "good", "at": at(&good)},
        ]});
        assert_eq!(coordinator.ask("POST", "", Some(&begin)).await.status, 201);
        let view = until(&coordinator, &gid, if done { confirmed } else { seen }).await;
        assert_eq!(view["branches"][0]["id"], "evil", "the view can be read by everybody");
        assert_eq!(view["phase"], if done { "Confirmed" } else { "Trying" }, "{view}");
        assert!(good.asked().iter().all(|asked| !asked.path().ends_with("cancel")), "nothing is cancelled");
        assert!(good.asked().iter().all(|asked| asked.header("cookie").is_empty()), "no cookie is kept");
    }
}
