//! What happened to a transaction, call by call: for people who ask why it stands where it does. Nothing is decided by
//! it, so it may have gaps: what a process that died had not saved yet is missing.

use std::time::Duration;

use crate::answer::{Reply, cut};
use crate::{Operation, Timestamp, limits};

/// The calls of a transaction and what operators did to it, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
    left_out: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When; of a call, when it was made.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A call was made and answered, or failed.
    Called(Attempt),
    /// An operator did something, for this reason if one was asked for.
    Operated(Act, Option<String>),
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The place of the branch in the transaction; `None` for a check.
    pub branch: Option<usize>,
    /// What was asked.
    pub operation: Operation,
    /// The calls of this operation so far, this one included.
    pub number: u32,
    /// How long it took.
    pub took: Duration,
    /// What its answer meant, in a word; `None` for done.
    pub outcome: Option<String>,
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Had called now what was due later.
    Retried,
    /// Took note of what called for a human.
    Acknowledged,
}

impl Act {
    pub(crate) const ALL: [Self; 2] = [Self::Retried, Self::Acknowledged];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Acknowledged => "acknowledged",
        }
    }
}

impl History {
    /// What is kept of it.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many are not kept any more.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(crate) const fn read(entries: Vec<Entry>, left_out: u64) -> Self {
        Self { entries, left_out }
    }

    /// Adds an entry. Of too many, the first few are kept and the last: they tell how it began and how it goes. What
    /// operators did goes last of all.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
        if self.entries.len() > limits::HISTORY {
            let is_call = |entry: &Entry| matches!(entry.what, What::Called(_));
            let first = limits::HISTORY_FIRST;
            let place = self.entries[first..].iter().position(is_call).map_or(first, |i| first + i);
            self.entries.remove(place);
            self.left_out += 1;
        }
    }
}

/// What an answer meant, in a word or a few.
#[must_use]
pub fn outcome(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Done(_) => None,
        Reply::Pending(_) => Some("pending".to_owned()),
        Reply::Refused(why) => Some(short(&format!("refused: {why}"))),
        Reply::Unknown { seen, .. } => Some(short(seen)),
    }
}

fn short(text: &str) -> String {
    let end = (0..=limits::OUTCOME.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    cut(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u32) -> Entry {
        let took = Duration::from_millis(1);
        let attempt = Attempt { branch: None, operation: Operation::Check, number: n, took, outcome: None };
        Entry { at: Timestamp::from_millis(i64::from(n)), what: What::Called(attempt) }
    }

    #[test]
    fn it_is_bounded_and_keeps_its_beginning_its_end_and_what_operators_did() {
        let mut history = History::default();
        let acted = Entry {
            at: Timestamp::from_millis(20),
            what: What::Operated(Act::Acknowledged, Some("seen".to_owned())),
        };
        for n in 0..1000 {
            history.add(call(n));
            if n == 20 {
                history.add(acted.clone());
            }
        }
        let entries = history.entries();
        assert_eq!(entries.len(), limits::HISTORY);
        assert_eq!(history.left_out(), 1001 - limits::HISTORY as u64);
        let first = u32::try_from(limits::HISTORY_FIRST).unwrap();
        assert!(entries.iter().take(limits::HISTORY_FIRST).cloned().eq((0..first).map(call)));
        assert_eq!(entries[limits::HISTORY_FIRST], acted);
        assert_eq!(entries.last(), Some(&call(999)));
        // Where there is nothing else, what operators did is bounded too.
        for _ in 0..1000 {
            history.add(acted.clone());
        }
        assert_eq!(history.entries().len(), limits::HISTORY);
    }

    #[test]
    fn an_outcome_is_short() {
        let long = Reply::Refused("é".repeat(500));
        assert!(outcome(&long).is_some_and(|o| o.starts_with("refused: é") && o.len() <= limits::OUTCOME));
        assert_eq!(outcome(&Reply::Done(None)), None);
    }
}
