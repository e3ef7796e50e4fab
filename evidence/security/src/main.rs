//! `cargo security`: attacks a coordinator, and says what it answered.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use tcc_security::campaign::{Campaign, patience};
use tcc_security::coordinator::{COORDINATOR, Coordinator};
use tcc_security::flood::{self, Flooded};
use tcc_security::{lab, parsers};

#[derive(Parser)]
#[command(name = "security", about)]
struct Flags {
    /// How many hostile requests are sent, and how many inputs each parser is given.
    #[arg(long, default_value_t = 50_000)]
    cases: u64,
    /// Draws everything; the same seed does the same.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this case of those that the seed gives.
    #[arg(long)]
    case: Option<u64>,
    /// Requests at once.
    #[arg(long, default_value_t = 16)]
    at_once: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|argument| argument.to_str()) {
        Some(COORDINATOR) => {
            tcc_tests::die_with_the_test();
            return tcc_server::cli::main(arguments.into_iter().skip(1));
        }
        Some(lab::LAB) => return lab::main(arguments.get(2)),
        _ => {}
    }
    let flags = Flags::parse();
    let seed = flags.seed.unwrap_or_else(|| fastrand::u64(..));
    let start = Instant::now();
    println!("seed {seed}");
    let requests = requests(&flags, seed);
    let rest = flags.case.is_some() || (flood() & parsers(&flags, seed));
    println!("{:.1} s", start.elapsed().as_secs_f64());
    if requests && rest { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn requests(flags: &Flags, seed: u64) -> bool {
    let program = std::env::current_exe().expect("this program");
    let Flags { cases, case: only, at_once, .. } = *flags;
    let campaign = Campaign { program, seed, cases, only, at_once };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let result = runtime.block_on(async { tokio::time::timeout(patience(cases), campaign.run()).await });
    let Ok(tally) = result else {
        println!("BROKEN: it is not over after {:?}", patience(cases));
        return false;
    };
    print!("{tally}");
    let never = if only.is_some() { Vec::new() } else { [tally.never(), tally.unheard()].concat() };
    for situation in &never {
        println!("NEVER HAPPENED: {situation}");
    }
    for broken in &tally.broken {
        println!("BROKEN: {broken}");
        if let Some(case) = broken.case {
            println!("again: cargo security -- --seed {seed} --cases {cases} --case {case}");
        }
    }
    never.is_empty() && tally.broken.is_empty()
}

fn flood() -> bool {
    let program = std::env::current_exe().expect("this program");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let result = runtime.block_on(async {
        let coordinator = Coordinator::start(&program, &[]).await;
        flood::flood(&coordinator).await
    });
    match result {
        Ok(Some(Flooded { connections, served, newcomer })) => {
            println!(
                "{connections:>8}  connections at once: who had a place waited {served:?}, a newcomer {newcomer:?}"
            );
            true
        }
        Ok(None) => {
            println!("NEVER HAPPENED: a flood of connections, for this process may not have so many files");
            false
        }
        Err(why) => {
            println!("BROKEN: a flood of connections: {why}");
            false
        }
    }
}

fn parsers(flags: &Flags, seed: u64) -> bool {
    let cases = u32::try_from(flags.cases).unwrap_or(u32::MAX);
    let mut passed = true;
    for parser in parsers::ALL {
        match (parser.attack)(cases, seed) {
            Ok(()) => println!("{cases:>8}  inputs to {}", parser.name),
            Err(why) => {
                println!("BROKEN: {}: {why}", parser.name);
                passed = false;
            }
        }
    }
    passed
}
