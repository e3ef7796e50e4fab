//! The command line: flags over `TCC_*` environment over a file over defaults, all of it checked before anything
//! is opened.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | drained after SIGTERM or SIGINT |
//! | 1 | could not start, for instance because the log belongs to another process or the port is taken |
//! | 2 | a flag, a variable or a key of the file is wrong; nothing was opened |
//! | 3 | the time to drain was over before every call was; their outcome is found out at the next start |
//! | 70 | whether a write became durable is not known: start it again, and it goes by what the log then says |

mod config;
mod conformance;
mod destination;
mod file;
mod flags;
mod supervisor;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tcc_core::Patience;

use self::config::{Config, Usage, Wanted};
use self::flags::{Flags, LogFormat};
use self::supervisor::Supervisor;
use crate::api::{self, Listening};
use crate::coordinator::{Coordinator, chain};
use crate::scheduler::{Drained, Scheduler};
use crate::settings::Settings;
use crate::store::{SqliteOptions, SqliteStore};
#[cfg(feature = "brokers")]
use crate::transport::BrokerTransport;
use crate::transport::{HttpTransport, Transports};

const EXIT_USAGE: u8 = 2;
const EXIT_CUT_SHORT: u8 = 3;
const EXIT_UNKNOWN: u8 = 70;

/// Runs the coordinator until it is told to stop.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if conformance::is_meant(&arguments) {
        return conformance::main(arguments);
    }
    let config = match config::parse(arguments) {
        Ok(Wanted::Run(config)) => *config,
        Ok(Wanted::Answer(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Usage(why)) => {
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
    let Config { flags, callers, calls, bounds, tls, .. } = config;
    let told = told_to_stop()?;
    let store = SqliteStore::open(&flags.db, SqliteOptions::default()).map_err(|error| chain(&error))?;
    #[cfg(feature = "otel")]
    let collector = crate::traces::Collector::of_environment(&calls.authorities)?;
    let transport = HttpTransport::with(calls).map_err(|error| chain(&error))?;
    let transports = Transports::new().with(transport);
    #[cfg(feature = "brokers")]
    let brokers = BrokerTransport::new(config.brokers).map_err(|error| chain(&error))?;
    #[cfg(feature = "brokers")]
    let transports = transports.with(brokers);
    let settings = Settings {
        retention: flags.retention,
        remember: flags.remember,
        patience: Patience { attempts: flags.attention_attempts, age: flags.attention_age },
        call_timeout: flags.call_timeout,
        per_destination: usize::from(flags.per_destination),
        alerts: flags.alert_url.clone(),
        destinations: bounds,
    };
    let log_failed = store.failed();
    let meter = store.meter();
    let coordinator = Coordinator::new(Arc::new(store), transports, settings);
    coordinator.meter(meter);
    #[cfg(feature = "otel")]
    collector.iter().for_each(|collector| coordinator.trace(collector.provider()));
    let listening = Listening::on(flags.listen)
        .await
        .map_err(|error| format!("{} cannot be listened on: {error}", flags.listen))?;
    let listening = match tls {
        Some(tls) => listening.with_tls(tls),
        None => listening,
    };
    let scheduler = Scheduler::start(coordinator.clone());
    let address = listening.address();
    tracing::info!(%address, db = %flags.db.display(), version = env!("CARGO_PKG_VERSION"), "ready");
    println!("listening on {address}");
    let supervisor = Arc::new(Supervisor::of_environment());
    supervisor.tell(&format!("READY=1\nSTATUS=listening on {address}"));
    tokio::spawn(supervisor.clone().is_alive());

    let router = api::router(coordinator.clone(), callers);
    let told_at = std::sync::OnceLock::new();
    let stop = async {
        told_so(told).await;
        told_at.get_or_init(std::time::Instant::now);
        supervisor.tell("STOPPING=1\nSTATUS=waiting for calls under way");
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
    #[cfg(feature = "otel")]
    if let Some(collector) = collector {
        collector.close().await;
    }
    if coordinator.has_failed() {
        return Ok(ExitCode::from(EXIT_UNKNOWN));
    }
    Ok(drained_to(drained))
}

/// Says how the drain went.
fn drained_to(drained: Drained) -> ExitCode {
    match drained {
        Drained::Whole => {
            tracing::info!("drained");
            ExitCode::SUCCESS
        }
        Drained::CutShort(left) => {
            tracing::warn!(
                transactions = left,
                "calls were cut short; they are made again at the next start"
            );
            ExitCode::from(EXIT_CUT_SHORT)
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
