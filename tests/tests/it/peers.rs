//! What single destinations are called with: credentials, signatures, and bounds of their own.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tcc_client::{Branch, Client, SigningKey, new_gid};
use tcc_core::Operation;
use tcc_core::signature::Presented;
use tcc_tests::http::Message;
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::command_line::{command, output};
use crate::configuration::file_refused;
use crate::coordinator::Coordinator;
use crate::transfer::{ByTheCoordinator, Transfer};
use crate::world::{LONG, World, eventually};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A participant that agrees to everything, and keeps what it was sent.
pub(crate) struct Recorder {
    address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Message>>>,
    /// The path at which it fails; empty for none.
    pub(crate) fails_to: Arc<Mutex<String>>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let recorder = Self { address, seen: Arc::default(), fails_to: Arc::default() };
        let (seen, fails_to) = (recorder.seen.clone(), recorder.fails_to.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, fails_to) = (seen.clone(), fails_to.clone());
                tokio::spawn(async move {
                    let (from, mut to) = stream.into_split();
                    let mut from = BufReader::new(from);
                    while let Ok(Some(message)) = Message::read(&mut from).await {
                        let fails = *fails_to.lock().unwrap() == message.path();
                        seen.lock().unwrap().push(message);
                        let status = if fails { "503 Service Unavailable" } else { "200 OK" };
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                        if to.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        recorder
    }

    pub(crate) fn at(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let (path, new) = (directory.join(name), directory.join("new"));
    std::fs::write(&new, text).expect("a file");
    std::fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("it is ours");
    std::fs::rename(&new, &path).expect("it is ours");
    path
}

/// Has branches at these tried and confirmed.
async fn confirmed(coordinator: &Coordinator, at: &[&Recorder], headers: serde_json::Value) -> String {
    let gid = new_gid().to_string();
    let branches: Vec<_> = at
        .iter()
        .enumerate()
        .map(|(nth, at)| json!({"id": format!("b{nth}"), "at": at.at(), "headers": headers, "payload": {"a": 1}}))
        .collect();
    let begin = json!({"gid": gid, "timeout_ms": 3_600_000, "branches": branches});
    assert_eq!(coordinator.ask("POST", "", Some(begin)).await.0, 201);
    let end = coordinator.end(&gid).await;
    assert_eq!(end["phase"], json!("Confirmed"), "{end}");
    gid
}

async fn with_file(text: &str, directory: &Arc<TempDir>) -> Coordinator {
    let config = file(directory.path(), "tcc.toml", text);
    let flags = ["--config", config.to_str().expect("text")];
    let mut coordinator = Coordinator::asleep(directory.clone(), &flags).await;
    coordinator.start().await;
    coordinator
}

fn directory() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a directory"))
}

#[tokio::test]
async fn a_credential_goes_to_its_origin_alone_and_is_taken_up_when_it_changes() {
    let (known, other, directory) = (Recorder::start().await, Recorder::start().await, directory());
    let secret = file(directory.path(), "credential", "Bearer first-secret\n");
    let text = format!(
        "[destinations.\"{}\"]\nheader-files = {{ authorization = {secret:?}, x-key = {secret:?} }}\n",
        known.at()
    );
    let coordinator = with_file(&text, &directory).await;
    // A branch's own header of that name is not sent there.
    let own = json!({"authorization": "the branch's", "x-own": "too"});
    confirmed(&coordinator, &[&known, &other], own.clone()).await;
    let sent = known.take();
    assert_eq!(sent.len(), 2);
    for call in &sent {
        assert_eq!(call.header("authorization"), Some("Bearer first-secret"));
        assert_eq!((call.header("x-key"), call.header("x-own")), (Some("Bearer first-secret"), Some("too")));
    }
    for call in other.take() {
        assert_eq!((call.header("authorization"), call.header("x-key")), (Some("the branch's"), None));
    }
    // What is bad changes nothing, and is told.
    file(directory.path(), "credential", "two\nlines");
    let told = async || coordinator.whole_log().contains("what it held before still holds").then_some(());
    eventually("a word about it", told).await;
    confirmed(&coordinator, &[&known], own.clone()).await;
    assert!(known.take().iter().all(|call| call.header("authorization") == Some("Bearer first-secret")));
    // The next one is taken up without a restart.
    file(directory.path(), "credential", "Bearer second-secret");
    eventually("the new one", async || {
        let gid = confirmed(&coordinator, &[&known], own.clone()).await;
        assert!(!coordinator.view(&gid).await.1.to_string().contains("secret"));
        known
            .take()
            .iter()
            .any(|call| call.header("authorization") == Some("Bearer second-secret"))
            .then_some(())
    })
    .await;
    let mut command = command(directory.path());
    let printed = output(command.args(["config", "print", "--config", "tcc.toml"])).await;
    let printed = String::from_utf8(printed.stdout).expect("text");
    assert!(printed.contains(&format!("[destinations.\"{}\"]", known.at())), "{printed}");
    for text in [printed, coordinator.whole_log()] {
        assert!(!text.contains("first-secret") && !text.contains("second-secret") && !text.contains("lines"));
    }
}

#[tokio::test]
async fn a_destination_may_have_a_time_out_of_its_own() {
    let (known, other, directory) = (Recorder::start().await, Recorder::start().await, directory());
    let text = format!(
        "call-timeout = \"7s\"\n[destinations.\"{}\"]\ncall-timeout = \"3s\"\ncalls-in-flight = 2\n",
        known.at()
    );
    let coordinator = with_file(&text, &directory).await;
    confirmed(&coordinator, &[&known, &other], json!({})).await;
    assert!(known.take().iter().all(|call| call.header("tcc-timeout") == Some("3000")));
    assert!(other.take().iter().all(|call| call.header("tcc-timeout") == Some("7000")));
}

#[tokio::test]
async fn a_mistake_about_a_destination_is_told_with_its_place_and_its_key() {
    let directory = directory();
    let key = file(directory.path(), "key", OLD);
    let open = directory.path().join("open");
    std::fs::write(&open, "secret-of-mine").expect("a file");
    for (said, words) in [
        ("destinations = 5".to_owned(), &["tcc.toml:1:16: destinations", "table"][..]),
        ("[destinations]\npayment = {}".to_owned(), &["tcc.toml:2:11: destinations", "\"payment\"", "origin"]),
        ("[destinations.\"https://a/b\"]".to_owned(), &["tcc.toml:1:1", "https://a/b"]),
        ("[destinations.\"http://a\"]\nheaders = {}".to_owned(), &["tcc.toml:2:1", "\"headers\"", "header-files"]),
        ("[destinations.\"http://a\"]\ncalls-in-flight = 0".to_owned(), &["tcc.toml:2:19: calls-in-flight"]),
        ("[destinations.\"http://a\"]\ncall-timeout = \"2m\"".to_owned(), &["tcc.toml:2:16: call-timeout", "2m"]),
        ("[destinations.\"http://a\"]\ncall-timeout = 5".to_owned(), &["tcc.toml:2:16: call-timeout"]),
        (
            "[destinations.\"http://a\"]\nheader-files = { authorization = \"none\" }".to_owned(),
            &["tcc.toml:2:34: header-files", "none", "No such file"],
        ),
        (
            format!("[destinations.\"http://a\"]\nheader-files = {{ tcc-gid = {key:?} }}"),
            &["tcc.toml:2:28: header-files", "\"tcc-gid\""],
        ),
        (
            format!("[destinations.\"http://a\"]\nheader-files = {{ authorization = {open:?} }}"),
            &["tcc.toml:2:34: header-files", "open", "chmod"],
        ),
        (
            "[destinations.\"http://a\"]\nsigning-key-file = \"none\"".to_owned(),
            &["tcc.toml:2:20: signing-key-file", "none"],
        ),
        (format!("signing-key-file = {open:?}"), &["tcc.toml:1:20: signing-key-file", "whsec_"]),
        (
            "[destinations.\"http://a\"]\ncalls-in-flight = 1\n[destinations.\"https://a\"]\ncalls-in-flight = 2"
                .to_owned(),
            &["tcc.toml:3:1", "https://a", "the same"],
        ),
    ] {
        file_refused(&said, words).await;
    }
}

/// Checks that a call is signed, and returns how many signatures it has.
fn verified(call: &Message, by: &str) -> usize {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let header = |name| call.header(name).unwrap_or_else(|| panic!("{name} is not in {call:?}"));
    let presented = Presented {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signatures: header("webhook-signature"),
    };
    let keys: [SigningKey; 1] = [by.parse().expect("a key")];
    let signed =
        presented.verify(&keys, &call.body, i64::try_from(now).expect("now")).expect("it is believed");
    assert_eq!(Some(signed.gid.as_str()), call.header("tcc-gid"));
    assert_eq!(signed.branch.as_ref().map(|branch| branch.as_str()), call.header("tcc-branch"));
    let operation: Operation = header("tcc-operation").parse().expect("an operation");
    assert_eq!(signed.operation, operation);
    presented.signatures.split(' ').count()
}

#[tokio::test]
async fn calls_are_signed_by_every_key_or_by_those_of_their_destination_and_keys_may_change() {
    let (known, other, directory) = (Recorder::start().await, Recorder::start().await, directory());
    let keys = file(directory.path(), "keys", OLD);
    let own = file(directory.path(), "own", NEW);
    let text = format!(
        "signing-key-file = {keys:?}\n[destinations.\"{}\"]\nsigning-key-file = {own:?}\n",
        other.at()
    );
    let coordinator = with_file(&text, &directory).await;
    confirmed(&coordinator, &[&known, &other], json!({})).await;
    for (recorder, key) in [(&known, OLD), (&other, NEW)] {
        let sent = recorder.take();
        assert_eq!(sent.len(), 2, "a try and a confirm");
        assert!(sent.iter().all(|call| verified(call, key) == 1));
    }
    file(directory.path(), "keys", &format!("{NEW}\n# until all have the new one\n{OLD}\n"));
    eventually("both keys", async || {
        confirmed(&coordinator, &[&known], json!({})).await;
        let sent = known.take();
        assert!(sent.iter().all(|call| verified(call, OLD) <= 2));
        sent.iter().all(|call| verified(call, OLD) == 2 && verified(call, NEW) == 2).then_some(())
    })
    .await;
    assert!(!coordinator.whole_log().contains("whsec_"));
}

/// What nobody could be told, and what a participant answers wrongly: a webhook hears of both, signed, once, and of the second
/// also after a kill.
#[tokio::test]
async fn a_webhook_is_told_signed_what_calls_for_a_human() {
    let (shop, operator, directory) = (Recorder::start().await, Recorder::start().await, directory());
    *shop.fails_to.lock().unwrap() = "/paid".to_owned();
    let keys = file(directory.path(), "keys", OLD);
    let text = format!("signing-key-file = {keys:?}\nalert-url = \"{}/alerts\"\n", operator.at());
    let mut coordinator = with_file(&text, &directory).await;
    let notify = json!({"gid": "paid/1", "branches": [{"id": "shop", "confirm": format!("{}/paid", shop.at()),
        "retry": {"intervals_ms": [20], "give_up": true}}]});
    assert_eq!(coordinator.ask("POST", "", Some(notify)).await.0, 201);
    let alerts = eventually("an alert", async || Some(operator.take()).filter(|told| !told.is_empty())).await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].path(), verified(&alerts[0], OLD)), ("/alerts", 1));
    let said: serde_json::Value = serde_json::from_slice(&alerts[0].body).expect("JSON");
    let expected = json!({"type": "tcc.attention", "gid": "paid/1", "phase": "Abandoned",
        "attention": "given up after 2 calls; the last saw: status 503"});
    assert_eq!(said, expected);

    coordinator.kill().await;
    coordinator.start().await;
    let wrong = json!({"gid": "wrong", "branches": [{"id": "b", "confirm": format!("http://{}/none", coordinator.address())}]});
    assert_eq!(coordinator.ask("POST", "", Some(wrong)).await.0, 201);
    let alerts = eventually("an alert", async || Some(operator.take()).filter(|told| !told.is_empty())).await;
    assert_eq!(alerts.len(), 1, "what was told before is not told again: {alerts:?}");
    let said: serde_json::Value = serde_json::from_slice(&alerts[0].body).expect("JSON");
    assert_eq!(said["gid"], json!("wrong"));
    assert!(said["attention"].as_str().expect("a sentence").starts_with("status 404"), "{said}");
}

