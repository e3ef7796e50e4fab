//! Every parser of outside bytes, given bytes that nobody should send: none panics, and what is taken can be relied on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::value::RawValue;
use tcc_client::Call;
use tcc_core::answer::{Answer, Reply, Response, Shape, judge};
use tcc_core::contract::row;
use tcc_core::store::{Row, Store, Write, load};
use tcc_core::wire::{
    BeginRequest, CancelRequest, ConfirmRequest, Problem, RegisterRequest, TransactionView,
};
use tcc_core::{
    BranchId, Change, Digest, Endpoint, Event, Found, Gid, MemoryStore, Operation, Patience, Random,
    Timestamp, Transaction, limits, protocol,
};
use tcc_server::transport::{AllowList, HttpTransport, Transport};

/// A parser under attack.
pub struct Parser {
    /// What it reads.
    pub name: &'static str,
    /// Gives it so many inputs, drawn from a seed. The error is the least input that it did not stand.
    pub attack: fn(u32, u64) -> Result<(), String>,
}

/// All of them.
pub const ALL: &[Parser] = &[
    Parser { name: "requests of callers", attack: requests },
    Parser { name: "ids", attack: ids },
    Parser { name: "endpoints", attack: endpoints },
    Parser { name: "spellings of forbidden addresses", attack: spellings },
    Parser { name: "stored records", attack: records },
    Parser { name: "answers of participants", attack: answers },
    Parser { name: "allow-lists", attack: allow_lists },
    Parser { name: "headers of calls", attack: headers },
    Parser { name: "answers of coordinators", attack: views },
];

fn run<S: Strategy>(
    cases: u32,
    seed: u64,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), String> {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(config, rng).run(strategy, test).map_err(|why| why.to_string())
}

/// Bytes, or a good text of these with a few bytes changed.
fn hostile(good: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..6_u8, any::<u8>());
    let changed =
        (prop::sample::select(good), prop::collection::vec(change, 0..6)).prop_map(|(good, changes)| {
            let mut bytes = good.as_bytes().to_vec();
            for (at, how, byte) in changes {
                let at = at.index(bytes.len().max(1));
                match how {
                    0 if at < bytes.len() => bytes[at] = byte,
                    1 if at < bytes.len() => drop(bytes.remove(at)),
                    2 => bytes.insert(at, byte),
                    3 => drop(bytes.splice(at..at, b"[".repeat(usize::from(byte) * 4)).collect::<Vec<_>>()),
                    4 => drop(
                        bytes
                            .splice(at..at, NUMBERS[usize::from(byte) % NUMBERS.len()].bytes())
                            .collect::<Vec<_>>(),
                    ),
                    _ => bytes.truncate(bytes.len().saturating_sub(usize::from(byte % 8))),
                }
            }
            bytes
        });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 9 => changed]
}

const NUMBERS: [&str; 8] =
    ["1e400", "-1", "18446744073709551616", "0.5", "\\ud800", "null", "\"\"", "9e99999"];

const REQUESTS: &[&str] = &[
    r#"{"gid":"g/1","decider":"initiator","timeout_ms":5,"check":"http://a/","check_after_ms":7,"parent":"p",
        "branches":[{"id":"a","confirm":"http://a/c","cancel":"http://a/x"}]}"#,
    r#"{"branches":[{"id":"a","at":"http://a/","payload":{"x":[1,-2,3.5,"é"]},"headers":{"k":"v"},
        "retry":{"first_ms":1,"longest_ms":2},"delay_ms":3,"reserves_ms":4,"timeout_ms":5},
        {"id":"b","after":["a"],"confirm":"http://b/","retry":{"intervals_ms":[1,2],"give_up":true},"payload":1}]}"#,
    r#"{"branches":[{"id":"a","payload":"x","try":"http://a/t","cancel":"none","payload":[0]}]}"#,
    r#"{"branches":[{"id":"a","confirm":"http://a/","payload":1e400}]}"#,
    r#"{"branches":[{"id":"a","confirm":"http://a/","payload":{"a":["\ud800"]}}]}"#,
    r#"{"tried":["a","b"]}"#,
    r#"{"reason":"no\nmore"}"#,
];

