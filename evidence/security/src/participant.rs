//! A participant that answers whatever it is told to, byte by byte, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The first line and the headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// What is sent back.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// These bytes, and then the connection is closed.
    Bytes(Vec<u8>),
    /// The first, and then the second again and again, for as long as it is taken.
    Endless(Vec<u8>, Vec<u8>),
}

/// An answer with a status, more header lines (each with its line break) and a body.
#[must_use]
pub fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Reaction {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    Reaction::Bytes([head.as_bytes(), body].concat())
}

/// One that runs, until it is dropped.
pub struct Participant {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    accepting: JoinHandle<()>,
}

impl Participant {
    /// One that reacts like this.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0".parse().expect("an address"), react).await
    }

    /// The same at an address of its own.
    ///
    /// # Panics
    /// When it cannot be had.
    pub async fn on(address: SocketAddr, react: impl Fn(&Asked) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|why| panic!("{address}: {why}"));
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (known, react) = (asked.clone(), Arc::new(react));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (known, react) = (known.clone(), react.clone());
                // A connection that breaks is the caller's to notice.
                tokio::spawn(async move { drop(serve(stream, &known, &*react).await) });
            }
        });
        Self { address, asked, accepting }
    }

    /// One that only wants to know whether anybody comes: nobody should.
    pub async fn trap() -> Self {
        Self::start(|_| answer(200, "", "")).await
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far; a connection without a request counts as an empty one.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    known: &Mutex<Vec<Asked>>,
    react: &(impl Fn(&Asked) -> Reaction + ?Sized),
) -> std::io::Result<()> {
    let mut read = Vec::new();
    let asked = loop {
        if let Some(asked) = whole(&read) {
            break asked;
        }
        let more = timeout(Duration::from_secs(60), stream.read_buf(&mut read)).await?;
        if more.as_ref().is_ok_and(|read| *read > 0) {
            continue;
        }
        // Connected and said nothing: that, too, is more than a trap should see.
        break Asked { head: String::from_utf8_lossy(&read).into_owned(), body: Vec::new() };
    };
    let reaction = react(&asked);
    known.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    match reaction {
        Reaction::Bytes(bytes) => stream.write_all(&bytes).await?,
        Reaction::Endless(first, then) => {
            stream.write_all(&first).await?;
            // As much as nobody would read, lest a coordinator that does take it all make this run for ever.
            for _ in 0..(1 << 30) / then.len().max(1) {
                stream.write_all(&then).await?;
            }
        }
    }
    stream.shutdown().await
}

/// A whole request of a known length.
fn whole(read: &[u8]) -> Option<Asked> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let asked = Asked { head: String::from_utf8_lossy(&read[..end]).into_owned(), body: Vec::new() };
    let length = asked.header("content-length").first().map_or(Some(0), |length| length.parse().ok())?;
    Some(Asked { body: read.get(end..end + length)?.to_vec(), ..asked })
}
