//! The coordinator as a test sees it: started, killed and asked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tcc_client::Client;
use tcc_tests::http::{self, Message};
use tcc_tests::{Process, Proxy};
use tempfile::TempDir;
use tokio::process::Command;

use crate::bank::died;
use crate::world::{LONG, tail};

/// A coordinator and the proxy before it.
pub(crate) struct Coordinator {
    pub(crate) proxy: Proxy,
    directory: Arc<TempDir>,
    /// What it is started by, before the program's own name; most often nothing.
    through: Vec<String>,
    listen: String,
    flags: Vec<String>,
    process: Option<Process>,
}

impl Coordinator {
    /// One that runs, with no banks around it.
    pub(crate) async fn alone(flags: &[&str]) -> Self {
        let mut coordinator = Self::asleep(Arc::new(tempfile::tempdir().expect("a directory")), flags).await;
        coordinator.start().await;
        coordinator
    }

    /// One that does not run yet.
    pub(crate) async fn asleep(directory: Arc<TempDir>, flags: &[&str]) -> Self {
        let (through, listen) = (Vec::new(), "127.0.0.1:0".to_owned());
        let flags = flags.iter().map(ToString::to_string).collect();
        Self { proxy: Proxy::start().await, directory, through, listen, flags, process: None }
    }

    /// From now on it is started by another program: `env`, `sh`, whatever ends in running its arguments.
    pub(crate) fn through(&mut self, program: &[&str]) {
        self.through = program.iter().map(ToString::to_string).collect();
    }

    /// From now on it listens there.
    pub(crate) fn listen(&mut self, address: &str) {
        self.listen = address.to_owned();
    }

    /// Starts it on the file that it had, if it had one.
    pub(crate) async fn start(&mut self) {
        self.run(&mut self.command()).await;
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_coordinator");
        let Some((first, rest)) = self.through.split_first() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    }

    /// The same, to end itself at a point.
    pub(crate) async fn start_doomed(&mut self, at: &str) {
        self.run(Command::new(env!("CARGO_BIN_EXE_coordinator")).env("TCC_CRASH_AT", at)).await;
    }

    /// Starts it to end itself at a point that it passes whether anybody calls it or not.
    pub(crate) async fn dies_at_its_start(&mut self, at: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
        let status = match self.process(command.env("TCC_CRASH_AT", at)).await {
            Ok(mut process) => process.ended().await,
            Err(status) => status,
        };
        assert!(died(status), "it ended with {status}");
    }

    async fn run(&mut self, command: &mut Command) {
        let process = self.process(command).await.unwrap_or_else(|status| panic!("{status}: {}", self.log()));
        self.proxy.lead_to(Some(process.address()));
        self.process = Some(process);
    }

    async fn process(&self, command: &mut Command) -> Result<Process, ExitStatus> {
        let (listen, log) = (&*self.listen, "info,tcc_server=debug");
        command.arg("--db").arg(self.db()).args(["--listen", listen, "--log", log]);
        command.args(&self.flags);
        Process::start(command, &self.directory.path().join("coordinator")).await
    }

    /// Kills it (SIGKILL).
    pub(crate) async fn kill(&mut self) {
        self.process.as_mut().expect("it runs").kill().await;
        self.gone();
    }

    /// Tells it to end (SIGTERM), and waits until it has.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("it runs");
        process.terminate().await;
        let status = process.ended().await;
        self.gone();
        status
    }

    /// Sends it a signal.
    pub(crate) async fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name).await;
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = self.process.as_mut().expect("it runs").ended().await;
        self.gone();
        status
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Waits until it ends itself at the point that it was told, and starts it again.
    pub(crate) async fn dies_and_comes_back(&mut self) {
        let status = self.process.as_mut().expect("it runs").ended().await;
        assert!(died(status), "it ended with {status}");
        self.gone();
        self.start().await;
    }

    fn gone(&mut self) {
        self.proxy.lead_to(None);
        self.process = None;
    }

    /// An initiator's way to it.
    pub(crate) fn client(&self) -> Client {
        self.client_that_waits(Duration::from_secs(3))
    }

    /// The same, that waits so long for one answer.
    pub(crate) fn client_that_waits(&self, length: Duration) -> Client {
        Client::builder(&format!("http://{}", self.proxy.address()))
            .repeat_for(LONG)
            .repeat_after(Duration::from_millis(20), Duration::from_millis(100))
            .request_timeout(length)
            .build()
            .expect("a client")
    }

    /// Sends a request, past the proxy, and returns the status and the JSON of its answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string());
        self.send(&Message::request(method, &format!("/v1/transactions{path}"), body.as_deref())).await
    }

    /// The same, of a request that a test wrote itself.
    pub(crate) async fn send(&self, request: &Message) -> (u16, Value) {
        let address = self.process.as_ref().expect("it runs").address();
        let answer = http::call(address, request).await.expect("an answer");
        (answer.status(), serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// What is known of a transaction.
    pub(crate) async fn view(&self, gid: &str) -> (u16, Value) {
        self.ask("GET", &format!("/{}", segment(gid)), None).await
    }

    /// Waits until a transaction has ended, and returns its view.
    pub(crate) async fn end(&self, gid: &str) -> Value {
        let path = format!("/{}?wait=end&timeout_ms={}", segment(gid), LONG.as_millis());
        let (status, view) = self.ask("GET", &path, None).await;
        assert_eq!(status, 200, "{view}");
        view
    }

    /// Its log of transactions.
    pub(crate) fn db(&self) -> PathBuf {
        self.directory.path().join("tcc.db")
    }

    /// The address of the process itself.
    pub(crate) fn address(&self) -> SocketAddr {
        self.process.as_ref().expect("it runs").address()
    }

    /// The end of what it logged.
    pub(crate) fn log(&self) -> String {
        tail(&self.directory.path().join("coordinator"))
    }

    /// All that it logged.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("coordinator")).unwrap_or_default()
    }
}

/// A gid as one segment of a path.
fn segment(gid: &str) -> String {
    gid.replace('/', "%2F")
}
