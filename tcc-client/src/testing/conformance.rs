//! The suite for participants, in a test of one.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tcc_core::answer::{Answer, Failure};
use tcc_core::conformance::{Effect, Report, Setup, Subject, run};
use tcc_core::signature::SigningKey;
use tcc_core::store::BoxFuture;
use tcc_core::{Call, Endpoint, Timestamp};
use tokio::time::{Instant, sleep, timeout};

use super::service::{Service, body, headers};
use crate::{BoxError, limits};

/// Plays against a participant what networks and crashes do to calls, and [reports](Report) which promise breaks.
///
#[cfg_attr(feature = "rusqlite", doc = "```")]
#[cfg_attr(not(feature = "rusqlite"), doc = "```ignore")]
/// use serde_json::json;
/// use tcc_client::testing::Conformance;
/// # use tcc_client::{BoxError, Call, Participant, Participants, SqliteDatabase, Tried, Tx};
/// # struct Account;
/// # #[derive(serde::Deserialize)]
/// # struct Charge { cents: i64 }
/// # impl Participant for Account {
/// #     type Database = SqliteDatabase;
/// #     type Payload = Charge;
/// #     async fn try_(&self, _: &Call, c: &Charge, tx: &mut Tx<Self>) -> Result<Tried, BoxError> {
/// #         let sql = "UPDATE account SET free = free - ?1, reserved = reserved + ?1 WHERE free >= ?1";
/// #         Ok(if tx.execute(sql, [c.cents])? == 1 { Tried::accepted() } else { Tried::refused("no funds") })
/// #     }
/// #     async fn confirm(&self, _: &Call, c: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
/// #         tx.execute("UPDATE account SET reserved = reserved - ?1", [c.cents])?;
/// #         Ok(())
/// #     }
/// #     async fn cancel(&self, _: &Call, c: &Charge, tx: &mut Tx<Self>) -> Result<(), BoxError> {
/// #         tx.execute("UPDATE account SET free = free + ?1, reserved = reserved - ?1", [c.cents])?;
/// #         Ok(())
/// #     }
/// # }
///
/// # #[tokio::main] async fn main() -> Result<(), BoxError> {
/// # let folder = tempfile::tempdir()?; let db = SqliteDatabase::open(folder.path().join("account.db"))?;
/// # db.create_schema().await?;
/// # db.with(|db| db.execute_batch("CREATE TABLE account (free INTEGER, reserved INTEGER); INSERT INTO account VALUES (1000, 0)")).await?;
/// let participants = Participants::new().add("account", Account, db.clone());
/// let report = Conformance::of(participants, "/account")
///     .payload(&json!({ "cents": 10 }))?
///     .refused_payload(&json!({ "cents": 5000 }))?
///     .effect(move || {
///         let db = db.clone();
///         async move {
///             let sql = "SELECT free, reserved FROM account";
///             Ok(db.with(|db| db.query_row(sql, [], |row| Ok([row.get::<_, i64>(0)?, row.get(1)?]))).await?)
///         }
///     })
///     .run()
///     .await;
/// assert!(report.is_complete(), "{report}");
/// # Ok(()) }
/// ```
///
/// It changes data. With a good participant at most [`ACCEPTED`](tcc_core::conformance::ACCEPTED) tries of the payload
/// are accepted and [`CONFIRMED`](tcc_core::conformance::CONFIRMED) of them confirmed; its gids begin with
/// [`PREFIX`](tcc_core::conformance::PREFIX).
#[must_use = "it does nothing until it is run"]
pub struct Conformance {
    target: Target,
    at: Endpoint,
    payload: Option<Arc<RawValue>>,
    refused: Option<Arc<RawValue>>,
    headers: Vec<(String, String)>,
    keys: Vec<SigningKey>,
    effect: Option<Probe>,
    timeout: Duration,
    within: Duration,
}

type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<Effect, BoxError>> + Send + Sync>;

enum Target {
    Service(Service),
    #[cfg(feature = "initiator")]
    Url(reqwest::Client),
}

