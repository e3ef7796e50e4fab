//! The store as one process sees it: everything that can befall a write or a read on its way there and back.

use std::time::Duration;

use tcc_core::store::{
    BoxFuture, Claimed, Counts, Filter, Listing, Page, Refusal, Row, Store, Unavailable, Unknown, Write,
    Written,
};
use tcc_core::{Gid, Timestamp};
use tokio::time::sleep;

use crate::fault::{Fault, Rare};
use crate::log::Who;
use crate::node::Life;
use crate::setup::Break;

/// One process's way to the store.
pub(crate) struct SimStore {
    pub(crate) life: Life,
}

impl SimStore {
    /// Goes to the store, which takes its time.
    async fn travel(&self) {
        let wait = self.life.world.dice(|dice| [0, 0, 0, 1, 2, 5][dice.usize(0..6)]);
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        self.life.gate().await;
    }

    async fn read(&self) -> Result<(), Unavailable> {
        self.travel().await;
        if self.life.is_cut_from_store() {
            sleep(Duration::from_secs(2)).await;
            self.life.gate().await;
            return Err(Unavailable("no way to the store".into()));
        }
        if self.life.world.strikes(Fault::StoreUnavailable) {
            return Err(Unavailable("the store cannot be read".into()));
        }
        Ok(())
    }

    fn apply(&self, batch: Vec<Write>) -> Vec<Written> {
        let world = &self.life.world;
        if batch.len() > 1 {
            world.saw(Rare::GroupCommit);
        }
        let one = |write: Write| {
            if world.strikes(Fault::StoreUnstorable) {
                return Written::Refused(Refusal::Unstorable("not today".into()));
            }
            world.disk.apply(world, self.life.node, write)
        };
        batch.into_iter().map(one).collect()
    }

    /// Some of the writes become durable, or all, or none.
    fn apply_some(&self, batch: Vec<Write>) {
        let world = &self.life.world;
        let all = world.dice(|dice| dice.bool());
        let some = batch.into_iter().filter(|_| all || world.dice(|dice| dice.bool())).collect();
        self.apply(some);
    }

    /// How a commit comes out that does not come out well.
    async fn misfortune(&self, batch: &[Write]) -> Option<Result<Vec<Written>, Unknown>> {
        let (life, world) = (&self.life, &self.life.world);
        let unknown = || Some(Err(Unknown("the commit was not answered".into())));
        if life.is_cut_from_store() {
            if world.dice(|dice| dice.u32(0..4) == 0) {
                self.apply_some(batch.to_vec());
            }
            sleep(Duration::from_secs(3)).await;
            return unknown();
        }
        if world.disk.is_full() {
            return Some(Ok(batch.iter().map(|_| Written::Refused(Refusal::Full)).collect()));
        }
        if world.strikes(Fault::StoreUnknownNotWritten) {
            return unknown();
        }
        if world.strikes(Fault::StoreUnknownWritten) {
            self.apply_some(batch.to_vec());
            return unknown();
        }
        if world.strikes(Fault::StoreUnknownLate) {
            let (late, batch) = (Self { life: life.clone() }, batch.to_vec());
            tokio::spawn(async move {
                sleep(late.life.world.millis(10..20_000)).await;
                late.apply(batch);
            });
            return unknown();
        }
        None
    }
}

impl Store for SimStore {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        Box::pin(async move {
            let (life, world) = (&self.life, &self.life.world);
            life.gate().await;
            if world.strikes(Fault::NodeCrashBeforeCommit) {
                life.crash("crashes before a commit").await;
            }
            if world.strikes(Fault::NodeCrashInCommit) {
                let (late, batch) = (Self { life: life.clone() }, batch.clone());
                tokio::spawn(async move {
                    sleep(late.life.world.millis(0..50)).await;
                    late.apply_some(batch);
                });
                life.crash("crashes with a commit on its way").await;
            }
            self.travel().await;
            if world.strikes(Fault::StoreSlow) {
                sleep(world.millis(50..20_000)).await;
                life.gate().await;
            }
            if let Some(result) = self.misfortune(&batch).await {
                world.note(Who::Node(life.node), None, "commit", || format!("{result:?}"));
                life.gate().await;
                return result;
            }
            let written = self.apply(batch);
            if world.strikes(Fault::NodeCrashAfterCommit) {
                life.crash("crashes after a commit").await;
            }
            self.travel().await;
            Ok(written)
        })
    }

    fn load<'a>(&'a self, gid: &'a Gid) -> BoxFuture<'a, Result<Option<Row>, Unavailable>> {
        Box::pin(async move {
            self.read().await?;
            let row = self.life.world.disk.inner.load(gid).await;
            self.travel().await;
            row
        })
    }

    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        Box::pin(async move {
            self.read().await?;
            self.life.world.disk.inner.list(filter, page).await
        })
    }

    fn claim(&self, lease: Duration, limit: usize) -> BoxFuture<'_, Result<Claimed, Unavailable>> {
        Box::pin(async move {
            self.read().await?;
            if self.life.world.breaks(Break::NothingDue) {
                return Ok(Claimed::default());
            }
            let claimed = self.life.world.disk.inner.claim(lease, limit).await;
            self.life.gate().await;
            claimed
        })
    }

    fn claim_parked<'a>(
        &'a self,
        destination: &'a str,
        lease: Duration,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, Unavailable>> {
        Box::pin(async move {
            self.read().await?;
            if self.life.world.breaks(Break::NothingDue) {
                return Ok(Vec::new());
            }
            let claimed = self.life.world.disk.inner.claim_parked(destination, lease, limit).await;
            if claimed.as_ref().is_ok_and(|claimed| !claimed.is_empty()) {
                self.life.world.saw(Rare::Parked);
            }
            self.life.gate().await;
            claimed
        })
    }

    fn parked_at(&self, limit: usize) -> BoxFuture<'_, Result<Vec<String>, Unavailable>> {
        Box::pin(async move {
            self.read().await?;
            self.life.world.disk.inner.parked_at(limit).await
        })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, Unavailable>> {
        Box::pin(async move {
            self.read().await?;
            self.life.world.disk.inner.counts().await
        })
    }

    fn purge(
        &self,
        ended_before: Timestamp,
        forget_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>> {
        Box::pin(async move {
            self.read().await?;
            let touched = self.life.world.disk.inner.purge(ended_before, forget_before, limit).await;
            if touched.as_ref().is_ok_and(|touched| *touched > 0) {
                self.life.world.saw(Rare::Purged);
            }
            touched
        })
    }

    fn now(&self) -> Timestamp {
        self.life.world.disk.look_at_clock()
    }
}
