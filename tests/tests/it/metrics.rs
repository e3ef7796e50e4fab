//! What is told to Prometheus: that it is what happened, that the docs list it, and that no caller can make it grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;
use tcc_client::Decision::{Cancel, Confirm};
use tcc_tests::http::{self, Message};

use crate::coordinator::Coordinator;
use crate::transfer::{ByTheCoordinator, Transfer};
use crate::world::{LONG, World, eventually};

/// What was told: the type of each family, and the value of each sample.
#[derive(Debug)]
struct Told {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Told {
    async fn by(coordinator: &Coordinator) -> Self {
        let answer = http::call(coordinator.address(), &Message::request("GET", "/metrics", None)).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::read(&String::from_utf8(answer.body).expect("text"))
    }

    /// Reads it as Prometheus does: a family is told of as a whole, with its type before it, and no sample twice.
    fn read(text: &str) -> Self {
        let mut told = Self { types: BTreeMap::new(), samples: BTreeMap::new() };
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                name.clone_into(&mut family);
                assert!(told.types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
            } else if !line.starts_with("# HELP ") {
                let (sample, value) = line.rsplit_once(' ').expect("a sample");
                let name = sample.split('{').next().expect("a name");
                let of_family = name.strip_prefix(family.as_str());
                let suffixes: &[&str] = match told.types[&family].as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(of_family.is_some_and(|rest| suffixes.contains(&rest)), "{name} in {family}");
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(told.samples.insert(sample.to_owned(), value).is_none(), "{sample} comes twice");
            }
        }
        told
    }

    fn of(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or_else(|| panic!("{sample} is not in {self:#?}"))
    }
}

#[tokio::test]
async fn what_is_told_is_what_happened() {
    let world = World::new().await;
    // No call is repeated because the machine is slow.
    let transfer = || Transfer::new(ByTheCoordinator).call_timeout(LONG);
    transfer().ends(&world, Confirm).await;
    transfer().once(1, "confirm", "fail").ends(&world, Confirm).await;
    transfer().refused().ends(&world, Cancel).await;
    assert_eq!(world.coordinator.ask("GET", "/nobody", None).await.0, 404);
    let open = json!({"gid": "open", "decider": "initiator", "timeout_ms": 3_600_000});
    assert_eq!(world.coordinator.ask("POST", "", Some(open)).await.0, 201);
    // The numbers of the unfinished are some seconds old.
    let told = eventually("the open one", async || {
        let told = Told::by(&world.coordinator).await;
        (told.of("tcc_transactions_in_flight{phase=\"Trying\"}") >= 1.0).then_some(told)
    })
    .await;
    for (sample, value) in [
        ("tcc_transactions_started_total", 4.0),
        ("tcc_transactions_finished_total{outcome=\"Confirmed\"}", 2.0),
        ("tcc_transactions_finished_total{outcome=\"Cancelled\"}", 1.0),
        ("tcc_transactions_finished_total{outcome=\"Abandoned\"}", 0.0),
        ("tcc_transaction_duration_seconds_count{outcome=\"Confirmed\"}", 2.0),
        ("tcc_transaction_duration_seconds_bucket{outcome=\"Confirmed\",le=\"+Inf\"}", 2.0),
        ("tcc_transactions_in_flight{phase=\"Trying\"}", 1.0),
        ("tcc_transactions_in_flight{phase=\"Confirming\"}", 0.0),
        ("tcc_needs_attention", 0.0),
        ("tcc_branch_calls_total{operation=\"try\",result=\"done\"}", 5.0),
        ("tcc_branch_calls_total{operation=\"try\",result=\"refused\"}", 1.0),
        ("tcc_branch_calls_total{operation=\"confirm\",result=\"done\"}", 4.0),
        ("tcc_branch_calls_total{operation=\"confirm\",result=\"unknown\"}", 1.0),
        ("tcc_branch_calls_total{operation=\"cancel\",result=\"done\"}", 2.0),
        ("tcc_branch_retries_total{operation=\"confirm\",reason=\"5xx\"}", 1.0),
        ("tcc_branch_call_duration_seconds_count{operation=\"try\"}", 6.0),
        ("tcc_destinations_shut", 0.0),
    ] {
        assert!(
            (told.of(sample) - value).abs() < f64::EPSILON,
            "{sample} is {}, not {value}",
            told.of(sample)
        );
    }
    let version = concat!("tcc_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    for sample in [
        version,
        "tcc_http_request_duration_seconds_count{method=\"GET\",route=\"/v1/transactions/{gid}\",code=\"404\"}",
        "tcc_http_request_duration_seconds_count{method=\"POST\",route=\"/v1/transactions\",code=\"201\"}",
        "tcc_oldest_unfinished_age_seconds",
        "tcc_store_commit_duration_seconds_count",
        "tcc_store_batch_size_sum",
        "tcc_transaction_duration_seconds_sum{outcome=\"Confirmed\"}",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(told.of(sample) > 0.0, "{sample}");
    }
    // Each save is a row of some commit, and there is nothing else that writes.
    let saves = told.of("tcc_store_saves_total{result=\"won\"}");
    assert!(told.of("tcc_store_batch_size_sum") >= saves && saves >= 9.0, "{saves}");
}

#[tokio::test]
async fn a_destination_that_is_shut_is_counted() {
    let coordinator = Coordinator::alone(&[]).await;
    let branch = json!({"id": "b", "at": "http://127.0.0.1:1/", "retry": {"first_ms": 20, "longest_ms": 20}});
    let begin = json!({"gid": "g", "timeout_ms": 3_600_000, "branches": [branch]});
    assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    let told = eventually("a shut destination", async || {
        let told = Told::by(&coordinator).await;
        (told.of("tcc_destinations_shut") > 0.0).then_some(told)
    })
    .await;
    assert!(told.of("tcc_branch_retries_total{operation=\"try\",reason=\"connect\"}") >= 8.0);
}

#[tokio::test]
async fn x23_no_caller_can_make_what_is_told_grow() {
    let coordinator = Coordinator::alone(&[]).await;
    let ask = async |number: usize| {
        let body = json!({"gid": format!("g{number}"), "decider": "initiator"});
        assert_eq!(coordinator.ask("POST", "", Some(body)).await.0, 201);
        assert_eq!(coordinator.view(&format!("g{number}")).await.0, 200);
        for (method, path) in
            [("GET", format!("/none{number}")), (&*format!("M{number}"), "/livez".to_owned())]
        {
            let answer = http::call(coordinator.address(), &Message::request(method, &path, None)).await;
            assert!([404, 405].contains(&answer.expect("an answer").status()));
        }
    };
    ask(0).await;
    // The request for them is one of them.
    Told::by(&coordinator).await;
    let few: BTreeSet<String> = Told::by(&coordinator).await.samples.into_keys().collect();
    for number in 1..40 {
        ask(number).await;
    }
    let many: BTreeSet<String> = Told::by(&coordinator).await.samples.into_keys().collect();
    assert_eq!(few, many);
    assert!(!few.iter().any(|sample| sample.contains("g0") || sample.contains("none0")));
}

#[tokio::test]
async fn the_docs_list_every_metric_and_no_other() {
    let coordinator = Coordinator::alone(&[]).await;
    let told: BTreeMap<String, String> = Told::by(&coordinator).await.types;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md");
    let docs = std::fs::read_to_string(docs).expect("it is there");
    let listed: BTreeMap<String, String> = docs
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            let kind = cells.get(2)?;
            ["counter", "gauge", "histogram"].contains(kind).then(|| (name.to_owned(), (*kind).to_owned()))
        })
        .collect();
    assert_eq!(listed, told);
}
