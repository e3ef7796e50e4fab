//! The guard: which calls reach the participant's methods, and what the others are answered.
//!
//! | row \ call | try | confirm | cancel |
//! |---|---|---|---|
//! | none | **run**, `tried` or `refused` | alarm `not-tried` | `cancelled` (empty cancel) |
//! | none, settled | `refused` | alarm `not-tried` | `cancelled` |
//! | `tried` | done, same reply | **run**, `confirmed` | **run**, `cancelled` |
//! | `refused` | refused, same reason | alarm `not-tried` | done |
//! | `confirmed` | done, same reply | done | alarm `already-confirmed` |
//! | `cancelled` | refused | alarm `already-cancelled` | done |
//!
//! *Settled* is a transaction that began before the mark `Tcc-Settled` which the call brings or the database keeps.
//!
//! Each cell is one local transaction (a refusal is two). Try and cancel **insert first**: whoever loses the race
//! for the key waits for the winner and then reads what it left, so that the two can never both find nothing.
//! Reading first and inserting after would let them, and two readers that both want to write deadlock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tcc_core::Operation;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answer::{Alarm, Answer, Unknown};
use crate::cleaning::Cleaning;
use crate::limits::{FINISH, FIRST_BACKOFF, RUNS};
use crate::local::End;
use crate::{BoxError, Call, Commit, Database, Participant, Row, Tried, Trouble};

/// A participant behind its guard.
pub(crate) struct Guarded<P: Participant> {
    pub(crate) participant: P,
    pub(crate) database: P::Database,
    pub(crate) cleaning: Cleaning,
}

/// Why a try is refused that comes when its transaction is over.
const ENDED: &str = "the transaction has ended long ago";

/// What a unit wants done with its local transaction, and what then is answered.
enum Step {
    Commit(Answer),
    Rollback(Answer),
    /// Roll back what the try wrote, then record the refusal in a local transaction of its own.
    Refuse(String),
    /// The row that was in the way is gone: another transaction rolled back or cleaned up in between.
    Again,
}

/// What one unit came to.
enum Ended {
    Answer(Answer),
    Refuse(String),
}

/// Why one unit came to nothing. Only `Unknown` may have had an effect.
enum Fault {
    Conflict,
    Locked,
    TimedOut,
    Failed(BoxError),
    Unknown(Option<BoxError>),
}

impl<P: Participant> Guarded<P> {
    /// Answers one call, in as many local transactions as it takes, and not much later than `by`.
    pub(crate) async fn answer(self: Arc<Self>, call: Arc<Call>, payload: Bytes, by: Instant) -> Answer {
        let mut refusal = None;
        let mut runs = 1;
        loop {
            let unit = self.clone().unit(call.clone(), payload.clone(), refusal.clone(), by);
            // Not under a time-out of its own: that could cut a commit off. The unit keeps to `by` itself.
            let ended = match self.database.run(unit).await {
                Ok(ended) => ended,
                Err(error) => Err(fault::<P::Database>(error)),
            };
            match ended {
                Ok(Ended::Answer(answer)) => return answer,
                Ok(Ended::Refuse(reason)) => refusal = Some(reason),
                Err(Fault::Conflict) if runs < RUNS => {
                    tracing::debug!(runs, "met a concurrent transaction; running again");
                    sleep(backoff(runs)).await;
                    runs += 1;
                }
                Err(Fault::Conflict | Fault::Locked) => return Answer::Pending,
                Err(Fault::TimedOut) => return Answer::Unknown(Unknown::TimedOut),
                Err(Fault::Failed(error)) => {
                    tracing::error!(error = &*error as &dyn std::error::Error, "the call failed");
                    return Answer::Unknown(Unknown::Internal);
                }
                Err(Fault::Unknown(error)) => {
                    let error = error.as_deref().map(|error| error as &dyn std::error::Error);
                    tracing::error!(error, "the commit was not answered");
                    return Answer::Unknown(Unknown::Commit);
                }
            }
        }
    }

