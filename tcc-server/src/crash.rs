//! Crash points: named places around every durable write where a test ends the process, as a power cut would.
//!
//! The places are the [`Site`]s. `TCC_CRASH_AT=decision:before` ends it before the first decision is written,
//! `TCC_CRASH_AT=end:after:3` right after the third end was. Compiled in by the feature `crash-points` alone.

use tcc_core::store::Step;

/// A durable write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// One that is a step of a transaction.
    Step(Step),
    /// The purge of what ended long ago.
    Purge,
}

impl Site {
    /// All of them: tests end the process at each.
    pub const ALL: [Self; 5] = [
        Self::Step(Step::Begin),
        Self::Step(Step::Progress),
        Self::Step(Step::Decision),
        Self::Step(Step::End),
        Self::Purge,
    ];

    /// The word for it in `TCC_CRASH_AT`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Step(Step::Begin) => "begin",
            Self::Step(Step::Decision) => "decision",
            Self::Step(Step::End) => "end",
            Self::Step(Step::Progress) => "progress",
            Self::Purge => "purge",
        }
    }
}

/// Before or after the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is written yet.
    Before,
    /// It is durable, and nobody knows.
    After,
}

/// Ends the process here if it was told to.
#[cfg(feature = "crash-points")]
pub(crate) fn point(site: Site, moment: Moment) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static AT: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);

    let at = AT.get_or_init(|| {
        let told = std::env::var("TCC_CRASH_AT").ok()?;
        let mut parts = told.splitn(3, ':');
        let place = format!("{}:{}", parts.next()?, parts.next()?);
        Some((place, parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1)))
    });
    let Some((place, nth)) = at else { return };
    let moment = match moment {
        Moment::Before => "before",
        Moment::After => "after",
    };
    if *place == format!("{}:{moment}", site.word()) && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        // No destructor runs and nothing is flushed: what is not durable by now is gone.
        std::process::abort();
    }
}

/// Does nothing: crash points are not compiled in.
#[cfg(not(feature = "crash-points"))]
pub(crate) const fn point(_: Site, _: Moment) {}
