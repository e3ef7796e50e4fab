//! A participant with a guard, in memory, and everything that can be wrong with one.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Mutex;
use std::task::Poll;

use serde_json::Value;
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::conformance::{Effect, Subject};
use tcc_core::store::BoxFuture;
use tcc_core::{Call, Operation, Timestamp};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    HasNoGuard,
    ConfirmsTheCancelled,
    CancelsTheConfirmed,
    ConfirmAndCancelRace,
    ReservesAgain,
    FailsOnRepeatedTry,
    ForgetsItsReply,
    ConfirmsAgain,
    GivesBackAgain,
    TriesRace,
    ConfirmsRace,
    CancelsRace,
    GoesByTheAttempt,
    IsKeyedByGid,
    IsKeyedByBranch,
    IgnoresCase,
    JoinsItsKey,
    RefusesAfterConfirm,
    ForgetsRefusals,
    EmptyCancelIsAnError,
    EmptyCancelGivesBack,
    RefusedCancelGivesBack,
    EmptyCancelLeavesNoRow,
    CancelDeletesTheRow,
    TryAndCancelRace,
    IgnoresSettled,
    RefusalKeepsWhatItWrote,
    RowMovesBeforeTheWork,
    ConfirmsTheUntried,
    ConfirmsTheRefused,
    AlarmsAreFaults,
    AcceptsTheUnreadable,
    CallsTheUnreadableAFault,
    MindsUnknownHeaders,
    RefusesWithoutACode,
    NeverAnswers,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Tried(u32),
    Refused,
    Confirmed(u32),
    Cancelled,
}

#[derive(Default)]
struct State {
    rows: HashMap<String, Row>,
    reserved: i64,
    spent: i64,
    replies: u32,
}

/// The participant. It takes `{"cents": n}`, and refuses more than a thousand.
pub(crate) struct Account {
    pub(crate) defect: Option<Defect>,
    /// Whether it shows what it has done.
    pub(crate) shown: bool,
    state: Mutex<State>,
}

