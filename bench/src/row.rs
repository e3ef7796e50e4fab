//! What a row of the table says, and the measurements it is made of.

use serde::Serialize;

use crate::flags::{Peer, Protocol};
use crate::load::TriedBy;

/// What a row measures.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// The calls alone, made by the load.
    Bare,
    /// The calls alone, made by a bare server.
    Relay,
    /// The writes alone.
    Writes,
    /// The coordinator over its log, as a library of the load, which tries functions of the same process.
    Embedded,
    /// The coordinator over the store in memory, which tries.
    Memory,
    /// The coordinator over its log.
    Sqlite(TriedBy),
    /// Another coordinator.
    Peer(Peer),
}

/// What rows are called on the command line.
pub(crate) const NAMES: [&str; 8] =
    ["bare", "relay", "writes", "embedded", "memory", "coordinator", "initiator", "peers"];

impl Kind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Relay => "relay",
            Self::Writes => "writes",
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::Sqlite(TriedBy::Coordinator) => "coordinator",
            Self::Sqlite(TriedBy::Initiator) => "initiator",
            Self::Peer(_) => "peers",
        }
    }

    pub(crate) fn title(&self) -> String {
        match self {
            Self::Bare => "no coordinator: the calls alone".to_owned(),
            Self::Relay => "bare hyper server and client".to_owned(),
            Self::Writes => "SQLite, grouped writes alone".to_owned(),
            Self::Embedded => "tcc embedded, local functions".to_owned(),
            Self::Memory => "tcc in memory".to_owned(),
            Self::Sqlite(_) => "tcc".to_owned(),
            Self::Peer(peer) => peer.name.clone(),
        }
    }

    /// What a power failure leaves.
    pub(crate) fn durable(&self) -> &str {
        match self {
            Self::Bare | Self::Relay => "no log",
            Self::Memory => "no, in memory",
            Self::Writes | Self::Embedded | Self::Sqlite(_) => "yes, fsync before act",
            Self::Peer(peer) => &peer.durable,
        }
    }

    /// Who tries, if anybody is tried.
    pub(crate) fn tried_by(&self) -> &'static str {
        match self {
            Self::Writes => "",
            Self::Bare => "load",
            Self::Relay => "relay",
            Self::Embedded | Self::Memory | Self::Sqlite(TriedBy::Coordinator) => "coordinator",
            Self::Sqlite(TriedBy::Initiator) => "initiator",
            Self::Peer(Peer { protocol: Protocol::Dtm, .. }) => "initiator",
            Self::Peer(Peer { protocol: Protocol::Tcc, .. }) => "coordinator",
        }
    }

    /// What ends a latency: the end of all calls, or the decision that the initiator is told.
    pub(crate) fn until(&self) -> &'static str {
        if self.tried_by() == "initiator" { "decision" } else { "end" }
    }
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// Transactions a second whose confirms arrived (or whose writes were made) while it was measured.
    pub(crate) per_second: f64,
    /// Those that the load was answered, which for a decision may be more or less.
    pub(crate) answered: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// Processor time of the coordinator for each transaction.
    pub(crate) cpu_ms: Option<f64>,
    /// Of the load.
    pub(crate) load_cpu_ms: f64,
    pub(crate) fsyncs: Option<f64>,
    pub(crate) rss_mib: Option<f64>,
    /// Transactions the load was told had failed, or was told nothing of.
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    /// Transactions that were decided and whose confirms had not arrived long after.
    pub(crate) left: u64,
}

/// A row.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) branches: usize,
    pub(crate) in_flight: usize,
    /// One for each round.
    pub(crate) rounds: Vec<Measured>,
}

impl Row {
    /// The median over the rounds.
    pub(crate) fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    /// The median over the rounds, of what was not always there.
    pub(crate) fn median_if(&self, of: impl Fn(&Measured) -> Option<f64>) -> Option<f64> {
        let there: Option<Vec<f64>> = self.rounds.iter().map(of).collect();
        there.map(median)
    }

    /// The least and the most over the rounds.
    pub(crate) fn range(&self, of: impl Fn(&Measured) -> f64) -> (f64, f64) {
        let fold = |pick: fn(f64, f64) -> f64| self.rounds.iter().map(&of).fold(f64::NAN, pick);
        (fold(f64::min), fold(f64::max))
    }

    pub(crate) fn sum(&self, of: impl Fn(&Measured) -> u64) -> u64 {
        self.rounds.iter().map(of).sum()
    }
}

/// NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        (_, middle) => values[middle],
    }
}
