//! All that anybody was ever told of a transaction, and whether it was always the same story.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// What is known of a transaction from answers, each of which holds for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// It was begun, or cancelled before.
    pub begun: bool,
    /// It was decided so.
    pub decision: Option<String>,
    /// It has ended in this phase.
    pub ended: Option<String>,
}

/// What was told, by gid.
#[derive(Debug, Default)]
pub struct Answers {
    known: Mutex<HashMap<String, Known>>,
    contradictions: Mutex<Vec<String>>,
}

impl Answers {
    /// What is known by now.
    #[must_use]
    pub fn known(&self, gid: &str) -> Known {
        lock(&self.known).get(gid).cloned().unwrap_or_default()
    }

    /// How many transactions anything is known of.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.known).len()
    }

    /// Whether nothing was ever told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in an answer to a question that was asked when so much was known.
    pub fn take_in(&self, gid: &str, before: &Known, status: u16, body: &Value) {
        let told = read(status, body);
        let same = |before: &Option<String>, told: &Option<String>| before.is_none() || before == told;
        let mut known = lock(&self.known);
        let known = known.entry(gid.to_owned()).or_default();
        let reversed = known.decision.is_some() && told.decision.is_some() && known.decision != told.decision;
        let speaks = status < 300 || status == 404 || told.decision.is_some();
        let forgotten = speaks
            && ((before.begun && !told.begun)
                || !same(&before.decision, &told.decision)
                || !same(&before.ended, &told.ended));
        if reversed || forgotten {
            let was = if reversed { &*known } else { before };
            lock(&self.contradictions).push(format!("{gid} was {was:?}, and then {status} {body}"));
        }
        known.begun |= told.begun;
        known.decision = known.decision.take().or(told.decision);
        known.ended = known.ended.take().or(told.ended);
    }

    /// Where answers contradict each other.
    #[must_use]
    pub fn contradictions(&self) -> Vec<String> {
        lock(&self.contradictions).clone()
    }
}

/// What an answer says, be it the transaction or a problem that names where it stands.
fn read(status: u16, body: &Value) -> Known {
    let text = |field: &str| body[field].as_str().map(ToOwned::to_owned);
    let phase = text("phase");
    let ended =
        phase.clone().filter(|phase| matches!(phase.as_str(), "Confirmed" | "Cancelled" | "Abandoned"));
    Known { begun: status < 300 || phase.is_some(), decision: text("decision"), ended }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(answers: &[(u16, Value)]) -> usize {
        let all = Answers::default();
        for (status, body) in answers {
            all.take_in("g", &all.known("g"), *status, body);
        }
        all.contradictions().len()
    }

    #[test]
    fn a_story_that_goes_on_is_no_contradiction() {
        let trying = (201, json!({"phase": "Trying"}));
        let confirming = (200, json!({"phase": "Confirming", "decision": "confirm"}));
        let confirmed = (200, json!({"phase": "Confirmed", "decision": "confirm"}));
        let busy = (503, json!({"code": "unavailable"}));
        assert_eq!(told(&[trying, confirming, busy, confirmed.clone(), confirmed]), 0);
    }

    #[test]
    fn whatever_is_taken_back_is_seen() {
        let unknown = (404, json!({"code": "unknown-gid"}));
        let trying = (201, json!({"phase": "Trying"}));
        let confirming = (200, json!({"phase": "Confirming", "decision": "confirm"}));
        let confirmed = (200, json!({"phase": "Confirmed", "decision": "confirm"}));
        let cancelling =
            (409, json!({"code": "already-cancelled", "phase": "Cancelling", "decision": "cancel"}));
        assert_eq!(told(&[trying.clone(), unknown.clone()]), 1, "a begin that was acknowledged is gone");
        assert_eq!(told(&[unknown, trying.clone()]), 0);
        assert_eq!(told(&[confirming.clone(), trying]), 1, "a decision is gone");
        assert_eq!(told(&[confirming.clone(), cancelling]), 1, "a decision is reversed");
        assert_eq!(told(&[confirmed, confirming]), 1, "an end is gone");
    }
}
