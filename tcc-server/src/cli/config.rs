//! What holds: flags over variables over the file over the defaults, all of it checked before anything is opened.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::destination::{Destination, Whom};
use super::file::{File, Place, Setting, is_setting};
use super::flags::{Command, CommandLine, Flags, Look};
use crate::api::{Callers, Tls, Token};
use crate::settings::Bounds;
use crate::transport::{AllowList, Authorities, HttpOptions, SigningKeys};
#[cfg(feature = "brokers")]
use crate::transport::{BrokerLogin, BrokerOptions};

/// What is to be done.
pub(super) enum Wanted {
    Run(Box<Config>),
    Answer(String),
}

/// Why nothing is done: one line that names a flag, a variable or a place in the file, and the value.
pub(super) struct Usage(pub(super) String);

/// What the settings come to, checked.
pub(super) struct Config {
    pub(super) flags: Flags,
    pub(super) callers: Callers,
    pub(super) calls: HttpOptions,
    #[cfg(feature = "brokers")]
    pub(super) brokers: BrokerOptions,
    pub(super) bounds: BTreeMap<String, Bounds>,
    pub(super) tls: Option<Tls>,
}

/// Where each setting comes from.
struct Origins(BTreeMap<String, Origin>);

enum Origin {
    Flag,
    Variable(String),
    File(Place),
    Default,
}

impl Origins {
    fn of(matches: &ArgMatches, file: &[Setting]) -> Self {
        let origin = |arg: &clap::Arg, key: &str| match matches.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => Origin::Flag,
            Some(ValueSource::EnvVariable) => {
                Origin::Variable(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
            }
            _ => match file.iter().find(|setting| setting.key == key) {
                Some(setting) => Origin::File(setting.place.clone()),
                None => Origin::Default,
            },
        };
        let command = CommandLine::command();
        let keys = command.get_arguments().filter(|arg| arg.get_env().is_some());
        Self(
            keys.filter_map(|arg| Some((arg.get_long()?.to_owned(), origin(arg, arg.get_long()?)))).collect(),
        )
    }

    /// A setting with its origin, as an error begins with it.
    fn name(&self, key: &str) -> String {
        match self.0.get(key) {
            Some(Origin::Variable(variable)) => variable.clone(),
            Some(Origin::File(place)) => format!("{place}: {key}"),
            Some(Origin::Flag | Origin::Default) | None => format!("--{key}"),
        }
    }
}

/// Reads the arguments, the environment and the file.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Wanted, Usage> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut matches = match CommandLine::command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return stop(&error, &arguments).map(Wanted::Answer),
    };
    let flags = flags_of(&matches);
    let (file, destinations) = match flags.get_one::<std::path::PathBuf>("config") {
        None => (Vec::new(), Vec::new()),
        Some(path) => {
            let file = read(path).map_err(Usage)?;
            (file.settings, file.destinations)
        }
    };
    let tables: String = destinations.iter().map(|destination| &*destination.text).collect();
    let origins = Origins::of(flags, &file);
    // What stands in the file alone is said as a flag, and so means the same.
    let said = file.iter().filter(|setting| matches!(origins.0.get(&setting.key), Some(Origin::File(_))));
    let said: Vec<OsString> = said.flat_map(Setting::as_flags).map(OsString::from).collect();
    if !said.is_empty() {
        arguments.extend(said);
        matches = CommandLine::command()
            .try_get_matches_from(&arguments)
            .map_err(|error| Usage(first_line(&error)))?;
    }
    let line = CommandLine::from_arg_matches(&matches).map_err(|error| Usage(first_line(&error)))?;
    let check = |flags: Flags| Config::check(flags, destinations, &origins).map_err(Usage);
    Ok(match line.command {
        None => Wanted::Run(Box::new(check(line.flags)?)),
        Some(Command::Config(Look::Check(flags))) => {
            check(*flags)?;
            Wanted::Answer("ok\n".to_owned())
        }
        Some(Command::Config(Look::Print(flags))) => {
            check(*flags)?;
            Wanted::Answer(print(flags_of(&matches), &origins) + &tables)
        }
    })
}

/// The matches that hold the flags: those of the look at them, if that is what is wanted.
fn flags_of(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some(("config", look)) => look.subcommand().map_or(matches, |(_, flags)| flags),
        Some(_) | None => matches,
    }
}

/// Reads a file and checks each of its settings, whether a flag goes before it or not.
fn read(path: &Path) -> Result<File, String> {
    let command = CommandLine::command().mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
    let file = File::read(path, &CommandLine::command())?;
    for setting in &file.settings {
        let line = std::iter::once("tcc-server".to_owned()).chain(setting.as_flags());
        if let Err(error) = command.clone().try_get_matches_from(line) {
            let why = first_line(&error);
            return Err(format!("{}: {}: {why}", setting.place, setting.key));
        }
    }
    Ok(file)
}