fn requests(cases: u32, seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    run(cases, seed, &hostile(REQUESTS), |bytes| {
        if let Ok(request) = serde_json::from_slice::<BeginRequest>(&bytes)
            && let Ok(begin) = request.parse(|| "made".parse().expect("a gid"))
        {
            let digest = begin.digest;
            if let Ok(transaction) = Transaction::begin(begin, PATIENCE, NOW) {
                runtime.block_on(survives(transaction, digest))?;
            }
        }
        if let Ok(request) = serde_json::from_slice::<RegisterRequest>(&bytes)
            && let Ok(branches) = request.parse()
        {
            prop_assert!((1..=limits::BRANCHES).contains(&branches.len()));
            let mut transaction = Transaction::cancelled_before_begin(
                "g".parse().expect("a gid"),
                String::new(),
                PATIENCE,
                NOW,
            );
            prop_assert!(transaction.apply(Event::Register(branches), NOW).is_err());
        }
        if let Ok(request) = serde_json::from_slice::<ConfirmRequest>(&bytes) {
            let _ = request.parse();
        }
        if let Ok(request) = serde_json::from_slice::<CancelRequest>(&bytes) {
            let reason = request.parse();
            prop_assert!(reason.len() <= limits::REASON && !reason.chars().any(char::is_control));
        }
        Ok(())
    })
}

const PATIENCE: Patience = Patience { attempts: 20, age: Duration::from_secs(300) };
const NOW: Timestamp = Timestamp::from_millis(1_795_176_273_338);

/// Checks that what was taken can be stored, read and shown again: else it would be poison to its own transaction.
async fn survives(transaction: Transaction, digest: Digest) -> Result<(), TestCaseError> {
    let store = MemoryStore::new(|| NOW);
    let gid = transaction.gid().clone();
    let saved = Change::begin(transaction, Some(digest)).save(&store, 7, None).await;
    prop_assert!(saved.is_ok());
    match load(&store, &gid).await {
        Ok(Some(Found::Stored(stored))) => {
            let view = TransactionView::of(stored.transaction(), NOW);
            prop_assert!(serde_json::to_vec(&view).is_ok());
        }
        other => return Err(TestCaseError::fail(format!("{other:?}"))),
    }
    Ok(())
}

fn ids(cases: u32, seed: u64) -> Result<(), String> {
    run(cases, seed, &prop_oneof![any::<String>(), "[A-Za-z0-9_:/-]{0,140}", "[ -~]{1,20}"], |text| {
        let good = |longest: usize| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_:/-".contains(c);
            (1..=longest).contains(&text.len()) && text.chars().all(fits)
        };
        prop_assert_eq!(text.parse::<Gid>().is_ok(), good(128));
        prop_assert_eq!(text.parse::<BranchId>().is_ok(), good(64));
        let quoted = serde_json::to_string(&text).expect("a text");
        prop_assert_eq!(serde_json::from_str::<Gid>(&quoted).is_ok(), good(128));
        Ok(())
    })
}

fn transport() -> HttpTransport {
    HttpTransport::new(AllowList::default()).expect("a transport")
}

fn endpoints(cases: u32, seed: u64) -> Result<(), String> {
    let transport = transport();
    let near = "(http|HTTPS|ftp|a|):?/{0,3}[!-~]{0,40}";
    run(cases, seed, &prop_oneof![any::<String>(), near, "http://[0-9a-fA-FxX.:%\\[\\]@]{1,24}/?"], |text| {
        let Ok(endpoint) = text.parse::<Endpoint>() else { return Ok(()) };
        prop_assert!(endpoint.as_str().len() <= limits::ENDPOINT && endpoint.as_str().is_ascii());
        prop_assert_eq!(endpoint.as_str().parse::<Endpoint>(), Ok(endpoint.clone()));
        let _ = (endpoint.join("try"), transport.destination(&endpoint), transport.check(&endpoint));
        Ok(())
    })
}

/// Some spelling of an IPv4 address in a URL.
fn spelling(address: u32, how: u8, each: [u8; 4]) -> String {
    let [a, b, c, d] = address.to_be_bytes();
    let number = |value: u32, how: u8| match how % 5 {
        0 => format!("{value}"),
        1 => format!("{value:#x}"),
        2 => format!("{value:#X}"),
        3 => format!("0{value:o}"),
        _ => format!("00000{value:o}"),
    };
    let bytes = [a, b, c, d].map(u32::from);
    let v6 = format!("{:x}:{:x}", address >> 16, address & 0xffff);
    match how % 13 {
        0 => format!("{a}.{b}.{c}.{d}"),
        1 => number(address, each[0]),
        2 => format!("{}.{}", number(bytes[0], each[0]), number(address & 0x00ff_ffff, each[1])),
        3 => {
            format!(
                "{}.{}.{}",
                number(bytes[0], each[0]),
                number(bytes[1], each[1]),
                number(address & 0xffff, each[2])
            )
        }
        4 => [0, 1, 2, 3].map(|i| number(bytes[i], each[i])).join("."),
        5 => format!("{a}.{b}.{c}.{d}."),
        6 => format!("{a}.{b}.{c}.{d}").bytes().map(|byte| format!("%{byte:02x}")).collect(),
        7 => format!("[::ffff:{v6}]"),
        8 => format!("[::ffff:{a}.{b}.{c}.{d}]"),
        9 => format!("[::{v6}]"),
        10 => format!("[64:ff9b::{v6}]"),
        11 => format!("[2002:{v6}::{:x}]", u16::from_be_bytes([each[0], each[1]])),
        _ => format!("[0000:0000:0:0:0:FFFF:{v6}]"),
    }
}

