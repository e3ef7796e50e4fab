//! Topics: who hears of what is published.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tcc_core::store::Subscription;
use tcc_core::wire::{SubscribeRequest, TopicList, TopicView};
use tcc_core::{SubscriberId, TopicName};

use super::asked::{NamedSubscriber, NamedTopic};
use super::body::Body;
use super::openapi::{Asking, Changing};
use super::problem::Failure;
use super::{Api, json, own_task};

/// Subscribes to a topic, or has a subscriber hear elsewhere.
///
/// What is begun from here on goes there. The same again changes nothing.
#[utoipa::path(put, path = "/v1/topics/{topic}/subscribers/{id}",
    params(("topic" = TopicName, Path), ("id" = SubscriberId, Path)), request_body = SubscribeRequest, responses(
    (status = 200, description = "It has subscribed, durably", body = TopicView),
    Changing,
))]
pub(super) async fn subscribe(
    State(api): State<Arc<Api>>,
    NamedSubscriber(topic, id): NamedSubscriber,
    body: Body<SubscribeRequest>,
) -> Result<Response, Failure> {
    let subscriber = body.0.parse(topic.clone(), id)?;
    change(&api, topic, Subscription::Put(subscriber)).await
}

/// Ends a subscription. What was begun before is delivered all the same.
#[utoipa::path(delete, path = "/v1/topics/{topic}/subscribers/{id}",
    params(("topic" = TopicName, Path), ("id" = SubscriberId, Path)), responses(
    (status = 200, description = "It is no subscriber, durably", body = TopicView),
    Changing,
))]
pub(super) async fn unsubscribe(
    State(api): State<Arc<Api>>,
    NamedSubscriber(topic, id): NamedSubscriber,
) -> Result<Response, Failure> {
    change(&api, topic.clone(), Subscription::Drop(topic, id)).await
}

/// Who has subscribed to a topic. One that nobody has ever heard of has no subscribers.
#[utoipa::path(get, path = "/v1/topics/{topic}", params(("topic" = TopicName, Path)), responses(
    (status = 200, description = "Its subscribers", body = TopicView),
    Asking,
))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    NamedTopic(topic): NamedTopic,
) -> Result<Response, Failure> {
    told(&api, topic).await
}

/// All topics, and who has subscribed to them.
#[utoipa::path(get, path = "/v1/topics", responses(
    (status = 200, description = "Those that have subscribers", body = TopicList),
    Asking,
))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    let _place = api.lists.acquire().await.expect("never closed");
    Ok(json(StatusCode::OK, &TopicList::of(&api.coordinator.subscribers(None).await?)))
}

async fn change(api: &Api, topic: TopicName, change: Subscription) -> Result<Response, Failure> {
    let acting = api.coordinator.clone();
    own_task(api, async move { acting.subscribe(change).await }).await?;
    told(api, topic).await
}

async fn told(api: &Api, topic: TopicName) -> Result<Response, Failure> {
    let subscribers = api.coordinator.subscribers(Some(&topic)).await?;
    Ok(json(StatusCode::OK, &TopicView::of(topic, &subscribers)))
}
