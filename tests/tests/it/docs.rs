//! The docs do what they say: each snippet is code that is compiled and run, each command is run, each body is one.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tcc_client::wire::{
    AcknowledgeRequest, BeginRequest, CancelRequest, ConfirmRequest, ForceRequest, Problem, RegisterRequest,
    ResendRequest, RetryNowRequest, TransactionEvents, TransactionList, TransactionView,
};
use tcc_tests::{Process, skipped};
use tokio::process::Command;

use crate::coordinator::Coordinator;
use crate::world::LONG;

/// Commands that a test of the docs cannot run itself, and what runs them.
const ELSEWHERE: [(&str, &str); 13] = [
    (
        "cargo install --path tcc-server --features otel\nOTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 tcc-server",
        "tests/run: cargo test -p tcc-tests --features otel --test it traces",
    ),
    (
        "cargo install --path tcc-server --features amqp,amqp1,kafka,nats,redis,rocketmq",
        "tests/run: features=tcc-server/amqp,tcc-server/amqp1,tcc-server/kafka,tcc-server/nats,tcc-server/redis,tcc-server/rocketmq",
    ),
    (
        "cargo run -p tcc-examples --features rabbitmq --bin rabbitmq -- 127.0.0.1:5672",
        "examples/tests/it/brokers.rs: fn points_by_rabbitmq_are_credited_once",
    ),
    (
        "cargo run -p tcc-examples --features kafka --bin kafka -- 127.0.0.1:9092",
        "examples/tests/it/brokers.rs: fn points_by_kafka_are_credited_once",
    ),
    (
        "cargo run -p tcc-examples --bin trip",
        "examples/tests/it/trip.rs: fn a_trip_is_booked_in_order_or_given_back_in_reverse",
    ),
    (
        "cargo run -p tcc-examples --bin notification",
        "examples/tests/it/notification.rs: fn what_the_shop_was_not_told_the_operator_is",
    ),
    (
        "cargo run -p tcc-examples --features xa --bin xa -- \"$POSTGRES_URL\" \"$MYSQL_URL\"",
        "examples/tests/it/xa.rs: fn money_and_stock_are_prepared_and_end_together",
    ),
    (
        "cargo run -p tcc-examples --bin outbox",
        "examples/tests/it/outbox.rs: fn points_come_once_there_is_a_coordinator",
    ),
    (
        "cargo run -p tcc-examples --bin points",
        "examples/tests/it/points.rs: fn points_follow_the_orders_that_were_placed",
    ),
    ("cargo build --package tcc-server", "tests/schemathesis/run: cargo build --quiet --package tcc-server"),
    ("cargo demo", "examples/tests/it/main.rs: fn the_books_balance_after_kills"),
    ("tests/run", "tests/run: cargo test --workspace"),
    (
        "cargo run -p tcc-examples --bin embedded -- shop",
        "examples/tests/it/embedded.rs: fn orders_are_followed_until_the_money_is_spent_over_three_processes",
    ),
];

pub(crate) struct Block {
    pub(crate) page: String,
    pub(crate) line: usize,
    language: String,
    pub(crate) text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// What is fenced in the pages a reader is sent to.
pub(crate) fn blocks(language: &str) -> Vec<Block> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs").map(|page| page.expect("a page").path());
    let beside =
        ["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "RELIABILITY.md"].map(|page| root().join(page));
    let mut pages: Vec<PathBuf> =
        docs.chain(beside).filter(|page| page.extension().is_some_and(|e| e == "md")).collect();
    pages.sort();
    let mut blocks = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a page");
        let name = page.strip_prefix(root()).expect("below the root").display().to_string();
        let mut open: Option<Block> = None;
        for (i, line) in text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(language), None) => {
                    let language = language.to_owned();
                    open = Some(Block { page: name.clone(), line: i + 1, language, text: String::new() });
                }
                (Some(_), Some(block)) => blocks.push(block),
                (None, Some(mut block)) => {
                    block.text += line;
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{name} has a block without an end");
        // What is not looked at here would be nobody's.
        let known = ["sh", "rust", "json", "toml", "sql", "http", "text"];
        let unknown = blocks.iter().find(|block| !known.contains(&&*block.language));
        assert!(unknown.is_none_or(|block| block.page != name), "{name} has a block of another language");
    }
    blocks.retain(|block| block.language == language);
    blocks
}

