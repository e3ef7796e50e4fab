//! A participant as a test sees it: started anew whenever it dies, and its books open to everybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::{Connection, OpenFlags};
use tcc_tests::{Process, Proxy};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::world::{LONG, tail};

/// What an account has at first.
pub(crate) const INITIAL: i64 = 1000;

/// A bank and the proxy before it.
pub(crate) struct Bank {
    pub(crate) proxy: Arc<Proxy>,
    directory: PathBuf,
    /// The host and the port it is called at.
    authority: String,
    wanted: watch::Sender<Wanted>,
    deaths: Arc<AtomicUsize>,
    running: watch::Receiver<bool>,
    supervising: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Running; started again when it dies.
    Up,
    /// Running; not started again when it dies.
    UpUntilItDies,
    Down,
}

/// Where a bank runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    /// What it is started by, before its own name; most often nothing.
    pub(crate) through: Vec<String>,
    /// The address it listens on and is called at, without a proxy; most often none.
    pub(crate) address: Option<SocketAddr>,
    /// The name its proxy is called by; most often none.
    pub(crate) name: Option<&'static str>,
}

/// What the books of a bank say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) available: i64,
    pub(crate) frozen: i64,
    pub(crate) incoming: i64,
}

impl Bank {
    /// A bank whose files are in a new directory.
    pub(crate) async fn open(directory: PathBuf, site: Site) -> Self {
        std::fs::create_dir(&directory).expect("a new directory");
        let proxy = Arc::new(Proxy::start().await);
        let (wanted, wants) = watch::channel(Wanted::Up);
        let (runs, running) = watch::channel(false);
        let deaths = Arc::<AtomicUsize>::default();
        let port = proxy.address().port();
        let named = site.name.map(|name| format!("{name}:{port}"));
        let authority = named.unwrap_or(site.address.unwrap_or(proxy.address()).to_string());
        let supervising = supervise(directory.clone(), site, proxy.clone(), wants, runs, deaths.clone());
        let supervising = tokio::spawn(supervising);
        let bank = Self { proxy, directory, authority, wanted, deaths, running, supervising };
        bank.runs(true).await;
        bank
    }

    /// What a branch gives as its `at`.
    pub(crate) fn at(&self) -> String {
        format!("http://{}/account", self.authority)
    }

    /// From its next start it believes calls alone that this key signed.
    pub(crate) fn believes(&self, key: &str) {
        std::fs::write(self.directory.join("keys"), key).expect("a file");
    }

    /// Kills it, and leaves it down.
    pub(crate) async fn down(&self) {
        self.wanted.send_replace(Wanted::Down);
        self.runs(false).await;
    }

    /// Leaves it down when it dies next.
    pub(crate) fn stays_down_once_dead(&self) {
        self.wanted.send_replace(Wanted::UpUntilItDies);
    }

    /// Starts it again.
    pub(crate) async fn up(&self) {
        self.wanted.send_replace(Wanted::Up);
        self.runs(true).await;
    }

    /// Waits until it is down.
    pub(crate) async fn is_down(&self) {
        self.runs(false).await;
    }

    async fn runs(&self, running: bool) {
        let mut now = self.running.clone();
        let changed = tokio::time::timeout(LONG, now.wait_for(|now| *now == running));
        changed.await.expect("it does so in time").expect("its supervisor runs");
    }

    /// How often it ended itself.
    pub(crate) fn deaths(&self) -> usize {
        self.deaths.load(Ordering::SeqCst)
    }

    /// How often a fault that a payload asked for happened.
    pub(crate) fn faults(&self, gid: &str, operation: &str) -> usize {
        let text = std::fs::read_to_string(self.directory.join("faults")).unwrap_or_default();
        let mut lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.by_ref().filter(|words| words[0] == gid && words[2] == operation).count()
    }

    /// The account.
    pub(crate) fn books(&self) -> Books {
        self.read_books().expect("an account")
    }

    /// The state of each branch, by gid and branch id.
    pub(crate) fn guard(&self) -> BTreeMap<(String, String), String> {
        self.read_guard().expect("a guard")
    }

    /// Does something to its database behind its back.
    pub(crate) fn sql(&self, sql: &str) {
        self.open_database().and_then(|database| database.execute_batch(sql)).expect("it is done");
    }

    /// All of it, for people, whatever can be read.
    pub(crate) fn describe(&self) -> String {
        format!("{:?}\n{:#?}\n{}", self.read_books(), self.read_guard(), tail(&self.directory.join("log")))
    }

    fn read_books(&self) -> rusqlite::Result<Books> {
        let sql = "SELECT available, frozen, incoming FROM account";
        self.open_database()?.query_row(sql, [], |row| {
            Ok(Books { available: row.get(0)?, frozen: row.get(1)?, incoming: row.get(2)? })
        })
    }

    fn read_guard(&self) -> rusqlite::Result<BTreeMap<(String, String), String>> {
        let connection = self.open_database()?;
        let mut rows = connection.prepare("SELECT gid, branch, state FROM tcc_guard")?;
        rows.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?.collect()
    }

    fn open_database(&self) -> rusqlite::Result<Connection> {
        let file = self.directory.join("bank.db");
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(LONG)?;
        Ok(connection)
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.supervising.abort();
    }
}

async fn supervise(
    directory: PathBuf,
    site: Site,
    proxy: Arc<Proxy>,
    mut wanted: watch::Receiver<Wanted>,
    runs: watch::Sender<bool>,
    deaths: Arc<AtomicUsize>,
) {
    loop {
        if wanted.wait_for(|wanted| *wanted == Wanted::Up).await.is_err() {
            return;
        }
        let told_down = async { wanted.wait_for(|wanted| *wanted == Wanted::Down).await.is_ok() };
        let mut process = start(&directory, &site).await.expect("it starts");
        proxy.lead_to(Some(process.address()));
        runs.send_replace(true);
        tokio::select! {
            status = process.wait() => {
                assert!(died(status), "it ended with {status}");
                deaths.fetch_add(1, Ordering::SeqCst);
            }
            _ = told_down => process.kill().await,
        }
        proxy.lead_to(None);
        runs.send_replace(false);
    }
}

async fn start(directory: &Path, site: &Site) -> Result<Process, ExitStatus> {
    let program = env!("CARGO_BIN_EXE_participant").to_owned();
    let words: Vec<_> = site.through.iter().chain([&program]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(directory).args(site.address.map(|address| address.to_string()));
    Process::start(&mut command, &directory.join("log")).await
}

/// Whether a process ended itself where it was told to, and by no panic.
pub(crate) fn died(status: ExitStatus) -> bool {
    const SIGABRT: i32 = 6;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGABRT)
}