    /// One local transaction from begin to end. `refusal`: the reason for which a unit before this one rolled back.
    async fn unit(
        self: Arc<Self>,
        call: Arc<Call>,
        payload: Bytes,
        refusal: Option<String>,
        by: Instant,
    ) -> Result<Ended, Fault> {
        let begun = timeout_at(by, self.database.begin()).await.map_err(|_| Fault::TimedOut)?;
        let mut tx = begun.map_err(fault::<P::Database>)?;
        let step = timeout_at(by, async {
            match call.operation {
                Operation::Try => self.try_(&call, &payload, refusal, &mut tx).await,
                Operation::Confirm if P::RECEIVES => self.receive(&call, &payload, &mut tx).await,
                Operation::Confirm => self.confirm(&call, &payload, &mut tx).await,
                Operation::Cancel => self.cancel(&call, &payload, &mut tx).await,
                Operation::Check => self.check(&call, &mut tx).await,
            }
        });
        match step.await {
            // Dropped, not rolled back: what it waits for may be the connection itself.
            Err(_) => Err(Fault::TimedOut),
            // A time-out cannot interrupt what blocks the thread, so the clock is read once more.
            Ok(Ok(Step::Commit(_))) if Instant::now() >= by => {
                rollback::<P::Database>(tx).await;
                Err(Fault::TimedOut)
            }
            Ok(Ok(Step::Commit(answer))) => match commit::<P::Database>(tx).await? {
                None => Ok(Ended::Answer(answer)),
                Some(why) if call.operation == Operation::Try => Ok(Ended::Refuse(reason(&why))),
                Some(why) => Err(Fault::Failed(format!("{} cannot refuse: {why}", call.operation).into())),
            },
            Ok(Ok(Step::Rollback(answer))) => {
                rollback::<P::Database>(tx).await;
                Ok(Ended::Answer(answer))
            }
            Ok(Ok(Step::Refuse(reason))) => {
                rollback::<P::Database>(tx).await;
                Ok(Ended::Refuse(reason))
            }
            Ok(Ok(Step::Again)) => {
                rollback::<P::Database>(tx).await;
                Err(Fault::Conflict)
            }
            Ok(Err(error)) => {
                rollback::<P::Database>(tx).await;
                Err(fault::<P::Database>(error))
            }
        }
    }

    async fn try_(
        &self,
        call: &Call,
        payload: &[u8],
        refusal: Option<String>,
        tx: &mut <P::Database as Database>::Tx,
    ) -> Result<Step, BoxError> {
        let row = match refusal {
            Some(reason) => Row::Refused { reason },
            // Its row may have been forgotten, so its absence does not prove that this try is the first.
            None if call.is_settled() => Row::Refused { reason: ENDED.into() },
            None => Row::Tried { reply: None },
        };
        if !P::Database::insert(tx, call, &row).await? {
            return Ok(match P::Database::load(tx, call).await? {
                None => Step::Again,
                Some(Row::Tried { reply } | Row::Confirmed { reply }) => Step::Rollback(Answer::Done(reply)),
                Some(Row::Refused { reason }) => Step::Rollback(Answer::Refused(reason)),
                Some(Row::Cancelled) => Step::Rollback(Answer::Refused("the branch is cancelled".into())),
            });
        }
        if let Row::Refused { reason } = row {
            return Ok(Step::Commit(Answer::Refused(reason)));
        }
        // After the insert, for a row that was deleted was deleted with the mark. It needs no row of its own: the mark
        // never goes back.
        if is_below_the_mark::<P::Database>(tx, call).await? {
            return Ok(Step::Rollback(Answer::Refused(ENDED.into())));
        }
        let payload = match read(payload) {
            Ok(payload) => payload,
            Err(error) => return Ok(Step::Refuse(reason(&format!("the payload cannot be read: {error}")))),
        };
        match self.participant.try_(call, &payload, tx).await? {
            Tried::Accepted(reply) => {
                let reply = reply.map(|reply| kept(&reply)).transpose()?;
                P::Database::set(tx, call, &Row::Tried { reply: reply.clone() }).await?;
                Ok(Step::Commit(Answer::Done(reply)))
            }
            Tried::Refused(why) => Ok(Step::Refuse(reason(&why))),
        }
    }

