//! RocketMQ, asked by this module's own reading of its protocol.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;
use tcc_core::Phase;
use tcc_tests::Broker;

use super::{PATIENCE, Received, Sender, check_all, ids, only_who_is_known_is_let_in, options};

/// What it is asked here.
const PULL: i32 = 11;
const MAKE_TOPIC: i32 = 17;
const ROUTE: i32 = 105;
/// What it answers.
const FOUND: i64 = 0;
const NOT_FOUND: i64 = 19;
const LOGIN: (&str, &str) = ("shop", "secret:1");

fn endpoint(broker: &Broker) -> String {
    format!("rocketmq://127.0.0.1:{}/orders?key=shop&tag=placed&type=order.placed", broker.beside().port())
}

/// The code and the body that are answered.
fn ask(port: u16, code: i32, fields: &[(&str, &str)]) -> (i64, Vec<u8>) {
    let mut fields: BTreeMap<&str, &str> = fields.iter().copied().collect();
    fields.insert("AccessKey", LOGIN.0);
    let mut mac = Hmac::<Sha1>::new_from_slice(LOGIN.1.as_bytes()).unwrap();
    mac.update(fields.values().copied().collect::<String>().as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    fields.insert("Signature", &signature);
    let header = json!({"code": code, "language": "OTHER", "version": 0, "opaque": 1, "flag": 0,
        "extFields": fields, "serializeTypeCurrentRPC": "JSON"});
    let header = header.to_string().into_bytes();
    let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(&[&length(4 + header.len())[..], &length(header.len()), &header].concat()).unwrap();
    let mut number = [0; 4];
    tcp.read_exact(&mut number).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(number) as usize];
    tcp.read_exact(&mut frame).unwrap();
    let mut rest = &frame[..];
    let header = u32::from_be_bytes(take(&mut rest, 4).try_into().unwrap());
    let header: Value = serde_json::from_slice(take(&mut rest, header as usize)).unwrap();
    (header["code"].as_i64().unwrap(), rest.to_vec())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(length);
    *rest = left;
    taken
}

/// A topic with four queues.
fn make_topic(broker: &Broker, name: &str) {
    let fields = [
        ("topic", name),
        ("defaultTopic", name),
        ("readQueueNums", "4"),
        ("writeQueueNums", "4"),
        ("perm", "6"),
        ("topicFilterType", "SINGLE_TAG"),
        ("topicSysFlag", "0"),
        ("order", "false"),
    ];
    assert_eq!(ask(broker.port(), MAKE_TOPIC, &fields).0, 0);
    // The name server is told a little later.
    let by = Instant::now() + PATIENCE;
    while ask(broker.beside().port(), ROUTE, &[("topic", name)]).0 != 0 {
        assert!(Instant::now() < by, "nobody can find the topic");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Reads a message off the front of what was pulled.
fn received(rest: &mut &[u8]) -> Received {
    // Numbers and times, of which only lengths matter here.
    take(rest, 84);
    let length = u32::from_be_bytes(take(rest, 4).try_into().unwrap());
    let data = String::from_utf8(take(rest, length as usize).to_vec()).unwrap();
    let length = take(rest, 1)[0];
    take(rest, length.into());
    let length = u16::from_be_bytes(take(rest, 2).try_into().unwrap());
    let properties = String::from_utf8(take(rest, length.into()).to_vec()).unwrap();
    let properties: BTreeMap<_, _> =
        properties.split_terminator('\u{2}').map(|one| one.split_once('\u{1}').unwrap()).collect();
    assert_eq!((properties["KEYS"], properties["TAGS"]), ("shop", "placed"));
    assert_eq!(properties["UNIQ_KEY"], properties["CE_id"]);
    let attributes = properties.iter().filter_map(|(name, value)| Some((name.strip_prefix("CE_")?, *value)));
    let attributes = attributes.filter(|(name, _)| *name != "datacontenttype");
    Received {
        id: properties["UNIQ_KEY"].to_owned(),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        shop: properties["x-shop"].to_owned(),
        content_type: properties["CE_datacontenttype"].to_owned(),
        data,
    }
}

/// All there is. What has one key is in one queue.
fn drain(broker: &Broker, topic: &str) -> Vec<Received> {
    let mut queues: Vec<Vec<Received>> = Vec::new();
    for queue in ["0", "1", "2", "3"] {
        let mut all = Vec::new();
        loop {
            let offset = all.len().to_string();
            let fields = [
                ("consumerGroup", "points"),
                ("topic", topic),
                ("queueId", queue),
                ("queueOffset", &offset),
                ("maxMsgNums", "32"),
                // With what it subscribes to.
                ("sysFlag", "4"),
                ("commitOffset", "0"),
                ("suspendTimeoutMillis", "0"),
                ("subscription", "*"),
                ("subVersion", "0"),
                ("expressionType", "TAG"),
            ];
            let (code, body) = ask(broker.port(), PULL, &fields);
            assert!([FOUND, NOT_FOUND].contains(&code), "{code}");
            if code == NOT_FOUND {
                break;
            }
            let mut rest = &body[..];
            while !rest.is_empty() {
                all.push(received(&mut rest));
            }
        }
        queues.push(all);
    }
    queues.retain(|queue| !queue.is_empty());
    assert_eq!(queues.len(), 1, "{queues:?}");
    queues.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rocketmq_has_every_message_although_it_is_killed() {
    let Some(mut broker) = tokio::task::block_in_place(|| Broker::rocketmq(None)) else { return };
    tokio::task::block_in_place(|| make_topic(&broker, "orders"));
    let sender = Sender::new(options());
    let endpoint = endpoint(&broker);
    sender.deliver_while_killed(&mut broker, &endpoint).await;
    check_all(&tokio::task::block_in_place(|| drain(&broker, "orders")));

    // There is no such topic, which looks as if its broker were away.
    let (known, why) = sender.calls_for_a_human(1000, &endpoint.replace("/orders", "/nowhere")).await;
    assert!(why.starts_with("20 calls and no answer"), "{why}");
    tokio::task::block_in_place(|| make_topic(&broker, "nowhere"));
    assert_eq!(sender.ends(known).await, Phase::Confirmed);
    assert_eq!(tokio::task::block_in_place(|| drain(&broker, "nowhere"))[0].id, "order/1000~placed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rocketmq_that_hangs_delays_only_its_own() {
    let Some(mut broker) = tokio::task::block_in_place(|| Broker::rocketmq(None)) else { return };
    tokio::task::block_in_place(|| make_topic(&broker, "orders"));
    let endpoint = endpoint(&broker);
    let delivered = Sender::new(options()).others_go_on_while_one_hangs(&mut broker, &endpoint).await;
    assert_eq!(ids(&tokio::task::block_in_place(|| drain(&broker, "orders"))), delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rocketmq_is_told_who_this_is() {
    let Some(broker) = tokio::task::block_in_place(|| Broker::rocketmq(Some(LOGIN))) else { return };
    tokio::task::block_in_place(|| make_topic(&broker, "orders"));
    only_who_is_known_is_let_in(&endpoint(&broker), "shop:secret:1", "status 403").await;
    let received = tokio::task::block_in_place(|| drain(&broker, "orders"));
    assert_eq!(ids(&received), ["order/1~placed".to_owned()].into());
}