impl Account {
    pub(crate) fn new(defect: Option<Defect>, shown: bool) -> Self {
        Self { defect, shown, state: Mutex::default() }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// What is reserved and what is spent now.
    pub(crate) fn books(&self) -> [i64; 2] {
        let state = self.state.lock().unwrap();
        [state.reserved, state.spent]
    }

    /// How many tries it has accepted.
    pub(crate) fn accepted(&self) -> u32 {
        self.state.lock().unwrap().replies
    }

    fn key(&self, call: &Call) -> String {
        let (gid, branch) = (call.gid.as_str(), call.branch.as_ref().unwrap().as_str());
        match self.defect {
            Some(Defect::IsKeyedByGid) => gid.to_owned(),
            Some(Defect::IsKeyedByBranch) => branch.to_owned(),
            Some(Defect::IgnoresCase) => format!("{gid} {branch}").to_lowercase(),
            Some(Defect::JoinsItsKey) => format!("{gid}{branch}"),
            _ => format!("{gid} {branch}"),
        }
    }

    async fn answer(&self, call: Call, settled: Option<Timestamp>) -> Response {
        moment().await;
        if self.has(Defect::MindsUnknownHeaders) && !call.headers.is_empty() {
            return problem(400, "unknown-header");
        }
        let key = self.key(&call);
        let found = self.state.lock().unwrap().rows.get(&key).copied();
        let races = match call.operation {
            Operation::Try => self.has(Defect::TriesRace) || self.has(Defect::TryAndCancelRace),
            Operation::Confirm => self.has(Defect::ConfirmsRace) || self.has(Defect::ConfirmAndCancelRace),
            Operation::Cancel => {
                [Defect::CancelsRace, Defect::ConfirmAndCancelRace, Defect::TryAndCancelRace]
                    .iter()
                    .any(|defect| self.has(*defect))
            }
            Operation::Check => false,
        };
        if races {
            moment().await;
        }
        let cents = call
            .payload
            .as_ref()
            .and_then(|payload| serde_json::from_str::<Value>(payload.get()).ok()?.get("cents")?.as_i64());
        let mut state = self.state.lock().unwrap();
        match call.operation {
            Operation::Try => self.try_(&mut state, key, found, cents, settled.is_some(), &call),
            Operation::Confirm => self.confirm(&mut state, key, found, cents),
            Operation::Cancel => self.cancel(&mut state, key, found, cents),
            Operation::Check => problem(404, "no-such-operation"),
        }
    }

    fn try_(
        &self,
        state: &mut State,
        key: String,
        found: Option<Row>,
        cents: Option<i64>,
        is_settled: bool,
        call: &Call,
    ) -> Response {
        let is_repeat = match self.defect {
            Some(Defect::GoesByTheAttempt) => call.attempt > 1,
            Some(Defect::HasNoGuard) => false,
            _ => found.is_some(),
        };
        if is_repeat {
            return match found {
                Some(Row::Tried(_)) if self.has(Defect::FailsOnRepeatedTry) => problem(500, "duplicate-key"),
                Some(Row::Tried(_)) if self.has(Defect::ForgetsItsReply) => Response::done(),
                Some(Row::Tried(reply)) if self.has(Defect::ReservesAgain) => {
                    state.reserved += cents.unwrap_or(0);
                    Response::replied(reply.to_string())
                }
                Some(Row::Confirmed(_)) if self.has(Defect::RefusesAfterConfirm) => Response::refused("over"),
                Some(Row::Tried(reply) | Row::Confirmed(reply)) => Response::replied(reply.to_string()),
                Some(Row::Refused) => Response::refused("too much"),
                Some(Row::Cancelled) | None => Response::refused("the branch is cancelled"),
            };
        }
        if is_settled && !self.has(Defect::IgnoresSettled) {
            state.rows.insert(key, Row::Refused);
            return Response::refused("too much");
        }
        let cents = match cents {
            Some(cents) => cents,
            None if self.has(Defect::AcceptsTheUnreadable) => 0,
            None if self.has(Defect::CallsTheUnreadableAFault) => return problem(500, "internal"),
            None => i64::MAX,
        };
        if cents > 1000 {
            if self.has(Defect::RefusalKeepsWhatItWrote) {
                state.reserved += 1;
            }
            if !self.has(Defect::ForgetsRefusals) && !self.has(Defect::HasNoGuard) {
                state.rows.insert(key, Row::Refused);
            }
            return if self.has(Defect::RefusesWithoutACode) {
                problem(409, "too-much")
            } else {
                Response::refused("too much")
            };
        }
        state.reserved += cents;
        state.replies += 1;
        let reply = state.replies;
        if !self.has(Defect::HasNoGuard) {
            state.rows.insert(key, Row::Tried(reply));
        }
        Response::replied(reply.to_string())
    }

    fn confirm(&self, state: &mut State, key: String, found: Option<Row>, cents: Option<i64>) -> Response {
        let alarm = |code| problem(if self.has(Defect::AlarmsAreFaults) { 500 } else { 409 }, code);
        let reply = match found {
            _ if self.has(Defect::HasNoGuard) => 0,
            None if self.has(Defect::ConfirmsTheUntried) => return Response::done(),
            Some(Row::Refused) if self.has(Defect::ConfirmsTheRefused) => return Response::done(),
            Some(Row::Cancelled) if self.has(Defect::ConfirmsTheCancelled) => 0,
            Some(Row::Confirmed(reply)) if self.has(Defect::ConfirmsAgain) => reply,
            None | Some(Row::Refused) => return alarm("not-tried"),
            Some(Row::Cancelled) => return alarm("already-cancelled"),
            Some(Row::Confirmed(_)) => return Response::done(),
            Some(Row::Tried(reply)) => reply,
        };
        if self.has(Defect::RowMovesBeforeTheWork) {
            state.rows.insert(key.clone(), Row::Confirmed(reply));
        }
        let Some(cents) = cents else { return problem(400, "unreadable-payload") };
        state.reserved -= cents;
        state.spent += cents;
        state.rows.insert(key, Row::Confirmed(reply));
        Response::done()
    }

    fn cancel(&self, state: &mut State, key: String, found: Option<Row>, cents: Option<i64>) -> Response {
        let give_back = |state: &mut State| state.reserved -= cents.unwrap_or(0);
        match found {
            _ if self.has(Defect::HasNoGuard) => {}
            None if self.has(Defect::EmptyCancelIsAnError) => return problem(404, "unknown-branch"),
            None => {
                if self.has(Defect::EmptyCancelGivesBack) {
                    give_back(state);
                }
                if !self.has(Defect::EmptyCancelLeavesNoRow) {
                    state.rows.insert(key, Row::Cancelled);
                }
                return Response::done();
            }
            Some(Row::Refused) if self.has(Defect::RefusedCancelGivesBack) => {
                give_back(state);
                return Response::done();
            }
            Some(Row::Cancelled) if self.has(Defect::GivesBackAgain) => {}
            Some(Row::Confirmed(_)) if self.has(Defect::CancelsTheConfirmed) => {}
            Some(Row::Refused | Row::Cancelled) => return Response::done(),
            Some(Row::Confirmed(_)) => {
                return problem(
                    if self.has(Defect::AlarmsAreFaults) { 500 } else { 409 },
                    "already-confirmed",
                );
            }
            Some(Row::Tried(_)) => {}
        }
        if cents.is_none() {
            return problem(400, "unreadable-payload");
        }
        give_back(state);
        if self.has(Defect::CancelDeletesTheRow) {
            state.rows.remove(&key);
        } else {
            state.rows.insert(key, Row::Cancelled);
        }
        Response::done()
    }
}

impl Subject for Account {
    fn call(&self, call: Call, settled: Option<Timestamp>) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            if self.has(Defect::NeverAnswers) {
                return Answer::None(Failure::TimedOut);
            }
            self.answer(call, settled).await.into()
        })
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn effect(&self) -> BoxFuture<'_, Result<Option<Effect>, String>> {
        let books = self.books();
        Box::pin(async move { Ok(self.shown.then(|| Effect(books.to_vec()))) })
    }
}

fn problem(status: u16, code: &str) -> Response {
    let body = serde_json::json!({ "code": code }).to_string();
    Response { status, retry_after: None, body: Some(body.into()) }
}

/// Lets the other call go on.
async fn moment() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
