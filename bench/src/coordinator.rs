//! The coordinator as a process: put together as `tcc-server` does it, with a choice of store, and able to say how
//! many commits its log made.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tcc_core::{MemoryStore, Store, Timestamp};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_server::transport::{AllowList, HttpTransport, Transports};
use tcc_server::{Coordinator, Scheduler, Settings, api};

use crate::{Failure, process};

#[derive(Serialize, Deserialize)]
pub(crate) struct Options {
    /// The log; in memory without one.
    pub(crate) log: Option<PathBuf>,
    /// How long what ended is kept; as `tcc-server` does by default if absent.
    pub(crate) retention_ms: Option<u64>,
}

/// Asks for [`Stats`].
pub(crate) const STATS: &str = "stats";

/// What the store did since it was opened, and holds.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Times the log was made durable; `None` for a store that is not. A commit syncs the WAL, and a checkpoint both
    /// the WAL and the file.
    pub(crate) syncs: Option<u64>,
    /// Transactions that are not purged.
    pub(crate) held: u64,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let defaults = Settings::default();
    let retention = options.retention_ms.map_or(defaults.retention, Duration::from_millis);
    let settings = Settings { retention, ..defaults };
    let (log, store): (Option<Arc<SqliteStore>>, Arc<dyn Store>) = match &options.log {
        Some(file) => {
            let log = Arc::new(SqliteStore::open(file, SqliteOptions::default())?);
            (Some(log.clone()), log)
        }
        None => (None, Arc::new(MemoryStore::new(clock()))),
    };
    let transport = HttpTransport::new(AllowList::parse([])?)?;
    let coordinator = Coordinator::new(store.clone(), Transports::new().with(transport), settings);
    let listening = api::Listening::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listening.address().to_string();
    let _scheduler = Scheduler::start(coordinator.clone());
    let router = api::router(coordinator, api::Callers::Anyone);
    tokio::spawn(api::serve(listening, router, std::future::pending(), Duration::ZERO));
    process::answer(&address, async |_| {
        let syncs = log.as_ref().map(|log| {
            let stats = log.stats();
            stats.commits + stats.moves + 2 * stats.checkpoints
        });
        Ok(Stats { syncs, held: store.counts().await?.phases.iter().sum() })
    })
    .await
}

/// Wall time at the start, carried on by the monotonic clock.
fn clock() -> impl Fn() -> Timestamp + Send + Sync {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let opened = Instant::now();
    move || Timestamp::from_millis(0) + (wall + opened.elapsed())
}
