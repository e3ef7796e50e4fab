//! A network of its own (a network namespace with nothing but a loopback in it), where this package's program may
//! have every address there is and say what every name resolves to. Nothing in it reaches, or is reached from, the
//! network outside, and it is gone with the process in it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tcc_tests::Process;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::coordinator::{COORDINATOR, Coordinator};
use crate::dns::{Dns, Name};
use crate::participant::{Participant, answer};

/// The first argument that makes this package's program a lab.
pub const LAB: &str = "lab";
/// Names that resolve to what must not be called, and some that do not.
pub const NAMES: &str = "names";
/// What is listened on without any flags.
pub const DEFAULTS: &str = "defaults";

/// An address of the documentation (RFC 5737), which the lab has for its participant.
pub const ALLOWED: &str = "203.0.113.7";
/// Where clouds keep their secrets; the lab has it for a trap.
const METADATA: &str = "169.254.169.254";

/// Prepares the network: root of the namespace, whoever that is outside.
const PREPARE: &str = r#"
set -e
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
ip link set lo up
ip address add 203.0.113.7/32 dev lo
ip address add 169.254.169.254/32 dev lo
exec "$2" lab "$3"
"#;

/// Runs a scenario in a network of its own, and returns what it found out.
///
/// # Errors
/// Why there can be no such network here.
///
/// # Panics
/// When the scenario fails.
pub async fn run(program: &Path, scenario: &str) -> Result<Value, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("a file");
    file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n");
    file("nsswitch.conf", "hosts: dns\n");
    let ways: [&[&str]; 2] = [&["--mount", "--net"], &["--map-root-user", "--mount", "--net"]];
    let mut way = None;
    for flags in ways {
        let tried =
            Command::new("unshare").args(flags).args(["ip", "link", "set", "lo", "up"]).output().await;
        if tried.is_ok_and(|tried| tried.status.success()) {
            way = Some(flags);
            break;
        }
    }
    let Some(way) = way else { return Err("no network namespace can be made (unshare, ip)".to_owned()) };
    let mut lab = Command::new("unshare");
    lab.args(way).args(["sh", "-c", PREPARE, "sh"]).arg(directory.path()).arg(program).arg(scenario);
    let lab =
        lab.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let mut lab = lab.expect("unshare was just run");
    // It ends with its standard input, which waiting for its output would close.
    let alive = lab.stdin.take();
    let output = timeout(Duration::from_secs(60), lab.wait_with_output()).await;
    drop(alive);
    let output = output.expect("the lab comes to an end").expect("it is ours to wait for");
    let said = String::from_utf8_lossy(&output.stdout);
    let found = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    Ok(found.unwrap_or_else(|| panic!("{said}\n{}", String::from_utf8_lossy(&output.stderr))))
}

