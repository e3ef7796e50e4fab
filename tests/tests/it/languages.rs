//! The examples that are not in Rust: each participant keeps every promise and what it has answered, and each initiator
//! brings an order to its end.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tcc_core::conformance::CASES;
use tcc_tests::http::{Message, call};
use tcc_tests::{Process, skipped};
use tempfile::TempDir;
use tokio::process::Command;

use crate::conformance::{checks, report};
use crate::coordinator::Coordinator;
use crate::docs::blocks;
use crate::world::LONG;

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    Node,
}

impl Language {
    /// The program that runs a file of the examples, if it is installed.
    fn run(self, name: &str) -> Option<Command> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a root").join("examples");
        let (program, file) = match self {
            Self::Python => ("python3", examples.join("python").join(name).with_extension("py")),
            Self::Node => ("node", examples.join("node").join(name).with_extension("mjs")),
        };
        if std::process::Command::new(program).arg("--version").output().is_err() {
            skipped(&format!("{program} is not installed"));
            return None;
        }
        let mut command = Command::new(program);
        command.arg(file).kill_on_drop(true);
        Some(command)
    }
}

/// A participant and where it keeps its data.
struct Participant {
    language: Language,
    directory: TempDir,
    process: Process,
}

impl Participant {
    async fn start(language: Language) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let process = Self::process(language, directory.path().join("data")).await?;
        Some(Self { language, directory, process })
    }

    async fn process(language: Language, data: PathBuf) -> Option<Process> {
        let mut command = language.run("participant")?;
        let process =
            Process::start(command.arg(&data).arg("127.0.0.1:0"), &data.with_extension("log")).await;
        Some(process.unwrap_or_else(|status| panic!("{language:?} ended with {status}")))
    }

    /// Killed, and started again on its data.
    async fn again(mut self) -> Self {
        self.process.kill().await;
        let data = self.directory.path().join("data");
        let process = Self::process(self.language, data).await.expect("it was installed before");
        Self { process, ..self }
    }

    fn url(&self) -> String {
        format!("http://{}/tcc/account", self.process.address())
    }

    async fn operation(&self, operation: &str, gid: &str) -> (u16, Value) {
        let payload = json!({ "account": "alice", "cents": 100 }).to_string();
        let request = Message::request("POST", &format!("/tcc/account/{operation}"), Some(&payload))
            .with("tcc-gid", gid)
            .with("tcc-branch", "money")
            .with("tcc-operation", operation)
            .with("tcc-begun", "1000");
        self.ask(&request).await
    }

    async fn books(&self) -> Value {
        self.ask(&Message::request("GET", "/books", None)).await.1
    }

    async fn ask(&self, request: &Message) -> (u16, Value) {
        let answer = call(self.process.address(), request).await.expect("an answer");
        (answer.status(), serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}

#[tokio::test]
async fn the_participant_in_python_keeps_every_promise() {
    keeps_every_promise(Language::Python).await;
}

#[tokio::test]
async fn the_participant_in_node_keeps_every_promise() {
    keeps_every_promise(Language::Node).await;
}

async fn keeps_every_promise(language: Language) {
    let Some(participant) = Participant::start(language).await else { return };
    let effect = format!("http://{}/books", participant.process.address());
    let [payload, refused] = [10, 100_000_000].map(|c| json!({ "account": "alice", "cents": c }).to_string());
    let (code, report) = report(&participant.url(), Some(&effect), &payload, Some(&refused)).await;
    assert_eq!((code, &report["complete"]), (0, &true.into()), "{language:?}: {report:#}");
    assert!(checks(&report, "kept").len() > 20, "{report:#}");
    assert_eq!(participant.books().await["frozen"], 0);
}

/// The requests that the docs show: of a coordinator to a participant, and of an initiator to a coordinator.
#[tokio::test]
async fn the_requests_that_the_pages_show_are_understood() {
    let Some(participant) = Participant::start(Language::Python).await else { return };
    let coordinator = Coordinator::alone(&[]).await;
    let bodies = blocks("json");
    let requests = blocks("http");
    assert_eq!(requests.len(), 3);
    for block in requests {
        let (head, body) = block.text.split_once("\n\n").unwrap_or((&block.text, ""));
        let mut lines = head.lines();
        let (method, target) = lines.next().and_then(|line| line.split_once(' ')).expect("a request");
        let target =
            target.strip_suffix(" HTTP/1.1").expect("a version").replace("timeout_ms=10000", "timeout_ms=10");
        // The body of a begin stands in the block after it.
        let after = || bodies.iter().find(|body| body.page == block.page && body.line > block.line);
        let body = if body.is_empty() { &after().expect("its body").text } else { body };
        // Nobody looks up names that are there to be read.
        let named = ["inventory:8081", "payment:8082", "loyalty:8084"];
        let body = named.iter().fold(body.to_owned(), |body, name| body.replace(name, "127.0.0.1:1"));
        let mut request = Message::request(method, &target, Some(body.trim()));
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let is_ours = ["host", "content-type"].contains(&&*name.to_lowercase());
            request = if is_ours { request } else { request.with(name, value) };
        }
        let ours = target.starts_with("/v1/");
        let begins = target.starts_with("/v1/transactions");
        let address = if ours { coordinator.address() } else { participant.process.address() };
        let answer = call(address, &request).await.expect("an answer");
        assert_eq!(answer.status(), if begins { 202 } else { 200 }, "{target}: {:?}", answer.body);
    }
}

