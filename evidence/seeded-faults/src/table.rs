//! What is printed: a line for each fault as it is done, and all of it as a table.

use std::time::Duration;

use crate::fault::{Catch, Fault};

/// What became of a fault.
pub(crate) struct Line<'a> {
    pub(crate) fault: &'a Fault,
    /// What each layer said, or why it has not caught it.
    pub(crate) seen: Vec<(&'a Catch, Result<String, String>)>,
    pub(crate) took: Duration,
}

/// Characters of what a layer said.
const SAID: usize = 120;

impl Line<'_> {
    /// Whether each layer that was named has seen it.
    pub(crate) fn is_caught(&self) -> bool {
        self.seen.iter().all(|(_, said)| said.is_ok())
    }

    pub(crate) fn text(&self) -> String {
        let word = if self.is_caught() { "caught" } else { "SURVIVED" };
        let mut text = format!(
            "\n{word}, {} s: {}\n  {:<16} {}",
            self.took.as_secs(),
            self.fault.name,
            "in",
            self.fault.file
        );
        for (catch, said) in &self.seen {
            let said = match said {
                Ok(said) => cut(said),
                Err(why) => format!("DOES NOT SEE IT: {why}"),
            };
            text.push_str(&format!("\n  {:<16} {said}", catch.layer.name));
        }
        text
    }
}

/// A fault and who is to catch it.
pub(crate) fn listed(fault: &Fault) -> String {
    let layers: Vec<&str> = fault.catches.iter().map(|catch| catch.layer.name).collect();
    format!("{}\n    {}, caught by {}", fault.name, fault.file, layers.join(", "))
}

/// The table for a page.
pub(crate) fn markdown(lines: &[Line<'_>]) -> String {
    let mut text =
        "| fault | file | caught by | what it said | also seen by | seconds |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for line in lines {
        let mut seen = line.seen.iter().map(|(catch, said)| match said {
            Ok(said) => (catch.layer.name, catch.layer.what, format!("`{}`", cut(said).replace('|', "\\|"))),
            Err(_) => (catch.layer.name, catch.layer.what, "**nothing**".to_owned()),
        });
        let (_, what, said) = seen.next().expect("a fault has a catcher");
        let also: Vec<&str> = seen.map(|(name, ..)| name).collect();
        let (name, file) = (line.fault.name, line.fault.file);
        let (also, took) = (also.join(", "), line.took.as_secs());
        text.push_str(&format!("| {name} | `{file}` | {what} | {said} | {also} | {took} |\n"));
    }
    text
}

/// The last lines of what a command said.
pub(crate) fn end_of(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SAID) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
