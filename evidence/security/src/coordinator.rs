//! The coordinator under attack: a process of its own, with a token, whose log is read afterwards.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tcc_tests::Process;
use tempfile::TempDir;
use tokio::process::Command;

use crate::exchange::{Answer, Request, ask};
use crate::secrets::TOKEN;

/// The first argument that makes this package's program a coordinator.
pub const COORDINATOR: &str = "coordinator";

/// A running coordinator.
pub struct Coordinator {
    directory: TempDir,
    process: Process,
}

impl Coordinator {
    /// Starts one with these flags beside those that it needs.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(program: &Path, flags: &[&str]) -> Self {
        Self::start_by(Command::new(program).arg(COORDINATOR).args(flags)).await
    }

    /// Starts one by a command that ends in this package's program and [`COORDINATOR`].
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_by(command: &mut Command) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let token = directory.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).expect("a file");
        std::fs::set_permissions(&token, Permissions::from_mode(0o600)).expect("it is ours");
        command.current_dir(directory.path()).arg("--token-file").arg(token);
        command.args(["--listen", "127.0.0.1:0"]);
        let log = directory.path().join("log");
        let started = Process::start(command, &log).await;
        let process = started.unwrap_or_else(|status| {
            panic!("{status}: {}", std::fs::read_to_string(&log).unwrap_or_default())
        });
        Self { directory, process }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.process.address()
    }

    /// Its log of transactions.
    #[must_use]
    pub fn db(&self) -> PathBuf {
        self.directory.path().join("tcc.db")
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its memory in use, in KiB.
    ///
    /// # Panics
    /// When it does not run any more.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it uses memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Asks it something, with the token.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request = Request::new(method, &format!("/v1/transactions{path}")).with_token();
        if let Some(body) = body {
            request = request.json(body.to_string());
        }
        self.send(&request).await
    }

    /// Sends a request as it is.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn send(&self, request: &Request) -> Answer {
        ask(self.address(), request).await.unwrap_or_else(|why| panic!("{why}: {}", self.log()))
    }

    /// What is known of a transaction: the status and the body.
    pub async fn view(&self, gid: &str) -> (u16, Value) {
        let answer = self.ask("GET", &format!("/{}", gid.replace('/', "%2F")), None).await;
        (answer.status, answer.json())
    }

    /// Tells it to end, and waits until it has.
    pub async fn end(mut self) -> String {
        self.process.terminate().await;
        let _ = self.process.ended().await;
        self.log()
    }
}
