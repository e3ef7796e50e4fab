//! How the coordinator bears what piles up: transactions that wait on a dead participant, transactions that have
//! ended, the purge of them, and a participant that hangs. Every case is measured in turn with the same coordinator
//! without that burden, and compared with it.

mod logs;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::net::TcpSocket;

use self::logs::Looks;
use crate::Failure;
use crate::client::HttpClient;
use crate::flags::Flags;
use crate::load::{Spec, TriedBy};
use crate::measure::{Subject, participants, seen, under_load};
use crate::participant::Answers;
use crate::row::Measured;
use crate::sample::{Sample, begin};

/// The healthy transactions beside the burden.
const BRANCHES: usize = 2;
const IN_FLIGHT: usize = 64;
/// Transactions that wait on the participant that hangs.
const HANGING: usize = 512;
/// The finished ones of a log ended so long ago; the coordinator keeps them unless it is told to keep less.
const ENDED_AGO: Duration = Duration::from_secs(2 * 3600);
const KEPT_WHEN_PURGING: Duration = Duration::from_secs(3600);

/// What a coordinator has to bear.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Burden {
    /// A log of unfinished transactions, none of which can go on.
    Waiting(usize),
    /// A log of finished ones.
    Finished(usize),
    /// The same while they are purged.
    Purging(usize),
    /// So many transactions whose participant accepts calls and never answers.
    Hanging(usize),
}

/// What one burden did.
struct Case {
    burden: Burden,
    log: Option<PathBuf>,
    rounds: Vec<Figures>,
}

#[derive(Clone, Debug, Serialize)]
struct Figures {
    /// From the start of the process until it listens.
    start_ms: f64,
    #[serde(flatten)]
    measured: Measured,
    /// Rows purged since the start.
    purged: u64,
    /// How long the store takes to answer, nothing else going on.
    looks: Option<Looks>,
}

pub(crate) async fn run(flags: &Flags) -> Result<(), Failure> {
    let folder = flags.scratch()?;
    let sample = Sample::take(folder.path(), BRANCHES).await?;
    // Bound and not listening: calls to it are refused, and nobody else is given the port.
    let dead = TcpSocket::new_v4()?;
    dead.bind(([127, 0, 0, 1], 0).into())?;
    let dead = dead.local_addr().map(|address| (dead, address.to_string()))?;

    let mut cases = Vec::new();
    let waiting = if flags.waiting > 0 { Some(logs::waiting(folder.path(), &dead.1).await?) } else { None };
    for (size, row) in sizes(flags.waiting).into_iter().zip(waiting.iter().cycle()) {
        let log = folder.path().join(format!("waiting-{size}.db"));
        eprintln!("a log of {size} waiting transactions");
        logs::fill(&log, row, size).await?;
        cases.push(Case { burden: Burden::Waiting(size), log: Some(log), rounds: Vec::new() });
    }
    for size in sizes(flags.finished) {
        let log = folder.path().join(format!("finished-{size}.db"));
        eprintln!("a log of {size} finished transactions");
        logs::fill(&log, &logs::finished(folder.path(), BRANCHES).await?, size).await?;
        cases.push(Case { burden: Burden::Finished(size), log: Some(log), rounds: Vec::new() });
    }
    if let Some(Case { burden: Burden::Finished(size), log, .. }) = cases.last() {
        let (burden, log) = (Burden::Purging(*size), log.clone());
        cases.push(Case { burden, log, rounds: Vec::new() });
    }
    for count in [0, HANGING] {
        cases.push(Case { burden: Burden::Hanging(count), log: None, rounds: Vec::new() });
    }

    for round in 0..flags.rounds() {
        for case in &mut cases {
            eprintln!("round {} of {}: {:?}", round + 1, flags.rounds(), case.burden);
            let figures = measure(flags, &sample, folder.path(), case).await?;
            case.rounds.push(figures);
        }
    }
    report::print(&cases, flags);
    if let Some(folder) = &flags.plots {
        report::plot(&cases, folder)?;
    }
    Ok(())
}

/// None, a hundredth, a tenth and all of it; nothing to measure where there is none.
fn sizes(most: usize) -> Vec<usize> {
    if most == 0 {
        return Vec::new();
    }
    let mut sizes = vec![0, most / 100, most / 10, most];
    sizes.dedup();
    sizes
}

async fn measure(flags: &Flags, sample: &Sample, folder: &Path, case: &Case) -> Result<Figures, Failure> {
    let scratch = tempfile::tempdir_in(folder)?;
    let log = match (&case.burden, &case.log) {
        // What waits is changed by being tried, and what is purged is gone: each round has it fresh.
        (Burden::Waiting(_) | Burden::Purging(_), Some(log)) => {
            let copy = scratch.path().join("log.db");
            std::fs::copy(log, &copy)?;
            copy
        }
        (_, Some(log)) => log.clone(),
        (_, None) => scratch.path().join("log.db"),
    };
    let looks = match case.burden {
        Burden::Waiting(_) | Burden::Finished(_) => Some(logs::look(&log).await?),
        Burden::Purging(_) | Burden::Hanging(_) => None,
    };
    let retention = match case.burden {
        Burden::Purging(_) => Some(KEPT_WHEN_PURGING.as_millis() as u64),
        Burden::Waiting(_) | Burden::Finished(_) | Burden::Hanging(_) => None,
    };
    let hangs = participants(1, Answers::Never).await?;
    let mut healthy = participants(BRANCHES, Answers::AtOnce).await?;
    let started = Instant::now();
    let mut subject = Subject::coordinator_that_keeps(Some(log), TriedBy::Coordinator, retention).await?;
    let start_ms = started.elapsed().as_secs_f64() * 1000.0;
    if let (Burden::Hanging(count), Some(process)) = (&case.burden, &subject.process) {
        burden_with_hanging(&process.ready, &hangs[0].ready, *count).await?;
    }
    let spec = Spec {
        script: subject.script(),
        participants: healthy.iter().map(|one| one.ready.clone()).collect(),
        headers: sample.headers.clone(),
        in_flight: IN_FLIGHT,
        rate: flags.rate,
        warm_up: flags.warm_up(),
        length: flags.length(),
    };
    let measured = under_load(&mut subject, &mut healthy, spec).await?;
    let purged = match case.burden {
        // It begins with the process, before it could be asked.
        Burden::Purging(size) => {
            let begun = seen(&mut healthy).await?.tries / BRANCHES as u64;
            let held = subject.stats().await?.map_or(0, |stats| stats.held);
            (size as u64 + begun).saturating_sub(held)
        }
        Burden::Waiting(_) | Burden::Finished(_) | Burden::Hanging(_) => 0,
    };
    if let Some(process) = subject.process {
        process.finish().await?;
    }
    Ok(Figures { start_ms, measured, purged, looks })
}

async fn burden_with_hanging(coordinator: &str, hangs: &str, count: usize) -> Result<(), Failure> {
    let client = HttpClient::new();
    let url = format!("http://{coordinator}/v1/transactions");
    let bodies = (0..count).map(|i| begin(&format!("hanging-{i}"), [hangs, hangs].into_iter()));
    let none = Vec::new();
    try_join_all(bodies.map(|body| client.done(&url, &none, body))).await?;
    Ok(())
}
