//! A local transaction of the application's own, run again after each conflict.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tcc_core::limits::CALL_TIMEOUT;
use tokio::time::{sleep, timeout};

use crate::guard::{backoff, rollback};
use crate::limits::{BEGIN, FINISH, RUNS};
use crate::{BoxError, Commit, Database, Trouble};

/// What a local transaction does.
pub type Local<'t, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 't>>;

/// Why a local transaction came to nothing, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// It failed and was rolled back.
    #[error("the local transaction failed")]
    Failed(#[source] BoxError),
    /// Whether it committed is not known.
    #[error("whether the local transaction committed is not known")]
    Unknown(#[source] Option<BoxError>),
}

/// How a local transaction is to end.
pub(crate) enum End<T> {
    Commit(T),
    Rollback(T),
    /// What was in the way is gone: another transaction rolled back in between.
    Again,
}

/// Runs a local transaction, again after each conflict, a bounded number of times.
pub(crate) async fn run<D, T, F>(database: &D, work: F) -> Result<T, LocalError>
where
    D: Database,
    T: Send + 'static,
    F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, End<T>> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let mut runs = 1;
    loop {
        let unit = unit::<D, T, F>(database.clone(), work.clone());
        let error = match database.run(unit).await.unwrap_or_else(|error| Err(LocalError::Failed(error))) {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "it met a concurrent transaction again and again".into(),
            Err(LocalError::Failed(error)) if D::trouble(&error) == Trouble::Conflict => error,
            Err(error) => return Err(error),
        };
        if runs == RUNS {
            return Err(LocalError::Failed(error));
        }
        sleep(backoff(runs)).await;
        runs += 1;
    }
}

/// Runs what commits whenever it succeeds.
pub(crate) async fn commit<D, T, F>(database: &D, work: F) -> Result<T, LocalError>
where
    D: Database,
    T: Send + 'static,
    F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, T> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    run(database, move |tx| {
        let work = work.clone();
        Box::pin(async move { Ok(End::Commit(work(tx).await?)) })
    })
    .await
}

/// One local transaction, from begin to end. `None`: it is to be run again.
async fn unit<D, T, F>(database: D, work: Arc<F>) -> Result<Option<T>, LocalError>
where
    D: Database,
    F: for<'t> Fn(&'t mut D::Tx) -> Local<'t, End<T>>,
{
    let begun = timeout(BEGIN, database.begin()).await;
    let begun = begun.map_err(|_| LocalError::Failed("it could not be begun in time".into()))?;
    let mut tx = begun.map_err(LocalError::Failed)?;
    // Cut off, it is dropped and not rolled back: what it waits for may be the connection itself.
    let worked = timeout(CALL_TIMEOUT, work(&mut tx)).await;
    match worked.map_err(|_| LocalError::Failed("it took too long".into()))? {
        Ok(End::Commit(value)) => match timeout(FINISH, D::commit(tx)).await {
            Ok(Ok(Commit::Committed)) => Ok(Some(value)),
            Ok(Ok(Commit::Conflict)) => Ok(None),
            Ok(Ok(Commit::Refused(why))) => Err(LocalError::Failed(why.into())),
            Ok(Err(error)) => Err(LocalError::Unknown(Some(error))),
            Err(_) => Err(LocalError::Unknown(None)),
        },
        Ok(End::Rollback(value)) => {
            rollback::<D>(tx).await;
            Ok(Some(value))
        }
        Ok(End::Again) => {
            rollback::<D>(tx).await;
            Ok(None)
        }
        Err(error) => {
            rollback::<D>(tx).await;
            Err(LocalError::Failed(error))
        }
    }
}
