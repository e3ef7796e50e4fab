//! The accept loop: `axum::serve` has no time-out for the head of a request nor for whoever does not read the answer,
//! and no bound on connections, so a few slow callers could starve all others. This one has them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::taken::Taken;
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::limits;

/// A socket that is open and not yet served.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Listening {
    /// Opens a port.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn on(address: SocketAddr) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As the library does for a listener of its own; that one has a queue of 128.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(limits::CONNECTIONS_WAITING)?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    /// The same, in TLS alone.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        tls.follow();
        Self { tls: Some(tls), ..self }
    }

    /// The address, with the port that was chosen for port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until `stop` is over, then lets the requests under way come to an end, at most for `drain`.
pub async fn serve(listening: Listening, router: Router, stop: impl Future<Output = ()>, drain: Duration) {
    let connections = Arc::new(Semaphore::new(limits::CONNECTIONS));
    let graceful = GracefulShutdown::new();
    #[cfg(feature = "tls")]
    let stopping = tokio::sync::watch::Sender::new(());
    let mut stop = std::pin::pin!(stop);
    loop {
        // A connection waits in the kernel's queue, bounded too, until it has a place.
        let place = tokio::select! {
            place = connections.clone().acquire_owned() => place.expect("never closed"),
            () = &mut stop => break,
        };
        let stream = tokio::select! {
            accepted = listening.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, or a caller that hung up: neither ends the server.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let _ = stream.set_nodelay(true);
        let connection = Connection { router: router.clone(), watcher: graceful.watcher(), _place: place };
        #[cfg(feature = "tls")]
        if let Some(tls) = listening.tls.clone() {
            let mut stopping = stopping.subscribe();
            tokio::spawn(async move {
                // Nobody has asked for anything yet, so nobody is waited for when it ends.
                let stream = tokio::select! {
                    stream = tls.accept(Taken::new(stream)) => stream,
                    _ = stopping.changed() => None,
                };
                if let Some(stream) = stream {
                    connection.serve(stream).await;
                }
            });
            continue;
        }
        tokio::spawn(connection.serve(Taken::new(stream)));
    }
    #[cfg(feature = "tls")]
    stopping.send_replace(());
    drop(listening);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the time to drain was over");
    }
}

/// A connection that has its place, and nothing was read of it yet.
struct Connection {
    router: Router,
    watcher: Watcher,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEAD_TIMEOUT)
            .max_headers(limits::HEAD_LINES)
            .max_buf_size(limits::HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
