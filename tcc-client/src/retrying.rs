//! Repeats with growing waits: the one place that knows the `backoff` crate.
//!
//! The crate draws the waits; when to stop is decided here. Its own limit reads a clock of its own and lets a
//! `Retry-After` pass it by, and a caller was promised an end.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tcc_core::limits;
use tokio::time::Instant;

/// How the waits grow: exponential, each drawn from half to one and a half times its middle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// The middle of the first wait.
    pub(crate) first: Duration,
    /// The middle of the longest.
    pub(crate) longest: Duration,
}

/// Why an attempt brought no result.
#[derive(Debug)]
pub(crate) enum Attempt<E> {
    /// Repeating cannot help.
    Final(E),
    /// Repeating may help, not before that long if it is given.
    Passing(E, Option<Duration>),
}

/// Attempts until one succeeds, one fails for good, or the next could not begin before `end`. Every failure but the
/// last is shown to `failed`.
///
/// # Cancel safety
/// Dropped, it makes no further attempt; the one under way is dropped with it.
pub(crate) async fn retrying<T, E, A, F>(
    waits: Waits,
    end: Instant,
    mut attempt: A,
    mut failed: impl FnMut(E),
) -> Result<T, E>
where
    A: FnMut() -> F,
    F: Future<Output = Result<T, Attempt<E>>>,
{
    let until = Until { waits: exponential(waits), end };
    let again = || {
        let attempted = attempt();
        async move {
            attempted.await.map_err(|failure| match failure {
                Attempt::Passing(error, None) => backoff::Error::transient(error),
                Attempt::Passing(error, Some(wait)) if Instant::now() + wait < end => {
                    backoff::Error::retry_after(error, wait)
                }
                Attempt::Passing(error, Some(_)) | Attempt::Final(error) => backoff::Error::permanent(error),
            })
        }
    };
    backoff::future::retry_notify(until, again, |error, _| failed(error)).await
}

fn exponential(Waits { first, longest }: Waits) -> ExponentialBackoff {
    // A caller may set any lengths, and nothing doubled is still nothing.
    let first = first.clamp(limits::SHORTEST_RETRY, limits::LONGEST);
    ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_max_interval(longest.clamp(first, limits::LONGEST))
        .with_multiplier(2.0)
        .with_max_elapsed_time(None)
        .build()
}

/// Waits that end where the next attempt would come too late.
struct Until {
    waits: ExponentialBackoff,
    end: Instant,
}

impl Backoff for Until {
    fn reset(&mut self) {
        self.waits.reset();
    }

    fn next_backoff(&mut self) -> Option<Duration> {
        self.waits.next_backoff().filter(|wait| Instant::now() + *wait < self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const WAITS: Waits = Waits { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

    #[tokio::test(start_paused = true)]
    async fn attempts_end_in_time_and_the_last_failure_is_the_result() {
        let begun = Instant::now();
        let (mut attempts, shown) = (0, RefCell::new(Vec::new()));
        let attempt = || {
            attempts += 1;
            let nth = attempts;
            async move { Err::<(), _>(Attempt::Passing(nth, None)) }
        };
        let end = begun + Duration::from_secs(10);
        let last = retrying(WAITS, end, attempt, |nth| shown.borrow_mut().push(nth)).await.unwrap_err();
        assert_eq!(last, attempts);
        assert_eq!(shown.into_inner(), (1..last).collect::<Vec<_>>());
        assert!(Instant::now() <= end, "an attempt began after the end");
        // Waits of at most 0.15 + 0.3 + 0.6 + 1.2 + 2.4 s, then of at most 3 s: no fewer attempts fit.
        assert!((7..40).contains(&attempts), "{attempts} attempts");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_asked_for_is_kept_or_ends_it() {
        for (seconds, attempts) in [(4, 3), (11, 1)] {
            let begun = Instant::now();
            let mut moments = Vec::new();
            let attempt = || {
                moments.push(begun.elapsed().as_secs());
                async move { Err::<(), _>(Attempt::Passing((), Some(Duration::from_secs(seconds)))) }
            };
            retrying(WAITS, begun + Duration::from_secs(10), attempt, |()| ()).await.unwrap_err();
            assert_eq!(moments.len(), attempts, "{moments:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_setting_makes_a_busy_loop_or_an_endless_wait() {
        let zero = Waits { first: Duration::ZERO, longest: Duration::ZERO };
        let endless = Waits { first: Duration::MAX, longest: Duration::MAX };
        for (waits, most) in [(zero, 1000), (endless, 1)] {
            let mut attempts = 0;
            let attempt = || {
                attempts += 1;
                async move { if attempts > most { Ok(()) } else { Err(Attempt::Passing((), None)) } }
            };
            let end = Instant::now() + Duration::from_secs(10);
            retrying(waits, end, attempt, |()| ()).await.unwrap_err();
            assert!(attempts <= most, "{attempts} attempts");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_good_is_not_repeated() {
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            async move { Err::<(), _>(Attempt::Final("no")) }
        };
        let end = Instant::now() + Duration::from_secs(10);
        assert_eq!(retrying(WAITS, end, attempt, |_| panic!("not repeated")).await, Err("no"));
        assert_eq!(attempts, 1);
    }
}
