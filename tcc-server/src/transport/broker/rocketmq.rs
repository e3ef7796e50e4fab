//! RocketMQ: `rocketmq://host:9876/topic?key=…&tag=…`.
//!
//! The host is a name server, which is asked each time: what is known of a cluster is out of date as soon as a broker is
//! away. The brokers that it names are looked up and checked as every host is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use sha1::{Digest, Sha1};
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;

use super::dial::Means;
use super::kept::Kept;
use super::message::{CONTENT_TYPE, Message};
use super::place::Place;
use super::remoting::{ACCESS_KEY, Fields, Remoting, Reply, SIGNATURE, signed};
use super::{Connection, Dial, Kind, Scheme, status};

pub(super) struct RocketMq;

struct Cluster {
    names: Remoting,
    brokers: Kept<Remoting>,
    login: Option<(String, String)>,
    means: Arc<Means>,
}

/// Where the messages of a topic go.
#[derive(Deserialize)]
struct Route {
    #[serde(rename = "brokerDatas")]
    brokers: Vec<Broker>,
    #[serde(rename = "queueDatas")]
    queues: Vec<Queues>,
}

#[derive(Deserialize)]
struct Broker {
    #[serde(rename = "brokerName")]
    name: String,
    /// By their numbers.
    #[serde(rename = "brokerAddrs")]
    addresses: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Queues {
    #[serde(rename = "brokerName")]
    broker: String,
    #[serde(rename = "writeQueueNums")]
    number: u32,
    perm: u32,
}

/// The number of the one of several that takes messages.
const PRIMARY: &str = "0";
/// In the permission of a topic's queues: they take messages.
const WRITES: u32 = 2;
/// What is asked.
const SEND: i32 = 10;
const ROUTE: i32 = 105;
/// What is answered.
const DONE: i32 = 0;
const ILLEGAL: i32 = 13;
const NOT_ALLOWED: i32 = 16;
const NO_TOPIC: i32 = 17;
/// Between a property's name and its value.
const IS: char = '\u{1}';
/// After the value.
const ENDS: char = '\u{2}';

impl Kind for RocketMq {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme { name: "rocketmq", port: 9876, tls: false }]
    }

    fn options(&self) -> &'static [&'static str] {
        &["key", "tag"]
    }

    fn check(&self, place: &Place) -> Result<(), String> {
        let topic = &place.path;
        let spelled_well = topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"%|_-".contains(&b));
        if !(1..=127).contains(&topic.len()) || !spelled_well {
            return Err("names no topic, as in rocketmq://host:9876/orders".to_owned());
        }
        if place.option("tag").is_some_and(|tag| tag.is_empty() || tag.contains([' ', '|', '*'])) {
            return Err("has a \"tag\" that is none: a word without | and *".to_owned());
        }
        Ok(())
    }

    fn scope(&self, _: &Place) -> String {
        String::new()
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, Result<Box<dyn Connection>, Answer>> {
        Box::pin(async move {
            let names = Remoting::connect(dial.address).await?;
            let cluster = Cluster { names, brokers: Kept::default(), login: dial.login, means: dial.means };
            let cluster: Box<dyn Connection> = Box::new(cluster);
            Ok(cluster)
        })
    }
}

impl Connection for Cluster {
    fn is_open(&self) -> bool {
        self.names.is_open()
    }

    fn deliver<'a>(&'a self, place: &'a Place, message: &'a Message) -> BoxFuture<'a, Answer> {
        Box::pin(async move { self.send(place, message).await.unwrap_or_else(|answer| answer) })
    }
}

impl Cluster {
    async fn send(&self, place: &Place, message: &Message) -> Result<Answer, Answer> {
        let (broker, queue) = self.queue(place).await?;
        let (at, means) = (broker.clone(), self.means.clone());
        let broker = self.brokers.get(&broker, Remoting::is_open, || connect(at, means)).await?;
        let (properties, queue) = (properties(place, message), queue.to_string());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
        let fields = Fields::from([
            ("producerGroup", "tcc"),
            ("topic", &place.path),
            // What a topic is made after that is not there. This one is not there either, so none is made.
            ("defaultTopic", &place.path),
            ("defaultTopicQueueNums", "1"),
            ("queueId", &queue),
            ("sysFlag", "0"),
            ("bornTimestamp", &now),
            ("flag", "0"),
            ("properties", &properties),
            ("reconsumeTimes", "0"),
            ("unitMode", "false"),
            ("batch", "false"),
        ]);
        let reply = self.ask(&broker, SEND, fields, &message.data).await?;
        Ok(match reply.code {
            DONE => Response::done().into(),
            ILLEGAL => status(400),
            NOT_ALLOWED => status(403),
            NO_TOPIC => status(404),
            // It has the message, but not where it is to have it: on disk, or at a replica. Or it has no room or no time.
            _ => status(503),
        })
    }

