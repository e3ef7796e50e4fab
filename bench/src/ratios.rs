//! What the rows say of one another: for each round by itself, for its rows were measured one after the other, and
//! then the median.

use serde::Serialize;

use crate::load::TriedBy;
use crate::row::{Kind, Measured, Row, median};

#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) what: String,
    pub(crate) branches: usize,
    pub(crate) in_flight: usize,
    pub(crate) ratio: f64,
    /// The least and the most of the rounds.
    pub(crate) range: (f64, f64),
}

/// All that can be said of these rows.
pub(crate) fn of(rows: &[Row]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for ours in rows {
        let beside = |kind: fn(&Kind) -> bool| {
            rows.iter().find(|row| {
                kind(&row.kind) && (row.branches, row.in_flight) == (ours.branches, ours.in_flight)
            })
        };
        let mut say = |what: &str, theirs: Option<&Row>, of: fn(&Measured) -> Option<f64>| {
            ratios.extend(theirs.and_then(|theirs| ratio(what.to_owned(), ours, theirs, of)));
        };
        let throughput = |measured: &Measured| Some(measured.per_second);
        match &ours.kind {
            Kind::Sqlite(TriedBy::Coordinator) => {
                for theirs in rows {
                    let Kind::Peer(peer) = &theirs.kind else { continue };
                    if (theirs.branches, theirs.in_flight) == (ours.branches, ours.in_flight) {
                        let what = format!("throughput: tcc, its best mode ÷ {}", peer.name);
                        say(&what, Some(theirs), throughput);
                    }
                }
                say("throughput: log ÷ memory", beside(|kind| matches!(kind, Kind::Memory)), throughput);
                say("throughput: tcc ÷ calls alone", beside(|kind| matches!(kind, Kind::Bare)), throughput);
                say(
                    "throughput: tcc ÷ writes alone",
                    beside(|kind| matches!(kind, Kind::Writes)),
                    throughput,
                );
                say(
                    "CPU: tcc ÷ bare server and client",
                    beside(|kind| matches!(kind, Kind::Relay)),
                    |measured| measured.cpu_ms,
                );
            }
            Kind::Embedded => {
                let writes = beside(|kind| matches!(kind, Kind::Writes));
                say("throughput: embedded ÷ writes alone", writes, throughput);
                let server = beside(|kind| matches!(kind, Kind::Sqlite(TriedBy::Coordinator)));
                say("throughput: embedded ÷ tcc as a server", server, throughput);
            }
            Kind::Sqlite(TriedBy::Initiator) => against_peers(ours, rows, &mut ratios),
            Kind::Bare | Kind::Relay | Kind::Writes | Kind::Memory | Kind::Peer(_) => {}
        }
    }
    ratios
}

/// Initiator against initiator, both until the decision.
fn against_peers(ours: &Row, rows: &[Row], ratios: &mut Vec<Ratio>) {
    for theirs in rows {
        let Kind::Peer(peer) = &theirs.kind else { continue };
        if (theirs.branches, theirs.in_flight) != (ours.branches, ours.in_flight)
            || theirs.kind.until() != ours.kind.until()
        {
            continue;
        }
        let name = &peer.name;
        let mut say =
            |what: String, of: fn(&Measured) -> Option<f64>| ratios.extend(ratio(what, ours, theirs, of));
        say(format!("throughput: tcc ÷ {name}"), |measured| Some(measured.per_second));
        say(format!("p99: tcc ÷ {name}"), |measured| Some(measured.p99_ms));
        say(format!("CPU: tcc ÷ {name}"), |measured| measured.cpu_ms);
    }
}

fn ratio(what: String, ours: &Row, theirs: &Row, of: fn(&Measured) -> Option<f64>) -> Option<Ratio> {
    let rounds = ours.rounds.iter().zip(&theirs.rounds);
    let ratios: Vec<f64> =
        rounds.map(|(ours, theirs)| Some(of(ours)? / of(theirs)?)).collect::<Option<_>>()?;
    let fold = |pick: fn(f64, f64) -> f64| ratios.iter().copied().fold(f64::NAN, pick);
    let range = (fold(f64::min), fold(f64::max));
    Some(Ratio { what, branches: ours.branches, in_flight: ours.in_flight, ratio: median(ratios), range })
}
