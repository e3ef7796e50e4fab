//! What is counted with: numbers that many threads add to, and nobody waits for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper bounds of a histogram's buckets, rising; what is over the last is counted, too.
pub(super) trait Bounds {
    /// How many of the unit of what is observed are one of the unit that is shown.
    const SCALE: u64;
    const BOUNDS: &'static [f64];
}

/// Seconds, from a call on the same machine to a transaction that waits for a participant to be mended.
#[derive(Debug, Default)]
pub(crate) struct Seconds;

impl Bounds for Seconds {
    const SCALE: u64 = 1_000_000_000;
    const BOUNDS: &'static [f64] = &[
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
        3600.0,
    ];
}

/// Seconds of what a disk does.
#[derive(Debug, Default)]
pub(crate) struct DiskSeconds;

impl Bounds for DiskSeconds {
    const SCALE: u64 = Seconds::SCALE;
    const BOUNDS: &'static [f64] =
        &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
}

/// Rows in one commit.
#[derive(Debug, Default)]
pub(crate) struct Rows;

impl Bounds for Rows {
    const SCALE: u64 = 1;
    const BOUNDS: &'static [f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
}

/// The most bounds that any histogram has, and one for what is over them.
const BUCKETS: usize = 18;

/// How many of what was observed lie below each bound.
#[derive(Debug)]
pub(crate) struct Histogram<B> {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    bounds: std::marker::PhantomData<B>,
}

impl<B> Default for Histogram<B> {
    fn default() -> Self {
        Self { buckets: Default::default(), sum: AtomicU64::new(0), bounds: std::marker::PhantomData }
    }
}

impl Histogram<Seconds> {
    pub(crate) fn took(&self, length: Duration) {
        self.note(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Histogram<DiskSeconds> {
    pub(crate) fn took(&self, length: Duration) {
        self.note(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Histogram<Rows> {
    pub(crate) fn held(&self, rows: usize) {
        self.note(rows as u64);
    }
}

#[expect(private_bounds, reason = "which buckets there are is this module's affair")]
impl<B: Bounds> Histogram<B> {
    fn note(&self, value: u64) {
        const { assert!(B::BOUNDS.len() < BUCKETS) };
        let shown = value as f64 / B::SCALE as f64;
        let bucket = B::BOUNDS.iter().position(|bound| shown <= *bound).unwrap_or(B::BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How many were observed.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// All of them together, in the unit that they were observed in.
    pub(crate) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// The bounds, each with how many lie at or below it; the last is all of them.
    pub(super) fn rising(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let bounds = B::BOUNDS.iter().copied().map(Some).chain([None]);
        bounds.zip(&self.buckets).scan(0, |below, (bound, bucket)| {
            *below += bucket.load(Ordering::Relaxed);
            Some((bound, *below))
        })
    }

    /// All of them together, in the unit that is shown.
    pub(super) fn shown_sum(&self) -> f64 {
        self.sum() as f64 / B::SCALE as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_at_or_below_each_bound_and_all_in_the_end() {
        let rows = Histogram::<Rows>::default();
        [0, 1, 2, 3, 512, 513, 9999].into_iter().for_each(|held| rows.held(held));
        let rising: Vec<_> = rows.rising().collect();
        assert_eq!(rising[..3], [(Some(1.0), 2), (Some(2.0), 3), (Some(4.0), 4)]);
        assert_eq!(rising[9..], [(Some(512.0), 5), (None, 7)]);
        assert_eq!((rows.count(), rows.sum()), (7, 11030));
        let seconds = Histogram::<Seconds>::default();
        seconds.took(Duration::from_millis(1));
        seconds.took(Duration::from_secs(7200));
        assert_eq!(seconds.rising().next(), Some((Some(0.001), 1)));
        assert_eq!(seconds.rising().last(), Some((None, 2)));
        assert!((seconds.shown_sum() - 7200.001).abs() < 1e-6);
    }
}
