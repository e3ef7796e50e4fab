//! What a world is made of: everything here is drawn from the seed, or switched off by whoever shrinks a story.

use std::time::Duration;

use crate::fault::Fault;
use crate::service::SERVICES;

/// What of the environment is broken on purpose, to prove that the simulator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The participants' databases forget the tombstone of a cancelled branch.
    TombstoneDropped,
    /// They commit business rows and leave the guard row out.
    GuardApart,
    /// They say that a commit succeeded which they dropped.
    LocalCommitLost,
    /// The store says won to a writer that lost.
    LostAsWon,
    /// The store loses an acknowledged write.
    AckedWriteLost,
    /// The store tells of a decision and forgets it.
    DecisionForgotten,
    /// The transport reports a time-out as a refusal.
    TimeoutAsRefusal,
    /// The transport reports a time-out as success.
    TimeoutAsDone,
    /// The check answers yes while the local transaction is open.
    CheckGuesses,
    /// A guard forgets its rows by the watermark, and the mark as well.
    MarkForgotten,
    /// Claims are lost and nothing is ever due again.
    NothingDue,
    /// A participant that begins a transaction of its own does not wait for its tries.
    NestedGuesses,
    /// The same participant confirms its own transaction when it is told to cancel.
    NestedTurned,
}

impl Break {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::TombstoneDropped,
        Self::GuardApart,
        Self::LocalCommitLost,
        Self::LostAsWon,
        Self::AckedWriteLost,
        Self::DecisionForgotten,
        Self::TimeoutAsRefusal,
        Self::TimeoutAsDone,
        Self::CheckGuesses,
        Self::MarkForgotten,
        Self::NothingDue,
        Self::NestedGuesses,
        Self::NestedTurned,
    ];

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| format!("{known:?}").eq_ignore_ascii_case(name))
    }
}

/// How long after one leap of the clock the next one comes, in a world that forgets soon: longer than any begin is on
/// its way to the store.
pub(crate) const LEAP_EVERY: Duration = Duration::from_secs(65);

/// What to run in one world.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// What everything is drawn from.
    pub(crate) seed: u64,
    /// Which of the transactions drawn from the seed take place.
    pub(crate) cases: Vec<usize>,
    /// Faults that are switched off.
    pub(crate) without: Vec<Fault>,
    /// What is broken on purpose.
    pub(crate) broken: Option<Break>,
}

/// What the seed made of a world.
#[derive(Clone, Debug)]
pub(crate) struct Nature {
    /// How many coordinators there are over the one store.
    pub(crate) nodes: usize,
    /// How long initiators begin transactions.
    pub(crate) busy: Duration,
    /// How long after that faults go on.
    pub(crate) stormy: Duration,
    /// The odds of each fault in a million; for one with a moment of its own whether it comes about (1) or not (0).
    pub(crate) odds: Vec<u32>,
    /// How often the world looks for trouble to make.
    pub(crate) trouble_every: Duration,
    /// How long an ended transaction is kept whole.
    pub(crate) retention: Duration,
    /// Calls in flight to one participant.
    pub(crate) per_destination: usize,
    /// Whether commits are grouped.
    pub(crate) grouped: bool,
    /// A participant that hangs until faults stop, in a world without other faults.
    pub(crate) hung: Option<usize>,
    /// The longest a request stays in the network.
    pub(crate) longest_delay: Duration,
}

impl Nature {
    /// Draws one. Faults come in swarms: most worlds know only some of them, so that each meets the others seldom
    /// and often. (Source: Groce et al., *Swarm Testing*, ISSTA 2012.)
    pub(crate) fn draw(setup: &Setup) -> Self {
        let mut dice = fastrand::Rng::with_seed(setup.seed ^ 0x6e61_7475_7265);
        let calm = dice.u32(0..20) == 0;
        let odds = Fault::ALL.iter().map(|fault| {
            let swarm = dice.u32(0..10);
            let base = fault.odds();
            if calm || setup.without.contains(fault) {
                return 0;
            }
            match swarm {
                _ if setup.broken == Some(Break::MarkForgotten) && fault.is_late() => base * 4,
                0..4 => 0,
                _ if base == 0 => 1,
                4..8 => base,
                _ => base * 4,
            }
        });
        let odds: Vec<u32> = odds.collect();
        // In some worlds what has ended is forgotten soon, and the clock takes leaps, so that guards forget as well.
        let forgetful = dice.u32(0..3) == 0 || setup.broken == Some(Break::MarkForgotten);
        let (retention, longer) = match forgetful {
            true => (Duration::from_secs(60), LEAP_EVERY),
            false => (Duration::from_secs(7 * 24 * 3600), Duration::ZERO),
        };
        Self {
            nodes: [1, 2, 2, 3][dice.usize(0..4)],
            busy: Duration::from_secs(dice.u64(10..60)),
            stormy: longer + Duration::from_secs(dice.u64(20..90)),
            odds,
            trouble_every: Duration::from_millis(dice.u64(1_500..9_000)),
            retention,
            per_destination: if dice.u32(0..4) == 0 { 2 } else { 64 },
            grouped: dice.u32(0..3) == 0,
            hung: (calm && dice.bool()).then(|| dice.usize(0..SERVICES)),
            longest_delay: Duration::from_secs(90),
        }
    }

    /// Whether the store can always be read, and takes every write: a process then forgets nothing that it learned.
    pub(crate) fn reads_and_writes(&self) -> bool {
        let faults = [Fault::StoreUnavailable, Fault::StoreUnstorable, Fault::StoreCut];
        faults.iter().all(|fault| self.odds[*fault as usize] == 0)
    }

    /// Whether what has ended is forgotten soon. There the clock leaps by less than the watermark's lag at a time, and
    /// no node is paused for long: a begin that is on its way to the store for longer than the lag could be behind the
    /// watermark when it is stored, which is outside of what is promised.
    pub(crate) fn forgets_soon(&self) -> bool {
        self.retention < Duration::from_secs(3600)
    }
}
