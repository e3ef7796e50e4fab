//! A coordinator, two banks, and what has to be so when all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tcc_client::Decision;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::bank::{Bank, Books, INITIAL, Site};
use crate::coordinator::Coordinator;

/// Longer than anything takes on a machine that is busy.
pub(crate) const LONG: Duration = Duration::from_secs(45);

/// What a transfer moves from the first bank to the second.
pub(crate) const AMOUNT: i64 = 10;

/// Where a test happens.
pub(crate) struct World {
    pub(crate) coordinator: Coordinator,
    /// The one that pays, and the one that is paid.
    pub(crate) banks: [Bank; 2],
    /// Removed when all of them are gone.
    directory: Arc<TempDir>,
}

impl World {
    /// With a coordinator that runs.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With a coordinator that was given these flags.
    pub(crate) async fn with(flags: &[&str]) -> Self {
        let mut world = Self::asleep(flags).await;
        world.coordinator.start().await;
        world
    }

    /// With a coordinator that will end itself at a point.
    pub(crate) async fn doomed(at: &str) -> Self {
        let mut world = Self::asleep(&[]).await;
        world.coordinator.start_doomed(at).await;
        world
    }

    /// With a coordinator that another program starts.
    pub(crate) async fn through(program: &[&str], flags: &[&str]) -> Self {
        let mut world = Self::asleep(flags).await;
        world.coordinator.through(program);
        world.coordinator.start().await;
        world
    }

    /// With a coordinator that does not run yet.
    pub(crate) async fn asleep(flags: &[&str]) -> Self {
        Self::of(flags, [Site::default(), Site::default()]).await
    }

    /// The same, with the banks in these places.
    pub(crate) async fn of(flags: &[&str], [first, second]: [Site; 2]) -> Self {
        let directory = Arc::new(tempfile::tempdir().expect("a directory"));
        let (coordinator, first, second) = tokio::join!(
            Coordinator::asleep(directory.clone(), flags),
            Bank::open(directory.path().join("first"), first),
            Bank::open(directory.path().join("second"), second),
        );
        Self { coordinator, banks: [first, second], directory }
    }

    /// Waits for a transaction's end, and checks that it is the one decided on and that the books agree.
    pub(crate) async fn ends(&self, gid: &str, decision: Decision) {
        let view = self.coordinator.end(gid).await;
        assert_eq!(view["decision"], json!(decision.as_str()), "{view}");
        let states = self.states();
        let branches = states.get(gid).cloned().unwrap_or_default();
        match decision {
            Decision::Confirm => {
                let confirmed = branches.iter().filter(|state| *state == "confirmed").count();
                assert_eq!((confirmed, branches.len()), (2, 2), "{branches:?}");
            }
            Decision::Cancel => assert!(!branches.contains(&"confirmed".to_owned()), "{branches:?}"),
        }
        self.balance();
    }

    /// Checks that every transaction happened in both banks or in none, and that no money came, went or is held.
    pub(crate) fn balance(&self) {
        let mut transfers = 0;
        for (gid, branches) in self.states() {
            let distinct: BTreeSet<&str> = branches.iter().map(String::as_str).collect();
            assert!(!distinct.contains("tried"), "{gid} is not over: {branches:?}");
            if distinct.contains("confirmed") {
                assert_eq!(
                    (distinct.len(), branches.len()),
                    (1, 2),
                    "{gid} happened by halves: {branches:?}"
                );
                transfers += 1;
            }
        }
        let moved = transfers * AMOUNT;
        let with = |available| Books { available, frozen: 0, incoming: 0 };
        assert_eq!(self.banks[0].books(), with(INITIAL - moved), "after {transfers} transfers");
        assert_eq!(self.banks[1].books(), with(INITIAL + moved), "after {transfers} transfers");
    }

    /// The states of each transaction's branches in the guards of the banks.
    pub(crate) fn states(&self) -> BTreeMap<String, Vec<String>> {
        let mut states = BTreeMap::<String, Vec<String>>::new();
        for ((gid, _), state) in self.banks.iter().flat_map(Bank::guard) {
            states.entry(gid).or_default().push(state);
        }
        states
    }

    /// Waits until nothing is on its way to a bank any more.
    pub(crate) async fn silence(&self) {
        let silent = || self.banks.iter().all(|bank| bank.proxy.under_way() == 0);
        eventually("silence", async || silent().then_some(())).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the coordinator in {}:\n{}", self.directory.path().display(), self.coordinator.log());
            for bank in &self.banks {
                println!("a bank: {}", bank.describe());
            }
        }
    }
}

/// Looks again and again until something is so, but not for ever.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "it never came to {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The last lines of a file.
pub(crate) fn tail(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
