//! Commits that are made together: what each of them asked for, and who waits for it.

use std::sync::Arc;

use tcc_core::store::{BoxError, Unknown, Write, Written};
use tokio::sync::oneshot;

use crate::limits;

/// Whom to tell what became of a commit.
pub(super) type Answer = oneshot::Sender<Result<Vec<Written>, Unknown>>;

/// Several commits that become one.
#[derive(Default)]
pub(super) struct Group {
    writes: Vec<Write>,
    bytes: usize,
    /// Who waits, and for how many of the writes.
    answers: Vec<(usize, Answer)>,
}

impl Group {
    pub(super) fn add(&mut self, batch: Vec<Write>, answer: Answer) {
        self.bytes += bytes(&batch);
        self.answers.push((batch.len(), answer));
        self.writes.extend(batch);
    }

    /// Whether it stays within what one commit should hold.
    pub(super) fn has_room_for(&self, batch: &[Write]) -> bool {
        self.writes.len() + batch.len() <= limits::COMMIT_WRITES
            && self.bytes + bytes(batch) <= limits::COMMIT_BYTES
    }

    /// What is to be written, once.
    pub(super) fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// Tells each what became of its own writes. Whoever waited may have gone; the writes were made all the same.
    pub(super) fn tell(self, results: Result<Vec<Written>, Unknown>) {
        let expected: usize = self.answers.iter().map(|(count, _)| count).sum();
        let results = match results {
            Ok(results) if results.len() == expected => Ok(results),
            Ok(results) => {
                Err(Unknown(format!("the store gave {} results for {expected} writes", results.len()).into()))
            }
            Err(unknown) => Err(unknown),
        };
        match results {
            Ok(results) => {
                let mut results = results.into_iter();
                for (count, answer) in self.answers {
                    let _ = answer.send(Ok(results.by_ref().take(count).collect()));
                }
            }
            Err(Unknown(cause)) => {
                let cause = Arc::new(cause);
                for (_, answer) in self.answers {
                    let _ = answer.send(Err(Unknown(Box::new(Shared(Arc::clone(&cause))))));
                }
            }
        }
    }
}

fn bytes(batch: &[Write]) -> usize {
    batch.iter().map(|write| write.row.document.len()).sum()
}

/// One cause, told to everyone in the group.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Shared(Arc<BoxError>);
