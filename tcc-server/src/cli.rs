//! The command line: flags over `TCC_*` environment over defaults, all of it checked before anything is opened.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | drained after SIGTERM or SIGINT |
//! | 1 | could not start, for instance because the log belongs to another process or the port is taken |
//! | 2 | a flag or a variable is wrong; nothing was opened |
//! | 3 | the time to drain was over before every call was; their outcome is found out at the next start |
//! | 70 | whether a write became durable is not known: start it again, and it goes by what the log then says |

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use tcc_core::Patience;

use crate::api::{self, Callers, Listening, Token};
use crate::coordinator::{Coordinator, Settings, chain};
use crate::scheduler::{Drained, Scheduler};
use crate::store::{SqliteOptions, SqliteStore};
use crate::transport::{AllowList, HttpTransport, Transports};

const EXIT_USAGE: u8 = 2;
const EXIT_CUT_SHORT: u8 = 3;
const EXIT_UNKNOWN: u8 = 70;

/// The tcc transaction coordinator.
#[derive(Parser, Debug)]
#[command(name = "tcc-server", version, about, allow_negative_numbers = true)]
struct Flags {
    /// The log: a SQLite file, made if it is missing.
    #[arg(long, env = "TCC_DB", value_name = "FILE", default_value = "tcc.db")]
    db: PathBuf,

    /// The address to listen on. Any other than loopback needs a token, or --insecure.
    #[arg(long, env = "TCC_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7780")]
    listen: SocketAddr,

    /// A file that holds the token callers send as `Authorization: Bearer …`.
    #[arg(long, env = "TCC_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Follows whoever can reach it without a token, beyond loopback too.
    #[arg(long, env = "TCC_INSECURE", value_parser = BoolishValueParser::new())]
    insecure: bool,

    /// A host, host:port or network that may be called; without any, all that are not link-local or metadata.
    #[arg(long, env = "TCC_ALLOW", value_name = "HOST|NETWORK", value_delimiter = ',')]
    allow: Vec<String>,

    /// How long an ended transaction is kept whole.
    #[arg(long, env = "TCC_RETENTION", value_name = "LENGTH", default_value = "7d", value_parser = length)]
    retention: Duration,

    /// How long the gid and the end of a purged transaction are remembered.
    #[arg(long, env = "TCC_REMEMBER", value_name = "LENGTH", default_value = "30d", value_parser = length)]
    remember: Duration,

    /// The time-out of a call whose branch gives none.
    #[arg(long, env = "TCC_CALL_TIMEOUT", value_name = "LENGTH", default_value = "10s", value_parser = length)]
    call_timeout: Duration,

    /// Calls in flight to one destination.
    #[arg(long, env = "TCC_PER_DESTINATION", value_name = "CALLS", default_value = "128",
          value_parser = clap::value_parser!(u16).range(1..))]
    per_destination: u16,

    /// A transaction calls for a human after this many calls without an answer that settles it.
    #[arg(long, env = "TCC_ATTENTION_ATTEMPTS", value_name = "CALLS", default_value = "20",
          value_parser = clap::value_parser!(u32).range(1..))]
    attention_attempts: u32,

    /// A transaction calls for a human after this long.
    #[arg(long, env = "TCC_ATTENTION_AGE", value_name = "LENGTH", default_value = "5m", value_parser = length)]
    attention_age: Duration,

    /// How long calls and requests under way may take to end after SIGTERM.
    #[arg(long, env = "TCC_DRAIN", value_name = "LENGTH", default_value = "20s", value_parser = length)]
    drain: Duration,

    /// How log lines look; human on a terminal, JSON elsewhere.
    #[arg(long, env = "TCC_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// Which log lines are written, as in `info` or `tcc_server=debug`.
    #[arg(long, env = "TCC_LOG", value_name = "FILTER", default_value = "info")]
    log: tracing_subscriber::filter::Targets,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

/// What the flags come to, checked.
struct Config {
    flags: Flags,
    callers: Callers,
    allow: AllowList,
}