/// Code without what may differ in a page: indentation, empty lines and comments.
fn plain(code: &str) -> Vec<String> {
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// What stands in doc comments, without what is hidden there.
fn documented(code: &str) -> String {
    let lines = code.lines().filter_map(|line| line.trim().strip_prefix("///"));
    let shown = lines.map(str::trim).filter(|line| !line.starts_with("# "));
    shown.map(|line| format!("{line}\n")).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_snippet_stands_in_code_that_is_compiled_and_tested() {
    let mut files = Vec::new();
    rust_files(&root().join("examples"), &mut files);
    let read = |file: &PathBuf| std::fs::read_to_string(file).expect("a file");
    let mut code: Vec<Vec<String>> = files.iter().map(|file| plain(&read(file))).collect();
    // The examples in the docs of the library are compiled, too.
    let mut library = Vec::new();
    rust_files(&root().join("tcc-client/src"), &mut library);
    code.extend(library.iter().map(|file| plain(&documented(&read(file)))));
    let snippets = blocks("rust");
    assert!(snippets.len() >= 6, "{} snippets", snippets.len());
    for Block { page, line, text, .. } in snippets {
        let wanted = plain(&text);
        assert!(!wanted.is_empty());
        let stands = code.iter().any(|lines| lines.windows(wanted.len()).any(|some| some == wanted));
        assert!(stands, "the snippet at {page}:{line} stands in no file of examples, and in no doc comment");
    }
}

/// What a type makes of a text: the same again, or it knows less than the text says.
fn is<T: DeserializeOwned + Serialize>(text: &str) -> bool {
    let read: Result<T, _> = serde_json::from_str(text);
    // Under the names that are written; these stand for them.
    let written = text.replace("\"action\":", "\"try\":").replace("\"compensate\":", "\"cancel\":");
    let said: Value = serde_json::from_str(&written).expect("it was read before");
    read.is_ok_and(|read| serde_json::to_value(read).is_ok_and(|again| again == said))
}

#[test]
fn every_statement_in_the_docs_is_one() {
    let statements = blocks("sql");
    assert!(!statements.is_empty());
    for Block { page, line, text, .. } in statements {
        let done = rusqlite::Connection::open_in_memory().and_then(|database| database.execute_batch(&text));
        done.unwrap_or_else(|why| panic!("{page}:{line}: {why}"));
    }
}

#[test]
fn every_body_in_the_docs_is_a_body_of_the_api() {
    let bodies = blocks("json");
    assert!(bodies.len() >= 4, "{} bodies", bodies.len());
    for Block { page, line, text, .. } in bodies {
        serde_json::from_str::<Value>(&text).unwrap_or_else(|why| panic!("{page}:{line}: {why}"));
        let known = [
            is::<BeginRequest>,
            is::<RegisterRequest>,
            is::<ConfirmRequest>,
            is::<CancelRequest>,
            is::<RetryNowRequest>,
            is::<AcknowledgeRequest>,
            is::<ForceRequest>,
            is::<TransactionView>,
            is::<TransactionList>,
            is::<TransactionEvents>,
            is::<Problem>,
            is::<ResendRequest>,
            |text: &str| text.contains("\"tcc.attention\""),
        ];
        assert!(known.iter().any(|known| known(&text)), "{page}:{line} is no body of the API: {text}");
        if is::<BeginRequest>(&text) {
            let begin: BeginRequest = serde_json::from_str(&text).expect("it is one");
            let begun = begin.parse(|| "made".parse().expect("a gid"));
            begun.unwrap_or_else(|why| panic!("{page}:{line} would be refused: {why:?}"));
        }
    }
}

/// Does what a line of a page says, in a folder of its own: starts a coordinator and ends it, or anything else.
async fn follow(line: &str, folder: &Path) {
    let here = ["/var/lib/tcc", "/etc/tcc"]
        .iter()
        .fold(line.to_owned(), |line, place| line.replace(place, &folder.display().to_string()));
    let Some(flags) = here.strip_prefix("tcc-server --") else {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &here]);
        let run = run(bash, LONG).await;
        return assert!(run.status.success(), "{line}: {}", String::from_utf8_lossy(&run.stderr));
    };
    let mut program = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    program
        .args(format!("--{flags}").split_whitespace())
        .args(["--listen", "127.0.0.1:0"])
        .current_dir(folder);
    let started = Process::start(&mut program, &folder.join("log")).await;
    let mut server = started.unwrap_or_else(|ended| panic!("{line}: {ended}"));
    server.terminate().await;
    let ended = server.ended().await;
    assert!(ended.success(), "{line}: {ended}");
}

