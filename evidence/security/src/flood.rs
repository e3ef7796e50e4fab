//! More connections than the coordinator has places for, none of which says anything.

use std::time::{Duration, Instant};

use tcc_server::limits::{CONNECTIONS, HEAD_TIMEOUT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::coordinator::Coordinator;
use crate::exchange::Request;

/// How many more than there are places.
const MORE: usize = 200;
/// How soon those are served who have a place.
const SOON: Duration = Duration::from_secs(5);

/// What became of it.
pub struct Flooded {
    /// Connections at once.
    pub connections: usize,
    /// How long one who had a place waited at most.
    pub served: Duration,
    /// How long one who came last waited.
    pub newcomer: Duration,
}

/// Floods a coordinator. `None` where this process may not have so many files.
///
/// # Errors
/// Who was not served.
///
/// # Panics
/// When a connection cannot be made for another reason.
pub async fn flood(coordinator: &Coordinator) -> Result<Option<Flooded>, String> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    if files.and_then(|files| files.parse().ok()).unwrap_or(0) < CONNECTIONS + 2 * MORE {
        return Ok(None);
    }
    let mut early = TcpStream::connect(coordinator.address()).await.expect("it listens");
    let (mut idle, mut served) = (Vec::new(), Duration::ZERO);
    let probe = Request::new("GET", "/readyz").bytes();
    for i in 0..CONNECTIONS + MORE {
        match timeout(SOON, TcpStream::connect(coordinator.address())).await {
            Ok(Ok(stream)) => idle.push(stream),
            // The kernel's queue is full, too.
            Ok(Err(_)) | Err(_) => break,
        }
        if i % 50 == 0 {
            let (asked, mut answer) = (Instant::now(), [0; 4096]);
            early.write_all(&probe).await.map_err(|why| why.to_string())?;
            let read = timeout(SOON, early.read(&mut answer)).await;
            let read = read.map_err(|_| "one who had a place is not served".to_owned())?;
            let read = read.map_err(|why| why.to_string())?;
            if !answer[..read].starts_with(b"HTTP/1.1 200") {
                let said = String::from_utf8_lossy(&answer[..read]);
                return Err(format!("one who had a place is told {said:?} at connection {i}"));
            }
            served = served.max(asked.elapsed());
        }
    }
    if idle.len() < CONNECTIONS {
        return Err(format!("there are only {} places", idle.len()));
    }
    let came = Instant::now();
    let newcomer = timeout(HEAD_TIMEOUT + SOON, coordinator.send(&Request::new("GET", "/readyz"))).await;
    match newcomer {
        Ok(answer) if answer.status == 200 => {
            Ok(Some(Flooded { connections: idle.len(), served, newcomer: came.elapsed() }))
        }
        Ok(answer) => Err(format!("a newcomer is answered {}", answer.status)),
        Err(_) => Err("a newcomer is not served once the idle ones must be gone".to_owned()),
    }
}
