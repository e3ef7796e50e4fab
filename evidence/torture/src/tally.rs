//! How often what happened in a storm.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::shape::{Outcome, Shape};
use crate::storm::Target;

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Kills, of one process or several at once.
    pub cycles: u64,
    /// By what was killed.
    pub kills: BTreeMap<Target, u64>,
    /// By the phase that something under way was found in afterwards: kills, and transactions.
    pub found: BTreeMap<String, (u64, u64)>,
    /// By shape, end and phase: transactions that ended and were found in order.
    pub ended: BTreeMap<(Shape, Outcome, String), u64>,
    /// From start to listening.
    pub starts: Vec<Duration>,
    /// From kill to the first answer.
    pub recoveries: Vec<Duration>,
    /// Questions asked after kills.
    pub looks: u64,
    /// Times that all books were checked.
    pub audits: u64,
    /// Transactions asked about at the end.
    pub looked_back: u64,
}

impl Tally {
    /// What should have happened and never did: any of it would make the storm worth less than it seems.
    #[must_use]
    pub fn never(&self) -> Vec<String> {
        let targets = Target::ALL.iter().filter(|target| !self.kills.contains_key(target));
        let mut never: Vec<String> = targets.map(|target| format!("a kill of {}", target.word())).collect();
        for phase in ["not begun", "Trying", "Confirming", "Cancelling", "Confirmed", "Cancelled"] {
            if !self.found.contains_key(phase) {
                never.push(format!("a kill with a transaction under way that is {phase}"));
            }
        }
        for shape in Shape::ALL {
            for outcome in shape.outcomes() {
                if !self.ended.keys().any(|(s, o, _)| (s, o) == (shape, outcome)) {
                    never.push(format!("{}/{}", shape.word(), outcome.word()));
                }
            }
        }
        never
    }

    /// Transactions that ended and were found in order.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.ended.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8}  kills", self.cycles)?;
        for (target, kills) in &self.kills {
            writeln!(f, "{kills:>8}    of {}", target.word())?;
        }
        for (phase, (kills, transactions)) in &self.found {
            writeln!(
                f,
                "{kills:>8}    with something under way that was then {phase} ({transactions} transactions)"
            )?;
        }
        writeln!(
            f,
            "{:>8}  transactions ended, each found in order in the books of both services",
            self.transactions()
        )?;
        for ((shape, outcome, phase), transactions) in &self.ended {
            writeln!(f, "{transactions:>8}    {}/{}: {phase}", shape.word(), outcome.word())?;
        }
        writeln!(f, "{:>8}  times all books were checked", self.audits)?;
        writeln!(f, "{:>8}  questions after kills, and {} at the end", self.looks, self.looked_back)?;
        spread(f, "the coordinator from its start until it listened", &self.starts)?;
        spread(f, "from the kill of the coordinator until it answered again", &self.recoveries)
    }
}

fn spread(f: &mut fmt::Formatter<'_>, what: &str, lengths: &[Duration]) -> fmt::Result {
    let mut lengths = lengths.to_vec();
    lengths.sort_unstable();
    let Some(last) = lengths.len().checked_sub(1) else { return Ok(()) };
    let at = |percent: usize| lengths[last * percent / 100].as_secs_f64() * 1e3;
    let [half, most, longest] = [50, 99, 100].map(at);
    writeln!(f, "{what}: median {half:.0} ms, 99 % {most:.0} ms, longest {longest:.0} ms, of {}", last + 1)
}
