//! What is printed: the machine, the table, and what the rows say of one another; or the same as JSON, an object a
//! line.

use serde_json::json;

use crate::flags::Flags;
use crate::machine::Machine;
use crate::ratios::Ratio;
use crate::row::Row;

pub(crate) fn machine(machine: &Machine, flags: &Flags) {
    if flags.json {
        println!("{}", json!({ "machine": machine, "version": env!("CARGO_PKG_VERSION") }));
    } else {
        let Machine { cpu, cores, kernel, load, .. } = machine;
        println!("{cpu}, {cores} cores, Linux {kernel}, load average {load:.2}");
    }
    if !machine.quiet {
        eprintln!(
            "warning: the machine is not quiet (load average {:.2}); the figures are worth little",
            machine.load
        );
    }
}

pub(crate) fn rows(rows: &[Row], flags: &Flags) {
    if flags.json {
        rows.iter().for_each(json);
        return;
    }
    println!(
        "\n{:<32} {:<11} {:<8} {:>3} {:>6} {:>8} {:>17} {:>8} {:>8} {:>8} {:>7} {:>9} {:>6} {:>6} {:>5}  durable",
        "what",
        "tried by",
        "until",
        "br",
        "flight",
        "per s",
        "(least – most)",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU ms",
        "fsyncs/tx",
        "MiB",
        "failed",
        "left",
    );
    for row in rows {
        let (least, most) = row.range(|measured| measured.per_second);
        println!(
            "{:<32} {:<11} {:<8} {:>3} {:>6} {:>8.0} {:>17} {:>8.2} {:>8.2} {:>8.2} {:>7} {:>9} {:>6} {:>6} {:>5}  {}",
            row.kind.title(),
            row.kind.tried_by(),
            row.kind.until(),
            row.branches,
            row.in_flight,
            row.median(|measured| measured.per_second),
            format!("({least:.0} – {most:.0})"),
            row.median(|measured| measured.p50_ms),
            row.median(|measured| measured.p99_ms),
            row.range(|measured| measured.max_ms).1,
            known(row.median_if(|measured| measured.cpu_ms), 3),
            known(row.median_if(|measured| measured.fsyncs), 3),
            known(row.median_if(|measured| measured.rss_mib), 0),
            row.sum(|measured| measured.failed),
            row.sum(|measured| measured.left),
            row.kind.durable(),
        );
    }
    for row in rows {
        if let Some(failure) = row.rounds.iter().find_map(|measured| measured.failure.as_ref()) {
            println!("{}: {failure}", row.kind.title());
        }
    }
}

fn json(row: &Row) {
    let range = row.range(|measured| measured.per_second);
    println!(
        "{}",
        json!({
            "row": row.kind.name(),
            "what": row.kind.title(),
            "durable": row.kind.durable(),
            "tried_by": row.kind.tried_by(),
            "until": row.kind.until(),
            "branches": row.branches,
            "in_flight": row.in_flight,
            "per_second": row.median(|measured| measured.per_second),
            "per_second_range": range,
            "p50_ms": row.median(|measured| measured.p50_ms),
            "p99_ms": row.median(|measured| measured.p99_ms),
            "max_ms": row.range(|measured| measured.max_ms).1,
            "cpu_ms": row.median_if(|measured| measured.cpu_ms),
            "fsyncs": row.median_if(|measured| measured.fsyncs),
            "rss_mib": row.median_if(|measured| measured.rss_mib),
            "failed": row.sum(|measured| measured.failed),
            "left": row.sum(|measured| measured.left),
            "rounds": row.rounds,
        })
    );
}

pub(crate) fn ratios(ratios: &[Ratio], flags: &Flags) {
    if !flags.json && !ratios.is_empty() {
        println!(
            "\n{:<40} {:>3} {:>6} {:>7}  (least – most of the rounds)",
            "ratio", "br", "flight", "median"
        );
    }
    for ratio in ratios {
        if flags.json {
            println!("{}", json!({ "ratio": ratio }));
        } else {
            let Ratio { what, branches, in_flight, ratio, range: (least, most) } = ratio;
            println!("{what:<40} {branches:>3} {in_flight:>6} {ratio:>7.2}  ({least:.2} – {most:.2})");
        }
    }
}

/// A figure, or a dash where it cannot be known.
pub(crate) fn known(figure: Option<f64>, decimals: usize) -> String {
    figure
        .filter(|figure| !figure.is_nan())
        .map_or_else(|| "–".to_owned(), |figure| format!("{figure:.decimals$}"))
}