/// The command that the docs show, but for the address.
#[tokio::test]
async fn what_the_page_of_the_protocol_says_to_run_is_run() {
    let Some(participant) = Participant::start(Language::Python).await else { return };
    let commands: Vec<_> =
        blocks("sh").into_iter().filter(|block| block.page == "docs/protocol.md").collect();
    assert_eq!(commands.len(), 1);
    let (address, program) = (participant.process.address().to_string(), env!("CARGO_BIN_EXE_coordinator"));
    let text = commands[0].text.replace("127.0.0.1:8090", &address).replace("tcc-server", program);
    let mut command = Command::new("bash");
    let Output { status, stdout, .. } =
        crate::command_line::output(command.args(["-euo", "pipefail", "-c", &text])).await;
    let said = String::from_utf8_lossy(&stdout);
    assert!(status.success(), "{said}");
    assert!(said.contains(&format!("{} kept, 0 broken, 0 unclear, 0 not tested", CASES.len())), "{said}");
}

#[tokio::test]
async fn what_the_participant_in_python_has_answered_outlives_a_kill() {
    outlives_a_kill(Language::Python).await;
}

#[tokio::test]
async fn what_the_participant_in_node_has_answered_outlives_a_kill() {
    outlives_a_kill(Language::Node).await;
}

async fn outlives_a_kill(language: Language) {
    let Some(participant) = Participant::start(language).await else { return };
    for gid in ["spent", "given-back", "reserved"] {
        assert_eq!(participant.operation("try", gid).await.0, 200);
    }
    assert_eq!(participant.operation("confirm", "spent").await.0, 200);
    assert_eq!(participant.operation("cancel", "given-back").await.0, 200);
    assert_eq!(participant.operation("cancel", "never-tried").await.0, 200);
    let books = json!({ "available": 499_900, "frozen": 100, "shop": 100 });
    assert_eq!(participant.books().await, books);

    let participant = participant.again().await;
    assert_eq!(participant.books().await, books);
    for (operation, gid, status, code) in [
        ("confirm", "spent", 200, None),
        ("cancel", "spent", 409, Some("already-confirmed")),
        ("confirm", "given-back", 409, Some("already-cancelled")),
        ("try", "never-tried", 409, Some("refused")),
        ("confirm", "nobody", 409, Some("not-tried")),
        ("cancel", "reserved", 200, None),
    ] {
        let (seen, body) = participant.operation(operation, gid).await;
        assert_eq!((seen, body["code"].as_str()), (status, code), "{operation} {gid}");
    }
    assert_eq!(participant.books().await, json!({ "available": 500_000, "frozen": 0, "shop": 100 }));
}

#[tokio::test]
async fn the_initiators_bring_orders_to_their_end_with_participants_of_both_languages() {
    let (python, node) =
        (Participant::start(Language::Python).await, Participant::start(Language::Node).await);
    let (Some(python), Some(node)) = (python, node) else { return };
    let coordinator = Coordinator::alone(&[]).await;
    let address = format!("http://{}", coordinator.address());
    for (n, language) in [Language::Python, Language::Node].into_iter().enumerate() {
        let order = |name: &str| format!("order/{n}/{name}");
        for (gid, cents, end) in [
            (order("good"), "2000", "Confirmed".to_owned()),
            (order("too-much"), "5000000", "Cancelled: branch account-".to_owned()),
            // Asked again: nothing new begins.
            (order("good"), "2000", "Confirmed".to_owned()),
        ] {
            let mut command = language.run("initiator").expect("it was installed before");
            command.args([&address, &gid, "alice", cents, &python.url(), &node.url()]);
            let Output { status, stdout, stderr } = output(&mut command).await;
            let said = String::from_utf8_lossy(&stdout);
            assert!(status.success(), "{language:?}: {}", String::from_utf8_lossy(&stderr));
            assert!(said.starts_with(&format!("{gid} is {end}")), "{language:?}: {said}");
        }
    }
    for participant in [&python, &node] {
        let books = json!({ "available": 500_000, "frozen": 0, "shop": 4_000 });
        assert_eq!(participant.books().await, books, "{:?}", participant.language);
    }
}

#[tokio::test]
async fn an_initiator_is_told_why_it_is_not_understood() {
    let coordinator = Coordinator::alone(&[]).await;
    let address = format!("http://{}", coordinator.address());
    for language in [Language::Python, Language::Node] {
        let Some(mut command) = language.run("initiator") else { continue };
        let output = output(command.args([&address, "no gid", "alice", "1", "http://127.0.0.1:1"])).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.starts_with("422 invalid:"), "{language:?}: {said}");
    }
}

async fn output(command: &mut Command) -> Output {
    let output = tokio::time::timeout(LONG, command.output()).await;
    output.expect("it ends").expect("it runs")
}
