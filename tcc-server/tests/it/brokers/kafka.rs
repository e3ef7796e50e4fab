//! Kafka.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tcc_core::Phase;
use tcc_tests::Broker;

use super::{PATIENCE, Received, Sender, check_all, ids, only_who_is_known_is_let_in, options};

fn endpoint(broker: &Broker) -> String {
    format!("kafka://127.0.0.1:{}/orders?key=shop&type=order.placed", broker.port())
}

fn config(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("127.0.0.1:{}", broker.port())).set("group.id", "points");
    config
}

async fn make_topic(config: &ClientConfig, name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let wait = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    for result in admin.create_topics([&topic], &wait).await.unwrap() {
        result.unwrap();
    }
}

/// All there is; this waits in its thread.
fn drain(config: &ClientConfig, topic: &str, partition: i32) -> Vec<Received> {
    let consumer: BaseConsumer = config.create().unwrap();
    let (first, next) = consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
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
    let Some(mut broker) = tokio::task::block_in_place(|| Broker::kafka(None)) else { return };
    make_topic(&config(&broker), "orders", 1).await;
    let sender = Sender::new(options());
    let endpoint = endpoint(&broker);
    sender.deliver_while_killed(&mut broker, &endpoint).await;
    check_all(&tokio::task::block_in_place(|| drain(&config(&broker), "orders", 0)));

    // There is no such topic.
    let nowhere = endpoint.replace("/orders", "/nowhere");
    let (known, why) = sender.calls_for_a_human(1000, &nowhere).await;
    assert_eq!(why, "status 404");
    make_topic(&config(&broker), "nowhere", 1).await;
    assert_eq!(sender.ends(known).await, Phase::Confirmed);
    assert_eq!(
        tokio::task::block_in_place(|| drain(&config(&broker), "nowhere", 0))[0].id,
        "order/1000~placed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_hangs_delays_only_its_own() {
    let Some(mut broker) = tokio::task::block_in_place(|| Broker::kafka(None)) else { return };
    let (endpoint, config) = (endpoint(&broker), config(&broker));
    make_topic(&config, "orders", 1).await;
    let delivered = Sender::new(options()).others_go_on_while_one_hangs(&mut broker, &endpoint).await;
    assert_eq!(ids(&tokio::task::block_in_place(|| drain(&config, "orders", 0))), delivered);
}

/// Its client goes on trying, and tells nobody that it is not let in: time-outs are all that is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_told_who_this_is_and_which_partition_is_meant() {
    let login = Some(("shop", "secret:1"));
    let Some(broker) = tokio::task::block_in_place(|| Broker::kafka(login)) else { return };
    let mut config = config(&broker);
    config
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanisms", "PLAIN")
        .set("sasl.username", "shop")
        .set("sasl.password", "secret:1");
    make_topic(&config, "orders", 3).await;
    let endpoint = format!("{}&partition=2", endpoint(&broker));
    only_who_is_known_is_let_in(&endpoint, "shop:secret:1", "timed-out").await;
    let received = tokio::task::block_in_place(|| drain(&config, "orders", 2));
    assert_eq!(ids(&received), ["order/1~placed".to_owned()].into());
}