fn spellings(cases: u32, seed: u64) -> Result<(), String> {
    let transport = transport();
    let forbidden = prop_oneof![
        (0xa9fe_0000..=0xa9fe_ffff_u32),
        (0xe000_0000..=0xefff_ffff_u32),
        // `[::1]` is another loopback, and not 0.0.0.1.
        (2..=0x00ff_ffff_u32),
        Just(0x6464_64c8),
        Just(0xa83f_8110),
        Just(0xc000_00c0),
        Just(u32::MAX),
    ];
    run(cases, seed, &(forbidden, any::<u8>(), any::<[u8; 4]>()), |(address, how, each)| {
        let url = format!("http://{}/", spelling(address, how, each));
        let endpoint: Endpoint = url.parse().expect("printable");
        prop_assert!(transport.check(&endpoint).is_err(), "{} is {}", url, std::net::Ipv4Addr::from(address));
        Ok(())
    })
}

const RECORDS: &[&str] = &[
    r#"{"v":1,"decider":"coordinator","patience":[20,300000],"begun":1,"deadline":60001,"phase":"Trying","branches":
        [{"id":"a","try":"http://a/t","confirm":"http://a/c","cancel":"http://a/x","payload":{"a":1},
        "headers":{"k":"v"},"retry":{"exponential":[1,2]},"delay":1,"reserves":2,"timeout":3,
        "tried":{"done":{"r":1}},"progress":{"due":5,"attempts":2,"attention":"a","seen":"s"}},
        {"id":"b","after":["a"],"confirm":"http://b/","retry":{"ladder":[1,2,3]}}]}"#,
    r#"{"v":1,"decider":"initiator","check":["http://a/",5],"parent":"p","trace":"t","patience":[0,0],"begun":-1,
        "deadline":9223372036854775807,"phase":"Confirming","decided":[1,"why"],"asking":{"due":1},
        "branches":[{"id":"a","confirm":"http://a/","end":"done","retry":{"intervals":[]}}]}"#,
    r#"{"v":2}"#,
];

fn records(cases: u32, seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    run(cases, seed, &(hostile(RECORDS), any::<i64>(), any::<u32>()), |(document, now, random)| {
        let now = Timestamp::from_millis(now);
        let store = MemoryStore::new(move || now);
        let gid: Gid = "g".parse().expect("a gid");
        let row = Row { due_at: None, ..row(gid.as_str(), document, now) };
        let loaded = runtime.block_on(async {
            let _ = store.commit(vec![Write { row, replaces: None, claim: None }]).await;
            load(&store, &gid).await
        });
        let Ok(Some(Found::Stored(stored))) = loaded else { return Ok(()) };
        let transaction = stored.transaction().clone();
        let _ = serde_json::to_vec(&TransactionView::of(&transaction, now)).map(drop);
        let _ = transaction.plan(now);
        let branch = transaction.branches().first().map(|branch| branch.definition().id.clone());
        for operation in [Operation::Try, Operation::Confirm, Operation::Cancel, Operation::Check] {
            let seen = "seen".to_owned();
            let outlook = tcc_core::answer::Outlook::Passing;
            let reply = Reply::Unknown { seen, retry_after: Some(Duration::MAX), outlook };
            let event = Event::Reply { branch: branch.clone(), operation, reply, random: Random(random) };
            let _ = transaction.clone().apply(event, now);
        }
        for event in [Event::Expire, Event::Cancel { reason: String::new() }] {
            let _ = transaction.clone().apply(event, now);
        }
        Ok(())
    })
}

const ANSWERS: &[&str] = &[
    r#"{"code":"refused","detail":"sold\nout"}"#,
    r#"{"code":"refused","detail":"é","type":"x"}"#,
    r#"{"code":"other"}"#,
    r#"{"reply":[1,2,{"a":"b"}]}"#,
];

