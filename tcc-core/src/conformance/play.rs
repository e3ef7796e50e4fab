//! How a check is played: calls made until they are answered, at once if need be, and effects compared.

use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use super::limits::{FAILING, PENDING, ROUNDS, SHOWN};
use super::{Case, Effect, Evidence, PREFIX, Setup, Subject, Verdict};
use crate::answer::{Answer, Failure, Outlook, Reply, Shape, cut, judge};
use crate::together::together;
use crate::{BranchId, Call, Gid, Operation, Timestamp};

/// What no participant reads: JSON, for that is all that coordinators send, of a shape that nobody uses.
const UNREADABLE: &str = r#"[[["tcc-conformance: nothing that can be read"]]]"#;

/// One run.
pub(super) struct Play<'s> {
    subject: &'s dyn Subject,
    setup: &'s Setup,
    /// Branches made so far.
    made: u32,
    steps: Vec<String>,
    /// What one try, one confirm and one cancel come to, as the first checks saw it.
    amounts: Vec<(Operation, Effect)>,
    /// Whether this check could not see an effect that it is about.
    blind: bool,
}

/// A branch that is played with.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) gid: Gid,
    pub(super) branch: BranchId,
    pub(super) begun: Timestamp,
    pub(super) settled: Option<Timestamp>,
    pub(super) first_attempt: u32,
    pub(super) headers: Vec<(String, String)>,
}

/// What a call carries.
#[derive(Clone, Copy)]
pub(super) enum Body {
    /// The payload.
    Good,
    /// The payload that is refused.
    Refused,
    /// Something else.
    Unreadable,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Done(u16, Option<Value>),
    /// The try said no.
    Refused(u16, String),
    /// A status that calls for a human.
    Alarm(u16, String),
    Pending(u16),
    /// A status that says nothing.
    Failing(u16, String),
    Nothing(Failure),
}

/// Why a check is not kept.
pub(super) enum Fault {
    Broken(String),
    Unclear(String),
    NotTested(&'static str),
}

pub(super) type Played = Result<(), Fault>;

pub(super) fn broken<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(why.into()))
}

impl<'s> Play<'s> {
    pub(super) const fn new(subject: &'s dyn Subject, setup: &'s Setup) -> Self {
        Self { subject, setup, made: 0, steps: Vec::new(), amounts: Vec::new(), blind: false }
    }

    pub(super) async fn verdict(&mut self, case: &Case) -> Verdict {
        self.blind = false;
        match (case.play)(self).await {
            Ok(()) if self.blind => Verdict::Kept(Evidence::Answers),
            Ok(()) => Verdict::Kept(Evidence::All),
            Err(Fault::Broken(why)) => Verdict::Broken(why),
            Err(Fault::Unclear(why)) => Verdict::Unclear(why),
            Err(Fault::NotTested(why)) => Verdict::NotTested(why.to_owned()),
        }
    }

    /// What was done since this was asked last.
    pub(super) fn steps(&mut self) -> Vec<String> {
        std::mem::take(&mut self.steps)
    }

    /// A branch that nobody knows yet.
    pub(super) fn branch(&mut self) -> Key {
        self.made += 1;
        self.named(&format!("{}", self.made), &format!("branch/{}", self.made))
    }

    /// A branch of these names, below the one made last.
    pub(super) fn named(&self, gid: &str, branch: &str) -> Key {
        let gid = format!("{PREFIX}{:016x}/{gid}", self.setup.run);
        Key {
            gid: gid.parse().expect("letters, digits and slashes"),
            branch: branch.parse().expect("letters, digits and slashes"),
            begun: self.setup.now,
            settled: None,
            first_attempt: 1,
            headers: Vec::new(),
        }
    }

    pub(super) const fn made(&self) -> u32 {
        self.made
    }

    pub(super) const fn needs_a_refusal(&self) -> Played {
        if self.setup.refused.is_some() {
            Ok(())
        } else {
            Err(Fault::NotTested("no payload was given that is refused"))
        }
    }

    pub(super) const fn needs_a_payload(&self) -> Played {
        if self.setup.payload.is_some() { Ok(()) } else { Err(Fault::NotTested("no payload was given")) }
    }
}

