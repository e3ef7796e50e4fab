//! Calls to functions of this process: the coordinator embedded in the service whose participants they are.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;
use tcc_core::{Endpoint, Operation};

use super::{Outgoing, Transport};

/// Participants that are functions of this process: `local:NAME`, which a base `at` makes into `local:NAME/try`,
/// `local:NAME/confirm` and `local:NAME/cancel`. One function serves all of them, and sees in the call which is asked.
///
/// What a function gives is judged like an answer over HTTP, by [`tcc_core::answer::judge`], and the promises are the
/// same: a call may come again, so a function needs a guard as any participant does. One that panics or takes longer
/// than its time-out has an outcome that is unknown, and is called again.
///
/// It runs on the coordinator's own tasks. What blocks or computes for long belongs into
/// [`spawn_blocking`](tokio::task::spawn_blocking): a thread that is not given back can serve nobody, and no time-out
/// ends it.
///
/// # Cancel safety
/// At its time-out, and when the coordinator goes, a function's future is dropped where it awaits. What must not be cut
/// in two, such as a commit, belongs into a task of its own.
///
/// ```
/// use std::sync::Arc;
/// use std::time::{Duration, Instant};
///
/// use tcc_core::answer::Response;
/// use tcc_core::wire::BeginRequest;
/// use tcc_core::{MemoryStore, Operation, Phase, Timestamp};
/// use tcc_server::transport::{LocalTransport, Outgoing, Transports};
/// use tcc_server::{Begun, Coordinator, Known, Settings, Wait};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let participants = LocalTransport::new()
///     .with("stock", async |_: Outgoing| Response::done())
///     .with("money", async |outgoing: Outgoing| match outgoing.call.operation {
///         Operation::Try => Response::refused("the account is empty"),
///         Operation::Confirm | Operation::Cancel | Operation::Check => Response::done(),
///     });
/// // With a log it would be `SqliteStore::open("log.db", SqliteOptions::default())?`.
/// let opened = Instant::now();
/// let store = Arc::new(MemoryStore::new(move || Timestamp::from_millis(0) + opened.elapsed()));
/// let coordinator = Coordinator::new(store, Transports::new().with(participants), Settings::default());
///
/// let order: BeginRequest = serde_json::from_str(
///     r#"{"gid": "order/17", "branches": [{"id": "stock", "at": "local:stock"}, {"id": "money", "at": "local:money"}]}"#,
/// )?;
/// let begin = order.parse(|| unreachable!("it has a gid"))?;
/// let Begun::New(stored) = coordinator.begin(begin).await? else { unreachable!("it is new") };
/// let ended = coordinator.wait(Known::Stored(stored), Wait::End, Duration::from_secs(30)).await;
/// assert_eq!(ended.phase(), Phase::Cancelled);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct LocalTransport {
    functions: BTreeMap<String, Function>,
}

type Function = Arc<dyn Fn(Outgoing) -> BoxFuture<'static, Answer> + Send + Sync>;

impl LocalTransport {
    /// One without functions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With another function.
    ///
    /// # Panics
    /// When the name is empty, holds anything but letters, digits and `-`, `_`, `.`, or is taken.
    #[must_use]
    pub fn with<F>(
        mut self,
        name: impl Into<String>,
        function: impl Fn(Outgoing) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output: Into<Answer>> + Send + 'static,
    {
        let name = name.into();
        let spelled_well = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        assert!(!name.is_empty() && spelled_well, "{name:?} is no name for a participant");
        assert!(!self.functions.contains_key(&name), "there is a participant {name:?} already");
        let function: Function = Arc::new(move |outgoing| Box::pin(function(outgoing).map(Into::into)));
        self.functions.insert(name, function);
        self
    }

    fn function(&self, endpoint: &Endpoint) -> Result<(&Function, Option<Operation>), String> {
        let (name, word) = read(endpoint);
        let function = self.functions.get(name).ok_or_else(|| {
            let known: Vec<_> = self.functions.keys().map(String::as_str).collect();
            format!("names {name:?}, and no function here has that name; these have: {}", known.join(", "))
        })?;
        let operation = word.map(str::parse).transpose().map_err(|()| {
            let word = word.unwrap_or_default();
            format!("ends in {word:?}, which is none of try, confirm, cancel and check")
        })?;
        Ok((function, operation))
    }
}

/// The name in `local:NAME/OPERATION`, and the operation if there is one.
fn read(endpoint: &Endpoint) -> (&str, Option<&str>) {
    let path = endpoint.as_str().strip_prefix("local:").unwrap_or_default();
    let slash = path.bytes().position(|b| b == b'/');
    slash.map_or((path, None), |at| (&path[..at], Some(&path[at + 1..])))
}

impl Transport for LocalTransport {
    fn schemes(&self) -> &[&'static str] {
        &["local"]
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        self.function(endpoint).map(drop)
    }

    fn destination(&self, endpoint: &Endpoint) -> String {
        read(endpoint).0.to_owned()
    }

    fn call(&self, outgoing: Outgoing) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let call = &outgoing.call;
            let (gid, asked, endpoint) = (call.gid.clone(), call.operation, call.endpoint.clone());
            let Ok((function, operation)) = self.function(&endpoint) else {
                return Answer::None(Failure::Forbidden);
            };
            if operation.is_some_and(|operation| operation != asked) {
                // Its branch was mistyped: confirming what shall be cancelled is the worst answer.
                return Answer::Response(Response { status: 400, ..Response::default() });
            }
            // All of it within: making the future and dropping it are its code too.
            let made = async move { tokio::time::timeout(outgoing.timeout, function(outgoing)).await };
            match AssertUnwindSafe(made).catch_unwind().await {
                Ok(Ok(answer)) => cut_off(answer),
                Ok(Err(_)) => Answer::None(Failure::TimedOut),
                Err(panic) => {
                    let why = words(&*panic);
                    tracing::error!(%gid, %endpoint, operation = %asked, why, "a participant panicked");
                    Answer::None(Failure::Panicked)
                }
            }
        })
    }
}

/// An answer whose body is over its limit comes without it, as over HTTP.
fn cut_off(answer: Answer) -> Answer {
    match answer {
        Answer::Response(Response { status, retry_after, body }) => {
            let body = body.filter(|body| body.len() <= tcc_core::limits::REPLY);
            Answer::Response(Response { status, retry_after, body })
        }
        Answer::None(failure) => Answer::None(failure),
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it did not say why")
}
