//! What goes wrong between coordinator and participants, and when.

use std::fmt;
use std::time::Duration;

use tcc_core::Operation;

/// Something that goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives: the coordinator waits until its time-out.
    LoseRequest,
    /// It is done, and nobody hears of it.
    LoseAnswer,
    /// It arrives twice.
    Double,
    /// It arrives so much later; beyond its time-out, when nobody waits for it any more.
    Delay(Duration),
    /// It arrives after the next call to the same branch: a try after its cancel. Where there is no next one, after all is
    /// over.
    Reorder,
    /// It is done; then the coordinator crashes before it hears of that. It knows what its store holds, and nothing else.
    Crash,
}

/// What goes wrong with which calls. A fault happens once.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    /// Draws for the calls that no rule names.
    pub(super) drawn: Option<u64>,
}

#[derive(Clone, Debug)]
struct Rule {
    branch: String,
    operation: Operation,
    nth: u32,
    fault: Fault,
}

/// Calls of one operation of one branch that may be drawn a fault, so that all comes to an end.
const DRAWN: u32 = 4;

impl Faults {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Something goes wrong with every other call, drawn from a seed: the same each time.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { rules: Vec::new(), drawn: Some(seed) }
    }

    /// With a fault of the `nth` call, counted from 1, that is made of an operation of a branch.
    #[must_use]
    pub fn on(mut self, branch: &str, operation: Operation, nth: u32, fault: Fault) -> Self {
        self.rules.push(Rule { branch: branch.to_owned(), operation, nth, fault });
        self
    }

    /// What goes wrong with a call.
    pub(super) fn take(
        &mut self,
        branch: &str,
        operation: Operation,
        nth: u32,
        random: &mut fastrand::Rng,
    ) -> Option<Fault> {
        let meant = |rule: &Rule| (&*rule.branch, rule.operation, rule.nth) == (branch, operation, nth);
        if let Some(i) = self.rules.iter().position(meant) {
            return Some(self.rules.remove(i).fault);
        }
        if self.drawn.is_none() || nth > DRAWN {
            return None;
        }
        match random.u8(..12) {
            0 => Some(Fault::LoseRequest),
            1 => Some(Fault::LoseAnswer),
            2 => Some(Fault::Double),
            3 => Some(Fault::Delay(Duration::from_millis(random.u64(..30_000)))),
            4 => Some(Fault::Reorder),
            5 => Some(Fault::Crash),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoseRequest => f.write_str("the request is lost"),
            Self::LoseAnswer => f.write_str("the answer is lost"),
            Self::Double => f.write_str("doubled"),
            Self::Delay(length) => write!(f, "{length:?} late"),
            Self::Reorder => f.write_str("overtaken by the next"),
            Self::Crash => f.write_str("then the coordinator crashes"),
        }
    }
}
