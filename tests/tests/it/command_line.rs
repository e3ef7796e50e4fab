//! The command line and what the environment says to it, and what stands before the API: signals, tokens, limits.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::json;
use tcc_client::Decision::Confirm;
use tcc_tests::http::{self, Message};
use tcc_tests::{Fault, Process, Times};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::coordinator::Coordinator;
use crate::transfer::{ByTheCoordinator, Transfer};
use crate::world::{LONG, World, eventually};

/// A coordinator that is going to refuse to start, in a directory of its own.
pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
    command.current_dir(directory).env_clear().kill_on_drop(true);
    command
}

/// Runs it to its end, and returns what it wrote.
pub(crate) async fn output(command: &mut Command) -> Output {
    // Its standard input stays open, for it ends with it.
    let (alive, input) = std::io::pipe().expect("a pipe");
    let output = tokio::time::timeout(LONG, command.stdin(alive).output()).await;
    drop(input);
    output.expect("it ends").expect("it runs")
}

/// Starts it with flags and an environment that are wrong, and checks that it says which, and does nothing else.
pub(crate) async fn refuses(flags: &[&str], environment: &[(&str, &str)], words: &[&str]) {
    let directory = tempfile::tempdir().expect("a directory");
    let output = output(command(directory.path()).args(flags).envs(environment.iter().copied())).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{flags:?} {environment:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{flags:?} {environment:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{flags:?} {environment:?}: {word:?} is not in {said:?}");
    }
    assert!(output.stdout.is_empty(), "nothing is listened on");
    let made: Vec<_> = directory.path().read_dir().expect("it is there").collect();
    assert!(made.is_empty(), "{made:?}");
}

#[tokio::test]
async fn a_flag_that_is_wrong_is_named_with_its_value_and_nothing_is_opened() {
    for (flags, words) in [
        (&["--retention", "soon"][..], &["--retention", "soon"][..]),
        (&["--retention=7 parsecs"], &["--retention", "7 parsecs"]),
        (&["--listen", "localhost"], &["--listen", "localhost"]),
        (&["--listen", "127.0.0.1:99999"], &["--listen", "127.0.0.1:99999"]),
        (&["--per-destination", "0"], &["--per-destination", "0"]),
        (&["--attention-attempts", "-1"], &["--attention-attempts"]),
        (&["--call-timeout", "2m"], &["--call-timeout", "2m"]),
        (&["--call-timeout", "0s"], &["--call-timeout", "0s"]),
        (&["--retention", "2d", "--remember", "1d"], &["--remember", "1day", "--retention", "2days"]),
        (&["--allow", "10.0.0.0/99"], &["--allow", "10.0.0.0/99"]),
        (&["--token-file", "no-such-file"], &["--token-file", "no-such-file"]),
        (&["--log-format", "xml"], &["--log-format", "xml"]),
        (&["--retentoin", "7d"], &["--retentoin"]),
        (&["--drain"], &["--drain"]),
        (&["serve"], &["serve"]),
    ] {
        refuses(flags, &[], words).await;
    }
}

#[tokio::test]
async fn a_variable_that_is_wrong_is_named_with_its_value_and_nothing_is_opened() {
    for (name, value) in [
        ("TCC_RETENTION", "soon"),
        ("TCC_REMEMBER", "7 parsecs"),
        ("TCC_LISTEN", "localhost"),
        ("TCC_PER_DESTINATION", "none"),
        ("TCC_ATTENTION_ATTEMPTS", "0"),
        ("TCC_ATTENTION_AGE", "old"),
        ("TCC_DRAIN", "long"),
        ("TCC_LOG_FORMAT", "xml"),
    ] {
        refuses(&[], &[(name, value)], &[name, value]).await;
    }
}

#[tokio::test]
async fn a_flag_goes_before_a_variable() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = command(directory.path());
    command.args(["--listen", "127.0.0.1:0", "--retention", "1d"]).env("TCC_RETENTION", "2d");
    let process = Process::start(&mut command, &directory.path().join("log")).await.expect("it starts");
    assert!(process.address().ip().is_loopback());
    assert!(directory.path().join("tcc.db").exists());
}