impl Conformance {
    /// Of a participant in this process: a service for HTTP, such as [`Participants`](crate::Participants) or an axum
    /// router, that is called at `path/try`, `path/confirm` and `path/cancel`.
    ///
    /// # Panics
    /// When the path does not begin with `/`, or cannot stand in a URL.
    pub fn of<S, B>(service: S, path: &str) -> Self
    where
        S: tower_service::Service<
                Request<Full<Bytes>>,
                Response = Response<B>,
                Error = std::convert::Infallible,
                Future: Send,
            >,
        S: Clone + Send + Sync + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        assert!(path.starts_with('/'), "{path:?} does not begin with /");
        let at = format!("http://in-process{path}").parse().expect("a path");
        Self::new(Target::Service(Service::new(service)), at)
    }

    /// Of a participant behind a URL: `url/try`, `url/confirm` and `url/cancel`.
    ///
    /// # Errors
    /// When it is no URL, or the HTTP client cannot be made.
    #[cfg(feature = "initiator")]
    pub fn at(url: &str) -> Result<Self, BoxError> {
        let at = url.parse::<Endpoint>().map_err(|why| format!("{url:?} {why}"))?;
        Ok(Self::new(Target::Url(crate::initiator::http_client()?), at))
    }

    fn new(target: Target, at: Endpoint) -> Self {
        Self {
            target,
            at,
            payload: None,
            refused: None,
            headers: Vec::new(),
            keys: Vec::new(),
            effect: None,
            timeout: tcc_core::limits::DEFAULT_CALL_TIMEOUT,
            within: limits::CONFORMANCE,
        }
    }

    /// What each call carries: something that is accepted, again and again.
    ///
    /// # Errors
    /// When it cannot be made JSON.
    pub fn payload(mut self, payload: &impl Serialize) -> Result<Self, serde_json::Error> {
        self.payload = Some(to_raw_value(payload)?.into());
        Ok(self)
    }

    /// Something whose try is refused. Without it refusals are not tested.
    ///
    /// # Errors
    /// When it cannot be made JSON.
    pub fn refused_payload(mut self, payload: &impl Serialize) -> Result<Self, serde_json::Error> {
        self.refused = Some(to_raw_value(payload)?.into());
        Ok(self)
    }

    /// Sent along with each call.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Calls are signed by each of these keys, for participants that believe [signed calls](crate::Participants::verified_by)
    /// alone.
    pub fn signed_by(mut self, keys: impl IntoIterator<Item = SigningKey>) -> Self {
        self.keys = keys.into_iter().collect();
        self
    }

    /// Reads what all calls have come to: a number, or several, such as the balance and what is reserved. Nobody else may
    /// change them meanwhile. Without it the answers alone speak, and whether a repeat had a second effect is not seen.
    pub fn effect<F, R, E>(mut self, read: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<E, BoxError>> + Send + 'static,
        E: Into<Effect>,
    {
        self.effect = Some(Box::new(move || {
            let read = read();
            Box::pin(async move { read.await.map(Into::into) })
        }));
        self
    }

    /// How long one call may take; 10 seconds if nothing is said.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long all of it may take; three minutes if nothing is said. What is not done by then is unclear.
    pub const fn within(mut self, length: Duration) -> Self {
        self.within = length;
        self
    }

    /// Plays every check. It needs a running Tokio runtime with time enabled.
    pub async fn run(self) -> Report {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let setup = Setup {
            at: self.at,
            run: fastrand::u64(..),
            now: Timestamp::default() + now,
            payload: self.payload,
            refused: self.refused,
            headers: self.headers,
            timeout: self.timeout,
        };
        let over_at = Instant::now() + self.within;
        let Self { target, keys, effect, timeout, .. } = self;
        let called = Called { target, keys, effect, timeout, over_at };
        run(&called, &setup, &mut |_| {}).await
    }
}

struct Called {
    target: Target,
    keys: Vec<SigningKey>,
    effect: Option<Probe>,
    timeout: Duration,
    over_at: Instant,
}

impl Called {
    fn left(&self) -> Duration {
        self.over_at.saturating_duration_since(Instant::now()).min(self.timeout)
    }
}

impl Subject for Called {
    fn call(&self, call: Call, settled: Option<Timestamp>) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let left = self.left();
            let Some(headers) = headers(&call, left, settled, &self.keys) else {
                return Answer::None(Failure::Other);
            };
            let body = body(&call);
            let answer = async {
                match &self.target {
                    Target::Service(service) => {
                        let path = call.endpoint.as_str().trim_start_matches("http://in-process");
                        service.call(path, headers, body).await
                    }
                    #[cfg(feature = "initiator")]
                    Target::Url(client) => {
                        let request = client.post(call.endpoint.as_str()).headers(headers).body(body);
                        crate::initiator::answer(request).await.map_or_else(Answer::None, Answer::Response)
                    }
                }
            };
            if left.is_zero() {
                return Answer::None(Failure::TimedOut);
            }
            timeout(left, answer).await.unwrap_or(Answer::None(Failure::TimedOut))
        })
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        Box::pin(sleep(limits::CONFORMANCE_PAUSE.min(self.left())))
    }

    fn effect(&self) -> BoxFuture<'_, Result<Option<Effect>, String>> {
        Box::pin(async move {
            let Some(read) = &self.effect else { return Ok(None) };
            match timeout(self.left(), read()).await {
                Ok(Ok(effect)) => Ok(Some(effect)),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("it was not read in time".to_owned()),
            }
        })
    }
}
