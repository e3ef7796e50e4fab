//! Measures the coordinator beside its lower bounds and its peers: one run, one machine, in turn. See `README.md`.
//!
//! Coordinator, participants and load are processes of their own, and every measurement has its own log.

mod process;
mod machine;
mod client;
mod coordinator;
mod participant;
mod bounds;
mod load;
mod flags;
mod sample;
mod row;
mod measure;
mod ratios;
mod table;
mod plot;
mod growth;
mod instructions;
mod profile;

use std::process::ExitCode;

use clap::Parser;

use self::flags::Flags;
use self::process::Role;

/// The one of `tcc-server`. A service with the coordinator embedded has the choice.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = match &arguments[..] {
        [_, role, what] if role == process::ROLE => {
            serde_json::from_str(what).map_err(Failure::from).and_then(play)
        }
        _ => {
            let flags = Flags::parse();
            on(tokio::runtime::Builder::new_multi_thread(), run(flags))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcc-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Is one of the processes that this one starts.
fn play(role: Role) -> Result<(), Failure> {
    use tokio::runtime::Builder;
    match role {
        Role::Coordinator(options) => on(Builder::new_multi_thread(), coordinator::run(options)),
        Role::Participant(options) => on(Builder::new_current_thread(), participant::run(options)),
        Role::Relay(options) => on(Builder::new_multi_thread(), bounds::relay::run(options)),
        Role::Load(spec) => on(Builder::new_multi_thread(), load::run(spec)),
    }
}

fn on(
    mut runtime: tokio::runtime::Builder,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = runtime.enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A blocking read of stdin would be waited for.
    runtime.shutdown_background();
    outcome
}

async fn run(flags: Flags) -> Result<(), Failure> {
    let machine = machine::Machine::look();
    table::machine(&machine, &flags);
    if flags.instructions {
        return instructions::run(&flags).await;
    }
    if flags.growth {
        return growth::run(&flags).await;
    }
    let rows = measure::run(&flags).await?;
    table::rows(&rows, &flags);
    table::ratios(&ratios::of(&rows), &flags);
    if let Some(folder) = &flags.plots {
        plot::rows(&rows, folder)?;
    }
    Ok(())
}
