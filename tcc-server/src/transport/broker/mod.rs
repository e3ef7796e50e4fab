//! Deliveries to brokers: each is done once the broker has confirmed that it has the message, and not before.
//!
//! A connection is kept for each broker and made anew when it breaks or hangs. What was sent over one that broke may have
//! arrived: that is unknown, and sent again under the same id.

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(feature = "amqp1")]
mod amqp1;
mod dial;
#[cfg(feature = "kafka")]
mod kafka;
mod kept;
mod login;
mod message;
#[cfg(feature = "nats")]
mod nats;
mod place;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "rocketmq")]
mod remoting;
#[cfg(feature = "rocketmq")]
mod rocketmq;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tcc_core::Endpoint;
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::address::AllowList;
use super::{Authorities, Outgoing, Transport, TransportError};
use crate::limits;
use dial::{Dial, Means};
use kept::Kept;
pub use login::{BadLogin, BrokerLogin};
use message::Message;
use place::Place;

/// Delivers to the brokers whose features are on.
pub struct BrokerTransport {
    means: Arc<Means>,
    connections: Kept<Open>,
}

/// How brokers are delivered to.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// What may be connected to.
    pub allow: AllowList,
    /// The `source` of every message, as CloudEvents has it: who sent it.
    pub source: String,
    /// Who is trusted to name brokers, beside those the platform trusts.
    pub authorities: Authorities,
    /// Who single brokers are told this is.
    pub logins: Vec<BrokerLogin>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            allow: AllowList::default(),
            source: "tcc".to_owned(),
            authorities: Authorities::default(),
            logins: Vec::new(),
        }
    }
}

/// A broker of one kind.
trait Kind: Send + Sync {
    /// How its endpoints begin.
    fn schemes(&self) -> &'static [Scheme];

    /// What an endpoint's query may say, beside what it may say for all.
    fn options(&self) -> &'static [&'static str];

    /// Whether a message can be delivered there.
    fn check(&self, place: &Place) -> Result<(), String>;

    /// What a connection is bound to, beside the broker's address.
    fn scope(&self, place: &Place) -> String;

    fn connect(&self, dial: Dial) -> BoxFuture<'static, Result<Box<dyn Connection>, Answer>>;
}

/// A scheme of endpoints.
struct Scheme {
    name: &'static str,
    /// The port of an endpoint that names none.
    port: u16,
    /// Whether all is said in TLS.
    tls: bool,
}

/// A connection to a broker.
trait Connection: Send + Sync {
    /// Whether it may be used, as far as is known.
    fn is_open(&self) -> bool;

    /// Delivers a message, and waits for the broker's confirmation.
    fn deliver<'a>(&'a self, place: &'a Place, message: &'a Message) -> BoxFuture<'a, Answer>;
}

struct Open {
    connection: Box<dyn Connection>,
    /// How many answers came over it.
    answers: AtomicU64,
}

static KINDS: &[&dyn Kind] = &[
    #[cfg(feature = "amqp")]
    &amqp::Amqp,
    #[cfg(feature = "amqp1")]
    &amqp1::Amqp1,
    #[cfg(feature = "kafka")]
    &kafka::Kafka,
    #[cfg(feature = "nats")]
    &nats::Nats,
    #[cfg(feature = "redis")]
    &redis::Redis,
    #[cfg(feature = "rocketmq")]
    &rocketmq::RocketMq,
];

static SCHEMES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| KINDS.iter().flat_map(|kind| kind.schemes()).map(|scheme| scheme.name).collect());

impl BrokerTransport {
    /// One that delivers as these say. It needs a tokio runtime where files are to be read again.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(options: BrokerOptions) -> Result<Self, TransportError> {
        options.logins.iter().for_each(BrokerLogin::follow);
        Ok(Self { means: Arc::new(Means::new(options)?), connections: Kept::default() })
    }

    fn place(&self, endpoint: &Endpoint) -> Result<Place, String> {
        let place = Place::read(endpoint, KINDS)?;
        self.means.options.allow.check(&place.url)?;
        place.kind.check(&place)?;
        Ok(place)
    }

    async fn deliver(&self, outgoing: Outgoing) -> Answer {
        let by = Instant::now() + outgoing.timeout;
        let Ok(place) = self.place(&outgoing.call.endpoint) else {
            return Answer::None(Failure::Forbidden);
        };
        let Some(message) = Message::of(&outgoing.call, &place, &self.means.options.source) else {
            // A broker can be told, and cannot be asked.
            return status(405);
        };
        let (dialled, means) = (place.clone(), self.means.clone());
        let open = self.connections.get(
            &place.connection,
            |open: &Open| open.connection.is_open(),
            || open(dialled, means),
        );
        let open = match timeout_at(by, open).await {
            Ok(Ok(open)) => open,
            Ok(Err(answer)) => return answer,
            Err(_) => return Answer::None(Failure::TimedOut),
        };
        let (sent, before) = (Instant::now(), open.answers.load(Ordering::Relaxed));
        match timeout_at(by, open.connection.deliver(&place, &message)).await {
            Ok(answer) => {
                match &answer {
                    // Whoever it is told this is, it may be somebody else by now.
                    Answer::Response(said) if said.status == 403 => {
                        self.connections.forget(&place.connection, &open)
                    }
                    Answer::Response(_) => _ = open.answers.fetch_add(1, Ordering::Relaxed),
                    Answer::None(_) => self.connections.forget(&place.connection, &open),
                }
                answer
            }
            Err(_) => {
                let silent = open.answers.load(Ordering::Relaxed) == before;
                if silent && sent.elapsed() >= limits::BROKER_SILENCE {
                    self.connections.forget(&place.connection, &open);
                }
                Answer::None(Failure::TimedOut)
            }
        }
    }
}

impl Transport for BrokerTransport {
    fn schemes(&self) -> &[&'static str] {
        &SCHEMES
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        self.place(endpoint).map(drop)
    }

    fn destination(&self, endpoint: &Endpoint) -> String {
        Place::read(endpoint, KINDS).map_or_else(|_| String::new(), |place| place.destination())
    }

    fn call(&self, outgoing: Outgoing) -> BoxFuture<'_, Answer> {
        Box::pin(self.deliver(outgoing))
    }
}

async fn open(place: Place, means: Arc<Means>) -> Result<Open, Answer> {
    Ok(Open { connection: dial(&place, &means).await?, answers: AtomicU64::new(0) })
}

/// Makes a connection to an address that was checked.
async fn dial(place: &Place, means: &Arc<Means>) -> Result<Box<dyn Connection>, Answer> {
    let login = means.options.logins.iter().find(|login| login.is_of(place)).map(BrokerLogin::good);
    let mut last = Answer::None(Failure::Dns);
    for address in means.look_up(&place.host, place.port).await? {
        let dial = Dial { place: place.clone(), address, login: login.clone(), means: means.clone() };
        match place.kind.connect(dial).await {
            Ok(connection) => return Ok(connection),
            Err(answer) => last = answer,
        }
    }
    Err(last)
}

/// What HTTP would say: 4xx calls for a human, 5xx may pass.
fn status(status: u16) -> Answer {
    Answer::Response(Response { status, retry_after: None, body: Some(Vec::new()) })
}
