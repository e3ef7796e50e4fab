//! Redis Streams: `redis://host:6379/stream?db=0`.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;

use super::message::{CONTENT_TYPE, Message};
use super::place::Place;
use super::{Connection, Dial, Kind, Scheme, status};

pub(super) struct Redis;

impl Kind for Redis {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme { name: "redis", port: 6379, tls: false }, Scheme { name: "rediss", port: 6379, tls: true }]
    }

    fn options(&self) -> &'static [&'static str] {
        &["db"]
    }

    fn check(&self, place: &Place) -> Result<(), String> {
        if place.path.is_empty() {
            return Err("names no stream, as in redis://host:6379/orders".to_owned());
        }
        if place.option("db").is_some_and(|db| db.parse::<u16>().is_err()) {
            return Err("has a \"db\" that is no number".to_owned());
        }
        Ok(())
    }

    fn scope(&self, place: &Place) -> String {
        db(place).to_owned()
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, Result<Box<dyn Connection>, Answer>> {
        Box::pin(async move {
            let stream = dial.stream().await?;
            // Whoever calls has time-outs of their own.
            let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let info = RedisConnectionInfo::default();
            let connected = MultiplexedConnection::new_with_config(&info, stream, config).await;
            let (mut connection, driver) = connected.map_err(|error| answer(&error))?;
            // It ends with the connection.
            tokio::spawn(driver);
            // Not left to the client, which would not say what Redis answered.
            let login =
                dial.login.map(|(user, password)| redis::cmd("AUTH").arg(user).arg(password).to_owned());
            let select = redis::cmd("SELECT").arg(db(&dial.place)).to_owned();
            for first in login.into_iter().chain([select]) {
                first.query_async::<()>(&mut connection).await.map_err(|error| answer(&error))?;
            }
            let connection: Box<dyn Connection> = Box::new(connection);
            Ok(connection)
        })
    }
}

impl Connection for MultiplexedConnection {
    fn is_open(&self) -> bool {
        true
    }

    fn deliver<'a>(&'a self, place: &'a Place, message: &'a Message) -> BoxFuture<'a, Answer> {
        let mut connection = self.clone();
        Box::pin(async move {
            let mut add = redis::cmd("XADD");
            // Whoever consumes makes the stream: one whose name nobody knows would have no reader.
            add.arg(&*place.path).arg("NOMKSTREAM").arg("*");
            for (name, value) in message.named("ce_") {
                add.arg(name).arg(value);
            }
            add.arg("content-type").arg(CONTENT_TYPE).arg("data").arg(&message.data);
            match add.query_async::<Value>(&mut connection).await {
                Ok(Value::Nil) => status(404),
                Ok(_) => Response::done().into(),
                Err(error) => answer(&error),
            }
        })
    }
}

fn db(place: &Place) -> &str {
    place.option("db").unwrap_or("0")
}

fn answer(error: &RedisError) -> Answer {
    if error.is_timeout() {
        return Answer::None(Failure::TimedOut);
    }
    match error.code() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => status(403),
        // The key is no stream, or of another node of a cluster; there is no such database; or Redis is too old.
        Some("WRONGTYPE" | "MOVED" | "ERR") => status(400),
        // It loads, has no room, is no primary or cannot save: none of these took the message.
        Some(_) => status(503),
        None => Answer::None(Failure::Broken),
    }
}
