//! A name server whose names resolve as an attacker likes: to what must not be called, or each time to something else.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What a name resolves to.
#[derive(Clone, Debug)]
pub enum Name {
    /// All of these addresses, whenever it is asked for.
    Always(Vec<IpAddr>),
    /// The first address when it is asked for first, and from then on the second.
    Rebinds(IpAddr, IpAddr),
    /// Another name, at this address.
    Alias(String, IpAddr),
}

/// The server; it ends when it is dropped.
pub struct Dns(JoinHandle<()>);

impl Dns {
    /// One that knows these names.
    ///
    /// # Panics
    /// When the address cannot be had.
    pub async fn start(address: SocketAddr, names: HashMap<String, Name>) -> Self {
        let socket = UdpSocket::bind(address).await.expect("the address of the name server");
        Self(tokio::spawn(async move {
            let (mut asked, mut buffer) = (HashMap::<String, usize>::new(), [0; 1500]);
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(reply) = reply(&buffer[..length], &names, &mut asked) {
                    let _ = socket.send_to(&reply, from).await;
                }
            }
        }))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// The answer to a query (RFC 1035 §4), with a time to live of zero.
fn reply(query: &[u8], names: &HashMap<String, Name>, asked: &mut HashMap<String, usize>) -> Option<Vec<u8>> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = query.get(12..at + 5)?;
    let name = labels.join(".");
    let known = names.get(&name);
    let records: Vec<(u16, Vec<u8>)> = match known {
        None => Vec::new(),
        Some(Name::Always(addresses)) => addresses.iter().map(|address| record(*address)).collect(),
        Some(Name::Rebinds(first, then)) => {
            let times = asked.entry(name).or_default();
            *times += usize::from(kind == A);
            vec![record(if *times <= 1 { *first } else { *then })]
        }
        Some(Name::Alias(other, address)) => {
            let (kind, data) = record(*address);
            vec![(CNAME, encode(other)), (kind, data)]
        }
    };
    let wanted: Vec<_> = records.into_iter().filter(|(k, _)| *k == kind || *k == CNAME).collect();
    let mut reply = query.get(..2)?.to_vec();
    // No such name is an answer, too: code 3.
    reply.extend([0x81, if known.is_some() { 0x80 } else { 0x83 }, 0, 1]);
    reply.extend(u16::try_from(wanted.len()).ok()?.to_be_bytes());
    reply.extend([0; 4]);
    reply.extend(question);
    // The name asked for stands at offset 12; after an alias it is the alias that is spoken of.
    let mut owner = vec![0xc0, 12];
    for (kind, data) in wanted {
        reply.extend(&owner);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 0]);
        reply.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        reply.extend(&data);
        if kind == CNAME {
            owner = data;
        }
    }
    Some(reply)
}

fn record(address: IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
    }
}

fn encode(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap_or(63)], label.as_bytes()].concat();
    name.split('.').flat_map(label).chain([0]).collect()
}
