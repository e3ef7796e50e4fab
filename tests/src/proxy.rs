//! A proxy on one hop that loses, doubles, delays, holds and spoils what passes it.
//!
//! It is also the address of a process that comes and goes: whoever calls it keeps calling the same port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http::{self, Message};
use crate::spoilt::Spoilt;

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
    /// It arrives once the proxy is told to [release](Proxy::release) it, even if the caller does not wait for it.
    Hold,
    /// It arrives and is answered; the caller sees the answer up to the middle of its head.
    CutInTheHead,
    /// It arrives and is answered; the caller sees an answer that is announced longer than it comes.
    CutInTheBody,
    /// It arrives and is answered; the caller sees the answer a byte at a time, and slowly.
    Drip,
    /// It arrives and is answered; the caller sees bytes that are no HTTP.
    Garbage,
    /// It arrives and is answered; the caller sees a success whose head never ends.
    EndlessHead,
    /// It arrives and is answered; the caller sees a success whose body never ends.
    EndlessBody,
    /// It arrives and is answered; the caller sees what a gateway says that lost the answer: 502, and a page of HTML.
    BadGateway,
    /// It never arrives; the caller is sent elsewhere, with a 307.
    Redirect(SocketAddr),
    /// It never arrives; the caller sees this status, and no body.
    Status(u16),
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
    released: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    upstream: Option<SocketAddr>,
    rules: Vec<Rule>,
    exchanges: Vec<Exchange>,
    under_way: usize,
    most_under_way: usize,
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
        Self::start_at("127.0.0.1:0").await
    }

    /// The same at an address.
    ///
    /// # Panics
    /// When it cannot be had.
    pub async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
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

    /// Breaks nothing any more.
    pub fn heal(&self) {
        self.shared.state().rules.clear();
        self.release();
    }

    /// Lets go of the requests that are [held](Fault::Hold), and holds none from now on.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// How often each fault was inflicted since the proxy was last [healed](Self::heal), in the order they were asked
    /// for.
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

    /// The most of these that there ever were at once.
    #[must_use]
    pub fn most_under_way(&self) -> usize {
        self.shared.state().most_under_way
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
        state.most_under_way = state.most_under_way.max(state.under_way);
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

    /// What the caller is to see; `None` is a reset.
    async fn answer(&self, request: &Message) -> Option<Spoilt> {
        let fault = self.fault(request);
        let answer = self.inflict(fault, request).await;
        self.state().under_way -= 1;
        answer
    }

    async fn inflict(&self, fault: Option<Fault>, request: &Message) -> Option<Spoilt> {
        match fault {
            Some(Fault::LoseRequest) => return None,
            Some(Fault::Redirect(to)) => return Some(Spoilt::redirect(to, request.path())),
            Some(Fault::Status(status)) => return Some(Spoilt::status(status)),
            Some(Fault::Delay(length)) => tokio::time::sleep(length).await,
            Some(Fault::Hold) => {
                // It lives as long as whoever waits here.
                let _ = self.released.subscribe().wait_for(|released| *released).await;
            }
            Some(Fault::TwiceInTurn) => drop(self.forward(request).await),
            Some(Fault::TwiceAtOnce) => {
                let answer = tokio::join!(self.forward(request), self.forward(request)).0;
                return answer.map(Spoilt::Not);
            }
            Some(
                Fault::LoseReply
                | Fault::CutInTheHead
                | Fault::CutInTheBody
                | Fault::Drip
                | Fault::Garbage
                | Fault::EndlessHead
                | Fault::EndlessBody
                | Fault::BadGateway,
            )
            | None => {}
        }
        let answer = self.forward(request).await?;
        let Some(fault) = fault else { return Some(Spoilt::Not(answer)) };
        Some(match fault {
            Fault::LoseReply => return None,
            Fault::CutInTheHead => Spoilt::cut_in_the_head(&answer),
            Fault::CutInTheBody => Spoilt::cut_in_the_body(&answer),
            Fault::Drip => Spoilt::Drip(answer.bytes()),
            Fault::Garbage => Spoilt::garbage(),
            Fault::EndlessHead => Spoilt::endless_head(),
            Fault::EndlessBody => Spoilt::endless_body(),
            Fault::BadGateway => Spoilt::bad_gateway(),
            Fault::LoseRequest
            | Fault::Redirect(_)
            | Fault::Status(_)
            | Fault::Delay(_)
            | Fault::Hold
            | Fault::TwiceInTurn
            | Fault::TwiceAtOnce => Spoilt::Not(answer),
        })
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
        if let Spoilt::Not(answer) = answer {
            if to.write_all(&answer.bytes()).await.is_err() {
                return;
            }
            continue;
        }
        // The caller hangs up on it, or takes its end for the end.
        let _ = answer.send(&mut to).await;
        let _ = to.shutdown().await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
        return;
    }
}
