//! One participant's part in a transaction, and how far the calls to it have come.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::answer::{Outlook, Reply};
use crate::definition::Definition;
use crate::event::Effect;
use crate::retry::{Random, Retry};
use crate::{Operation, Timestamp, limits};

/// One participant's part.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Shared by all copies, for nothing changes it: a transaction is copied whenever it is saved or told of.
    pub(crate) definition: Arc<Definition>,
    pub(crate) tried: Tried,
    pub(crate) end: Option<End>,
    pub(crate) progress: Progress,
    /// Where in the transaction the branches stand that `after` names.
    pub(crate) before: Vec<usize>,
}

/// How far the calls of one operation have come. Starts anew with each operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the next call is to be made; `None` while something else comes first, and once it is settled.
    pub due: Option<Timestamp>,
    /// Calls that brought no answer that settles it.
    pub attempts: u32,
    /// Why a human should look.
    pub attention: Option<String>,
    /// Whether one has.
    pub acknowledged: bool,
    /// What the last of those calls saw.
    pub seen: Option<String>,
}

/// What is known of a branch's try, as far as the coordinator makes it.
#[derive(Clone, Debug)]
pub enum Tried {
    /// Nothing.
    NotYet,
    /// It was done; this is its reply.
    Done(Option<Arc<RawValue>>),
    /// It was refused, for this reason.
    Refused(String),
}

/// How a branch ended after the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its confirm or cancel was done.
    Done,
    /// Its ladder came to its end.
    GivenUp,
    /// An operator said so.
    Forced {
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// It has nothing to call: no such endpoint, or it was never tried.
    NotNeeded,
}

/// When a transaction that does not end calls for a human.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// After this many calls of one operation without an answer that settles it.
    pub attempts: u32,
    /// This long after the operation's phase began.
    pub age: Duration,
}

impl Branch {
    pub(crate) fn new(definition: Definition) -> Self {
        Self {
            definition: Arc::new(definition),
            tried: Tried::NotYet,
            end: None,
            progress: Progress::default(),
            before: Vec::new(),
        }
    }

    /// What its caller defined.
    #[must_use]
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// What is known of its try.
    #[must_use]
    pub const fn tried(&self) -> &Tried {
        &self.tried
    }

    /// How it ended.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The progress of its present operation.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(crate) const fn is_tried(&self) -> bool {
        matches!(self.tried, Tried::Done(_))
    }

    /// Registered and tried by the initiator; or tried by the coordinator, which does so only once it is due in
    /// the stored document.
    pub(crate) fn may_have_been_tried(&self) -> bool {
        self.definition.try_.is_none() || self.progress.due.is_some() || !matches!(self.tried, Tried::NotYet)
    }
}

/// How long the calls of a phase have been going on, and how long that may be.
#[derive(Clone, Copy)]
pub(crate) struct Age {
    pub(crate) patience: Patience,
    pub(crate) length: Duration,
    pub(crate) now: Timestamp,
}

impl Age {
    fn is_beyond_patience(&self) -> bool {
        self.length >= self.patience.age
    }
}

impl Progress {
    /// Whether a human should look, and none has.
    #[must_use]
    pub const fn calls_a_human(&self) -> bool {
        self.attention.is_some() && !self.acknowledged
    }

    /// What was acknowledged is not told again; anything else is.
    pub(crate) fn call_a_human(&mut self, why: String) {
        if self.attention.as_deref().map(matter) != Some(matter(&why)) {
            self.acknowledged = false;
        }
        self.attention = Some(why);
    }

    /// Why a human is called for a branch whose ladder has ended.
    pub(crate) fn given_up(&self) -> String {
        let seen = self.seen.as_deref().unwrap_or("nothing");
        format!("given up after {} calls; the last saw: {seen}", self.attempts)
    }

    /// Puts the next call off, because its destination has no place for it.
    pub(crate) fn defer(&mut self, until: Timestamp, age: Age) -> Ladder {
        self.due = Some(until);
        self.seen.get_or_insert_with(|| "not called yet: its destination takes no more calls".to_owned());
        if self.attention.is_none() && age.is_beyond_patience() {
            let age = age.length.as_secs();
            self.call_a_human(format!("not called after {age} s: its destination takes no more calls"));
            return Ladder::NeedsAttention;
        }
        Ladder::Goes
    }
}

/// What a sentence that calls for a human is about: what stands behind a colon is in the words of whoever answered, and
/// may differ from call to call.
#[must_use]
pub fn matter(attention: &str) -> &str {
    attention.split_once(':').map_or(attention, |(matter, _)| matter)
}

/// What an answer that settles nothing leads to.
#[derive(PartialEq, Eq)]
pub(crate) enum Ladder {
    /// Calls go on.
    Goes,
    /// Calls go on, and from now on a human should look: somebody is waiting to see that.
    NeedsAttention,
    /// The branch is given up.
    Ended,
}

impl Progress {
    /// Takes in an answer that settles nothing, and says what it leads to.
    pub(crate) fn wait(
        &mut self,
        operation: Operation,
        reply: &Reply,
        retry: &Retry,
        random: Random,
        age: Age,
    ) -> Ladder {
        let called_before = self.calls_a_human();
        let wait = match reply {
            Reply::Done(_) | Reply::Refused(_) => return Ladder::Goes,
            Reply::Pending(retry_after) => {
                self.seen = Some("pending".to_owned());
                Some(retry_after.map_or(limits::PENDING_RETRY, |wait| wait.min(limits::RETRY_AFTER)))
            }
            Reply::Unknown { seen, retry_after, outlook } => {
                self.attempts = self.attempts.saturating_add(1);
                self.seen = Some(seen.clone());
                let asked = retry_after.unwrap_or_default().min(limits::RETRY_AFTER);
                let slow = match outlook {
                    Outlook::Passing => Duration::ZERO,
                    Outlook::Attention if retry.ends() => Duration::ZERO,
                    Outlook::Attention => {
                        self.call_a_human(seen.clone());
                        // A try has only until the deadline; haste in the others gains nothing.
                        if operation == Operation::Try { Duration::ZERO } else { retry.slowest() }
                    }
                };
                retry.wait(self.attempts, random).map(|wait| wait.max(asked).max(slow))
            }
        };
        let Some(wait) = wait else { return Ladder::Ended };
        // Where the ladder ends, its end is what is told; only an endless "pending" would never reach it.
        let pending = matches!(reply, Reply::Pending(_));
        if self.attention.is_none() && (pending || !retry.ends()) {
            let seen = self.seen.clone().unwrap_or_default();
            if self.attempts >= age.patience.attempts {
                self.call_a_human(format!("{} calls and no answer; the last saw: {seen}", self.attempts));
            } else if age.is_beyond_patience() {
                let age = age.length.as_secs();
                self.call_a_human(format!("not done after {age} s; the last call saw: {seen}"));
            }
        }
        self.due = Some(age.now + wait.max(limits::SHORTEST_RETRY));
        if self.calls_a_human() && !called_before { Ladder::NeedsAttention } else { Ladder::Goes }
    }
}

impl Ladder {
    pub(crate) const fn effect(&self) -> Effect {
        match self {
            Self::Goes => Effect::Noted,
            Self::NeedsAttention | Self::Ended => Effect::Changed,
        }
    }
}
