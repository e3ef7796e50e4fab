//! What is printed.

use std::fmt::Write as _;

use crate::Summary;
use crate::fault::{Fault, Rare};
use crate::setup::Setup;

/// The numbers of a run, the faults and the rare things, each with its count.
pub(crate) fn table(summary: &Summary) -> String {
    let mut text = String::new();
    let rate = summary.transactions as f64 / summary.took.as_secs_f64();
    let days = summary.simulated.as_secs_f64() / 86_400.0;
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:>12}  transactions in {} worlds", summary.transactions, summary.worlds);
    let words = ["confirmed", "confirmed, a ladder given up", "cancelled", "never begun"];
    for (count, word) in summary.counts.ends.iter().zip(words) {
        let _ = writeln!(text, "{count:>12}  {word}");
    }
    let _ = writeln!(text, "{:>12}  faults", summary.faults());
    let _ = writeln!(text, "{days:>12.1}  days in their own time, in {:.1} s", summary.took.as_secs_f64());
    let _ = writeln!(text, "{rate:>12.0}  transactions per second");
    let _ = writeln!(text, "{:>12x}  hash of everything that happened", summary.hash >> 16);
    let _ = writeln!(text, "\nfaults");
    for fault in Fault::ALL {
        let _ = writeln!(text, "{:>12}  {}", summary.counts.faults[*fault as usize], fault.text());
    }
    let _ = writeln!(text, "\nrare things");
    for rare in Rare::ALL {
        let _ = writeln!(text, "{:>12}  {}", summary.counts.rare[*rare as usize], rare.text());
    }
    text
}

/// A story that fails.
pub(crate) fn story(setup: &Setup, why: &str, lines: &str) -> String {
    let cases: Vec<String> = setup.cases.iter().map(|case| format!("t{case}")).collect();
    let left: Vec<&str> =
        Fault::ALL.iter().filter(|fault| !setup.without.contains(fault)).map(|fault| fault.text()).collect();
    let mut text = String::new();
    let _ = writeln!(text, "seed {}: {why}", setup.seed);
    let _ = writeln!(text, "with {}", cases.join(", "));
    let _ = writeln!(text, "and {}", if left.is_empty() { "no fault".to_owned() } else { left.join("; ") });
    let _ = writeln!(text, "\n{lines}");
    text
}
