//! Requests that are wrong: refused with the place of the mistake, and nothing is stored of them.

use serde_json::{Value, json};
use tcc_tests::http::{self, Message};

use crate::coordinator::Coordinator;

const GID: &str = "bad/1";

/// A begin that would be good, to be spoilt.
fn good() -> Value {
    json!({"gid": GID, "timeout_ms": 20_000, "branches": [
        {"id": "a", "at": "http://127.0.0.1:1/a"},
        {"id": "b", "at": "http://127.0.0.1:1/b", "after": ["a"]},
    ]})
}

/// Begins what is spoilt here, and checks what is said of it.
async fn refused(status: u16, code: &str, pointer: Option<&str>, spoil: impl FnOnce(&mut Value)) {
    let mut begin = good();
    spoil(&mut begin);
    refused_as_sent(status, code, pointer, &begin.to_string()).await;
}

async fn refused_as_sent(status: u16, code: &str, pointer: Option<&str>, body: &str) {
    let coordinator = Coordinator::alone(&[]).await;
    says(&coordinator, &Message::request("POST", "/v1/transactions", Some(body)), status, code, pointer)
        .await;
    let (status, known) = coordinator.view(GID).await;
    assert_eq!((status, &known["code"]), (404, &json!("unknown-gid")), "nothing is stored");
}

