//! `tcc-server conformance`: plays against a participant what networks and crashes do to calls, and names each promise
//! that breaks.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | nothing is broken; what was not tested is told |
//! | 1 | something is broken, or unclear |
//! | 2 | a flag is wrong; nothing was called |

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde_json::json;
use serde_json::value::RawValue;
use tcc_core::answer::{Answer, Failure};
use tcc_core::conformance::{
    self, ACCEPTED, CONFIRMED, Check, Effect, Evidence, Report, Setup, Subject, Verdict,
};
use tcc_core::store::BoxFuture;
use tcc_core::{Call, Endpoint, Timestamp};
use tokio::time::{Instant, sleep};

use super::flags::length;
use crate::limits;
use crate::transport::{Authorities, HttpOptions, HttpTransport, Outgoing, SigningKeys, Transport};

/// What `tcc-server --help` says of it.
pub(super) const HINT: &str =
    "`tcc-server conformance --help`: test a participant, in whatever language it is written.";

/// Plays against a participant what networks and crashes do to calls: duplicates, crossings, late tries, empty cancels,
/// what cannot be read. It names each promise that breaks and how to mend it.
///
/// IT CHANGES DATA: it reserves, confirms and cancels in earnest. Point it at a test system.
#[derive(Parser, Debug)]
#[command(name = "tcc-server conformance", version, after_help = AFTER)]
struct Flags {
    /// The participant: its operations are POSTs to URL/try, URL/confirm and URL/cancel.
    #[arg(long, value_name = "URL")]
    url: Endpoint,

    /// The body of each call, JSON: one that the participant accepts, again and again.
    #[arg(long, value_name = "JSON", value_parser = payload)]
    payload: Option<Payload>,

    /// A body whose try the participant refuses. Without it refusals are not tested.
    #[arg(long, value_name = "JSON", value_parser = payload)]
    refused_payload: Option<Payload>,

    /// A header sent along with each call, as in `Authorization: Bearer …`. May be given several times.
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(String, String)>,

    /// Keys by which the calls are signed (Standard Webhooks), one a line, as `whsec_` and base64.
    #[arg(long, value_name = "FILE")]
    signing_key_file: Option<PathBuf>,

    /// Authorities, in PEM, that are trusted to name the participant, beside those of the platform.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Where a GET answers what all calls have come to: a whole number, a list or an object of them, such as the balance and
    /// what is reserved. Nobody else may change them meanwhile. Without it the answers alone speak.
    #[arg(long, value_name = "URL")]
    effect_url: Option<Endpoint>,

    /// How long one call may take.
    #[arg(long, value_name = "LENGTH", default_value = "10s", value_parser = length)]
    timeout: Duration,

    /// How long all of it may take; what is not done by then is unclear.
    #[arg(long, value_name = "LENGTH", default_value = "3m", value_parser = length)]
    within: Duration,

    /// Writes one JSON document for programs, instead of lines for people.
    #[arg(long)]
    json: bool,
}

const AFTER: &str = "Its gids begin with tcc-conformance/. With a good participant at most 64 tries of the payload are \
    accepted, of which at most 30 are confirmed; what they take has to be there. Exit code 0: nothing is broken; 1: \
    something is broken or unclear; 2: a flag is wrong.";
const _: () = assert!(ACCEPTED == 64 && CONFIRMED == 30, "AFTER says so");

type Payload = Arc<RawValue>;

