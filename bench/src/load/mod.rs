//! The load: so many transactions in flight, each beginning when the one before it is done, or at a steady rate.

mod bare;
mod dtm;
mod embedded;
mod tcc;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::bounds::writes::Writes;
use crate::client::{Headers, HttpClient};
use crate::{Failure, machine, process};

/// What a branch carries.
pub(crate) const PAYLOAD: &str = r#"{"account":"alice","amount":30}"#;
/// After a failure nothing is asked for so long, so that a broken peer is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What a load process does.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) script: Script,
    /// Where participants listen, one for each branch.
    pub(crate) participants: Vec<String>,
    /// The headers of a call to a participant.
    pub(crate) headers: Headers,
    pub(crate) in_flight: usize,
    /// Transactions a second, begun at even distances; as many as can be without.
    pub(crate) rate: Option<f64>,
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
}

/// What a transaction is.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Script {
    /// The calls alone.
    Bare,
    /// The durable writes alone, of documents of this size.
    Writes { file: PathBuf, document_bytes: usize },
    /// This coordinator as a library, with functions for participants.
    Embedded { file: PathBuf, branches: usize },
    /// This coordinator's API, at an address.
    Tcc { at: String, tried_by: TriedBy },
    /// dtm's protocol, below a URL.
    Dtm { url: String },
}

/// Who calls the tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TriedBy {
    Coordinator,
    Initiator,
}

/// Has a load that is warm measure, once.
pub(crate) const GO: &str = "go";

/// What a load saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Those of the warm-up included.
    pub(crate) answered_ever: u64,
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    pub(crate) seconds: f64,
    /// Nothing was answered without it.
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
    pub(crate) cpu_ms: f64,
    /// Times its own log was made durable; 0 where it has none.
    pub(crate) syncs: u64,
    /// Transactions that it saw confirmed, and whose confirms its own participants did not see.
    pub(crate) left: u64,
}

enum Running {
    Bare(bare::Calls),
    Writes(Writes),
    Embedded(embedded::Embedded),
    Tcc(tcc::Api),
    Dtm(dtm::Api),
}

struct Load {
    running: Running,
    /// What every gid begins with: a peer's log may hold those of an earlier run.
    prefix: String,
    next: AtomicU64,
}

/// What one worker saw: latencies in microseconds, and failures.
#[derive(Default)]
struct Seen {
    latencies: Vec<u32>,
    failed: u64,
    failure: Option<String>,
}

pub(crate) async fn run(spec: Spec) -> Result<(), Failure> {
    let load = Arc::new(Load::new(&spec)?);
    let warm = load.clone().press(&spec, spec.warm_up).await?;
    process::answer("warm", async |_| {
        let (cpu, syncs, started) = (own_cpu(), load.syncs(), Instant::now());
        let mut seen = load.clone().press(&spec, spec.length).await?;
        let seconds = started.elapsed().as_secs_f64();
        seen.latencies.sort_unstable();
        let answered = seen.latencies.len() as u64;
        let answered_ever = answered + warm.latencies.len() as u64;
        Ok(Outcome {
            answered,
            answered_ever,
            failed: seen.failed + warm.failed,
            failure: seen.failure.or(warm.failure.clone()),
            seconds,
            p50_ms: at(&seen.latencies, 0.5),
            p99_ms: at(&seen.latencies, 0.99),
            max_ms: at(&seen.latencies, 1.0),
            cpu_ms: own_cpu() - cpu,
            syncs: load.syncs() - syncs,
            left: load.left(answered_ever),
        })
    })
    .await
}

/// Makes so many transactions.
pub(crate) async fn transact(spec: &Spec, count: usize) -> Result<(), Failure> {
    let load = Load::new(spec)?;
    let all = futures_util::stream::iter(0..count).map(|_| load.one());
    all.buffer_unordered(spec.in_flight).try_collect().await
}

fn own_cpu() -> f64 {
    machine::cpu_ms(std::process::id()).unwrap_or(f64::NAN)
}

