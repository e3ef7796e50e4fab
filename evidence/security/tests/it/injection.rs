//! What ends up in headers, logs, answers and files: X7, X21, X22, X28.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tcc_security::campaign::lines;
use tcc_security::coordinator::Coordinator;
use tcc_security::exchange::Request;
use tcc_security::participant::{Participant, answer};
use tcc_security::secrets::{HEADER, NOT_IN_ANSWERS, NOT_IN_LOGS, PAYLOAD, QUERY, REPLY, WRONG_TOKEN, found};

use crate::{begin, confirmed, program, seen, until};

#[tokio::test]
async fn x7_nothing_that_would_be_more_than_a_header_is_taken() {
    let coordinator = Coordinator::start(program(), &[]).await;
    let branch = |headers: serde_json::Value| json!({"gid": "x7", "branches": [{"id": "b", "confirm": "http://127.0.0.1:1/", "headers": headers}]});
    for (name, value) in [
        ("x", "a\r\nTcc-Gid: forged"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x", "a\tb"),
        ("x", "\u{7f}"),
        ("x", "\u{85}"),
        ("x", "ü"),
        ("x\r\ny", "a"),
        ("x\0", "a"),
        ("x: y", "a"),
        ("x y", "a"),
        ("", "a"),
        ("ü", "a"),
    ] {
        let begun = coordinator.ask("POST", "", Some(&branch(json!({ name: value })))).await;
        assert_eq!(
            (begun.status, &begun.json()["pointer"]),
            (422, &json!("/branches/0/headers")),
            "{name:?} {value:?}"
        );
    }
    // Ours, the connection's, and whatever else says whose call it is and how it is read; in any case.
    for name in [
        "Tcc-Gid",
        "TCC-BRANCH",
        "tcc-operation",
        "tcc-settled",
        "tcc-anything",
        "Webhook-Id",
        "webhook-signature",
        "Host",
        "Content-Length",
        "CONTENT-TYPE",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "Proxy-Authorization",
        "Proxy-Connection",
        "traceparent",
        "tracestate",
    ] {
        let begun = coordinator.ask("POST", "", Some(&branch(json!({ name: "x" })))).await;
        assert_eq!((begun.status, &begun.json()["pointer"]), (422, &json!("/branches/0/headers")), "{name}");
    }
    for gid in ["a\r\nb", "a\nTcc-Operation: confirm", "a\0", "a b", "ü", "\u{7f}", "a\tb", "a;b", "a%0ab"] {
        for (field, begin) in [
            ("/gid", json!({"gid": gid, "decider": "initiator"})),
            ("/parent", json!({"gid": "x7", "decider": "initiator", "parent": gid})),
            (
                "/branches/0/id",
                json!({"gid": "x7", "branches": [{"id": gid, "confirm": "http://127.0.0.1:1/"}]}),
            ),
        ] {
            let begun = coordinator.ask("POST", "", Some(&begin)).await;
            assert_eq!((begun.status, &begun.json()["pointer"]), (422, &json!(field)), "{gid:?}");
        }
    }
    assert_eq!(coordinator.view("x7").await.0, 404, "nothing was stored");
}

/// The only header of a request that is passed on is passed on if it is what it says it is.
#[tokio::test]
async fn x7_a_trace_is_passed_on_only_where_it_is_one() {
    let participant = Participant::start(|_| answer(200, "", "")).await;
    let coordinator = Coordinator::start(program(), &[]).await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let upper = good.to_uppercase();
    let traces: [(&[u8], bool); 8] = [
        (good.as_bytes(), true),
        (upper.as_bytes(), false),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", false),
        (b"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", false),
        (b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
        (b"00-\xff", false),
        (b"", false),
        (b"----", false),
    ];
    for (i, (trace, passed)) in traces.into_iter().enumerate() {
        participant.forget();
        let body = begin(&format!("x7/{i}"), &format!("http://{}/", participant.address())).to_string();
        let request =
            Request::new("POST", "/v1/transactions?wait=end").with_token().with("traceparent", trace);
        assert_eq!(coordinator.send(&request.json(body)).await.status, 201);
        for asked in participant.asked() {
            let expected: &[&str] = if passed { &[good] } else { &[] };
            assert_eq!(asked.header("traceparent"), expected);
        }
    }
}

/// Everything that knows a secret happens once, well and badly, with all that can be logged being logged.
#[tokio::test]
async fn x21_no_secret_is_in_logs_or_answers() {
    let participant = Participant::start(|asked| match asked.path() {
        path if path.starts_with("/refuses/try") => {
            answer(409, "", format!(r#"{{"code":"refused","x":"{REPLY}"}}"#))
        }
        path if path.starts_with("/fails") => answer(500, &format!("x: {REPLY}\r\n"), REPLY),
        _ => answer(200, "", format!(r#"{{"reply":"{REPLY}"}}"#)),
    })
    .await;
    let coordinator = Coordinator::start(program(), &["--log", "trace", "--log-format", "json"]).await;
    let mut answers = Vec::new();
    for (gid, host) in [
        ("works", participant.address().to_string()),
        ("refuses", participant.address().to_string()),
        ("fails", participant.address().to_string()),
        ("nobody", "127.0.0.1:1".to_owned()),
        ("noname", "no-such-host.invalid".to_owned()),
    ] {
        let at = |step: &str| format!("http://{host}/{gid}/{step}?key={QUERY}");
        let begin = json!({"gid": gid, "branches": [{
            "id": "b", "try": at("try"), "confirm": at("confirm"), "cancel": at("cancel"),
            "headers": {"authorization": HEADER}, "payload": {"secret": PAYLOAD},
        }]});
        answers.push(coordinator.ask("POST", "", Some(&begin)).await);
        let over = |view: &serde_json::Value| seen(view) || view["phase"] == "Cancelled" || confirmed(view);
        until(&coordinator, gid, over).await;
        answers.push(coordinator.ask("GET", &format!("/{gid}"), None).await);
        // The same gid with other secrets; branches that are known, with others.
        let other = json!({"gid": gid, "branches": [{"id": "b", "confirm": at("x"), "headers": {"k": HEADER}, "payload": PAYLOAD}]});
        answers.push(coordinator.ask("POST", "", Some(&other)).await);
        answers.push(coordinator.ask("POST", &format!("/{gid}/branches"), Some(&other)).await);
    }
    let wrong =
        Request::new("GET", "/v1/transactions/works").with("authorization", format!("Bearer {WRONG_TOKEN}"));
    answers.push(coordinator.send(&wrong).await);
    for headers in
        [json!(HEADER), json!([HEADER]), json!({"k": [HEADER]}), json!({"k": format!("{HEADER}\n")})]
    {
        let begin = json!({"branches": [{"id": "b", "confirm": "http://127.0.0.1:1/", "headers": headers}]});
        answers.push(coordinator.ask("POST", "", Some(&begin)).await);
    }
    for answer in &answers {
        assert_eq!(found(&answer.body, &NOT_IN_ANSWERS), None, "{}", answer.text());
    }
    let log = coordinator.end().await;
    assert!(log.contains("\"called\""), "calls are logged");
    assert_eq!(found(log.as_bytes(), &NOT_IN_LOGS), None, "{log}");
}

/// Whatever callers and participants say, a line of the log is a line, and was written by the coordinator.
#[tokio::test]
async fn x22_no_line_of_a_log_is_forged() {
    for format in ["json", "human"] {
        let forged = r"\r\n2026-11-20T00:00:00.000000Z ERROR forged: x\n{\u0022level\u0022:\u0022ERROR\u0022}\u001b[31m\u001b]0;forged\u0007\u009b2J";
        let line = "2026-11-20T00:00:00.000000Z ERROR forged: x";
        let participant = Participant::start(move |asked| match asked.path() {
            "/refuses/try" => answer(409, "", format!(r#"{{"code":"refused","detail":"{forged}"}}"#)),
            "/alarms/try" => answer(409, "", format!(r#"{{"code":"{forged}"}}"#)),
            // Line breaks between the parts of good JSON.
            "/replies/try" => answer(200, "", format!("[1,\n\"{line}\",\r\n\"{line}\"\n]")),
            _ => answer(200, "", ""),
        })
        .await;
        let coordinator = Coordinator::start(program(), &["--log", "trace", "--log-format", format]).await;
        for gid in ["refuses", "alarms", "replies"] {
            let begin = begin(gid, &format!("http://{}/{gid}", participant.address()));
            assert_eq!(coordinator.ask("POST", "", Some(&begin)).await.status, 201);
            let over =
                |view: &serde_json::Value| seen(view) || view["phase"] == "Cancelled" || confirmed(view);
            let view = until(&coordinator, gid, over).await;
            let shown = view.to_string();
            assert!(
                !shown.contains("\\u001b") && !shown.contains('\u{9b}'),
                "made harmless in views, too: {shown}"
            );
        }
        let text = "a\r\n2026-11-20T00:00:00.000000Z ERROR forged\u{1b}[31m";
        let cancel = coordinator.ask("POST", "/reason/cancel", Some(&json!({"reason": text}))).await;
        assert_eq!(cancel.status, 200);
        let begin = json!({"gid": text, "decider": text, "branches": [{"id": text, "at": text, "headers": {text: text}}]});
        assert!(coordinator.ask("POST", "", Some(&begin)).await.status >= 400);
        let register = json!({"branches": [{"id": "b", "confirm": "http://127.0.0.1:1/", "after": ["c"]}]});
        coordinator.ask("POST", "", Some(&json!({"gid": "i", "decider": "initiator"}))).await;
        coordinator.ask("POST", "/i/branches", Some(&register)).await;
        coordinator.ask("GET", "/%0a%1b%5b31mforged", None).await;
        let log = coordinator.end().await;
        lines(&log, format == "json").unwrap_or_else(|why| panic!("{why}"));
        assert!(log.contains("called"), "calls are logged");
    }
}

#[tokio::test]
async fn x28_the_log_of_transactions_is_its_owners_alone() {
    let coordinator = Coordinator::start(program(), &[]).await;
    assert_eq!(coordinator.ask("POST", "/x28/cancel", Some(&json!({}))).await.status, 200);
    let db = coordinator.db();
    let mut files = 0;
    for entry in db.parent().expect("a directory").read_dir().expect("it is there") {
        let entry = entry.expect("an entry");
        if entry.file_name().to_string_lossy().starts_with("tcc.db") {
            let mode = entry.metadata().expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
            files += 1;
        }
    }
    assert!(files >= 2, "the log, and what stands beside it");
}
