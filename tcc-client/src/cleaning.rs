//! Deletes the guard rows of transactions that ended long ago, by the coordinator's mark `Tcc-Settled`.
//!
//! Every transaction begun before the mark has ended, so nobody needs its rows any more, except a try that is still
//! on its way: it would find no row and take itself for the first. Such a try was sent with an older mark or none.
//! Hence the mark is kept in the participant's database, in the local transaction that deletes, and a try that has
//! inserted its row reads it there, in a statement of its own, and stops if it began before: where its row was
//! missing because it was deleted, what deleted it has committed the mark too.

use std::sync::Arc;

use tcc_core::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout};

use crate::guard::Guarded;
use crate::limits::{CLEANING_BATCH, CLEANING_PAUSE, CLEANING_REST, FINISH};
use crate::{BoxError, Call, Commit, Database, Participant, Trouble};

/// When a participant cleans up. Locked while it does, so once at a time.
pub(crate) struct Cleaning(Arc<Mutex<Rest>>);

struct Rest {
    until: Instant,
    /// The mark by which everything is clean already.
    done: Option<Timestamp>,
}

impl Cleaning {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Rest { until: Instant::now() + CLEANING_REST, done: None })))
    }

    /// The mark of this call, if it is time to clean up by it.
    fn due(&self, call: &Call) -> Option<(Timestamp, OwnedMutexGuard<Rest>)> {
        // A call from before its own mark is late, or somebody's mistake. Whoever is on time spreads the mark.
        let settled = call.settled.filter(|_| !call.is_settled())?;
        let mut rest = self.0.clone().try_lock_owned().ok()?;
        let now = Instant::now();
        if now < rest.until || rest.done >= Some(settled) {
            return None;
        }
        rest.until = now + CLEANING_REST;
        Some((settled, rest))
    }
}

impl<P: Participant> Guarded<P> {
    /// Cleans up now and then, in a task of its own: no call waits for it, or fails with it.
    pub(crate) fn clean_up_after(self: Arc<Self>, call: &Call) {
        let Some((settled, mut rest)) = self.cleaning.due(call) else { return };
        tokio::spawn(async move {
            match self.clean_up(settled).await {
                Ok(()) => rest.done = Some(settled),
                Err(error) => match P::Database::trouble(&error) {
                    Trouble::Conflict | Trouble::Locked => {
                        tracing::debug!("old guard rows wait for another time")
                    }
                    Trouble::Other => {
                        let error = &*error as &dyn std::error::Error;
                        tracing::warn!(error, "old guard rows could not be deleted");
                    }
                },
            }
        });
    }

    /// In batches, until one is short: the rows before a mark only grow fewer.
    async fn clean_up(self: Arc<Self>, settled: Timestamp) -> Result<(), BoxError> {
        while self.database.run(batch(self.database.clone(), settled)).await?? == CLEANING_BATCH {
            sleep(CLEANING_PAUSE).await;
        }
        Ok(())
    }
}

/// Who only sends is called by nobody, and so cleans up by the mark that comes with a begin: a batch now and then, in a task
/// of its own. By chance, so that nothing has to be remembered of the databases that one client sends from.
#[cfg(feature = "initiator")]
pub(crate) fn clean_up_now_and_then<D: Database>(database: &D, settled: Option<Timestamp>) {
    let Some(settled) = settled.filter(|_| fastrand::u32(..crate::limits::CLEANING_SENDS) == 0) else {
        return;
    };
    let database = database.clone();
    tokio::spawn(async move {
        let done = database.run(batch(database.clone(), settled)).await;
        if let Err(error) = done.and_then(|done| done) {
            let error = &*error as &dyn std::error::Error;
            tracing::debug!(error, "old rows of messages wait for another time");
        }
    });
}

async fn batch<D: Database>(database: D, settled: Timestamp) -> Result<u32, BoxError> {
    let mut tx = timeout(FINISH, database.begin()).await??;
    match timeout(FINISH, D::forget(&mut tx, settled, CLEANING_BATCH)).await? {
        Ok(forgotten) => match timeout(FINISH, D::commit(tx)).await?? {
            Commit::Committed => Ok(forgotten),
            Commit::Conflict | Commit::Refused(_) => Err("met a concurrent transaction".into()),
        },
        Err(error) => {
            drop(timeout(FINISH, D::rollback(tx)).await);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tcc_core::protocol;
    use tokio::time::advance;

    use super::*;

    fn call(begun: i64, settled: Option<i64>) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert(protocol::GID, "order/7".parse().unwrap());
        headers.insert(protocol::BRANCH, "payment".parse().unwrap());
        headers.insert(protocol::OPERATION, "try".parse().unwrap());
        headers.insert(protocol::BEGUN, begun.into());
        if let Some(settled) = settled {
            headers.insert(protocol::SETTLED, settled.into());
        }
        Call::from_headers(&headers).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_time_once_a_while_for_a_newer_mark_that_a_call_on_time_brings() {
        let cleaning = Cleaning::new();
        let due = |call: &Call| cleaning.due(call).map(|(settled, _)| settled.as_millis());
        assert_eq!(due(&call(20, Some(10))), None, "so soon");
        advance(CLEANING_REST).await;
        assert_eq!(due(&call(20, None)), None);
        assert_eq!(due(&call(20, Some(21))), None, "it is late itself");
        let (settled, mut rest) = cleaning.due(&call(20, Some(20))).unwrap();
        advance(CLEANING_REST).await;
        assert_eq!(due(&call(40, Some(30))), None, "one at a time");
        rest.done = Some(settled);
        drop(rest);
        assert_eq!(due(&call(20, Some(20))), None, "done");
        assert_eq!(due(&call(40, Some(30))), Some(30));
        assert_eq!(due(&call(50, Some(40))), None, "so soon");
        advance(CLEANING_REST).await;
        assert_eq!(due(&call(40, Some(30))), Some(30), "it failed");
    }
}
