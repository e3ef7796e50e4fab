//! Participants behind one HTTP service.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tcc_core::limits;
use tcc_core::signature::{Signed, SigningKey};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::answer::{Answer, Unknown, problem};
use crate::call::timeout;
use crate::cleaning::Cleaning;
use crate::guard::Guarded;
use crate::receiver::{Receiver, Receiving};
use crate::signed::Claim;
use crate::xa::Preparing;
use crate::{BoxError, Call, Database, Participant, Tried, Tx, Xa, XaParticipant};

/// An answer given before any participant was asked. Boxed, since a response is large and these are rare.
pub(crate) type Rejected = Box<Response<Full<Bytes>>>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Participants by name, as one service for HTTP: `POST /{name}/try`, `/{name}/confirm`, `/{name}/cancel`.
///
/// A [`tower_service::Service`] of `http` requests that never fails, for every server that takes one; in axum
/// nest it, `Router::new().nest_service("/tcc", participants)`, or take the router of `into_router` (feature
/// `axum`). Clones are cheap and the same participants. It needs a running Tokio runtime with time enabled.
///
/// | answer | when |
/// |---|---|
/// | 200 | done, now or by an earlier call; a try's reply as `application/json` |
/// | 409 `refused` | on try alone: no, and `detail` says why |
/// | 425 `pending` | nothing happened: a lock, a connection or a turn was waited for too long |
/// | 409 `not-tried`, `already-cancelled`, `already-confirmed` | an alarm: cannot be obeyed |
/// | 400 `unreadable-payload` | an alarm on confirm and cancel |
/// | 401 `unsigned`, `bad-signature` | only with [`verified_by`](Self::verified_by) |
/// | 400 `bad-call` | headers are missing, unreadable, or contradict the path |
/// | 404 `unknown-participant`, `unknown-operation`; 405 `not-post` | |
/// | 408 `incomplete-body`, 413 `payload-too-large` | the body did not arrive, or is too long |
/// | 500 `internal`, `timed-out` | rolled back; the log says why |
/// | 500 `unknown` | the commit was not answered |
///
/// Each call's work runs in a task of its own: a connection that breaks stops no transaction half-way.
#[derive(Clone, Default)]
pub struct Participants {
    named: Arc<BTreeMap<String, Arc<dyn Serve>>>,
    /// Whose calls are believed; `None` for anybody's.
    keys: Option<Arc<[SigningKey]>>,
}

/// A call that is to be answered, with its payload and by when.
struct Routed {
    participant: Arc<dyn Serve>,
    name: String,
    call: Call,
    payload: Bytes,
    by: Instant,
}

/// A [`Guarded`] participant with its types forgotten.
trait Serve: Send + Sync {
    fn answer(self: Arc<Self>, call: Arc<Call>, payload: Bytes, by: Instant) -> BoxFuture<Answer>;
}

impl<P: Participant> Serve for Guarded<P> {
    fn answer(self: Arc<Self>, call: Arc<Call>, payload: Bytes, by: Instant) -> BoxFuture<Answer> {
        Box::pin(async move {
            let answer = Self::answer(self.clone(), call.clone(), payload, by).await;
            self.clean_up_after(&call);
            answer
        })
    }
}

/// Who sends and takes no part.
struct Sender<D>(PhantomData<D>);

impl<D: Database> Participant for Sender<D> {
    type Database = D;
    type Payload = serde_json::Value;

    async fn try_(&self, _: &Call, _: &Self::Payload, _: &mut Tx<Self>) -> Result<Tried, BoxError> {
        Ok(Tried::refused("messages are sent here, and nothing is tried"))
    }

    async fn confirm(&self, _: &Call, _: &Self::Payload, _: &mut Tx<Self>) -> Result<(), BoxError> {
        Err("messages are sent here, and nothing is confirmed".into())
    }

    async fn cancel(&self, _: &Call, _: &Self::Payload, _: &mut Tx<Self>) -> Result<(), BoxError> {
        Err("messages are sent here, and nothing is cancelled".into())
    }
}

