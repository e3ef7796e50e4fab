//! Small makers and readers of transactions.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use tcc_core::answer::{Outlook, Reply};
use tcc_core::wire::{BeginRequest, RegisterRequest};
use tcc_core::{
    BranchId, Definition, End, Event, Operation, Patience, Random, Timestamp, Transaction, Tried,
};

pub(crate) const T0: Timestamp = Timestamp::from_millis(1_000_000);
pub(crate) const PATIENCE: Patience = Patience { attempts: 5, age: Duration::from_secs(300) };

pub(crate) fn id(id: &str) -> BranchId {
    id.parse().unwrap()
}

pub(crate) fn begin(json: &str) -> Transaction {
    let request: BeginRequest = serde_json::from_str(json).unwrap();
    let begin = request.parse(|| "made".parse().unwrap()).unwrap();
    Transaction::begin(begin, PATIENCE, T0).unwrap()
}

pub(crate) fn branches(json: &str) -> Vec<Definition> {
    let request: RegisterRequest = serde_json::from_str(&format!(r#"{{"branches":{json}}}"#)).unwrap();
    request.parse().unwrap()
}

pub(crate) fn reply(branch: &str, operation: Operation, reply: Reply) -> Event {
    Event::Reply { branch: Some(id(branch)), operation, reply, random: Random(u32::MAX) }
}

pub(crate) fn unknown(outlook: Outlook) -> Reply {
    Reply::Unknown { seen: "status 500".into(), retry_after: None, outlook }
}

/// A transaction in a line: its phase, and of each branch the try, the end and the call it waits for.
pub(crate) fn describe(transaction: &Transaction) -> String {
    let mut line = transaction.phase().as_str().to_owned();
    for branch in transaction.branches() {
        write!(line, " {}:", branch.definition().id).unwrap();
        match branch.tried() {
            Tried::NotYet => {}
            Tried::Done(_) => line.push_str("tried,"),
            Tried::Refused(_) => line.push_str("refused,"),
        }
        let progress = branch.progress();
        match (branch.end(), progress.due) {
            (Some(End::Done), _) => line.push_str("done"),
            (Some(End::GivenUp), _) => line.push_str("given-up"),
            (Some(End::Forced { .. }), _) => line.push_str("forced"),
            (Some(End::NotNeeded), _) => line.push_str("not-needed"),
            (None, Some(due)) => write!(line, "due+{}", due.since(T0).as_millis()).unwrap(),
            (None, None) => line.push('-'),
        }
        if progress.attempts > 0 {
            write!(line, ",{} failed", progress.attempts).unwrap();
        }
        if progress.attention.is_some() {
            line.push_str(if progress.acknowledged { ",acknowledged" } else { ",attention" });
        }
    }
    if let Some(due) = transaction.asking().due {
        write!(line, " check:due+{}", due.since(T0).as_millis()).unwrap();
    }
    if let Some(reason) = transaction.decided().and_then(|decided| decided.reason.as_ref()) {
        write!(line, " ({reason})").unwrap();
    }
    line
}

/// Compares with the golden file of this name, or writes it where `UPDATE` is set.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (i, (is, was)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(is, was, "line {} of {name} is another; UPDATE=1 writes it anew", i + 1);
    }
    assert_eq!(
        text.lines().count(),
        golden.lines().count(),
        "{name} has more or fewer lines; UPDATE=1 writes it anew"
    );
}
