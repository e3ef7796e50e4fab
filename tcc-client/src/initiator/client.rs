//! The coordinator, as its initiators reach it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use tcc_core::signature::SigningKey;
use tcc_core::wire::{BeginRequest, CancelRequest, ConfirmRequest, RegisterRequest};
use tcc_core::{BranchId, Gid};
use tokio::time::Instant;

use super::error::{BuildError, Error, Failed, Failure};
use super::exchange::{Answered, Ask, Wish};
use super::limits;
use super::message::Message;
use super::run::Transaction;
use super::standing::{Standing, Wait};
use super::submission::Submission;

use crate::BoxError;
use crate::retrying::Waits;

/// A coordinator. Clones are cheap and share their connections; it needs a running Tokio runtime.
///
/// Every request is idempotent by its gid, so each is repeated when the coordinator is away, answers that it cannot
/// serve, or does not answer, for 30 seconds unless [told](ClientBuilder::repeat_for) otherwise.
#[derive(Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) http: reqwest::Client,
    /// `…/v1`
    pub(super) api: String,
    /// What is sent to the coordinator, and to nobody else.
    pub(super) headers: HeaderMap,
    /// What tries are signed by.
    pub(super) keys: Vec<SigningKey>,
    pub(super) request_timeout: Duration,
    pub(super) repeat_for: Duration,
    pub(super) waits: Waits,
}

/// A new gid: a `UUIDv7`, so that what is begun together is stored together.
///
/// A gid of the application's own, an order's number perhaps, is better where there is one: whoever repeats the
/// order then repeats its transaction.
#[must_use]
pub fn new_gid() -> Gid {
    uuid::Uuid::now_v7().to_string().parse().expect("a UUID keeps to the letters and the length of a gid")
}

impl Client {
    /// The coordinator at this address, as in `http://127.0.0.1:7780`.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    ///
    /// # Panics
    /// As [`ClientBuilder::build`].
    pub fn new(url: &str) -> Result<Self, BuildError> {
        Self::builder(url).build()
    }

    /// The same, with more to be said.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder {
            url: url.to_owned(),
            token: None,
            keys: Vec::new(),
            request_timeout: limits::REQUEST,
            repeat_for: limits::REPEAT,
            waits: Waits { first: limits::FIRST_WAIT, longest: limits::LONGEST_WAIT },
        }
    }

    /// A transaction that the closure given to [`run`](Transaction::run) makes.
    pub fn transaction(&self, gid: Gid) -> Transaction {
        Transaction::new(self.clone(), gid)
    }

    /// A message that is delivered if, and only if, a local transaction commits. `check` is where this service answers for
    /// its local transactions, as in `http://orders/tcc/orders/check`: see
    /// [`Participants::senders`](crate::Participants::senders).
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "rusqlite")]
    /// # async fn order(client: tcc_client::Client, db: tcc_client::SqliteDatabase) -> Result<(), Box<dyn std::error::Error>> {
    /// use tcc_client::Branch;
    ///
    /// let points = Branch::new("points").confirm("http://loyalty/points").payload(&serde_json::json!({"order": 1042}))?;
    /// let message = client.message("order/1042".parse()?, "http://orders/tcc/orders/check").deliver(points);
    /// message.send(&db, |tx| Box::pin(async move {
    ///     tx.execute("INSERT INTO orders (number) VALUES (1042)", [])?;
    ///     Ok(())
    /// })).await?;
    /// # Ok(()) }
    /// ```
    pub fn message(&self, gid: Gid, check: impl Into<String>) -> Message {
        Message::new(self.clone(), gid, check.into())
    }

    /// Submits a transaction with all its branches, and waits as it says.
    ///
    /// Where the wait ran out the [decision](Standing::decision) is `None` and the transaction goes on.
    ///
    /// # Errors
    /// [`Error::Begin`]; `already-cancelled` where the gid was cancelled before it was begun. [`Error::Status`] where
    /// the transaction is durable and waiting for it failed.
    ///
    /// # Cancel safety
    /// Dropped, the transaction may or may not have begun, and goes on if it has; submit it again to know.
    pub async fn submit(&self, submission: Submission) -> Result<Standing, Error> {
        let Submission { gid, request, trace, wait, at_most } = submission;
        let end = limits::later(at_most);
        let begun = Standing::new(self.begin(&gid, &request, trace.as_ref(), (wait, at_most)).await?.view);
        if wait.is_over(begun.phase()) {
            return Ok(begun);
        }
        self.wait(&gid, wait, end.saturating_duration_since(Instant::now())).await
    }

    /// Where a transaction stands.
    ///
    /// # Errors
    /// [`Error::Status`]. The code `unknown-gid` says that nothing is known, and never that nothing happened.
    pub async fn status(&self, gid: &Gid) -> Result<Standing, Error> {
        self.wait(gid, Wait::Stored, Duration::ZERO).await
    }

    /// Waits, at most that long, and says where the transaction stands then. A wait that runs out is no error.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn wait(&self, gid: &Gid, wait: Wait, at_most: Duration) -> Result<Standing, Error> {
        let end = limits::later(at_most);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let ask = Ask::new(Wish::Status, Method::GET, gid, "").wait(wait, left);
            let standing = Standing::new(self.exchange(ask).await?.view);
            if wait.is_over(standing.phase()) || Instant::now() + limits::PACE >= end {
                return Ok(standing);
            }
            tokio::time::sleep(limits::PACE).await;
        }
    }

    /// Says confirm, naming the branches that were tried: for a transaction whose [`run`](Transaction::run) ended
    /// without an answer to its own. Saying it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Confirm`], with the codes `already-cancelled` and `not-all-tried` among others.
    ///
    /// # Cancel safety
    /// Dropped, the transaction may or may not be confirmed.
    pub async fn confirm<'b>(
        &self,
        gid: &Gid,
        tried: impl IntoIterator<Item = &'b BranchId>,
    ) -> Result<Standing, Error> {
        let tried = tried.into_iter().map(ToString::to_string).collect();
        let answered = self.say_confirm(gid, tried).await?;
        Ok(Standing::new(answered.view))
    }

    /// Says cancel, and why. Saying it again changes nothing; an unknown gid is cancelled before its begin.
    ///
    /// # Errors
    /// [`Error::Cancel`], with the code `already-confirmed` among others.
    ///
    /// # Cancel safety
    /// Dropped, the transaction may or may not be cancelled.
    pub async fn cancel(&self, gid: &Gid, reason: &str) -> Result<Standing, Error> {
        let answered = self.say_cancel(gid, reason).await?;
        Ok(Standing::new(answered.view))
    }

    pub(super) async fn begin(
        &self,
        gid: &Gid,
        request: &BeginRequest,
        trace: Option<&HeaderValue>,
        (wait, at_most): (Wait, Duration),
    ) -> Result<Answered, Error> {
        // The coordinator would say the same, one journey later.
        if let Err(invalid) = request.clone().parse(|| gid.clone()) {
            return Err(Wish::Begin.failed(Failed::unsent(gid, Failure::Invalid(invalid))));
        }
        let ask = Ask::new(Wish::Begin, Method::POST, gid, "").at_root().body(request).trace(trace);
        self.exchange(ask.wait(wait, at_most)).await
    }

    pub(super) async fn register(
        &self,
        gid: &Gid,
        request: &RegisterRequest,
        by: Instant,
    ) -> Result<Answered, Error> {
        let ask = Ask::new(Wish::Register, Method::POST, gid, "/branches").body(request).by(by);
        self.exchange(ask).await
    }

    // A decision is never asked to wait for the end: the longer its answer is held back, the likelier it is lost.
    pub(super) async fn say_confirm(&self, gid: &Gid, tried: Vec<String>) -> Result<Answered, Error> {
        let body = ConfirmRequest { tried };
        self.exchange(Ask::new(Wish::Confirm, Method::POST, gid, "/confirm").body(&body)).await
    }

    pub(super) async fn say_cancel(&self, gid: &Gid, reason: &str) -> Result<Answered, Error> {
        let body = CancelRequest { reason: Some(reason.to_owned()) };
        self.exchange(Ask::new(Wish::Cancel, Method::POST, gid, "/cancel").body(&body)).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.shared.api).finish()
    }
}

