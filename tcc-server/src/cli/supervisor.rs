//! Tells the supervisor that started the process how it stands, by the protocol of `sd_notify(3)`: datagrams to the
//! socket that `NOTIFY_SOCKET` names.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

/// Whoever started the process and wants to know; nobody, where nobody said so.
pub(super) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that all is well.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// As the environment says.
    pub(super) fn of_environment() -> Self {
        let watchdog = || {
            let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
            // Meant for another process, which started this one.
            if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
                return None;
            }
            number("WATCHDOG_USEC").filter(|length| *length > 0).map(Duration::from_micros)
        };
        let socket = std::env::var("NOTIFY_SOCKET").ok().and_then(|address| match connect(&address) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, address, "the supervisor cannot be told how this stands");
                None
            }
        });
        Self { watchdog: socket.as_ref().and_then(|_| watchdog()), socket }
    }

    /// Tells it something. Nothing waits for whether it listens.
    pub(super) fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(what.as_bytes())
        {
            tracing::debug!(%error, what, "the supervisor was not told");
        }
    }

    /// Tells it, for as long as tasks are run here, that they are.
    pub(super) async fn is_alive(self: Arc<Self>) {
        let Some(watchdog) = self.watchdog else { return };
        // Twice as often as it is asked for, so that one may be late.
        let mut beat = tokio::time::interval(watchdog / 2);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.tell("WATCHDOG=1");
        }
    }
}

fn connect(address: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.strip_prefix('@') {
        None => socket.connect(address)?,
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(std::io::ErrorKind::Unsupported.into()),
    }
    Ok(socket)
}
