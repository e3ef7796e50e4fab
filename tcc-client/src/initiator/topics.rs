//! Topics: who hears of what is published.

use reqwest::Method;
use tcc_core::wire::{SubscribeRequest, TopicList, TopicView};
use tcc_core::{SubscriberId, TopicName};

use super::client::Client;
use super::error::{Error, Failure};
use super::exchange::{Ask, Wish, segment};

impl Client {
    /// Subscribes to a topic: a branch whose `confirm` is `topic:` and its name is delivered here as well, from what is
    /// begun after this. Saying it again changes nothing, and with another endpoint moves the subscriber: a service may
    /// say it each time it starts.
    ///
    /// # Errors
    /// [`Error::Topics`], with the code `invalid` where the endpoint is none that the coordinator calls, or the topic has
    /// as many as it can have.
    pub async fn subscribe(
        &self,
        topic: &TopicName,
        id: &SubscriberId,
        deliver: &str,
    ) -> Result<TopicView, Error> {
        let body = SubscribeRequest { deliver: deliver.to_owned() };
        self.of_topic(Ask::at(Wish::Topics, Method::PUT, subscriber(topic, id)).body(&body), topic).await
    }

    /// Ends a subscription. What was begun before is delivered all the same.
    ///
    /// # Errors
    /// [`Error::Topics`].
    pub async fn unsubscribe(&self, topic: &TopicName, id: &SubscriberId) -> Result<TopicView, Error> {
        self.of_topic(Ask::at(Wish::Topics, Method::DELETE, subscriber(topic, id)), topic).await
    }

    /// All topics that somebody has subscribed to.
    ///
    /// # Errors
    /// [`Error::Topics`].
    pub async fn topics(&self) -> Result<TopicList, Error> {
        let ask = Ask::at(Wish::Topics, Method::GET, "/topics".to_owned());
        Ok(self.exchange_for(ask, |_, list| Ok(list)).await?.view)
    }

    async fn of_topic(&self, ask: Ask<'_>, topic: &TopicName) -> Result<TopicView, Error> {
        let judge = |_: &Ask<'_>, view: TopicView| {
            let other = || Failure::Unreadable(format!("it is of {}", view.topic).into());
            if view.topic == *topic { Ok(view) } else { Err(other()) }
        };
        Ok(self.exchange_for(ask, judge).await?.view)
    }
}

fn subscriber(topic: &TopicName, id: &SubscriberId) -> String {
    format!("/topics/{}/subscribers/{}", segment(topic.as_str()), segment(id.as_str()))
}
