//! Connections to participants. An idle one waits for the next call, and whoever makes that call drives it.
//!
//! A task for each connection would have to be woken for every request and for every answer, and costs more than the
//! exchange itself. So nobody looks after an idle connection: what came in meanwhile, its end or bytes that nobody asked
//! for, is found before the next request is written to it (what comes at that very moment, nobody can tell from an answer),
//! and a sweeper closes those that nobody uses any more.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};

use foldhash::HashMap;
use http::header::{HOST, HeaderValue};
use http::{Request, Uri, Version};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use tcc_core::answer::{Failure, Response};
use tcc_core::store::BoxError;
use tokio::task::unconstrained;
use tokio::time::Instant;
use tower_service::Service as _;

use super::http::{Connector, failure, read};
use crate::limits;

type Stream = <Connector as tower_service::Service<Uri>>::Response;

/// The connections of a transport.
pub(super) struct Pool {
    connector: Connector,
    http: http1::Builder,
    origins: Mutex<HashMap<String, Arc<Origin>>>,
    /// There is a sweeper.
    swept: AtomicBool,
}

/// A scheme, a host and a port, and the connections to it that are idle.
pub(super) struct Origin {
    uri: Uri,
    host: HeaderValue,
    /// The longest idle first. They are no more than there were calls in flight at once within the time that one is kept,
    /// and those are limited by destination.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    since: Instant,
    connection: Connection,
}

struct Connection {
    requests: SendRequest<Full<Bytes>>,
    driver: Driver,
}

/// What reads and writes; only while it is polled.
type Driver = Box<http1::Connection<Stream, Full<Bytes>>>;

/// How an exchange ended.
enum Exchanged {
    /// With an answer; and with the connection, if it takes another request.
    Answered(Response, Option<Connection>),
    /// Nothing of the request was written.
    Unsent(Box<Request<Full<Bytes>>>, Failure),
    /// It is unknown what became of the request.
    Failed(Failure),
}

impl Pool {
    pub(super) fn new(connector: Connector) -> Self {
        let mut http = http1::Builder::new();
        http.max_buf_size(limits::ANSWER_BUFFER);
        Self { connector, http, origins: Mutex::default(), swept: AtomicBool::new(false) }
    }

    /// The origin of a URL; all its endpoints share one.
    pub(super) fn origin(&self, uri: &Uri) -> Result<Arc<Origin>, http::Error> {
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
        let authority = authority.map_or("", |authority| authority.as_str());
        let mut origins = self.origins.lock().expect("no code under this lock can panic");
        let name = format!("{scheme}://{authority}");
        if let Some(origin) = origins.get(&name) {
            return Ok(origin.clone());
        }
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build()?;
        let host = HeaderValue::from_str(authority)?;
        let origin = Arc::new(Origin { uri, host, idle: Mutex::default() });
        origins.insert(name, origin.clone());
        Ok(origin)
    }

    /// Forgets the origins that nobody holds and to which no connection is open.
    pub(super) fn forget_unused(&self) {
        let mut origins = self.origins.lock().expect("no code under this lock can panic");
        origins.retain(|_, origin| Arc::strong_count(origin) > 1 || !origin.idle().is_empty());
    }