/// A [`Client`] in the making.
#[must_use]
pub struct ClientBuilder {
    url: String,
    token: Option<String>,
    keys: Vec<SigningKey>,
    request_timeout: Duration,
    repeat_for: Duration,
    waits: Waits,
}

impl ClientBuilder {
    /// What the coordinator asks callers for; sent to it as a bearer token, and to no participant.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The tries that a [transaction](Client::transaction) makes itself are signed by each of these keys, for participants
    /// that believe [signed calls](crate::Participants::verified_by) alone.
    pub fn signed_by(mut self, keys: impl IntoIterator<Item = SigningKey>) -> Self {
        self.keys = keys.into_iter().collect();
        self
    }

    /// How long one answer of the coordinator is waited for; 10 seconds if nothing is said. A wait that was asked of
    /// the coordinator comes on top.
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long one request is repeated, all attempts and waits together; 30 seconds if nothing is said. A wait that
    /// was asked of the coordinator comes on top.
    pub const fn repeat_for(mut self, length: Duration) -> Self {
        self.repeat_for = length;
        self
    }

    /// How the waits between two attempts grow, at random around these lengths; from 100 ms to 2 s if nothing is
    /// said.
    pub const fn repeat_after(mut self, first: Duration, longest: Duration) -> Self {
        self.waits = Waits { first, longest };
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// When the address is no plain `http` or (with the feature `tls`) `https` URL, the token cannot stand in a
    /// header, or the system's certificates cannot be read.
    ///
    /// # Panics
    /// Without the feature `tls`, when another crate of the program gave reqwest its TLS and no rustls provider is
    /// installed: reqwest asks for one even where all addresses are `http`.
    pub fn build(self) -> Result<Client, BuildError> {
        let url = Url::parse(&self.url).map_err(|error| BuildError::Url(error.into()))?;
        match url.scheme() {
            "http" => {}
            "https" if cfg!(feature = "tls") => {}
            "https" => return Err(BuildError::Address("is https, which needs the feature tls")),
            _ => return Err(BuildError::Address("is neither http nor https")),
        }
        if !url.has_host() || url.query().is_some() || url.fragment().is_some() {
            return Err(BuildError::Address("must be a host and perhaps a path, nothing else"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BuildError::Address("holds a user or a password; give a token instead"));
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| BuildError::Token)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let shared = Shared {
            http: http_client().map_err(BuildError::Http)?,
            api: format!("{}/v1", url.as_str().trim_end_matches('/')),
            headers,
            keys: self.keys,
            request_timeout: self.request_timeout,
            repeat_for: self.repeat_for,
            waits: self.waits,
        };
        Ok(Client { shared: Arc::new(shared) })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientBuilder").field(&self.url).finish_non_exhaustive()
    }
}

/// Nothing that reqwest would do by itself is left on: a redirect or a proxy of the environment could carry a token
/// elsewhere, and repeats are counted here.
pub(crate) fn http_client() -> Result<reqwest::Client, BoxError> {
    #[cfg(feature = "tls")]
    {
        // Another part of the process may have chosen its provider before; then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("tcc-client/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits::CONNECT)
        .pool_idle_timeout(limits::IDLE_CONNECTION)
        .tcp_nodelay(true);
    builder.build().map_err(Into::into)
}
