//! RabbitMQ, by AMQP 0.9.1: `amqp://host:5672/vhost?exchange=…&key=…`.
//!
//! Messages are persistent and mandatory. Who cannot be routed comes back before its confirmation, and nothing but the order
//! on a channel says whose confirmation that is: so each channel has one message under way, and there are several.

use std::sync::Mutex;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection as Connected, ConnectionProperties, Error, ErrorKind,
};
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;

use super::dial::is_tls;
use super::message::{CONTENT_TYPE, Message};
use super::place::Place;
use super::{Connection, Dial, Kind, Scheme, status};

pub(super) struct Amqp;

struct Channels {
    connection: Connected,
    /// Those that nothing is under way on: no more than there ever were deliveries at once.
    idle: Mutex<Vec<Channel>>,
}

/// What a name may be long in AMQP.
const NAME: usize = 255;
const PERSISTENT: u8 = 2;

impl Kind for Amqp {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme { name: "amqp", port: 5672, tls: false }, Scheme { name: "amqps", port: 5671, tls: true }]
    }

    fn options(&self) -> &'static [&'static str] {
        &["exchange", "key"]
    }

    fn check(&self, place: &Place) -> Result<(), String> {
        if exchange(place).is_empty() && key(place).is_empty() {
            return Err(
                "names neither an exchange nor a key, which is the queue where there is no exchange".into()
            );
        }
        if [exchange(place), key(place), &place.path].iter().any(|name| name.len() > NAME) {
            return Err(format!("has a name of over {NAME} bytes"));
        }
        Ok(())
    }

    fn scope(&self, place: &Place) -> String {
        vhost(place)
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, Result<Box<dyn Connection>, Answer>> {
        Box::pin(async move {
            let guest = || ("guest".to_owned(), "guest".to_owned());
            let (username, password) = dial.login.clone().unwrap_or_else(guest);
            let uri = AMQPUri {
                scheme: AMQPScheme::AMQP,
                authority: AMQPAuthority {
                    userinfo: AMQPUserInfo { username, password },
                    host: dial.address.ip().to_string(),
                    port: dial.address.port(),
                },
                vhost: vhost(&dial.place),
                query: AMQPQueryString::default(),
            };
            let properties =
                ConnectionProperties::default().with_connection_name(LongString::from("tcc-server"));
            // The server has to show the name in the endpoint, although it is reached by its address.
            let tls = dial.tls().map(RustlsConnector::from);
            let (host, address) = (dial.place.bare_host().to_owned(), dial.address);
            let runtime = lapin::runtime::default_runtime().map_err(|error| answer(&error))?;
            let connection = Connected::connector(
                uri,
                runtime,
                async move |_, runtime| {
                    let plain = AsyncTcpStream::connect(&runtime, address).await?;
                    Ok(match &tls {
                        None => plain,
                        Some(tls) => plain.into_rustls(tls, &host).await?,
                    })
                },
                properties,
            );
            let connection = connection.await.map_err(|error| answer(&error))?;
            let channels: Box<dyn Connection> = Box::new(Channels { connection, idle: Mutex::default() });
            Ok(channels)
        })
    }
}

impl Connection for Channels {
    fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    fn deliver<'a>(&'a self, place: &'a Place, message: &'a Message) -> BoxFuture<'a, Answer> {
        Box::pin(async move { self.publish(place, message).await.unwrap_or_else(|error| answer(&error)) })
    }
}

impl Channels {
    /// A channel that fails, or whose confirmation is not waited for, is not used again: dropped, it is closed.
    async fn publish(&self, place: &Place, message: &Message) -> Result<Answer, Error> {
        let channel = self.channel().await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = (ShortString::from(exchange(place)), ShortString::from(key(place)));
        let sent = channel.basic_publish(exchange, key, options, &message.data, properties(message)).await?;
        let answer = match sent.await? {
            Confirmation::Ack(None) => Response::done().into(),
            // Nobody would have got it.
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => status(404),
            // A queue is full that refuses, or failed.
            Confirmation::Nack(None) => status(503),
            Confirmation::NotRequested => Answer::None(Failure::Other),
        };
        self.idle.lock().expect("no code under this lock can panic").push(channel);
        Ok(answer)
    }

    async fn channel(&self) -> Result<Channel, Error> {
        let idle = || self.idle.lock().expect("no code under this lock can panic").pop();
        while let Some(channel) = idle() {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }
}

fn vhost(place: &Place) -> String {
    if place.path.is_empty() { "/".to_owned() } else { place.path.clone() }
}

fn exchange(place: &Place) -> &str {
    place.option("exchange").unwrap_or_default()
}

fn key(place: &Place) -> &str {
    place.option("key").unwrap_or_default()
}

fn properties(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    // The prefix that AMQP 1.0 has, as which RabbitMQ hands headers on.
    for (name, value) in message.named("cloudEvents_") {
        headers.insert(ShortString::from(name), AMQPValue::LongString(LongString::from(value)));
    }
    let properties = BasicProperties::default()
        .with_content_type(ShortString::from(CONTENT_TYPE))
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers);
    // The header has it in any case.
    if message.id.len() <= NAME {
        return properties.with_message_id(ShortString::from(&*message.id));
    }
    properties
}

/// What the broker says is wrong calls for a human; for the rest, nobody knows whether it has the message.
fn answer(error: &Error) -> Answer {
    if let ErrorKind::IOError(io) = error.kind() {
        let refused = io.kind() == std::io::ErrorKind::ConnectionRefused;
        let failure = if refused { Failure::Connect } else { Failure::Broken };
        return Answer::None(if is_tls(&**io) { Failure::Tls } else { failure });
    }
    let ErrorKind::ProtocolError(said) = error.kind() else { return Answer::None(Failure::Broken) };
    match said.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => status(404),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => status(403),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => status(412),
        // There is no such vhost, or it is not for this user.
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => status(403),
        AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => Answer::None(Failure::Broken),
    }
}
