//! What one transaction costs the coordinator in instructions, counted by valgrind: a figure that hardly depends on the
//! machine or on what else runs there, so that a change for the worse can be told from a bad day.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::flags::Flags;
use crate::load::{self, Spec, TriedBy};
use crate::measure::{Subject, participants};
use crate::participant::Answers;
use crate::process::Role;
use crate::sample::Sample;
use crate::{Failure, coordinator, profile};

/// What is counted: two branches, as many in flight as make some commits shared.
const BRANCHES: usize = 2;
const IN_FLIGHT: usize = 16;
/// A start and a first connection cost the same however many transactions follow, so the cost of one is the difference
/// between two counts.
const FEW: usize = 200;
const MANY: usize = 1200;
/// The counts that are known, a line for each: who tries, and how many.
const KNOWN: &str = include_str!("../instructions.txt");
/// How far above what is known a count may be: compilers, and how commits fall together, differ.
const MARGIN: f64 = 0.1;

/// Counts, and fails where a count is over what is known by more than the margin.
pub(crate) async fn run(flags: &Flags) -> Result<(), Failure> {
    let folder = flags.scratch()?;
    let sample = Sample::take(folder.path(), BRANCHES).await?;
    if flags.profile {
        return profile(folder.path(), &sample).await;
    }
    let mut over = Vec::new();
    for (tried_by, name) in [(TriedBy::Coordinator, "coordinator"), (TriedBy::Initiator, "initiator")] {
        let few = count(folder.path(), &sample, tried_by, FEW).await?;
        let many = count(folder.path(), &sample, tried_by, MANY).await?;
        let counted = many.saturating_sub(few) / (MANY - FEW) as u64;
        let known = known(name)?;
        let share = counted as f64 / known as f64;
        if flags.json {
            println!("{}", json!({ "tried_by": name, "instructions": counted, "known": known }));
        } else {
            println!(
                "tried by the {name}: {counted} instructions a transaction, {share:.2} of the {known} known"
            );
        }
        if share < 1.0 - MARGIN {
            eprintln!("it has become better: write {counted} into bench/instructions.txt");
        }
        if share > 1.0 + MARGIN {
            over.push(name);
        }
    }
    if over.is_empty() { Ok(()) } else { Err(format!("too many instructions: {}", over.join(", ")).into()) }
}

fn known(name: &str) -> Result<u64, Failure> {
    let mut lines = KNOWN.lines().filter_map(|line| line.split_once(' '));
    let (_, known) =
        lines.find(|(first, _)| *first == name).ok_or("bench/instructions.txt has no such line")?;
    Ok(known.trim().parse()?)
}

/// Where those go of a transaction that the coordinator tries.
async fn profile(folder: &Path, sample: &Sample) -> Result<(), Failure> {
    let file = folder.join("callgrind.out");
    let out_file = format!("--callgrind-out-file={}", file.display());
    let mut counts = Vec::new();
    for transactions in [FEW, MANY] {
        let under = ["valgrind", "--tool=callgrind", "--fair-sched=yes", "--quiet", out_file.as_str()];
        transact(folder, sample, &under, TriedBy::Coordinator, transactions).await?;
        counts.push(profile::read(&file)?);
    }
    let [few, many] = &counts[..] else { unreachable!("two counts") };
    let without = |part: &str| few.iter().find(|(other, _)| *other == part).map_or(0, |(_, count)| *count);
    let each = |(part, count): &(&'static str, u64)| {
        (*part, count.saturating_sub(without(part)) / (MANY - FEW) as u64)
    };
    let parts: Vec<_> = many.iter().map(each).collect();
    let all: u64 = parts.iter().map(|(_, count)| count).sum();
    println!("{all:>8}  instructions a transaction, tried by the coordinator");
    for (part, count) in parts {
        println!("{count:>8}  {:>4.1} %  {part}", 100.0 * count as f64 / all as f64);
    }
    Ok(())
}

/// The instructions of a coordinator's whole life with so many transactions.
async fn count(
    folder: &Path,
    sample: &Sample,
    tried_by: TriedBy,
    transactions: usize,
) -> Result<u64, Failure> {
    let said = folder.join("valgrind.txt");
    let log_file = format!("--log-file={}", said.display());
    let under = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
        "--fair-sched=yes",
        log_file.as_str(),
    ];
    transact(folder, sample, &under, tried_by, transactions).await?;
    let said = std::fs::read_to_string(said)?;
    let refs = said.lines().find_map(|line| line.split_once("refs:")).ok_or("valgrind told no count")?.1;
    Ok(refs.trim().replace(',', "").parse()?)
}

/// Has a coordinator make so many transactions, run by a command, with a new log.
async fn transact(
    folder: &Path,
    sample: &Sample,
    under: &[&str],
    tried_by: TriedBy,
    transactions: usize,
) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(folder)?;
    let options = coordinator::Options { log: Some(folder.path().join("log.db")), retention_ms: None };
    let subject = Subject::start_under(under, &Role::Coordinator(options), tried_by).await?;
    let participants = participants(BRANCHES, Answers::AtOnce).await?;
    let spec = Spec {
        script: subject.script(),
        participants: participants.iter().map(|one| one.ready.clone()).collect(),
        headers: sample.headers.clone(),
        in_flight: IN_FLIGHT,
        rate: None,
        warm_up: Duration::ZERO,
        length: Duration::ZERO,
    };
    load::transact(&spec, transactions).await?;
    match subject.process {
        Some(process) => process.finish().await,
        None => Ok(()),
    }
}
