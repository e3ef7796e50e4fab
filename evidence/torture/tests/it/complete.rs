//! Nothing that can be killed is left out. A site, a shape, an end or a kind of branch that is added fails here, or does
//! not compile, until it has its cells.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tcc_client::wire::BeginRequest;
use tcc_client::{Operation, Retry, Then};
use tcc_core::store::Step;
use tcc_core::{Begin, Decider, Patience, Timestamp, Transaction};
use tcc_server::crash::{Moment, Site};
use tcc_torture::cell::{Cell, Point};
use tcc_torture::plan::{Dies, Plan};
use tcc_torture::shape::{Outcome, Shape, Way};

fn names() -> BTreeSet<String> {
    Cell::all().iter().map(ToString::to_string).collect()
}

fn ends() -> impl Iterator<Item = (Shape, Outcome)> {
    Shape::ALL.iter().flat_map(|shape| shape.outcomes().iter().map(|outcome| (*shape, *outcome)))
}

fn plan(shape: Shape, outcome: Outcome) -> Plan {
    Plan::new(shape, outcome, "g".to_owned(), [([127, 0, 0, 1], 1).into(); 2])
}

/// The begin of a plan with what is registered later, as the core reads it; a refusal is `None`.
fn begin(body: &Value) -> Option<Begin> {
    let request: BeginRequest = serde_json::from_value(body.clone()).expect("a begin");
    let begin = request.parse(|| unreachable!("it brings a gid")).ok()?;
    let patience = Patience { attempts: 1, age: std::time::Duration::from_secs(1) };
    Transaction::begin(begin.clone(), patience, Timestamp::from_millis(0)).ok()?;
    Some(begin)
}

fn whole(plan: &Plan) -> Begin {
    let mut body = plan.begin();
    body["branches"] = plan.branches.iter().map(|branch| plan.branch(branch)).collect();
    begin(&body).unwrap_or_else(|| panic!("{:?} is refused: {body}", plan.shape))
}

/// The one that follows; whoever adds one is told here.
fn next(site: Site) -> Option<Site> {
    match site {
        Site::Step(Step::Begin) => Some(Site::Step(Step::Decision)),
        Site::Step(Step::Decision) => Some(Site::Step(Step::End)),
        Site::Step(Step::End) => Some(Site::Step(Step::Progress)),
        Site::Step(Step::Progress) => Some(Site::Purge),
        Site::Purge => None,
    }
}

#[test]
fn every_durable_write_is_a_site() {
    let all: Vec<Site> = std::iter::successors(Some(Site::Step(Step::Begin)), |site| next(*site)).collect();
    assert_eq!(all.len(), Site::ALL.len());
    for site in all {
        assert!(Site::ALL.contains(&site), "{} is not in Site::ALL", site.word());
    }
}

/// Wherever the server writes to its store, a crash point stands before it and one after it, of a site.
#[test]
fn every_call_that_writes_stands_between_crash_points() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tcc-server/src");
    let (mut files, mut writes) = (vec![server.clone()], 0);
    while let Some(path) = files.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder");
            // What a store does inside is told by whoever calls it.
            let entries = entries.map(|entry| entry.expect("an entry").path());
            files.extend(entries.filter(|entry| *entry != server.join("store")));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file of text");
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let writes_here = (line.contains("store")
                && (line.contains(".commit(") || line.contains(".purge(")))
                || line.contains(".save(&*");
            if !writes_here {
                continue;
            }
            writes += 1;
            let point = |line: &&str, moment: &str| line.contains("crash::point(") && line.contains(moment);
            let before = lines[i.saturating_sub(1)..i].iter().any(|line| point(line, "Before"));
            let after = lines[i + 1..lines.len().min(i + 4)].iter().any(|line| point(line, "After"));
            assert!(before && after, "{}:{}: {line}", path.display(), i + 1);
        }
    }
    // One for every step, the purge, and the row of what cannot be read, which is progress, too.
    assert_eq!(
        writes, 3,
        "there is another place that writes, or one that this test does not know by its looks"
    );
}

#[test]
fn every_site_of_every_shape_and_end_has_its_cells_or_a_reason_to_have_none() {
    let names = names();
    for (shape, outcome) in ends() {
        for site in Site::ALL {
            let name = |rest: &str| format!("{}/{}/{}:{rest}", shape.word(), outcome.word(), site.word());
            let (surely, most) = shape.writes(outcome, site);
            assert_eq!(surely == 0, shape.why_none(outcome, site).is_some(), "{}", name(""));
            assert!(surely <= most);
            for nth in 1..=surely {
                let nth = if nth == 1 { String::new() } else { format!(":{nth}") };
                for moment in ["before", "after"] {
                    let name = name(&format!("{moment}{nth}"));
                    assert!(names.contains(&name), "{name} is missing");
                }
            }
            // What is said of how many there are is found out by a cell, too.
            let none = name(&format!("none:{}", most + 1));
            assert_eq!(names.contains(&none), site != Site::Purge, "{none}");
        }
    }
}

