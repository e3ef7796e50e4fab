//! Topics: names that stand for whoever has subscribed, so that who publishes need not know who hears of it.
//!
//! A branch whose `confirm` is `topic:order.created` becomes, at begin, a branch for each subscriber of that topic. From
//! then on they are branches like any other: who subscribes later hears of what is begun later.

use std::collections::BTreeSet;

use crate::definition::{Definition, Invalid};
use crate::{BranchId, Endpoint, SubscriberId, TopicName};

/// The scheme of an endpoint that is a topic.
const SCHEME: &str = "topic";

/// Who hears of what is published under a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The topic.
    pub topic: TopicName,
    /// Its id, unique in the topic.
    pub id: SubscriberId,
    /// Where it is delivered to.
    pub deliver: Endpoint,
}

/// The topics that these branches are published under.
///
/// # Errors
/// When the name is none, or when a branch does more than confirm: a topic cannot vote, and nobody knows whom to undo.
pub fn topics(branches: &[Definition]) -> Result<BTreeSet<TopicName>, Invalid> {
    let mut topics = BTreeSet::new();
    for (i, branch) in branches.iter().enumerate() {
        for (field, endpoint) in branch.endpoints().filter(|(_, endpoint)| endpoint.scheme() == SCHEME) {
            let place = || format!("/branches/{i}/{field}");
            if !branch.confirms_only() {
                return Err(Invalid::new(
                    place(),
                    "is a topic, to which only a branch with confirm alone can go",
                ));
            }
            topics.insert(name(endpoint).parse().map_err(|why| Invalid::new(place(), why))?);
        }
    }
    Ok(topics)
}

/// Puts a branch for each subscriber in the place of each branch that is published under a topic: under the id
/// `branch/subscriber`, and after and before all that it was.
///
/// # Errors
/// When nobody has subscribed, for then what was published would be lost; when an id becomes too long.
pub fn fan_out(branches: Vec<Definition>, subscribers: &[Subscriber]) -> Result<Vec<Definition>, Invalid> {
    let mut all = Vec::with_capacity(branches.len());
    let mut instead: Vec<(BranchId, Vec<BranchId>)> = Vec::new();
    for (i, branch) in branches.into_iter().enumerate() {
        let Some(topic) = branch.confirm.as_ref().filter(|at| at.scheme() == SCHEME).map(name) else {
            all.push(branch);
            continue;
        };
        let mut ids = Vec::new();
        for subscriber in subscribers.iter().filter(|subscriber| subscriber.topic.as_str() == topic) {
            let id: BranchId = format!("{}/{}", branch.id, subscriber.id).parse().map_err(|why| {
                Invalid::new(
                    format!("/branches/{i}/id"),
                    format!("with its subscriber {} {why}", subscriber.id),
                )
            })?;
            ids.push(id.clone());
            all.push(Definition { id, confirm: Some(subscriber.deliver.clone()), ..branch.clone() });
        }
        if ids.is_empty() {
            return Err(Invalid::new(
                format!("/branches/{i}/confirm"),
                "is a topic that nobody has subscribed to",
            ));
        }
        instead.push((branch.id, ids));
    }
    for branch in &mut all {
        for (topic, ids) in &instead {
            if let Some(at) = branch.after.iter().position(|before| before == topic) {
                branch.after.splice(at..=at, ids.iter().cloned());
            }
        }
    }
    Ok(all)
}

/// What stands behind the scheme.
fn name(endpoint: &Endpoint) -> &str {
    &endpoint.as_str()[SCHEME.len() + 1..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gid;
    use crate::wire::BeginRequest;

    fn branches(json: &serde_json::Value) -> Vec<Definition> {
        let request: BeginRequest = serde_json::from_value(serde_json::json!({ "branches": json })).unwrap();
        request.parse(|| Gid::try_from("made").unwrap()).unwrap().branches
    }

    fn subscriber(topic: &str, id: &str) -> Subscriber {
        Subscriber {
            topic: topic.parse().unwrap(),
            id: id.parse().unwrap(),
            deliver: format!("http://{id}/hook").parse().unwrap(),
        }
    }

    fn told(branches: &[Definition]) -> Vec<String> {
        let told = |b: &Definition| format!("{} {:?} after {:?}", b.id, b.confirm.as_ref().unwrap(), b.after);
        branches.iter().map(told).collect()
    }

    #[test]
    fn each_subscriber_gets_a_branch_in_the_place_of_the_topics() {
        let published = branches(&serde_json::json!([
            { "id": "first", "confirm": "http://first/" },
            { "id": "created", "confirm": "topic:order.created", "after": ["first"], "payload": 7 },
            { "id": "last", "confirm": "http://last/", "after": ["created", "first"] },
        ]));
        let names: Vec<String> = topics(&published).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["order.created"]);
        let subscribers = [
            subscriber("order.created", "mail"),
            subscriber("order", "x"),
            subscriber("order.created", "points"),
        ];
        let all = fan_out(published, &subscribers).unwrap();
        let expected = [
            r#"first "http://first/" after []"#,
            r#"created/mail "http://mail/hook" after ["first"]"#,
            r#"created/points "http://points/hook" after ["first"]"#,
            r#"last "http://last/" after ["created/mail", "created/points", "first"]"#,
        ];
        assert_eq!(told(&all), expected);
        assert!(all[1..3].iter().all(|branch| branch.payload.as_ref().unwrap().get() == "7"));
    }

    #[test]
    fn what_nobody_would_hear_of_is_refused() {
        let published = branches(&serde_json::json!([{ "id": "created", "confirm": "topic:order.created" }]));
        let why = fan_out(published, &[subscriber("order.paid", "mail")]).unwrap_err();
        assert_eq!(why.to_string(), "/branches/0/confirm is a topic that nobody has subscribed to");
    }

    #[test]
    fn a_topic_cannot_vote() {
        for (branch, place) in [
            (serde_json::json!({ "id": "a", "at": "topic:order" }), "/branches/0/try"),
            (
                serde_json::json!({ "id": "a", "confirm": "topic:order", "cancel": "http://a/" }),
                "/branches/0/confirm",
            ),
        ] {
            let why = topics(&branches(&serde_json::json!([branch]))).unwrap_err();
            assert_eq!(
                why.to_string(),
                format!("{place} is a topic, to which only a branch with confirm alone can go")
            );
        }
        let why = topics(&branches(&serde_json::json!([{ "id": "a", "confirm": "topic:a,b" }]))).unwrap_err();
        assert_eq!(why.pointer, "/branches/0/confirm");
    }

    #[test]
    fn an_id_that_becomes_too_long_is_named() {
        let published = branches(&serde_json::json!([{ "id": "x".repeat(60), "confirm": "topic:order" }]));
        let why = fan_out(published, &[subscriber("order", "points")]).unwrap_err();
        assert_eq!(why.to_string(), "/branches/0/id with its subscriber points is longer than 64 characters");
    }
}
