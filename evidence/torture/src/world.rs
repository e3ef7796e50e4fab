//! A coordinator, two services, and whoever asks them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use crate::Broken;
use crate::answers::Answers;
use crate::books::Audit;
use crate::coordinator::Coordinator;
use crate::host::Host;
use crate::initiator::Initiator;

/// Where all of it happens.
pub struct World {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// The services.
    pub hosts: [Host; 2],
    /// What is checked.
    pub audit: Audit,
    /// Whoever asks.
    pub initiator: Initiator,
    _directory: TempDir,
}

impl World {
    /// With services that run, and a coordinator that does not run yet.
    ///
    /// # Errors
    /// When the books of the services cannot be opened.
    ///
    /// # Panics
    /// When no process can be started.
    pub async fn new(program: PathBuf, flags: &[&str]) -> Result<Self, Broken> {
        let directory = tempfile::Builder::new().prefix("tcc-torture-").tempdir().expect("a directory");
        let place = |name: &str| directory.path().join(name);
        std::fs::create_dir(place("coordinator")).expect("a new directory");
        let (coordinator, first, second) = tokio::join!(
            Coordinator::asleep(program.clone(), place("coordinator"), flags),
            Host::open(program.clone(), place("first")),
            Host::open(program.clone(), place("second")),
        );
        let hosts = [first, second];
        let audit = Audit::new(&hosts)?;
        let initiator = Initiator::new(coordinator.address(), Arc::new(Answers::default()));
        Ok(Self { coordinator, hosts, audit, initiator, _directory: directory })
    }

    /// Where the services are called.
    #[must_use]
    pub fn services(&self) -> [SocketAddr; 2] {
        [self.hosts[0].address(), self.hosts[1].address()]
    }

    /// How often services ended themselves.
    #[must_use]
    pub fn deaths(&self) -> usize {
        self.hosts.iter().map(Host::deaths).sum()
    }

    /// What everybody logged last.
    #[must_use]
    pub fn logs(&self) -> String {
        let [first, second] = &self.hosts;
        format!(
            "coordinator:\n{}\nfirst:\n{}\nsecond:\n{}",
            self.coordinator.log(),
            first.log(),
            second.log()
        )
    }
}
