//! Why a transaction stands where it does, in a sentence for whoever has to look at it.

use std::fmt::Write;
use std::time::Duration;

use crate::branch::Progress;
use crate::store::Parked;
use crate::{Decider, Operation, Phase, Timestamp, Transaction};

/// Of how many branches it is told what they wait for.
const BRANCHES: usize = 5;

impl Transaction {
    /// Why it stands where it does at a moment, parked where the store has it.
    #[must_use]
    pub fn why(&self, parked: Option<&Parked>, now: Timestamp) -> String {
        let mut why = match self.phase {
            Phase::Confirmed => return "it was confirmed, and every branch has ended".to_owned(),
            Phase::Cancelled => return "it was cancelled, and every branch has ended".to_owned(),
            Phase::Abandoned => {
                return "it was confirmed, and a branch that may be given up was: every branch has ended"
                    .to_owned();
            }
            Phase::Trying => self.why_undecided(now),
            Phase::Confirming | Phase::Cancelling => {
                let ago = about(now.since(self.since()));
                format!("it was decided {ago} ago, and not every branch has ended")
            }
        };
        let open = self.branches.iter().filter(|b| b.end.is_none());
        let open =
            open.filter(|b| self.phase != Phase::Trying || (b.definition.try_.is_some() && !b.is_tried()));
        let mut more = 0;
        for (i, branch) in open.enumerate() {
            if i < BRANCHES {
                let id = &branch.definition.id;
                let _ = write!(why, "; {id}: {}", waiting(&branch.progress, self.operation(), now));
            } else {
                more += 1;
            }
        }
        if more > 0 {
            let _ = write!(why, "; and {more} more");
        }
        if let Some(Parked { at, since }) = parked {
            let _ =
                write!(why, "; for {} it has waited until {at} takes calls again", about(now.since(*since)));
        }
        why
    }

    fn why_undecided(&self, now: Timestamp) -> String {
        let left = about(self.deadline.since(now));
        match (self.decider, &self.check) {
            (Decider::Initiator, None) => {
                format!("its initiator has said neither confirm nor cancel; in {left} it is cancelled")
            }
            (Decider::Initiator, Some(_)) => {
                let check = waiting(&self.asking, Operation::Check, now);
                format!("its initiator has said neither confirm nor cancel, and is asked; the check: {check}")
            }
            (Decider::Coordinator, _) => format!("not every try is done; in {left} it is cancelled"),
        }
    }
}

/// What a branch, or the check, waits for.
fn waiting(progress: &Progress, operation: Operation, now: Timestamp) -> String {
    let Some(due) = progress.due else { return "waits for those before it".to_owned() };
    let next = if due > now { format!("in {}", about(due.since(now))) } else { "now".to_owned() };
    match (&progress.seen, progress.attempts) {
        (None, 0) => format!("its {operation} is called {next}"),
        (None, n) => format!("its {operation} was called {n} times, and is again {next}"),
        (Some(seen), 0) => format!("{seen}; its {operation} is called {next}"),
        (Some(seen), 1) => format!("its {operation} was called once and saw {seen}, and is again {next}"),
        (Some(seen), n) => {
            format!("its {operation} was called {n} times and last saw {seen}, and is again {next}")
        }
    }
}

/// A length to be read.
fn about(length: Duration) -> String {
    match length.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..120_000 => format!("{} s", ms / 1_000),
        ms @ 120_000..7_200_000 => format!("{} min", ms / 60_000),
        ms @ 7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} days", ms / 86_400_000),
    }
}
