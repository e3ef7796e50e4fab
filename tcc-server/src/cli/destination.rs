//! What the configuration file says of single destinations.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{Item, TableLike, Value};

use super::file::{Reading, quoted};
use super::flags::length;
use crate::settings::Bounds;
#[cfg(feature = "brokers")]
use crate::transport::BrokerLogin;
use crate::transport::{Peer, SigningKeys};

/// One of them, read.
#[derive(Default)]
struct Said {
    headers: Vec<(String, PathBuf)>,
    keys: Option<PathBuf>,
    #[cfg(feature = "brokers")]
    login: Option<PathBuf>,
    calls: Option<u16>,
    timeout: Option<Duration>,
}

/// A destination, checked.
pub(super) struct Destination {
    pub(super) whom: Whom,
    pub(super) bounds: Bounds,
    /// As a file would say it.
    pub(super) text: String,
}

/// Who is there.
pub(super) enum Whom {
    Peer(Peer),
    /// What it counts as, and who it is told this is.
    #[cfg(feature = "brokers")]
    Broker(String, Option<BrokerLogin>),
}

impl Whom {
    fn at(origin: &str) -> Result<Self, String> {
        #[cfg(feature = "brokers")]
        if let Some(destination) = BrokerLogin::destination(origin) {
            return Ok(Self::Broker(destination, None));
        }
        Peer::new(origin).map(Self::Peer).map_err(|bad| bad.to_string())
    }

    /// What calls to it count against.
    pub(super) fn destination(&self) -> &str {
        match self {
            Self::Peer(peer) => peer.destination(),
            #[cfg(feature = "brokers")]
            Self::Broker(destination, _) => destination,
        }
    }

    fn peer(self) -> Result<Peer, String> {
        match self {
            Self::Peer(peer) => Ok(peer),
            #[cfg(feature = "brokers")]
            Self::Broker(..) => Err("it is not for a broker".to_owned()),
        }
    }
}

/// Reads the table of them.
pub(super) fn read(reading: &Reading<'_>, item: &Item) -> Result<Vec<Destination>, String> {
    let mut destinations: Vec<Destination> = Vec::new();
    for (origin, item) in entries(reading, "destinations", item)? {
        let table = reading.table(&format!("destinations.{origin:?}"), item)?;
        let mut said = Said::default();
        let whom = Whom::at(origin).map_err(|bad| format!("{}: destinations: {bad}", reading.at(item)))?;
        let whom = said.all(reading, table, origin, whom)?;
        let bounds = Bounds { calls: said.calls.map(usize::from), call_timeout: said.timeout };
        let bounded = |one: &Destination| {
            one.whom.destination() == whom.destination() && one.bounds.is_set() && bounds.is_set()
        };
        if destinations.iter().any(bounded) {
            let counted = whom.destination();
            let place = reading.at(item);
            return Err(format!("{place}: {origin:?} and another one count as the same, {counted}"));
        }
        destinations.push(Destination { whom, bounds, text: said.text(origin) });
    }
    Ok(destinations)
}

impl Said {
    fn all(
        &mut self,
        reading: &Reading<'_>,
        table: &dyn TableLike,
        origin: &str,
        mut whom: Whom,
    ) -> Result<Whom, String> {
        for (key, item) in table.iter() {
            let place = reading.at(item);
            match key {
                "header-files" => {
                    let mut peer = whom.peer().map_err(|why| format!("{place}: {key}: {why}"))?;
                    for (name, file) in entries(reading, key, item)? {
                        let at = reading.at(file);
                        let file = path(file).ok_or_else(|| {
                            format!("{at}: {name}: it is not the name of a file, in quotes")
                        })?;
                        peer = peer.with_header(name, &file).map_err(|bad| format!("{at}: {key} {bad}"))?;
                        self.headers.push((name.to_owned(), file));
                    }
                    whom = Whom::Peer(peer);
                }
                "signing-key-file" => {
                    let file =
                        path(item).ok_or_else(|| format!("{place}: {key}: it is not a text, in quotes"))?;
                    let keys = SigningKeys::read(&file).map_err(|bad| format!("{place}: {key} {bad}"))?;
                    let peer = whom.peer().map_err(|why| format!("{place}: {key}: {why}"))?;
                    whom = Whom::Peer(peer.signed_with(keys));
                    self.keys = Some(file);
                }
                #[cfg(feature = "brokers")]
                "login-file" => {
                    let Whom::Broker(destination, _) = whom else {
                        return Err(format!("{place}: {key}: it is for brokers alone"));
                    };
                    let file =
                        path(item).ok_or_else(|| format!("{place}: {key}: it is not a text, in quotes"))?;
                    let login =
                        BrokerLogin::read(origin, &file).map_err(|bad| format!("{place}: {key} {bad}"))?;
                    whom = Whom::Broker(destination, Some(login));
                    self.login = Some(file);
                }
                #[cfg(not(feature = "brokers"))]
                "login-file" => return Err(format!("{place}: {key}: it is for brokers alone")),
                "calls-in-flight" => {
                    let calls = item.as_integer().and_then(|calls| u16::try_from(calls).ok());
                    let calls = calls.filter(|calls| *calls > 0);
                    self.calls = Some(
                        calls.ok_or_else(|| format!("{place}: {key}: it is not a number from 1 to 65535"))?,
                    );
                }
                "call-timeout" => {
                    let text = item
                        .as_str()
                        .ok_or_else(|| format!("{place}: {key}: it is not a text, in quotes"))?;
                    let timeout = length(text).map_err(|why| format!("{place}: {key}: {text:?}: {why}"))?;
                    super::config::check_call_timeout(timeout)
                        .map_err(|why| format!("{place}: {key} {why}"))?;
                    self.timeout = Some(timeout);
                }
                unknown => {
                    let place = reading.key(table, unknown);
                    let keys = "header-files, signing-key-file, login-file, calls-in-flight, call-timeout";
                    return Err(format!("{place}: there is no key {unknown:?}; there are {keys}"));
                }
            }
        }
        #[cfg(not(feature = "brokers"))]
        let _ = origin;
        Ok(whom)
    }

    fn text(&self, origin: &str) -> String {
        let mut text = format!("\n[destinations.{}]\n", quoted(origin));
        if !self.headers.is_empty() {
            let shown = |path: &Path| quoted(&path.to_string_lossy());
            let headers =
                self.headers.iter().map(|(name, file)| format!("{} = {}", quoted(name), shown(file)));
            let _ = writeln!(text, "header-files = {{ {} }}", headers.collect::<Vec<_>>().join(", "));
        }
        if let Some(file) = &self.keys {
            let _ = writeln!(text, "signing-key-file = {}", quoted(&file.to_string_lossy()));
        }
        #[cfg(feature = "brokers")]
        if let Some(file) = &self.login {
            let _ = writeln!(text, "login-file = {}", quoted(&file.to_string_lossy()));
        }
        if let Some(calls) = self.calls {
            let _ = writeln!(text, "calls-in-flight = {calls}");
        }
        if let Some(timeout) = self.timeout {
            let _ =
                writeln!(text, "call-timeout = {}", quoted(&humantime::format_duration(timeout).to_string()));
        }
        text
    }
}

fn entries<'a>(reading: &Reading<'_>, key: &str, item: &'a Item) -> Result<Vec<(&'a str, &'a Item)>, String> {
    Ok(reading.table(key, item)?.iter().collect())
}

fn path(item: &Item) -> Option<PathBuf> {
    match item.as_value()? {
        Value::String(text) => Some(text.value().into()),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::InlineTable(_) => None,
    }
}
