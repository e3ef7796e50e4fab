//! The golden transition table: what every event does in every phase, reviewed as data.
//!
//! `UPDATE=1 cargo test -p tcc-core` writes it anew; read the difference before you commit it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use tcc_core::answer::{Outlook, Reply};
use tcc_core::{Event, Operation, Random, Timestamp, Transaction};

use crate::support::{self, T0, id};

/// One transaction of each phase and decider: two branches, `a` and `b`, as TCC, and a message `m` with a ladder.
fn cases() -> Vec<(&'static str, Transaction, Timestamp)> {
    let reply = |branch: &str, operation, reply| support::reply(branch, operation, reply);
    let done = Reply::Done(None);
    let confirm = || Event::Confirm { tried: ["a", "b", "m"].iter().map(|b| id(b)).collect() };
    let cancel = || Event::Cancel { reason: "no".into() };
    let after = |name, mut transaction: Transaction, events: Vec<Event>| {
        for event in events {
            transaction.apply(event, T0).unwrap();
        }
        (name, transaction, T0)
    };
    let initiator = || {
        support::begin(
            r#"{"gid":"g","decider":"initiator","branches":[
        {"id":"a","confirm":"t:a","cancel":"t:a"}, {"id":"b","confirm":"t:b","cancel":"t:b"}, {"id":"m","confirm":"t:m"}]}"#,
        )
    };
    let ladder = || {
        support::begin(
            r#"{"gid":"g","branches":[
        {"id":"a","try":"t:a","confirm":"t:a","cancel":"t:a"}, {"id":"b","try":"t:b","confirm":"t:b","cancel":"t:b"},
        {"id":"m","confirm":"t:m","retry":{"intervals_ms":[1000],"give_up":true}}]}"#,
        )
    };
    let tried = || vec![reply("a", Operation::Try, done.clone()), reply("b", Operation::Try, done.clone())];
    let end = |operation| vec![reply("a", operation, done.clone()), reply("b", operation, done.clone())];
    let lost = || reply("m", Operation::Confirm, support::unknown(Outlook::Passing));
    let check = support::begin(
        r#"{"gid":"g","decider":"initiator","check":"t:check","branches":[{"id":"m","confirm":"t:m"}]}"#,
    );
    vec![
        ("Trying, the initiator decides", initiator(), T0),
        ("Trying, the initiator decides, at the deadline", initiator(), T0 + Duration::from_secs(60)),
        ("Trying, the coordinator decides", ladder(), T0),
        ("Trying, the coordinator decides, at the deadline", ladder(), T0 + Duration::from_secs(60)),
        after("Trying, the coordinator decides, a is tried", ladder(), vec![tried().remove(0)]),
        ("Trying, with a check", check.clone(), T0),
        ("Trying, with a check, at the deadline", check, T0 + Duration::from_secs(60)),
        after("Confirming", initiator(), vec![confirm()]),
        after(
            "Confirming, a calls for a human",
            initiator(),
            vec![confirm(), reply("a", Operation::Confirm, support::unknown(Outlook::Attention))],
        ),
        after("Confirming, all but m are done", ladder(), [tried(), end(Operation::Confirm)].concat()),
        after(
            "Confirmed",
            initiator(),
            [vec![confirm()], end(Operation::Confirm), vec![reply("m", Operation::Confirm, done.clone())]]
                .concat(),
        ),
        after("Abandoned", ladder(), [tried(), end(Operation::Confirm), vec![lost(), lost()]].concat()),
        after("Cancelling", initiator(), vec![cancel()]),
        after("Cancelled", initiator(), [vec![cancel()], end(Operation::Cancel)].concat()),
    ]
}

/// Every event there is, several where they differ.
fn events() -> Vec<(String, Event)> {
    let mut events: Vec<(String, Event)> = vec![
        (
            "register a, the same".into(),
            Event::Register(support::branches(r#"[{"id":"a","confirm":"t:a","cancel":"t:a"}]"#)),
        ),
        (
            "register a, other content".into(),
            Event::Register(support::branches(r#"[{"id":"a","confirm":"t:x","cancel":"t:a"}]"#)),
        ),
        (
            "register c".into(),
            Event::Register(support::branches(r#"[{"id":"c","confirm":"t:c","cancel":"t:c"}]"#)),
        ),
        ("confirm a, b, m".into(), Event::Confirm { tried: ["a", "b", "m"].iter().map(|b| id(b)).collect() }),
        ("confirm a".into(), Event::Confirm { tried: BTreeSet::from([id("a")]) }),
        ("cancel".into(), Event::Cancel { reason: "no".into() }),
        ("force a".into(), Event::Force { branch: id("a"), reason: "by hand".into() }),
        ("force m".into(), Event::Force { branch: id("m"), reason: "by hand".into() }),
        ("force x".into(), Event::Force { branch: id("x"), reason: "by hand".into() }),
    ];
    let replies = [
        ("done", Reply::Done(None)),
        ("pending", Reply::Pending(None)),
        ("refused", Reply::Refused("sold out".into())),
        ("unknown", support::unknown(Outlook::Passing)),
        ("unknown, attention", support::unknown(Outlook::Attention)),
    ];
    for (branch, operation) in [
        (Some("a"), Operation::Try),
        (Some("b"), Operation::Try),
        (Some("a"), Operation::Confirm),
        (Some("m"), Operation::Confirm),
        (Some("a"), Operation::Cancel),
        (None, Operation::Check),
        (Some("x"), Operation::Try),
    ] {
        for (word, reply) in &replies {
            let name = format!("{operation} {}: {word}", branch.unwrap_or("-"));
            let branch = branch.map(id);
            events.push((
                name,
                Event::Reply { branch, operation, reply: reply.clone(), random: Random(u32::MAX) },
            ));
        }
    }
    for (branch, operation) in
        [(Some("a"), Operation::Try), (Some("a"), Operation::Confirm), (None, Operation::Check)]
    {
        let name = format!("{operation} {} deferred", branch.unwrap_or("-"));
        events.push((
            name,
            Event::Deferred { branch: branch.map(id), operation, until: T0 + Duration::from_secs(3) },
        ));
    }
    events.push(("retry".into(), Event::Retry));
    events.push(("acknowledge".into(), Event::Acknowledge { reason: "seen".into() }));
    events.push(("expire".into(), Event::Expire));
    events
}

#[test]
fn the_transition_table_is_the_reviewed_one() {
    let mut table =
        String::from("# What every event does in every phase. Written by the test; review the difference.\n");
    for (name, transaction, at) in cases() {
        let before = support::describe(&transaction);
        writeln!(table, "\n## {name}\n{before}").unwrap();
        for (event_name, event) in events() {
            let mut next = transaction.clone();
            let effect = match next.apply(event, at) {
                Ok(effect) => format!("{effect:?}"),
                Err(rejection) => format!("rejected: {rejection}"),
            };
            let after = support::describe(&next);
            let after = if before == after { "=" } else { &after };
            writeln!(table, "  {event_name:<30} {effect:<9} {after}").unwrap();
        }
    }
    support::golden("transitions.txt", &table);
}
