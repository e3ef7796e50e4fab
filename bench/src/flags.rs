//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use crate::load::TriedBy;
use crate::row::Kind;
use crate::{Failure, row};

#[derive(Parser)]
#[command(name = "cargo tcc-bench --", about)]
pub(crate) struct Flags {
    /// Transactions in flight.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64, 256])]
    in_flight: Vec<usize>,
    /// Branches of a transaction.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 5])]
    branches: Vec<usize>,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How often each row is measured, in turn with all others.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Fewer and shorter measurements, in under two minutes.
    #[arg(long)]
    short: bool,
    /// Only these rows: bare, relay, writes, embedded, memory, coordinator, initiator, peers.
    #[arg(long, value_delimiter = ',', value_name = "ROWS")]
    only: Vec<String>,
    /// Transactions a second, begun at even distances, instead of as many as can be.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Another coordinator, as NAME=dtm:URL; or one of these that runs elsewhere, as NAME=tcc:URL.
    #[arg(long, value_name = "NAME=PROTOCOL:URL")]
    peer: Vec<Peer>,
    /// Whether a peer's log survives a power failure, in a few words, as NAME=TEXT.
    #[arg(long, value_name = "NAME=TEXT")]
    durable: Vec<String>,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Draws plots into a folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) plots: Option<PathBuf>,
    /// Where the logs are made; the disk under it is what is measured.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Counts the instructions of a transaction, by valgrind, against those that are known.
    #[arg(long)]
    pub(crate) instructions: bool,
    /// For --instructions: where they go instead of how many there are. Names need `CARGO_PROFILE_RELEASE_DEBUG=1`.
    #[arg(long, requires = "instructions")]
    pub(crate) profile: bool,
    /// Measures how the coordinator bears a full log and a participant that hangs.
    #[arg(long)]
    pub(crate) growth: bool,
    /// For --growth: unfinished transactions that wait on a dead participant; 0 leaves that out.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) waiting: usize,
    /// For --growth: finished transactions in the log; 0 leaves that out.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) finished: usize,
}

/// Another coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    /// What is said of its durability.
    pub(crate) durable: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Dtm,
    Tcc,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once(':')?)));
        let (name, (protocol, url)) = parts.ok_or("write it as NAME=dtm:http://HOST:PORT")?;
        let protocol = match protocol {
            "dtm" => Protocol::Dtm,
            "tcc" => Protocol::Tcc,
            other => return Err(format!("the protocol is {other:?}, neither dtm nor tcc")),
        };
        let host = url.strip_prefix("http://").ok_or("the URL does not begin with http://")?;
        let mut addresses =
            host.trim_end_matches('/').to_socket_addrs().map_err(|why| format!("{host}: {why}"))?;
        let address = addresses.next().ok_or("the host has no address")?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { name: name.to_owned(), protocol, url, address, durable: "not stated".to_owned() })
    }
}

impl Flags {
    /// The peers, with what is said of each.
    pub(crate) fn peers(&self) -> Result<Vec<Peer>, Failure> {
        let mut peers = self.peer.clone();
        for stated in &self.durable {
            let (name, text) = stated.split_once('=').ok_or("--durable is written as NAME=TEXT")?;
            let peer = peers.iter_mut().find(|peer| peer.name == name);
            text.clone_into(
                &mut peer.ok_or_else(|| format!("--durable {name}: there is no such peer"))?.durable,
            );
        }
        Ok(peers)
    }

    /// The kinds of rows that were asked for.
    pub(crate) fn kinds(&self) -> Result<Vec<Kind>, Failure> {
        let own = [
            Kind::Bare,
            Kind::Relay,
            Kind::Writes,
            Kind::Embedded,
            Kind::Memory,
            Kind::Sqlite(TriedBy::Coordinator),
            Kind::Sqlite(TriedBy::Initiator),
        ];
        let all: Vec<Kind> = own.into_iter().chain(self.peers()?.into_iter().map(Kind::Peer)).collect();
        let known = |name: &String| row::NAMES.contains(&name.as_str());
        if let Some(unknown) = self.only.iter().find(|name| !known(name)) {
            return Err(format!("--only {unknown}: choose from {}", row::NAMES.join(", ")).into());
        }
        let wanted = |kind: &Kind| self.only.is_empty() || self.only.iter().any(|name| name == kind.name());
        Ok(all.into_iter().filter(wanted).collect())
    }

    /// Branches and transactions in flight, each pair a group of rows.
    pub(crate) fn shapes(&self) -> Vec<(usize, usize)> {
        if self.short {
            return vec![(2, 1), (2, 64), (5, 64)];
        }
        let pairs = |branches: &usize| {
            self.in_flight.iter().map(move |in_flight| (*branches, *in_flight)).collect::<Vec<_>>()
        };
        self.branches.iter().flat_map(pairs).collect()
    }

    pub(crate) fn rounds(&self) -> usize {
        if self.short { 3 } else { self.rounds.max(1) }
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs_f64(if self.short { 1.0 } else { self.seconds })
    }

    pub(crate) fn warm_up(&self) -> Duration {
        self.length().mul_f64(0.2).max(Duration::from_millis(300))
    }

    /// A folder for the logs of one run.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir, Failure> {
        Ok(match &self.folder {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        })
    }
}
