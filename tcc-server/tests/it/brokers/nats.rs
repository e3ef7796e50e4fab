//! NATS JetStream.

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, Context, stream};
use tcc_core::Phase;
use tcc_tests::Broker;

use super::tls::Shown;
use super::{Received, Sender, check_all, ids, only_who_is_known_is_let_in, options};

async fn context(broker: &Broker) -> Context {
    let client = async_nats::connect(format!("nats://127.0.0.1:{}", broker.port())).await.unwrap();
    jetstream::new(client)
}

fn endpoint(broker: &Broker) -> String {
    format!("nats://127.0.0.1:{}/orders.placed?type=order.placed", broker.port())
}

async fn make_stream(context: &Context, name: &str, subject: &str) {
    let config =
        stream::Config { name: name.to_owned(), subjects: vec![subject.to_owned()], ..Default::default() };
    context.create_stream(config).await.unwrap();
}

async fn drain(context: &Context, name: &str) -> Vec<Received> {
    let mut stream = context.get_stream(name).await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut all = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let headers = &message.headers;
        let text = |name: &str| headers.get(name).unwrap().as_str().to_owned();
        let attributes = headers.iter().filter_map(|(name, values)| {
            let name: &str = name.as_ref();
            Some((name.strip_prefix("ce-")?.to_owned(), values[0].as_str().to_owned()))
        });
        all.push(Received {
            id: text("Nats-Msg-Id"),
            attributes: attributes.collect(),
            shop: text("x-shop"),
            content_type: text("content-type"),
            data: String::from_utf8(message.payload.to_vec()).unwrap(),
        });
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_has_every_message_although_it_is_killed() {
    let Some(mut broker) = tokio::task::block_in_place(|| Broker::nats("")) else { return };
    make_stream(&context(&broker).await, "ORDERS", "orders.*").await;
    let sender = Sender::new(options());
    let endpoint = endpoint(&broker);
    sender.deliver_while_killed(&mut broker, &endpoint).await;
    let context = context(&broker).await;
    let received = drain(&context, "ORDERS").await;
    check_all(&received);

    // No stream keeps what goes to this subject.
    let nowhere = format!("nats://127.0.0.1:{}/nowhere", broker.port());
    let (known, why) = sender.calls_for_a_human(1000, &nowhere).await;
    assert_eq!(why, "status 404");
    make_stream(&context, "NOWHERE", "nowhere").await;
    assert_eq!(sender.ends(known).await, Phase::Confirmed);
    assert_eq!(drain(&context, "NOWHERE").await[0].id, "order/1000~placed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_that_hangs_delays_only_its_own() {
    let Some(mut broker) = tokio::task::block_in_place(|| Broker::nats("")) else { return };
    let endpoint = endpoint(&broker);
    make_stream(&context(&broker).await, "ORDERS", "orders.*").await;
    let delivered = Sender::new(options()).others_go_on_while_one_hangs(&mut broker, &endpoint).await;
    assert_eq!(ids(&drain(&context(&broker).await, "ORDERS").await), delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_told_who_this_is() {
    let flags = "--user shop --pass secret:1";
    let Some(broker) = tokio::task::block_in_place(|| Broker::nats(flags)) else { return };
    let known = ConnectOptions::new().user_and_password("shop".to_owned(), "secret:1".to_owned());
    let client = known.connect(format!("nats://127.0.0.1:{}", broker.port())).await.unwrap();
    let context = jetstream::new(client);
    make_stream(&context, "ORDERS", "orders.*").await;
    only_who_is_known_is_let_in(&endpoint(&broker), "shop:secret:1", "status 403").await;
    assert_eq!(drain(&context, "ORDERS").await[0].id, "order/1~placed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_believed_in_tls_by_its_name_alone() {
    let shown = Shown::new();
    let flags = shown.flags();
    let Some(broker) = tokio::task::block_in_place(|| Broker::nats(&flags)) else { return };
    let client = ConnectOptions::new().add_root_certificates(shown.authority_file());
    let client = client.connect(format!("tls://localhost:{}", broker.port())).await.unwrap();
    let context = jetstream::new(client);
    make_stream(&context, "ORDERS", "orders.*").await;
    shown.is_believed_by_its_name_alone(&endpoint(&broker).replace("nats", "natss")).await;
    assert_eq!(drain(&context, "ORDERS").await[0].id, "order/2~placed");
}
