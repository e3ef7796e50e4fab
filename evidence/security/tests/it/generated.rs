//! The generator of hostile requests, and the parsers, in their short form: `cargo security` has the long one.

use tcc_security::campaign::{Campaign, lines};
use tcc_security::documented::{By, read};
use tcc_security::exchange::Answer;
use tcc_security::parsers;
use tcc_security::secrets::HEADER;

use crate::program;

/// Every kind at every operation several times over.
const CASES: u64 = 1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_are_answered_as_documented_and_leave_nothing_half_stored() {
    let seed = fastrand::u64(..);
    let campaign = Campaign { program: program().to_owned(), seed, cases: CASES, only: None, at_once: 8 };
    let tally = campaign.run().await;
    let broken: Vec<_> = tally.broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "seed {seed}\n{}", broken.join("\n"));
    assert!(tally.never().is_empty(), "seed {seed}: never happened: {:?}", tally.never());
}

#[test]
fn no_parser_of_outside_bytes_panics() {
    let seed = fastrand::u64(..);
    for parser in parsers::ALL {
        (parser.attack)(2000, seed).unwrap_or_else(|why| panic!("{}, seed {seed}: {why}", parser.name));
    }
}

/// What finds no fault has to be able to find one.
#[test]
fn answers_and_logs_that_are_wrong_are_known_as_such() {
    let answer = |status: u16, kind: &str, body: &str| Answer {
        status,
        head: format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\nretry-after: 1\r\n\r\n"),
        body: body.as_bytes().to_vec(),
    };
    let problem = |status: u16, code: &str, title: &str, detail: &str| {
        let (retryable, kind) = (status >= 500, "application/problem+json");
        let body = serde_json::json!({"type": format!("urn:tcc:problem:{code}"), "title": title, "status": status,
            "code": code, "detail": detail, "retryable": retryable});
        answer(status, kind, &body.to_string())
    };
    let (full, bug) = ("The store is full", "The coordinator failed");
    let view = r#"{"gid":"g","phase":"Trying","branches":[]}"#;
    for (good, answer) in [
        (true, problem(503, "store-full", full, "x")),
        (false, problem(503, "store-full", full, "")),
        (false, problem(503, "store-full", full, HEADER)),
        (false, problem(500, "internal", bug, "x")),
        (false, problem(500, "store-full", full, "x")),
        (false, problem(503, "another", full, "x")),
        (true, answer(200, "application/json", view)),
        (false, answer(204, "application/json", view)),
        (false, answer(200, "text/html", view)),
        (
            false,
            answer(200, "application/json", &view.replace("branches\":[]", "branches\":[],\"secret\":1")),
        ),
        (false, answer(200, "application/json", "{}")),
        (false, answer(400, "text/plain; charset=utf-8", "bad")),
    ] {
        assert_eq!(read(&answer, By::Api, false).is_ok(), good, "{answer:?}");
    }
    let json = r#"{"timestamp":"2026-11-20T00:00:00.000000Z","level":"INFO"}"#;
    let human = "2026-11-20T00:00:00.000000Z  INFO tcc_server: ready";
    for (log, is_json, good) in [
        (json, true, true),
        (human, false, true),
        (human, true, false),
        ("forged\n", false, false),
        ("2026-11-20T00:00:00.000000Z  INFO \u{1b}[31m", false, false),
        ("2026-11-20T00:00:00.000000Z  INFO a\rb", false, false),
    ] {
        assert_eq!(lines(log, is_json).is_ok(), good, "{log:?}");
    }
}
