//! What can be set of a coordinator.

use std::collections::BTreeMap;
use std::time::Duration;

use tcc_core::{Endpoint, Patience};

/// What can be set of a coordinator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an ended transaction is kept whole.
    pub retention: Duration,
    /// How long its gid, end and content hash are remembered; at least as long as it is kept whole.
    pub remember: Duration,
    /// When a transaction that does not end calls for a human.
    pub patience: Patience,
    /// The time-out of a call whose branch gives none.
    pub call_timeout: Duration,
    /// Calls in flight to one destination.
    pub per_destination: usize,
    /// Who is told, by a message each, what calls for a human.
    pub alerts: Option<Endpoint>,
    /// What holds for single destinations instead, by their names: `host:port`, without a port that its scheme implies.
    pub destinations: BTreeMap<String, Bounds>,
}

/// What holds for one destination instead of what holds for all.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// Calls in flight.
    pub calls: Option<usize>,
    /// The time-out of a call whose branch gives none.
    pub call_timeout: Option<Duration>,
}

impl Bounds {
    /// Whether there are any.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.calls.is_some() || self.call_timeout.is_some()
    }
}

impl Settings {
    /// The time-out of a call to a destination that gives none.
    pub(crate) fn call_timeout(&self, destination: &str) -> Duration {
        let bounds = self.destinations.get(destination);
        bounds.and_then(|bounds| bounds.call_timeout).unwrap_or(self.call_timeout)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(7 * 24 * 3600),
            remember: Duration::from_secs(30 * 24 * 3600),
            patience: Patience { attempts: 20, age: Duration::from_secs(300) },
            call_timeout: tcc_core::limits::DEFAULT_CALL_TIMEOUT,
            per_destination: 128,
            alerts: None,
            destinations: BTreeMap::new(),
        }
    }
}
