//! The order of calls: `after` forwards, reversed for cancel (C8).

use std::time::Duration;

use crate::branch::{End, Tried};
use crate::transaction::Transaction;
use crate::{Decision, Timestamp};

impl Transaction {
    /// Makes due what nothing is in front of any more. Returns whether there was such a thing.
    pub(crate) fn release(&mut self, now: Timestamp) -> bool {
        let ordered = self.branches.iter().any(|branch| !branch.before.is_empty());
        // Most transactions have no order, and then nothing is in front of anything.
        let in_front = if ordered { self.in_front() } else { Vec::new() };
        let passed = if ordered { self.passed(&in_front) } else { Vec::new() };
        let is_free = |i: usize| in_front.get(i).is_none_or(|in_front| in_front.iter().all(|j| passed[*j]));
        let decision = self.phase.decision();
        let mut released = false;
        for (i, branch) in self.branches.iter_mut().enumerate() {
            let has_a_call = match decision {
                None => branch.definition.try_.is_some() && matches!(branch.tried, Tried::NotYet),
                Some(_) => branch.end.is_none(),
            };
            if !has_a_call || branch.progress.due.is_some() || !is_free(i) {
                continue;
            }
            let first_forward_call = match decision {
                None => true,
                Some(Decision::Confirm) => branch.definition.try_.is_none(),
                Some(Decision::Cancel) => false,
            };
            let delay = if first_forward_call { branch.definition.delay } else { Duration::ZERO };
            branch.progress.due = Some(now + delay);
            released = true;
        }
        released
    }

    /// For each branch the ones in front of it in the present direction.
    fn in_front(&self) -> Vec<Vec<usize>> {
        if self.phase.decision() != Some(Decision::Cancel) {
            return self.branches.iter().map(|b| b.before.clone()).collect();
        }
        let mut reversed = vec![Vec::new(); self.branches.len()];
        for (i, branch) in self.branches.iter().enumerate() {
            for before in &branch.before {
                reversed[*before].push(i);
            }
        }
        reversed
    }

    /// For each branch whether it no longer keeps those waiting that come after it. One that was not
    /// called passes on what it waits for itself, so that order holds across it.
    fn passed(&self, in_front: &[Vec<usize>]) -> Vec<bool> {
        let own: Vec<Option<bool>> = self
            .branches
            .iter()
            .map(|branch| match (self.phase.decision(), &branch.end) {
                (None, _) if branch.definition.try_.is_some() => Some(branch.is_tried()),
                // A branch may be forced while others are still in front of it, and must not let those behind it pass.
                (None, _) | (Some(_), Some(End::NotNeeded | End::Forced { .. })) => None,
                (Some(_), Some(End::Done | End::GivenUp)) => Some(true),
                (Some(_), None) => Some(false),
            })
            .collect();
        let mut passed: Vec<bool> = own.iter().map(|own| own.unwrap_or(false)).collect();
        // A fixed point: `after` has no cycle, so each round settles at least one more link of every chain.
        loop {
            let mut settled = true;
            for i in 0..passed.len() {
                if own[i].is_none() && !passed[i] && in_front[i].iter().all(|j| passed[*j]) {
                    passed[i] = true;
                    settled = false;
                }
            }
            if settled {
                return passed;
            }
        }
    }
}
