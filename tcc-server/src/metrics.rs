//! What a coordinator counts of itself, for Prometheus. Each has its own: nothing is counted for the whole process, so
//! that two in one process are two.
//!
//! No label holds a gid, a branch, a URL or anything else that a caller chooses: the samples of a coordinator that has
//! served a million transactions are as many as of one that served ten.

mod measure;
mod process;
mod text;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use tcc_core::answer::{Answer, Failure, Reply};
use tcc_core::store::{Counts, SaveError, Step};
use tcc_core::{Operation, Phase, Stored};
use tokio::time::Instant;

pub(crate) use self::measure::{Counter, DiskSeconds, Histogram, Rows, Seconds};
use self::text::Text;
use crate::coordinator::Coordinator;
use crate::limits;

/// What a store counts of itself.
#[derive(Debug, Default)]
pub struct StoreMeter {
    /// How long each commit took.
    pub(crate) commits: Histogram<DiskSeconds>,
    /// How many rows each commit changed.
    pub(crate) rows: Histogram<Rows>,
    /// Times rows were moved from the journal into their table.
    pub(crate) moves: Counter,
    /// Times there was no room for that.
    pub(crate) unmoved: Counter,
    pub(crate) checkpoints: Counter,
    /// As last looked at.
    pub(crate) wal_bytes: Counter,
}

/// What a coordinator counts.
#[derive(Default)]
pub(crate) struct Metrics {
    started: Counter,
    /// By phase; only those that end a transaction.
    finished: [Histogram<Seconds>; 6],
    saves: [Counter; 4],
    /// By operation, and then by result.
    calls: [[Counter; RESULTS.len()]; OPERATIONS.len()],
    call_lengths: [Histogram<Seconds>; OPERATIONS.len()],
    retries: [[Counter; REASONS.len()]; OPERATIONS.len()],
    pub(crate) purged: Counter,
    requests: Mutex<HashMap<String, Vec<Arc<Requests>>>>,
    store: OnceLock<Arc<StoreMeter>>,
    counts: tokio::sync::Mutex<Option<(Instant, Counts)>>,
}

/// The requests of one route that had one method and one status code.
struct Requests {
    method: &'static str,
    code: u16,
    lengths: Histogram<Seconds>,
}

const OPERATIONS: [Operation; 4] = [Operation::Try, Operation::Confirm, Operation::Cancel, Operation::Check];
const RESULTS: [&str; 4] = ["done", "pending", "refused", "unknown"];
const SAVES: [&str; 4] = ["won", "lost", "refused", "unknown"];
const REASONS: [&str; 14] = [
    Failure::TimedOut.as_str(),
    Failure::Dns.as_str(),
    Failure::Connect.as_str(),
    Failure::Tls.as_str(),
    Failure::Broken.as_str(),
    Failure::Forbidden.as_str(),
    Failure::Panicked.as_str(),
    Failure::Other.as_str(),
    "pending",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "refused",
];

const fn index(operation: Operation) -> usize {
    match operation {
        Operation::Try => 0,
        Operation::Confirm => 1,
        Operation::Cancel => 2,
        Operation::Check => 3,
    }
}

/// What was seen, before it is judged: the reason of a retry, if it comes to one.
pub(crate) const fn seen(answer: &Answer) -> &'static str {
    match answer {
        Answer::None(failure) => failure.as_str(),
        Answer::Response(response) => match response.status {
            0..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        },
    }
}

impl Metrics {
    /// Counts a save, and what it did to its transaction.
    pub(crate) fn saved(&self, step: Step, saved: &Result<Stored, SaveError>) {
        let result = match saved {
            Ok(stored) => {
                self.stepped(step, stored);
                0
            }
            Err(SaveError::Conflict) => 1,
            Err(SaveError::Refused(_)) => 2,
            Err(SaveError::Unknown(_)) => 3,
        };
        self.saves[result].one();
    }

    fn stepped(&self, step: Step, stored: &Stored) {
        match step {
            Step::Begin => self.started.one(),
            Step::Decision | Step::End => {}
            Step::Progress => return,
        }
        let transaction = stored.transaction();
        if let Some(ended) = transaction.ended() {
            self.finished[number(transaction.phase())].took(ended.since(transaction.begun()));
        }
    }

