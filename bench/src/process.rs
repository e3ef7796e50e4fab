//! The processes of a measurement: started, asked over their standard input, and ended with their handle.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::{Failure, bounds, coordinator, load, participant};

/// The first argument of a process that plays a role; the second is the [`Role`] as JSON.
pub(crate) const ROLE: &str = "role";
/// How long a process may take to start or to answer; a large log and a loaded machine are slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a process of this program can be.
#[derive(Serialize, Deserialize)]
pub(crate) enum Role {
    Coordinator(coordinator::Options),
    Participant(participant::Options),
    Relay(bounds::relay::Options),
    Load(load::Spec),
}

/// A process that was started by this one.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said when it was ready: where it listens, if it does.
    pub(crate) ready: String,
}

impl Process {
    /// Starts a process and waits until it is ready.
    pub(crate) async fn start(role: &Role) -> Result<Self, Failure> {
        Self::start_under(&[], role).await
    }

    /// The same by a command that runs it.
    pub(crate) async fn start_under(command: &[&str], role: &Role) -> Result<Self, Failure> {
        let itself = std::env::current_exe()?;
        let mut line = command.iter().map(OsStr::new).chain([itself.as_os_str()]);
        let program = line.next().expect("itself at least");
        let mut child = Command::new(program)
            .args(line)
            .arg(ROLE)
            .arg(serde_json::to_string(role)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let stdin = child.stdin.take().expect("piped");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut process = Self { child, stdin, lines, ready: String::new() };
        process.ready = process.line().await?;
        Ok(process)
    }

    /// Asks it something and reads the answer.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, question: &str) -> Result<T, Failure> {
        self.stdin.write_all(format!("{question}\n").as_bytes()).await?;
        Ok(serde_json::from_str(&self.line().await?)?)
    }

    async fn line(&mut self) -> Result<String, Failure> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.map_err(|_| "a process did not answer")??.ok_or_else(|| "a process ended early".into())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        Ok(())
    }

    /// Has it end by itself, and waits until it is gone: what it holds is let go of in good order.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        let status = tokio::time::timeout(PATIENCE, child.wait()).await??;
        if status.success() { Ok(()) } else { Err(format!("a process ended with {status}").into()) }
    }
}

/// The other side: says that it is ready, then answers each question with a line, until whoever asks is gone.
pub(crate) async fn answer<T: Serialize>(
    ready: &str,
    mut to: impl AsyncFnMut(&str) -> Result<T, Failure>,
) -> Result<(), Failure> {
    println!("{ready}");
    let mut questions = BufReader::new(tokio::io::stdin()).lines();
    while let Some(question) = questions.next_line().await? {
        let answer = to(&question).await?;
        println!("{}", serde_json::to_string(&answer)?);
    }
    Ok(())
}
