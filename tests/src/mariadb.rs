//! A MariaDB server for the tests of this process: started by the first that needs it, gone with the process however
//! it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::postgres::{output, run, skipped, user_named};

/// A running server. Its superuser is `root`, without a password, on a socket of its own only.
#[derive(Debug)]
pub struct Mariadb {
    programs: Programs,
    socket: String,
    databases: AtomicU32,
    /// Stops the server when its standard input ends, which is when this process does.
    _watchdog: Child,
}

#[derive(Debug)]
struct Programs {
    server: PathBuf,
    install: PathBuf,
    client: PathBuf,
}

/// What a slow machine that does something else may need to start it.
const START: Duration = Duration::from_secs(120);

/// The server; or `None` where MariaDB is not installed, after [`skipped`] has said so.
///
/// # Panics
/// When it is installed and does not start.
pub fn mariadb() -> Option<&'static Mariadb> {
    static SERVER: OnceLock<Option<Mariadb>> = OnceLock::new();
    let server = SERVER.get_or_init(|| installed().map(start)).as_ref();
    if server.is_none() {
        skipped("MariaDB is not installed (no mariadbd, mariadb-install-db or mariadb in PATH or sbin)");
    }
    server
}

impl Mariadb {
    /// Creates an empty database, and returns its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        run(self.client().arg("-e").arg(format!("CREATE DATABASE {name}")));
        format!("mysql://root@localhost/{name}?socket={}", self.socket)
    }

    fn client(&self) -> Command {
        let mut client = Command::new(&self.programs.client);
        client.args(["--no-defaults", "-u", "root", "-S", &self.socket]);
        client
    }

    fn answers(&self) -> bool {
        let mut client = self.client();
        client.args(["-e", "SELECT 1"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        client.status().expect("mariadb runs").success()
    }
}

fn installed() -> Option<Programs> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    // Not in the PATH of all users.
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let find = |name| folders.iter().map(|folder| folder.join(name)).find(|program| program.exists());
    Some(Programs {
        server: find("mariadbd")?,
        install: find("mariadb-install-db")?,
        client: find("mariadb")?,
    })
}

fn start(programs: Programs) -> Mariadb {
    let mut folder = user_named("nobody", Path::new("mktemp"));
    let folder = output(folder.args(["-d", "-p"]).arg(env::temp_dir()).arg("tcc-mariadb.XXXXXX"));
    let socket = format!("{folder}/socket");
    let watchdog = watch(&programs, &folder);
    let mut server = Mariadb { programs, socket, databases: AtomicU32::new(0), _watchdog: watchdog };
    let by = Instant::now() + START;
    while !server.answers() {
        let ended = server._watchdog.try_wait().expect("a child can be waited for");
        assert!(
            ended.is_none() && Instant::now() < by,
            "MariaDB did not start:\n{}",
            fs::read_to_string(format!("{folder}/log")).unwrap_or_default()
        );
        thread::sleep(Duration::from_millis(50));
    }
    server
}

/// Starts the server, and leaves nothing behind whenever this process is killed.
fn watch(programs: &Programs, folder: &str) -> Child {
    // Latin 1, which a client must not rely on being anything else. No test cuts the power, so nothing needs to
    // reach the disk.
    let script = r#"
        trap '' INT TERM HUP
        cd "$3" && mkdir data || exit
        (
            "$2" --no-defaults --datadir="$3/data" --auth-root-authentication-method=normal --skip-test-db &&
            exec "$1" --no-defaults --datadir="$3/data" --socket="$3/socket" --pid-file="$3/pid" --tmpdir="$3" \
                --skip-networking --character-set-server=latin1 --max-connections=200 \
                --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=64M
        ) </dev/null >log 2>&1 &
        cat >/dev/null
        kill -9 $!
        wait
        rm -rf "$3""#;
    user_named("nobody", Path::new("sh"))
        .args(["-c", script, "watchdog"])
        .args([&programs.server, &programs.install])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs")
}