#[tokio::test]
async fn a_variable_is_on_or_off_in_any_usual_word() {
    let flags = ["--listen", "0.0.0.0:0", "--call-timeout", "0s"];
    for off in ["off", "0", "false", "no"] {
        refuses(&flags, &[("TCC_INSECURE", off)], &["--listen 0.0.0.0:0", "--token-file"]).await;
    }
    // What is still wrong then is the next flag.
    for on in ["on", "1", "true", "yes"] {
        refuses(&flags, &[("TCC_INSECURE", on)], &["--call-timeout 0s"]).await;
    }
    refuses(&[], &[("TCC_INSECURE", "perhaps")], &["TCC_INSECURE", "perhaps"]).await;
}

#[tokio::test]
async fn who_would_be_reached_from_elsewhere_needs_a_token() {
    let elsewhere = ["--listen", "0.0.0.0:0"];
    refuses(&elsewhere, &[], &["--listen 0.0.0.0:0", "--token-file"]).await;
    refuses(&["--listen", "[::]:0"], &[], &["--listen [::]:0", "--token-file"]).await;
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("short"), "secret\n").expect("a file");
    let short = directory.path().join("short");
    let short = short.to_str().expect("text");
    refuses(&["--listen", "0.0.0.0:0", "--token-file", short], &[], &["--token-file", "16"]).await;
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_file_is_refused_by_its_name() {
    let first = Coordinator::alone(&[]).await;
    let db = first.db();
    let directory = tempfile::tempdir().expect("a directory");
    let flags = ["--listen", "127.0.0.1:0", "--db", db.to_str().expect("text")];
    let second = output(command(directory.path()).args(flags)).await;
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(db.to_str().expect("text")) && said.contains("in use"), "{said}");
    assert!(second.stdout.is_empty(), "nothing is listened on");
    assert_eq!(first.ask("POST", "/g/cancel", Some(json!({}))).await.0, 200, "the first goes on");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let first = Coordinator::alone(&[]).await;
    let directory = tempfile::tempdir().expect("a directory");
    let address = first.address().to_string();
    let second = output(command(directory.path()).args(["--listen", &address])).await;
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
}

#[tokio::test]
async fn told_to_end_it_ends() {
    let mut coordinator = Coordinator::alone(&[]).await;
    assert_eq!(coordinator.terminate().await.code(), Some(0));
}

/// Begins a transfer whose second try is under way for so long.
async fn under_way(world: &World, length: Duration) -> Transfer {
    let transfer = Transfer::new(ByTheCoordinator).call_timeout(LONG);
    let bank = &world.banks[1].proxy;
    bank.inflict(Fault::Delay(length), Times::Once, "POST", "/try");
    let submission = transfer.submission(&world.banks).wait(tcc_client::Wait::Stored);
    world.coordinator.client().submit(submission).await.expect("an answer");
    eventually("a try under way", async || (bank.under_way() > 0).then_some(())).await;
    transfer
}

#[tokio::test]
async fn told_to_end_it_waits_for_its_calls_and_the_next_start_goes_on() {
    let mut world = World::new().await;
    let transfer = under_way(&world, Duration::from_millis(800)).await;
    assert_eq!(world.coordinator.terminate().await.code(), Some(0));
    assert_eq!(world.banks[1].proxy.under_way(), 0, "the call came to its end");
    world.coordinator.start().await;
    transfer.ended(&world, Confirm).await;
}

#[tokio::test]
async fn told_to_end_it_does_not_wait_for_ever_and_the_next_start_goes_on() {
    let mut world = World::with(&["--drain", "300ms"]).await;
    let transfer = under_way(&world, Duration::from_secs(3)).await;
    assert_eq!(world.coordinator.terminate().await.code(), Some(3), "calls were cut short");
    world.coordinator.start().await;
    transfer.ended(&world, Confirm).await;
    world.silence().await;
    world.balance();
}

const TOKEN: &str = "a-token-of-thirty-two-characters";

fn with_token() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("a file");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    directory
}

#[tokio::test]
async fn x28_a_token_that_anyone_can_read_is_refused() {
    let directory = with_token();
    let file = directory.path().join("token");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("it is ours");
    refuses(&["--token-file", file.to_str().expect("text")], &[], &["--token-file", "anyone", "chmod"]).await;
}

