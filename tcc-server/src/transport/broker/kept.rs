//! Connections that are made once for all who need them, and anew once they are not open any more.

use std::sync::{Arc, Mutex};

use foldhash::HashMap;
use futures_util::FutureExt;
use futures_util::future::Shared;
use tcc_core::answer::{Answer, Failure};
use tcc_core::store::BoxFuture;
use tokio::time::timeout;

use crate::limits;

/// Connections, by what they are to.
pub(super) struct Kept<T>(Mutex<HashMap<String, Opening<T>>>);

/// One that is being made, was made, or could not be.
pub(super) type Opening<T> = Shared<BoxFuture<'static, Result<Arc<T>, Answer>>>;

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// The connection to something; the same for all who need it.
    pub(super) fn get<F>(
        &self,
        to: &str,
        is_open: impl Fn(&T) -> bool,
        open: impl FnOnce() -> F,
    ) -> Opening<T>
    where
        F: Future<Output = Result<T, Answer>> + Send + 'static,
    {
        let mut kept = self.0.lock().expect("no code under this lock can panic");
        if let Some(opening) = kept.get(to) {
            match opening.peek() {
                None => return opening.clone(),
                Some(Ok(made)) if is_open(made) => return opening.clone(),
                Some(Ok(_) | Err(_)) => {}
            }
        }
        if kept.len() >= limits::BROKER_CONNECTIONS {
            kept.clear();
        }
        // In a task of its own: whoever asked first may not wait to its end.
        let opened = tokio::spawn(timeout(limits::BROKER_CONNECT, open()));
        let opened: BoxFuture<'static, _> = Box::pin(async move {
            let in_time = opened.await.map_err(|_| Answer::None(Failure::Other))?;
            in_time.unwrap_or(Err(Answer::None(Failure::TimedOut))).map(Arc::new)
        });
        let opening = opened.shared();
        kept.insert(to.to_owned(), opening.clone());
        opening
    }

    /// Has the next who needs it make another one. Others that wait for an answer over this one go on waiting.
    pub(super) fn forget(&self, to: &str, broken: &Arc<T>) {
        let mut kept = self.0.lock().expect("no code under this lock can panic");
        let same =
            |opening: &Opening<T>| matches!(opening.peek(), Some(Ok(made)) if Arc::ptr_eq(made, broken));
        if kept.get(to).is_some_and(same) {
            kept.remove(to);
        }
    }
}
