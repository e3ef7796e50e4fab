//! The configuration file: what it says, and where. What a setting means is the flags' part.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use toml_edit::{Document, Item, TableLike, Value};

use super::destination::{self, Destination};

/// Where something stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    file: PathBuf,
    line: usize,
    column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A setting that has a flag.
pub(super) struct Setting {
    /// The flag's name.
    pub(super) key: String,
    /// Its values, as they would stand behind the flag; none where it is off.
    pub(super) values: Vec<String>,
    pub(super) place: Place,
}

impl Setting {
    /// The flag that says the same.
    pub(super) fn as_flags(&self) -> impl Iterator<Item = String> {
        self.values.iter().map(|value| match value.as_str() {
            ON => format!("--{}", self.key),
            value => format!("--{}={value}", self.key),
        })
    }
}

/// Stands for the value of a flag that has none. No text of a file reads so.
const ON: &str = "\0";

/// A configuration file, read.
pub(super) struct File {
    pub(super) settings: Vec<Setting>,
    pub(super) destinations: Vec<Destination>,
}

/// A file, while it is read.
pub(super) struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File {
    /// Reads a file whose keys are flags of this command.
    ///
    /// # Errors
    /// One line that names the file, the place in it and the key.
    pub(super) fn read(path: &Path, command: &Command) -> Result<Self, String> {
        let text = crate::files::text(path).map_err(|bad| bad.to_string())?;
        let reading = Reading { path, text: &text };
        let document = Document::parse(text.as_str()).map_err(|error| {
            let why = error.message().lines().collect::<Vec<_>>().join("; ");
            format!("{}: {why}", reading.place(error.span()))
        })?;
        let mut file = Self { settings: Vec::new(), destinations: Vec::new() };
        for (key, item) in document.as_table() {
            let place = reading.key(document.as_table(), key);
            if key == "destinations" {
                file.destinations = destination::read(&reading, item)?;
                continue;
            }
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(key) && is_setting(arg));
            let Some(arg) = arg else { return Err(unknown(&place, key, command)) };
            let values = values(arg, item)
                .ok_or_else(|| format!("{}: {key}: it is not {}", reading.place(item.span()), kind(arg)))?;
            let place = reading.place(item.span());
            file.settings.push(Setting { key: key.to_owned(), values, place });
        }
        Ok(file)
    }
}

impl Reading<'_> {
    /// Where a value stands.
    pub(super) fn at(&self, item: &Item) -> Place {
        self.place(item.span())
    }

    /// Where a key stands.
    pub(super) fn key(&self, table: &dyn TableLike, key: &str) -> Place {
        self.place(table.key(key).and_then(toml_edit::Key::span))
    }

    /// What is to be a table.
    pub(super) fn table<'i>(&self, key: &str, item: &'i Item) -> Result<&'i dyn TableLike, String> {
        item.as_table_like().ok_or_else(|| format!("{}: {key}: it is not a table", self.at(item)))
    }

    fn place(&self, span: Option<Range<usize>>) -> Place {
        let before = self.text.get(..span.unwrap_or_default().start).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Place {
            file: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
        }
    }
}

/// Whether a flag is a setting, which a file may hold. Where the file is cannot stand in it.
pub(super) fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_long() != Some("config")
}

fn unknown(place: &Place, key: &str, command: &Command) -> String {
    let spelled = key.replace('_', "-").to_lowercase();
    let meant = command.get_arguments().filter(|arg| is_setting(arg)).filter_map(Arg::get_long);
    match meant.into_iter().find(|known| *known == spelled) {
        Some(known) => format!("{place}: there is no key {key:?}; is {known} meant?"),
        None => format!("{place}: there is no key {key:?}"),
    }
}

/// What a flag takes, in a file.
enum Kind {
    Switch,
    List,
    Number,
    Text,
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        match (arg.get_action(), arg.get_value_delimiter(), arg.get_value_names()) {
            (ArgAction::SetTrue, _, _) => Self::Switch,
            (_, Some(_), _) => Self::List,
            (_, _, Some([name])) if name == "CALLS" => Self::Number,
            _ => Self::Text,
        }
    }
}

fn kind(arg: &Arg) -> &'static str {
    match Kind::of(arg) {
        Kind::Switch => "true or false",
        Kind::List => "a list of texts, as in [\"a\", \"b\"]",
        Kind::Number => "a whole number",
        Kind::Text => "a text, in quotes",
    }
}

fn values(arg: &Arg, item: &Item) -> Option<Vec<String>> {
    Some(match (Kind::of(arg), item.as_value()?) {
        (Kind::Switch, Value::Boolean(on)) => on.value().then(|| ON.to_owned()).into_iter().collect(),
        (Kind::Number, Value::Integer(number)) => vec![number.value().to_string()],
        (Kind::Text, Value::String(text)) => vec![text.value().clone()],
        (Kind::List, Value::Array(list)) => {
            list.iter().map(|entry| entry.as_str().map(ToOwned::to_owned)).collect::<Option<_>>()?
        }
        (Kind::Switch | Kind::Number | Kind::Text | Kind::List, _) => return None,
    })
}

/// A setting's value as a file would hold it; `None` where it has none.
pub(super) fn as_toml(arg: &Arg, values: &[String], matches: &ArgMatches) -> Option<String> {
    Some(match (Kind::of(arg), values) {
        (Kind::Switch, _) => matches.get_flag(arg.get_id().as_str()).to_string(),
        (Kind::List, _) => {
            format!("[{}]", values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", "))
        }
        (Kind::Number | Kind::Text, []) => return None,
        (Kind::Number, [number, ..]) => number.clone(),
        (Kind::Text, [text, ..]) => quoted(text),
    })
}

/// A text as TOML has it, in which every escape of JSON is one, too.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
