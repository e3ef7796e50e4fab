//! A participant that is an initiator itself: the transaction it begins in its try answers as a guard does.
//!
//! So a transaction in a transaction needs no model of its own: each of the two is in it, the inner one as the guard of
//! the branch behind which it stands.

use std::collections::BTreeSet;
use std::time::Duration;

use tcc_core::answer::Reply;
use tcc_core::wire::BeginRequest;
use tcc_core::{Decision, Event, Operation, Patience, Phase, Plan, Random, Timestamp, Transaction, Tried};

use crate::guard::{Flaw, Kind, Mood, Party, Row, Said};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const PATIENCE: Patience = Patience { attempts: 3, age: Duration::from_secs(3600) };

/// The inner transaction, if there is one.
#[derive(Default)]
struct Inner(Option<Transaction>);

impl Inner {
    /// Answers a call of the outer transaction, as `docs/mixed.md` has it: the try begins the inner one and waits for its
    /// tries, and confirm and cancel are said to it.
    fn answer(&mut self, operation: Operation, mood: Mood) -> Said {
        match operation {
            Operation::Try => self.begin(mood),
            Operation::Confirm => match &mut self.0 {
                None => Said::Alarm,
                Some(inner) => match inner.apply(Event::Confirm { tried: BTreeSet::new() }, NOW) {
                    Ok(_) => Said::Done,
                    Err(_) => Said::Alarm,
                },
            },
            Operation::Cancel => match &mut self.0 {
                None => {
                    let gid = "outer/inner".parse().expect("a gid");
                    let barred = Transaction::cancelled_before_begin(gid, "cancelled".into(), PATIENCE, NOW);
                    self.0 = Some(barred);
                    Said::Done
                }
                Some(inner) => match inner.apply(Event::Cancel { reason: "cancelled".into() }, NOW) {
                    Ok(_) => Said::Done,
                    Err(_) => Said::Alarm,
                },
            },
            Operation::Check => Said::Alarm,
        }
    }

    fn begin(&mut self, mood: Mood) -> Said {
        let inner = self.0.get_or_insert_with(begun);
        if inner.phase() == Phase::Trying {
            let reply = match mood {
                Mood::Refuses => Reply::Refused("no".into()),
                Mood::Accepts | Mood::Busy | Mood::Before => Reply::Done(None),
            };
            answer_all(inner, &reply);
            if inner.branches().iter().any(|branch| matches!(branch.tried(), Tried::Refused(_))) {
                inner.apply(Event::Cancel { reason: "no".into() }, NOW).expect("it is not decided");
            }
        }
        match inner.phase().decision() {
            Some(Decision::Cancel) => Said::Refused,
            Some(Decision::Confirm) | None => Said::Done,
        }
    }

    /// What of it is so, as a guard's row would say it; of a refused one and a cancelled one it says the same.
    fn row(&self) -> Row {
        match self.0.as_ref().map(|inner| inner.phase().decision()) {
            None => Row::None,
            Some(None) => Row::Tried,
            Some(Some(Decision::Confirm)) => Row::Confirmed,
            Some(Some(Decision::Cancel)) => Row::Cancelled,
        }
    }
}

fn begun() -> Transaction {
    let body = r#"{"gid":"outer/inner","parent":"outer","decider":"initiator","timeout_ms":31622400000,
        "branches":[{"id":"x","try":"t:x","confirm":"t:x","cancel":"t:x"}]}"#;
    let request: BeginRequest = serde_json::from_str(body).expect("a begin");
    let begin = request.parse(|| unreachable!("it has a gid")).expect("a begin that fits");
    Transaction::begin(begin, PATIENCE, NOW).expect("a transaction")
}

/// Answers every call that is due.
fn answer_all(inner: &mut Transaction, reply: &Reply) {
    let Plan::Work { calls, .. } = inner.plan(NOW) else { return };
    for call in calls {
        let (branch, operation) = (call.branch, call.operation);
        let event = Event::Reply { branch, operation, reply: reply.clone(), random: Random(0) };
        inner.apply(event, NOW).expect("it was asked");
    }
}

#[test]
fn an_inner_transaction_answers_as_a_guard_does() {
    // The ways to each row that a guard can have.
    let ways: [&[(Operation, Mood)]; 5] = [
        &[],
        &[(Operation::Try, Mood::Accepts)],
        &[(Operation::Try, Mood::Refuses)],
        &[(Operation::Try, Mood::Accepts), (Operation::Confirm, Mood::Accepts)],
        &[(Operation::Cancel, Mood::Accepts)],
    ];
    for way in ways {
        for operation in [Operation::Try, Operation::Confirm, Operation::Cancel] {
            for mood in [Mood::Accepts, Mood::Refuses] {
                let (mut inner, mut party) = (Inner::default(), Party::default());
                for (operation, mood) in way.iter().chain(&[(operation, mood)]) {
                    let said = party.answer(Kind::Reserves, *operation, *mood, Flaw::None);
                    assert_eq!(inner.answer(*operation, *mood), said, "{operation} after {way:?}");
                }
                let row = if party.row == Row::Refused { Row::Cancelled } else { party.row };
                assert_eq!(inner.row(), row, "{operation} after {way:?}");
            }
        }
    }
}
