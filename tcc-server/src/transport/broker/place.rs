//! Where a message goes: an endpoint, read.

use tcc_core::Endpoint;
use url::Url;

use super::{Kind, Scheme};

/// An endpoint of a broker, read.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) kind: &'static dyn Kind,
    pub(super) scheme: &'static Scheme,
    /// Its scheme, host and port alone, in the terms of HTTP: what the allow-list is asked about.
    pub(super) url: Url,
    pub(super) host: String,
    pub(super) port: u16,
    /// The path without the slash that it begins with.
    pub(super) path: String,
    /// What connection it is reached by.
    pub(super) connection: String,
    options: Vec<(String, String)>,
}

/// What the query may say whatever the broker.
const COMMON: [&str; 2] = ["type", "subject"];

impl Place {
    /// Reads an endpoint.
    ///
    /// # Errors
    /// Why it is none: a clause that reads on from the name of the field.
    pub(super) fn read(endpoint: &Endpoint, kinds: &[&'static dyn Kind]) -> Result<Self, String> {
        let url = Url::parse(endpoint.as_str()).map_err(|why| format!("is no URL: {why}"))?;
        let known = kinds.iter().flat_map(|kind| kind.schemes().iter().map(|scheme| (*kind, scheme)));
        let meant = { known }.find(|(_, scheme)| scheme.name == url.scheme());
        let (kind, scheme) = meant.ok_or("has a scheme that is not served here")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user name or password; they belong to the configuration".to_owned());
        }
        if url.fragment().is_some() {
            return Err("has a fragment".to_owned());
        }
        let (Some(host), port) = (url.host_str().filter(|host| !host.is_empty()), url.port()) else {
            return Err("has no host".to_owned());
        };
        let port = port.unwrap_or(scheme.port);
        // As HTTP reads it, an address is one in all its spellings.
        let bare =
            Url::parse(&format!("http://{host}:{port}/")).map_err(|why| format!("is no URL: {why}"))?;
        let host = bare.host_str().unwrap_or_default().to_owned();
        let path = decoded(url.path().strip_prefix('/').unwrap_or_default())?;
        let mut place = Self {
            kind,
            scheme,
            url: bare,
            host,
            port,
            path,
            connection: String::new(),
            options: Vec::new(),
        };
        for (name, value) in url.query_pairs() {
            if !COMMON.contains(&&*name) && !kind.options().contains(&&*name) {
                let known = [&COMMON[..], kind.options()].concat().join(", ");
                return Err(format!(
                    "has {name:?} in its query, of which nothing is known; there are {known}"
                ));
            }
            if place.option(&name).is_some() {
                return Err(format!("has {name:?} in its query twice"));
            }
            if !value.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
                return Err(format!("has a {name:?} in its query that is no line of visible ASCII"));
            }
            place.options.push((name.into_owned(), value.into_owned()));
        }
        place.connection = format!("{}://{}/{}", scheme.name, place.destination(), kind.scope(&place));
        Ok(place)
    }

    /// What the query says.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// What deliveries to it count against.
    pub(super) fn destination(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host without the brackets of an IPv6 address.
    pub(super) fn bare_host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }
}