/// Calls.
impl Play<'_> {
    /// Calls until it is answered, as a coordinator does.
    pub(super) async fn ask(&mut self, key: &Key, operation: Operation, body: Body) -> Result<Said, Fault> {
        let said = self.until_answered(key, operation, body).await;
        self.steps.push(format!("{operation} → {said}"));
        said.answered(operation)
    }

    /// The same of several at once. They need not be answered in this order.
    pub(super) async fn at_once(&mut self, key: &Key, operations: &[Operation]) -> Result<Vec<Said>, Fault> {
        let play = &*self;
        let calls = operations.iter().map(|operation| play.until_answered(key, *operation, Body::Good));
        let said = together(calls.collect()).await;
        let shown: Vec<_> = operations.iter().zip(&said).map(|(o, said)| format!("{o} → {said}")).collect();
        self.steps.push(format!("at once ({})", shown.join(", ")));
        said.into_iter().zip(operations).map(|(said, operation)| said.answered(*operation)).collect()
    }

    /// Rounds of something that does not happen every time; the steps of the last are kept.
    pub(super) fn rounds(&mut self, round: u32) -> Option<Key> {
        if round >= ROUNDS {
            return None;
        }
        self.steps.clear();
        self.steps.push(format!("round {} of {ROUNDS}", round + 1));
        Some(self.branch())
    }

    /// A try that has to be accepted before anything else can be looked at.
    pub(super) async fn reserve(&mut self, key: &Key) -> Result<Option<Value>, Fault> {
        match self.ask(key, Operation::Try, Body::Good).await? {
            Said::Done(_, reply) => Ok(reply),
            said => {
                Err(Fault::Unclear(format!("the try, which has to be accepted first, was answered {said}")))
            }
        }
    }

    /// A confirm or cancel of what is tried, which has to be done before anything else can be looked at.
    pub(super) async fn end(&mut self, key: &Key, operation: Operation) -> Played {
        match self.ask(key, operation, Body::Good).await? {
            Said::Done(..) => Ok(()),
            said => Err(Fault::Unclear(format!("the {operation}, which comes first, was answered {said}"))),
        }
    }

    /// A try that has to be refused before anything else can be looked at.
    pub(super) async fn refusal(&mut self, key: &Key) -> Result<String, Fault> {
        self.needs_a_refusal()?;
        match self.ask(key, Operation::Try, Body::Refused).await? {
            Said::Refused(_, reason) => Ok(reason),
            said => Err(Fault::Unclear(format!("the payload that should be refused was answered {said}"))),
        }
    }

    /// Gives back what a check has left reserved, whatever comes of it.
    pub(super) async fn clear(&mut self, key: &Key) {
        self.until_answered(key, Operation::Cancel, Body::Good).await;
    }

    async fn until_answered(&self, key: &Key, operation: Operation, body: Body) -> Said {
        let (mut pending, mut failing) = (0, 0);
        loop {
            let attempt = key.first_attempt + pending + failing;
            let said = self.once(key, operation, body, attempt).await;
            match said {
                Said::Done(..) | Said::Refused(..) | Said::Alarm(..) => return said,
                Said::Pending(_) => pending += 1,
                Said::Failing(..) | Said::Nothing(_) => failing += 1,
            }
            if pending >= PENDING || failing >= FAILING {
                return said;
            }
            self.subject.pause().await;
        }
    }

    async fn once(&self, key: &Key, operation: Operation, body: Body, attempt: u32) -> Said {
        let payload = match body {
            Body::Good => self.setup.payload.clone(),
            Body::Refused => self.setup.refused.clone(),
            Body::Unreadable => RawValue::from_string(UNREADABLE.to_owned()).ok().map(Into::into),
        };
        let Ok(endpoint) = self.setup.at.join(operation.as_str()) else {
            return Said::Nothing(Failure::Other);
        };
        let call = Call {
            gid: key.gid.clone(),
            branch: Some(key.branch.clone()),
            operation,
            endpoint,
            payload,
            headers: self.setup.headers.iter().chain(&key.headers).cloned().collect(),
            attempt,
            timeout: Some(self.setup.timeout),
            traceparent: None,
            begun: key.begun,
            shape: Shape::Other,
            gives_up: false,
        };
        said(operation, self.subject.call(call, key.settled).await)
    }
}