    async fn confirm(
        &self,
        call: &Call,
        payload: &[u8],
        tx: &mut <P::Database as Database>::Tx,
    ) -> Result<Step, BoxError> {
        let reply = match P::Database::load(tx, call).await? {
            None => return Ok(alarm(Alarm::NotTried("nothing is known of this branch".into()))),
            Some(Row::Refused { reason }) => {
                return Ok(alarm(Alarm::NotTried(format!("its try was refused: {reason}"))));
            }
            Some(Row::Cancelled) => return Ok(alarm(Alarm::AlreadyCancelled)),
            Some(Row::Confirmed { .. }) => return Ok(Step::Rollback(Answer::Done(None))),
            Some(Row::Tried { reply }) => reply,
        };
        let payload = match read(payload) {
            Ok(payload) => payload,
            Err(error) => return Ok(alarm(Alarm::UnreadablePayload(error.to_string()))),
        };
        self.participant.confirm(call, &payload, tx).await?;
        P::Database::set(tx, call, &Row::Confirmed { reply }).await?;
        Ok(Step::Commit(Answer::Done(None)))
    }

    async fn cancel(
        &self,
        call: &Call,
        payload: &[u8],
        tx: &mut <P::Database as Database>::Tx,
    ) -> Result<Step, BoxError> {
        if P::Database::insert(tx, call, &Row::Cancelled).await? {
            return Ok(Step::Commit(Answer::Done(None)));
        }
        match P::Database::load(tx, call).await? {
            None => return Ok(Step::Again),
            Some(Row::Refused { .. } | Row::Cancelled) => return Ok(Step::Rollback(Answer::Done(None))),
            Some(Row::Confirmed { .. }) => return Ok(alarm(Alarm::AlreadyConfirmed)),
            Some(Row::Tried { .. }) => {}
        }
        let payload = match read(payload) {
            Ok(payload) => payload,
            Err(error) => return Ok(alarm(Alarm::UnreadablePayload(error.to_string()))),
        };
        self.participant.cancel(call, &payload, tx).await?;
        P::Database::set(tx, call, &Row::Cancelled).await?;
        Ok(Step::Commit(Answer::Done(None)))
    }
}

impl<P: Participant> Guarded<P> {
    /// Takes in a message, once.
    async fn receive(
        &self,
        call: &Call,
        payload: &[u8],
        tx: &mut <P::Database as Database>::Tx,
    ) -> Result<Step, BoxError> {
        let received = Row::Confirmed { reply: None };
        if !P::Database::insert(tx, call, &received).await? {
            return Ok(match P::Database::load(tx, call).await? {
                None => Step::Again,
                Some(_) => Step::Rollback(Answer::Done(None)),
            });
        }
        // Its row may have been forgotten: then it was received long ago, or its transaction ended without it.
        if call.is_settled() || is_below_the_mark::<P::Database>(tx, call).await? {
            return Ok(Step::Rollback(Answer::Done(None)));
        }
        let payload = match read(payload) {
            Ok(payload) => payload,
            Err(error) => return Ok(alarm(Alarm::UnreadablePayload(error.to_string()))),
        };
        self.participant.confirm(call, &payload, tx).await?;
        P::Database::set(tx, call, &received).await?;
        Ok(Step::Commit(Answer::Done(None)))
    }

    /// Whether the local transaction of a message's sender committed. Where nothing says so it never will from here on:
    /// the row left here bars it.
    async fn check(&self, call: &Call, tx: &mut <P::Database as Database>::Tx) -> Result<Step, BoxError> {
        let answer = |barred| match barred {
            Barred::Yes => Answer::Refused("the sender's local transaction did not commit".into()),
            Barred::Committed => Answer::Done(None),
        };
        Ok(match bar::<P::Database>(tx, call).await? {
            End::Commit(barred) => Step::Commit(answer(barred)),
            End::Rollback(barred) => Step::Rollback(answer(barred)),
            End::Again => Step::Again,
        })
    }
}

/// Whether no local transaction of a message's sender can commit any more.
pub(crate) enum Barred {
    Yes,
    Committed,
}

