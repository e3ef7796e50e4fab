//! Processes under test: started, killed and waited for by their handle, and gone with the test.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// How long a process may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that serves an address. It is killed when this is dropped, and ends when its standard input does, which
/// is at the latest when this process ends.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: SocketAddr,
    _alive: ChildStdin,
}

impl Process {
    /// Starts a process, and waits until it says `listening on ADDRESS`. What it logs goes to the end of a file.
    ///
    /// # Errors
    /// How it ended, if it ended instead.
    ///
    /// # Panics
    /// When it cannot be run, or does neither in time.
    pub async fn start(command: &mut Command, log: &Path) -> Result<Self, ExitStatus> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a writable log");
        let mut child = unset_ours(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program was built with this test");
        let alive = child.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let said = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let said = said.expect("it says something in time").expect("a line of text");
        let Some(said) = said else {
            return Err(ended(&mut child).await);
        };
        let address = said.strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Ok(Self { child, address: address.unwrap_or_else(|| panic!("it said {said:?}")), _alive: alive })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it was waited for.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// Ends it as a power cut would (SIGKILL).
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it is ours to kill");
    }

    /// Tells it to end (SIGTERM).
    ///
    /// # Panics
    /// When it is not there any more.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Sends it a signal, by its name without the SIG.
    ///
    /// # Panics
    /// When it is not there any more.
    pub async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().await;
        assert!(status.expect("kill runs").success());
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self) -> ExitStatus {
        ended(&mut self.child).await
    }

    /// Waits until it ends, however long that takes.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub async fn wait(&mut self) -> ExitStatus {
        self.child.wait().await.expect("it is ours to wait for")
    }
}

async fn ended(child: &mut Child) -> ExitStatus {
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
    ended.expect("it ends in time").expect("it is ours to wait for")
}

/// No test depends on what the environment says to a coordinator.
fn unset_ours(command: &mut Command) -> &mut Command {
    let set: Vec<_> = command.as_std().get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TCC_") && !set.contains(&name) {
            command.env_remove(&name);
        }
    }
    command
}

/// Ends this process, a child of a test, when its standard input does: then the test is gone.
///
/// # Panics
/// When no thread can be started.
pub fn die_with_the_test() {
    let watch = || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(watch).expect("a thread can be started");
}
