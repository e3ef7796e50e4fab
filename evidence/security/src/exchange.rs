//! Bytes as they are, over a socket, and what is heard in return. No HTTP client would send what an attacker does.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::secrets::TOKEN;

/// Longer than any answer takes: beyond it, the coordinator hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long those wait for an answer who may get none, before they hang up.
const QUIET: Duration = Duration::from_millis(40);

/// A request, to be spoilt.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path and the query.
    pub target: String,
    /// `HTTP/1.1`, or what is pretended.
    pub version: String,
    /// Names and values, as they are sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// One without a body.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let headers = vec![("host".to_owned(), b"localhost".to_vec())];
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1".to_owned(),
            headers,
            body: Vec::new(),
        }
    }

    /// The same with the token.
    #[must_use]
    pub fn with_token(self) -> Self {
        self.with("authorization", format!("Bearer {TOKEN}"))
    }

    /// The same with another header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same with a JSON body.
    #[must_use]
    pub fn json(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.with("content-type", "application/json")
    }

    /// The request as it is sent. A body whose length no header tells gets a `content-length`.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} {}\r\n", self.method, self.target, self.version).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        let told = |name: &String| name.eq_ignore_ascii_case("content-length") || name == "transfer-encoding";
        if !self.body.is_empty() && !self.headers.iter().any(|(name, _)| told(name)) {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Everything before its body.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        tcc_tests::http::header(&self.head, name)
    }

    /// Its body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// When the sender has heard enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// So many answers came.
    Answers(usize),
    /// The other side hung up; this one does, too, when nothing comes for a while.
    Quiet,
    /// The other side hung up; this one stops sending as soon as all is sent.
    HungUp,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Enough was heard.
    Enough,
    /// The other side closed or reset it.
    Closed,
    /// Neither, for longer than [`PATIENCE`].
    Hangs,
}

/// What was heard on a connection.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The answers, without those that are provisional.
    pub answers: Vec<Answer>,
    /// How it ended.
    pub end: End,
    /// What came and is no whole answer.
    pub rest: Vec<u8>,
}

/// Sends bytes on a connection of its own and listens. To `HEAD` an answer is `bodyless`, whatever length it tells.
///
/// # Errors
/// When no connection can be made.
pub async fn exchange(
    address: SocketAddr,
    bytes: &[u8],
    until: Until,
    bodyless: bool,
) -> std::io::Result<Heard> {
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    let (mut from, mut to) = stream.into_split();
    let writing = async {
        // Whoever is refused early need not be read to the end.
        let sent = to.write_all(bytes).await;
        match until {
            Until::Answers(_) => {}
            Until::Quiet => {
                sleep(QUIET).await;
                let _ = to.shutdown().await;
            }
            Until::HungUp => drop(to.shutdown().await),
        }
        let _ = sent;
    };
    let reading = async {
        let (mut heard, mut end) = (Vec::new(), End::Enough);
        let mut answers = Vec::new();
        let wanted = if let Until::Answers(wanted) = until { wanted } else { usize::MAX };
        while answers.len() < wanted && end == End::Enough {
            match timeout(PATIENCE, from.read_buf(&mut heard)).await {
                Err(_) => end = End::Hangs,
                Ok(Ok(0) | Err(_)) => end = End::Closed,
                Ok(Ok(_)) => {}
            }
            while let Some((answer, length)) = parse(&heard, bodyless, end == End::Closed) {
                heard.drain(..length);
                // 1xx says that another one follows.
                if answer.status >= 200 {
                    answers.push(answer);
                }
            }
        }
        Heard { answers, end, rest: heard }
    };
    // The answer may come before all is sent, and then nothing more is read over there.
    tokio::pin!(reading);
    let heard = tokio::select! {
        biased;
        heard = &mut reading => heard,
        () = writing => reading.await,
    };
    Ok(heard)
}

/// Sends a request that has one answer, and returns that.
///
/// # Errors
/// Why there is none.
pub async fn ask(address: SocketAddr, request: &Request) -> Result<Answer, String> {
    let bodyless = request.method == "HEAD";
    let heard = exchange(address, &request.bytes(), Until::Answers(1), bodyless).await;
    let mut heard = heard.map_err(|error| error.to_string())?;
    heard.answers.pop().ok_or_else(|| format!("no answer: {:?}", heard.end))
}

/// The first answer in what was heard, and its length there.
fn parse(heard: &[u8], bodyless: bool, ended: bool) -> Option<(Answer, usize)> {
    let head = heard.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&heard[..head]).into_owned();
    let status = text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let mut answer = Answer { status, head: text, body: Vec::new() };
    let length = match answer.header("content-length").map(str::parse::<usize>) {
        _ if bodyless || status < 200 || status == 204 || status == 304 => 0,
        Some(Ok(length)) => length,
        Some(Err(_)) => return None,
        None if ended => heard.len() - head,
        None => return None,
    };
    answer.body = heard.get(head..head + length)?.to_vec();
    Some((answer, head + length))
}
