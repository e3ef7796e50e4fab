//! ActiveMQ, by AMQP 1.0.

use std::time::Duration;

use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::types::messaging::{Body, MessageId};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use fe2o3_amqp::{Connection, Delivery, Receiver, Session};
use tcc_tests::Broker;

use super::tls::Front;
use super::{PATIENCE, Received, Sender, check_all, ids, options};

fn endpoint(broker: &Broker) -> String {
    format!("amqp1://127.0.0.1:{}/orders?key=shop&type=order.placed", broker.port())
}

fn received(delivery: &Delivery<Body<Value>>) -> Received {
    let message = delivery.message();
    assert!(message.header.as_ref().unwrap().durable);
    let properties = message.properties.as_ref().unwrap();
    let Some(MessageId::String(id)) = &properties.message_id else { panic!("{properties:?}") };
    assert_eq!(properties.group_id.as_deref(), Some("shop"));
    let text = |value: &SimpleValue| match value {
        SimpleValue::String(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let headers = &message.application_properties.as_ref().unwrap().0;
    let attributes = headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("cloudEvents_")?.to_owned(), text(value))));
    let Body::Data(data) = &message.body else { panic!("{:?}", message.body) };
    Received {
        id: id.clone(),
        attributes: attributes.collect(),
        shop: text(headers.get("x-shop").unwrap()),
        content_type: properties.content_type.as_ref().unwrap().0.clone(),
        data: String::from_utf8(data.iter().flat_map(|data| data.0.to_vec()).collect()).unwrap(),
    }
}

/// All there is: what comes later than a while after the last is not there.
async fn drain(broker: &Broker, address: &str) -> Vec<Received> {
    let at = format!("amqp://127.0.0.1:{}", broker.port());
    let connection = Connection::builder().container_id("drain").sasl_profile(SaslProfile::Anonymous);
    let mut connection = connection.open(&*at).await.unwrap();
    let mut session = Session::begin(&mut connection).await.unwrap();
    let mut receiver = Receiver::attach(&mut session, "drain", address).await.unwrap();
    let (mut all, mut wait) = (Vec::new(), PATIENCE);
    while let Ok(delivery) = tokio::time::timeout(wait, receiver.recv::<Body<Value>>()).await {
        let delivery = delivery.unwrap();
        receiver.accept(&delivery).await.unwrap();
        all.push(received(&delivery));
        wait = Duration::from_secs(3);
    }
    connection.close().await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activemq_has_every_message_although_it_is_killed() {
    let Some(mut broker) = tokio::task::block_in_place(Broker::activemq) else { return };
    let endpoint = endpoint(&broker);
    Sender::new(options()).deliver_while_killed(&mut broker, &endpoint).await;
    check_all(&drain(&broker, "orders").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activemq_that_hangs_delays_only_its_own() {
    let Some(mut broker) = tokio::task::block_in_place(Broker::activemq) else { return };
    let endpoint = endpoint(&broker);
    let delivered = Sender::new(options()).others_go_on_while_one_hangs(&mut broker, &endpoint).await;
    assert_eq!(ids(&drain(&broker, "orders").await), delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activemq_is_believed_in_tls_by_its_name_alone() {
    let Some(broker) = tokio::task::block_in_place(Broker::activemq) else { return };
    let front = Front::of(&broker).await;
    front.is_believed_by_its_name_alone(&endpoint(&broker).replace("amqp1", "amqp1s")).await;
    assert_eq!(ids(&drain(&broker, "orders").await), ["order/2~placed".to_owned()].into());
}
