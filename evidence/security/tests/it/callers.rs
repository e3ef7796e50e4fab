//! Who may ask for what, and how: X1, X2, X8, X12, X15, X18.

use serde_json::{Value, json};
use tcc_core::limits::JSON_DEPTH;
use tcc_core::wire::ProblemCode;
use tcc_security::coordinator::Coordinator;
use tcc_security::documented::{By, Said, read};
use tcc_security::exchange::{Request, Until, exchange};
use tcc_security::hostile::ROUTES;
use tcc_security::lab;
use tcc_security::secrets::{TOKEN, WRONG_TOKEN};

use crate::program;

fn code(said: &Said) -> Option<ProblemCode> {
    if let Said::Problem(code) = said { Some(*code) } else { None }
}

/// The operations as the API declares them, so that none can be forgotten here.
fn declared() -> Vec<(String, String)> {
    let described = serde_json::to_value(tcc_server::api::document()).expect("a description");
    let described = described["paths"].as_object().expect("paths").clone();
    let described = described.into_iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").clone();
        methods.into_iter().map(move |(method, _)| (method.to_uppercase(), path.clone()))
    });
    let beside = include_str!("../../../../tcc-server/src/api/mod.rs");
    let beside = beside.split(".route(\"").skip(1).map(|rest| {
        let (path, rest) = rest.split_once('"').expect("a path");
        let method = rest.trim_start_matches([',', ' ']).split('(').next().expect("a method");
        (method.to_uppercase(), path.to_owned())
    });
    described.chain(beside).collect()
}

#[test]
fn x1_every_operation_is_attacked() {
    let known = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
    let (mut known, mut declared) = (known.to_vec(), declared());
    known.sort();
    declared.sort();
    assert_eq!(known, declared);
}

