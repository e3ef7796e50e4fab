//! One trace over the initiator, the coordinator and its participants, and what is repeated after a restart.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tcc_tests::http::Message;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::coordinator::Coordinator;
use crate::peers::Recorder;
use crate::world::eventually;

/// A span as a collector is told it.
#[derive(Clone, Debug, Default)]
struct Span {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
}

/// A collector: OTLP over HTTP, as protocol buffers.
struct Collector {
    address: std::net::SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let collector = Self { address, spans: Arc::default() };
        let spans = collector.spans.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let spans = spans.clone();
                tokio::spawn(async move {
                    let (from, mut to) = stream.into_split();
                    let mut from = BufReader::new(from);
                    while let Ok(Some(message)) = Message::read(&mut from).await {
                        assert_eq!(message.path(), "/v1/traces");
                        assert_eq!(message.header("content-type"), Some("application/x-protobuf"));
                        spans.lock().unwrap().extend(read(&message.body));
                        let _ = to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                });
            }
        });
        collector
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

/// The spans of an `ExportTraceServiceRequest`: resource_spans (1), scope_spans (2), spans (2).
fn read(request: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for (_, resource) in fields(request).into_iter().filter(|(number, _)| *number == 1) {
        for (_, scope) in fields(resource).into_iter().filter(|(number, _)| *number == 2) {
            for (_, span) in fields(scope).into_iter().filter(|(number, _)| *number == 2) {
                let mut read = Span::default();
                for (number, value) in fields(span) {
                    match number {
                        1 => read.trace = value.to_vec(),
                        2 => read.id = value.to_vec(),
                        4 => read.parent = value.to_vec(),
                        5 => read.name = String::from_utf8(value.to_vec()).expect("text"),
                        _ => {}
                    }
                }
                spans.push(read);
            }
        }
    }
    spans
}

/// The fields of a message that hold bytes; numbers are passed over.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    fn number(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = message.split_first().expect("a whole number");
            *message = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = number(&mut message);
        let length = match tag & 7 {
            0 => {
                number(&mut message);
                continue;
            }
            1 => 8,
            2 => usize::try_from(number(&mut message)).expect("a length"),
            5 => 4,
            other => panic!("there is no wire type {other}"),
        };
        let (value, rest) = message.split_at(length);
        message = rest;
        if tag & 7 == 2 {
            fields.push((tag >> 3, value));
        }
    }
    fields
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const INITIATOR: &str = "b7ad6b7169203331";

#[tokio::test]
async fn one_trace_has_the_begin_all_calls_and_what_is_repeated_after_a_restart() {
    let (collector, participant) = (Collector::start().await, Recorder::start().await);
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let mut coordinator = Coordinator::asleep(directory, &[]).await;
    let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", collector.address);
    coordinator.through(&["env", &endpoint, "OTEL_BSP_SCHEDULE_DELAY=100"]);
    coordinator.start().await;
    let branch = json!({"id": "b", "at": participant.at(), "retry": {"first_ms": 20, "longest_ms": 50}});
    let begin = json!({"gid": "g", "timeout_ms": 3_600_000, "branches": [branch]}).to_string();
    let begin = Message::request("POST", "/v1/transactions?wait=decision", Some(&begin));
    let begin = begin.with("traceparent", &format!("00-{TRACE}-{INITIATOR}-01"));
    participant.fails_to.lock().unwrap().push_str("/confirm");
    assert_eq!(coordinator.send(&begin).await.0, 201);
    let calls = || participant.seen.lock().unwrap().len();
    eventually("a confirm that fails", async || (calls() >= 3).then_some(())).await;
    coordinator.terminate().await;
    let before = calls();
    coordinator.start().await;
    eventually("one after the restart", async || (calls() > before).then_some(())).await;
    participant.fails_to.lock().unwrap().clear();
    assert_eq!(coordinator.end("g").await["phase"], json!("Confirmed"));
    assert_eq!(coordinator.terminate().await.code(), Some(0), "what is left to be told is told at the end");

    let spans = collector.spans();
    let of_trace: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace) == TRACE).collect();
    let begun: Vec<_> = of_trace.iter().filter(|span| span.name == "POST /v1/transactions").collect();
    assert_eq!(begun.len(), 1, "{spans:?}");
    assert_eq!(hex(&begun[0].parent), INITIATOR);
    // Each call that arrived is a span below the begin, and there are no others.
    let mut ids = BTreeSet::new();
    for call in participant.take() {
        let header = call.header("traceparent").expect("a trace").to_owned();
        let id = header.strip_prefix(&format!("00-{TRACE}-")).and_then(|rest| rest.strip_suffix("-01"));
        assert!(ids.insert(id.unwrap_or_else(|| panic!("{header}")).to_owned()), "{header} comes twice");
    }
    let calls: Vec<_> =
        of_trace.iter().filter(|span| ["try b", "confirm b"].contains(&&*span.name)).collect();
    assert!(calls.iter().all(|span| span.parent == begun[0].id), "{spans:?}");
    assert_eq!(calls.iter().map(|span| hex(&span.id)).collect::<BTreeSet<_>>(), ids);
    assert_eq!(of_trace.len(), ids.len() + 1);
    assert!(ids.len() >= 4, "a try and three confirms");
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_nothing_up() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let participant = Recorder::start().await;
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let mut coordinator = Coordinator::asleep(directory, &[]).await;
    let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", nobody.local_addr().expect("an address"));
    coordinator.through(&["env", &endpoint, "OTEL_BSP_SCHEDULE_DELAY=50"]);
    coordinator.start().await;
    let begin = json!({"gid": "g", "branches": [{"id": "b", "at": participant.at()}]});
    assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    assert_eq!(coordinator.end("g").await["phase"], json!("Confirmed"));
    // A begin without a trace begins one.
    let seen = participant.take();
    let traces: BTreeSet<_> =
        seen.iter().map(|call| call.header("traceparent").expect("a trace")[3..35].to_owned()).collect();
    assert_eq!(traces.len(), 1, "{traces:?}");
    assert_eq!(coordinator.terminate().await.code(), Some(0));
}
