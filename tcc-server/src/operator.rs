//! What an operator asks the coordinator for.

use std::sync::Arc;

use tcc_core::store::{Filter, Page, Row, endpoints};
use tcc_core::wire::TransactionSummary;
use tcc_core::{BranchId, Event, Gid};

use crate::coordinator::{Begun, Coordinator, Error, Known, chain};
use crate::limits;

impl Coordinator {
    /// One page of the transactions that match, in the order they were begun; purged ones are left out. With a
    /// destination, only those that call it. Where the next page starts comes with it, unless this is the last: any other
    /// may be short too, or even empty.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn list(
        &self,
        filter: &Filter,
        destination: Option<&str>,
        page: Page,
    ) -> Result<(Vec<TransactionSummary>, Option<u64>), Error> {
        let Some(destination) = destination else {
            let listing = self.store.list(filter, page).await?;
            let next = listing.next;
            return Ok((
                self.read(listing.rows, None).await.into_iter().map(|(_, read)| read).collect(),
                next,
            ));
        };
        let (mut found, mut looked_at) = (Vec::new(), 0);
        let mut part = Page { after: page.after, size: limits::LONGEST_LIST_PAGE };
        loop {
            let listing = self.store.list(filter, part.clone()).await?;
            let rows = listing.rows.len();
            let mut read = self.read(listing.rows, Some(destination)).await;
            // More than fit: the part is read again, so that it ends before the first that does not.
            if let Some((place, _)) = read.get(page.size - found.len()) {
                part.size = *place;
                continue;
            }
            looked_at += rows;
            found.extend(read.drain(..).map(|(_, read)| read));
            if found.len() >= page.size || looked_at >= limits::LIST_LOOKED_AT || listing.next.is_none() {
                return Ok((found, listing.next));
            }
            part = Page { after: listing.next, size: limits::LONGEST_LIST_PAGE };
        }
    }

    /// What rows say, each with its place among them; with a destination, only those that call it.
    async fn read(&self, rows: Vec<Row>, destination: Option<&str>) -> Vec<(usize, TransactionSummary)> {
        let (now, transports) = (self.now(), self.transports.clone());
        let destination = destination.map(str::to_owned);
        let calls = move |row: &Row| {
            let of = |destination: &String| {
                endpoints(row).iter().any(|at| transports.destination(at) == *destination)
            };
            destination.as_ref().is_none_or(of)
        };
        // Each document is read whole, which for large ones is too much work for a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || {
            let rows = rows.iter().enumerate().filter(|(_, row)| calls(row));
            rows.map(|(place, row)| (place, TransactionSummary::of(row, now))).collect()
        });
        read.await.expect("what cannot be read is told of, not panicked about")
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

    /// Takes note of what calls for a human: it does so no more until something else does. Nothing is called otherwise
    /// for it. The reason is logged and kept in the transaction's history.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    pub async fn acknowledge(self: &Arc<Self>, gid: &Gid, reason: String) -> Result<Known, Error> {
        let known = self.change(gid, Event::Acknowledge { reason: reason.clone() }).await?;
        tracing::info!(%gid, %reason, phase = known.phase().as_str(), "what called for a human is acknowledged");
        Ok(known)
    }

    /// Begins a transaction that does anew what another gave up, whose parent that is. Again with the same gid, it begins
    /// nothing and tells what became of it.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    pub async fn resend(self: &Arc<Self>, gid: &Gid, under: Gid) -> Result<Begun, Error> {
        let known = self.get(gid).await?;
        let nothing = Error::NothingGivenUp(known.phase());
        let begin = match known {
            Known::Stored(stored) => stored.transaction().given_up(under.clone()),
            Known::Purged(..) => None,
        };
        let begun = self.begin(begin.ok_or(nothing)?).await?;
        // Somebody has looked. Repeated, it is acknowledged again, which changes nothing.
        self.acknowledge(gid, format!("done anew by {under}")).await?;
        tracing::info!(%gid, begun = matches!(begun, Begun::New(_)), "what was given up is done anew");
        Ok(begun)
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
