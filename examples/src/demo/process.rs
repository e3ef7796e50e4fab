//! One process of the shop: started, killed, started again on the same port, and never left behind.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tcc_client::BoxError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::event::{Event, Who};
use super::role::Hold;

/// How long a process may take to listen; a busy machine is slow, and one that never will says so at once.
const START: Duration = Duration::from_secs(30);

/// A service of the shop, and the process that is it at the moment.
pub(super) struct Process {
    pub(super) who: Who,
    pub(super) address: SocketAddr,
    /// How often it was killed.
    pub(super) kills: u32,
    arguments: Vec<OsString>,
    log: PathBuf,
    events: mpsc::UnboundedSender<Event>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    /// Open as long as it shall live.
    stdin: ChildStdin,
}

impl Process {
    /// Starts a service, with a free port for its life. What it writes about calls goes to `events`.
    pub(super) async fn start(
        who: Who,
        folder: &Path,
        arguments: Vec<OsString>,
        holds: &[Hold],
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Self, BoxError> {
        let mut process = Self {
            who,
            address: free_address()?,
            kills: 0,
            arguments,
            log: folder.join(format!("{}.log", who.name())),
            events: events.clone(),
            running: None,
        };
        process.run(holds).await?;
        Ok(process)
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> Result<(), BoxError> {
        let Some(mut running) = self.running.take() else { return Err("it does not run".into()) };
        running.child.kill()?;
        running.child.wait()?;
        self.kills += 1;
        Ok(())
    }

    /// Tells it to hold that back no longer.
    pub(super) fn lift(&mut self, hold: &Hold) -> Result<(), BoxError> {
        match &mut self.running {
            Some(running) => Ok(writeln!(running.stdin, "{hold}")?),
            None => Err("it does not run".into()),
        }
    }

    /// Starts it, where it does not run, on the port it had.
    pub(super) async fn run(&mut self, holds: &[Hold]) -> Result<(), BoxError> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--as", self.who.name(), "--listen"]).arg(self.address.to_string());
        command.args(&self.arguments);
        command.args(holds.iter().flat_map(|hold| ["--hold".to_owned(), hold.to_string()]));
        // A coordinator of the demo is told all it needs; what is meant for another one is not for it.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TCC_")) {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("its input and output are not piped".into());
        };
        // From here on dropping this ends it.
        self.running = Some(Running { child, stdin });
        let (listens, listening) = oneshot::channel();
        let events = self.events.clone();
        std::thread::spawn(move || listen(stdout, listens, &events));
        match timeout(START, listening).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("and says nothing").to_owned();
                Err(format!("{} does not start: {last}", self.who.name()).into())
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what a process writes, until it is gone.
fn listen(stdout: ChildStdout, listens: oneshot::Sender<()>, events: &mpsc::UnboundedSender<Event>) {
    let mut listens = Some(listens);
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if line.starts_with("listening on ") {
            listens.take().map(|listens| listens.send(()));
        } else if let Ok(event) = serde_json::from_str(&line) {
            let _ = events.send(event);
        }
    }
}

/// An address nobody has. Below the ports that systems give to outgoing connections: while a killed process is away,
/// one of those could otherwise take its place, even a connection to it.
fn free_address() -> Result<SocketAddr, BoxError> {
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(15_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("there is no free port between 15000 and 32000".into())
}
