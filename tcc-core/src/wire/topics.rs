//! Topics, and who has subscribed to them.

use serde::{Deserialize, Serialize};

use crate::definition::Invalid;
use crate::topic::Subscriber;
use crate::{Endpoint, SubscriberId, TopicName};

/// Subscribes to a topic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SubscribeRequest {
    /// Where it is delivered to: what a branch has as its `confirm`.
    #[cfg_attr(feature = "openapi", schema(example = "http://loyalty:8084/points/confirm"))]
    pub deliver: String,
}

/// A topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopicView {
    /// Its name.
    pub topic: TopicName,
    /// Who hears of what is published under it.
    pub subscribers: Vec<SubscriberView>,
}

/// A subscriber.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubscriberView {
    /// Its id.
    pub id: SubscriberId,
    /// Where it is delivered to, without what may be a secret.
    pub deliver: String,
}

/// All topics that somebody has subscribed to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopicList {
    /// In the order of their names.
    pub topics: Vec<TopicView>,
}

impl SubscribeRequest {
    /// Checks the request.
    ///
    /// # Errors
    /// When the endpoint is none.
    pub fn parse(self, topic: TopicName, id: SubscriberId) -> Result<Subscriber, Invalid> {
        let deliver: Endpoint = self.deliver.parse().map_err(|why| Invalid::new("/deliver", why))?;
        Ok(Subscriber { topic, id, deliver })
    }
}

impl TopicView {
    /// A topic with those of these subscribers that are its own.
    #[must_use]
    pub fn of(topic: TopicName, subscribers: &[Subscriber]) -> Self {
        let own = subscribers.iter().filter(|subscriber| subscriber.topic == topic);
        let subscribers = own.map(SubscriberView::of).collect();
        Self { topic, subscribers }
    }
}

impl SubscriberView {
    fn of(subscriber: &Subscriber) -> Self {
        Self { id: subscriber.id.clone(), deliver: subscriber.deliver.without_secrets() }
    }
}

impl TopicList {
    /// The topics of these subscribers, which stand together by topic.
    #[must_use]
    pub fn of(subscribers: &[Subscriber]) -> Self {
        let by_topic = subscribers.chunk_by(|one, other| one.topic == other.topic);
        Self { topics: by_topic.map(|own| TopicView::of(own[0].topic.clone(), own)).collect() }
    }
}