fn payload(text: &str) -> Result<Payload, String> {
    if text.len() > tcc_core::limits::PAYLOAD {
        return Err(format!("longer than {} bytes", tcc_core::limits::PAYLOAD));
    }
    RawValue::from_string(text.to_owned()).map(Arc::from).map_err(|why| format!("no JSON: {why}"))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME: VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    http::HeaderName::from_bytes(name.as_bytes()).map_err(|why| why.to_string())?;
    http::HeaderValue::from_str(value).map_err(|why| why.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether it is what was asked for.
pub(super) fn is_meant(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|first| first == "conformance")
}

/// Runs it.
pub(super) fn main(mut arguments: Vec<OsString>) -> ExitCode {
    arguments.splice(..2, ["tcc-server conformance".into()]);
    let wrong = |why: String| {
        eprintln!("tcc-server conformance: {why}");
        ExitCode::from(super::EXIT_USAGE)
    };
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(answered) if !answered.use_stderr() => {
            print!("{answered}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            // All that comes before the usage, in one line.
            let lines: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            let line = lines.join(" ");
            return wrong(line.strip_prefix("error: ").unwrap_or(&line).to_owned());
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tcc-server conformance: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Files of keys are followed by tasks.
    let remote = {
        let _runtime = runtime.enter();
        Remote::new(&flags)
    };
    let remote = match remote {
        Ok(remote) => remote,
        Err(why) => return wrong(why),
    };
    let is_json = flags.json;
    let mut told = |check: &Check| {
        if !is_json {
            say(format_args!("{check}"));
        }
    };
    let setup = flags.setup();
    let report = runtime.block_on(conformance::run(&remote, &setup, &mut told));
    if is_json {
        say(format_args!("{}", document(&report)));
    } else {
        say(format_args!("\n{}", report.summary()));
    }
    if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whoever reads no further does not end it half-way.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

impl Flags {
    fn setup(self) -> Setup {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Setup {
            at: self.url,
            run: fastrand::u64(..),
            now: Timestamp::default() + now,
            payload: self.payload,
            refused: self.refused_payload,
            headers: self.header,
            timeout: self.timeout,
        }
    }
}

/// A participant behind a URL.
struct Remote {
    transport: HttpTransport,
    effect: Option<Endpoint>,
    timeout: Duration,
    over_at: Instant,
}

impl Remote {
    fn new(flags: &Flags) -> Result<Self, String> {
        let signing = flags.signing_key_file.as_deref().map(SigningKeys::read).transpose();
        let signing = signing.map_err(|bad| format!("--signing-key-file {bad}"))?;
        let authorities = flags.ca_file.as_deref().map(Authorities::read).transpose();
        let authorities = authorities.map_err(|bad| format!("--ca-file {bad}"))?.unwrap_or_default();
        let options = HttpOptions { authorities, signing, ..HttpOptions::default() };
        let transport = HttpTransport::with(options).map_err(|error| super::chain(&error))?;
        let called = flags.url.join("try").map_err(|why| format!("--url {}: {why}", flags.url))?;
        fits(&transport, &called).map_err(|why| format!("--url {}: {why}", flags.url))?;
        if let Some(effect) = &flags.effect_url {
            fits(&transport, effect).map_err(|why| format!("--effect-url {effect}: {why}"))?;
        }
        let (effect, timeout) = (flags.effect_url.clone(), flags.timeout);
        Ok(Self { transport, effect, timeout, over_at: Instant::now() + flags.within })
    }

    /// How long a call that begins now may take, if there is any time left.
    fn left(&self) -> Option<Duration> {
        let left = self.over_at.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(self.timeout))
    }
}

/// Whether it can be called, and may be.
fn fits(transport: &HttpTransport, at: &Endpoint) -> Result<(), String> {
    let schemes = transport.schemes();
    if !schemes.contains(&at.scheme()) {
        return Err(format!("has the scheme {:?}; these are called: {}", at.scheme(), schemes.join(", ")));
    }
    transport.check(at)
}

impl Subject for Remote {
    fn call(&self, call: Call, settled: Option<Timestamp>) -> BoxFuture<'_, Answer> {
        match self.left() {
            Some(timeout) => self.transport.call(Outgoing { call, timeout, settled }),
            None => Box::pin(async { Answer::None(Failure::TimedOut) }),
        }
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        let pause = self.left().unwrap_or_default().min(limits::CONFORMANCE_PAUSE);
        Box::pin(sleep(pause))
    }

    fn effect(&self) -> BoxFuture<'_, Result<Option<Effect>, String>> {
        Box::pin(async move {
            let Some(at) = &self.effect else { return Ok(None) };
            let Some(timeout) = self.left() else { return Err("the time is over".to_owned()) };
            let response = match self.transport.get(at, timeout).await {
                Answer::Response(response) => response,
                Answer::None(failure) => return Err(format!("{at} did not answer: {}", failure.as_str())),
            };
            match (response.status, response.body) {
                (200, Some(body)) => Effect::read(&body).map(Some).map_err(|why| format!("{at} {why}")),
                (status, _) => Err(format!("{at} answered {status}")),
            }
        })
    }
}

fn document(report: &Report) -> serde_json::Value {
    let checks: Vec<_> = report.checks.iter().map(check).collect();
    json!({ "holds": report.holds(), "complete": report.is_complete(), "checks": checks })
}

fn check(check: &Check) -> serde_json::Value {
    let seen = match &check.verdict {
        Verdict::Kept(Evidence::All) => Some("all"),
        Verdict::Kept(Evidence::Answers) => Some("answers"),
        Verdict::Broken(_) | Verdict::Unclear(_) | Verdict::NotTested(_) => None,
    };
    let mut document = json!({
        "name": check.name,
        "promise": check.promise.as_str(),
        "verdict": check.verdict.as_str().replace(' ', "-"),
        "steps": check.steps,
    });
    if let Some(seen) = seen {
        document["seen"] = seen.into();
    }
    if let Some(why) = check.verdict.why() {
        document["why"] = why.into();
    }
    if matches!(check.verdict, Verdict::Broken(_)) {
        document["mend"] = check.mend.into();
    }
    document
}
