//! What happened, and when: seen by the process it happened in, or by the demo.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Something that happened to one order. The services write these to their standard output, a line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    /// Microseconds since 1970, by the one clock that all processes here share.
    pub(super) at: u64,
    pub(super) who: Who,
    /// The order.
    pub(super) gid: String,
    pub(super) what: What,
}

/// The processes, and whoever stands before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Who {
    #[value(skip)]
    Customer,
    Order,
    Coordinator,
    Payment,
    Inventory,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// The customer sent it, or was told what became of it.
    Customer(String),
    /// A participant answered a call.
    Answered {
        operation: String,
        answer: String,
    },
    /// A participant does not go on with a call, so that somebody can be killed here.
    Held {
        operation: String,
        moment: Moment,
    },
    /// The coordinator was asked where the transaction stands.
    Stands(String),
    Killed,
    Back,
}

/// When a call is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Moment {
    /// It has arrived, and nothing is done yet.
    Before,
    /// It is committed, and nobody is told.
    After,
}

impl Event {
    pub(super) fn now(who: Who, gid: &str, what: What) -> Self {
        Self { at: micros(), who, gid: gid.to_owned(), what }
    }
}

impl Who {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Order => "order",
            Self::Coordinator => "coordinator",
            Self::Payment => "payment",
            Self::Inventory => "inventory",
        }
    }
}

impl Moment {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
