//! Calls over HTTP: no redirects, no environment proxy, no repeats of what was sent, no decompression, a time-out over
//! the whole call and a bound on the answer.
//!
//! By hyper, over the connections of a [`Pool`]: what reqwest adds to it are things that must be off here, and it reads no
//! more of an answer at once than it is told to.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use foldhash::HashMap;
use futures_util::FutureExt;
use futures_util::future::Shared;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::{BoxError, BoxFuture};
use tcc_core::{Endpoint, protocol};
use tokio::time::timeout;
use url::{Position, Url};

use super::address::AllowList;
use super::peer::{Peer, SigningKeys};
use super::pool::{Origin, Pool};
use super::{Outgoing, Transport};
use crate::limits;

#[cfg(feature = "tls")]
pub(super) type Connector = hyper_rustls::HttpsConnector<HttpConnector<Resolver>>;
#[cfg(not(feature = "tls"))]
pub(super) type Connector = HttpConnector<Resolver>;

/// Calls participants over `http` and, with the feature `tls`, `https`.
pub struct HttpTransport {
    pool: Arc<Pool>,
    allow: Arc<AllowList>,
    signing: Option<SigningKeys>,
    peers: Vec<Arc<Peer>>,
    /// What was read of endpoints before: participants are few, and their endpoints are called again and again.
    targets: Mutex<HashMap<Endpoint, Arc<Target>>>,
}

/// How calls are made.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// What may be called.
    pub allow: AllowList,
    /// Who is trusted to name participants, beside those the platform trusts.
    #[cfg(feature = "tls")]
    pub authorities: super::Authorities,
    /// The keys that calls are signed by.
    pub signing: Option<SigningKeys>,
    /// What single origins are called with.
    pub peers: Vec<Peer>,
}

/// An endpoint, read.
struct Target {
    /// Where calls go, or why none may.
    place: Result<Place, String>,
    destination: String,
    /// What is said of its origin.
    peer: Option<Arc<Peer>>,
}

struct Place {
    origin: Arc<Origin>,
    /// As it stands in a request: what follows the origin.
    uri: Uri,
}

/// The client of a transport could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the client could not be made")]
pub struct TransportError(#[source] pub(super) BoxError);

impl HttpTransport {
    /// One that calls what the list allows.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(allow: AllowList) -> Result<Self, TransportError> {
        Self::with(HttpOptions { allow, ..HttpOptions::default() })
    }

    /// One that calls as these say. It needs a tokio runtime where files are to be read again.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(options: HttpOptions) -> Result<Self, TransportError> {
        let allow = Arc::new(options.allow);
        let mut http = HttpConnector::new_with_resolver(Resolver::new(allow.clone()));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(limits::CONNECT_TIMEOUT));
        #[cfg(feature = "tls")]
        let connector = super::tls::connector(http, &options.authorities)?;
        #[cfg(not(feature = "tls"))]
        let connector = http;
        options.signing.iter().for_each(SigningKeys::follow);
        options.peers.iter().for_each(Peer::follow);
        let peers = options.peers.into_iter().map(Arc::new).collect();
        let pool = Arc::new(Pool::new(connector));
        Ok(Self { pool, allow, signing: options.signing, peers, targets: Mutex::default() })
    }

    fn target(&self, endpoint: &Endpoint) -> Arc<Target> {
        let mut targets = self.targets.lock().expect("no code under this lock can panic");
        if let Some(target) = targets.get(endpoint) {
            return target.clone();
        }
        if targets.len() >= limits::TARGETS {
            targets.clear();
            self.pool.forget_unused();
        }
        let target = Arc::new(self.read(endpoint));
        targets.insert(endpoint.clone(), target.clone());
        target
    }

    fn read(&self, endpoint: &Endpoint) -> Target {
        let url = match Url::parse(endpoint.as_str()) {
            Ok(url) => url,
            Err(why) => {
                let place = Err(format!("is no URL: {why}"));
                return Target { place, destination: String::new(), peer: None };
            }
        };
        let place = self.allow.check(&url).and_then(|()| {
            self.place(&url[..Position::AfterQuery]).map_err(|why| format!("cannot be called: {why}"))
        });
        let peer = self.peers.iter().find(|peer| peer.is_of(&url)).cloned();
        Target { place, destination: url[Position::BeforeHost..Position::AfterPort].to_owned(), peer }
    }

    fn place(&self, url: &str) -> Result<Place, http::Error> {
        let uri: Uri = url.parse()?;
        let origin = self.pool.origin(&uri)?;
        Ok(Place { origin, uri: uri.path_and_query().cloned().map(Uri::from).unwrap_or_default() })
    }

    /// Reads what is at an endpoint: no call of a transaction.
    #[cfg(feature = "cli")]
    pub(crate) async fn get(&self, at: &Endpoint, within: Duration) -> Answer {
        let get = async {
            let target = self.target(at);
            let place = target.place.as_ref().map_err(|_| Failure::Forbidden)?;
            let mut request = Request::<Full<Bytes>>::default();
            *request.uri_mut() = place.uri.clone();
            self.pool.call(place.origin.clone(), request).await
        };
        let got = timeout(within, get).await;
        got.unwrap_or(Err(Failure::TimedOut)).map_or_else(Answer::None, Answer::Response)
    }

    /// The request that a call is, and where it goes.
    fn prepare(&self, outgoing: &Outgoing) -> Result<(Arc<Origin>, Request<Full<Bytes>>), Failure> {
        let target = self.target(&outgoing.call.endpoint);
        let place = target.place.as_ref().map_err(|_| Failure::Forbidden)?;
        let mut request = request(outgoing, place.uri.clone()).ok_or(Failure::Other)?;
        let peer = target.peer.as_deref();
        if let Some(peer) = peer {
            peer.introduce(request.headers_mut());
        }
        if let Some(keys) = peer.and_then(Peer::signing).or(self.signing.as_ref()) {
            let body = outgoing.call.payload.as_ref().map_or("", |payload| payload.get());
            keys.sign(&outgoing.call, body.as_bytes(), request.headers_mut()).ok_or(Failure::Other)?;
        }
        Ok((place.origin.clone(), request))
    }
}

