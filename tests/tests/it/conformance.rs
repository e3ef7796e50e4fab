//! `tcc-server conformance`: what it says of participants, how it ends, and what it refuses.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::Value;
use tokio::process::Command;

use crate::bank::{Bank, Site};
use crate::command_line::output;

/// Runs the command to its end.
pub(crate) async fn conformance(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    output(command.arg("conformance").args(arguments).kill_on_drop(true)).await
}

/// What it said of a participant whose calls and effects are at these URLs, as JSON.
pub(crate) async fn report(
    url: &str,
    effect: Option<&str>,
    payload: &str,
    refused: Option<&str>,
) -> (i32, Value) {
    let mut arguments = vec!["--json", "--url", url, "--payload", payload];
    arguments.extend(effect.map(|url| ["--effect-url", url]).into_iter().flatten());
    arguments.extend(refused.map(|json| ["--refused-payload", json]).into_iter().flatten());
    let output = conformance(&arguments).await;
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {said}"));
    (output.status.code().expect("it ended by itself"), report)
}

/// The checks with this verdict, as `P4 a_late_try_is_refused`.
pub(crate) fn checks(report: &Value, verdict: &str) -> Vec<String> {
    let text = |check: &Value, field: &str| check[field].as_str().expect("a text").to_owned();
    let checks = report["checks"].as_array().expect("a list").iter();
    let those = checks.filter(|check| check["verdict"] == verdict);
    those.map(|check| format!("{} {}", text(check, "promise"), text(check, "name"))).collect()
}

/// Serves a router for as long as the test runs.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn a_participant_of_ours_passes_by_its_answers_and_the_report_says_what_was_not_seen() {
    let directory = tempfile::tempdir().expect("a directory");
    let bank = Bank::open(directory.path().join("bank"), Site::default()).await;
    let url = bank.at();
    let (code, report) = report(&url, None, r#"{"amount": -1}"#, Some(r#"{"amount": -100000}"#)).await;
    assert_eq!((code, &report["holds"], &report["complete"]), (0, &true.into(), &false.into()), "{report}");
    assert_eq!(checks(&report, "not-tested"), ["P5 a_refused_try_leaves_nothing"], "{report}");
    let seen = |by: &str| {
        report["checks"].as_array().expect("a list").iter().filter(|check| check["seen"] == by).count()
    };
    assert!(seen("answers") > seen("all"), "{report}");
}

#[tokio::test]
async fn calls_are_signed_by_the_keys_of_a_file() {
    let (directory, key) =
        (tempfile::tempdir().expect("a directory"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let bank = Bank::open(directory.path().join("bank"), Site::default()).await;
    bank.down().await;
    bank.believes(key);
    bank.up().await;
    let file = directory.path().join("keys");
    std::fs::write(&file, key).expect("a file");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    let (url, file) = (bank.at(), file.to_string_lossy());
    let payload = ["--url", &*url, "--payload", r#"{"amount": -1}"#];
    let unsigned = conformance(&payload).await;
    assert_eq!(unsigned.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unsigned.stdout).contains("401 unsigned"));
    let signed = conformance(&[&payload[..], &["--signing-key-file", &file]].concat()).await;
    let said = String::from_utf8_lossy(&signed.stdout);
    assert_eq!(signed.status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn a_service_without_a_guard_is_caught_and_told_how_to_mend_it() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, shown) = (calls.clone(), calls.clone());
    let service = Router::new()
        .route("/calls", axum::routing::get(async move || shown.load(Ordering::SeqCst).to_string()))
        .fallback(async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            StatusCode::OK
        });
    let url = serve(service).await;
    let output =
        conformance(&["--url", &url, "--payload", "{}", "--effect-url", &format!("{url}/calls")]).await;
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "BROKEN     P2      a repeated try has no second effect",
        "BROKEN     P4      a late try is refused",
        "BROKEN     P6      a confirm without its try is an alarm",
        "    done: confirm → 200",
        "    to mend it: Where there is no guard row the confirm answers 409 not-tried and does nothing.",
        "not tested P5      a refused try leaves nothing: no payload was given that is refused",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_unclear_and_it_ends_all_the_same() {
    let service = Router::new().fallback(async || {
        std::future::pending::<()>().await;
        StatusCode::OK.into_response()
    });
    let url = serve(service).await;
    let output = conformance(&["--url", &url, "--timeout", "200ms", "--within", "500ms"]).await;
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("UNCLEAR") && said.contains("timed-out") && said.contains("0 broken, 2 unclear"),
        "{said}"
    );
}

#[tokio::test]
async fn a_flag_that_is_wrong_is_one_line_and_nothing_is_called() {
    for (arguments, words) in [
        (&[][..], "--url"),
        (&["--url", "payment/try"], "payment/try"),
        (&["--url", "ftp://payment/tcc"], "ftp"),
        (&["--url", "http://169.254.169.254/latest"], "never called"),
        (&["--url", "http://payment/tcc?x=1"], "query"),
        (&["--url", "http://payment/tcc", "--payload", "{"], "--payload"),
        (&["--url", "http://payment/tcc", "--effect-url", "books"], "--effect-url"),
        (&["--url", "http://payment/tcc", "--header", "no colon"], "--header"),
        (&["--url", "http://payment/tcc", "--within", "soon"], "--within"),
        (&["--url", "http://payment/tcc", "--signing-key-file", "no-such-file"], "--signing-key-file"),
        (&["--url", "http://payment/tcc", "--ca-file", "no-such-file"], "--ca-file"),
        (&["--url", "http://payment/tcc", "--faster"], "--faster"),
    ] {
        let output = conformance(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.lines().count() == 1 && said.contains(words), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn its_help_says_that_it_changes_data() {
    let output = conformance(&["--help"]).await;
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0));
    for words in ["CHANGES DATA", "tcc-conformance/", "Usage: tcc-server conformance", "--effect-url"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}
