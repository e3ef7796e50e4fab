//! What was asked of a store and what it answered, each with its place in the record of the disk.

use std::collections::{BTreeMap, BTreeSet};

use tcc_core::store::{Row, Write};
use tcc_core::{Gid, Timestamp};

/// What a store answered to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    Won,
    /// Another was there before.
    Lost,
    /// It is not there: the disk is full.
    Refused,
    /// It may be there.
    Unknown,
}

/// A write that was offered.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The write.
    pub write: Write,
    /// How much had happened when it was offered.
    pub offered: usize,
    /// The answer, and how much had happened when it came.
    pub answer: Option<(usize, Answer)>,
}

/// A purge that was asked for.
#[derive(Clone, Debug)]
pub struct Purge {
    /// How much had happened when it was asked for.
    pub asked: usize,
    /// Of what ended before this only the decision is kept.
    pub ended_before: Timestamp,
    /// What ended before this is forgotten.
    pub forget_before: Timestamp,
    /// How much had happened when it was done.
    pub done: Option<usize>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every write.
    pub offers: Vec<Offer>,
    /// Every purge.
    pub purges: Vec<Purge>,
    /// Every answer to a write, in the order they were given.
    pub answers: Vec<Answer>,
}

/// What may be found of one transaction after a cut.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The last write that was acknowledged, if any was.
    pub acked: Option<&'a Row>,
    /// Writes that may be what is there: the one acknowledged last and those after it.
    pub candidates: Vec<&'a Row>,
    /// Writes that were on their way.
    pub in_flight: Vec<&'a Write>,
}

impl History {
    /// What may be found, by gid, if the power was cut after so many events.
    #[must_use]
    pub fn expected(&self, at: usize) -> BTreeMap<Gid, Expected<'_>> {
        let mut expected: BTreeMap<Gid, Expected<'_>> = BTreeMap::new();
        for offer in self.offers.iter().filter(|offer| offer.offered <= at) {
            let row = &offer.write.row;
            let entry = expected.entry(row.gid.clone()).or_insert_with(|| Expected {
                acked: None,
                candidates: Vec::new(),
                in_flight: Vec::new(),
            });
            match offer.answer {
                // What lost or was refused is never there, whenever that was said.
                Some((_, Answer::Lost | Answer::Refused)) => {}
                Some((answered, Answer::Won)) if answered <= at => {
                    entry.candidates.push(row);
                    if entry.acked.is_none_or(|acked| acked.version < row.version) {
                        entry.acked = Some(row);
                    }
                }
                Some((_, Answer::Won | Answer::Unknown)) | None => {
                    entry.candidates.push(row);
                    entry.in_flight.push(&offer.write);
                }
            }
        }
        for entry in expected.values_mut() {
            let least = entry.acked.map_or(0, |acked| acked.version);
            entry.candidates.retain(|row| row.version >= least);
        }
        expected
    }

    /// How often an answer was given.
    #[must_use]
    pub fn count(&self, answer: Answer) -> usize {
        self.answers.iter().filter(|given| **given == answer).count()
    }

    /// Whether a row that ended may have been emptied by then.
    #[must_use]
    pub fn may_be_emptied(&self, row: &Row, at: usize) -> bool {
        let ended = |purge: &Purge| row.ended_at.is_some_and(|ended| ended < purge.ended_before);
        self.purges.iter().any(|purge| purge.asked <= at && ended(purge))
    }

    /// Whether a row that ended may have been forgotten by then.
    #[must_use]
    pub fn may_be_forgotten(&self, row: &Row, at: usize) -> bool {
        let ended = |purge: &Purge| row.ended_at.is_some_and(|ended| ended < purge.forget_before);
        self.purges.iter().any(|purge| purge.asked <= at && ended(purge))
    }

    /// The transactions whose documents must be gone by then: a purge said so.
    #[must_use]
    pub fn must_be_emptied(&self, at: usize) -> BTreeSet<&Gid> {
        let mut gids = BTreeSet::new();
        for purge in &self.purges {
            if purge.done.is_none_or(|done| done > at) {
                continue;
            }
            let purged = |offer: &&Offer| {
                matches!(offer.answer, Some((answered, Answer::Won)) if answered <= purge.asked)
                    && offer.write.row.ended_at.is_some_and(|ended| ended < purge.ended_before)
            };
            gids.extend(self.offers.iter().filter(purged).map(|offer| &offer.write.row.gid));
        }
        gids
    }

    /// Whether a purge was at work after so many events.
    #[must_use]
    pub fn purging(&self, at: usize) -> bool {
        self.purges.iter().any(|purge| purge.asked < at && purge.done.is_none_or(|done| done >= at))
    }
}
