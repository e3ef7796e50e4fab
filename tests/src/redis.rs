//! A Redis server for the tests of this process: started by the first that needs it, gone with the process however it
//! ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::postgres::{output, skipped, user_named};

/// A running server, on a socket of its own only.
#[derive(Debug)]
pub struct Redis {
    socket: String,
    databases: AtomicU32,
    /// Stops the server when its standard input ends, which is when this process does.
    _watchdog: Child,
}

/// What a slow machine that does something else may need to start it.
const START: Duration = Duration::from_secs(60);
const DATABASES: u32 = 4096;

/// The server; or `None` where Redis is not installed, after [`skipped`] has said so.
///
/// # Panics
/// When it is installed and does not start.
pub fn redis() -> Option<&'static Redis> {
    static SERVER: OnceLock<Option<Redis>> = OnceLock::new();
    let server = SERVER.get_or_init(|| installed().map(|server| start(&server))).as_ref();
    if server.is_none() {
        skipped("Redis is not installed (no redis-server in PATH)");
    }
    server
}

impl Redis {
    /// The URL of an empty database.
    ///
    /// # Panics
    /// When there were too many.
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        assert!(number < DATABASES, "no database is left");
        format!("redis+unix://{}?db={number}", self.socket)
    }
}

fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|program| program.exists())
}

fn start(server: &Path) -> Redis {
    let mut folder = user_named("nobody", Path::new("mktemp"));
    let folder = output(folder.args(["-d", "-p"]).arg(env::temp_dir()).arg("tcc-redis.XXXXXX"));
    let mut watchdog = watch(server, &folder);
    let log = || fs::read_to_string(format!("{folder}/log")).unwrap_or_default();
    let by = Instant::now() + START;
    // It says so; there may be no client that could ask.
    while !log().contains("ready to accept connections") {
        let ended = watchdog.try_wait().expect("a child can be waited for");
        assert!(ended.is_none() && Instant::now() < by, "Redis did not start:\n{}", log());
        thread::sleep(Duration::from_millis(20));
    }
    Redis { socket: format!("{folder}/socket"), databases: AtomicU32::new(0), _watchdog: watchdog }
}

/// Starts the server, and leaves nothing behind whenever this process is killed.
fn watch(server: &Path, folder: &str) -> Child {
    let script = r#"
        trap '' INT TERM HUP
        cd "$2" && chmod 755 . || exit
        "$1" --port 0 --unixsocket "$2/socket" --unixsocketperm 777 --dir "$2" --databases "$3" --daemonize no \
            --save '' --appendonly yes --appendfsync always --maxmemory-policy noeviction \
            </dev/null >log 2>&1 &
        cat >/dev/null
        kill -9 $!
        wait
        rm -rf "$2""#;
    user_named("nobody", Path::new("sh"))
        .args(["-c", script, "watchdog"])
        .arg(server)
        .arg(folder)
        .arg(DATABASES.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs")
}