/// Has a coordinator look at a configuration as a page says.
async fn looks(command: &str, file: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let here = |text: &str| {
        ["/var/lib/tcc", "/etc/tcc"]
            .iter()
            .fold(text.to_owned(), |text, place| text.replace(place, &folder.path().display().to_string()))
    };
    for (name, text) in [
        ("token", "a-token-of-sixteen-letters".to_owned()),
        ("payment.authorization", "Bearer of-another".to_owned()),
        ("payment.keys", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        ("tcc.toml", here(file)),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its owner's");
    }
    let command = here(command);
    let mut program = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    program.args(command.split_whitespace().skip(1));
    let run = run(program, LONG).await;
    assert!(run.status.success(), "{command}: {}", String::from_utf8_lossy(&run.stderr));
    assert!(!run.stdout.is_empty(), "{command} says nothing");
}

/// What a page shows of a file of settings is one.
#[tokio::test]
async fn every_file_of_settings_in_the_docs_is_taken() {
    let files = blocks("toml");
    assert!(!files.is_empty());
    for Block { text, .. } in files {
        looks("tcc-server config check --config /etc/tcc/tcc.toml", &text).await;
    }
}

#[tokio::test]
async fn every_command_in_the_docs_is_run() {
    let mut run = Vec::new();
    for Block { page, line, text, .. } in blocks("sh") {
        let command = text.trim();
        // By the tests below, and by one of `languages`, whole.
        let is_whole = page == "docs/first-transaction.md" && !command.starts_with("cargo ");
        if ["docs/unfinished.md", "docs/protocol.md"].contains(&&*page) || is_whole {
            continue;
        }
        if command.lines().any(|line| line.starts_with("tcc-server --")) {
            let folder = tempfile::tempdir().expect("a folder");
            for line in command.lines() {
                follow(line, folder.path()).await;
            }
            continue;
        }
        if command.starts_with("tcc-server config ") {
            for command in command.lines() {
                // Of the file that the pages show; what it names has to be there.
                looks(command, &blocks("toml")[0].text).await;
            }
            continue;
        }
        let elsewhere = ELSEWHERE.iter().find(|(known, _)| command == *known);
        let Some((_, by)) = elsewhere else { panic!("nobody runs what stands at {page}:{line}: {command}") };
        let (file, words) = by.split_once(": ").expect("a file and words in it");
        let text = std::fs::read_to_string(root().join(file)).expect("a file");
        assert!(text.contains(words), "{words} is not in {file}");
        run.push(command.to_owned());
    }
    for (command, _) in ELSEWHERE {
        assert!(run.iter().any(|run| run == command), "{command} stands in no page any more");
    }
}

/// The page is one script: what it starts runs until it ends it.
#[tokio::test]
async fn the_first_transaction_is_one_and_outlives_a_kill() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        return skipped("python3 is not installed");
    }
    let folder = tempfile::tempdir().expect("a folder");
    // Under the name that a reader has built, and ending with this test.
    let program = folder.path().join("tcc-server");
    let text = format!("#!/bin/sh\nexec '{}' \"$@\" <&3\n", env!("CARGO_BIN_EXE_coordinator"));
    std::fs::write(&program, text).expect("a file");
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("its owner's");
    let commands = blocks("sh").into_iter().filter(|block| block.page == "docs/first-transaction.md");
    let commands: String = commands
        .filter(|block| !block.text.starts_with("cargo "))
        .map(|block| block.text + "echo\n")
        .collect();
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let addresses = free.each_ref().map(|socket| socket.local_addr().expect("its address").to_string());
    drop(free);
    let [coordinator, money, points] = &addresses;
    let script = format!("exec 3<&0\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n{commands}")
        .replace("$PWD/target/debug", &folder.path().display().to_string())
        .replace("127.0.0.1:8090", money)
        .replace("127.0.0.1:8091", points)
        .replace("tcc-server --db", &format!("tcc-server --listen {coordinator} --db"))
        .replace("127.0.0.1:7780", coordinator);
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &script]).current_dir(root()).env("TMPDIR", folder.path());
    let run = run(bash, 2 * LONG).await;
    let (said, told) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}\n{told}");
    // Some end without a line of their own.
    let answers = |line| serde_json::Deserializer::from_str(line).into_iter::<Value>().map_while(Result::ok);
    let ends: Vec<Value> = said.lines().flat_map(answers).collect();
    let phases: Vec<_> =
        ends.iter().filter_map(|view| Some((view["gid"].as_str()?, view["phase"].as_str()?))).collect();
    let expected = [
        ("order/1", "Confirmed"),
        ("order/1", "Confirmed"),
        ("order/2", "Cancelled"),
        ("order/3", "Trying"),
        ("order/3", "Confirmed"),
        ("order/3", "Confirmed"),
    ];
    assert_eq!(phases, expected, "{said}");
    assert!(said.contains("\"event\":\"called\""), "{said}");
}

