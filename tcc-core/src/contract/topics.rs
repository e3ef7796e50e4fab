//! Topics.

use super::Subject;
use crate::Store;
use crate::store::Subscription;
use crate::topic::Subscriber;

fn subscriber(topic: &str, id: &str, deliver: &str) -> Subscriber {
    Subscriber {
        topic: topic.parse().expect("a topic"),
        id: id.parse().expect("an id"),
        deliver: deliver.parse().expect("an endpoint"),
    }
}

async fn put(store: &dyn Store, topic: &str, id: &str, deliver: &str) {
    change(store, Subscription::Put(subscriber(topic, id, deliver))).await;
}

async fn change(store: &dyn Store, change: Subscription) {
    store.subscribe(change).await.expect("a commit").expect("it takes it");
}

async fn all(store: &dyn Store) -> Vec<Subscriber> {
    store.subscribers(None).await.expect("a store that can be read")
}

pub(super) async fn who_subscribed_is_told_by_topic_and_in_order(subject: &dyn Subject) {
    let store = subject.fresh().await;
    assert_eq!(all(&*store).await, []);
    for (topic, id) in [("b", "2"), ("a.b", "9"), ("b", "1"), ("a", "3"), ("B", "1")] {
        put(&*store, topic, id, "http://x/").await;
    }
    let expected = [("B", "1"), ("a", "3"), ("a.b", "9"), ("b", "1"), ("b", "2")];
    assert_eq!(all(&*store).await, expected.map(|(topic, id)| subscriber(topic, id, "http://x/")));
    for (topic, ids) in [("b", vec!["1", "2"]), ("a", vec!["3"]), ("none", vec![])] {
        let named = topic.parse().expect("a topic");
        let told = store.subscribers(Some(&named)).await.expect("a store that can be read");
        let expected: Vec<_> = ids.into_iter().map(|id| subscriber(topic, id, "http://x/")).collect();
        assert_eq!(told, expected);
    }
}

pub(super) async fn who_subscribes_again_moves(subject: &dyn Subject) {
    let store = subject.fresh().await;
    for deliver in ["http://old/", "http://new/", "http://new/"] {
        put(&*store, "a", "1", deliver).await;
        assert_eq!(all(&*store).await, [subscriber("a", "1", deliver)]);
    }
}

pub(super) async fn who_left_is_gone(subject: &dyn Subject) {
    let store = subject.fresh().await;
    put(&*store, "a", "1", "http://x/").await;
    put(&*store, "a", "2", "http://x/").await;
    let left = || Subscription::Drop("a".parse().expect("a topic"), "1".parse().expect("an id"));
    for _ in 0..2 {
        change(&*store, left()).await;
        assert_eq!(all(&*store).await, [subscriber("a", "2", "http://x/")]);
    }
}
