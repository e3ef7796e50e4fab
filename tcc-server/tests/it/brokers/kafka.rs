//! Kafka.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tcc_core::Phase;
use tcc_tests::Broker;

use super::{PATIENCE, Received, Sender, check_all, options};

fn config(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("127.0.0.1:{}", broker.port())).set("group.id", "points");
    config
}

async fn make_topic(broker: &Broker, name: &str) {
    let admin: AdminClient<DefaultClientContext> = config(broker).create().unwrap();
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let wait = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    for result in admin.create_topics([&topic], &wait).await.unwrap() {
        result.unwrap();
    }
}

/// All there is; this waits in its thread.
fn drain(broker: &Broker, topic: &str) -> Vec<Received> {
    let consumer: BaseConsumer = config(broker).create().unwrap();
    let (first, next) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let mut all = Vec::new();
    while first + i64::try_from(all.len()).unwrap() < next {
        let message = consumer.poll(PATIENCE).expect("a message in time").unwrap();
        assert_eq!(message.key(), Some(&b"shop"[..]));
        let headers = message.headers().unwrap();
        let headers: Vec<(&str, String)> = headers
            .iter()
            .map(|one| (one.key, String::from_utf8(one.value.unwrap().to_vec()).unwrap()))
            .collect();
        let text = |name: &str| headers.iter().find(|(key, _)| *key == name).unwrap().1.clone();
        let attributes = headers
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("ce_")?.to_owned(), value.clone())));
        all.push(Received {
            id: text("ce_id"),
            attributes: attributes.collect(),
            shop: text("x-shop"),
            content_type: text("content-type"),
            data: String::from_utf8(message.payload().unwrap().to_vec()).unwrap(),
        });
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_has_every_message_although_it_is_killed() {
    let Some(mut broker) = tokio::task::block_in_place(Broker::kafka) else { return };
    make_topic(&broker, "orders").await;
    let sender = Sender::new(options());
    let endpoint = format!("kafka://127.0.0.1:{}/orders?key=shop&type=order.placed", broker.port());
    sender.deliver_while_killed(&mut broker, &endpoint).await;
    check_all(&tokio::task::block_in_place(|| drain(&broker, "orders")));

    // There is no such topic.
    let nowhere = endpoint.replace("/orders", "/nowhere");
    let (known, why) = sender.calls_for_a_human(1000, &nowhere).await;
    assert_eq!(why, "status 404");
    make_topic(&broker, "nowhere").await;
    assert_eq!(sender.ends(known).await, Phase::Confirmed);
    assert_eq!(tokio::task::block_in_place(|| drain(&broker, "nowhere"))[0].id, "order/1000~placed");
}