/// A page can make its own name resolve to this machine, and is then of the same origin as what it asks.
#[tokio::test]
async fn x27_a_page_whose_name_was_made_to_lead_here_gets_nothing_done() {
    let coordinator = Coordinator::alone(&[]).await;
    let begin = |gid: &str, host: &str| {
        let body = format!(r#"{{"gid":"{gid}","decider":"initiator"}}"#);
        Message::request("POST", "/v1/transactions", Some(&body)).to(host)
    };
    let two = "localhost\r\nhost: evil.example";
    let strangers = ["evil.example", "evil.example:7780", "localhost.evil.example", "127.0.0.1.evil.example"];
    for host in strangers.into_iter().chain(["@", "", two]) {
        let answer = http::call(coordinator.address(), &begin("x27", host)).await.expect("an answer");
        assert!([400, 401].contains(&answer.status()), "{host}: {}", answer.status());
    }
    assert_eq!(coordinator.ask("GET", "/x27", None).await.0, 404, "nothing was stored");
    for (nth, host) in ["localhost", "LocalHost:1", "127.0.0.1:80", "[::1]:80", "[::1]"].iter().enumerate() {
        let answer = http::call(coordinator.address(), &begin(&format!("x27/{nth}"), host)).await;
        assert_eq!(answer.expect("an answer").status(), 201, "{host}");
    }
}

#[tokio::test]
async fn where_a_token_is_asked_for_nobody_does_anything_without_it() {
    let directory = with_token();
    let file = directory.path().join("token");
    let coordinator = Coordinator::alone(&["--token-file", file.to_str().expect("text")]).await;
    let begin = r#"{"gid":"g","decider":"initiator"}"#;
    let begin = || Message::request("POST", "/v1/transactions", Some(begin));
    let nearly = &TOKEN[1..];
    for request in [
        begin(),
        begin().with("authorization", "Bearer"),
        begin().with("authorization", "Bearer "),
        begin().with("authorization", &format!("Bearer {nearly}")),
        begin().with("authorization", &format!("Bearer {TOKEN}x")),
        begin().with("authorization", &format!("Basic {TOKEN}")),
        begin().with("authorization", TOKEN),
        Message::request("GET", "/v1/transactions/g", None),
        Message::request("GET", "/metrics", None),
        Message::request("POST", "/v1/transactions/g/cancel", Some("{}")),
    ] {
        let answer = http::call(coordinator.address(), &request).await.expect("an answer");
        assert_eq!(answer.status(), 401, "{request:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(String::from_utf8_lossy(&answer.body).contains(r#""code":"unauthorized""#));
    }
    for probe in ["/livez", "/readyz"] {
        let answer = http::call(coordinator.address(), &Message::request("GET", probe, None)).await;
        assert_eq!(answer.expect("an answer").status(), 200, "probes have no token");
    }
    let with = |request: Message| request.with("authorization", &format!("Bearer {TOKEN}"));
    let show = with(Message::request("GET", "/v1/transactions/g", None));
    assert_eq!(coordinator.send(&show).await.0, 404, "nothing was stored");
    assert_eq!(coordinator.send(&with(begin())).await.0, 201);
    assert!(!coordinator.log().contains(TOKEN), "it is never logged");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_cut_off_whatever_its_length_says() {
    let coordinator = Coordinator::alone(&[]).await;
    let mut stream = TcpStream::connect(coordinator.address()).await.expect("it listens");
    let head = "POST /v1/transactions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
    // Once it has seen enough it may hang up.
    for _ in 0..9 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

/// Those who send slowly, all at once: each would hold a connection for as long as it likes.
#[tokio::test]
async fn who_sends_too_slowly_is_cut_off() {
    let coordinator = Coordinator::alone(&[]).await;
    let head = "POST /v1/transactions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let body = format!("{head}content-length: 100\r\n\r\n{{\"gid\":");
    let cut_off = async |sent: &str| {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(coordinator.address()).await.expect("it listens");
        stream.write_all(sent.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await;
        // A reset is as good as an end.
        let _ = read.unwrap_or_else(|_| panic!("it still listens to {sent:?} after {:?}", begun.elapsed()));
        answer
    };
    let (nothing, half_a_head, half_a_body) = tokio::join!(cut_off(""), cut_off(head), cut_off(&body));
    assert!(!nothing.contains(" 200 ") && !half_a_head.contains(" 200 "), "{nothing} {half_a_head}");
    assert!(half_a_body.starts_with("HTTP/1.1 408"), "{half_a_body}");
    assert_eq!(coordinator.view("g").await.0, 404, "others are served");
}
