//! The demo: real processes, real HTTP, real databases, and SIGKILL.
//!
//! Read in this order:
//!
//! - `plan`: who orders what, and where somebody is killed;
//! - `process`, `role`: a process of the shop, from outside and from inside;
//! - `shop`: customers order, the scenes are played;
//! - `books`: what must be true in the end;
//! - `event`, `report`, `screen`: what a person sees of it.

mod books;
mod event;
mod plan;
mod process;
mod report;
mod role;
mod screen;
mod shop;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tcc_client::BoxError;
use tcc_server::transport::{AllowList, HttpTransport};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::books::Books;
use self::plan::Plan;
use self::report::Report;
use self::screen::{Aside, Screen};
use self::shop::Shop;

const EXIT_USAGE: u8 = 2;
/// What shells say of a process that SIGINT ended,
const EXIT_INTERRUPTED: u8 = 130;
/// and of one that SIGTERM did.
const EXIT_TERMINATED: u8 = 143;

/// Orders that happen everywhere or nowhere, while processes are killed.
#[derive(Parser)]
#[command(name = "cargo demo --", disable_version_flag = true)]
struct Options {
    /// How many orders there are.
    #[arg(long, value_name = "N", default_value = "400", value_parser = clap::value_parser!(u32).range(10..=9999))]
    orders: u32,

    /// The same seed gives the same orders; random if nothing is said.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Keeps the databases and the logs of the processes.
    #[arg(long)]
    keep: bool,

    /// Writes one line of JSON to standard output, and the rest to standard error.
    #[arg(long)]
    json: bool,
}

/// Runs the demo, or one of its processes.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    install_tls_provider();
    if arguments.get(1).is_some_and(|first| first == "--as") {
        return role::main(&arguments);
    }
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{}", error.to_string().lines().next().unwrap_or_default());
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&options)));
    ended.unwrap_or_else(|error| {
        eprintln!("the demo failed: {error}");
        ExitCode::FAILURE
    })
}

async fn run(options: &Options) -> Result<ExitCode, BoxError> {
    let mut folder = tempfile::Builder::new().prefix("tcc-demo-").tempdir()?;
    folder.disable_cleanup(options.keep);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Whichever way this ends: the processes are dropped with the story, and so killed, before the folder is.
    let ended = tokio::select! {
        ended = story(options, folder.path()) => ended,
        _ = interrupt.recv() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(EXIT_TERMINATED)),
    };
    if options.keep {
        eprintln!("databases and logs: {}", folder.path().display());
    }
    ended
}

async fn story(options: &Options, folder: &Path) -> Result<ExitCode, BoxError> {
    let screen = Screen::new(if options.json { Aside::Yes } else { Aside::No });
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(1..10_000));
    let plan = Plan::new(options.orders, seed);
    let before = Books::open(folder, &plan)?;

    let (sender, receiver) = mpsc::unbounded_channel();
    let mut shop = Shop::open(folder, &plan.scenes, &sender).await?;
    let title = format!("{} orders, seed {seed}", options.orders);
    screen.say(&format!("\n{}\n", screen.ink.bold(&title)));
    screen.say("  Each order takes goods from the inventory and money from a customer, or neither.\n");
    shop.introduce(&screen);
    let (outcomes, events) = shop.run(&plan, (sender, receiver), &screen).await?;
    screen.end();
    let coordinator_kills = shop.coordinator.kills;
    let participant_kills = shop.payment.kills + shop.inventory.kills;
    drop(shop);

    let after = Books::read(folder)?;
    let report =
        Report { plan: &plan, before, after, outcomes, events, coordinator_kills, participant_kills };
    report.print(&screen);
    if options.json {
        println!("{}", report.json());
    }
    let balanced = report.checks().iter().all(|check| check.holds);
    Ok(if balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where another package that is built along gave reqwest its TLS, as `cargo test` over all of them does, no client
/// of it can be made before a provider is installed, even for `http` alone. The server's transport installs one.
fn install_tls_provider() {
    let _ = HttpTransport::new(AllowList::default());
}
