//! `cargo sim -- --transactions N [--seed S]`

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use tcc_sim::{Break, Fault, Options, replay, run, story, table};

const USAGE: &str = "\
usage: cargo sim -- [--transactions N] [--seed S] [--threads T] [--world-size N]
                    [--without FAULT]... [--break NAME] [--replay]

  --transactions N   how many, in whole worlds (20000)
  --seed S           what everything is drawn from; drawn and printed if absent
  --threads T        each runs worlds of its own (1)
  --world-size N     transactions in one world (200)
  --without FAULT    switches a fault off
  --break NAME       breaks the environment on purpose: the run must then fail
  --replay           prints the log of the world of this very seed";

/// Transactions above which a fault or a rare thing that never came about makes a run red.
const ENOUGH: usize = 200_000;
/// Transactions after which a sign of life is given.
const SIGN_OF_LIFE: usize = 250_000;

fn main() -> ExitCode {
    let (options, wants_log) = match arguments() {
        Ok(options) => options,
        Err(mistake) => {
            eprintln!("{mistake}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", options.seed);
    if wants_log {
        print!("{}", replay(&options, options.seed));
        return ExitCode::SUCCESS;
    }
    let told = AtomicUsize::new(0);
    let summary = run(&options, |transactions| {
        let signs = transactions / SIGN_OF_LIFE;
        if told.fetch_max(signs, Ordering::Relaxed) < signs {
            eprintln!("{transactions} transactions");
        }
    });
    print!("{}", table(&summary));
    if let Some(failure) = &summary.failure {
        println!("\nseed {}: {}\n\nlooking for a shorter story", failure.seed, failure.why);
        match story(&options, failure.seed) {
            Some(story) => println!("\n{story}"),
            None => {
                println!("the world of this seed does not fail again: the simulator is not deterministic")
            }
        }
        let (seed, size) = (failure.seed, options.world_size);
        println!("again: cargo sim -- --seed {seed} --transactions {size} --world-size {size}");
        println!("all of it: cargo sim -- --seed {seed} --world-size {size} --replay");
        return ExitCode::FAILURE;
    }
    let never = summary.never();
    if summary.transactions >= ENOUGH && !never.is_empty() {
        println!("\nnever: {}", never.join("; "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn arguments() -> Result<(Options, bool), String> {
    let mut options = Options { seed: fastrand::u64(..), ..Options::default() };
    let mut wants_log = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--replay" {
            wants_log = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{argument} needs a number"));
        let size = || value.parse::<usize>().map_err(|_| format!("{argument} needs a number"));
        match argument.as_str() {
            "--transactions" => options.transactions = size()?,
            "--seed" => options.seed = number()?,
            "--threads" => options.threads = size()?,
            "--world-size" => options.world_size = size()?.max(1),
            "--without" => {
                options.without.push(Fault::named(&value).ok_or_else(|| format!("no fault {value:?}"))?);
            }
            "--break" => {
                let broken = Break::named(&value).ok_or_else(|| format!("nothing to break: {value:?}"))?;
                options.broken = Some(broken);
            }
            _ => return Err(format!("no option {argument}")),
        }
    }
    Ok((options, wants_log))
}
