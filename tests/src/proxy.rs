//! A proxy on one hop that loses, doubles and delays what passes it.
//!
//! It is also the address of a process that comes and goes: whoever calls it keeps calling the same port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use crate::http::{self, Message};

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives; the caller's connection is reset.
    LoseRequest,
    /// It arrives and is answered; the caller's connection is reset instead.
    LoseReply,
    /// It arrives twice, one after the other; the caller sees the second answer.
    TwiceInTurn,
    /// It arrives twice at the same time; the caller sees one of the answers.
    TwiceAtOnce,
    /// It arrives so much later, even if the caller does not wait for it.
    Delay(Duration),
}

/// How often something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// To the first that fits.
    Once,
    /// To every one that fits.
    Always,
}

/// A request that arrived, and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The method and the path.
    pub request: String,
    /// The status of the answer, or `None` if there was none.
    pub status: Option<u16>,
}

/// The proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    upstream: Option<SocketAddr>,
    rules: Vec<Rule>,
    exchanges: Vec<Exchange>,
    under_way: usize,
}

#[derive(Debug)]
struct Rule {
    method: String,
    ending: String,
    fault: Fault,
    times: Times,
    fired: usize,
}

impl Proxy {
    /// A proxy on a free port, with nothing behind it yet.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, accepting }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a process behind it, or takes it away: then connections are reset.
    pub fn lead_to(&self, upstream: Option<SocketAddr>) {
        self.shared.state().upstream = upstream;
    }

    /// Breaks requests of this method whose path ends so.
    pub fn inflict(&self, fault: Fault, times: Times, method: &str, ending: &str) {
        let (method, ending) = (method.to_owned(), ending.to_owned());
        self.shared.state().rules.push(Rule { method, ending, fault, times, fired: 0 });
    }

    /// How often each fault was inflicted, in the order they were asked for.
    #[must_use]
    pub fn inflicted(&self) -> Vec<usize> {
        self.shared.state().rules.iter().map(|rule| rule.fired).collect()
    }

    /// What arrived behind it, in the order of the answers.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.state().exchanges.clone()
    }

    /// Requests that have not arrived, or are not answered.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.state().under_way
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, request: &Message) -> Option<Fault> {
        let mut state = self.state();
        state.under_way += 1;
        let rule = state.rules.iter_mut().find(|rule| {
            rule.method == request.method()
                && request.path().ends_with(&rule.ending)
                && (rule.times == Times::Always || rule.fired == 0)
        })?;
        rule.fired += 1;
        Some(rule.fault)
    }

    async fn forward(&self, request: &Message) -> Option<Message> {
        let upstream = self.state().upstream?;
        let answer = http::call(upstream, request).await.ok();
        let named = format!("{} {}", request.method(), request.path());
        let status = answer.as_ref().map(Message::status);
        self.state().exchanges.push(Exchange { request: named, status });
        answer
    }

    /// The answer that the caller is to see.
    async fn answer(&self, request: &Message) -> Option<Message> {
        let answer = match self.fault(request) {
            None => self.forward(request).await,
            Some(Fault::LoseRequest) => None,
            Some(Fault::LoseReply) => {
                self.forward(request).await;
                None
            }
            Some(Fault::TwiceInTurn) => {
                self.forward(request).await;
                self.forward(request).await
            }
            Some(Fault::TwiceAtOnce) => tokio::join!(self.forward(request), self.forward(request)).0,
            Some(Fault::Delay(length)) => {
                tokio::time::sleep(length).await;
                self.forward(request).await
            }
        };
        self.state().under_way -= 1;
        answer
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        // A connection that ends without an answer ends like one whose other side died.
        let _ = stream.set_zero_linger();
        let _ = stream.set_nodelay(true);
        let (from, to) = stream.into_split();
        tokio::spawn(serve(from, to, shared.clone()));
    }
}

async fn serve(from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: Arc<Shared>) {
    let mut from = BufReader::new(from);
    while let Ok(Some(request)) = Message::read(&mut from).await {
        let Some(answer) = shared.answer(&request).await else { return };
        if to.write_all(&answer.bytes()).await.is_err() {
            return;
        }
    }
}
