//! `cargo torture`: ends processes at every durable write, or at random under load, and says what became of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use tcc_torture::cell::Cell;
use tcc_torture::coordinator::COORDINATOR;
use tcc_torture::service::SERVICE;
use tcc_torture::storm::Storm;
use tcc_torture::{cells, service};

#[derive(Parser)]
#[command(name = "torture", about)]
struct Flags {
    /// Prints the names of the crash points.
    #[arg(long)]
    list: bool,
    /// Only crash points whose name holds this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Crash points at once.
    #[arg(long, default_value_t = 4)]
    at_once: usize,
    /// Kills at random under load instead, so often.
    #[arg(long)]
    cycles: Option<u64>,
    /// Draws what is killed when, and the transactions; what happens between depends on the machine.
    #[arg(long)]
    seed: Option<u64>,
    /// With --cycles: initiators at work.
    #[arg(long, default_value_t = 12)]
    initiators: u64,
    /// With --cycles: kills until everything is let finish and all books are checked.
    #[arg(long, default_value_t = 100)]
    audit_every: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|argument| argument.to_str()) {
        Some(COORDINATOR) => {
            tcc_tests::die_with_the_test();
            return tcc_server::cli::main(arguments.into_iter().skip(1));
        }
        Some(SERVICE) => return service::main(arguments.get(2).map(PathBuf::from)),
        _ => {}
    }
    let flags = Flags::parse();
    let program = std::env::current_exe().expect("this program");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let start = Instant::now();
    let passed = runtime.block_on(async {
        match flags.cycles {
            Some(cycles) => rage(&program, cycles, &flags).await,
            None => torture(&program, &flags).await,
        }
    });
    println!("{:.1} s", start.elapsed().as_secs_f64());
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn torture(program: &Path, flags: &Flags) -> bool {
    let chosen: Vec<Cell> =
        Cell::all().into_iter().filter(|cell| cell.to_string().contains(&flags.only)).collect();
    if flags.list {
        for cell in &chosen {
            println!("{cell}{}", cell.why_none().map(|why| format!("  ({why})")).unwrap_or_default());
        }
    }
    let nowhere = chosen.iter().filter(|cell| cell.why_none().is_some()).count();
    println!("{:>8}  crash points, and {nowhere} where there must be none", chosen.len() - nowhere);
    if flags.list {
        return true;
    }
    let broken = cells::run(program, chosen.clone(), flags.at_once).await;
    for (cell, why) in &broken {
        println!("BROKEN: {cell}: {why}");
        println!("again: cargo torture -- --only {cell}");
    }
    println!("{:>8}  broken", broken.len());
    broken.is_empty() && !chosen.is_empty()
}

async fn rage(program: &Path, cycles: u64, flags: &Flags) -> bool {
    let seed = flags.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let Flags { initiators, audit_every, .. } = *flags;
    let storm = Storm { program: program.to_owned(), seed, cycles, initiators, audit_every };
    let begun = Instant::now();
    let note = |tally: &tcc_torture::tally::Tally| {
        let (seconds, transactions) = (begun.elapsed().as_secs(), tally.transactions());
        println!("after {seconds} s: {} kills, {transactions} transactions in order", tally.cycles);
    };
    match storm.rage(note).await {
        Ok(tally) => {
            print!("{tally}");
            let never = tally.never();
            for situation in &never {
                println!("NEVER HAPPENED: {situation}");
            }
            never.is_empty()
        }
        Err(why) => {
            println!("BROKEN: {why}");
            println!("again: cargo torture -- --cycles {cycles} --seed {seed}");
            false
        }
    }
}