impl Participants {
    /// No participants yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a participant, to be called at `/{name}/…`.
    ///
    /// # Panics
    /// When the name is empty, holds anything but letters, digits and `-`, `_`, `.`, or is taken.
    #[must_use]
    pub fn add<P: Participant>(
        mut self,
        name: impl Into<String>,
        participant: P,
        database: P::Database,
    ) -> Self {
        let name = name.into();
        let spelled_well = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        assert!(!name.is_empty() && spelled_well, "{name:?} is no name for a participant");
        let named = Arc::make_mut(&mut self.named);
        assert!(!named.contains_key(&name), "there is a participant {name:?} already");
        named.insert(name, Arc::new(Guarded { participant, database, cleaning: Cleaning::new() }));
        self
    }

    /// Adds a receiver of messages, which are delivered to `/{name}/confirm`.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    #[must_use]
    pub fn receiver<R: Receiver>(self, name: impl Into<String>, receiver: R, database: R::Database) -> Self {
        self.add(name, Receiving(receiver), database)
    }

    /// Adds a participant whose tries are prepared (XA), to be called at `/{name}/…`.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    #[must_use]
    pub fn xa<X: XaParticipant>(
        self,
        name: impl Into<String>,
        participant: X,
        database: Xa<X::Database>,
    ) -> Self {
        self.add(name, Preparing(participant), database)
    }

    /// Answers for those who send messages (`Client::message`) out of this database, at `/{name}/check`. A
    /// participant that was [added](Self::add) does so under its own name, if its database is theirs.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    #[must_use]
    pub fn senders<D: Database>(self, name: impl Into<String>, database: D) -> Self {
        self.add(name, Sender(PhantomData), database)
    }

    /// From now on only calls are believed that one of these keys signed, as [Standard Webhooks] has it, at most five
    /// minutes ago; every other is answered 401, and reaches no participant. Which transaction, which branch and which
    /// operation a call is about is then read from what was signed, and `Tcc-Gid`, `Tcc-Branch` and `Tcc-Operation` are
    /// not looked at.
    ///
    /// While a key is changed there are two: add the new one here, then have the coordinator sign by it, then take the old
    /// one away. An initiator that makes tries itself signs them, too.
    ///
    /// The path, `Tcc-Begun` and `Tcc-Settled` are not signed: who could change what is on its way could move a call
    /// to another participant behind the same keys, or make a guard forget too early. Signatures replace no TLS.
    ///
    /// [Standard Webhooks]: https://www.standardwebhooks.com
    ///
    /// ```
    /// use tcc_client::{Participants, SigningKey};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key: SigningKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse()?;
    /// let participants = Participants::new().verified_by([key]);
    /// # let _ = participants; Ok(()) }
    /// ```
    ///
    /// # Panics
    /// Without any key: that would believe nobody.
    #[must_use]
    pub fn verified_by(self, keys: impl IntoIterator<Item = SigningKey>) -> Self {
        let keys: Arc<[SigningKey]> = keys.into_iter().collect();
        assert!(!keys.is_empty(), "without a key no call is ever believed");
        Self { keys: Some(keys), ..self }
    }

    /// An axum router of these participants, to be nested or merged.
    #[cfg(feature = "axum")]
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> axum::Router<S> {
        axum::Router::new().fallback_service(self)
    }

    async fn respond<B>(self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let Routed { participant, name, call, payload, by } = match self.take_in(request).await {
            Ok(routed) => routed,
            Err(response) => return *response,
        };
        let span = tracing::info_span!(
            "call",
            participant = name,
            gid = call.gid.as_str(),
            branch = call.branch.as_str(),
            operation = call.operation.as_str(),
            attempt = call.attempt,
        );
        let work = async move {
            let answer = participant.answer(Arc::new(call), payload, by).await;
            tracing::debug!(answer = answer.word(), "answered");
            answer
        };
        // In a task of its own: a caller who hangs up drops this future, but must not cut a commit in two.
        let answer = match tokio::spawn(work.instrument(span.clone())).await {
            Ok(answer) => answer,
            Err(error) => {
                // Unwinding has dropped the local transaction, and so rolled it back.
                span.in_scope(|| {
                    tracing::error!(error = &error as &dyn std::error::Error, "the call panicked")
                });
                Answer::Unknown(Unknown::Internal)
            }
        };
        answer.into_response()
    }

