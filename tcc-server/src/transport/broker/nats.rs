//! NATS JetStream: `nats://host:4222/subject`.

use async_nats::jetstream::context::{Context, ContextBuilder, PublishErrorKind};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, HeaderMap};
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;
use tokio::sync::watch;

use super::dial::is_tls;
use super::message::{CONTENT_TYPE, Message};
use super::place::Place;
use super::{Connection, Dial, Kind, Scheme, status};

pub(super) struct Nats;

struct Stream {
    /// Held, for the connection lasts as long as it.
    _client: Client,
    context: Context,
    /// Whether it broke. The client would go on over another connection, and let who waits for an answer wait.
    broken: watch::Receiver<bool>,
}

impl Kind for Nats {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme { name: "nats", port: 4222, tls: false }, Scheme { name: "natss", port: 4222, tls: true }]
    }

    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    fn check(&self, place: &Place) -> Result<(), String> {
        let plain = |token: &str| {
            !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic() && c != '*' && c != '>')
        };
        if place.path.split('.').all(plain) && !place.path.starts_with('$') {
            return Ok(());
        }
        Err("names no subject to publish to, as in nats://host:4222/orders.placed".to_owned())
    }

    fn scope(&self, _: &Place) -> String {
        String::new()
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, Result<Box<dyn Connection>, Answer>> {
        Box::pin(async move {
            let (told, broken) = watch::channel(false);
            // It makes no other connection by itself: neither to this server nor to those that this one names.
            let mut options = ConnectOptions::new()
                .name("tcc-server")
                .max_reconnects(1)
                .ignore_discovered_servers()
                .request_timeout(None)
                .event_callback(move |event| {
                    if matches!(event, Event::Disconnected | Event::Closed) {
                        told.send_replace(true);
                    }
                    async {}
                });
            if let Some(tls) = dial.tls_by_address()? {
                options = options.require_tls(true).tls_client_config(tls);
            }
            if let Some((user, password)) = dial.login {
                options = options.user_and_password(user, password);
            }
            let client = options.connect(format!("nats://{}", dial.address)).await;
            let client = client.map_err(|error| not_connected(&error))?;
            let context =
                ContextBuilder::new().ack_timeout(tcc_core::limits::CALL_TIMEOUT).build(client.clone());
            let stream: Box<dyn Connection> = Box::new(Stream { _client: client, context, broken });
            Ok(stream)
        })
    }
}

impl Connection for Stream {
    fn is_open(&self) -> bool {
        !*self.broken.borrow()
    }

    fn deliver<'a>(&'a self, place: &'a Place, message: &'a Message) -> BoxFuture<'a, Answer> {
        let mut broken = self.broken.clone();
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = self.publish(place, message) => answer,
                _ = broken.wait_for(|broken| *broken) => Answer::None(Failure::Broken),
            }
        })
    }
}

impl Stream {
    async fn publish(&self, place: &Place, message: &Message) -> Answer {
        let mut headers = HeaderMap::new();
        for (name, value) in message.named("ce-") {
            headers.insert(name, value);
        }
        headers.insert("content-type", CONTENT_TYPE);
        // A stream takes a message of an id that it has seen of late for done, and says so.
        headers.insert(async_nats::header::NATS_MESSAGE_ID, &*message.id);
        let data = message.data.clone().into();
        let confirmed = match self.context.publish_with_headers(place.path.clone(), headers, data).await {
            Ok(sent) => sent.await,
            Err(error) => Err(error),
        };
        match confirmed.map_err(|error| error.kind()) {
            Ok(_) => Response::done().into(),
            // No stream keeps what goes to this subject.
            Err(PublishErrorKind::StreamNotFound) => status(404),
            Err(PublishErrorKind::MaxPayloadExceeded) => status(413),
            Err(PublishErrorKind::WrongLastMessageId | PublishErrorKind::WrongLastSequence) => status(412),
            // A stream that is full says so; one that has no leader answers as briefly.
            Err(PublishErrorKind::Other | PublishErrorKind::MaxAckPending) => status(503),
            Err(PublishErrorKind::TimedOut) => Answer::None(Failure::TimedOut),
            Err(PublishErrorKind::BrokenPipe) => Answer::None(Failure::Broken),
        }
    }
}

fn not_connected(error: &ConnectError) -> Answer {
    match error.kind() {
        _ if is_tls(error) => Answer::None(Failure::Tls),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => status(403),
        ConnectErrorKind::TimedOut => Answer::None(Failure::TimedOut),
        ConnectErrorKind::Tls => Answer::None(Failure::Tls),
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => Answer::None(Failure::Connect),
    }
}
