//! AMQP 1.0, which ActiveMQ and Artemis speak among others: `amqp1://host:5672/address?key=…`.
//!
//! Messages are durable, and done once the broker has accepted them. A delivery that is given up leaves its link where
//! nobody can tell: so each link has one message under way, and there are several.

use std::sync::Mutex;

use fe2o3_amqp::connection::{ConnectionHandle, OpenError};
use fe2o3_amqp::link::{SendError, SenderAttachError};
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::{self, AmqpError, ErrorCondition, LinkError, SenderSettleMode};
use fe2o3_amqp::types::messaging::{
    ApplicationProperties, Data, Header, Message as Encoded, MessageId, Outcome, Properties,
};
use fe2o3_amqp::types::primitives::{Binary, SimpleValue, Symbol};
use fe2o3_amqp::{Connection as Connected, Sender, Session};
use foldhash::HashMap;
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;

use super::message::{CONTENT_TYPE, Message};
use super::place::Place;
use super::{Connection, Dial, Kind, Scheme, status};
use crate::limits;

pub(super) struct Amqp1;

struct Links {
    connection: ConnectionHandle<()>,
    session: tokio::sync::Mutex<SessionHandle<()>>,
    /// Those that nothing is under way on, by address.
    idle: Mutex<HashMap<String, Vec<Sender>>>,
}

impl Kind for Amqp1 {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme { name: "amqp1", port: 5672, tls: false }, Scheme { name: "amqp1s", port: 5671, tls: true }]
    }

    fn options(&self) -> &'static [&'static str] {
        &["key"]
    }

    fn check(&self, place: &Place) -> Result<(), String> {
        if place.path.is_empty() {
            return Err("names no address, as in amqp1://host:5672/orders".to_owned());
        }
        Ok(())
    }

    fn scope(&self, _: &Place) -> String {
        String::new()
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, Result<Box<dyn Connection>, Answer>> {
        Box::pin(async move {
            let stream = dial.stream().await?;
            let profile = match dial.login {
                Some((username, password)) => SaslProfile::Plain { username, password },
                None => SaslProfile::Anonymous,
            };
            let container = format!("tcc-server/{}", uuid::Uuid::now_v7());
            let connection = Connected::builder()
                .container_id(container)
                .hostname(dial.place.bare_host())
                .sasl_profile(profile)
                .open_with_stream(stream);
            let mut connection = connection.await.map_err(|error| not_open(&error))?;
            let session = Session::begin(&mut connection).await;
            let session = tokio::sync::Mutex::new(session.map_err(|_| Answer::None(Failure::Broken))?);
            let links: Box<dyn Connection> = Box::new(Links { connection, session, idle: Mutex::default() });
            Ok(links)
        })
    }
}

impl Connection for Links {
    fn is_open(&self) -> bool {
        !self.connection.is_closed()
    }

    fn deliver<'a>(&'a self, place: &'a Place, message: &'a Message) -> BoxFuture<'a, Answer> {
        Box::pin(async move { self.send(place, message).await.unwrap_or_else(|answer| answer) })
    }
}

impl Links {
    /// A link that fails, or whose answer is not waited for, is not used again: dropped, it is detached.
    async fn send(&self, place: &Place, message: &Message) -> Result<Answer, Answer> {
        let mut link = self.link(&place.path).await?;
        let outcome = link.send(encoded(place, message)).await.map_err(|error| not_sent(&error))?;
        self.keep(place.path.clone(), link);
        Ok(match outcome {
            Outcome::Accepted(_) => Response::done().into(),
            Outcome::Rejected(rejected) => rejected.error.as_ref().map_or(status(400), said),
            Outcome::Released(_) | Outcome::Modified(_) => status(503),
        })
    }

    async fn link(&self, address: &str) -> Result<Sender, Answer> {
        if let Some(link) = self.idle().get_mut(address).and_then(Vec::pop) {
            return Ok(link);
        }
        let mut session = self.session.lock().await;
        let link = Sender::builder()
            .name(uuid::Uuid::now_v7().to_string())
            .target(address)
            .sender_settle_mode(SenderSettleMode::Unsettled)
            .attach(&mut session);
        link.await.map_err(|error| not_attached(&error))
    }

    fn keep(&self, address: String, link: Sender) {
        let mut idle = self.idle();
        if idle.len() >= limits::BROKER_ADDRESSES {
            idle.clear();
        }
        idle.entry(address).or_default().push(link);
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Sender>>> {
        self.idle.lock().expect("no code under this lock can panic")
    }
}

fn encoded(place: &Place, message: &Message) -> Encoded<Data> {
    // The prefix of those that JMS can read, too.
    let named = message.named("cloudEvents_");
    let named = named.map(|(name, value)| (name, SimpleValue::String(value.to_owned())));
    let properties = Properties {
        message_id: Some(MessageId::String(message.id.clone())),
        content_type: Some(Symbol::from(CONTENT_TYPE)),
        group_id: place.option("key").map(str::to_owned),
        ..Properties::default()
    };
    Encoded::builder()
        .header(Header { durable: true, ..Header::default() })
        .properties(properties)
        .application_properties(ApplicationProperties(named.collect()))
        .data(Data(Binary::from(message.data.clone())))
        .build()
}

/// What the broker says is wrong calls for a human.
fn said(error: &definitions::Error) -> Answer {
    match &error.condition {
        ErrorCondition::AmqpError(AmqpError::NotFound) => status(404),
        ErrorCondition::AmqpError(AmqpError::UnauthorizedAccess) => status(403),
        ErrorCondition::LinkError(LinkError::MessageSizeExceeded) => status(413),
        // It is full, or ends.
        ErrorCondition::AmqpError(AmqpError::ResourceLimitExceeded | AmqpError::ResourceLocked) => {
            status(503)
        }
        ErrorCondition::ConnectionError(_) | ErrorCondition::SessionError(_) => status(503),
        // Brokers say things of their own, too.
        _ => status(400),
    }
}

fn not_open(error: &OpenError) -> Answer {
    match error {
        OpenError::SaslError { .. } => status(403),
        _ => Answer::None(Failure::Broken),
    }
}

fn not_attached(error: &SenderAttachError) -> Answer {
    match error {
        SenderAttachError::RemoteClosedWithError(error) => said(error),
        _ => Answer::None(Failure::Broken),
    }
}

/// Nobody knows whether the broker has it.
fn not_sent(_: &SendError) -> Answer {
    Answer::None(Failure::Broken)
}
