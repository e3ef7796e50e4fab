//! What an operator asks the coordinator for.

use tcc_core::store::{Filter, Page};
use tcc_core::wire::TransactionSummary;

use crate::coordinator::{Coordinator, Error};

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
}
