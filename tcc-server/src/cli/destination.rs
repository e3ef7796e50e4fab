//! What the configuration file says of single destinations.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{Item, TableLike, Value};

use super::file::{Reading, quoted};
use super::flags::length;
use crate::settings::Bounds;
use crate::transport::{Peer, SigningKeys};

/// One of them, read.
#[derive(Default)]
struct Said {
    headers: Vec<(String, PathBuf)>,
    keys: Option<PathBuf>,
    calls: Option<u16>,
    timeout: Option<Duration>,
}

/// A destination, checked.
pub(super) struct Destination {
    pub(super) peer: Peer,
    pub(super) bounds: Bounds,
    /// As a file would say it.
    pub(super) text: String,
}

/// Reads the table of them.
pub(super) fn read(reading: &Reading<'_>, item: &Item) -> Result<Vec<Destination>, String> {
    let mut destinations: Vec<Destination> = Vec::new();
    for (origin, item) in entries(reading, "destinations", item)? {
        let table = reading.table(&format!("destinations.{origin:?}"), item)?;
        let mut said = Said::default();
        let peer = Peer::new(origin).map_err(|bad| format!("{}: destinations: {bad}", reading.at(item)))?;
        let peer = said.all(reading, table, peer)?;
        let bounds = Bounds { calls: said.calls.map(usize::from), call_timeout: said.timeout };
        let bounded = |one: &Destination| {
            one.peer.destination() == peer.destination() && one.bounds.is_set() && bounds.is_set()
        };
        if destinations.iter().any(bounded) {
            let counted = peer.destination();
            let place = reading.at(item);
            return Err(format!("{place}: {origin:?} and another one count as the same, {counted}"));
        }
        destinations.push(Destination { peer, bounds, text: said.text(origin) });
    }
    Ok(destinations)
}

impl Said {
    fn all(&mut self, reading: &Reading<'_>, table: &dyn TableLike, mut peer: Peer) -> Result<Peer, String> {
        for (key, item) in table.iter() {
            let place = reading.at(item);
            match key {
                "header-files" => {
                    for (name, file) in entries(reading, key, item)? {
                        let at = reading.at(file);
                        let file = path(file).ok_or_else(|| {
                            format!("{at}: {name}: it is not the name of a file, in quotes")
                        })?;
                        peer = peer.with_header(name, &file).map_err(|bad| format!("{at}: {key} {bad}"))?;
                        self.headers.push((name.to_owned(), file));
                    }
                }
                "signing-key-file" => {
                    let file =
                        path(item).ok_or_else(|| format!("{place}: {key}: it is not a text, in quotes"))?;
                    let keys = SigningKeys::read(&file).map_err(|bad| format!("{place}: {key} {bad}"))?;
                    peer = peer.signed_with(keys);
                    self.keys = Some(file);
                }
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
                    let keys = "header-files, signing-key-file, calls-in-flight, call-timeout";
                    return Err(format!("{place}: there is no key {unknown:?}; there are {keys}"));
                }
            }
        }
        Ok(peer)
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
