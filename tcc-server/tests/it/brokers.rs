//! Deliveries to real brokers that are killed in the middle: nothing is lost, and what comes twice has the same id.

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tcc_core::{MemoryStore, Phase, Timestamp};
use tcc_server::transport::{BrokerOptions, BrokerTransport, Transports};
use tcc_server::{Begun, Coordinator, Known, Scheduler, Settings, Wait};
use tcc_tests::Broker;

use crate::scripted::{gid, request};

/// How long anything may take here: RabbitMQ alone needs many seconds to start on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many messages are delivered while the broker is killed.
const MESSAGES: usize = 400;

/// A coordinator that delivers to brokers.
struct Sender {
    coordinator: Arc<Coordinator>,
    _scheduler: Scheduler,
}

/// What a consumer reads of a message.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    id: String,
    /// By their names in CloudEvents.
    attributes: BTreeMap<String, String>,
    /// The branch's own.
    shop: String,
    content_type: String,
    data: String,
}

impl Sender {
    fn new(options: BrokerOptions) -> Self {
        let started = Instant::now();
        let clock = move || {
            let passed = i64::try_from(started.elapsed().as_millis()).unwrap();
            Timestamp::from_millis(1_000_000_000_000 + passed)
        };
        let transports = Transports::new().with(BrokerTransport::new(options));
        let coordinator =
            Coordinator::new(Arc::new(MemoryStore::new(clock)), transports, Settings::default());
        let scheduler = Scheduler::start(coordinator.clone());
        Self { coordinator, _scheduler: scheduler }
    }

    async fn begin(&self, number: usize, endpoint: &str) -> Known {
        let json = format!(
            r#"{{"gid":"order/{number}","branches":[{{"id":"placed","confirm":"{endpoint}","payload":{{"order":{number}}},
                "headers":{{"x-shop":"main"}},"retry":{{"intervals_ms":[200]}},"timeout_ms":5000}}]}}"#
        );
        match self.coordinator.begin(request(&json)).await.unwrap() {
            Begun::New(stored) => Known::Stored(stored),
            Begun::Before(known) => known,
        }
    }

    async fn ends(&self, known: Known) -> Phase {
        self.coordinator.wait(known, Wait::End, PATIENCE).await.phase()
    }

    /// Begins one that cannot be delivered, waits until it calls for a human, and says why it does.
    async fn calls_for_a_human(&self, number: usize, endpoint: &str) -> (Known, String) {
        let begun = self.begin(number, endpoint).await;
        let by = Instant::now() + PATIENCE;
        loop {
            let known = self.coordinator.get(&gid(&format!("order/{number}"))).await.unwrap();
            let Known::Stored(stored) = &known else { panic!("it is kept") };
            assert_eq!(known.phase(), Phase::Confirming);
            if let Some(why) = stored.transaction().attention() {
                return (begun, why.to_owned());
            }
            assert!(Instant::now() < by, "nobody was called");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Delivers all messages, with the broker killed once some have arrived and started again a little later.
    async fn deliver_while_killed(&self, broker: &mut Broker, endpoint: &str) {
        let killed = tokio::sync::Notify::new();
        let deliver = stream::iter(0..MESSAGES).for_each_concurrent(32, |number| {
            let killed = &killed;
            async move {
                let known = self.begin(number, endpoint).await;
                if number == MESSAGES / 4 {
                    killed.notify_one();
                }
                assert_eq!(self.ends(known).await, Phase::Confirmed, "order/{number}");
            }
        });
        let kill = async {
            killed.notified().await;
            tokio::task::block_in_place(|| broker.kill());
            tokio::time::sleep(Duration::from_millis(500)).await;
            tokio::task::block_in_place(|| broker.start());
        };
        tokio::join!(deliver, kill);
    }
}

/// Nothing is lost, and what came twice is the same, its id first of all.
fn check_all(received: &[Received]) {
    let mut of: BTreeMap<&str, Vec<&Received>> = BTreeMap::new();
    received.iter().for_each(|one| of.entry(&one.id).or_default().push(one));
    println!("{} messages, {} more came twice", of.len(), received.len() - of.len());
    for number in 0..MESSAGES {
        let id = format!("order/{number}~placed");
        let came = of.remove(&*id).unwrap_or_else(|| panic!("{id} is lost"));
        assert!(came.iter().all(|one| one.data == format!(r#"{{"order":{number}}}"#)), "{came:?}");
    }
    assert!(of.is_empty(), "{of:?}");
    let attributes = |id: &str| {
        let all = [("specversion", "1.0"), ("id", id), ("source", "shop"), ("type", "order.placed")];
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    };
    for one in received {
        assert_eq!((&one.attributes, &*one.shop), (&attributes(&one.id), "main"));
        assert_eq!(one.content_type, "application/json");
    }
}

/// As sent by a shop.
fn options() -> BrokerOptions {
    BrokerOptions { source: "shop".to_owned(), ..BrokerOptions::default() }
}
