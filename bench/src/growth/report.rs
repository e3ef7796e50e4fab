//! What the burdens did, as a table, as JSON or as plots.

use std::path::Path;

use serde_json::json;

use super::{BRANCHES, Burden, Case, Figures, IN_FLIGHT};
use crate::Failure;
use crate::flags::Flags;
use crate::plot::{Line, Plot};
use crate::row::median;
use crate::table::known;

impl Burden {
    fn name(&self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting on a dead participant",
            Self::Finished(_) => "finished",
            Self::Purging(_) => "finished, being purged",
            Self::Hanging(_) => "waiting on one that hangs",
        }
    }

    const fn size(&self) -> usize {
        match self {
            Self::Waiting(size) | Self::Finished(size) | Self::Purging(size) | Self::Hanging(size) => *size,
        }
    }
}

impl Case {
    fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    /// Compared with the case without the burden: in each round by itself, and then the median.
    fn against(&self, cases: &[Self], of: impl Fn(&Figures) -> f64) -> Option<f64> {
        let without = cases.iter().find(|case| match (&case.burden, &self.burden) {
            (Burden::Waiting(0), Burden::Waiting(_)) | (Burden::Hanging(0), Burden::Hanging(_)) => true,
            (Burden::Finished(0), Burden::Finished(_)) => true,
            // What the purge does, apart from what the size does.
            (Burden::Finished(size), Burden::Purging(purging)) => size == purging,
            _ => false,
        })?;
        let rounds = self.rounds.iter().zip(&without.rounds);
        Some(median(rounds.map(|(with, without)| of(with) / of(without)).collect()))
    }
}

pub(super) fn print(cases: &[Case], flags: &Flags) {
    if !flags.json {
        println!(
            "\nbeside healthy transactions of {BRANCHES} branches, {IN_FLIGHT} in flight, fsync before act; \
             ÷ is against the same without the burden\n\n\
             {:<30} {:>9} {:>9} {:>6} {:>7} {:>6} {:>8} {:>8} {:>6} {:>7} {:>9} {:>8} {:>7} {:>6}",
            "burden",
            "size",
            "start ms",
            "MiB",
            "per s",
            "÷",
            "p50 ms",
            "p99 ms",
            "÷",
            "list ms",
            "trying ms",
            "counts ms",
            "purged",
            "failed",
        );
    }
    for case in cases {
        let per_second = |figures: &Figures| figures.measured.per_second;
        let p99 = |figures: &Figures| figures.measured.p99_ms;
        let rss = case.median(|figures| figures.measured.rss_mib.unwrap_or(f64::NAN));
        let looks = case.rounds.iter().find_map(|figures| figures.looks);
        let purged: u64 = case.rounds.iter().map(|figures| figures.purged).sum();
        let failed: u64 = case.rounds.iter().map(|figures| figures.measured.failed).sum();
        let throughput_ratio = case.against(cases, per_second);
        let p99_ratio = case.against(cases, p99);
        if flags.json {
            println!(
                "{}",
                json!({
                    "growth": case.burden.name(), "size": case.burden.size(), "branches": BRANCHES,
                    "in_flight": IN_FLIGHT, "durable": "yes, fsync before act",
                    "start_ms": case.median(|figures| figures.start_ms), "rss_mib": rss,
                    "per_second": case.median(per_second), "per_second_ratio": throughput_ratio,
                    "p50_ms": case.median(|figures| figures.measured.p50_ms),
                    "p99_ms": case.median(p99), "p99_ratio": p99_ratio,
                    "looks": looks, "purged": purged, "failed": failed, "rounds": case.rounds,
                })
            );
            continue;
        }
        println!(
            "{:<30} {:>9} {:>9.0} {:>6} {:>7.0} {:>6} {:>8.2} {:>8.2} {:>6} {:>7} {:>9} {:>8} {:>7} {:>6}",
            case.burden.name(),
            case.burden.size(),
            case.median(|figures| figures.start_ms),
            known(Some(rss), 0),
            case.median(per_second),
            known(throughput_ratio, 2),
            case.median(|figures| figures.measured.p50_ms),
            case.median(p99),
            known(p99_ratio, 2),
            known(looks.map(|looks| looks.list_ms), 2),
            known(looks.map(|looks| looks.list_trying_ms), 2),
            known(looks.map(|looks| looks.counts_ms), 2),
            purged,
            failed,
        );
        if let Burden::Purging(size) = case.burden
            && case.rounds.iter().any(|figures| figures.purged == size as u64)
        {
            println!("  the purge was over before the measurement was: it needs a larger --finished");
        }
    }
}

/// Throughput, p99, start and memory over what piled up.
pub(super) fn plot(cases: &[Case], folder: &Path) -> Result<(), Failure> {
    type Of = fn(&Figures) -> f64;
    let figures: [(&str, &str, Of); 4] = [
        ("throughput", "healthy transactions a second", |figures| figures.measured.per_second),
        ("p99", "p99 of healthy ones, ms", |figures| figures.measured.p99_ms),
        ("start", "start-up, ms", |figures| figures.start_ms),
        ("memory", "memory, MiB", |figures| figures.measured.rss_mib.unwrap_or(f64::NAN)),
    ];
    for (name, y, of) in figures {
        let line = |name: &'static str| {
            let cases = cases.iter().filter(|case| case.burden.name() == name);
            let points = cases.map(|case| (case.burden.size() as f64, case.median(of))).collect();
            Line { name: name.to_owned(), points }
        };
        let plot = Plot {
            title: "growth".to_owned(),
            x: "transactions in the log".to_owned(),
            y: y.to_owned(),
            lines: vec![line(Burden::Waiting(0).name()), line(Burden::Finished(0).name())],
        };
        plot.save(folder, &format!("growth-{name}.svg"))?;
    }
    Ok(())
}