impl Transport for HttpTransport {
    fn schemes(&self) -> &[&'static str] {
        if cfg!(feature = "tls") { &["http", "https"] } else { &["http"] }
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        self.target(endpoint).place.as_ref().map(drop).map_err(Clone::clone)
    }

    fn destination(&self, endpoint: &Endpoint) -> String {
        self.target(endpoint).destination.clone()
    }

    fn call(&self, outgoing: Outgoing) -> BoxFuture<'_, Answer> {
        let (origin, request) = match self.prepare(&outgoing) {
            Ok(prepared) => prepared,
            Err(failure) => return Box::pin(ready(Answer::None(failure))),
        };
        // Put together here: an async block would hold all of it a second time.
        let called = timeout(outgoing.timeout, self.pool.call(origin, request));
        Box::pin(
            called.map(|made| {
                made.unwrap_or(Err(Failure::TimedOut)).map_or_else(Answer::None, Answer::Response)
            }),
        )
    }
}

/// An answer, with as much of its body as counts.
pub(super) async fn read<B: Body<Data = Bytes>>(answer: http::Response<B>) -> Result<Response, Failure> {
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(Response {
        status: answer.status().as_u16(),
        retry_after: retry_after.map(Duration::from_secs),
        body: body(answer.into_body()).await?,
    })
}

/// The whole of it, or `None` if it is over its limit.
async fn body<B: Body<Data = Bytes>>(body: B) -> Result<Option<Vec<u8>>, Failure> {
    let mut body = std::pin::pin!(body);
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::Broken)?;
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > tcc_core::limits::REPLY {
            return Ok(None);
        }
        read.extend_from_slice(data);
    }
    Ok(Some(read))
}