/// Runs the coordinator until it is told to stop.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match parse(arguments) {
        Ok(config) => config,
        Err(Stop::Answered(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Stop::Usage(why)) => {
            eprintln!("tcc-server: {why}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    log(&config.flags);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tcc-server: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(config)) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error}");
            eprintln!("tcc-server: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Stop {
    /// `--help` or `--version`.
    Answered(String),
    /// One line that names key and value.
    Usage(String),
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Config, Stop> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let flags = Flags::command()
        .try_get_matches_from(&arguments)
        .and_then(|matches| Flags::from_arg_matches(&matches))
        .map_err(|error| stop(&error, &arguments))?;
    let usage = |why: String| Stop::Usage(why);
    let token = match &flags.token_file {
        None => None,
        Some(file) => {
            let named = format!("--token-file {}", file.display());
            let text = std::fs::read_to_string(file).map_err(|error| usage(format!("{named}: {error}")))?;
            let token = Token::new(text.trim()).map_err(|why| usage(format!("{named}: {why}")))?;
            if is_anyones(file) {
                return Err(usage(format!("{named}: anyone on this machine can read it; chmod o= it")));
            }
            Some(token)
        }
    };
    let callers = match token {
        Some(token) => Callers::WithToken(token),
        None if flags.insecure => Callers::Anyone,
        None if flags.listen.ip().is_loopback() => Callers::OfThisMachine,
        None => {
            let address = flags.listen;
            return Err(usage(format!(
                "--listen {address}: others could reach it, so it needs --token-file, or --insecure if that is meant"
            )));
        }
    };
    if flags.remember < flags.retention {
        let [remember, retention] = [flags.remember, flags.retention].map(humantime::format_duration);
        return Err(usage(format!("--remember {remember}: it is shorter than --retention {retention}")));
    }
    if flags.call_timeout > tcc_core::limits::CALL_TIMEOUT || flags.call_timeout.is_zero() {
        let [given, most] =
            [flags.call_timeout, tcc_core::limits::CALL_TIMEOUT].map(humantime::format_duration);
        return Err(usage(format!("--call-timeout {given}: it is zero or over {most}")));
    }
    let allow = AllowList::parse(flags.allow.iter().map(String::as_str))
        .map_err(|why| usage(format!("--allow: {why}")))?;
    Ok(Config { flags, callers, allow })
}

/// Whether every user of the machine may read a file.
#[cfg(unix)]
fn is_anyones(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
const fn is_anyones(_: &Path) -> bool {
    false
}

/// Clap's message in one line. Where the value came from the environment it names the variable.
fn stop(error: &clap::Error, arguments: &[OsString]) -> Stop {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Stop::Answered(error.to_string());
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line).to_owned();
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag.split([' ', '=']).next().unwrap_or_default().to_owned(),
        _ => return Stop::Usage(line),
    };
    let given = arguments.iter().any(|argument| {
        argument
            .to_str()
            .is_some_and(|a| a == flag || a.strip_prefix(&flag).is_some_and(|rest| rest.starts_with('=')))
    });
    let command = Flags::command();
    let argument =
        command.get_arguments().find(|a| a.get_long().is_some_and(|long| flag == format!("--{long}")));
    match argument.and_then(|argument| argument.get_env()?.to_str()) {
        Some(variable) if !given && std::env::var_os(variable).is_some() => {
            Stop::Usage(format!("{variable} in the environment: {line}"))
        }
        _ => Stop::Usage(line),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|why| format!("{why}; write it as 500ms, 10s, 5m, 7d"))
}

fn log(flags: &Flags) {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let human = std::io::stderr().is_terminal();
    let format = flags.log_format.unwrap_or(if human { LogFormat::Human } else { LogFormat::Json });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(human);
    let registry = tracing_subscriber::registry().with(flags.log.clone());
    // A second coordinator in one process logs where the first does.
    let _ = match format {
        LogFormat::Human => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
}

async fn run(config: Config) -> Result<ExitCode, String> {
    let Config { flags, callers, allow } = config;
    let told = told_to_stop()?;
    let store = SqliteStore::open(&flags.db, SqliteOptions::default()).map_err(|error| chain(&error))?;
    let transport = HttpTransport::new(allow).map_err(|error| chain(&error))?;
    let settings = Settings {
        retention: flags.retention,
        remember: flags.remember,
        patience: Patience { attempts: flags.attention_attempts, age: flags.attention_age },
        call_timeout: flags.call_timeout,
        per_destination: usize::from(flags.per_destination),
    };
    let log_failed = store.failed();
    let store = Arc::new(store);
    let coordinator = Coordinator::new(store, Transports::new().with(transport), settings);
    let listening = Listening::on(flags.listen)
        .await
        .map_err(|error| format!("{} cannot be listened on: {error}", flags.listen))?;
    let scheduler = Scheduler::start(coordinator.clone());
    let address = listening.address();
    tracing::info!(%address, db = %flags.db.display(), version = env!("CARGO_PKG_VERSION"), "ready");
    println!("listening on {address}");

    let router = api::router(coordinator.clone(), callers);
    let told_at = std::sync::OnceLock::new();
    let stop = async {
        told_so(told).await;
        told_at.get_or_init(std::time::Instant::now);
        coordinator.stop();
    };
    let serving = api::serve(listening, router, stop, flags.drain);
    tokio::select! {
        () = serving => {}
        () = coordinator.failed() => return Ok(ended_unknown()),
        // A checkpoint that fails is nobody's write, and leaves as unclear what the file holds.
        _ = log_failed => return Ok(ended_unknown()),
    }
    // One time to drain for both, requests and calls.
    let spent = told_at.get().map_or(Duration::ZERO, std::time::Instant::elapsed);
    let drained = scheduler.drain(flags.drain.saturating_sub(spent)).await;
    if coordinator.has_failed() {
        return Ok(ExitCode::from(EXIT_UNKNOWN));
    }
    match drained {
        Drained::Whole => {
            tracing::info!("drained");
            Ok(ExitCode::SUCCESS)
        }
        Drained::CutShort(left) => {
            tracing::warn!(
                transactions = left,
                "calls were cut short; they are made again at the next start"
            );
            Ok(ExitCode::from(EXIT_CUT_SHORT))
        }
    }
}

fn ended_unknown() -> ExitCode {
    tracing::error!("ending: whether a write became durable is not known, and the next start finds out");
    ExitCode::from(EXIT_UNKNOWN)
}

async fn told_so(mut told: tokio::sync::watch::Receiver<bool>) {
    let _ = told.wait_for(|told| *told).await;
}

/// Follows SIGTERM and SIGINT.
fn told_to_stop() -> Result<tokio::sync::watch::Receiver<bool>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be listened for: {error}"));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (tell, told) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tell.send_replace(true);
    });
    Ok(told)
}
