//! Redis Streams.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig};
use tcc_core::Phase;
use tcc_tests::Broker;

use super::tls::Front;
use super::{PATIENCE, Received, Sender, check_all, ids, only_who_is_known_is_let_in, options};

async fn connection(broker: &Broker) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/3", broker.port())).unwrap();
    // It would wait for half a second, which is little on a machine that does something else.
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

fn endpoint(broker: &Broker) -> String {
    format!("redis://127.0.0.1:{}/orders?db=3&type=order.placed", broker.port())
}

async fn make_stream(connection: &mut MultiplexedConnection, name: &str) {
    let mut make = redis::cmd("XGROUP");
    make.arg("CREATE").arg(name).arg("points").arg("0").arg("MKSTREAM");
    let () = make.query_async(connection).await.unwrap();
}

async fn drain(connection: &mut MultiplexedConnection, name: &str) -> Vec<Received> {
    let mut range = redis::cmd("XRANGE");
    let range = range.arg(name).arg("-").arg("+");
    let entries: Vec<(String, Vec<String>)> = range.query_async(connection).await.unwrap();
    let read = |(_, fields): (String, Vec<String>)| {
        let fields: BTreeMap<_, _> =
            fields.chunks(2).map(|field| (field[0].clone(), field[1].clone())).collect();
        let attributes = fields
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("ce_")?.to_owned(), value.clone())));
        Received {
            id: fields["ce_id"].clone(),
            attributes: attributes.collect(),
            shop: fields["x-shop"].clone(),
            content_type: fields["content-type"].clone(),
            data: fields["data"].clone(),
        }
    };
    entries.into_iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_has_every_message_although_it_is_killed() {
    let Some(mut broker) = tokio::task::block_in_place(Broker::redis) else { return };
    make_stream(&mut connection(&broker).await, "orders").await;
    let sender = Sender::new(options());
    let endpoint = endpoint(&broker);
    sender.deliver_while_killed(&mut broker, &endpoint).await;
    let mut connection = connection(&broker).await;
    check_all(&drain(&mut connection, "orders").await);

    // Nobody has made this stream, so nobody reads it.
    let nowhere = format!("redis://127.0.0.1:{}/nowhere?db=3", broker.port());
    let (known, why) = sender.calls_for_a_human(1000, &nowhere).await;
    assert_eq!(why, "status 404");
    let _: () = connection.set("a-text", "").await.unwrap();
    let (_, why) = sender.calls_for_a_human(1001, &nowhere.replace("nowhere", "a-text")).await;
    assert_eq!(why, "status 400");
    make_stream(&mut connection, "nowhere").await;
    assert_eq!(sender.ends(known).await, Phase::Confirmed);
    assert_eq!(drain(&mut connection, "nowhere").await[0].id, "order/1000~placed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_delays_only_its_own() {
    let Some(mut broker) = tokio::task::block_in_place(Broker::redis) else { return };
    let endpoint = endpoint(&broker);
    make_stream(&mut connection(&broker).await, "orders").await;
    let delivered = Sender::new(options()).others_go_on_while_one_hangs(&mut broker, &endpoint).await;
    assert_eq!(ids(&drain(&mut connection(&broker).await, "orders").await), delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_told_who_this_is_and_that_in_tls() {
    let Some(broker) = tokio::task::block_in_place(Broker::redis) else { return };
    let mut connection = connection(&broker).await;
    make_stream(&mut connection, "orders").await;
    let front = Front::of(&broker).await;
    front.is_believed_by_its_name_alone(&endpoint(&broker).replace("redis", "rediss")).await;
    let mut set = redis::cmd("CONFIG");
    let () = set.arg("SET").arg("requirepass").arg("secret:1").query_async(&mut connection).await.unwrap();
    only_who_is_known_is_let_in(&endpoint(&broker), "default:secret:1", "status 403").await;
    let received = drain(&mut connection, "orders").await;
    assert_eq!(ids(&received), ["order/1~placed".to_owned(), "order/2~placed".to_owned()].into());
}
