//! Kafka: `kafka://host:9092/topic?key=…`.
//!
//! The host is where the brokers of a cluster are asked for; the client then connects to those by itself.

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;

use super::message::{CONTENT_TYPE, Message};
use super::place::Place;
use super::{Connection, Dial, Kind, Scheme, status};
use crate::limits;

pub(super) struct Kafka;

/// The client. It ends by waiting for its threads, which is not for a task to do that others wait for.
struct Client(Option<FutureProducer>);

impl Kind for Kafka {
    /// None in TLS: the client does that by OpenSSL, which is not linked.
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme { name: "kafka", port: 9092, tls: false }]
    }

    fn options(&self) -> &'static [&'static str] {
        &["key", "partition"]
    }

    fn check(&self, place: &Place) -> Result<(), String> {
        let topic = &place.path;
        let spelled_well = topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !(1..=249).contains(&topic.len()) || !spelled_well || matches!(&**topic, "." | "..") {
            return Err("names no topic, as in kafka://host:9092/orders".to_owned());
        }
        if place.option("partition").is_some_and(|number| partition(number).is_none()) {
            return Err("has a \"partition\" that is no number".to_owned());
        }
        Ok(())
    }

    fn scope(&self, _: &Place) -> String {
        String::new()
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, Result<Box<dyn Connection>, Answer>> {
        Box::pin(async move {
            let mut config = ClientConfig::new();
            let waits = limits::KAFKA_TIMEOUT.as_millis().to_string();
            config
                .set("bootstrap.servers", dial.address.to_string())
                .set("client.id", "tcc-server")
                .set("acks", "all")
                .set("enable.idempotence", "true")
                .set("message.timeout.ms", waits)
                .set("queue.buffering.max.messages", limits::KAFKA_MESSAGES.to_string())
                // Who is to be told that there is no such topic waits for it.
                .set("topic.metadata.propagation.max.ms", limits::KAFKA_TOPIC.as_millis().to_string())
                .set("reconnect.backoff.max.ms", "1000");
            if let Some((user, password)) = dial.login {
                config
                    .set("security.protocol", "SASL_PLAINTEXT")
                    .set("sasl.mechanisms", "PLAIN")
                    .set("sasl.username", user)
                    .set("sasl.password", password);
            }
            let producer: FutureProducer = config.create().map_err(|_| Answer::None(Failure::Other))?;
            let client: Box<dyn Connection> = Box::new(Client(Some(producer)));
            Ok(client)
        })
    }
}

impl Connection for Client {
    fn is_open(&self) -> bool {
        self.producer().client().fatal_error().is_none()
    }

    fn deliver<'a>(&'a self, place: &'a Place, message: &'a Message) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let mut headers =
                OwnedHeaders::new().insert(Header { key: "content-type", value: Some(CONTENT_TYPE) });
            for (name, value) in message.named("ce_") {
                headers = headers.insert(Header { key: &name, value: Some(value) });
            }
            let mut record = FutureRecord::to(&place.path).payload(&message.data).headers(headers);
            record.key = place.option("key");
            record.partition = place.option("partition").and_then(partition);
            match self.producer().send_result(record) {
                Err((error, _)) => answer(&error),
                Ok(sent) => match sent.await {
                    Ok(Ok(_)) => Response::done().into(),
                    Ok(Err((error, _))) => answer(&error),
                    Err(_) => Answer::None(Failure::Broken),
                },
            }
        })
    }
}

impl Client {
    fn producer(&self) -> &FutureProducer {
        self.0.as_ref().expect("it is there until the end")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let producer = self.0.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(producer));
        }
    }
}

fn partition(number: &str) -> Option<i32> {
    number.parse().ok().filter(|number| *number >= 0)
}

fn answer(error: &KafkaError) -> Answer {
    let code = match error.rdkafka_error_code() {
        Some(code) => code,
        None => return Answer::None(Failure::Other),
    };
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => status(404),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::Authentication => {
            status(403)
        }
        Code::MessageSizeTooLarge => status(413),
        Code::InvalidTopic | Code::PolicyViolation | Code::InvalidRecord => status(400),
        // As many wait as may, or too few brokers have what the others have.
        Code::QueueFull | Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => status(503),
        Code::MessageTimedOut | Code::RequestTimedOut => Answer::None(Failure::TimedOut),
        // An enumeration of the client's, which grows.
        _ => Answer::None(Failure::Broken),
    }
}
