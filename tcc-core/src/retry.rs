//! When a call that brought no answer is made again.

use std::time::Duration;

use crate::limits;

/// How the waits between the calls of one branch grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Exponential with a cap and full jitter: the n-th wait is a random length up to
    /// `first × 2ⁿ⁻¹`, at most `longest`.
    /// (Source: M. Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015.)
    Exponential {
        /// The bound of the first wait.
        first: Duration,
        /// The bound of every wait.
        longest: Duration,
    },
    /// These waits, one after the other, without jitter.
    Intervals {
        /// The waits; never empty.
        waits: Vec<Duration>,
        /// What follows the last one.
        then: Then,
    },
}

/// What follows the last interval of a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The last wait is repeated for ever.
    Repeat,
    /// The branch is given up: best-effort notification.
    GiveUp,
}

/// A random value handed in, for the core draws none itself: any `u32`, evenly distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Random(pub u32);

impl Default for Retry {
    fn default() -> Self {
        Self::Exponential { first: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

impl Retry {
    /// The wait after the `failures`-th failure (counted from 1), or `None` where the ladder ends.
    #[must_use]
    pub fn wait(&self, failures: u32, random: Random) -> Option<Duration> {
        let nth = failures.max(1) - 1;
        match self {
            Self::Exponential { first, longest } => {
                let bound = first.saturating_mul(1 << nth.min(30)).min(*longest);
                let jittered = bound.mul_f64(f64::from(random.0) / f64::from(u32::MAX));
                Some(jittered.max(limits::SHORTEST_RETRY))
            }
            Self::Intervals { waits, then } => match (waits.get(nth as usize), then) {
                (Some(wait), _) => Some((*wait).max(limits::SHORTEST_RETRY)),
                (None, Then::Repeat) => waits.last().map(|wait| (*wait).max(limits::SHORTEST_RETRY)),
                (None, Then::GiveUp) => None,
            },
        }
    }

    /// The longest wait there is: the pace at which what seems beyond mending is still retried.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        match self {
            Self::Exponential { longest, .. } => *longest,
            Self::Intervals { waits, .. } => waits.iter().max().copied().unwrap_or(limits::SHORTEST_RETRY),
        }
    }

    /// Whether the waits end.
    #[must_use]
    pub const fn ends(&self) -> bool {
        matches!(self, Self::Intervals { then: Then::GiveUp, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn exponential_waits_grow_to_their_cap_and_spread_over_it() {
        let retry = Retry::Exponential { first: S, longest: 10 * S };
        let bounds: Vec<_> = (1..=6).map(|n| retry.wait(n, Random(u32::MAX)).unwrap()).collect();
        assert_eq!(bounds, [S, 2 * S, 4 * S, 8 * S, 10 * S, 10 * S]);
        assert_eq!(retry.wait(3, Random(0)), Some(limits::SHORTEST_RETRY));
        assert_eq!(retry.wait(u32::MAX, Random(u32::MAX)), Some(10 * S));
        let half = retry.wait(4, Random(u32::MAX / 2)).unwrap();
        assert!(half > 3 * S && half < 5 * S, "{half:?}");
    }

    #[test]
    fn a_ladder_repeats_its_last_wait_or_gives_up() {
        let waits = vec![S, 5 * S];
        let endless = Retry::Intervals { waits: waits.clone(), then: Then::Repeat };
        let ladder = Retry::Intervals { waits, then: Then::GiveUp };
        let first_four = |retry: &Retry| (1..=4).map(|n| retry.wait(n, Random(7))).collect::<Vec<_>>();
        assert_eq!(first_four(&endless), [Some(S), Some(5 * S), Some(5 * S), Some(5 * S)]);
        assert_eq!(first_four(&ladder), [Some(S), Some(5 * S), None, None]);
        assert!(ladder.ends() && !endless.ends());
    }
}
