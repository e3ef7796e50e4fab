//! Whoever starts the coordinator and wants to know how it stands: systemd.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;

use tcc_tests::http::{self, Message};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::coordinator::Coordinator;
use crate::world::LONG;

/// What is told at a socket. It is read at once: what finds no place in the socket's queue is lost.
type Told = UnboundedReceiver<String>;

/// A coordinator that is to tell a socket of this name, and what is told there.
async fn supervised(socket: UnixDatagram, name: &str, directory: Arc<TempDir>) -> (Coordinator, Told) {
    socket.set_read_timeout(Some(LONG)).expect("a bound");
    let (tell, told) = unbounded_channel();
    std::thread::spawn(move || {
        let mut text = [0; 512];
        while let Ok(length) = socket.recv(&mut text) {
            if tell.send(String::from_utf8_lossy(&text[..length]).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut coordinator = Coordinator::asleep(directory, &[]).await;
    coordinator.through(&["env", &format!("NOTIFY_SOCKET={name}"), "WATCHDOG_USEC=200000"]);
    coordinator.start().await;
    (coordinator, told)
}

/// Told that it is ready, alive and stopping, in this order.
async fn tells(mut coordinator: Coordinator, mut told: Told) {
    let mut next = async || told.recv().await.expect("it is told in time");
    let ready = next().await;
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    assert!(ready.contains(&coordinator.address().to_string()), "{ready}");
    let answer = http::call(coordinator.address(), &Message::request("GET", "/readyz", None)).await;
    assert_eq!(answer.expect("who is ready answers").status(), 200);
    for _ in 0..3 {
        assert_eq!(next().await, "WATCHDOG=1");
    }
    assert_eq!(coordinator.terminate().await.code(), Some(0));
    let mut last = next().await;
    while last == "WATCHDOG=1" {
        last = next().await;
    }
    assert!(last.starts_with("STOPPING=1\n"), "{last}");
}

#[tokio::test]
async fn a_supervisor_is_told_when_it_is_ready_alive_and_stopping() {
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let (coordinator, told) = supervised(socket, path.to_str().expect("text"), directory).await;
    tells(coordinator, told).await;
}

#[tokio::test]
async fn a_supervisor_may_listen_at_an_abstract_address() {
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let name = directory.path().to_str().expect("text").to_owned();
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    let (coordinator, told) = supervised(socket, &format!("@{name}"), directory).await;
    tells(coordinator, told).await;
}

#[tokio::test]
async fn it_runs_though_nobody_listens_where_it_is_to_tell() {
    let directory = Arc::new(tempfile::tempdir().expect("a directory"));
    let mut coordinator = Coordinator::asleep(directory, &[]).await;
    coordinator.through(&["env", "NOTIFY_SOCKET=/nobody/is/here", "WATCHDOG_USEC=1000"]);
    coordinator.start().await;
    assert_eq!(coordinator.view("none").await.0, 404);
    assert_eq!(coordinator.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn the_unit_is_one_that_systemd_takes_and_leaves_little_exposed() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/tcc-server.service");
    let unit = std::fs::read_to_string(unit).expect("it is there");
    assert!(unit.contains("ExecStart=/usr/bin/tcc-server\n"));
    // What it starts must be there to be looked at.
    let unit = unit.replace("/usr/bin/tcc-server\n", concat!(env!("CARGO_BIN_EXE_coordinator"), "\n"));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("tcc-server.service");
    std::fs::write(&file, unit).expect("a file");
    for look in [&["verify"][..], &["security", "--offline=yes", "--threshold=20"]] {
        let analyzed = Command::new("systemd-analyze").args(look).arg(&file).output().await;
        let Ok(analyzed) = analyzed else {
            tcc_tests::skipped("systemd is not installed (no systemd-analyze)");
            return;
        };
        let said = String::from_utf8_lossy(&analyzed.stderr);
        assert!(analyzed.status.success(), "{look:?}: {said}{}", String::from_utf8_lossy(&analyzed.stdout));
        assert!(!said.contains("tcc-server.service:"), "{said}");
    }
}
