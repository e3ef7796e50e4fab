//! A simplification of the model, held against the core: a fact that changed nothing need not be kept.
//!
//! The real driver keeps every fact until its next save, to apply it again where another writer was first. The model
//! forgets those that say "done" or "refused" and changed nothing when they were applied, or the lists would grow as
//! long as other nodes win. So it writes down what was forgotten, after which other facts, and what the store held
//! then; and asks, once all writes are known, whether it would have changed anything on whatever replaced that.

use crate::document::{Clock, Doc, Documents, Made};
use crate::mixer::QuickSet;
use crate::model::Broken;
use crate::world::{FACTS, Fact};

/// What was forgotten, and every write.
#[derive(Default)]
pub(crate) struct Forgotten {
    facts: QuickSet<(Doc, [Fact; FACTS], Fact)>,
    writes: QuickSet<(Doc, Doc)>,
}

impl Forgotten {
    /// A fact was forgotten while the store held this row.
    pub(crate) fn fact(&mut self, row: Doc, before: &[Fact], fact: Fact) {
        let mut kept = [Fact::default(); FACTS];
        kept[..before.len()].copy_from_slice(before);
        self.facts.insert((row, kept, fact));
    }

    /// A row replaced another.
    pub(crate) fn write(&mut self, before: Doc, after: Doc) {
        self.writes.insert((before, after));
    }

    /// Whether any of it mattered.
    pub(crate) fn check(&self, documents: &mut Documents) -> Result<(), Broken> {
        for (row, kept, fact) in &self.facts {
            for later in self.after(*row) {
                if matters(documents, later, kept, *fact) {
                    let phase = documents.view(later).phase;
                    return Broken::new(
                        "the model",
                        format!("{fact:?} was forgotten and matters in {phase:?}"),
                    );
                }
            }
        }
        Ok(())
    }

    /// Everything that may have replaced a row.
    fn after(&self, row: Doc) -> Vec<Doc> {
        let mut found: Vec<Doc> = Vec::new();
        let mut left = vec![row];
        while let Some(row) = left.pop() {
            for (_, after) in self.writes.iter().filter(|(before, _)| *before == row) {
                if !found.contains(after) {
                    found.push(*after);
                    left.push(*after);
                }
            }
        }
        found
    }
}

/// Whether a fact, applied after others, changes anything. That an undecided transaction may meet its deadline at any
/// such moment is no matter of the fact.
fn matters(documents: &mut Documents, mut doc: Doc, kept: &[Fact], fact: Fact) -> bool {
    for before in kept.iter().filter(|before| **before != Fact::default()) {
        let clock = documents.view(doc).clock(false);
        doc = match documents.learn(doc, *before, clock) {
            Made::Changed(saving) => saving.doc,
            Made::Kept(doc) => doc,
            Made::Rejected(_) => return true,
        };
    }
    let clock = documents.view(doc).clock(false);
    debug_assert!(clock == Clock::Early || documents.view(doc).decision().is_some());
    !matches!(documents.learn(doc, fact, clock), Made::Kept(after) if after == doc)
}
