//! Answers as they should not be, and how each is sent.

use std::io::Error;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::http::Message;

/// Between two bytes of an answer that drips: the shortest answer takes longer than any call's time-out in a test.
const DRIP: Duration = Duration::from_millis(100);

/// An answer on its way to the caller.
#[derive(Debug)]
pub(crate) enum Spoilt {
    /// Not at all.
    Not(Message),
    /// These bytes, and then the connection ends.
    Bytes(Vec<u8>),
    /// These bytes, one now and then.
    Drip(Vec<u8>),
    /// The first, and then the second again and again.
    Endless(Vec<u8>, Vec<u8>),
}

impl Spoilt {
    pub(crate) fn cut_in_the_head(answer: &Message) -> Self {
        let bytes = answer.bytes();
        let head = bytes.len() - answer.body.len();
        Self::Bytes(bytes[..head / 2].to_vec())
    }

    pub(crate) fn cut_in_the_body(answer: &Message) -> Self {
        let longer = answer.body.len() + 10;
        let whole = answer.clone().with_body(&vec![b' '; longer]).bytes();
        let head = whole.len() - longer;
        Self::Bytes([&whole[..head], &answer.body[..answer.body.len() / 2]].concat())
    }

    pub(crate) fn garbage() -> Self {
        Self::Bytes((0..=255).cycle().take(1024).collect())
    }

    pub(crate) fn endless_head() -> Self {
        let line = format!("x-more: {}\r\n", "and more ".repeat(100));
        Self::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), line.into_bytes())
    }

    pub(crate) fn endless_body() -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        Self::Endless(head.into(), [b"4000\r\n", &[b' '; 0x4000][..], b"\r\n"].concat())
    }

    pub(crate) fn bad_gateway() -> Self {
        let page = "<html><body>502 Bad Gateway: confirmed, cancelled, refused, who knows</body></html>";
        let head = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\nconnection: close";
        Self::Bytes(format!("{head}\r\ncontent-length: {}\r\n\r\n{page}", page.len()).into_bytes())
    }

    pub(crate) fn redirect(to: SocketAddr, path: &str) -> Self {
        let head = "HTTP/1.1 307 Temporary Redirect\r\ncontent-length: 0\r\nconnection: close";
        Self::Bytes(format!("{head}\r\nlocation: http://{to}{path}\r\n\r\n").into_bytes())
    }

    pub(crate) fn status(status: u16) -> Self {
        let head = format!("HTTP/1.1 {status} Spoilt\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        Self::Bytes(head.into_bytes())
    }

    /// Sends it, until it has ended or nobody takes it any more.
    pub(crate) async fn send(self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
        match self {
            Self::Not(answer) => to.write_all(&answer.bytes()).await,
            Self::Bytes(bytes) => to.write_all(&bytes).await,
            Self::Drip(bytes) => {
                for byte in bytes {
                    to.write_all(&[byte]).await?;
                    tokio::time::sleep(DRIP).await;
                }
                Ok(())
            }
            Self::Endless(first, then) => {
                to.write_all(&first).await?;
                loop {
                    to.write_all(&then).await?;
                }
            }
        }
    }
}
