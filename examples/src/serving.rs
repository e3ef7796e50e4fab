//! What several examples are served by: a port of its own for each service, and a coordinator in the same process.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tcc_client::BoxError;
use tcc_server::api::{self, Callers, Listening};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_server::transport::{AllowList, HttpTransport, Transports};
use tcc_server::{Coordinator, Scheduler, Settings};

/// Serves this on a free port. Returns its URL.
///
/// # Errors
/// When there is no port.
pub async fn serve(router: Router) -> Result<String, BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let at = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(at)
}

/// Starts a coordinator with its log in this folder; its API answers until the future is done. Returns the URL of the
/// API, and what drives the transactions.
///
/// # Errors
/// When a file or a port cannot be opened.
pub async fn coordinator(
    folder: &Path,
    until: impl Future<Output = ()> + Send + 'static,
) -> Result<(String, Scheduler), BoxError> {
    let store = SqliteStore::open(folder.join("tcc.db"), SqliteOptions::default())?;
    let transports = Transports::new().with(HttpTransport::new(AllowList::default())?);
    let coordinator = Coordinator::new(Arc::new(store), transports, Settings::default());
    let scheduler = Scheduler::start(coordinator.clone());
    let listening = Listening::on("127.0.0.1:0".parse()?).await?;
    let at = format!("http://{}", listening.address());
    let router = api::router(coordinator, Callers::OfThisMachine);
    tokio::spawn(api::serve(listening, router, until, Duration::ZERO));
    Ok((at, scheduler))
}
