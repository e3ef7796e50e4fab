//! Writing a transaction down: as serde would with the records of the module above, at a fraction of the cost, for
//! three times in each transaction every name would be looked through for what must be escaped.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::VERSION;
use crate::branch::{Branch, End, Progress, Tried};
use crate::definition::{Decider, Definition};
use crate::history::{Entry, History, What};
use crate::retry::{Retry, Then};
use crate::transaction::Transaction;
use crate::{Phase, Timestamp};

/// Writes a transaction down, and what happened to it. Its gid is the row's key and does not stand in the document.
pub(crate) fn encode(transaction: &Transaction, history: &History) -> Vec<u8> {
    let about = transaction.branches.iter().map(about).sum::<usize>() + 32 * history.entries().len();
    let mut json = Json(Vec::with_capacity(256 + about));
    json.raw(r#"{"v":"#).value(&VERSION);
    json.raw(match transaction.decider {
        Decider::Initiator => r#","decider":"initiator""#,
        Decider::Coordinator => r#","decider":"coordinator""#,
    });
    if let Some(check) = &transaction.check {
        json.raw(r#","check":["#).text(check.at.as_str()).raw(",").value(&millis(check.after)).raw("]");
    }
    if let Some(parent) = &transaction.parent {
        json.raw(r#","parent":"#).text(parent.as_str());
    }
    if let Some(trace) = &transaction.traceparent {
        json.raw(r#","trace":"#).text(trace);
    }
    let patience = &transaction.patience;
    json.raw(r#","patience":["#).value(&patience.attempts).raw(",").value(&millis(patience.age)).raw("]");
    json.raw(r#","begun":"#).value(&transaction.begun.as_millis());
    json.raw(r#","deadline":"#).value(&transaction.deadline.as_millis());
    json.raw(match transaction.phase {
        Phase::Trying => r#","phase":"Trying""#,
        Phase::Confirming => r#","phase":"Confirming""#,
        Phase::Confirmed => r#","phase":"Confirmed""#,
        Phase::Cancelling => r#","phase":"Cancelling""#,
        Phase::Cancelled => r#","phase":"Cancelled""#,
        Phase::Abandoned => r#","phase":"Abandoned""#,
    });
    if let Some(decided) = &transaction.decided {
        json.raw(r#","decided":["#).value(&decided.at.as_millis()).raw(",");
        match &decided.reason {
            None => json.raw("null]"),
            Some(reason) => json.text(reason).raw("]"),
        };
    }
    json.number(r#","ended":"#, transaction.ended.map(Timestamp::as_millis));
    json.progress(r#","asking":"#, &transaction.asking);
    json.raw(r#","branches":["#);
    json.list(&transaction.branches, Json::branch);
    json.raw("]");
    if !history.entries().is_empty() {
        json.raw(r#","history":["#);
        json.list(history.entries(), |json, entry| json.entry(entry, transaction.begun));
        json.raw("]");
    }
    json.number(r#","left_out":"#, Some(history.left_out()).filter(|left_out| *left_out > 0));
    json.raw("}");
    json.0
}

/// About how many bytes a branch takes.
fn about(branch: &Branch) -> usize {
    let json = |json: &Option<_>| json.as_ref().map_or(0, |json: &std::sync::Arc<RawValue>| json.get().len());
    let endpoints: usize = branch.definition.endpoints().map(|(_, at)| at.as_str().len()).sum();
    let reply = if let Tried::Done(reply) = &branch.tried { json(reply) } else { 0 };
    160 + endpoints + json(&branch.definition.payload) + reply
}

/// A JSON text that grows. What is `raw` is JSON already.
struct Json(Vec<u8>);

impl Json {
    fn raw(&mut self, json: &str) -> &mut Self {
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    fn value(&mut self, value: &impl Serialize) -> &mut Self {
        serde_json::to_writer(&mut self.0, value).expect("numbers and texts can be written");
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        // Without a way out, so that many bytes are looked at in one step.
        let escaped = |b: u8| b < b' ' || b == b'"' || b == b'\\';
        if text.bytes().fold(false, |any, b| any | escaped(b)) {
            return self.value(&text);
        }
        self.raw("\"").raw(text).raw("\"")
    }

    fn number(&mut self, name: &str, number: Option<impl Serialize>) {
        if let Some(number) = number {
            self.raw(name).value(&number);
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.raw(",");
            }
            write(self, item);
        }
    }

    fn branch(&mut self, branch: &Branch) {
        self.definition(&branch.definition);
        match &branch.tried {
            Tried::NotYet => {}
            Tried::Done(None) => _ = self.raw(r#","tried":{"done":null}"#),
            Tried::Done(Some(reply)) => _ = self.raw(r#","tried":{"done":"#).raw(reply.get()).raw("}"),
            Tried::Refused(reason) => _ = self.raw(r#","tried":{"refused":"#).text(reason).raw("}"),
        }
        match &branch.end {
            None => {}
            Some(End::Done) => _ = self.raw(r#","end":"done""#),
            Some(End::GivenUp) => _ = self.raw(r#","end":"given-up""#),
            Some(End::NotNeeded) => _ = self.raw(r#","end":"not-needed""#),
            Some(End::Forced { reason, at }) => {
                self.raw(r#","end":{"forced":["#).text(reason).raw(",").value(&at.as_millis()).raw("]}");
            }
        }
        self.progress(r#","progress":"#, &branch.progress);
        self.raw("}");
    }

    fn definition(&mut self, definition: &Definition) {
        self.raw(r#"{"id":"#).text(definition.id.as_str());
        if !definition.after.is_empty() {
            self.raw(r#","after":["#).list(&definition.after, |json, id| _ = json.text(id.as_str()));
            self.raw("]");
        }
        for (name, at) in [
            (r#","try":"#, &definition.try_),
            (r#","confirm":"#, &definition.confirm),
            (r#","cancel":"#, &definition.cancel),
        ] {
            if let Some(at) = at {
                self.raw(name).text(at.as_str());
            }
        }
        if definition.no_cancel {
            self.raw(r#","no_cancel":true"#);
        }
        if let Some(payload) = &definition.payload {
            self.raw(r#","payload":"#).raw(payload.get());
        }
        if !definition.headers.is_empty() {
            self.raw(r#","headers":"#).value(&definition.headers);
        }
        if definition.retry != Retry::default() {
            self.retry(&definition.retry);
        }
        self.number(r#","delay":"#, Some(millis(definition.delay)).filter(|delay| *delay > 0));
        self.number(r#","reserves":"#, definition.reserves.map(millis));
        self.number(r#","timeout":"#, definition.timeout.map(millis));
    }

    fn retry(&mut self, retry: &Retry) {
        self.raw(r#","retry":"#);
        match retry {
            Retry::Exponential { first, longest } => {
                self.raw(r#"{"exponential":["#).value(&millis(*first)).raw(",").value(&millis(*longest));
            }
            Retry::Intervals { waits, then } => {
                self.raw(match then {
                    Then::Repeat => r#"{"intervals":["#,
                    Then::GiveUp => r#"{"ladder":["#,
                });
                self.list(waits, |json, wait| _ = json.value(&millis(*wait)));
            }
        }
        self.raw("]}");
    }

    fn entry(&mut self, entry: &Entry, begun: Timestamp) {
        let after = entry.at.as_millis().saturating_sub(begun.as_millis());
        self.raw("[").value(&after).raw(",\"");
        match &entry.what {
            What::Called(attempt) => {
                self.raw(attempt.operation.as_str()).raw("\",").value(&attempt.branch).raw(",");
                self.value(&attempt.number).raw(",").value(&millis(attempt.took));
                self.optional(attempt.outcome.as_deref());
            }
            What::Operated(act, reason) => {
                self.raw(act.as_str()).raw("\"").optional(reason.as_deref());
            }
        }
        self.raw("]");
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            None => self.raw(",null"),
            Some(text) => self.raw(",").text(text),
        };
    }

    /// Without what has not begun, and nothing at all where nothing has.
    fn progress(&mut self, name: &str, progress: &Progress) {
        let Progress { due, attempts, attention, seen, acknowledged } = progress;
        if due.is_none() && *attempts == 0 && attention.is_none() && seen.is_none() {
            return;
        }
        self.raw(name);
        let first = self.0.len();
        self.number(r#","due":"#, due.map(Timestamp::as_millis));
        self.number(r#","attempts":"#, (*attempts > 0).then_some(attempts));
        for (name, text) in [(r#","attention":"#, attention), (r#","seen":"#, seen)] {
            if let Some(text) = text {
                self.raw(name).text(text);
            }
        }
        if *acknowledged {
            self.raw(r#","acknowledged":true"#);
        }
        // The comma in front of the first member is where the brace belongs.
        self.0[first] = b'{';
        self.raw("}");
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::branch::Patience;
    use crate::definition::{Check, Definition};
    use crate::history::{Act, Attempt};
    use crate::record::decode;
    use crate::{Operation, Timestamp};

    fn branch(id: &str) -> Branch {
        let endpoint = |operation: &str| format!("http://a/{operation}").parse().ok();
        Branch::new(Definition {
            id: id.parse().unwrap(),
            after: Vec::new(),
            try_: endpoint("try"),
            confirm: endpoint("confirm"),
            cancel: endpoint("cancel?\"quoted\\\""),
            no_cancel: false,
            payload: None,
            headers: BTreeMap::new(),
            retry: Retry::default(),
            delay: Duration::ZERO,
            reserves: None,
            timeout: None,
        })
    }

    /// One in which everything stands that can.
    fn full() -> Transaction {
        let mut transaction = Transaction::cancelled_before_begin(
            "g".parse().unwrap(),
            "he said \"no\"\n\u{1}\u{7f}é\\".to_owned(),
            Patience { attempts: 20, age: Duration::from_secs(300) },
            Timestamp::from_millis(-5),
        );
        transaction.check =
            Some(Check { at: "http://a/check".parse().unwrap(), after: Duration::from_millis(u64::MAX) });
        transaction.parent = "parent/1".parse().ok();
        transaction.traceparent = Some("00-\"-01".to_owned());
        transaction.asking = Progress { due: Some(Timestamp::from_millis(7)), ..Progress::default() };
        let mut first = branch("a");
        let definition = Arc::make_mut(&mut first.definition);
        definition.no_cancel = true;
        definition.cancel = None;
        definition.payload = RawValue::from_string(r#"{ "a": "é\n" }"#.to_owned()).ok().map(Arc::from);
        definition.headers =
            [("x-a".to_owned(), "\"1\"".to_owned()), ("x-b".to_owned(), String::new())].into();
        definition.retry =
            Retry::Exponential { first: Duration::from_millis(5), longest: Duration::from_secs(1) };
        definition.delay = Duration::from_millis(17);
        definition.reserves = Some(Duration::from_secs(60));
        definition.timeout = Some(Duration::ZERO);
        first.tried = Tried::Done(RawValue::from_string("[1]".to_owned()).ok().map(Arc::from));
        first.end = Some(End::Forced { reason: "by \"hand\"".to_owned(), at: Timestamp::from_millis(9) });
        let mut second = branch("b");
        let definition = Arc::make_mut(&mut second.definition);
        definition.after = vec![first.definition.id.clone(), "b/2".parse().unwrap()];
        definition.retry =
            Retry::Intervals { waits: vec![Duration::from_secs(1), Duration::ZERO], then: Then::Repeat };
        second.tried = Tried::Refused("sold\tout".to_owned());
        second.end = Some(End::NotNeeded);
        second.progress = Progress {
            due: Some(Timestamp::from_millis(3)),
            attempts: u32::MAX,
            attention: Some("look".to_owned()),
            seen: Some("status 503".to_owned()),
            acknowledged: true,
        };
        let mut third = branch("c");
        let definition = Arc::make_mut(&mut third.definition);
        definition.retry = Retry::Intervals { waits: vec![Duration::from_secs(1)], then: Then::GiveUp };
        third.tried = Tried::Done(None);
        third.end = Some(End::GivenUp);
        third.progress.attempts = 1;
        let mut fourth = branch("d");
        fourth.end = Some(End::Done);
        transaction.branches = vec![first, second, third, fourth, branch("e")];
        transaction
    }

    fn history() -> History {
        let attempt = |branch, outcome: Option<&str>| {
            let outcome = outcome.map(str::to_owned);
            let took = Duration::from_millis(3);
            What::Called(Attempt { branch, operation: Operation::Confirm, number: 2, took, outcome })
        };
        let acted = |act, reason: Option<&str>| What::Operated(act, reason.map(str::to_owned));
        let what = [
            attempt(Some(1), None),
            attempt(None, Some("refused: \"no\"")),
            acted(Act::Retried, None),
            acted(Act::Acknowledged, Some("ticket 4711")),
        ];
        let entries = what.into_iter().map(|what| Entry { at: Timestamp::from_millis(7), what });
        History::read(entries.collect(), 9)
    }

    /// Documents outlive the program: what was written once is read for ever, and written the same.
    #[test]
    fn everything_that_can_be_written_is_read_again_and_written_the_same() {
        let (golden, full) = (include_str!("golden.json").trim_end(), full());
        assert_eq!(String::from_utf8(encode(&full, &history())).unwrap(), golden);
        let (read, happened) = decode(&full.gid, golden.as_bytes()).unwrap();
        assert_eq!(happened, history());
        assert_eq!(String::from_utf8(encode(&read, &happened)).unwrap(), golden);
    }
}
