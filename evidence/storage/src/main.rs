//! `cargo storage`: cuts the power, makes calls fail, and says what became of the log.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use tcc_storage::cuts::Campaign;
use tcc_storage::inject::{HEAD, Injection};

#[derive(Parser)]
#[command(name = "storage", about)]
struct Flags {
    /// How often the power is cut.
    #[arg(long, default_value_t = 1000)]
    cuts: usize,
    /// Images of each cut.
    #[arg(long, default_value_t = 8)]
    images: usize,
    /// Draws everything; the same seed does the same.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this run of those that the seed gives.
    #[arg(long)]
    run: Option<usize>,
    /// Makes calls fail instead, one kind after the other, and prints what the store did.
    #[arg(long)]
    inject: bool,
    /// With --inject: each fault strikes at each of the first so many calls of its kind.
    #[arg(long, default_value_t = 40)]
    first: u64,
    /// Threads at work.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let seed = flags.seed.unwrap_or_else(|| fastrand::u64(..));
    let start = Instant::now();
    println!("seed {seed}");
    let passed = if flags.inject { inject(seed, flags.first) } else { cut(seed, &flags) };
    println!("{:.1} s", start.elapsed().as_secs_f64());
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cut(seed: u64, flags: &Flags) -> bool {
    let Flags { cuts, images, run: only, threads, .. } = *flags;
    match (Campaign { seed, cuts, images, threads, only, fault: None, restart_fault: None }).run() {
        Ok(tally) => {
            print!("{tally}");
            let never = tally.never();
            for situation in &never {
                println!("NEVER HAPPENED: {situation}");
            }
            never.is_empty() || only.is_some()
        }
        Err(broken) => {
            println!("BROKEN: {broken}");
            let run = broken.run;
            println!("again: cargo storage -- --seed {seed} --cuts {cuts} --images {images} --run {run}");
            false
        }
    }
}

fn inject(seed: u64, first: u64) -> bool {
    println!("{HEAD}");
    match (Injection { seed, first, beyond: 8 }).run(|line| println!("{line}")) {
        Ok(lines) => {
            let never: Vec<_> = lines.iter().filter(|line| line.struck == 0).collect();
            for line in &never {
                println!("NEVER HAPPENED: {}", line.name);
            }
            never.is_empty()
        }
        Err(broken) => {
            println!("BROKEN: {broken}");
            println!("again: cargo storage -- --inject --seed {seed} --first {first}");
            false
        }
    }
}
