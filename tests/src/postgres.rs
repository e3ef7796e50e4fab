//! A PostgreSQL server for the tests of this process: started by the first that needs it, gone with the process
//! however it ends.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, thread};

/// A running server. Its superuser is `tcc`, without a password, on 127.0.0.1 only.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// Stops the server when its standard input ends, which is when this process does.
    _watchdog: Child,
}

/// The server; or `None` where PostgreSQL is not installed, after [`skipped`] has said so.
///
/// # Panics
/// When it is installed and does not start.
pub fn postgres() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    one(&SERVER, 200)
}

/// A second server, as PostgreSQL is installed: it takes no prepared transactions.
///
/// # Panics
/// As [`postgres`].
pub fn postgres_that_prepares_nothing() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    one(&SERVER, 0)
}

/// A third, which takes one prepared transaction at a time.
///
/// # Panics
/// As [`postgres`].
pub fn postgres_that_prepares_one() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    one(&SERVER, 1)
}

fn one(server: &'static OnceLock<Option<Postgres>>, prepared: u32) -> Option<&'static Postgres> {
    let server = server.get_or_init(|| installed().map(|bin| start(&bin, prepared))).as_ref();
    if server.is_none() {
        skipped("PostgreSQL is not installed (no /usr/lib/postgresql/*/bin, no initdb in PATH)");
    }
    server
}

/// Says loudly that a test cannot run here: on standard error, past the capture of the test harness, and as a line
/// of the file that `TCC_SKIPPED` names.
///
/// # Panics
/// Where `CI` is set: there everything has to be installed.
pub fn skipped(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{test} cannot run here: {why}");
    let line = format!("SKIPPED {test}: {why}\n");
    // Not eprint!, whose output the harness hides when a test passes. If standard error is gone, so be it.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = env::var_os("TCC_SKIPPED") {
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("TCC_SKIPPED names a writable file");
    }
}

impl Postgres {
    /// Creates an empty database, and returns its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        run(Command::new(self.bin.join("createdb")).args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "tcc",
            &name,
        ]));
        format!("postgres://tcc@127.0.0.1:{port}/{name}")
    }
}

fn installed() -> Option<PathBuf> {
    let version = |dir: &PathBuf| dir.file_name()?.to_str()?.parse::<u32>().ok();
    let packaged = fs::read_dir("/usr/lib/postgresql").ok().and_then(|dirs| {
        let newest = dirs.filter_map(|dir| dir.ok().map(|dir| dir.path())).max_by_key(version)?;
        Some(newest.join("bin"))
    });
    let in_path =
        env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    packaged.into_iter().chain(in_path).find(|bin| bin.join("initdb").exists())
}

fn start(bin: &Path, prepared: u32) -> Postgres {
    let dir =
        output(user(Path::new("mktemp")).args(["-d", "-p"]).arg(env::temp_dir()).arg("tcc-postgres.XXXXXX"));
    let data = format!("{dir}/data");
    let watchdog = watch(bin, &dir, &data);
    run(user(&bin.join("initdb")).args(["-D", &data, "-U", "tcc", "-A", "trust", "-E", "UTF8", "--no-sync"]));
    let port = serve(bin, &dir, &data, prepared);
    Postgres { bin: bin.into(), port, databases: AtomicU32::new(0), _watchdog: watchdog }
}

/// Starts the server, and returns its port. It takes so many prepared transactions.
fn serve(bin: &Path, dir: &str, data: &str, prepared: u32) -> u16 {
    for attempt in 1.. {
        // Another process may take the port between this line and the server's own bind.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        // No test cuts the power, so nothing needs to reach the disk.
        let options = format!(
            "-p {port} -k {dir} -h 127.0.0.1 -c fsync=off -c max_connections=200 \
             -c max_prepared_transactions={prepared}"
        );
        let log = format!("{dir}/log");
        let mut command = user(&bin.join("pg_ctl"));
        command.args(["-D", data, "-l", &log, "-o", &options, "-w", "start"]);
        // The server inherits these, so a pipe would never end.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if status.expect("pg_ctl runs").success() {
            return port;
        }
        assert!(attempt < 3, "PostgreSQL did not start:\n{}", fs::read_to_string(&log).unwrap_or_default());
    }
    unreachable!("the third attempt panics")
}

/// Starts before the server does, so that nothing stays behind whenever this process is killed.
fn watch(bin: &Path, dir: &str, data: &str) -> Child {
    let script = r#"trap '' INT TERM HUP; cat >/dev/null; "$1" -D "$3" -m immediate -w stop; rm -rf "$2""#;
    user(Path::new("sh"))
        .args(["-c", script, "watchdog"])
        .arg(bin.join("pg_ctl"))
        .args([dir, data])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs")
}

/// A command as the user that PostgreSQL is installed for.
fn user(program: &Path) -> Command {
    user_named("postgres", program)
}

/// A command as this user, where this process is root: servers refuse to run for that.
pub(crate) fn user_named(name: &str, program: &Path) -> Command {
    let mut command = if output(Command::new("id").arg("-u")) == "0" {
        let mut runuser = Command::new("runuser");
        runuser.args(["-u", name, "--"]).arg(program);
        runuser
    } else {
        Command::new(program)
    };
    // The user may not be allowed to enter ours.
    command.current_dir("/");
    command
}

pub(crate) fn run(command: &mut Command) {
    output(command);
}

pub(crate) fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