    /// Counts a call: what it came to, and why it is made again if it is.
    pub(crate) fn called(&self, operation: Operation, took: Duration, seen: &'static str, reply: &Reply) {
        let operation_at = index(operation);
        let (result, reason) = match reply {
            Reply::Done(_) => (0, None),
            Reply::Pending(_) => (1, Some("pending")),
            Reply::Refused(_) if matches!(operation, Operation::Confirm | Operation::Cancel) => {
                (2, Some("refused"))
            }
            Reply::Refused(_) => (2, None),
            Reply::Unknown { .. } => (3, Some(seen)),
        };
        self.calls[operation_at][result].one();
        self.call_lengths[operation_at].took(took);
        if let Some(at) = reason.and_then(|reason| REASONS.iter().position(|known| *known == reason)) {
            self.retries[operation_at][at].one();
        }
    }

    /// Counts a request.
    pub(crate) fn answered(&self, method: &'static str, route: &str, code: u16, took: Duration) {
        let mut routes = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if !routes.contains_key(route) {
            routes.insert(route.to_owned(), Vec::new());
        }
        let Some(requests) = routes.get_mut(route) else { return };
        let known = requests.iter().position(|known| known.method == method && known.code == code);
        let at = known.unwrap_or_else(|| {
            requests.push(Arc::new(Requests { method, code, lengths: Histogram::default() }));
            requests.len() - 1
        });
        requests[at].lengths.took(took);
    }
}

const fn number(phase: Phase) -> usize {
    match phase {
        Phase::Trying => 0,
        Phase::Confirming => 1,
        Phase::Confirmed => 2,
        Phase::Cancelling => 3,
        Phase::Cancelled => 4,
        Phase::Abandoned => 5,
    }
}

impl Coordinator {
    /// Tells, with all else, what its store counts.
    pub fn meter(&self, store: Arc<StoreMeter>) {
        // Set once: the store is one.
        let _ = self.metrics.store.set(store);
    }

    /// What is counted, as Prometheus reads it (text format 0.0.4). The numbers of unfinished transactions are up to some
    /// seconds old, so that asking often costs the store nothing; where it cannot be read they are left out.
    pub async fn metrics(&self) -> String {
        let mut text = Text::default();
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        text.gauges("tcc_build_info", "1, for the version that runs.", [(version, 1)]);
        self.tell_transactions(&mut text).await;
        self.tell_calls(&mut text);
        self.tell_store(&mut text);
        self.tell_requests(&mut text);
        text.into_string()
    }

    async fn tell_transactions(&self, text: &mut Text) {
        let metrics = &self.metrics;
        let help = "Transactions begun, and those cancelled before they were.";
        text.counters("tcc_transactions_started_total", help, [(vec![], metrics.started.value())]);
        let ends = Phase::ALL.into_iter().filter(|phase| phase.ended());
        let ends = ends.map(|phase| (vec![("outcome", phase.as_str())], &metrics.finished[number(phase)]));
        let ends: Vec<_> = ends.collect();
        let finished = ends.iter().map(|(labels, lengths)| (labels.clone(), lengths.count()));
        let help = "Transactions that have ended, by how.";
        text.counters("tcc_transactions_finished_total", help, finished);
        text.histograms("tcc_transaction_duration_seconds", "From begin to end.", ends);
        let counts = self.counts().await;
        let unfinished = Phase::ALL.into_iter().filter(|phase| !phase.ended());
        let in_flight = counts.iter().flat_map(|counts| {
            unfinished.clone().map(|phase| (vec![("phase", phase.as_str())], counts.phases[number(phase)]))
        });
        let help = "Transactions that have not ended, by phase.";
        text.gauges("tcc_transactions_in_flight", help, in_flight);
        let help =
            "Transactions that have not ended and are in memory, since something is being done about them.";
        text.gauge("tcc_transactions_driven", help, Some(self.live.len()));
        let now = self.now();
        let oldest = counts.as_ref().map(|counts| {
            counts.oldest_unfinished.map_or(Duration::ZERO, |begun| now.since(begun)).as_secs_f64()
        });
        let help = "How long ago the oldest transaction began that has not ended; 0 without any.";
        text.gauge("tcc_oldest_unfinished_age_seconds", help, oldest);
        let help = "Transactions that call for a human.";
        text.gauge("tcc_needs_attention", help, counts.map(|counts| counts.attention));
    }

