//! The flags. Each is a variable and a key of the configuration file, too, of the same name and with the same values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tcc_core::Endpoint;

/// The tcc transaction coordinator.
#[derive(Parser, Debug)]
#[command(
    name = "tcc-server",
    version,
    about,
    allow_negative_numbers = true,
    args_conflicts_with_subcommands = true,
    after_help = super::conformance::HINT
)]
pub(super) struct CommandLine {
    #[command(flatten)]
    pub(super) flags: Flags,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// What it does other than run.
#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Looks at the configuration, and starts nothing.
    #[command(subcommand)]
    Config(Look),
}

/// How the configuration is looked at.
#[derive(Subcommand, Debug)]
pub(super) enum Look {
    /// Says `ok`, or what is wrong in one line, with exit code 2.
    Check(Box<Flags>),
    /// Prints every setting, as in a configuration file, and where it comes from.
    Print(Box<Flags>),
}

/// The settings that have a flag.
#[derive(Args, Debug, Clone)]
pub(super) struct Flags {
    /// A file of settings (TOML). Flags and variables go before it.
    #[arg(long, env = "TCC_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// The log: a SQLite file, made if it is missing.
    #[arg(long, env = "TCC_DB", value_name = "FILE", default_value = "tcc.db")]
    pub(super) db: PathBuf,

    /// The address to listen on. Any other than loopback needs a token, or --insecure.
    #[arg(long, env = "TCC_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7780")]
    pub(super) listen: SocketAddr,

    /// A file that holds the token callers send as `Authorization: Bearer …`.
    #[arg(long, env = "TCC_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,

    /// The certificate it shows, and those that lead from it to its authority (PEM). With it, it speaks TLS alone.
    #[arg(long, env = "TCC_TLS_CERT_FILE", value_name = "FILE")]
    pub(super) tls_cert_file: Option<PathBuf>,

    /// The key of that certificate (PEM).
    #[arg(long, env = "TCC_TLS_KEY_FILE", value_name = "FILE")]
    pub(super) tls_key_file: Option<PathBuf>,

    /// Follows whoever can reach it without a token, beyond loopback too.
    #[arg(long, env = "TCC_INSECURE", value_parser = BoolishValueParser::new())]
    pub(super) insecure: bool,

    /// A host, host:port or network that may be called; without any, all that are not link-local or metadata.
    #[arg(long, env = "TCC_ALLOW", value_name = "HOST|NETWORK", value_delimiter = ',')]
    pub(super) allow: Vec<String>,

    /// Certificates of authorities that participants may be named by, beside those of the platform (PEM).
    #[arg(long, env = "TCC_CA_FILE", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,

    /// Keys by which calls to participants are signed (Standard Webhooks), one a line, as `whsec_` and base64.
    #[arg(long, env = "TCC_SIGNING_KEY_FILE", value_name = "FILE")]
    pub(super) signing_key_file: Option<PathBuf>,

    /// How long an ended transaction is kept whole.
    #[arg(long, env = "TCC_RETENTION", value_name = "LENGTH", default_value = "7d", value_parser = length)]
    pub(super) retention: Duration,

    /// How long the gid and the end of a purged transaction are remembered.
    #[arg(long, env = "TCC_REMEMBER", value_name = "LENGTH", default_value = "30d", value_parser = length)]
    pub(super) remember: Duration,

    /// The time-out of a call whose branch gives none.
    #[arg(long, env = "TCC_CALL_TIMEOUT", value_name = "LENGTH", default_value = "10s", value_parser = length)]
    pub(super) call_timeout: Duration,

    /// Calls in flight to one destination.
    #[arg(long, env = "TCC_PER_DESTINATION", value_name = "CALLS", default_value = "128",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) per_destination: u16,

    /// A transaction calls for a human after this many calls without an answer that settles it.
    #[arg(long, env = "TCC_ATTENTION_ATTEMPTS", value_name = "CALLS", default_value = "20",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) attention_attempts: u32,

    /// A transaction calls for a human after this long.
    #[arg(long, env = "TCC_ATTENTION_AGE", value_name = "LENGTH", default_value = "5m", value_parser = length)]
    pub(super) attention_age: Duration,

    /// A webhook that is told which transactions call for a human.
    #[arg(long, env = "TCC_ALERT_URL", value_name = "URL")]
    pub(super) alert_url: Option<Endpoint>,

    /// How long calls and requests under way may take to end after SIGTERM.
    #[arg(long, env = "TCC_DRAIN", value_name = "LENGTH", default_value = "20s", value_parser = length)]
    pub(super) drain: Duration,

    /// How log lines look; human on a terminal, JSON elsewhere.
    #[arg(long, env = "TCC_LOG_FORMAT", value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,

    /// Which log lines are written, as in `info` or `tcc_server=debug`.
    #[arg(long, env = "TCC_LOG", value_name = "FILTER", default_value = "info")]
    pub(super) log: tracing_subscriber::filter::Targets,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    Human,
    Json,
}

/// A length of time, as people write it.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|why| format!("{why}; write it as 500ms, 10s, 5m, 7d"))
}
