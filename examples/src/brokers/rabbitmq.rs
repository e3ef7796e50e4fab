//! Consumes from RabbitMQ.

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use tcc_client::{BoxError, Received};

use super::Loyalty;

/// What the queue is called.
pub const QUEUE: &str = "points";

/// Connects, and makes the queue if it is not there. A message at a time is under way.
///
/// # Errors
/// When RabbitMQ is not there, or does not allow it.
pub async fn connect(at: &str) -> Result<(Connection, Channel), BoxError> {
    let connection = Connection::connect(&format!("amqp://{at}"), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), durable, FieldTable::default()).await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    Ok((connection, channel))
}

/// Consumes until so many messages were acknowledged. It dies each time that it has credited one, before it acknowledges:
/// the connection is lost, RabbitMQ delivers the message again, and it is known.
///
/// # Errors
/// When RabbitMQ goes away, or a message cannot be read or received.
pub async fn consume(at: &str, loyalty: &Loyalty, messages: usize) -> Result<(), BoxError> {
    let mut acknowledged = 0;
    while acknowledged < messages {
        let (_connection, channel) = connect(at).await?;
        let (queue, tag) = (QUEUE.into(), "loyalty".into());
        let consuming =
            channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default());
        let mut deliveries = consuming.await?;
        while let Some(delivery) = deliveries.next().await.transpose()? {
            let (source, id) =
                (header(&delivery, "cloudEvents_source")?, header(&delivery, "cloudEvents_id")?);
            let points = serde_json::from_slice(&delivery.data)?;
            match loyalty.receive(&source, &id, points).await? {
                Received::New(()) => break,
                Received::Repeat => delivery.ack(BasicAckOptions::default()).await?,
            };
            acknowledged += 1;
            if acknowledged == messages {
                break;
            }
        }
    }
    Ok(())
}

fn header(delivery: &Delivery, name: &str) -> Result<String, BoxError> {
    let headers = delivery.properties.headers().as_ref();
    let text =
        headers.and_then(|headers| headers.inner().get(name)?.as_long_string().map(ToString::to_string));
    text.ok_or_else(|| format!("a message without {name}").into())
}
