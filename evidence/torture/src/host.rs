//! A service as the torturer sees it: killed, started anew whenever it dies, and its books open.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tcc_tests::{Process, Proxy};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::Broken;
use crate::service::{FILE, SERVICE};

/// A service and the proxy before it, which keeps its address.
pub struct Host {
    address: SocketAddr,
    directory: PathBuf,
    kills: mpsc::Sender<oneshot::Sender<()>>,
    deaths: Arc<AtomicUsize>,
    supervising: JoinHandle<()>,
}

impl Host {
    /// Starts one whose files are in a new directory.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn open(program: PathBuf, directory: PathBuf) -> Self {
        std::fs::create_dir(&directory).expect("a new directory");
        let proxy = Proxy::start().await;
        let address = proxy.address();
        let (kills, killed) = mpsc::channel(1);
        let deaths = Arc::<AtomicUsize>::default();
        let process = start(&program, &directory).await;
        let supervising = supervise(process, program, directory.clone(), proxy, killed, deaths.clone());
        Self { address, directory, kills, deaths, supervising: tokio::spawn(supervising) }
    }

    /// Where it is called.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Kills it (SIGKILL), and returns once it runs again.
    ///
    /// # Errors
    /// When it does not start again.
    pub async fn kill(&self) -> Result<(), Broken> {
        let (done, is_done) = oneshot::channel();
        let gone = |_| format!("a service does not run: {}", tail(&self.directory.join("log")));
        self.kills.send(done).await.map_err(|_| gone(()))?;
        is_done.await.map_err(|_| gone(()))
    }

    /// How often it ended itself.
    #[must_use]
    pub fn deaths(&self) -> usize {
        self.deaths.load(Ordering::SeqCst)
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.directory.join("log"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.supervising.abort();
    }
}

async fn supervise(
    mut process: Process,
    program: PathBuf,
    directory: PathBuf,
    proxy: Proxy,
    mut kills: mpsc::Receiver<oneshot::Sender<()>>,
    deaths: Arc<AtomicUsize>,
) {
    loop {
        proxy.lead_to(Some(process.address()));
        let done = tokio::select! {
            status = process.wait() => {
                assert!(aborted(status), "a service ended with {status}");
                deaths.fetch_add(1, Ordering::SeqCst);
                None
            }
            Some(done) = kills.recv() => {
                process.kill().await;
                Some(done)
            }
        };
        proxy.lead_to(None);
        process = start(&program, &directory).await;
        if let Some(done) = done {
            proxy.lead_to(Some(process.address()));
            // Whoever asked may be gone.
            let _ = done.send(());
        }
    }
}

async fn start(program: &Path, directory: &Path) -> Process {
    let log = directory.join("log");
    let started = Process::start(Command::new(program).arg(SERVICE).arg(directory), &log).await;
    started.unwrap_or_else(|status| panic!("{status}: {}", tail(&log)))
}

/// Whether a process ended itself where it was told to, and by no panic.
#[must_use]
pub fn aborted(status: ExitStatus) -> bool {
    const SIGABRT: i32 = 6;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGABRT)
}

/// The last lines of a file.
#[must_use]
pub fn tail(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