/// Leaves a tombstone where nothing says that the sender's local transaction committed: whoever comes after finds it.
pub(crate) async fn bar<D: Database>(tx: &mut D::Tx, call: &Call) -> Result<End<Barred>, BoxError> {
    if D::insert(tx, call, &Row::Cancelled).await? {
        return Ok(End::Commit(Barred::Yes));
    }
    Ok(match D::load(tx, call).await? {
        None => End::Again,
        Some(Row::Confirmed { .. }) => End::Rollback(Barred::Committed),
        Some(Row::Cancelled | Row::Refused { .. } | Row::Tried { .. }) => End::Rollback(Barred::Yes),
    })
}

/// `Some`: rolled back for this reason.
async fn commit<D: Database>(tx: D::Tx) -> Result<Option<String>, Fault> {
    match timeout(FINISH, D::commit(tx)).await {
        Ok(Ok(Commit::Committed)) => Ok(None),
        Ok(Ok(Commit::Refused(why))) => Ok(Some(why)),
        Ok(Ok(Commit::Conflict)) => Err(Fault::Conflict),
        Ok(Err(error)) => Err(Fault::Unknown(Some(error))),
        Err(_) => Err(Fault::Unknown(None)),
    }
}

/// Whatever comes of it: a transaction that cannot be rolled back cannot be committed either.
pub(crate) async fn rollback<D: Database>(tx: D::Tx) {
    match timeout(FINISH, D::rollback(tx)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = &*error as &dyn std::error::Error, "gave a connection up"),
        Err(_) => tracing::debug!("gave up a connection that does not answer"),
    }
}

fn fault<D: Database>(error: BoxError) -> Fault {
    match D::trouble(&error) {
        Trouble::Conflict => Fault::Conflict,
        Trouble::Locked => Fault::Locked,
        Trouble::Other => Fault::Failed(error),
    }
}

fn alarm(alarm: Alarm) -> Step {
    tracing::error!(code = alarm.code(), detail = alarm.detail(), "cannot be obeyed; someone has to look");
    Step::Rollback(Answer::Alarm(alarm))
}

/// Up to [`FIRST_BACKOFF`], doubled with each run, and at random: the transactions that met must not meet again.
pub(crate) fn backoff(runs: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << runs.min(10)).mul_f64(fastrand::f64() / 2.0)
}

/// No body is no payload, and JSON's word for that is `null`.
fn read<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(if payload.is_empty() { b"null" } else { payload })
}

/// A reply as it is kept and sent: the same bytes to the first call and to every repeat.
fn kept(reply: &serde_json::Value) -> Result<String, BoxError> {
    let text = reply.to_string();
    if text.len() > tcc_core::limits::REPLY {
        return Err(
            format!("a reply of {} bytes is longer than {}", text.len(), tcc_core::limits::REPLY).into()
        );
    }
    Ok(text)
}

/// Whether its row, had there been one, may have been deleted: its transaction began before the mark that is kept.
pub(crate) async fn is_below_the_mark<D: Database>(tx: &mut D::Tx, call: &Call) -> Result<bool, BoxError> {
    Ok(D::settled(tx).await?.is_some_and(|settled| call.begun < settled))
}

/// A reason as it is kept and sent. PostgreSQL cannot store NUL in a text.
pub(crate) fn reason(text: &str) -> String {
    let mut end = text.len().min(tcc_core::limits::REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters_and_has_no_nul() {
        assert_eq!(reason("no funds"), "no funds");
        assert_eq!(reason("a\0b"), "a\u{fffd}b");
        let long = "ü".repeat(tcc_core::limits::REASON);
        assert_eq!(reason(&long).len(), tcc_core::limits::REASON);
        assert_eq!(reason(&format!("x{long}")).len(), tcc_core::limits::REASON - 1);
    }

    #[test]
    fn no_body_is_null() {
        assert!(read::<()>(b"").is_ok());
        assert!(read::<Option<u8>>(b"").unwrap().is_none());
        assert!(read::<u8>(b"").is_err());
    }

    #[test]
    fn the_wait_between_runs_grows_and_has_a_bound() {
        for runs in 1..RUNS {
            assert!(backoff(runs) <= FIRST_BACKOFF * (1 << (runs - 1)));
        }
    }
}