    /// Sends a request to an origin, and reads the answer.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection, so that an answer on its way is not taken for that of the next call.
    pub(super) async fn call(
        self: &Arc<Self>,
        origin: Arc<Origin>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response, Failure> {
        request.headers_mut().insert(HOST, origin.host.clone());
        loop {
            let idle = origin.take();
            let was_idle = idle.is_some();
            let connection = match idle {
                Some(connection) => connection,
                // Apart, because most calls need no place for it.
                None => Box::pin(self.connect(&origin)).await?,
            };
            match connection.exchange(request).await {
                Exchanged::Answered(response, connection) => {
                    connection.into_iter().for_each(|connection| self.keep(&origin, connection));
                    return Ok(response);
                }
                // Its server closed it while it was idle. That is no repeat: there, nothing was sent.
                Exchanged::Unsent(unsent, _) if was_idle => request = *unsent,
                Exchanged::Unsent(_, failure) | Exchanged::Failed(failure) => return Err(failure),
            }
        }
    }

    async fn connect(&self, origin: &Origin) -> Result<Connection, Failure> {
        let mut connector = self.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await.map_err(not_connected)?;
        let stream = connector.call(origin.uri.clone()).await.map_err(not_connected)?;
        let made = self.http.handshake(stream).await;
        let (requests, driver) = made.map_err(|error| failure(&error, Failure::Broken))?;
        Ok(Connection { requests, driver: Box::new(driver) })
    }

    fn keep(self: &Arc<Self>, origin: &Origin, connection: Connection) {
        origin.idle().push(Idle { since: Instant::now(), connection });
        // After the push: a sweeper that ends says so before it looks for the last time.
        if !self.swept.load(Ordering::SeqCst) && !self.swept.swap(true, Ordering::SeqCst) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what is idle for too long, and says when the next will be.
    fn close_old(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut old = Vec::new();
        let origins = self.origins.lock().expect("no code under this lock can panic");
        let next = origins.values().filter_map(|origin| {
            let mut idle = origin.idle();
            let is_old = |idle: &Idle| now.duration_since(idle.since) >= limits::IDLE_CONNECTION;
            let young = idle.partition_point(is_old);
            old.extend(idle.drain(..young));
            idle.first().map(|idle| idle.since + limits::IDLE_CONNECTION)
        });
        let next = next.min();
        // Nobody is to wait for a lock until all are closed.
        drop(origins);
        old.into_iter().for_each(|idle| idle.connection.close());
        next
    }
}

/// Closes connections that are idle for too long, for as long as there are any.
async fn sweep(pool: Weak<Pool>) {
    let mut next = Instant::now() + limits::IDLE_CONNECTION;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.swept.store(false, Ordering::SeqCst);
        match pool.close_old() {
            Some(then) if !pool.swept.swap(true, Ordering::SeqCst) => next = then,
            Some(_) | None => return,
        }
    }
}

impl Origin {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().expect("no code under this lock can panic")
    }

    /// The connection that was used last, unless even that is too old: it is the one that its server has most reason to
    /// keep, and the others may grow old.
    fn take(&self) -> Option<Connection> {
        let last = self.idle().pop()?;
        (last.since.elapsed() < limits::IDLE_CONNECTION).then_some(last.connection)
    }
}

impl Connection {
    /// Closes one that is idle, as TLS wants it: not without a word.
    fn close(mut self) {
        drop(self.requests);
        // What cannot be said at once is left unsaid.
        let _ = Pin::new(&mut self.driver).poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Sends a request and reads the answer.
    fn exchange(mut self, request: Request<Full<Bytes>>) -> impl Future<Output = Exchanged> {
        let sent = self.requests.try_send_request(request);
        async move {
            let mut persists = false;
            let exchange = async {
                let answer = sent.await.map_err(|mut error| {
                    let unsent = error.take_message().map(Box::new);
                    (failure(error.error(), Failure::Broken), unsent)
                })?;
                // What speaks HTTP/1.0 may claim so, but is not to be relied upon.
                persists = answer.version() == Version::HTTP_11;
                read(answer).await.map_err(|failure| (failure, None))
            };
            let mut driver = Some(self.driver);
            match drive(&mut driver, exchange).await {
                Ok(response) => {
                    // What was too long was not read to its end. It takes another request once both messages have ended
                    // and nothing came after them.
                    persists &= response.body.is_some() && self.requests.is_ready();
                    let driver = driver.filter(|_| persists);
                    let requests = self.requests;
                    Exchanged::Answered(response, driver.map(|driver| Self { requests, driver }))
                }
                Err((failure, Some(unsent))) => Exchanged::Unsent(unsent, failure),
                Err((failure, None)) => Exchanged::Failed(failure),
            }
        }
    }
}

/// Polls an exchange and the connection that it goes over. When that ends it is dropped, and so answers what it was asked.
///
/// Only the connection moves the exchange, which therefore needs no waker. The connection wakes its own also when part of
/// a body is taken from it, which would have the task polled again after its last answer: so it is polled without one
/// first, and with it before the task sleeps.
async fn drive<T>(driver: &mut Option<Driver>, exchange: impl Future<Output = T>) -> T {
    // Without a budget, for whoever has used it up wakes itself, and here that would wake nobody.
    let mut exchange = pin!(unconstrained(exchange));
    let mut quietly = false;
    poll_fn(|cx| {
        loop {
            let mut nobody = Context::from_waker(Waker::noop());
            if let Some(running) = driver
                && Pin::new(running).poll(if quietly { &mut nobody } else { cx }).is_ready()
            {
                *driver = None;
            }
            if let Poll::Ready(done) = exchange.as_mut().poll(&mut nobody) {
                return Poll::Ready(done);
            }
            quietly = !quietly;
            if quietly {
                return Poll::Pending;
            }
        }
    })
    .await
}

fn not_connected(error: impl Into<BoxError>) -> Failure {
    failure(&*error.into(), Failure::Connect)
}
