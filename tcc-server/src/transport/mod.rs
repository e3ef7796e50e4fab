//! How calls are made: one small trait, and a transport for each scheme of an endpoint.

#[cfg(feature = "http")]
mod address;
#[cfg(feature = "brokers")]
#[cfg_attr(
    not(all(
        feature = "amqp",
        feature = "amqp1",
        feature = "kafka",
        feature = "nats",
        feature = "redis",
        feature = "rocketmq"
    )),
    allow(dead_code, reason = "not every broker needs everything")
)]
mod broker;
#[cfg(feature = "http")]
mod http;
mod local;
#[cfg(feature = "http")]
mod peer;
#[cfg(feature = "http")]
mod pool;
#[cfg(feature = "http")]
mod service;
#[cfg(feature = "tls")]
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tcc_core::answer::{Answer, Failure};
use tcc_core::store::BoxFuture;
use tcc_core::{Call, Endpoint, Timestamp};

#[cfg(feature = "http")]
pub use address::{AllowList, BadAllowance};
#[cfg(feature = "brokers")]
pub use broker::{BadLogin, BrokerLogin, BrokerOptions, BrokerTransport};
#[cfg(feature = "http")]
pub use http::{HttpOptions, HttpTransport, TransportError};
pub use local::LocalTransport;
#[cfg(feature = "http")]
pub use peer::{BadPeer, Peer, SigningKeys};
#[cfg(feature = "tls")]
pub use tls::Authorities;
#[cfg(feature = "otel")]
pub(crate) use tls::connector;

/// Makes calls to the endpoints of one scheme or several.
pub trait Transport: Send + Sync + 'static {
    /// The schemes it serves.
    fn schemes(&self) -> &[&'static str];

    /// Whether an endpoint may be called; asked when a transaction is begun.
    ///
    /// # Errors
    /// Why not: a clause that reads on from the name of the field.
    fn check(&self, endpoint: &Endpoint) -> Result<(), String>;

    /// What the call counts against: the limit of calls in flight is per destination.
    fn destination(&self, endpoint: &Endpoint) -> String;

    /// Makes the call. What the answer means is not the transport's to say.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer, not the call: what was sent may be done.
    fn call(&self, outgoing: Outgoing) -> BoxFuture<'_, Answer>;
}

/// A call on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What core planned.
    pub call: Call,
    /// How long it may take, whole.
    pub timeout: Duration,
    /// The watermark: every transaction begun before it has ended, and it is at least the retention ago.
    pub settled: Option<Timestamp>,
}

/// The transports there are, by scheme.
#[derive(Clone, Default)]
pub struct Transports {
    /// In no order: they are few, and looked through faster than looked up.
    by_scheme: Vec<(&'static str, Arc<dyn Transport>)>,
}

impl Transports {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With another one, in the place of those that served its schemes before.
    #[must_use]
    pub fn with(mut self, transport: impl Transport) -> Self {
        let transport: Arc<dyn Transport> = Arc::new(transport);
        for &scheme in transport.schemes() {
            self.by_scheme.retain(|(served, _)| *served != scheme);
            self.by_scheme.push((scheme, transport.clone()));
        }
        self
    }

    fn of(&self, endpoint: &Endpoint) -> Option<&dyn Transport> {
        let scheme = endpoint.scheme();
        self.by_scheme.iter().find(|(served, _)| *served == scheme).map(|(_, transport)| &**transport)
    }

    /// Whether an endpoint may be called.
    ///
    /// # Errors
    /// Why not: a clause that reads on from the name of the field.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        let Some(transport) = self.of(endpoint) else {
            let mut known: Vec<_> = self.by_scheme.iter().map(|(scheme, _)| *scheme).collect();
            known.sort_unstable();
            let known = known.join(", ");
            return Err(format!(
                "has the scheme {:?}, which is not served here; these are: {known}",
                endpoint.scheme()
            ));
        };
        transport.check(endpoint)
    }

    /// What a call to the endpoint counts against.
    #[must_use]
    pub fn destination(&self, endpoint: &Endpoint) -> String {
        self.of(endpoint)
            .map_or_else(|| endpoint.scheme().to_owned(), |transport| transport.destination(endpoint))
    }

    /// Makes the call. An endpoint that was fit when its transaction began and is not any more, because the
    /// configuration changed, is not called: that is unknown, and never refused.
    pub async fn call(&self, outgoing: Outgoing) -> Answer {
        let endpoint = &outgoing.call.endpoint;
        match self.of(endpoint) {
            Some(transport) if transport.check(endpoint).is_ok() => transport.call(outgoing).await,
            Some(_) | None => Answer::None(Failure::Forbidden),
        }
    }
}
