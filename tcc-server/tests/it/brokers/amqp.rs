//! RabbitMQ.

use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tcc_core::Phase;
use tcc_core::answer::Response;
use tcc_server::transport::{BrokerTransport, Transports};
use tcc_tests::Broker;

use super::tls::Front;
use super::{PATIENCE, Received, Sender, check_all, ids, only_who_is_known_is_let_in, options};
use crate::scripted::{Script, status};

async fn channel(broker: &Broker) -> Channel {
    let at = format!("amqp://127.0.0.1:{}", broker.port());
    let connection = Connection::connect(&at, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    // It goes with the connection.
    tokio::spawn(async move {
        tokio::time::sleep(PATIENCE * 4).await;
        drop(connection);
    });
    channel
}

fn endpoint(broker: &Broker) -> String {
    format!("amqp://127.0.0.1:{}/%2F?key=orders&type=order.placed", broker.port())
}

async fn declare(channel: &Channel, queue: &str) {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
}

fn received(properties: &BasicProperties, data: &[u8]) -> Received {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => text.to_string(),
        other => panic!("{other:?}"),
    };
    let headers = properties.headers().as_ref().unwrap().inner();
    let attributes = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().strip_prefix("cloudEvents_")?.to_owned(), text(value)))
    });
    assert_eq!(properties.delivery_mode(), &Some(2), "persistent");
    Received {
        id: properties.message_id().as_ref().unwrap().to_string(),
        attributes: attributes.collect(),
        shop: text(&headers["x-shop"]),
        content_type: properties.content_type().as_ref().unwrap().to_string(),
        data: String::from_utf8(data.to_vec()).unwrap(),
    }
}

async fn drain(channel: &Channel, queue: &str) -> Vec<Received> {
    let mut all = Vec::new();
    let unasked = BasicGetOptions { no_ack: true };
    while let Some(got) = channel.basic_get(queue.into(), unasked).await.unwrap() {
        all.push(received(&got.delivery.properties, &got.delivery.data));
    }
    all
}

/// Money by TCC, a flight as a saga's step, and a broker that hears of it once both are confirmed, or never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_the_broker_hears_of_a_mixed_transaction_if_it_is_confirmed() {
    let Some(broker) = tokio::task::block_in_place(Broker::rabbitmq) else { return };
    let channel = channel(&broker).await;
    declare(&channel, "orders").await;
    let script = Script::new(async |outgoing| {
        let refuses =
            outgoing.call.endpoint.as_str() == "t:money/try" && outgoing.call.gid.as_str() == "mixed/2";
        if refuses { Response::refused("no money").into() } else { status(200) }
    });
    let transports = Transports::new().with(script.clone()).with(BrokerTransport::new(options()).unwrap());
    let sender = Sender::over(transports);
    for (gid, ends) in [("mixed/1", Phase::Confirmed), ("mixed/2", Phase::Cancelled)] {
        let order = format!(
            r#"{{"gid":"{gid}","branches":[
                {{"id":"flight","action":"t:flight/book","compensate":"t:flight/give-back"}},
                {{"id":"money","after":["flight"],"at":"t:money"}},
                {{"id":"placed","confirm":"{}","payload":{{}},"headers":{{"x-shop":"main"}}}}]}}"#,
            endpoint(&broker)
        );
        let known = sender.begin_this(&order).await;
        assert_eq!(sender.ends(known).await, ends, "{gid}");
    }
    assert_eq!(script.count("cancel flight"), 1, "the second one's");
    let heard: Vec<String> = drain(&channel, "orders").await.into_iter().map(|one| one.id).collect();
    assert_eq!(heard, ["mixed/1~placed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_has_every_message_although_it_is_killed() {
    let Some(mut broker) = tokio::task::block_in_place(Broker::rabbitmq) else { return };
    declare(&channel(&broker).await, "orders").await;
    let sender = Sender::new(options());
    let endpoint = endpoint(&broker);
    sender.deliver_while_killed(&mut broker, &endpoint).await;
    check_all(&drain(&channel(&broker).await, "orders").await);

    // To a queue that is not there: RabbitMQ would drop it, and confirm.
    let nowhere = format!("amqp://127.0.0.1:{}?key=nowhere&type=order.placed", broker.port());
    let (known, why) = sender.calls_for_a_human(1000, &nowhere).await;
    assert_eq!(why, "status 404");
    // To an exchange that is not there.
    let unknown = format!("amqp://127.0.0.1:{}?exchange=unknown&key=a", broker.port());
    let (_, why) = sender.calls_for_a_human(1001, &unknown).await;
    assert_eq!(why, "status 404");
    let (_, why) = sender.calls_for_a_human(1002, &endpoint.replace("/%2F", "/other")).await;
    assert_eq!(why, "status 403");
    // While one cannot be routed, the next can; and it is delivered itself as soon as it can be.
    let next = sender.begin(1003, &endpoint).await;
    assert_eq!(sender.ends(next).await, Phase::Confirmed);
    let channel = channel(&broker).await;
    declare(&channel, "nowhere").await;
    assert_eq!(sender.ends(known).await, Phase::Confirmed);
    let ids = |all: Vec<Received>| all.into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(drain(&channel, "nowhere").await), ["order/1000~placed"]);
    assert_eq!(ids(drain(&channel, "orders").await), ["order/1003~placed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rabbitmq_that_hangs_delays_only_its_own() {
    let Some(mut broker) = tokio::task::block_in_place(Broker::rabbitmq) else { return };
    let endpoint = endpoint(&broker);
    declare(&channel(&broker).await, "orders").await;
    let delivered = Sender::new(options()).others_go_on_while_one_hangs(&mut broker, &endpoint).await;
    assert_eq!(ids(&drain(&channel(&broker).await, "orders").await), delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_told_who_this_is_and_that_in_tls() {
    let Some(broker) = tokio::task::block_in_place(Broker::rabbitmq) else { return };
    declare(&channel(&broker).await, "orders").await;
    only_who_is_known_is_let_in(&endpoint(&broker), "guest:guest", "status 403").await;
    let front = Front::of(&broker).await;
    front.is_believed_by_its_name_alone(&endpoint(&broker).replace("amqp", "amqps")).await;
    let received = drain(&channel(&broker).await, "orders").await;
    assert_eq!(ids(&received), ["order/1~placed".to_owned(), "order/2~placed".to_owned()].into());
}