/// The request that a call is, to this place.
pub(super) fn request(outgoing: &Outgoing, uri: Uri) -> Option<Request<Full<Bytes>>> {
    let payload = outgoing.call.payload.as_ref();
    let payload = payload.map(|payload| Bytes::copy_from_slice(payload.get().as_bytes()));
    let mut request = Request::new(Full::new(payload.unwrap_or_default()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers(outgoing)?;
    Some(request)
}

/// The headers of DESIGN.md §4. `None` where a branch's own header is none, which its registration ruled out.
fn headers(outgoing: &Outgoing) -> Option<HeaderMap> {
    const AGENT: HeaderValue = HeaderValue::from_static(concat!("tcc/", env!("CARGO_PKG_VERSION")));
    const JSON: HeaderValue = HeaderValue::from_static("application/json");

    let call = &outgoing.call;
    let mut headers = HeaderMap::with_capacity(call.headers.len() + 12);
    for (name, value) in &call.headers {
        headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    let mut set = |name: HeaderName, value: HeaderValue| headers.insert(name, value);
    set(const { HeaderName::from_static(protocol::GID) }, HeaderValue::from_str(call.gid.as_str()).ok()?);
    if let Some(branch) = &call.branch {
        set(
            const { HeaderName::from_static(protocol::BRANCH) },
            HeaderValue::from_str(branch.as_str()).ok()?,
        );
    }
    set(
        const { HeaderName::from_static(protocol::OPERATION) },
        HeaderValue::from_static(call.operation.as_str()),
    );
    set(const { HeaderName::from_static(protocol::ATTEMPT) }, call.attempt.into());
    set(
        const { HeaderName::from_static(protocol::TIMEOUT) },
        u64::try_from(outgoing.timeout.as_millis()).unwrap_or(u64::MAX).into(),
    );
    set(const { HeaderName::from_static(protocol::BEGUN) }, call.begun.as_millis().into());
    if let Some(settled) = outgoing.settled {
        set(const { HeaderName::from_static(protocol::SETTLED) }, settled.as_millis().into());
    }
    if let Some(traceparent) = &call.traceparent {
        set(const { HeaderName::from_static("traceparent") }, HeaderValue::from_str(traceparent).ok()?);
    }
    if call.payload.is_some() {
        headers.insert(CONTENT_TYPE, JSON);
    } else {
        // There are servers that refuse a POST whose length is not told (RFC 9110 §8.6).
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    headers.entry(USER_AGENT).or_insert(AGENT);
    Some(headers)
}

/// Resolves names and refuses those that lead where nothing may be called. The connection is made to the very
/// addresses that were checked, so a second look-up cannot change them.
///
/// A name is looked up once at a time, however many ask: the look-ups of a name server that is silent hold threads, of
/// which other names need some too.
#[derive(Clone)]
pub(super) struct Resolver {
    allow: Arc<AllowList>,
    under_way: Arc<Mutex<HashMap<Name, Lookup>>>,
}

/// A look-up, shared by those who wait for it.
type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, Unresolved>>>;

#[derive(Debug, thiserror::Error)]
#[error("the name {0}")]
struct Refused(String);

#[derive(Clone, Debug, thiserror::Error)]
#[error("the name could not be resolved")]
struct Unresolved(#[source] Arc<io::Error>);

impl Resolver {
    fn new(allow: Arc<AllowList>) -> Self {
        Self { allow, under_way: Arc::default() }
    }

    fn look_up(&self, name: &Name) -> Lookup {
        let mut under_way = self.under_way.lock().expect("no code under this lock can panic");
        if let Some(lookup) = under_way.get(name) {
            return lookup.clone();
        }
        let (asked, all) = (name.clone(), self.under_way.clone());
        // In a task of its own: whoever asked first may not wait to its end.
        let found = tokio::spawn(async move {
            let found = tokio::net::lookup_host((asked.as_str(), 0)).await;
            all.lock().expect("no code under this lock can panic").remove(&asked);
            found.map(Iterator::collect).map_err(|error| Unresolved(Arc::new(error)))
        });
        let gone = |error| Unresolved(Arc::new(io::Error::other(error)));
        let found: BoxFuture<'static, _> =
            Box::pin(async move { found.await.unwrap_or_else(|e| Err(gone(e))) });
        let lookup = found.shared();
        under_way.insert(name.clone(), lookup.clone());
        lookup
    }
}

impl tower_service::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (allow, lookup) = (self.allow.clone(), self.look_up(&name));
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = lookup.await?;
            allow.check_resolved(name.as_str(), &addresses).map_err(Refused)?;
            Ok(addresses.into_iter())
        })
    }
}

/// What an error says, or else is taken for.
pub(super) fn failure(error: &(dyn std::error::Error + 'static), otherwise: Failure) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Refused>() {
            return Failure::Forbidden;
        }
        if error.is::<Unresolved>() {
            return Failure::Dns;
        }
        if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
            return Failure::TimedOut;
        }
        #[cfg(feature = "tls")]
        if is_of_tls(error) {
            return Failure::Tls;
        }
        cause = error.source();
    }
    otherwise
}

/// An I/O error is not the source of the one that wraps it: what that wraps has to be asked for.
#[cfg(feature = "tls")]
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| is_of_tls(wrapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_forgotten_with_the_last_of_its_endpoints() {
        let transport = HttpTransport::new(AllowList::default()).unwrap();
        let origin = |port: usize, path| {
            let target = transport.target(&format!("http://10.0.0.1:{port}{path}").parse().unwrap());
            Arc::downgrade(&target.place.as_ref().unwrap().origin)
        };
        let first = origin(1, "/try");
        assert!(first.ptr_eq(&origin(1, "/confirm")), "its endpoints share one");
        let held = first.upgrade();
        let second = origin(2, "/try");
        (3..=limits::TARGETS).for_each(|port| drop(origin(port, "/try")));
        assert!(second.upgrade().is_none());
        assert!(held.is_some() && first.ptr_eq(&origin(1, "/try")), "whoever calls it keeps it");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_at_a_time() {
        let resolver = Resolver::new(Arc::default());
        let name = |text: &str| text.parse::<Name>().unwrap();
        let first = resolver.look_up(&name("localhost"));
        assert!(first.ptr_eq(&resolver.look_up(&name("localhost"))));
        assert!(!first.ptr_eq(&resolver.look_up(&name("127.0.0.1"))));
        drop(resolver.look_up(&name("localhost")));
        assert!(!first.await.unwrap().is_empty());
        assert!(resolver.under_way.lock().unwrap().get(&name("localhost")).is_none(), "then it is forgotten");
    }
}