fn answers(cases: u32, seed: u64) -> Result<(), String> {
    let operations = [Operation::Try, Operation::Confirm, Operation::Cancel, Operation::Check];
    let statuses =
        prop_oneof![any::<u16>(), prop::sample::select(vec![200, 202, 204, 409, 422, 425, 429, 503])];
    let drawn = (
        prop::sample::select(operations.to_vec()),
        any::<bool>(),
        statuses,
        prop::option::of(any::<u64>()),
        prop::option::of(hostile(ANSWERS)),
    );
    run(cases, seed, &drawn, |(operation, confirms_only, status, retry_after, body)| {
        let shape = if confirms_only { Shape::ConfirmsOnly } else { Shape::Other };
        let says_no = body.as_deref().is_some_and(says_no);
        let retry_after = retry_after.map(Duration::from_secs);
        let reply = judge(operation, shape, Answer::Response(Response { status, retry_after, body }));
        match &reply {
            Reply::Done(kept) => {
                prop_assert!((200..300).contains(&status));
                prop_assert!(kept.is_none() || operation == Operation::Try);
            }
            Reply::Refused(why) => {
                prop_assert!([409, 422].contains(&status) && says_no);
                prop_assert!(why.len() <= limits::REASON && !why.chars().any(char::is_control));
            }
            Reply::Unknown { seen, .. } => {
                prop_assert!(seen.len() < 2 * limits::REASON + 64 && !seen.chars().any(char::is_control));
            }
            Reply::Pending(_) => prop_assert!([202, 425].contains(&status)),
        }
        Ok(())
    })
}

/// Whether a body has a code, and it is the one that refuses. What stands in other fields need not be read.
fn says_no(body: &[u8]) -> bool {
    let fields = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&String::from_utf8_lossy(body));
    let code = fields.ok().and_then(|fields| serde_json::from_str::<String>(fields.get("code")?.get()).ok());
    code.as_deref() == Some(protocol::REFUSED)
}

fn allow_lists(cases: u32, seed: u64) -> Result<(), String> {
    let near = "[a-z0-9.*-]{0,12}(:[0-9]{0,6})?(/[0-9]{0,4})?";
    run(cases, seed, &prop_oneof![any::<String>(), near, "[0-9a-f.:/\\[\\]%@*]{0,24}"], |text| {
        let _ = AllowList::parse([text.as_str()]).map(|list| format!("{list:?}"));
        Ok(())
    })
}

fn headers(cases: u32, seed: u64) -> Result<(), String> {
    let names = vec![
        protocol::GID,
        protocol::BRANCH,
        protocol::OPERATION,
        protocol::ATTEMPT,
        protocol::TIMEOUT,
        protocol::BEGUN,
        protocol::SETTLED,
    ];
    let good = ["g/1", "b", "try", "confirm", "cancel", "check", "1", "-1", "18446744073709551616", ""];
    let value = prop_oneof![
        prop::sample::select(good.to_vec()).prop_map(|good| good.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let drawn = prop::collection::vec((prop::sample::select(names), value), 0..10);
    run(cases, seed, &drawn, |drawn| {
        let mut headers = HeaderMap::new();
        for (name, value) in drawn {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        if let Ok(call) = Call::from_headers(&headers) {
            prop_assert!(call.timeout <= limits::CALL_TIMEOUT);
            prop_assert_eq!(headers[protocol::OPERATION].as_bytes(), call.operation.as_str().as_bytes());
            // A check is asked of the transaction's initiator, whatever branch it names.
            if call.operation != Operation::Check {
                prop_assert_eq!(headers[protocol::BRANCH].as_bytes(), call.branch.as_str().as_bytes());
            }
            prop_assert_eq!(headers.get_all(protocol::GID).iter().count(), 1);
            prop_assert_eq!(headers[protocol::GID].as_bytes(), call.gid.as_str().as_bytes());
        }
        Ok(())
    })
}

const VIEWS: &[&str] = &[
    r#"{"gid":"g","phase":"Confirming","decision":"confirm","begun":1,"age_ms":2,"branches":
        [{"id":"a","state":"confirming","attempts":1,"seen":"dns","next_ms":3,"reply":{"a":[1]}}]}"#,
    r#"{"type":"urn:tcc:problem:invalid","title":"t","status":422,"code":"invalid","detail":"d","retryable":false,
        "pointer":"/gid","gid":"g","phase":"Trying"}"#,
];

fn views(cases: u32, seed: u64) -> Result<(), String> {
    run(cases, seed, &hostile(VIEWS), |bytes| {
        if let Ok(view) = serde_json::from_slice::<TransactionView>(&bytes) {
            prop_assert!(view.gid.as_str().len() <= limits::GID_LENGTH);
        }
        let _ = serde_json::from_slice::<Problem>(&bytes).map(Arc::new);
        Ok(())
    })
}
