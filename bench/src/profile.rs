//! Where the instructions of a transaction go: callgrind's own counts, each function's put down to what it belongs to.

use std::collections::HashMap;
use std::path::Path;

use crate::Failure;

/// Words in the name of a function, and what a function with one of them belongs to; the first that fits counts.
const PARTS: &[(&str, &[&str])] = &[
    ("memory moved", &["memcpy", "memmove", "memset", "memcmp"]),
    ("allocator", &["mi_", "malloc", "_int_free", "cfree"]),
    (
        "SQLite",
        &["sqlite3", "rusqlite", "wal", "Pager", "pager", "pcache1", "btree", "releaseMem", "unixWrite"],
    ),
    ("coordinator: tcc-core", &["tcc_core"]),
    ("coordinator: tcc-server", &["tcc_server"]),
    ("HTTP: hyper, http, axum", &["hyper", "http", "axum", "tower", "bytes::", "url::"]),
    ("tokio, futures", &["tokio", "futures"]),
    ("JSON", &["serde", "itoa"]),
    ("SHA-256", &["sha2", "digest"]),
    ("hashing", &["hashbrown", "foldhash", "sip", "hash_one"]),
];

/// Reads what callgrind wrote, and gives instructions by what they belong to, the most first.
pub(crate) fn read(file: &Path) -> Result<Vec<(&'static str, u64)>, Failure> {
    let text = std::fs::read_to_string(file)?;
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut parts: HashMap<&str, u64> = HashMap::new();
    let (mut part, mut of_a_call) = ("else", false);
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("cfn=") {
            name(named, &mut names);
        } else if let Some(named) = line.strip_prefix("fn=") {
            part = part_of(name(named, &mut names));
        } else if line.starts_with("calls=") {
            of_a_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            // The line after a call is what the callee cost, which is counted there.
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
            if !std::mem::take(&mut of_a_call) {
                *parts.entry(part).or_default() += count.unwrap_or(0);
            }
        }
    }
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(parts)
}

/// A name is told once, with a number that stands for it from then on: `(12) name`.
fn name<'a>(named: &'a str, names: &mut HashMap<&'a str, &'a str>) -> &'a str {
    match named.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(named).copied().unwrap_or_default(),
    }
}

fn part_of(function: &str) -> &'static str {
    let belongs = |words: &[&str]| words.iter().any(|word| function.contains(word));
    PARTS.iter().find(|(_, words)| belongs(words)).map_or("else", |(part, _)| part)
}
