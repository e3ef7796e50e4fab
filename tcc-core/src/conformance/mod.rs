//! The suite that every participant must pass, in whatever language it is written.
//!
//! It plays what networks and crashes do to calls: duplicates, one after the other and at once, crossings, late tries,
//! empty cancels, what cannot be read. Each check names the promise (P1 to P6) that breaks and how to mend it. It makes
//! no call itself and reads no clock: whoever runs it is the [`Subject`] and gives a [`Setup`].
//!
//! An answer tells what a participant says; what it did, only its [`Effect`] tells. Where the subject has none to show,
//! a check is [kept by its answers](Evidence::Answers) alone, and the report says so.
//!
//! [`CASES`] has every check, in the order in which they are played.

mod answers;
mod crossings;
mod duplicates;
mod limits;
mod local;
mod play;
mod report;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::store::BoxFuture;
use crate::{Call, Endpoint, Timestamp};

pub use limits::{ACCEPTED, CONFIRMED};
use play::{Fault, Play};
pub use report::{Check, Evidence, Report, Verdict};

/// The gids of the suite begin so.
pub const PREFIX: &str = "tcc-conformance/";

/// A participant that can be called.
pub trait Subject: Sync {
    /// Makes a call, with this as its `Tcc-Settled`, and brings its answer within the call's time-out.
    fn call(&self, call: Call, settled: Option<Timestamp>) -> BoxFuture<'_, Answer>;

    /// Waits a moment before a call is repeated.
    fn pause(&self) -> BoxFuture<'_, ()>;

    /// What the participant's operations have come to so far, if that can be told. Nobody else may change it while the
    /// suite runs.
    ///
    /// # Errors
    /// Why it could not be found out now, for people.
    fn effect(&self) -> BoxFuture<'_, Result<Option<Effect>, String>> {
        Box::pin(async { Ok(None) })
    }
}

/// What is called, and with what.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The participant: its operations are `at/try`, `at/confirm`, `at/cancel`.
    pub at: Endpoint,
    /// Drawn at random: no two runs may have the same gids.
    pub run: u64,
    /// Now, by the clock that the participant's coordinators go by, more or less.
    pub now: Timestamp,
    /// What each call carries: a payload that is accepted at least [`ACCEPTED`] times.
    pub payload: Option<Arc<RawValue>>,
    /// A payload whose try is refused. Without it refusals are not tested.
    pub refused: Option<Arc<RawValue>>,
    /// Headers sent along, such as credentials.
    pub headers: Vec<(String, String)>,
    /// How long one call may take.
    pub timeout: Duration,
}

/// Numbers in which what a participant did can be seen: a balance, how much is reserved, how many orders there are.
/// What an operation did is their difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect(pub Vec<i64>);

impl From<i64> for Effect {
    fn from(number: i64) -> Self {
        Self(vec![number])
    }
}

impl From<Vec<i64>> for Effect {
    fn from(numbers: Vec<i64>) -> Self {
        Self(numbers)
    }
}

impl<const N: usize> From<[i64; N]> for Effect {
    fn from(numbers: [i64; N]) -> Self {
        Self(numbers.into())
    }
}

impl Effect {
    /// The numbers of a JSON text: one, a list of them, or an object of them in the order of its keys.
    ///
    /// ```
    /// use tcc_core::conformance::Effect;
    ///
    /// assert_eq!(Effect::read(b"17"), Ok(Effect(vec![17])));
    /// assert_eq!(Effect::read(br#"{"free": 90, "reserved": 10}"#), Ok(Effect(vec![90, 10])));
    /// assert!(Effect::read(b"[1.5]").is_err());
    /// ```
    ///
    /// # Errors
    /// Why it is none, a clause that reads on from what was read.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let value = serde_json::from_slice(json).map_err(|why| format!("is no JSON: {why}"))?;
        let values = match value {
            Value::Array(values) => values,
            Value::Object(fields) => fields.into_iter().map(|(_, value)| value).collect(),
            number => vec![number],
        };
        let numbers: Option<Vec<i64>> = values.iter().map(Value::as_i64).collect();
        numbers.filter(|numbers| !numbers.is_empty()).map(Self).ok_or_else(|| {
            "holds something else than whole numbers: one, a list or an object of them".to_owned()
        })
    }
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// Calls are answered as the protocol says, so that a coordinator understands them.
    Answers,
    /// Confirm and cancel exclude each other.
    P1,
    /// A repeat has no second effect and gets the same answer, a refusal included.
    P2,
    /// A cancel before its try succeeds and does nothing.
    P3,
    /// After a cancel no try is accepted.
    P4,
    /// Business rows and the guard row are committed in one local transaction.
    P5,
    /// A confirm with no try is an alarm, not a success.
    P6,
}

impl Promise {
    /// The name it has in the docs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
            Self::P4 => "P4",
            Self::P5 => "P5",
            Self::P6 => "P6",
        }
    }
}

/// One check.
pub struct Case {
    /// What holds, in words joined by `_`.
    pub name: &'static str,
    /// What it is about.
    pub promise: Promise,
    /// What to do where it does not hold.
    pub mend: &'static str,
    play: for<'a, 'b> fn(&'a mut Play<'b>) -> BoxFuture<'a, Result<(), Fault>>,
}