    /// A broker's address and a queue there: the same one for the same key, as long as the cluster stays as it is.
    async fn queue(&self, place: &Place) -> Result<(String, u32), Answer> {
        let fields = Fields::from([("topic", &*place.path), ("acceptStandardJsonOnly", "true")]);
        let reply = self.ask(&self.names, ROUTE, fields, &[]).await?;
        match reply.code {
            DONE => {}
            NOT_ALLOWED => return Err(status(403)),
            // It knows of no topic whose brokers are away, so that this may pass.
            _ => return Err(status(503)),
        }
        let route: Route = serde_json::from_slice(&reply.body).map_err(|_| Answer::None(Failure::Other))?;
        let mut queues = route.queues;
        queues.retain(|queues| queues.perm & WRITES != 0);
        queues.sort_unstable_by(|a, b| a.broker.cmp(&b.broker));
        let all = queues.iter().map(|queues| u64::from(queues.number)).sum::<u64>();
        let mut chosen = match place.option("key") {
            _ if all == 0 => return Err(status(503)),
            Some(key) => hash(key) % all,
            None => fastrand::u64(..all),
        };
        for Queues { broker, number, .. } in queues {
            match chosen.checked_sub(number.into()) {
                Some(further) => chosen = further,
                None => {
                    let named = route.brokers.iter().find(|named| named.name == broker);
                    let address = named.and_then(|named| named.addresses.get(PRIMARY));
                    // A replica alone takes no messages.
                    let address = address.ok_or_else(|| status(503))?;
                    return Ok((address.clone(), u32::try_from(chosen).unwrap_or_default()));
                }
            }
        }
        Err(status(503))
    }

    async fn ask(
        &self,
        whom: &Remoting,
        code: i32,
        mut fields: Fields<'_>,
        body: &[u8],
    ) -> Result<Reply, Answer> {
        let Some(login) = &self.login else { return whom.ask(code, &fields, body).await };
        let [user, signature] = signed(&fields, login, body);
        fields.extend([(ACCESS_KEY, &*user), (SIGNATURE, &*signature)]);
        whom.ask(code, &fields, body).await
    }
}

/// Connects to a broker as its name server names it.
async fn connect(at: String, means: Arc<Means>) -> Result<Remoting, Answer> {
    let (host, port) = at.rsplit_once(':').ok_or(Answer::None(Failure::Other))?;
    let port = port.parse().map_err(|_| Answer::None(Failure::Other))?;
    let mut last = Answer::None(Failure::Dns);
    for address in means.look_up(host, port).await? {
        match Remoting::connect(address).await {
            Ok(broker) => return Ok(broker),
            Err(answer) => last = answer,
        }
    }
    Err(last)
}

/// As consumers read it. `UNIQ_KEY` is what they call the id of a message.
fn properties(place: &Place, message: &Message) -> String {
    let named = message.named("CE_").map(|(name, value)| (name, value.to_owned()));
    // What means something to RocketMQ is written in capitals, and nothing of a branch's own is to mean that.
    let named = named.map(|(name, value)| match name.starts_with("CE_") {
        true => (name, value),
        false => (name.to_ascii_lowercase(), value),
    });
    let ours = [
        ("UNIQ_KEY", Some(&*message.id)),
        ("KEYS", place.option("key")),
        ("TAGS", place.option("tag")),
        ("WAIT", Some("true")),
        ("CE_datacontenttype", Some(CONTENT_TYPE)),
    ];
    let ours = ours.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    named.chain(ours).map(|(name, value)| format!("{name}{IS}{value}{ENDS}")).collect()
}

/// The same for every process, now and later.
fn hash(key: &str) -> u64 {
    Sha1::digest(key).iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}
