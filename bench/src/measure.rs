//! The measurements: in each round every row once, those that are to be compared one right after the other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bounds::relay;
use crate::coordinator::{STATS, Stats};
use crate::flags::{Flags, Peer, Protocol};
use crate::load::{GO, Outcome, Script, Spec, TriedBy};
use crate::participant::{Answers, SEEN, Seen};
use crate::process::{Process, Role};
use crate::row::{Kind, Measured, Row};
use crate::sample::Sample;
use crate::{Failure, coordinator, machine, participant};

/// How long after the load has ended its transactions may still be confirmed, before they are counted as left.
const DRAIN: Duration = Duration::from_secs(30);

/// Measures all rows that were asked for.
pub(crate) async fn run(flags: &Flags) -> Result<Vec<Row>, Failure> {
    let kinds = flags.kinds()?;
    let folder = flags.scratch()?;
    let mut rows = Vec::new();
    let mut samples = BTreeMap::new();
    for (branches, in_flight) in flags.shapes() {
        if let Entry::Vacant(place) = samples.entry(branches) {
            place.insert(Sample::take(folder.path(), branches).await?);
        }
        let row = |kind: &Kind| Row { kind: kind.clone(), branches, in_flight, rounds: Vec::new() };
        rows.extend(kinds.iter().map(row));
    }
    for round in 0..flags.rounds() {
        for row in &mut rows {
            eprintln!(
                "round {} of {}: {}, {} branches, {} in flight",
                round + 1,
                flags.rounds(),
                row.kind.title(),
                row.branches,
                row.in_flight
            );
            let bench = Bench { folder: folder.path(), sample: &samples[&row.branches], flags };
            let measured = bench.measure(row).await.map_err(|why| format!("{}: {why}", row.kind.title()))?;
            row.rounds.push(measured);
        }
    }
    Ok(rows)
}

struct Bench<'a> {
    folder: &'a Path,
    sample: &'a Sample,
    flags: &'a Flags,
}

impl Bench<'_> {
    async fn measure(&self, row: &Row) -> Result<Measured, Failure> {
        // Removed with all it holds when the row is measured.
        let folder = tempfile::tempdir_in(self.folder)?;
        let mut participants = match row.kind {
            Kind::Writes | Kind::Embedded => Vec::new(),
            _ => self::participants(row.branches, Answers::AtOnce).await?,
        };
        let addresses: Vec<String> = participants.iter().map(|one| one.ready.clone()).collect();
        let mut subject = self.subject(row, folder.path(), &addresses).await?;
        let spec = Spec {
            script: subject.script.clone(),
            participants: addresses,
            headers: self.sample.headers.clone(),
            in_flight: row.in_flight,
            rate: self.flags.rate,
            warm_up: self.flags.warm_up(),
            length: self.flags.length(),
        };
        let measured = under_load(&mut subject, &mut participants, spec).await?;
        if let Some(process) = subject.process {
            process.end().await?;
        }
        for participant in participants {
            participant.end().await?;
        }
        Ok(measured)
    }

    /// Starts what is measured, unless it runs already.
    async fn subject(&self, row: &Row, folder: &Path, participants: &[String]) -> Result<Subject, Failure> {
        match &row.kind {
            Kind::Bare => Ok(Subject { script: Script::Bare, process: None, pid: None }),
            Kind::Writes => {
                let file = folder.join("writes.db");
                let script = Script::Writes { file, document_bytes: self.sample.document_bytes };
                Ok(Subject { script, process: None, pid: None })
            }
            Kind::Embedded => {
                let script = Script::Embedded { file: folder.join("log.db"), branches: row.branches };
                Ok(Subject { script, process: None, pid: None })
            }
            Kind::Relay => {
                let sample = self.sample.clone();
                let options = relay::Options { participants: participants.to_vec(), sample };
                Subject::start(&Role::Relay(options), TriedBy::Coordinator).await
            }
            Kind::Memory => Subject::coordinator(None, TriedBy::Coordinator).await,
            Kind::Sqlite(tried_by) => Subject::coordinator(Some(folder.join("log.db")), *tried_by).await,
            Kind::Peer(peer) => Ok(Subject::peer(peer)),
        }
    }
}

/// What is measured.
pub(crate) struct Subject {
    script: Script,
    /// What was started for this.
    pub(crate) process: Option<Process>,
    /// Whose processor time and memory it is.
    pid: Option<u32>,
}

impl Subject {
    async fn start(role: &Role, tried_by: TriedBy) -> Result<Self, Failure> {
        Self::start_under(&[], role, tried_by).await
    }

    /// One whose process is run by a command.
    pub(crate) async fn start_under(
        command: &[&str],
        role: &Role,
        tried_by: TriedBy,
    ) -> Result<Self, Failure> {
        let process = Process::start_under(command, role).await?;
        let script = Script::Tcc { at: process.ready.clone(), tried_by };
        let pid = Some(process.pid());
        Ok(Self { script, process: Some(process), pid })
    }