#[tokio::test]
async fn x1_no_operation_is_done_without_the_token_and_none_tells_whether_a_gid_is_known() {
    let coordinator = Coordinator::start(program(), &[]).await;
    let begun = coordinator.ask("POST", "", Some(&json!({"gid": "known", "decider": "initiator"}))).await;
    assert_eq!(begun.status, 201);
    let wrong = [
        None,
        Some(format!("Bearer {WRONG_TOKEN}")),
        Some(format!("Bearer {}", &TOKEN[1..])),
        Some(format!("Bearer {TOKEN}x")),
        Some(format!("Basic {TOKEN}")),
        Some(TOKEN.to_owned()),
        Some("Bearer ".to_owned()),
    ];
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
    for (path, token) in declared().iter().flat_map(|(_, path)| wrong.iter().map(move |token| (path, token)))
    {
        for method in methods {
            let mut bodies = Vec::new();
            for gid in ["known", "unknown"] {
                let mut request = Request::new(method, &path.replace("{gid}", gid));
                if let Some(token) = token {
                    request = request.with("authorization", token.as_str());
                }
                request = request.json(r#"{"gid":"stolen","decider":"initiator"}"#);
                let answer = coordinator.send(&request).await;
                let said = read(&answer, By::Api, method == "HEAD").unwrap_or_else(|why| panic!("{why}"));
                let ours = declared().iter().any(|(m, p)| m == method && p == path);
                if (path.starts_with("/v1") || path == "/metrics") && (ours || method == "HEAD") {
                    let refused = [401, 405].contains(&answer.status);
                    assert!(
                        refused && (method == "HEAD" || answer.status == 401),
                        "{method} {path} {token:?}"
                    );
                } else {
                    let known = matches!(said, Said::Probe | Said::Bare(_));
                    let refused = [Some(ProblemCode::MethodNotAllowed), Some(ProblemCode::Unauthorized)];
                    assert!(known || refused.contains(&code(&said)), "{method} {path} {said:?}");
                }
                bodies.push((answer.status, answer.body));
            }
            assert_eq!(bodies[0], bodies[1], "{method} {path} tells the known from the unknown");
        }
    }
    assert_eq!(coordinator.view("known").await.1["phase"], "Trying", "nothing was done");
    assert_eq!(coordinator.view("stolen").await.0, 404, "nothing was stored");
}

/// The whole network of the lab is looked at: with no flags, loopback and nothing else is listened on.
#[tokio::test]
async fn x2_without_flags_only_this_machine_is_served() {
    match lab::run(program(), lab::DEFAULTS).await {
        Err(why) => tcc_tests::skipped(&why),
        Ok(found) => {
            assert_eq!(found["said"], "127.0.0.1:7780");
            assert_eq!(found["listening"], json!(["0100007F:1E64"]));
        }
    }
}

/// Bound parameters only: texts that mean something to a database are nothing but texts.
#[tokio::test]
async fn x8_what_looks_like_sql_is_stored_as_it_is_or_refused() {
    let coordinator = Coordinator::start(program(), &[]).await;
    for (i, text) in
        ["' OR 1=1 --", "'; DROP TABLE tx; --", "\" UNION SELECT 1", "%27", "\\'", "1;ATTACH 'x' AS y"]
            .into_iter()
            .enumerate()
    {
        let cancel =
            coordinator.ask("POST", &format!("/x8:{i}/cancel"), Some(&json!({"reason": text}))).await;
        assert_eq!((cancel.status, &cancel.json()["reason"]), (200, &json!(text)));
        assert_eq!(coordinator.view(&format!("x8:{i}")).await.1["reason"], text);
        let begin = coordinator.ask("POST", "", Some(&json!({"gid": text, "decider": "initiator"}))).await;
        assert_eq!(begin.status, 422);
    }
}

async fn says(coordinator: &Coordinator, request: &Request, expected: ProblemCode) {
    let answer = coordinator.send(request).await;
    let said = read(&answer, By::Api, false).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(code(&said), Some(expected), "{}", answer.text());
}

#[tokio::test]
async fn x12_bodies_that_are_too_much_are_refused_and_nothing_is_stored() {
    let coordinator = Coordinator::start(program(), &[]).await;
    let post = |body: &[u8]| Request::new("POST", "/v1/transactions").with_token().json(body);
    let payload = |payload: &str| {
        format!(
            r#"{{"gid":"x12","branches":[{{"id":"a","confirm":"http://127.0.0.1:1/","payload":{payload}}}]}}"#
        )
    };
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for payload in [
        payload(&nested(JSON_DEPTH + 1)),
        payload(&nested(128)),
        payload(&nested(30_000)),
        payload(&"[".repeat(30_000)),
        payload("1e400"),
        payload(r#""\ud800""#),
        payload(&format!("\"{}\"", "x".repeat(64 * 1024))),
    ] {
        let answer = coordinator.send(&post(payload.as_bytes())).await;
        assert!([400, 422].contains(&answer.status), "{} {}", answer.status, answer.text());
    }
    says(&coordinator, &post(nested(100_000).as_bytes()), ProblemCode::Malformed).await;
    says(&coordinator, &post(b"{\"gid\":\"x12\xff\"}"), ProblemCode::Malformed).await;
    says(&coordinator, &post(br#"{"gid":"x12","gid":"x12b"}"#), ProblemCode::Malformed).await;
    says(&coordinator, &post(br#"{"gid":"x12","timeout_ms":1e2}"#), ProblemCode::Malformed).await;
    says(&coordinator, &post(&vec![b' '; 512 * 1024 + 1]), ProblemCode::TooLarge).await;
    let typed = |declared: &str| {
        let good = r#"{"gid":"x12","decider":"initiator"}"#;
        let mut request =
            Request::new("POST", "/v1/transactions").with_token().with("content-type", declared);
        request.body = good.as_bytes().to_vec();
        request
    };
    for declared in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        says(&coordinator, &typed(declared), ProblemCode::UnsupportedMediaType).await;
    }
    assert_eq!(coordinator.view("x12").await.0, 404, "nothing was stored");
    assert_eq!(coordinator.send(&typed("application/json; charset=utf-8")).await.status, 201);
}

/// A payload of the greatest depth comes out as it went in.
#[tokio::test]
async fn x12_a_payload_is_either_refused_or_sent_as_it_is() {
    let participant =
        tcc_security::participant::Participant::start(|_| tcc_security::participant::answer(200, "", ""))
            .await;
    let coordinator = Coordinator::start(program(), &[]).await;
    let deep = format!("{}{}", "[".repeat(JSON_DEPTH), "]".repeat(JSON_DEPTH));
    let body = format!(
        r#"{{"gid":"x12","branches":[{{"id":"a","confirm":"http://{}/","payload":{deep}}}]}}"#,
        participant.address()
    );
    let request = Request::new("POST", "/v1/transactions?wait=end").with_token().json(body);
    let begun = coordinator.send(&request).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    assert_eq!(participant.asked()[0].body, deep.as_bytes());
}

/// Whatever two readers could take for two requests is answered once, or not at all, and the connection is closed.
#[tokio::test]
async fn x15_no_request_is_smuggled_in_the_body_of_another() {
    let coordinator = Coordinator::start(program(), &[]).await;
    let inner = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let head = format!(
        "POST /v1/transactions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n"
    );
    let chunked = format!("0\r\n\r\n{inner}");
    for sent in [
        format!("{head}content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n{chunked}", chunked.len()),
        format!("{head}transfer-encoding: chunked\r\ncontent-length: {}\r\n\r\n{chunked}", chunked.len()),
        format!("{head}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n{chunked}"),
        format!("{head}content-length: 0\r\ncontent-length: {}\r\n\r\n{inner}", inner.len()),
        format!("{head}content-length: {}\r\ncontent-length: 0\r\n\r\n{inner}", inner.len()),
        format!("{head}content-length: 0, {}\r\n\r\n{inner}", inner.len()),
        format!("{head}content-length: +{}\r\n\r\n{inner}", inner.len()),
        format!("{head}transfer-encoding: xchunked\r\ncontent-length: {}\r\n\r\n{chunked}", chunked.len()),
        format!("{head}transfer-encoding: chunked, identity\r\n\r\n{chunked}"),
        format!("{head}transfer-encoding : chunked\r\ncontent-length: {}\r\n\r\n{inner}", inner.len()),
        format!("{head}transfer-encoding:\r\n chunked\r\ncontent-length: {}\r\n\r\n{chunked}", chunked.len()),
        format!("{}transfer-encoding: chunked\r\n\r\n{chunked}", head.replace("HTTP/1.1", "HTTP/1.0")),
    ] {
        let heard = exchange(coordinator.address(), sent.as_bytes(), Until::Quiet, false).await;
        let heard = heard.expect("it listens");
        assert!(heard.answers.len() <= 1, "{sent}\n{heard:?}");
        for answer in &heard.answers {
            assert!([400, 422].contains(&answer.status), "{sent}\n{answer:?}");
        }
    }
}

/// A page in a browser can send no request that changes anything: it would have to ask first, and is not answered.
#[tokio::test]
async fn x18_a_page_of_another_origin_gets_nothing_done() {
    let coordinator = Coordinator::start(program(), &[]).await;
    for (method, path) in ROUTES {
        let path = path.replace("{gid}", "x18");
        let preflight = Request::new("OPTIONS", &path)
            .with("origin", "http://evil.example")
            .with("access-control-request-method", method)
            .with("access-control-request-headers", "authorization, content-type");
        let answer = coordinator.send(&preflight).await;
        assert!(answer.status >= 400, "{path}");
        assert!(!answer.head.to_ascii_lowercase().contains("access-control-"), "{}", answer.head);
    }
    for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let mut simple = Request::new("POST", "/v1/transactions").with_token().with("content-type", form);
        simple.body = br#"{"gid":"x18","decider":"initiator"}"#.to_vec();
        assert_eq!(coordinator.send(&simple).await.status, 415);
    }
    for path in ["/x18/cancel", "/x18/confirm", "/x18/branches", "/x18/branches/b/force", "/x18/retry"] {
        assert_eq!(coordinator.ask("GET", path, None).await.status, 405, "no GET changes anything");
    }
    let listed = coordinator.ask("GET", "", None).await;
    assert_eq!((listed.status, listed.json()), (200, json!({"transactions": []})));
    let (status, known) = coordinator.view("x18").await;
    assert_eq!((status, &known["code"]), (404, &Value::from("unknown-gid")));
}