macro_rules! cases {
    ($($module:ident: $($case:ident $promise:ident $mend:literal),+;)+) => {
        &[$($(Case {
            name: stringify!($case),
            promise: Promise::$promise,
            mend: $mend,
            play: |play| Box::pin($module::$case(play)),
        },)+)+]
    };
}

/// So many of [`CASES`], the first, are what all others build on.
const BASIS: usize = 2;

/// Every check.
pub const CASES: &[Case] = cases! {
    answers:
        a_try_and_its_confirm_are_done Answers
            "Answer 200 to each once what it did is committed; a 409 of a try needs a body with the code refused.",
        a_try_and_its_cancel_are_done Answers
            "Answer 200 to each once what it did is committed.",
        headers_that_nobody_knows_are_ignored Answers
            "Read the headers you know and ignore all others: later coordinators may send more.",
        an_unreadable_try_is_refused Answers
            "Answer 409 with the code refused to a try whose payload you cannot read, and keep that as its row.",
        a_refusal_is_told_by_its_code Answers
            "Answer a try that you refuse 409 or 422 with a JSON body: {\"code\": \"refused\", \"detail\": \"why\"}.",
        branches_are_told_apart P2
            "Make (gid, branch) the key of the guard row, both compared byte by byte: beware of collations that ignore case.";
    duplicates:
        a_repeated_try_has_no_second_effect P2
            "Insert the guard row as the first statement of the try; where it is there already, answer from it and do nothing.",
        a_repeated_confirm_has_no_second_effect P2
            "Confirm only what the guard row says is tried; where it says confirmed, answer 200 and do nothing.",
        a_repeated_cancel_has_no_second_effect P2
            "Cancel only what the guard row says is tried; where it says cancelled, answer 200 and do nothing.",
        tries_at_once_have_one_effect P2
            "Insert the guard row first and look after that, so that one of two that meet waits for the other.",
        confirms_at_once_have_one_effect P2
            "Read the guard row with a lock (SELECT … FOR UPDATE, BEGIN IMMEDIATE) that is held until the commit.",
        cancels_at_once_have_one_effect P2
            "Read the guard row with a lock (SELECT … FOR UPDATE, BEGIN IMMEDIATE) that is held until the commit.",
        the_attempt_is_for_logs_alone P2
            "Tell repeats by the guard row; Tcc-Attempt may skip and repeat.",
        an_accepted_try_stays_accepted P2
            "Keep the try's reply in the guard row, and answer every repeat from there, also after the confirm.",
        a_refusal_stays_a_refusal P2
            "Commit a row refused, with the reason, after rolling back what the try did; answer every repeat from there.";
    crossings:
        a_cancelled_branch_is_not_confirmed P1
            "Confirm only what the guard row says is tried; where it says cancelled, answer 409 already-cancelled.",
        a_confirmed_branch_is_not_cancelled P1
            "Cancel only what the guard row says is tried; where it says confirmed, answer 409 already-confirmed.",
        confirm_and_cancel_at_once_exclude_each_other P1
            "Move the one guard row, read with a lock, from tried to confirmed or to cancelled: never look at one row and write another.",
        an_empty_cancel_is_done_and_does_nothing P3
            "Where there is no guard row the cancel inserts one, cancelled, answers 200 and gives nothing back.",
        a_refused_try_is_cancelled_and_nothing_given_back P3
            "Where the guard row says refused the cancel answers 200 and gives nothing back, for nothing was taken.",
        a_late_try_is_refused P4
            "The row that the cancel inserted bars the try: answer it 409 with the code refused.",
        a_try_after_its_cancel_is_refused P4
            "Keep the row of a cancelled branch, and answer a try that finds it 409 with the code refused.",
        try_and_cancel_at_once_leave_nothing P4
            "Insert the guard row first, in the try and in the cancel; whoever comes second waits, and then goes by what it finds.",
        a_try_of_what_was_settled_is_refused P4
            "Refuse a try without a row whose Tcc-Begun is less than its Tcc-Settled: its row may have been deleted.";
    local:
        a_refused_try_leaves_nothing P5
            "Roll back what a refused try wrote, and only then commit its row, in a second local transaction.",
        what_cannot_be_read_is_not_done P5
            "Read the payload before the guard row is moved, or in the same local transaction, and roll that back: answer 400.",
        a_confirm_without_its_try_is_an_alarm P6
            "Where there is no guard row the confirm answers 409 not-tried and does nothing.",
        a_confirm_of_a_refused_try_is_an_alarm P6
            "Where the guard row says refused the confirm answers 409 not-tried and does nothing.";
};

/// Plays every check, and tells each as soon as it is over.
///
/// It takes as long as its calls do: whoever wants it bounded answers [`Answer::None`] to the calls that come too late.
pub async fn run(subject: &dyn Subject, setup: &Setup, told: &mut (dyn FnMut(&Check) + Send)) -> Report {
    let mut play = Play::new(subject, setup);
    let mut report = Report::default();
    for (i, case) in CASES.iter().enumerate() {
        let verdict = if i < BASIS || report.checks[..BASIS].iter().all(Check::is_kept) {
            play.verdict(case).await
        } else {
            Verdict::NotTested("a plain try, confirm and cancel have to be done first".to_owned())
        };
        let check =
            Check { name: case.name, promise: case.promise, verdict, steps: play.steps(), mend: case.mend };
        told(&check);
        report.checks.push(check);
    }
    report
}