    /// A coordinator, with a log or in memory.
    pub(crate) async fn coordinator(log: Option<PathBuf>, tried_by: TriedBy) -> Result<Self, Failure> {
        Self::coordinator_that_keeps(log, tried_by, None).await
    }

    /// One that keeps what ended only so long.
    pub(crate) async fn coordinator_that_keeps(
        log: Option<PathBuf>,
        tried_by: TriedBy,
        retention_ms: Option<u64>,
    ) -> Result<Self, Failure> {
        Self::start(&Role::Coordinator(coordinator::Options { log, retention_ms }), tried_by).await
    }

    fn peer(peer: &Peer) -> Self {
        let script = match peer.protocol {
            Protocol::Dtm => Script::Dtm { url: peer.url.clone() },
            Protocol::Tcc => Script::Tcc { at: peer.address.to_string(), tried_by: TriedBy::Coordinator },
        };
        Self { script, process: None, pid: machine::listener(peer.address) }
    }

    pub(crate) fn script(&self) -> Script {
        self.script.clone()
    }

    fn cpu_ms(&self) -> Option<f64> {
        machine::cpu_ms(self.pid?)
    }

    pub(crate) async fn stats(&mut self) -> Result<Option<Stats>, Failure> {
        match (&mut self.process, &self.script) {
            // The relay has none.
            (Some(process), Script::Tcc { .. }) => process.ask(STATS).await,
            _ => Ok(None),
        }
    }

    async fn syncs(&mut self) -> Result<Option<u64>, Failure> {
        Ok(self.stats().await?.and_then(|stats| stats.syncs))
    }
}

/// Puts something under load, measures, and waits until it has confirmed what it decided.
pub(crate) async fn under_load(
    subject: &mut Subject,
    participants: &mut [Process],
    spec: Spec,
) -> Result<Measured, Failure> {
    let mut load = Process::start(&Role::Load(spec)).await?;
    if let Script::Embedded { .. } = subject.script {
        // It lives in the load.
        subject.pid = Some(load.pid());
    }
    let before = (subject.cpu_ms(), subject.syncs().await?, confirmed(participants).await?);
    let outcome: Outcome = load.ask(GO).await?;
    let after = (subject.cpu_ms(), subject.syncs().await?, confirmed(participants).await?);
    let rss_mib = subject.pid.and_then(machine::rss_mib);
    load.end().await?;

    let branches = participants.len() as f64;
    let done = if participants.is_empty() {
        outcome.answered as f64
    } else {
        (after.2 - before.2) as f64 / branches
    };
    let each = |total: f64| if done > 0.0 { total / done } else { f64::NAN };
    let syncs = match (before.1, after.1) {
        (Some(before), Some(after)) => Some((after - before) as f64),
        _ if outcome.syncs > 0 => Some(outcome.syncs as f64),
        _ => None,
    };
    Ok(Measured {
        per_second: done / outcome.seconds,
        answered: outcome.answered,
        p50_ms: outcome.p50_ms.unwrap_or(f64::NAN),
        p99_ms: outcome.p99_ms.unwrap_or(f64::NAN),
        max_ms: outcome.max_ms.unwrap_or(f64::NAN),
        cpu_ms: before.0.zip(after.0).map(|(before, after)| each(after - before)),
        load_cpu_ms: each(outcome.cpu_ms),
        fsyncs: syncs.map(each),
        rss_mib,
        failed: outcome.failed,
        failure: outcome.failure,
        left: outcome.left + drain(participants, outcome.answered_ever).await?,
    })
}

/// Waits until so many transactions are confirmed everywhere, and says how many are not.
async fn drain(participants: &mut [Process], answered: u64) -> Result<u64, Failure> {
    let started = std::time::Instant::now();
    loop {
        let left = match participants.len() as u64 {
            0 => 0,
            branches => {
                (answered * branches).saturating_sub(confirmed(participants).await?).div_ceil(branches)
            }
        };
        if left == 0 || started.elapsed() > DRAIN {
            return Ok(left);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts participants.
pub(crate) async fn participants(count: usize, answers: Answers) -> Result<Vec<Process>, Failure> {
    let mut participants = Vec::new();
    for _ in 0..count {
        participants.push(Process::start(&Role::Participant(participant::Options { answers })).await?);
    }
    Ok(participants)
}

/// What they saw, together.
pub(crate) async fn seen(participants: &mut [Process]) -> Result<Seen, Failure> {
    let mut all = Seen::default();
    for participant in participants {
        let seen: Seen = participant.ask(SEEN).await?;
        all.tries += seen.tries;
        all.confirms += seen.confirms;
        all.cancels += seen.cancels;
        all.headers = seen.headers;
    }
    Ok(all)
}

async fn confirmed(participants: &mut [Process]) -> Result<u64, Failure> {
    Ok(seen(participants).await?.confirms)
}