    /// Takes a call in: all of it before anything is believed of it, where it has to be signed.
    async fn take_in<B>(&self, request: Request<B>) -> Result<Routed, Rejected>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let arrived = Instant::now();
        let (head, content) = request.into_parts();
        let Some(keys) = &self.keys else {
            let (participant, name, call) = self.route(&head, None)?;
            let by = arrived + call.timeout;
            let payload = body(content, by).await?;
            return Ok(Routed { participant, name, call, payload, by });
        };
        let claim = Claim::of(&head.headers)?;
        let by = arrived + timeout(&head.headers).unwrap_or(limits::DEFAULT_CALL_TIMEOUT);
        let payload = body(content, by).await?;
        let signed = claim.verify(keys, &payload)?;
        let (participant, name, call) = self.route(&head, Some(signed))?;
        Ok(Routed { participant, name, call, payload, by })
    }

    /// Whom a call is for, and what it asks, as was signed or as its headers say.
    fn route(
        &self,
        head: &Parts,
        signed: Option<Signed>,
    ) -> Result<(Arc<dyn Serve>, String, Call), Rejected> {
        let not_found = |code, title| Box::new(problem(StatusCode::NOT_FOUND, code, title, ""));
        let path = head.uri.path();
        let (name, word) = path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
        let operation = match word.parse() {
            Ok(operation) => operation,
            Err(()) => {
                return Err(not_found(
                    "unknown-operation",
                    "the path must be /{name}/{try|confirm|cancel|check}",
                ));
            }
        };
        let Some(participant) = self.named.get(name) else {
            return Err(not_found("unknown-participant", "there is no participant of this name here"));
        };
        if head.method != Method::POST {
            let title = "an operation is a POST";
            return Err(Box::new(problem(StatusCode::METHOD_NOT_ALLOWED, "not-post", title, "")));
        }
        let bad_call = |detail: &str| {
            let title = "the headers describe no call for this path";
            Box::new(problem(StatusCode::BAD_REQUEST, "bad-call", title, detail))
        };
        let call = match signed {
            Some(signed) => Call::from_signed(signed, &head.headers),
            None => Call::from_headers(&head.headers),
        };
        let call = call.map_err(|bad| bad_call(&bad.to_string()))?;
        // An endpoint that was mistyped in the branch: confirming what shall be cancelled is the worst answer.
        if call.operation != operation {
            return Err(bad_call(&format!("{} was called at the path of {operation}", call.operation)));
        }
        Ok((participant.clone(), name.to_owned(), call))
    }
}

async fn body<B>(body: B, by: Instant) -> Result<Bytes, Rejected>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    let incomplete = |title| Box::new(problem(StatusCode::REQUEST_TIMEOUT, "incomplete-body", title, ""));
    let too_large = || {
        let detail = format!("a payload may have {} bytes", limits::PAYLOAD);
        let title = "the payload is too long";
        Box::new(problem(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", title, &detail))
    };
    if body.size_hint().lower() > limits::PAYLOAD as u64 {
        return Err(too_large());
    }
    match timeout_at(by, Limited::new(body, limits::PAYLOAD).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(incomplete("the body broke off")),
        Err(_) => Err(incomplete("the body did not arrive in time")),
    }
}

impl<B> tower_service::Service<Request<B>> for Participants
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let participants = self.clone();
        Box::pin(async move { Ok(participants.respond(request).await) })
    }
}

impl std::fmt::Debug for Participants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.named.keys()).finish()
    }
}
