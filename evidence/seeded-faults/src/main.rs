//! `cargo seeded-faults`: the proof that the proof sees.
//!
//! Puts one fault after the other into a copy of our own code: drops a guard, acts before the save, takes a time-out
//! for a refusal. For each it builds and runs the layer of the evidence that is to catch it, and demands that the
//! layer turns red for the right reason: the promise or the test that it names. What does not compile is not caught.
//! Before that every layer has to be green without a fault. A fault that survives makes it all red.
//!
//! The faults stand in `faults`, each as a diff; the layers in `layer`.

mod fault;
mod layer;
mod scratch;
mod table;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::fault::{Catch, Fault};
use crate::layer::{LAYERS, Layer};
use crate::scratch::{Ended, Ran, Scratch};
use crate::table::Line;

/// A layer that goes on for longer has caught nothing.
const LONGEST_RUN: Duration = Duration::from_secs(600);
/// The first builds everything.
const LONGEST_BUILD: Duration = Duration::from_secs(1800);

#[derive(Parser)]
#[command(name = "seeded-faults", about)]
struct Flags {
    /// Prints the faults and who is to catch them, and puts none in.
    #[arg(long)]
    list: bool,
    /// Only the faults whose name or file contains this.
    #[arg(long)]
    only: Option<String>,
    /// Where to copy to and build; kept, so that the next run builds less. Else a temporary directory.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Only the catcher of each fault, not the layers that see it too.
    #[arg(long)]
    first: bool,
    /// Prints the table once more in Markdown.
    #[arg(long)]
    markdown: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(flags: &Flags) -> Result<bool, Box<dyn Error>> {
    let mut faults = fault::all();
    if let Some(only) = &flags.only {
        faults.retain(|fault| fault.name.contains(only.as_str()) || fault.file.contains(only.as_str()));
    }
    if flags.first {
        faults.iter_mut().for_each(|fault| fault.catches.truncate(1));
    }
    if flags.list {
        faults.iter().for_each(|fault| println!("{}", table::listed(fault)));
        return Ok(true);
    }
    if faults.is_empty() {
        return Err("there is no such fault".into());
    }
    let started = Instant::now();
    let scratch = Scratch::copy(flags.scratch.clone())?;
    let needed = |layer: &&Layer| {
        faults.iter().flat_map(|fault| &fault.catches).any(|catch| std::ptr::eq(catch.layer, *layer))
    };
    for layer in LAYERS.iter().filter(needed) {
        sound(&scratch, layer)?;
    }
    let mut lines = Vec::new();
    for fault in &faults {
        let line = try_out(&scratch, fault)?;
        println!("{}", line.text());
        lines.push(line);
    }
    let caught = lines.iter().filter(|line| line.is_caught()).count();
    println!("\n{caught} of {} faults caught, in {} s", lines.len(), started.elapsed().as_secs());
    if flags.markdown {
        println!("\n{}", table::markdown(&lines));
    }
    Ok(caught == lines.len())
}

/// Without a fault a layer has to be green, or its red would say nothing.
fn sound(scratch: &Scratch, layer: &Layer) -> Result<(), Box<dyn Error>> {
    let built = scratch.cargo(&layer.build(), LONGEST_BUILD)?;
    let started = Instant::now();
    let ran = if built.ended == Ended::Green { scratch.cargo(&layer.run(), LONGEST_RUN)? } else { built };
    if ran.ended != Ended::Green {
        let end = table::end_of(&ran.output);
        return Err(format!("{} is {:?} without any fault:\n{end}", layer.name, ran.ended).into());
    }
    if ran.output.contains("test result: ok. 0 passed") {
        return Err(format!("{} runs no test", layer.name).into());
    }
    println!("{:<16} green without a fault, {:>3} s", layer.name, started.elapsed().as_secs());
    Ok(())
}

fn try_out<'a>(scratch: &Scratch, fault: &'a Fault) -> Result<Line<'a>, Box<dyn Error>> {
    let started = Instant::now();
    let put = scratch.put(fault)?;
    let mut seen = Vec::new();
    for catch in &fault.catches {
        seen.push((catch, watch(scratch, catch)?));
    }
    drop(put);
    Ok(Line { fault, seen, took: started.elapsed() })
}

/// What a layer says with a fault in the code, or why it has not caught it.
fn watch(scratch: &Scratch, catch: &Catch) -> Result<Result<String, String>, Box<dyn Error>> {
    let Ran { ended, output } = scratch.cargo(&catch.layer.build(), LONGEST_BUILD)?;
    if ended != Ended::Green {
        return Ok(Err(format!("it does not compile:\n{}", table::end_of(&output))));
    }
    let Ran { ended, output } = scratch.cargo(&catch.layer.run(), LONGEST_RUN)?;
    Ok(match (ended, catch.layer.said(&output, catch.says)) {
        (Ended::Red, Some(said)) => Ok(said),
        (Ended::Red, None) => Err(format!("red, but not for {:?}:\n{}", catch.says, table::end_of(&output))),
        (Ended::Green, _) => Err("green".to_owned()),
        (Ended::Hung, _) => Err("it went on and on".to_owned()),
    })
}