/// Runs a program to its end. What it starts ends with this test, at the latest.
async fn run(mut program: Command, at_most: Duration) -> Output {
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = program.spawn().expect("it starts");
    let _alive = child.stdin.take();
    tokio::time::timeout(at_most, child.wait_with_output()).await.expect("it ends").expect("it runs")
}

#[tokio::test]
async fn what_to_do_with_a_transaction_that_will_not_finish_works_as_described() {
    let coordinator = Coordinator::alone(&[]).await;
    let order =
        json!({"gid": "order/1042", "branches": [{"id": "money", "confirm": "http://127.0.0.1:8082/money"}]});
    let open = json!({"gid": "order/1043", "decider": "initiator"});
    for begin in [order, open] {
        assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    }
    let commands: Vec<Block> =
        blocks("sh").into_iter().filter(|block| block.page == "docs/unfinished.md").collect();
    assert!(commands.len() >= 7);
    for Block { line, text, .. } in commands {
        let text = text.replace("127.0.0.1:7780", &coordinator.address().to_string());
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &text]);
        let run = run(bash, LONG).await;
        assert!(run.status.success(), "docs/unfinished.md:{line}: {}", String::from_utf8_lossy(&run.stderr));
        let said: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|why| panic!("{line}: {why}"));
        assert_eq!(said.get("code"), None, "docs/unfinished.md:{line}: {said}");
        if text.contains("destination=") {
            assert_eq!(said["transactions"][0]["gid"], json!("order/1042"), "{said}");
        }
    }
    assert_eq!(coordinator.end("order/1042").await["phase"], json!("Confirmed"));
    assert_eq!(coordinator.end("order/1043").await["phase"], json!("Cancelled"));
}