    fn tell_calls(&self, text: &mut Text) {
        let metrics = &self.metrics;
        let of = |operation: Operation| ("operation", operation.as_str());
        let calls = OPERATIONS.into_iter().flat_map(|operation| {
            let results = RESULTS.iter().zip(&metrics.calls[index(operation)]);
            results.map(move |(result, calls)| (vec![of(operation), ("result", *result)], calls.value()))
        });
        text.counters("tcc_branch_calls_total", "Calls made, by what their answer means.", calls);
        let lengths =
            OPERATIONS.map(|operation| (vec![of(operation)], &metrics.call_lengths[index(operation)]));
        let help = "How long calls took, without their wait for a place.";
        text.histograms("tcc_branch_call_duration_seconds", help, lengths);
        let retries = OPERATIONS.into_iter().flat_map(|operation| {
            let reasons = REASONS.iter().zip(&metrics.retries[index(operation)]);
            reasons.map(move |(reason, calls)| (vec![of(operation), ("reason", *reason)], calls.value()))
        });
        let help = "Calls that settled nothing, by what was seen; they are made again.";
        text.counters("tcc_branch_retries_total", help, retries.filter(|(_, calls)| *calls > 0));
        let help = "Destinations that are shut, because they do not answer.";
        text.gauge("tcc_destinations_shut", help, Some(self.destinations.shut()));
    }

    fn tell_store(&self, text: &mut Text) {
        let metrics = &self.metrics;
        let saves = SAVES.iter().zip(&metrics.saves);
        let saves = saves.map(|(result, saves)| (vec![("result", *result)], saves.value()));
        let help = "Saves of transactions; one is lost where another writer was first.";
        text.counters("tcc_store_saves_total", help, saves);
        let help = "Rows purged, and rows forgotten after that.";
        text.counters("tcc_store_purged_rows_total", help, [(vec![], metrics.purged.value())]);
        let Some(store) = metrics.store.get() else { return };
        let help = "How long each commit of the log took.";
        text.histograms("tcc_store_commit_duration_seconds", help, [(vec![], &store.commits)]);
        text.histograms("tcc_store_batch_size", "Rows that each commit changed.", [(vec![], &store.rows)]);
        let help = "Checkpoints of the log.";
        text.counters("tcc_store_checkpoints_total", help, [(vec![], store.checkpoints.value())]);
        text.gauge("tcc_store_wal_bytes", "Bytes in the WAL.", Some(store.wal_bytes.value()));
    }

    fn tell_requests(&self, text: &mut Text) {
        let routes = self.metrics.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut requests: Vec<(String, String, Arc<Requests>)> = routes
            .iter()
            .flat_map(|(route, all)| all.iter().map(|one| (route.clone(), one.code.to_string(), one.clone())))
            .collect();
        drop(routes);
        requests.sort_by(|(a, x, m), (b, y, n)| (a, x, m.method).cmp(&(b, y, n.method)));
        let samples = requests.iter().map(|(route, code, one)| {
            (vec![("method", one.method), ("route", &**route), ("code", &**code)], &one.lengths)
        });
        let help = "How long requests took to be answered, their waits included.";
        text.histograms("tcc_http_request_duration_seconds", help, samples);
    }

    /// How many there are of what, as of some seconds ago at most.
    async fn counts(&self) -> Option<Counts> {
        // Whoever else asks meanwhile waits for the same answer.
        let mut known = self.metrics.counts.lock().await;
        if let Some((at, counts)) = &*known
            && at.elapsed() < limits::COUNTS
        {
            return Some(counts.clone());
        }
        match self.store.counts().await {
            Ok(counts) => {
                *known = Some((Instant::now(), counts.clone()));
                Some(counts)
            }
            Err(error) => {
                tracing::debug!(error = %crate::coordinator::chain(&error), "the store cannot be counted");
                *known = None;
                None
            }
        }
    }
}

/// What is told of the process.
pub(crate) fn process() -> String {
    let mut text = Text::default();
    process::tell(&mut text);
    text.into_string()
}
