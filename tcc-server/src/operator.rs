//! What an operator asks the coordinator for.

use std::sync::Arc;

use tcc_core::store::{Filter, Page};
use tcc_core::wire::TransactionSummary;
use tcc_core::{BranchId, Event, Gid};

use crate::coordinator::{Coordinator, Error, Known, chain};

impl Coordinator {
    /// One page of the transactions that match, in the order they were begun; purged ones are left out. Where the next
    /// page starts comes with it, unless this is the last: any other may be short too, or even empty.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn list(
        &self,
        filter: &Filter,
        page: Page,
    ) -> Result<(Vec<TransactionSummary>, Option<u64>), Error> {
        let listing = self.store.list(filter, page).await?;
        let now = self.now();
        // Each document is read whole, which for large ones is too much work for a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || {
            listing.rows.iter().map(|row| TransactionSummary::of(row, now)).collect()
        });
        Ok((read.await.expect("what cannot be read is told of, not panicked about"), listing.next))
    }

    /// Has everything that is due later called now: what waits for its next attempt, was held back at first, or is parked
    /// at a destination. It changes neither how often a branch was called nor what a destination takes: where that is
    /// shut, the transaction is parked again.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    pub async fn retry(self: &Arc<Self>, gid: &Gid) -> Result<Known, Error> {
        let known = self.change(gid, Event::Retry).await?;
        tracing::info!(%gid, phase = known.phase().as_str(), "what is due later is called now");
        Ok(known)
    }

    /// Ends a branch that cannot be ended otherwise, once its transaction is decided: it is called no more, and nobody
    /// but whoever gives the reason knows what became of it. One that has ended is left as it is. Each request is
    /// logged with its outcome, and the reason is kept with the branch.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    pub async fn force(
        self: &Arc<Self>,
        gid: &Gid,
        branch: BranchId,
        reason: String,
    ) -> Result<Known, Error> {
        let event = Event::Force { branch: branch.clone(), reason: reason.clone() };
        let known = self.change(gid, event).await;
        match &known {
            Ok(known) => {
                let phase = known.phase().as_str();
                tracing::warn!(%gid, %branch, %reason, phase, "a branch was forced, or had ended before");
            }
            Err(error) => {
                let error = chain(error);
                tracing::warn!(%gid, %branch, %reason, error, "a branch was to be forced");
            }
        }
        known
    }
}
