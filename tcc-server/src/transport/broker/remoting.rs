//! What RocketMQ's name servers and brokers are asked by: frames of a header in JSON and a body, of which any number may be
//! under way on one connection.
//!
//! The clients that there are bring a runtime or some hundred crates of their own, and call whatever address a name server
//! names.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use foldhash::HashMap;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use tcc_core::answer::{Answer, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::dial;
use crate::limits;

/// A connection to a name server or a broker.
pub(super) struct Remoting {
    asks: mpsc::Sender<Ask>,
    asked: AtomicI32,
}

/// What is asked, beside its code: named texts.
pub(super) type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// What was answered.
pub(super) struct Reply {
    pub(super) code: i32,
    pub(super) body: Vec<u8>,
}

struct Ask {
    number: i32,
    frame: Vec<u8>,
    reply: oneshot::Sender<Reply>,
}

/// Those that wait for an answer, by the number of what they asked.
type Waiting = Mutex<HashMap<i32, oneshot::Sender<Reply>>>;

#[derive(Serialize)]
struct Request<'a> {
    code: i32,
    language: &'static str,
    version: i32,
    opaque: i32,
    flag: i32,
    #[serde(rename = "extFields")]
    fields: &'a Fields<'a>,
    #[serde(rename = "serializeTypeCurrentRPC")]
    encoding: &'static str,
}

#[derive(Deserialize)]
struct Header {
    code: i32,
    opaque: i32,
    flag: i32,
}

/// In the flag of a header: it answers. What has it not is asked by the other side, and left unanswered.
const ANSWERS: i32 = 1;

impl Remoting {
    /// Connects to an address that was checked.
    pub(super) async fn connect(address: SocketAddr) -> Result<Self, Answer> {
        let (asks, asked) = mpsc::channel(limits::REMOTING_ASKS);
        // It ends with the connection, from whichever side.
        tokio::spawn(speak(dial::tcp(address).await?, asked));
        Ok(Self { asks, asked: AtomicI32::default() })
    }

    pub(super) fn is_open(&self) -> bool {
        !self.asks.is_closed()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Cancel safety
    /// Dropped, it was asked or not; others are not disturbed.
    pub(super) async fn ask(&self, code: i32, fields: &Fields<'_>, body: &[u8]) -> Result<Reply, Answer> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let frame = frame(code, number, fields, body).ok_or(Answer::None(Failure::Other))?;
        let (reply, replied) = oneshot::channel();
        let broken = || Answer::None(Failure::Broken);
        self.asks.send(Ask { number, frame, reply }).await.map_err(|_| broken())?;
        replied.await.map_err(|_| broken())
    }
}

/// With the key and the signature that a cluster asks for which lets only those in whom it knows: over the values in the
/// order of their names, and the body.
pub(super) fn signed(fields: &Fields<'_>, (user, password): &(String, String), body: &[u8]) -> [String; 2] {
    let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).expect("a key may have any length");
    let mut fields = fields.clone();
    fields.insert(ACCESS_KEY, user);
    fields.values().for_each(|value| mac.update(value.as_bytes()));
    mac.update(body);
    [user.clone(), STANDARD.encode(mac.finalize().into_bytes())]
}

pub(super) const ACCESS_KEY: &str = "AccessKey";
pub(super) const SIGNATURE: &str = "Signature";

/// Lengths stand before the whole and before the header; the one before the header has its encoding, JSON, as its first
/// byte, which is zero.
fn frame(code: i32, number: i32, fields: &Fields<'_>, body: &[u8]) -> Option<Vec<u8>> {
    let request =
        Request { code, language: "OTHER", version: 0, opaque: number, flag: 0, fields, encoding: "JSON" };
    let header = serde_json::to_vec(&request).ok()?;
    let whole = u32::try_from(4 + header.len() + body.len()).ok()?;
    let length = u32::try_from(header.len()).ok()?;
    Some([&whole.to_be_bytes()[..], &length.to_be_bytes(), &header, body].concat())
}

async fn speak(tcp: TcpStream, asked: mpsc::Receiver<Ask>) {
    let (read, write) = tokio::io::split(tcp);
    let waiting = Waiting::default();
    let ended = tokio::select! {
        ended = say(write, asked, &waiting) => ended,
        ended = hear(read, &waiting) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to RocketMQ broke");
    }
}

async fn say(
    mut write: WriteHalf<TcpStream>,
    mut asked: mpsc::Receiver<Ask>,
    waiting: &Waiting,
) -> io::Result<()> {
    while let Some(ask) = asked.recv().await {
        {
            let mut waiting = waiting.lock().expect("no code under this lock can panic");
            if waiting.len() >= limits::REMOTING_ASKS {
                waiting.retain(|_, reply| !reply.is_closed());
            }
            waiting.insert(ask.number, ask.reply);
        }
        write.write_all(&ask.frame).await?;
    }
    Ok(())
}

async fn hear(mut read: ReadHalf<TcpStream>, waiting: &Waiting) -> io::Result<()> {
    loop {
        let whole = read.read_u32().await? as usize;
        let length = read.read_u32().await? as usize & 0x00ff_ffff;
        let rest = whole.checked_sub(4).filter(|rest| *rest <= limits::REMOTING_REPLY && length <= *rest);
        let mut frame = vec![0; rest.ok_or(io::ErrorKind::InvalidData)?];
        read.read_exact(&mut frame).await?;
        let (header, body) = frame.split_at(length);
        let header: Header = serde_json::from_slice(header)?;
        if header.flag & ANSWERS == 0 {
            continue;
        }
        let waits = waiting.lock().expect("no code under this lock can panic").remove(&header.opaque);
        if let Some(waits) = waits {
            let _ = waits.send(Reply { code: header.code, body: body.to_vec() });
        }
    }
}
