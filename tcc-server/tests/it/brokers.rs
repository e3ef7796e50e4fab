//! Deliveries to real brokers that are killed in the middle: nothing is lost, and what comes twice has the same id. And to
//! brokers that hang, that want to know who is there, and that speak TLS.

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(feature = "amqp1")]
mod amqp1;
#[cfg(all(feature = "cli", feature = "redis"))]
mod cli;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "rocketmq")]
mod rocketmq;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tcc_core::{Branch, MemoryStore, Phase, Timestamp};
use tcc_server::transport::{BrokerLogin, BrokerOptions, BrokerTransport, Transports};
use tcc_server::{Begun, Coordinator, Known, Scheduler, Settings, Wait};
use tcc_tests::Broker;
use tokio::net::TcpListener;
use url::Url;

use crate::scripted::{gid, request};

/// How long anything may take here: RabbitMQ alone needs many seconds to start on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the last delivery may take once the broker is back: it is probed once a second, and let in gently.
const PROMPT: Duration = Duration::from_secs(30);
/// How many messages are delivered while the broker is killed.
const MESSAGES: usize = 400;
/// How many are delivered while another broker hangs, and how many wait for that one.
const CROWD: usize = 32;
/// The number of one whose payload is nearly as long as one may be: several frames, where a protocol has frames.
const LONG: usize = 4000;

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
        Self::over(Transports::new().with(BrokerTransport::new(options).unwrap()))
    }

    fn over(transports: Transports) -> Self {
        let started = Instant::now();
        let clock = move || {
            let passed = i64::try_from(started.elapsed().as_millis()).unwrap();
            Timestamp::from_millis(1_000_000_000_000 + passed)
        };
        let coordinator =
            Coordinator::new(Arc::new(MemoryStore::new(clock)), transports, Settings::default());
        let scheduler = Scheduler::start(coordinator.clone());
        Self { coordinator, _scheduler: scheduler }
    }

    async fn begin(&self, number: usize, endpoint: &str) -> Known {
        self.begin_within(number, endpoint, 5000).await
    }

    async fn begin_within(&self, number: usize, endpoint: &str, timeout_ms: u32) -> Known {
        let payload = payload(number);
        let json = format!(
            r#"{{"gid":"order/{number}","branches":[{{"id":"placed","confirm":"{endpoint}","payload":{payload},
                "headers":{{"x-shop":"main"}},"retry":{{"intervals_ms":[200]}},"timeout_ms":{timeout_ms}}}]}}"#
        );
        self.begin_this(&json).await
    }

    async fn begin_this(&self, json: &str) -> Known {
        match self.coordinator.begin(request(json)).await.unwrap() {
            Begun::New(stored) => Known::Stored(stored),
            Begun::Before(known) => known,
        }
    }

    /// A single wait is cut short before a broker may have started again.
    async fn ends(&self, mut known: Known) -> Phase {
        let by = Instant::now() + PATIENCE;
        while !known.phase().ended() && Instant::now() < by {
            known = self.coordinator.wait(known, Wait::End, PATIENCE).await;
        }
        known.phase()
    }

    /// Begins one that cannot be delivered, waits until it calls for a human, and says why it does.
    async fn calls_for_a_human(&self, number: usize, endpoint: &str) -> (Known, String) {
        let begun = self.begin(number, endpoint).await;
        let why = self.until(number, |branch| branch.progress().attention.clone()).await;
        (begun, why)
    }

    /// Waits until an unfinished one's branch is as it is waited for.
    async fn until<T>(&self, number: usize, is: impl Fn(&Branch) -> Option<T>) -> T {
        let by = Instant::now() + PATIENCE;
        loop {
            let known = self.coordinator.get(&gid(&format!("order/{number}"))).await.unwrap();
            let Known::Stored(stored) = &known else { panic!("it is kept") };
            assert_eq!(known.phase(), Phase::Confirming);
            if let Some(seen) = is(&stored.transaction().branches()[0]) {
                return seen;
            }
            assert!(Instant::now() < by, "order/{number} is not as it should be");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a call of one that is not done sees this.
    async fn sees(&self, number: usize, what: &str) {
        self.until(number, |branch| (branch.progress().seen.as_deref() == Some(what)).then_some(())).await;
    }

    /// Of a broker that hangs nobody knows what it has, and nobody waits for it but who delivers to it. Returns the ids of
    /// what was delivered meanwhile, and when the broker itself hung and went on.
    async fn others_go_on_while_one_hangs(&self, broker: &mut Broker, endpoint: &str) -> BTreeSet<String> {
        // It takes connections, and never says a word.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut hung = Url::parse(endpoint).unwrap();
        hung.set_port(Some(silent.local_addr().unwrap().port())).unwrap();
        let accepting = tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                held.push(silent.accept().await);
            }
        });
        let waiting = 2000..2000 + CROWD;
        join_all(waiting.clone().map(|number| self.begin_within(number, hung.as_str(), 500))).await;
        let others = 3000..3000 + CROWD;
        for phase in join_all(others.clone().map(async |number| {
            let known = self.begin(number, endpoint).await;
            self.ends(known).await
        }))
        .await
        {
            assert_eq!(phase, Phase::Confirmed);
        }
        // That they have not ended is asserted with it.
        self.sees(2000, "timed-out").await;
        join_all(waiting.map(|number| self.until(number, |_| Some(())))).await;
        accepting.abort();

        // The same on a connection that was in use.
        tokio::task::block_in_place(|| broker.pause());
        let known = self.begin_within(LONG, endpoint, 500).await;
        self.sees(LONG, "timed-out").await;
        tokio::task::block_in_place(|| broker.resume());
        assert_eq!(self.ends(known).await, Phase::Confirmed);
        others.chain([LONG]).map(|number| format!("order/{number}~placed")).collect()
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
            Instant::now()
        };
        let delivered = async {
            deliver.await;
            Instant::now()
        };
        let (delivered, started) = tokio::join!(delivered, kill);
        let length = delivered.saturating_duration_since(started);
        assert!(length < PROMPT, "the last was delivered {length:?} after the broker was back");
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
        assert!(came.iter().all(|one| one.data == payload(number)), "{came:?}");
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

fn payload(number: usize) -> String {
    let note = if number == LONG { "x".repeat(60 * 1024) } else { String::new() };
    format!(r#"{{"order":{number},"note":"{note}"}}"#)
}

/// By their ids, each once. Each has its data.
fn ids(received: &[Received]) -> BTreeSet<String> {
    for one in received {
        let number = one.id.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        assert_eq!(one.data, payload(number));
    }
    received.iter().map(|one| one.id.clone()).collect()
}

/// A broker is told the wrong password, and then, in the same file, the right one: what it refused before is delivered.
async fn only_who_is_known_is_let_in(endpoint: &str, login: &str, refused: &str) {
    let mut at = Url::parse(endpoint).unwrap();
    at.set_path("");
    at.set_query(None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("login");
    write_login(&file, &format!("{login}, or not"));
    let logins = vec![BrokerLogin::read(at.as_str(), &file).unwrap()];
    let sender = Sender::new(BrokerOptions { logins, ..options() });
    let known = sender.begin(1, endpoint).await;
    sender.sees(1, refused).await;
    write_login(&file, login);
    assert_eq!(sender.ends(known).await, Phase::Confirmed);
}

fn write_login(file: &Path, login: &str) {
    fs::write(file, format!("{login}\n")).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

/// As sent by a shop.
fn options() -> BrokerOptions {
    BrokerOptions { source: "shop".to_owned(), ..BrokerOptions::default() }
}
