//! `cargo model`: every state that one transaction can come to, over the real `tcc-core`.
//!
//! Two coordinators over one store, an initiator, an operator who takes note, participants with the guard, and a network
//! that loses, doubles and reorders. Every promise of DESIGN.md §5 is a question to each state; everything must end; and
//! each rare thing must have happened. A transaction within another is in it as two, each by itself: a test shows that
//! the inner one answers as a guard does. Not in it: an operator who forces a branch, destinations at their limit, how
//! long a delay or a reservation is, and time as anything but before and after the deadline.
//!
//! Read `shape` for the configurations, `action` for what can happen, `promise` for what may not.

mod shape;
mod rare;
mod guard;
mod mixer;
mod document;
mod world;
mod action;
mod model;
mod handler;
mod driver;
mod promise;
mod fair;
mod forgotten;
mod graph;
mod explore;
mod story;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use explore::{Found, explore};
use model::{Fault, Model};
use rare::Rare;
use shape::{Budget, SHAPES, Shape, Size};

const USAGE: &str = "usage: cargo model [--small | --deep] [--only CONFIGURATION] [--fault FAULT]";

struct Asked {
    size: Size,
    only: Option<String>,
    fault: Fault,
}

fn main() -> ExitCode {
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            eprintln!("configurations: {}", SHAPES.iter().map(|s| s.name).collect::<Vec<_>>().join(", "));
            eprintln!("faults: {}", Fault::ALL.map(|(name, _)| name).join(", "));
            return ExitCode::from(2);
        }
    };
    println!(
        "Without bound: messages doubled, reordered, held back; leases that run out; clocks apart at the deadline.\nBounded: calls that bring nothing (losses), crashes and commits of unknown outcome (crashes).\n"
    );
    println!("configuration       losses crashes      states       steps  depth     time  documents");
    let mut states = 0;
    for shape in SHAPES.iter().filter(|shape| asked.only.as_ref().is_none_or(|only| *only == shape.name)) {
        match check(shape, &asked) {
            Some(met) => states += met,
            None => return ExitCode::FAILURE,
        }
    }
    println!("\n{states} states. C1 to C10 and P1 to P6 held in each, and everything ends.");
    ExitCode::SUCCESS
}

/// Explores one configuration with each of its budgets, and returns how many states there were if all was well.
fn check(shape: &'static Shape, asked: &Asked) -> Option<usize> {
    let mut model = Model::new(shape, asked.fault);
    let mut states = 0;
    for budget in shape.budgets(asked.size) {
        let found = explore(&mut model, *budget);
        states += found.states;
        print_run(shape, *budget, &found, model.documents.len());
        if let Some(violation) = found.violation {
            println!("\n{} is broken: {}\n", violation.broken.promise, violation.broken.how);
            violation.story.iter().for_each(|line| println!("{line}"));
            return None;
        }
    }
    let missing: Vec<Rare> = model.missing(asked.size);
    for rare in Rare::ALL.iter().filter(|rare| model.seen[**rare as usize] > 0) {
        println!("{:>14} × {}", model.seen[*rare as usize], rare.text());
    }
    for rare in &missing {
        println!("never seen: {}", rare.text());
    }
    missing.is_empty().then_some(states)
}

fn print_run(shape: &Shape, budget: Budget, found: &Found, documents: usize) {
    println!(
        "{:<20} {:>5} {:>7} {:>11} {:>11} {:>6} {:>7.1}s {:>10}",
        shape.name,
        budget.losses,
        budget.crashes,
        found.states,
        found.steps,
        found.depth,
        found.took.as_secs_f64(),
        documents
    );
}

fn asked(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { size: Size::Full, only: None, fault: Fault::None };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--small" => asked.size = Size::Small,
            "--deep" => asked.size = Size::Deep,
            "--only" => {
                let name = value()?;
                if SHAPES.iter().all(|shape| shape.name != name) {
                    return Err(format!("there is no configuration {name:?}"));
                }
                asked.only = Some(name);
            }
            "--fault" => {
                let name = value()?;
                let known = Fault::ALL.iter().find(|(known, _)| *known == name);
                asked.fault = known.ok_or_else(|| format!("there is no fault {name:?}"))?.1;
            }
            _ => return Err(format!("what is {argument:?}?")),
        }
    }
    Ok(asked)
}