/// The latency that this share of all did not exceed, in milliseconds.
fn at(sorted: &[u32], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil().max(1.0) as usize;
    sorted.get(rank - 1).map(|micros| f64::from(*micros) / 1000.0)
}

impl Load {
    fn new(spec: &Spec) -> Result<Self, Failure> {
        let client = HttpClient::new();
        let (participants, headers) = (&spec.participants, spec.headers.clone());
        let running = match &spec.script {
            Script::Bare => Running::Bare(bare::Calls::new(client, participants, headers)),
            Script::Writes { file, document_bytes } => Running::Writes(Writes::start(file, *document_bytes)?),
            Script::Embedded { file, branches } => {
                Running::Embedded(embedded::Embedded::start(file, *branches)?)
            }
            Script::Tcc { at, tried_by } => {
                Running::Tcc(tcc::Api::new(client, at, *tried_by, participants, headers))
            }
            Script::Dtm { url } => Running::Dtm(dtm::Api::new(client, url, participants)),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        Ok(Self { running, prefix: format!("bench-{now}"), next: AtomicU64::new(0) })
    }

    fn syncs(&self) -> u64 {
        match &self.running {
            Running::Writes(writes) => writes.commits(),
            Running::Embedded(embedded) => embedded.syncs(),
            Running::Bare(_) | Running::Tcc(_) | Running::Dtm(_) => 0,
        }
    }

    fn left(&self, answered: u64) -> u64 {
        match &self.running {
            Running::Embedded(embedded) => embedded.left(answered),
            Running::Bare(_) | Running::Writes(_) | Running::Tcc(_) | Running::Dtm(_) => 0,
        }
    }

    async fn press(self: Arc<Self>, spec: &Spec, length: Duration) -> Result<Seen, Failure> {
        let pace =
            Arc::new(Pace { started: Instant::now(), length, rate: spec.rate, next: AtomicU64::new(0) });
        let mut workers = JoinSet::new();
        for _ in 0..spec.in_flight {
            workers.spawn(self.clone().work(pace.clone()));
        }
        let mut all = Seen::default();
        while let Some(seen) = workers.join_next().await {
            let seen = seen?;
            all.latencies.extend(seen.latencies);
            all.failed += seen.failed;
            all.failure = all.failure.or(seen.failure);
        }
        Ok(all)
    }

    async fn work(self: Arc<Self>, pace: Arc<Pace>) -> Seen {
        let mut seen = Seen::default();
        while let Some(due) = pace.next().await {
            match self.one().await {
                Ok(()) => {
                    let micros = due.elapsed().as_micros();
                    seen.latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
                }
                Err(error) => {
                    seen.failed += 1;
                    seen.failure.get_or_insert_with(|| error.to_string());
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        seen
    }

    async fn one(&self) -> Result<(), Failure> {
        let gid = format!("{}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed));
        match &self.running {
            Running::Bare(calls) => calls.transact().await,
            Running::Writes(writes) => writes.transact(&gid).await,
            Running::Embedded(embedded) => embedded.transact(&gid).await,
            Running::Tcc(api) => api.transact(&gid).await,
            Running::Dtm(api) => api.transact(&gid).await,
        }
    }
}

/// When the next transaction begins.
struct Pace {
    started: Instant,
    length: Duration,
    rate: Option<f64>,
    next: AtomicU64,
}

impl Pace {
    /// Waits for the moment the next one is due, and tells it: from there its latency counts, so that a coordinator
    /// that is slow is not asked less.
    async fn next(&self) -> Option<Instant> {
        let due = match self.rate {
            None => Instant::now(),
            Some(rate) => {
                let number = self.next.fetch_add(1, Ordering::Relaxed) as f64;
                self.started + Duration::from_secs_f64(number / rate)
            }
        };
        if due.duration_since(self.started) >= self.length {
            return None;
        }
        tokio::time::sleep_until(due.into()).await;
        Some(due)
    }
}
