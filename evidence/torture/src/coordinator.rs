//! The coordinator as the torturer sees it: started, doomed, killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tcc_tests::{Process, Proxy};
use tokio::process::Command;

use crate::Broken;
use crate::host::{aborted, tail};

/// The first argument that makes this package's program a coordinator.
pub const COORDINATOR: &str = "coordinator";

/// A coordinator and the proxy before it, which keeps its address.
pub struct Coordinator {
    program: PathBuf,
    directory: PathBuf,
    proxy: Proxy,
    flags: Vec<String>,
    process: Option<Process>,
}

impl Coordinator {
    /// One that does not run yet, with its files in a directory.
    pub async fn asleep(program: PathBuf, directory: PathBuf, flags: &[&str]) -> Self {
        let flags = flags.iter().map(ToString::to_string).collect();
        Self { program, directory, proxy: Proxy::start().await, flags, process: None }
    }

    /// Where it is asked.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Starts it on the log that it had, if it had one, to end itself at a point if there is one. Returns how long it
    /// took to listen.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&mut self, doomed: Option<&str>, flags: &[&str]) -> Result<Duration, Broken> {
        let began = Instant::now();
        let process = self.process(doomed, flags).await;
        let process = process.map_err(|status| format!("no coordinator: {status}: {}", self.log()))?;
        self.proxy.lead_to(Some(process.address()));
        self.process = Some(process);
        Ok(began.elapsed())
    }

    /// Starts it to end itself at a point that it passes whether anybody calls it or not.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub async fn dies_at_its_start(&self, at: &str, flags: &[&str]) -> Result<(), Broken> {
        let status = match self.process(Some(at), flags).await {
            Ok(mut process) => process.ended().await,
            Err(status) => status,
        };
        if aborted(status) {
            Ok(())
        } else {
            Err(format!("it did not die at {at} but with {status}: {}", self.log()))
        }
    }

    async fn process(&self, doomed: Option<&str>, flags: &[&str]) -> Result<Process, ExitStatus> {
        Process::start(&mut self.command(doomed, flags), &self.log_file()).await
    }

    /// Starts it and kills it so soon afterwards, wherever in its start that is.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn is_stillborn(&self, after: Duration) {
        let mut command = self.command(None, &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("this program");
        tokio::time::sleep(after).await;
        child.kill().await.expect("it is ours to kill");
    }

    fn command(&self, doomed: Option<&str>, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(at) = doomed {
            command.env("TCC_CRASH_AT", at);
        }
        command.arg(COORDINATOR).arg("--db").arg(self.directory.join("tcc.db"));
        command.args(["--listen", "127.0.0.1:0", "--log", "warn,tcc_server=debug"]);
        command.args(&self.flags).args(flags);
        command
    }

    /// Waits until it ends itself at the point that it was told, however long that takes, and starts it again.
    ///
    /// # Errors
    /// When it ends otherwise, or does not start again.
    ///
    /// # Panics
    /// When it does not run.
    ///
    /// # Cancel safety
    /// Safe as long as it has not ended.
    pub async fn dies_and_comes_back(&mut self) -> Result<(), Broken> {
        let status = self.process.as_mut().expect("it runs").wait().await;
        self.gone();
        if !aborted(status) {
            return Err(format!("the coordinator ended with {status}: {}", self.log()));
        }
        self.start(None, &[]).await?;
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub async fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().await;
        }
        self.gone();
    }

    fn gone(&mut self) {
        self.proxy.lead_to(None);
        self.process = None;
    }

    /// Forgets its log, so that it starts with a new one.
    ///
    /// # Panics
    /// When the files are not its own to remove.
    pub fn forget(&self) {
        for entry in std::fs::read_dir(&self.directory).expect("its directory") {
            std::fs::remove_file(entry.expect("a file").path()).expect("its file");
        }
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}