/// Sends a request, and checks what is said of it.
async fn says(coordinator: &Coordinator, request: &Message, status: u16, code: &str, pointer: Option<&str>) {
    let answer = http::call(coordinator.address(), request).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status(), status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{text}");
    let problem: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
    assert_eq!(problem["type"], json!(format!("urn:tcc:problem:{code}")), "{problem}");
    assert_eq!(problem["pointer"].as_str(), pointer, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    assert_eq!(problem["retryable"], json!(false), "{problem}");
}

#[tokio::test]
async fn a_begin_that_is_no_json_is_refused() {
    refused_as_sent(400, "malformed", None, r#"{"gid": "bad/1", "#).await;
}

#[tokio::test]
async fn a_begin_with_something_after_its_end_is_refused() {
    refused_as_sent(400, "malformed", None, &format!("{} {{}}", good())).await;
}

#[tokio::test]
async fn a_begin_that_is_not_declared_as_json_is_refused() {
    let coordinator = Coordinator::alone(&[]).await;
    let mut request = Message::request("POST", "/v1/transactions", None).with("content-type", "text/plain");
    request = request.with_body(good().to_string().as_bytes());
    says(&coordinator, &request, 415, "unsupported-media-type", None).await;
    assert_eq!(coordinator.view(GID).await.0, 404);
}

#[tokio::test]
async fn a_field_that_nobody_knows_is_refused() {
    refused(400, "malformed", Some("/time_out_ms"), |begin| begin["time_out_ms"] = json!(5)).await;
}

#[tokio::test]
async fn a_field_of_a_branch_that_nobody_knows_is_refused() {
    refused(400, "malformed", Some("/branches/1/undo"), |begin| {
        begin["branches"][1]["undo"] = json!("http://x/");
    })
    .await;
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_refused() {
    refused(400, "malformed", Some("/branches/0/id"), |begin| begin["branches"][0]["id"] = json!(7)).await;
}

#[tokio::test]
async fn a_gid_with_what_may_not_stand_in_one_is_refused() {
    refused(422, "invalid", Some("/gid"), |begin| begin["gid"] = json!("a b")).await;
}

#[tokio::test]
async fn a_gid_that_is_empty_is_refused() {
    refused(422, "invalid", Some("/gid"), |begin| begin["gid"] = json!("")).await;
}

#[tokio::test]
async fn a_gid_that_is_too_long_is_refused_and_not_cut() {
    refused(422, "invalid", Some("/gid"), |begin| begin["gid"] = json!("g".repeat(129))).await;
}

#[tokio::test]
async fn a_branch_id_that_stands_twice_is_refused() {
    refused(422, "invalid", Some("/branches/0/id"), |begin| {
        begin["branches"][1] = json!({"id": "a", "at": "http://127.0.0.1:1/b"});
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_is_refused() {
    refused(422, "invalid", Some("/branches/0/at"), |begin| {
        begin["branches"][0]["at"] = json!("payment/try")
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_whose_scheme_is_not_served_is_refused() {
    refused(422, "invalid", Some("/branches/0/try"), |begin| begin["branches"][0]["at"] = json!("ftp://x/a"))
        .await;
}

#[tokio::test]
async fn an_endpoint_that_must_not_be_called_is_refused() {
    refused(422, "invalid", Some("/branches/0/try"), |begin| {
        begin["branches"][0]["at"] = json!("http://169.254.169.254/latest");
    })
    .await;
}

#[tokio::test]
async fn a_branch_without_any_endpoint_is_refused() {
    refused(422, "invalid", Some("/branches/0"), |begin| begin["branches"][0] = json!({"id": "a"})).await;
}

#[tokio::test]
async fn a_try_without_a_cancel_is_refused() {
    refused(422, "invalid", Some("/branches/0/cancel"), |begin| {
        begin["branches"][0] = json!({"id": "a", "try": "http://127.0.0.1:1/try"});
    })
    .await;
}

#[tokio::test]
async fn a_cancel_without_a_try_is_refused_where_the_coordinator_decides() {
    refused(422, "invalid", Some("/branches/0/try"), |begin| {
        begin["branches"][0] = json!({"id": "a", "cancel": "http://127.0.0.1:1/cancel"});
    })
    .await;
}

#[tokio::test]
async fn no_branches_are_refused_where_the_coordinator_decides() {
    refused(422, "invalid", Some("/branches"), |begin| begin["branches"] = json!([])).await;
}

#[tokio::test]
async fn an_after_that_names_no_branch_is_refused() {
    refused(422, "invalid", Some("/branches/1/after/0"), |begin| {
        begin["branches"][1]["after"] = json!(["c"])
    })
    .await;
}

#[tokio::test]
async fn branches_that_wait_for_each_other_are_refused() {
    refused(422, "invalid", Some("/branches/0/after"), |begin| begin["branches"][0]["after"] = json!(["b"]))
        .await;
}

#[tokio::test]
async fn a_length_that_is_no_number_is_refused() {
    refused(400, "malformed", Some("/timeout_ms"), |begin| begin["timeout_ms"] = json!("20s")).await;
}

#[tokio::test]
async fn a_length_that_is_negative_is_refused() {
    refused(400, "malformed", Some("/timeout_ms"), |begin| begin["timeout_ms"] = json!(-1)).await;
}

#[tokio::test]
async fn a_length_that_is_zero_is_refused() {
    refused(422, "invalid", Some("/timeout_ms"), |begin| begin["timeout_ms"] = json!(0)).await;
}

#[tokio::test]
async fn a_length_over_a_year_is_refused() {
    refused(422, "invalid", Some("/timeout_ms"), |begin| begin["timeout_ms"] = json!(u64::MAX)).await;
}

#[tokio::test]
async fn a_call_that_may_take_too_long_is_refused() {
    refused(422, "invalid", Some("/branches/0/timeout_ms"), |begin| {
        begin["branches"][0]["timeout_ms"] = json!(60_001);
    })
    .await;
}

#[tokio::test]
async fn a_ladder_that_ends_is_refused_where_there_is_something_to_undo() {
    refused(422, "invalid", Some("/branches/0/retry/give_up"), |begin| {
        begin["branches"][0]["retry"] = json!({"intervals_ms": [10], "give_up": true});
    })
    .await;
}

#[tokio::test]
async fn a_header_that_is_not_the_callers_to_set_is_refused() {
    refused(422, "invalid", Some("/branches/0/headers"), |begin| {
        begin["branches"][0]["headers"] = json!({"Tcc-Gid": "another"});
    })
    .await;
}

#[tokio::test]
async fn a_decider_that_nobody_knows_is_refused() {
    refused(422, "invalid", Some("/decider"), |begin| begin["decider"] = json!("me")).await;
}

#[tokio::test]
async fn too_many_branches_are_refused() {
    refused(422, "invalid", Some("/branches"), |begin| {
        let branch = |i| json!({"id": format!("b{i}"), "at": "http://127.0.0.1:1/"});
        begin["branches"] = (0..101).map(branch).collect();
    })
    .await;
}

#[tokio::test]
async fn a_payload_that_is_too_long_is_refused() {
    refused(422, "invalid", Some("/branches/0/payload"), |begin| {
        begin["branches"][0]["payload"] = json!("p".repeat(64 * 1024));
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    refused(413, "too-large", None, |begin| begin["branches"][0]["payload"] = json!("p".repeat(512 * 1024)))
        .await;
}

#[tokio::test]
async fn a_mistake_in_a_path_or_a_query_is_refused() {
    let coordinator = Coordinator::alone(&[]).await;
    let (long, empty) = (format!("/v1/transactions/{}", "g".repeat(129)), Some("{}"));
    for (method, path, body, status, code, pointer) in [
        ("GET", "/v1/transactions/a%20b", None, 422, "invalid", None),
        ("GET", "/v1/transactions/%FF", None, 422, "invalid", None),
        ("GET", &*long, None, 422, "invalid", None),
        ("GET", "/v1/transactions/a?wait=forever", None, 422, "invalid", Some("?wait")),
        ("GET", "/v1/transactions/a?timeout_ms=5", None, 422, "invalid", Some("?timeout_ms")),
        ("GET", "/v1/transactions/a?wait=end&timeout_ms=60001", None, 422, "invalid", Some("?timeout_ms")),
        ("GET", "/v1/transactions/a?wait=end&timeout_ms=soon", None, 422, "invalid", Some("?")),
        ("GET", "/v1/transactions/a?await=end", None, 422, "invalid", Some("?")),
        ("POST", "/v1/transactions/a/confirm", empty, 400, "malformed", None),
        (
            "POST",
            "/v1/transactions/a/branches",
            Some(r#"{"branches": []}"#),
            422,
            "invalid",
            Some("/branches"),
        ),
        (
            "POST",
            "/v1/transactions/a/confirm",
            Some(r#"{"tried": ["a b"]}"#),
            422,
            "invalid",
            Some("/tried/0"),
        ),
        ("POST", "/v1/transactions/a/cancel", Some(r#"{"why": "so"}"#), 400, "malformed", Some("/why")),
        ("POST", "/v1/transactions/a", empty, 405, "method-not-allowed", None),
        ("GET", "/v2/transactions/a", None, 404, "not-found", None),
    ] {
        println!("{method} {path}");
        says(&coordinator, &Message::request(method, path, body), status, code, pointer).await;
    }
    assert_eq!(coordinator.view("a").await.0, 404, "nothing is stored");
}
