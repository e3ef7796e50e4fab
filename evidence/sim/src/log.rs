//! What happened, one aligned line per event; and its hash, by which two runs are compared without keeping either.

use std::fmt::Write as _;

use crate::book;

/// Who an event happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The world itself.
    World,
    /// The store.
    Store,
    /// A coordinator.
    Node(usize),
    /// A participant.
    Participant(usize),
    /// An initiator.
    Initiator,
}

/// The events of one world.
pub(crate) struct Log {
    hash: u64,
    text: Option<String>,
}

impl Log {
    /// A log that keeps its lines, or only their hash.
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            text: match keep {
                Keep::Lines => Some(String::new()),
                Keep::Hash => None,
            },
        }
    }

    /// Takes an event in. What stands in `detail` is worked out for kept lines alone, the rest is in the hash.
    pub(crate) fn note(
        &mut self,
        millis: u64,
        who: Who,
        case: Option<usize>,
        what: &str,
        detail: impl FnOnce() -> String,
    ) {
        let number = match who {
            Who::World => 1,
            Who::Store => 2,
            Who::Initiator => 3,
            Who::Node(i) => 16 + i as u64,
            Who::Participant(i) => 32 + i as u64,
        };
        self.mix(millis);
        self.mix(number << 32 | case.map_or(u64::from(u32::MAX), |case| case as u64));
        for byte in what.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let Some(text) = &mut self.text else { return };
        let who = match who {
            Who::World => "world".to_owned(),
            Who::Store => "store".to_owned(),
            Who::Initiator => "initiator".to_owned(),
            Who::Node(i) => format!("node {i}"),
            Who::Participant(i) => format!("part. {i}"),
        };
        let case = case.map_or_else(String::new, book::name);
        let (seconds, rest) = (millis / 1000, millis % 1000);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{seconds:>6}.{rest:03} {case:>5}  {who:<9}  {what:<22} {}", detail());
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// The hash of what happened so far.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines, if they were kept.
    pub(crate) fn into_lines(self) -> String {
        self.text.unwrap_or_default()
    }
}

/// What a log keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Lines to read.
    Lines,
    /// The hash alone, which is quick.
    Hash,
}
