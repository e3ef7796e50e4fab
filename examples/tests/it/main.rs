//! The demo, run as a newcomer does.

#[cfg(feature = "brokers")]
mod brokers;
mod conformance;
mod embedded;
mod notification;
mod outbox;
mod points;
mod readme;
mod trip;
mod xa;

use std::process::{Command, Output};

use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_demo")).args(arguments).output().unwrap()
}

/// Every field of its last line, whoever was killed meanwhile.
#[test]
fn the_books_balance_after_kills() {
    let run = demo(&["--json", "--orders", "60"]);
    let story = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{story}");
    let output = String::from_utf8(run.stdout).unwrap();
    let line: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    let number = |field: &str| line[field].as_u64().unwrap_or_else(|| panic!("{field} in {line}"));

    assert_eq!(number("orders"), 60);
    assert_eq!(number("confirmed") + number("cancelled"), 60);
    assert!(number("confirmed") > 0 && number("cancelled") > 0, "{line}");
    assert_eq!(number("unfinished"), 0);
    assert!(number("coordinator_kills") >= 1 && number("participant_kills") >= 1, "{line}");
    assert!(number("money_before") > 0 && number("stock_before") > 0, "{line}");
    assert_eq!(number("money_after"), number("money_before"));
    assert_eq!(number("stock_after"), number("stock_before"));
    assert_eq!(number("reserved_after"), 0);
    assert_eq!(line.as_object().unwrap().len(), 11, "{line}");

    // The story names the moment between decision and confirm, in this order.
    let moments = [
        "confirm arrives, and the demo holds it back",
        "says: Confirming",
        "SIGKILL",
        "back, on",
        "says: Confirmed",
    ];
    let timeline = story.split("the coordinator is killed").nth(1).expect("a timeline");
    let mut rest = timeline.split("What became of the orders").next().unwrap();
    for moment in moments {
        rest = rest.split_once(moment).unwrap_or_else(|| panic!("{moment:?} in {timeline}")).1;
    }
}

#[test]
fn a_wrong_flag_is_one_line_and_2() {
    for arguments in [&["--faster"][..], &["--orders", "0"], &["--orders"]] {
        let run = demo(arguments);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
        assert!(run.stdout.is_empty());
        assert_eq!(String::from_utf8(run.stderr).unwrap().lines().count(), 1, "{arguments:?}");
    }
}
