//! A name server that has troubles of its own.

use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What it says, whatever name it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// The name has this address, and no other.
    Found(IpAddr),
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// It cannot tell (SERVFAIL).
    Failure,
    /// Nothing at all.
    Silence,
}

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct NameServer {
    says: watch::Sender<Says>,
    serving: JoinHandle<()>,
}

impl NameServer {
    /// One at an address.
    ///
    /// # Panics
    /// When it cannot be had.
    pub async fn start(address: SocketAddr, says: Says) -> Self {
        let socket = UdpSocket::bind(address).await.expect("the address of the name server");
        let (says, now) = watch::channel(says);
        let serving = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let says = *now.borrow();
                if let Some(answer) = answer(&query[..length], says) {
                    // Whoever asked may be gone.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { says, serving }
    }

    /// What it says from now on.
    pub fn says(&self, says: Says) {
        self.says.send_replace(says);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The answer to a query for one name (RFC 1035, section 4), which nobody is to keep.
fn answer(query: &[u8], says: Says) -> Option<Vec<u8>> {
    // Behind the header of 12 bytes: the labels with a zero at their end, the type, the class.
    let labels = query.get(12..)?.iter().position(|byte| *byte == 0)?;
    let question = query.get(12..12 + labels + 5)?;
    let asked = u16::from_be_bytes([question[labels + 1], question[labels + 2]]);
    let (code, address) = match says {
        Says::Silence => return None,
        Says::Failure => (2, None),
        Says::NoSuchName => (3, None),
        Says::Found(address) => (0, Some(address)),
    };
    let data = address.and_then(|address| match (address, asked) {
        (IpAddr::V4(v4), 1) => Some(v4.octets().to_vec()),
        (IpAddr::V6(v6), 28) => Some(v6.octets().to_vec()),
        _ => None,
    });
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    answer.extend(question);
    if let Some(data) = data {
        // The name of the question, its type, the class IN, a time to live of zero.
        answer.extend([0xc0, 12]);
        answer.extend(asked.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0, 0, u8::try_from(data.len()).ok()?]);
        answer.extend(data);
    }
    Some(answer)
}