#[test]
fn every_operation_of_every_branch_has_its_cells() {
    let cells = Cell::all();
    let has = |shape, outcome, point| cells.contains(&Cell { shape, outcome, point });
    for (shape, outcome) in ends().filter(|(shape, _)| *shape != Shape::CancelFirst) {
        let (confirmed, culprit) = (matches!(outcome, Outcome::Confirmed), shape.culprit());
        for branch in shape.branches() {
            let [_, confirms, cancels] = branch.way.endpoints();
            let innocent = confirmed || culprit != Some(branch.id);
            for (operation, there) in [
                (Operation::Try, branch.way.is_tried()),
                (Operation::Confirm, confirmed && confirms),
                (Operation::Cancel, matches!(outcome, Outcome::Cancelled | Outcome::Expired) && cancels),
            ] {
                for dies in [Dies::BeforeCommit, Dies::AfterCommit] {
                    let cell = has(shape, outcome, Point::Service(branch.id, operation, dies));
                    assert!(
                        cell || !there || !innocent,
                        "{shape:?} {outcome:?} {} {operation} {dies:?}",
                        branch.id
                    );
                }
            }
        }
    }
}

#[test]
fn names_are_unique_and_moments_two() {
    assert_eq!(names().len(), Cell::all().len());
    let moments = Cell::all().into_iter().filter_map(|cell| match cell.point {
        Point::Write(_, moment, _) => Some(moment == Moment::Before),
        Point::NoWrite(..) | Point::Service(..) => None,
    });
    let before = moments.clone().filter(|before| *before).count();
    assert_eq!(2 * before, moments.count());
}

/// Every way to fill in a branch that the core takes is one of ours, and some shape has it.
#[test]
fn every_kind_of_branch_stands_in_some_shape() {
    let ours = |endpoints: [bool; 3]| Way::ALL.iter().copied().find(|way| way.endpoints() == endpoints);
    for decider in ["coordinator", "initiator"] {
        for bits in 0..8 {
            let endpoints @ [tries, confirms, cancels] = [bits & 4 > 0, bits & 2 > 0, bits & 1 > 0];
            let mut branch = json!({"id": "b"});
            for (name, there) in [("try", tries), ("confirm", confirms), ("cancel", cancels)] {
                if there {
                    branch[name] = json!("http://127.0.0.1:1/");
                }
            }
            if tries && !cancels {
                branch["cancel"] = json!("none");
            }
            if begin(&json!({"gid": "g", "decider": decider, "branches": [branch]})).is_some() {
                let way = ours(endpoints).unwrap_or_else(|| panic!("{branch} is no way of ours"));
                let there = ends().any(|(shape, _)| shape.branches().iter().any(|branch| branch.way == way));
                assert!(there, "{way:?} stands in no shape");
            }
        }
    }
}

/// Whatever else a transaction may have, some shape has it.
#[test]
fn every_trait_of_a_transaction_stands_in_some_shape() {
    let (mut traits, mut phases) = (BTreeSet::new(), BTreeSet::new());
    for (shape, outcome) in ends() {
        let begin = whole(&plan(shape, outcome));
        phases.insert(outcome.word());
        traits.insert(match begin.decider {
            Decider::Initiator => "decided by the initiator",
            Decider::Coordinator => "decided by the coordinator",
        });
        traits.extend(begin.check.map(|_| "a check"));
        for branch in begin.branches {
            traits.insert(match branch.retry {
                Retry::Exponential { .. } => "repeated ever more seldom",
                Retry::Intervals { then: Then::Repeat, .. } => "repeated at intervals",
                Retry::Intervals { then: Then::GiveUp, .. } => "given up",
            });
            traits.extend((!branch.after.is_empty()).then_some("an order"));
            traits.extend((!branch.delay.is_zero()).then_some("a delay"));
            traits.extend(branch.reserves.map(|_| "a reservation that runs out"));
        }
    }
    assert_eq!(traits.len(), 9, "{traits:?}");
    assert_eq!(phases.len(), Outcome::ALL.len(), "{phases:?}");
}

/// A branch that nobody tries has no other operation than its confirm, and whoever tries one has something to call.
#[test]
fn shapes_are_taken_by_the_core_as_they_are_meant() {
    for (shape, outcome) in ends() {
        let begin = whole(&plan(shape, outcome));
        assert_eq!(begin.decider, shape.decider(), "{shape:?}");
        for (branch, read) in shape.branches().iter().zip(&begin.branches) {
            let endpoints = [read.try_.is_some(), read.confirm.is_some(), read.cancel.is_some()];
            assert_eq!(endpoints, branch.way.endpoints(), "{shape:?} {}", branch.id);
        }
    }
}