/// Effects.
impl Play<'_> {
    /// What all operations have come to so far.
    pub(super) async fn effect(&mut self) -> Result<Option<Effect>, Fault> {
        let effect = self.subject.effect().await;
        effect.map_err(|why| Fault::Unclear(format!("the effect could not be seen: {why}")))
    }

    /// Takes down what an operation has come to since.
    pub(super) async fn measure(&mut self, operation: Operation, before: Option<&Effect>) -> Played {
        let (Some(before), Some(now)) = (before, self.effect().await?) else {
            self.blind = true;
            return Ok(());
        };
        let change = difference(before, &now)?;
        self.amounts.retain(|(measured, _)| *measured != operation);
        self.amounts.push((operation, change));
        Ok(())
    }

    /// Whether any operation has changed the effect, where there is one.
    pub(super) fn something_moved(&self) -> bool {
        let still = |(_, change): &(Operation, Effect)| change.0.iter().all(|number| *number == 0);
        self.amounts.is_empty() || !self.amounts.iter().all(still)
    }

    /// Whether what happened since is what one of these rows of operations come to. `about` is the operation that would
    /// show if it happened once too often: without a change of its own, that cannot be seen.
    pub(super) async fn came_to(
        &mut self,
        allowed: &[&[Operation]],
        before: Option<&Effect>,
        about: Operation,
    ) -> Played {
        let (Some(before), Some(now)) = (before, self.effect().await?) else {
            self.blind = true;
            return Ok(());
        };
        let change = difference(before, &now)?;
        let zero = Effect(vec![0; change.0.len()]);
        let amount = |operation: &Operation| {
            let measured = self.amounts.iter().find(|(measured, _)| measured == operation);
            measured.map_or(&zero, |(_, change)| change)
        };
        if *amount(&about) == zero {
            self.blind = true;
        }
        let sum = |operations: &&[Operation]| {
            let mut sum = zero.clone();
            for operation in *operations {
                sum.0.iter_mut().zip(&amount(operation).0).for_each(|(sum, number)| *sum += number);
            }
            sum
        };
        let sums: Vec<Effect> = allowed.iter().map(sum).collect();
        if sums.contains(&change) {
            return Ok(());
        }
        let words = |operations: &&[Operation]| match operations {
            [] => "nothing".to_owned(),
            some => some.iter().map(|o| format!("one {o}")).collect::<Vec<_>>().join(" and "),
        };
        let allowed: Vec<_> =
            allowed.iter().zip(&sums).map(|(o, sum)| format!("{sum}, that of {}", words(o))).collect();
        broken(format!(
            "the effect went from {before} to {now}, a change of {change} and not {}",
            allowed.join(" or ")
        ))
    }
}

fn difference(before: &Effect, now: &Effect) -> Result<Effect, Fault> {
    if before.0.len() != now.0.len() {
        return Err(Fault::Unclear(format!("the effect was {before} and is {now}: not the same numbers")));
    }
    Ok(Effect(now.0.iter().zip(&before.0).map(|(now, before)| now.saturating_sub(*before)).collect()))
}

/// What an answer says, by the one judge there is.
fn said(operation: Operation, answer: Answer) -> Said {
    let (status, body) = match &answer {
        Answer::None(failure) => return Said::Nothing(*failure),
        Answer::Response(response) => (response.status, response.body.clone().unwrap_or_default()),
    };
    let shown = shown(&body);
    match judge(operation, Shape::Other, answer) {
        Reply::Done(reply) => {
            Said::Done(status, reply.and_then(|reply| serde_json::from_str(reply.get()).ok()))
        }
        Reply::Pending(_) => Said::Pending(status),
        Reply::Refused(reason) if operation == Operation::Try => Said::Refused(status, reason),
        Reply::Refused(_) | Reply::Unknown { outlook: Outlook::Attention, .. } => Said::Alarm(status, shown),
        Reply::Unknown { outlook: Outlook::Passing, .. } => Said::Failing(status, shown),
    }
}

/// The code of a problem, or how the body begins.
fn shown(body: &[u8]) -> String {
    let code = serde_json::from_slice::<Value>(body).ok();
    let code = code.as_ref().and_then(|problem| problem.get("code")?.as_str());
    let text = code.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let end = (0..=SHOWN.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    cut(&text[..end])
}

impl Said {
    /// The answer, if one came.
    fn answered(self, operation: Operation) -> Result<Self, Fault> {
        match self {
            Self::Nothing(failure) => {
                Err(Fault::Unclear(format!("no answer came to the {operation}: {}", failure.as_str())))
            }
            Self::Pending(status) => Err(Fault::Unclear(format!(
                "the {operation} was answered {status}, pending, {PENDING} times and never settled"
            ))),
            said @ (Self::Done(..) | Self::Refused(..) | Self::Alarm(..) | Self::Failing(..)) => Ok(said),
        }
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done(..))
    }

    /// Whether a human is called: what cannot be obeyed is a 409.
    pub(super) const fn is_alarm(&self) -> bool {
        matches!(self, Self::Alarm(409, _))
    }

    pub(super) const fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(..))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(status, None) | Self::Pending(status) => write!(f, "{status}"),
            Self::Done(status, Some(reply)) => write!(f, "{status} {}", shown(reply.to_string().as_bytes())),
            Self::Refused(status, reason) => write!(f, "{status} refused ({reason})"),
            Self::Alarm(status, shown) | Self::Failing(status, shown) => {
                write!(f, "{status} {shown}")
            }
            Self::Nothing(failure) => write!(f, "no answer ({})", failure.as_str()),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            [one] => write!(f, "{one}"),
            several => write!(f, "{several:?}"),
        }
    }
}
