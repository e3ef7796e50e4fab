//! Consumes from Kafka.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists;
use tcc_client::{BoxError, Received};

use super::Loyalty;

/// What the topic is called.
pub const TOPIC: &str = "points";

fn config(at: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", at).set("group.id", "loyalty").set("auto.offset.reset", "earliest");
    // Only what was received is: no clock says so.
    config.set("enable.auto.commit", "false");
    config
}

/// Makes the topic, if it is not there.
///
/// # Errors
/// When Kafka is not there, or does not allow it.
pub async fn make_topic(at: &str) -> Result<(), BoxError> {
    let admin: AdminClient<DefaultClientContext> = config(at).create()?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    let wait = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    for made in admin.create_topics([&topic], &wait).await? {
        match made {
            Ok(_) | Err((_, TopicAlreadyExists)) => {}
            Err((name, error)) => return Err(format!("{name}: {error}").into()),
        }
    }
    Ok(())
}

/// Consumes until so many messages were acknowledged. It dies each time that it has credited one, before it commits the
/// offset: Kafka delivers the message again, and it is known.
///
/// # Errors
/// When Kafka goes away, or a message cannot be read or received.
pub async fn consume(at: &str, loyalty: &Loyalty, messages: usize) -> Result<(), BoxError> {
    let mut acknowledged = 0;
    while acknowledged < messages {
        let consumer: StreamConsumer = config(at).create()?;
        consumer.subscribe(&[TOPIC])?;
        while acknowledged < messages {
            let message = consumer.recv().await?;
            let (source, id) = (header(&message, "ce_source")?, header(&message, "ce_id")?);
            let points = serde_json::from_slice(message.payload().unwrap_or_default())?;
            match loyalty.receive(&source, &id, points).await? {
                Received::New(()) => break,
                Received::Repeat => consumer.commit_message(&message, CommitMode::Sync)?,
            }
            acknowledged += 1;
        }
    }
    Ok(())
}

fn header(message: &BorrowedMessage<'_>, name: &str) -> Result<String, BoxError> {
    let mut headers = message.headers().into_iter().flat_map(Headers::iter);
    let value = headers.find(|header| header.key == name).and_then(|header| header.value);
    let value = value.ok_or_else(|| format!("a message without {name}"))?;
    Ok(String::from_utf8(value.to_vec())?)
}