/// A part of a URL without what percent signs stand for.
fn decoded(text: &str) -> Result<String, String> {
    // What a query says is decoded by the same rules, but for its plus signs.
    let query = format!("={}", text.replace('+', "%2B").replace('&', "%26"));
    let decoded = url::form_urlencoded::parse(query.as_bytes()).next().map(|(_, value)| value.into_owned());
    let decoded = decoded.unwrap_or_default();
    if decoded.chars().all(|c| !c.is_control() && c != char::REPLACEMENT_CHARACTER) {
        return Ok(decoded);
    }
    Err("has a path that is no line of text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{BrokerOptions, BrokerTransport, Transport};

    fn check(endpoint: &str) -> Result<(), String> {
        BrokerTransport::new(BrokerOptions::default()).unwrap().check(&endpoint.parse().unwrap())
    }

    fn destination(endpoint: &str) -> String {
        BrokerTransport::new(BrokerOptions::default()).unwrap().destination(&endpoint.parse().unwrap())
    }

    #[test]
    fn an_endpoint_says_where() {
        let good: &[(&str, &str)] = &[
            #[cfg(feature = "kafka")]
            ("kafka://K:9093/orders?key=main", "k:9093"),
            #[cfg(feature = "amqp")]
            ("amqp://Broker.internal?key=orders", "broker.internal:5672"),
            #[cfg(feature = "amqp")]
            ("amqp://10.1:80/%2Fshop?exchange=orders&key=placed.eu&type=order.placed", "10.0.0.1:80"),
            #[cfg(feature = "nats")]
            ("nats://[::1]/orders.placed", "[::1]:4222"),
            #[cfg(feature = "nats")]
            ("nats://n:80/orders?type=order.placed", "n:80"),
            #[cfg(feature = "redis")]
            ("redis://r/orders?db=3&subject=an%20order", "r:6379"),
            #[cfg(feature = "redis")]
            ("redis://r:6380/orders", "r:6380"),
            #[cfg(feature = "amqp")]
            ("amqps://broker?key=orders", "broker:5671"),
            #[cfg(feature = "amqp1")]
            ("amqp1://broker/orders?key=1042", "broker:5672"),
            #[cfg(feature = "nats")]
            ("natss://n/orders", "n:4222"),
            #[cfg(feature = "redis")]
            ("rediss://r/orders", "r:6379"),
            #[cfg(feature = "kafka")]
            ("kafka://k/orders?partition=0", "k:9092"),
            #[cfg(feature = "rocketmq")]
            ("rocketmq://names/orders?key=1042&tag=placed", "names:9876"),
        ];
        for (good, counts_as) in good {
            assert_eq!((check(good), &*destination(good)), (Ok(()), *counts_as), "{good}");
        }
    }

    #[test]
    fn and_nothing_that_is_secret_or_unknown() {
        let bad: &[&str] = &[
            #[cfg(feature = "kafka")]
            "kafka://broker/or%20ders",
            #[cfg(feature = "kafka")]
            "kafka://broker/..",
            #[cfg(feature = "kafka")]
            "kafka://broker/orders?partition=-1",
            // There is no TLS to it.
            #[cfg(feature = "kafka")]
            "kafkas://broker/orders",
            #[cfg(feature = "amqp1")]
            "amqp1://broker/",
            #[cfg(feature = "rocketmq")]
            "rocketmq://names/",
            #[cfg(feature = "rocketmq")]
            "rocketmq://names/orders?tag=a%20%7C%7C%20b",
            #[cfg(feature = "amqp")]
            "amqp://broker",
            #[cfg(feature = "amqp")]
            "amqp://broker?key=a&key=b",
            #[cfg(feature = "amqp")]
            "amqp://broker?key=a&password=b",
            #[cfg(feature = "amqp")]
            "amqp://user:secret@broker?key=a",
            #[cfg(feature = "amqp")]
            "amqp://169.254.169.254?key=a",
            #[cfg(feature = "nats")]
            "nats://0xa9fea9fe/orders",
            #[cfg(feature = "nats")]
            "nats://broker/",
            #[cfg(feature = "nats")]
            "nats://broker/orders.*",
            #[cfg(feature = "nats")]
            "nats://broker/orders.%3E",
            #[cfg(feature = "nats")]
            "nats://broker/a%20b",
            #[cfg(feature = "redis")]
            "redis://broker/",
            #[cfg(feature = "redis")]
            "redis://broker/orders?db=x",
            #[cfg(feature = "redis")]
            "redis://broker/orders?subject=%0a",
            #[cfg(feature = "redis")]
            "redis:///orders",
        ];
        for bad in bad {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
