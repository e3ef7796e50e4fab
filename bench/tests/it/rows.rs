//! The rows of the table.

use std::fs;

use serde_json::Value;

use crate::{bench, line, number, peer};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_row_is_measured_and_compared() {
    let plots = tempfile::tempdir().unwrap();
    let folder = plots.path().to_str().unwrap().to_owned();
    let peer = format!("other=dtm:http://{}", peer::start().await);
    let lines = tokio::task::spawn_blocking(move || {
        bench(&[
            "--in-flight=4",
            "--branches=2",
            "--seconds=1",
            "--rounds=1",
            "--peer",
            &peer,
            "--durable=other=no, a stub",
            "--plots",
            &folder,
        ])
    });
    let lines = lines.await.unwrap();

    assert!(number(&lines[0]["machine"], "cores") >= 1.0);
    for (row, durable) in [
        ("bare", "no log"),
        ("relay", "no log"),
        ("writes", "yes, fsync before act"),
        ("embedded", "yes, fsync before act"),
        ("memory", "no, in memory"),
        ("coordinator", "yes, fsync before act"),
        ("initiator", "yes, fsync before act"),
        ("peers", "no, a stub"),
    ] {
        let row = line(&lines, "row", row);
        assert_eq!(row["durable"], durable);
        assert_eq!((number(row, "failed"), number(row, "left")), (0.0, 0.0), "{row:#}");
        assert!(number(&row["rounds"][0], "answered") > 0.0, "{row:#}");
        assert!(number(row, "p50_ms") > 0.0 && number(row, "p50_ms") <= number(row, "p99_ms"), "{row:#}");
        assert!(number(row, "p99_ms") <= number(row, "max_ms"), "{row:#}");
        // Of a decision the confirms may come later than the second that was measured.
        assert!(number(row, "per_second") > 0.0 || row["until"] == "decision", "{row:#}");
    }
    for (row, counted) in
        [("bare", false), ("memory", false), ("writes", true), ("coordinator", true), ("embedded", true)]
    {
        let row = line(&lines, "row", row);
        assert_eq!(row["fsyncs"].as_f64().is_some_and(|fsyncs| fsyncs > 0.0), counted, "{row:#}");
    }
    // Whose processor time it is was found by the port.
    assert!(line(&lines, "row", "peers")["rss_mib"].is_number());

    let ratios: Vec<&Value> =
        lines.iter().filter_map(|line| line.get("ratio")).filter(|r| r.is_object()).collect();
    for what in [
        "throughput: log ÷ memory",
        "throughput: tcc ÷ calls alone",
        "throughput: embedded ÷ writes alone",
        "p99: tcc ÷ other",
    ] {
        let ratio = ratios.iter().find(|ratio| ratio["what"] == what);
        assert!(number(ratio.unwrap_or_else(|| panic!("no {what}")), "ratio") > 0.0);
    }
    for name in ["throughput-2.svg", "p50-2.svg", "p99-2.svg", "cpu-2.svg", "fsyncs-2.svg"] {
        let svg = fs::read_to_string(plots.path().join(name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("<circle") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}

#[test]
fn a_steady_rate_is_kept_and_no_more_is_asked_for() {
    let lines =
        bench(&["--only=bare", "--in-flight=8", "--branches=2", "--seconds=2", "--rounds=1", "--rate=10"]);
    let row = line(&lines, "row", "bare");
    assert_eq!(number(&row["rounds"][0], "answered"), 20.0, "{row:#}");
}

#[test]
fn a_peer_that_is_not_there_has_failed_and_nothing_else() {
    // Nobody listens on port 1.
    let peer = "--peer=gone=dtm:http://127.0.0.1:1";
    let lines =
        bench(&["--only=peers", "--in-flight=2", "--branches=2", "--seconds=0.5", "--rounds=1", peer]);
    let row = line(&lines, "row", "peers");
    assert!(number(row, "failed") > 0.0 && number(row, "per_second") == 0.0, "{row:#}");
    assert!(row["p99_ms"].is_null() && row["rounds"][0]["failure"].is_string(), "{row:#}");
    assert_eq!(row["durable"], "not stated");
}