#[tokio::test]
async fn participants_that_believe_signed_calls_alone_believe_the_coordinator_and_initiators_that_sign() {
    let directory = directory();
    let keys = file(directory.path(), "keys", OLD);
    let flags = ["--signing-key-file", keys.to_str().expect("text")];
    let mut world = World::with(&flags).await;
    for bank in &world.banks {
        bank.down().await;
        bank.believes(OLD);
        bank.up().await;
    }
    let transfer = Transfer::new(ByTheCoordinator).call_timeout(LONG);
    transfer.ends(&world, tcc_client::Decision::Confirm).await;

    // Another initiator's tries are not believed, and those of one that signs are.
    let tries = async |client: Client, deadline: Duration| {
        let transaction = client.transaction(new_gid()).timeout(deadline).wait(tcc_client::Wait::End);
        let branch = |nth: usize, amount: i64| {
            let payload = json!({ "amount": amount, "faults": [] });
            Branch::at(format!("b{nth}"), world.banks[nth].at()).payload(&payload).expect("JSON")
        };
        transaction
            .run(async |tcc| {
                tcc.try_(branch(0, -10)).await?;
                tcc.try_(branch(1, 10)).await
            })
            .await
            .is_ok()
    };
    let address = format!("http://{}", world.coordinator.address());
    assert!(!tries(Client::new(&address).expect("a client"), Duration::from_secs(1)).await);
    let signs = Client::builder(&address).signed_by([OLD.parse().expect("a key")]).build();
    world.balance();
    assert!(tries(signs.expect("a client"), LONG).await);
    world.silence().await;
    assert_eq!(world.coordinator.terminate().await.code(), Some(0));
}
