//! Calls over HTTP, by reqwest: nothing it would do by itself is left on. No redirects, no environment proxy, no
//! repeats of its own, no decompression, a time-out over the whole call and a bound on the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::{BoxError, BoxFuture};
use tcc_core::{Endpoint, protocol};
use url::Url;

use super::address::AllowList;
use super::{Outgoing, Transport};
use crate::limits;

/// Calls participants over `http` and, with the feature `tls`, `https`.
pub struct HttpTransport {
    client: reqwest::Client,
    allow: Arc<AllowList>,
}

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be made")]
pub struct TransportError(#[source] reqwest::Error);

impl HttpTransport {
    /// One that calls what the list allows.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(allow: AllowList) -> Result<Self, TransportError> {
        #[cfg(feature = "tls")]
        {
            // Another part of the process may have chosen its provider before; then that one is used.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let allow = Arc::new(allow);
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("tcc/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits::CONNECT_TIMEOUT)
            .pool_idle_timeout(limits::IDLE_CONNECTION)
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(Resolver { allow: allow.clone() }))
            .build()
            .map_err(TransportError)?;
        Ok(Self { client, allow })
    }

    async fn make(&self, outgoing: Outgoing) -> Result<Response, Failure> {
        let url = Url::parse(outgoing.call.endpoint.as_str()).map_err(|_| Failure::Forbidden)?;
        let headers = headers(&outgoing).ok_or(Failure::Other)?;
        let mut request = self.client.post(url).timeout(outgoing.timeout).headers(headers);
        if let Some(payload) = &outgoing.call.payload {
            request = request.body(payload.get().to_owned());
        }
        let mut answer = request.send().await.map_err(|error| failure(&error))?;
        let retry_after =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Some(Vec::new());
        while let (Some(read), Some(chunk)) =
            (&mut body, answer.chunk().await.map_err(|error| failure(&error))?)
        {
            if read.len() + chunk.len() > tcc_core::limits::REPLY {
                body = None;
                break;
            }
            read.extend_from_slice(&chunk);
        }
        Ok(Response {
            status: answer.status().as_u16(),
            retry_after: retry_after.map(Duration::from_secs),
            body,
        })
    }
}

impl Transport for HttpTransport {
    fn schemes(&self) -> &[&'static str] {
        if cfg!(feature = "tls") { &["http", "https"] } else { &["http"] }
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        let url = Url::parse(endpoint.as_str()).map_err(|why| format!("is no URL: {why}"))?;
        self.allow.check(&url)
    }

    fn destination(&self, endpoint: &Endpoint) -> String {
        let url = Url::parse(endpoint.as_str()).ok();
        let authority = url.as_ref().map(|url| &url[url::Position::BeforeHost..url::Position::AfterPort]);
        authority.unwrap_or_default().to_owned()
    }

    fn call(&self, outgoing: Outgoing) -> BoxFuture<'_, Answer> {
        Box::pin(async move { self.make(outgoing).await.map_or_else(Answer::None, Answer::Response) })
    }
}

/// The headers of DESIGN.md §4. `None` where a branch's own header is none, which its registration ruled out.
fn headers(outgoing: &Outgoing) -> Option<HeaderMap> {
    let call = &outgoing.call;
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    let mut set = |name: &'static str, value: &str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).ok()?);
        Some(())
    };
    set(protocol::GID, call.gid.as_str())?;
    if let Some(branch) = &call.branch {
        set(protocol::BRANCH, branch.as_str())?;
    }
    set(protocol::OPERATION, call.operation.as_str())?;
    set(protocol::ATTEMPT, &call.attempt.to_string())?;
    set(protocol::TIMEOUT, &outgoing.timeout.as_millis().to_string())?;
    set(protocol::BEGUN, &call.begun.as_millis().to_string())?;
    if let Some(settled) = outgoing.settled {
        set(protocol::SETTLED, &settled.as_millis().to_string())?;
    }
    if let Some(traceparent) = &call.traceparent {
        set("traceparent", traceparent)?;
    }
    if call.payload.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Some(headers)
}

/// Resolves names and refuses those that lead where nothing may be called. The connection is made to the very
/// addresses that were checked, so a second look-up cannot change them.
struct Resolver {
    allow: Arc<AllowList>,
}

#[derive(Debug, thiserror::Error)]
#[error("the name {0}")]
struct Refused(String);

#[derive(Debug, thiserror::Error)]
#[error("the name could not be resolved")]
struct Unresolved(#[source] BoxError);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = self.allow.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            let addresses: Vec<SocketAddr> = found.map_err(|error| Unresolved(error.into()))?.collect();
            allow.check_resolved(&host, &addresses).map_err(Refused)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn failure(error: &reqwest::Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Refused>() {
            return Failure::Forbidden;
        }
        if error.is::<Unresolved>() {
            return Failure::Dns;
        }
        #[cfg(feature = "tls")]
        if error.is::<rustls::Error>()
            || error
                .downcast_ref::<std::io::Error>()
                .and_then(|io| io.get_ref())
                .is_some_and(|e| e.is::<rustls::Error>())
        {
            return Failure::Tls;
        }
        cause = error.source();
    }
    match () {
        () if error.is_timeout() => Failure::TimedOut,
        () if error.is_connect() => Failure::Connect,
        () if error.is_request() || error.is_body() || error.is_decode() => Failure::Broken,
        () => Failure::Other,
    }
}