/// What runs in the lab.
#[must_use]
pub fn main(scenario: Option<&OsString>) -> ExitCode {
    tcc_tests::die_with_the_test();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let found = runtime.block_on(async {
        match scenario.and_then(|scenario| scenario.to_str()) {
            Some(NAMES) => names().await,
            Some(DEFAULTS) => defaults().await,
            _ => json!("no such scenario"),
        }
    });
    println!("{found}");
    ExitCode::SUCCESS
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn zone() -> HashMap<String, Name> {
    let always = |addresses: &[&str]| Name::Always(addresses.iter().map(|text| address(text)).collect());
    let zone = [
        ("good.test", always(&[ALLOWED])),
        ("inside.test", always(&["127.0.0.1"])),
        ("metadata.test", always(&[METADATA])),
        ("both.test", always(&[ALLOWED, METADATA])),
        ("other-way.test", always(&[METADATA, ALLOWED])),
        ("mapped.test", always(&["::ffff:169.254.169.254"])),
        ("nat64.test", always(&["64:ff9b::a9fe:a9fe"])),
        ("local.test", always(&["fe80::1"])),
        ("mixed.test", always(&[ALLOWED, "fd00:ec2::254"])),
        ("zero.test", always(&["0.0.0.0"])),
        ("every.test", always(&["255.255.255.255"])),
        ("alias.test", Name::Alias("metadata.internal".to_owned(), address(METADATA))),
        ("rebinds.test", Name::Rebinds(address(ALLOWED), address(METADATA))),
        ("recovers.test", Name::Rebinds(address(METADATA), address(ALLOWED))),
    ];
    zone.into_iter().map(|(name, to)| (name.to_owned(), to)).collect()
}

/// Begins a transaction at each name, and tells how it stands once that is clear, and who was asked.
async fn names() -> Value {
    let program = std::env::current_exe().expect("this program");
    let _dns = Dns::start("127.0.0.1:53".parse().expect("an address"), zone()).await;
    let at = |address: &str| format!("{address}:80").parse::<SocketAddr>().expect("an address");
    let participant = Participant::on(at(ALLOWED), |_| answer(200, "", "{}")).await;
    let metadata = Participant::on(at(METADATA), |_| answer(200, "", "{}")).await;
    let inside = Participant::on(at("127.0.0.1"), |_| answer(200, "", "{}")).await;
    let mut found = Map::new();
    let coordinator = Coordinator::start(&program, &["--log", "debug"]).await;
    for name in zone().keys().filter(|name| *name != "inside.test") {
        found.insert(name.clone(), begin(&coordinator, name).await);
    }
    found.insert("unheard-of.test".to_owned(), begin(&coordinator, "unheard-of.test").await);
    found.insert("inside".to_owned(), json!(inside.asked().len()));
    // Absolute, in capitals: the same name.
    found.insert("METADATA.test.".to_owned(), begin(&coordinator, "METADATA.test.").await);
    let narrow = Coordinator::start(&program, &["--allow", "203.0.113.0/24"]).await;
    found.insert("narrow good.test".to_owned(), begin(&narrow, "good.test").await);
    found.insert("narrow inside.test".to_owned(), begin(&narrow, "inside.test").await);
    let named = Coordinator::start(&program, &["--allow", "metadata.test"]).await;
    found.insert("named metadata.test".to_owned(), begin(&named, "metadata.test").await);
    found.insert("inside after".to_owned(), json!(inside.asked().len()));
    found.insert("metadata".to_owned(), json!(metadata.asked().len()));
    let hosts: Vec<_> = participant
        .asked()
        .iter()
        .map(|asked| format!("{} {}", asked.header("host").concat(), asked.path()))
        .collect();
    found.insert("participant".to_owned(), json!(hosts));
    Value::Object(found)
}

/// The phase and what the first call that did not settle it saw.
async fn begin(coordinator: &Coordinator, name: &str) -> Value {
    let gid = name.replace('.', "/");
    let begin = json!({"gid": gid, "branches": [
        {"id": "b", "at": format!("http://{name}/{gid}"), "retry": {"first_ms": 50, "longest_ms": 50}},
    ]});
    let begun = coordinator.ask("POST", "", Some(&begin)).await;
    if begun.status != 201 {
        return json!([begun.status, begun.json()["detail"]]);
    }
    let recovers = name.starts_with("recovers");
    for _ in 0..500 {
        let (_, view) = coordinator.view(&gid).await;
        let seen = &view["branches"][0]["seen"];
        if view["phase"] == "Confirmed" || (seen.is_string() && !recovers) {
            return json!([view["phase"], seen]);
        }
        sleep(Duration::from_millis(20)).await;
    }
    json!("nothing came of it")
}

/// Where a coordinator listens that was told nothing: the addresses of all sockets that listen in this network.
async fn defaults() -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let log = directory.path().join("log");
    let process = Process::start(command.arg(COORDINATOR).current_dir(directory.path()), &log).await;
    let process = process.expect("it starts");
    let mut listening = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
            if state == "0A" {
                listening.push(local.to_owned());
            }
        }
    }
    json!({"said": process.address().to_string(), "listening": listening})
}