impl Config {
    /// Checks the settings against each other, and reads the files that they name.
    fn check(flags: Flags, destinations: Vec<Destination>, origins: &Origins) -> Result<Self, String> {
        let token = match &flags.token_file {
            None => None,
            Some(file) => {
                let token = Token::read(file);
                Some(token.map_err(|bad| format!("{} {bad}", origins.name("token-file")))?)
            }
        };
        let callers = match token {
            Some(token) => Callers::WithToken(token),
            None if flags.insecure => Callers::Anyone,
            None if flags.listen.ip().is_loopback() => Callers::OfThisMachine,
            None => {
                let (named, address) = (origins.name("listen"), flags.listen);
                return Err(format!(
                    "{named} {address}: others could reach it, so it needs --token-file, or --insecure if that is meant"
                ));
            }
        };
        if flags.remember < flags.retention {
            let [remember, retention] = [flags.remember, flags.retention].map(humantime::format_duration);
            let (named, other) = (origins.name("remember"), origins.name("retention"));
            return Err(format!("{named} {remember}: it is shorter than {other} {retention}"));
        }
        let named = origins.name("call-timeout");
        check_call_timeout(flags.call_timeout).map_err(|why| format!("{named} {why}"))?;
        let allow = AllowList::parse(flags.allow.iter().map(String::as_str))
            .map_err(|why| format!("{}: {why}", origins.name("allow")))?;
        if let Some(at) = &flags.alert_url {
            let read = url::Url::parse(at.as_str()).map_err(|why| format!("is no URL: {why}"));
            let fit = read.and_then(|url| allow.check(&url));
            fit.map_err(|why| format!("{} {why}", origins.name("alert-url")))?;
        }
        let authorities = match &flags.ca_file {
            None => Authorities::default(),
            Some(file) => {
                Authorities::read(file).map_err(|bad| format!("{} {bad}", origins.name("ca-file")))?
            }
        };
        let signing = match &flags.signing_key_file {
            None => None,
            Some(file) => {
                let keys = SigningKeys::read(file);
                Some(keys.map_err(|bad| format!("{} {bad}", origins.name("signing-key-file")))?)
            }
        };
        let tls = tls(&flags, origins)?;
        let bounded = destinations.iter().filter(|destination| destination.bounds.is_set());
        let bounds = bounded.map(|one| (one.whom.destination().to_owned(), one.bounds.clone())).collect();
        let mut peers = Vec::new();
        #[cfg(feature = "brokers")]
        let mut logins = Vec::new();
        for destination in destinations {
            match destination.whom {
                Whom::Peer(peer) => peers.push(peer),
                #[cfg(feature = "brokers")]
                Whom::Broker(_, login) => logins.extend(login),
            }
        }
        let calls = HttpOptions { allow, authorities, signing, peers };
        Ok(Self {
            flags,
            callers,
            #[cfg(feature = "brokers")]
            brokers: brokers(&calls, logins),
            calls,
            bounds,
            tls,
        })
    }
}

/// Brokers are trusted and allowed as participants are.
#[cfg(feature = "brokers")]
fn brokers(calls: &HttpOptions, logins: Vec<BrokerLogin>) -> BrokerOptions {
    let (allow, authorities) = (calls.allow.clone(), calls.authorities.clone());
    BrokerOptions { allow, authorities, logins, ..BrokerOptions::default() }
}

fn tls(flags: &Flags, origins: &Origins) -> Result<Option<Tls>, String> {
    let (certificate, key) = ("tls-cert-file", "tls-key-file");
    match (&flags.tls_cert_file, &flags.tls_key_file) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => match Tls::read(certificate, key) {
            Ok(tls) => Ok(Some(tls)),
            Err(bad) => {
                let setting = if bad.file() == certificate { "tls-cert-file" } else { "tls-key-file" };
                Err(format!("{} {bad}", origins.name(setting)))
            }
        },
        (Some(_), None) => Err(format!("{}: it needs --{key}, too", origins.name(certificate))),
        (None, Some(_)) => Err(format!("{}: it needs --{certificate}, too", origins.name(key))),
    }
}

pub(super) fn check_call_timeout(given: std::time::Duration) -> Result<(), String> {
    if given <= tcc_core::limits::CALL_TIMEOUT && !given.is_zero() {
        return Ok(());
    }
    let [given, most] = [given, tcc_core::limits::CALL_TIMEOUT].map(humantime::format_duration);
    Err(format!("{given}: it is zero or over {most}"))
}

/// Every setting, as a configuration file that would say the same. Secrets stand in files of their own, of which only the
/// names are shown.
fn print(matches: &ArgMatches, origins: &Origins) -> String {
    let command = CommandLine::command();
    let mut text = String::new();
    for arg in command.get_arguments().filter(|arg| is_setting(arg)) {
        let key = arg.get_long().unwrap_or_default();
        let values: Vec<String> = matches
            .get_raw(arg.get_id().as_str())
            .map(|values| values.map(|value| value.to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        let from = match &origins.0[key] {
            Origin::Flag => format!("--{key}"),
            Origin::Variable(variable) => variable.clone(),
            Origin::File(place) => place.to_string(),
            Origin::Default => "default".to_owned(),
        };
        let _ = match super::file::as_toml(arg, &values, matches) {
            Some(value) => writeln!(text, "{:<40} # {from}", format!("{key} = {value}")),
            None => writeln!(text, "# {key} is not set"),
        };
    }
    text
}

/// Clap's message in one line, or what was asked for with `--help` or `--version`. Where the value came from the
/// environment it names the variable.
fn stop(error: &clap::Error, arguments: &[OsString]) -> Result<String, Usage> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Ok(error.to_string());
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(Usage("a subcommand is missing; --help names them".to_owned()));
    }
    let line = first_line(error);
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag.split([' ', '=']).next().unwrap_or_default().to_owned(),
        _ => return Err(Usage(line)),
    };
    let given = arguments.iter().any(|argument| {
        argument
            .to_str()
            .is_some_and(|a| a == flag || a.strip_prefix(&flag).is_some_and(|rest| rest.starts_with('=')))
    });
    let command = CommandLine::command();
    let argument =
        command.get_arguments().find(|a| a.get_long().is_some_and(|long| flag == format!("--{long}")));
    match argument.and_then(|argument| argument.get_env()?.to_str()) {
        Some(variable) if !given && std::env::var_os(variable).is_some() => {
            Err(Usage(format!("{variable} in the environment: {line}")))
        }
        _ => Err(Usage(line)),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
