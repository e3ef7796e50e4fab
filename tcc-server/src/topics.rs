//! Who hears of what is published under a topic.

use tcc_core::store::Subscription;
use tcc_core::topic::Subscriber;
use tcc_core::{Invalid, TopicName, limits};

use crate::coordinator::{Coordinator, Error};

impl Coordinator {
    /// The subscribers of a topic, or of every topic, in the order of topics and then of their ids.
    ///
    /// # Errors
    /// When the store cannot be read now.
    pub async fn subscribers(&self, topic: Option<&TopicName>) -> Result<Vec<Subscriber>, Error> {
        Ok(self.store.subscribers(topic).await?)
    }

    /// Changes who has subscribed: what is begun from here on goes to whoever has then. The same again changes nothing.
    ///
    /// # Errors
    /// [`Error`] says whether the outcome is known.
    pub async fn subscribe(&self, change: Subscription) -> Result<(), Error> {
        if let Subscription::Put(subscriber) = &change {
            self.check_subscriber(subscriber).await?;
        }
        match self.store.subscribe(change.clone()).await {
            Ok(Ok(())) => {
                match &change {
                    // Not where it is delivered to: its query may be a secret.
                    Subscription::Put(put) => tracing::info!(topic = %put.topic, id = %put.id, "subscribed"),
                    Subscription::Drop(topic, id) => tracing::info!(%topic, %id, "has subscribed no more"),
                }
                Ok(())
            }
            Ok(Err(refusal)) => Err(Error::Refused(refusal)),
            Err(unknown) => {
                self.fail(&unknown);
                Err(Error::Unknown(unknown.into()))
            }
        }
    }

    /// The bounds may be passed by those who come at the same time: they are there for what lists them, not for what is
    /// begun.
    async fn check_subscriber(&self, subscriber: &Subscriber) -> Result<(), Error> {
        let invalid = |pointer: &str, detail: String| Invalid { pointer: pointer.to_owned(), detail };
        self.transports.check(&subscriber.deliver).map_err(|why| invalid("/deliver", why))?;
        let all = self.store.subscribers(None).await?;
        let same = |other: &&Subscriber| other.topic == subscriber.topic;
        if all.iter().filter(same).any(|other| other.id == subscriber.id) {
            return Ok(());
        }
        let of_topic = all.iter().filter(same).count();
        for (there, most, what) in [
            (of_topic, limits::SUBSCRIBERS, "the topic"),
            (all.len(), limits::SUBSCRIPTIONS, "all topics together"),
        ] {
            if there >= most {
                return Err(
                    invalid("", format!("would be one more than the {most} that {what} can have")).into()
                );
            }
        }
        Ok(())
    }
}
