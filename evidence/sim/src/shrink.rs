//! A story that is as short as it can be made: fewer transactions and fewer kinds of faults, as long as it still fails.

use crate::fault::Fault;
use crate::live::{Outcome, run};
use crate::log::Keep;
use crate::setup::Setup;

/// Worlds that may be run in search of a shorter story.
const ATTEMPTS: usize = 1_500;

/// Shrinks a story that fails, and tells it.
pub(crate) fn shrink(setup: &Setup) -> (Setup, Outcome) {
    let mut best = setup.clone();
    let left = std::cell::Cell::new(ATTEMPTS);
    let try_ = |candidate: Setup, best: &mut Setup| {
        if left.get() == 0 {
            return false;
        }
        left.set(left.get() - 1);
        let fails = run(&candidate, Keep::Hash).failure.is_some();
        if fails {
            *best = candidate;
        }
        fails
    };
    let mut shorter = true;
    while shorter {
        shorter = false;
        let mut chunk = best.cases.len() / 2;
        while chunk > 0 {
            let mut from = 0;
            while from < best.cases.len() && best.cases.len() > 1 {
                let mut cases = best.cases.clone();
                cases.drain(from..(from + chunk).min(best.cases.len()));
                let candidate = Setup { cases, ..best.clone() };
                if !candidate.cases.is_empty() && try_(candidate, &mut best) {
                    shorter = true;
                } else {
                    from += chunk;
                }
            }
            chunk /= 2;
        }
        for fault in Fault::ALL {
            if !best.without.contains(fault) {
                let mut without = best.without.clone();
                without.push(*fault);
                shorter |= try_(Setup { without, ..best.clone() }, &mut best);
            }
        }
        shorter &= left.get() > 0;
    }
    let outcome = run(&best, Keep::Lines);
    (best, outcome)
}
