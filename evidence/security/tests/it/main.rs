//! The security matrix, a row a test. `x7_…` is row X7 of the matrix; rows that speak of what there is not yet (a
//! dashboard, roles, signed calls, metrics) have none.
//!
//! - [`callers`]: who may ask for what, and how (X1, X2, X8, X12, X15, X18);
//! - [`connections`]: those who hold them and make no use of them (X13, X14);
//! - [`destinations`]: where calls may go (X3 to X6);
//! - [`participants`]: what their answers can do (X16, X26);
//! - [`injection`]: what ends up in headers and logs (X7, X21, X22, X28);
//! - [`generated`]: the generator of hostile requests, and the parsers, in their short form.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tcc_security::coordinator::Coordinator;

mod callers;
mod connections;
mod destinations;
mod generated;
mod injection;
mod participants;

/// The program that becomes a coordinator or a lab.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tcc-security"))
}

/// A transaction of one branch, tried by the coordinator.
fn begin(gid: &str, at: &str) -> Value {
    serde_json::json!({"gid": gid, "branches": [
        {"id": "b", "at": at, "retry": {"first_ms": 50, "longest_ms": 100}},
    ]})
}

/// Looks at a transaction until something is so of it, but not for ever.
async fn until(coordinator: &Coordinator, gid: &str, so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1000 {
        let (_, view) = coordinator.view(gid).await;
        if so(&view) {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to that: {}", coordinator.view(gid).await.1);
}

/// Whether a call brought something that does not settle its branch.
fn seen(view: &Value) -> bool {
    view["branches"][0]["seen"].is_string()
}

/// Whether it was confirmed to its end.
fn confirmed(view: &Value) -> bool {
    view["phase"] == "Confirmed"
}
