//! Measures the coordinator: two-branch TCCs tried by the coordinator, with participants that do nothing.
//!
//! Coordinator, participants and load are processes of their own. Every run has its own log in a temporary folder.
//!
//! ```text
//! cargo tcc-bench                      # 1 and 64 in flight
//! cargo tcc-bench -- --in-flight 16 --seconds 10
//! ```

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use clap::Parser;

#[derive(Parser)]
#[command(name = "tcc-bench", about)]
struct Flags {
    /// Transactions in flight; one row each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    in_flight: Vec<usize>,
    /// How long each row is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Branches of a transaction.
    #[arg(long, default_value_t = 2)]
    branches: usize,
}

/// The processes this one starts, by the first argument.
const COORDINATOR: &str = "coordinator";
const PARTICIPANT: &str = "participant";

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|argument| argument.to_str()) {
        Some(COORDINATOR) => return tcc_server::cli::main(arguments.into_iter().skip(1)),
        Some(PARTICIPANT) => return run(participant()),
        _ => {}
    }
    let flags = Flags::parse();
    run(measure(flags))
}

fn run(work: impl Future<Output = Result<(), Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcc-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers every call at once.
async fn participant() -> Result<(), Failure> {
    let router = Router::new().fallback(post(async || ()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

/// A process that says where it listens, ended with this handle.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(name: &str, arguments: &[OsString]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(name)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").ok_or("a process did not start")?.to_owned();
        Ok(Self { child, address })
    }

    /// User and system time so far, in milliseconds.
    fn cpu_ms(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        (ticks(11) + ticks(12)) * 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn measure(flags: Flags) -> Result<(), Failure> {
    println!(
        "{:>9} {:>10} {:>9} {:>9} {:>9} {:>14}",
        "in flight", "per second", "p50 ms", "p99 ms", "max ms", "CPU ms/tx"
    );
    for in_flight in flags.in_flight {
        let folder = tempfile::tempdir()?;
        let participant = Process::start(PARTICIPANT, &[])?;
        let arguments = [
            "--listen".into(),
            "127.0.0.1:0".into(),
            "--db".into(),
            folder.path().join("log.db").into_os_string(),
            "--log".into(),
            "warn".into(),
        ];
        let coordinator = Process::start(COORDINATOR, &arguments)?;
        let load = Load::new(&coordinator.address, &participant.address, flags.branches)?;
        load.clone().run(in_flight, Duration::from_secs(1)).await?;
        let cpu = coordinator.cpu_ms();
        let started = Instant::now();
        let mut latencies = load.run(in_flight, Duration::from_secs(flags.seconds)).await?;
        let elapsed = started.elapsed();
        latencies.sort_unstable();
        let at = |share: f64| {
            let i = ((latencies.len() - 1) as f64 * share) as usize;
            latencies[i].as_secs_f64() * 1000.0
        };
        let done = latencies.len() as f64;
        println!(
            "{in_flight:>9} {:>10.0} {:>9.2} {:>9.2} {:>9.2} {:>14.3}",
            done / elapsed.as_secs_f64(),
            at(0.5),
            at(0.99),
            at(1.0),
            (coordinator.cpu_ms() - cpu) as f64 / done
        );
    }
    Ok(())
}

/// Begins transactions and waits for the end of each.
struct Load {
    client: reqwest::Client,
    url: String,
    body: String,
    next: AtomicU64,
}

impl Load {
    fn new(coordinator: &str, participant: &str, branches: usize) -> Result<Arc<Self>, Failure> {
        let branches: Vec<_> = (0..branches)
            .map(|i| {
                serde_json::json!({"id": format!("b{i}"), "at": format!("http://{participant}/{i}"),
                                        "payload": {"account": "alice", "amount": 30}})
            })
            .collect();
        Ok(Arc::new(Self {
            client: reqwest::Client::builder().no_proxy().build()?,
            url: format!("http://{coordinator}/v1/transactions?wait=end"),
            body: serde_json::to_string(&branches)?,
            next: AtomicU64::new(0),
        }))
    }

    async fn run(self: Arc<Self>, in_flight: usize, length: Duration) -> Result<Vec<Duration>, Failure> {
        let end = Instant::now() + length;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..in_flight {
            let load = self.clone();
            tasks.spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    latencies.push(load.one().await?);
                }
                Ok::<_, Failure>(latencies)
            });
        }
        let mut all = Vec::new();
        while let Some(latencies) = tasks.join_next().await {
            all.extend(latencies??);
        }
        Ok(all)
    }

    async fn one(&self) -> Result<Duration, Failure> {
        let gid = format!("bench/{}", self.next.fetch_add(1, Ordering::Relaxed));
        let body = format!(r#"{{"gid":"{gid}","branches":{}}}"#, self.body);
        let started = Instant::now();
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status != 201 || !text.contains(r#""phase":"Confirmed""#) {
            return Err(format!("{gid} was answered {status}: {text}").into());
        }
        Ok(started.elapsed())
    }
}
