//! The coordinator's clock is set while it runs, and while it does not: F13, F14. What it promises (C10): clocks decide
//! only when, and while a process runs a length is a length, whatever is done to the system's clock.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tcc_client::Decision::Confirm;
use tcc_tests::skipped;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer, all_ended, load};
use crate::world::{World, eventually};

/// A clock that a test sets, for a process that is started through it.
struct Clock {
    library: PathBuf,
    directory: TempDir,
}

impl Clock {
    /// One that shows the time; `None` where there is no libfaketime, after that was said.
    fn new() -> Option<Self> {
        let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(|folder| folder.ok().map(|f| f.path()));
        let library = |folder: PathBuf| folder.join("faketime/libfaketimeMT.so.1");
        let library = folders.map(library).find(|library| library.exists());
        let Some(library) = library else {
            skipped("libfaketime is not installed (no /usr/lib/*/faketime/libfaketimeMT.so.1)");
            return None;
        };
        let clock = Self { library, directory: tempfile::tempdir().expect("a directory") };
        clock.set("+0");
        Some(clock)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sets it, so far from the true time. The monotonic clock goes on as it does in a system whose clock is set.
    fn set(&self, offset: &str) {
        std::fs::write(self.file("new"), format!("{offset}\n")).expect("a file");
        // It is read at any moment, and then is the one or the other.
        std::fs::rename(self.file("new"), self.file("offset")).expect("a file");
    }

    async fn world(&self, flags: &[&str]) -> World {
        let setting = |name: &str, value: &Path| format!("{name}={}", value.display());
        let library = setting("LD_PRELOAD", &self.library);
        let file = setting("FAKETIME_TIMESTAMP_FILE", &self.file("offset"));
        let rest = ["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"];
        World::through(&["env", &library, &file, rest[0], rest[1], rest[2]], flags).await
    }
}

/// By how much the coordinator's clock is ahead of ours, by the last line it logged, in hours.
fn ahead(world: &World) -> f64 {
    let log = world.coordinator.log();
    // The last one may be half written yet.
    let line = log.lines().rev().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let line = line.expect("a line");
    let theirs = line["timestamp"].as_str().and_then(|text| humantime::parse_rfc3339(text).ok());
    let theirs = theirs.expect("a moment").duration_since(SystemTime::UNIX_EPOCH).expect("since 1970");
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("since 1970");
    (theirs.as_secs_f64() - ours.as_secs_f64()) / 3600.0
}

/// Fails if the coordinator, left alone, computes for most of the time.
async fn is_at_rest(world: &World) {
    let spent = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", world.coordinator.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        // utime and stime, in hundredths of a second.
        fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum::<u64>()
    };
    let (before, begun) = (spent(), Instant::now());
    sleep(Duration::from_millis(1500)).await;
    let (spent, elapsed) = (spent() - before, begun.elapsed().as_millis() / 10);
    assert!(u128::from(spent) < elapsed / 2, "{spent} of {elapsed} hundredths of a second: a busy loop");
}

/// A transfer that is tried when the clock is set is confirmed afterwards, and another has its deadline when its time
/// has passed, neither sooner nor later.
async fn set_while_it_runs(offset: &str, hours: f64) {
    let Some(clock) = Clock::new() else { return };
    let world = clock.world(&[]).await;
    let short = json!({"gid": "short", "decider": "initiator", "timeout_ms": 3000});
    let begun = Instant::now();
    assert_eq!(world.coordinator.ask("POST", "", Some(short)).await.0, 201);
    let transfer = Transfer::new(ByTheInitiator).patient();
    let [from, to] = transfer.branches(&world.banks);
    let client = world.coordinator.client();
    let hour = Duration::from_secs(3600);
    let run = client.transaction(transfer.gid.parse().expect("a gid")).timeout(hour).run(async |tcc| {
        tcc.try_(from).await?;
        clock.set(offset);
        let another = Transfer::new(ByTheCoordinator).patient();
        assert_eq!(another.initiator(&world).run().await, Confirm, "others are served");
        assert!((ahead(&world) - hours).abs() < 0.5, "the clock was not set: {}", ahead(&world));
        assert_eq!(world.coordinator.end("short").await["reason"], json!("the deadline passed"));
        assert!(begun.elapsed() >= Duration::from_secs(3), "it had three seconds");
        is_at_rest(&world).await;
        let (_, view) = world.coordinator.view(&transfer.gid).await;
        assert_eq!(view["phase"], json!("Trying"), "{view}");
        let left = view["deadline_ms"].as_u64().expect("a length");
        assert!((1..=3_600_000).contains(&left), "{view}");
        tcc.try_(to).await?;
        Ok(())
    });
    run.await.expect("it is confirmed");
    world.ends(&transfer.gid, Confirm).await;
}

#[tokio::test]
async fn f13_three_days_forward_while_it_runs_nothing_ends_before_its_time() {
    set_while_it_runs("+3d", 72.0).await;
}

#[tokio::test]
async fn f14_two_hours_back_while_it_runs_nothing_ends_after_its_time() {
    set_while_it_runs("-2h", -2.0).await;
}

#[tokio::test]
async fn f14_jumps_again_and_again_change_no_transfer() {
    let Some(clock) = Clock::new() else { return };
    let world = clock.world(&[]).await;
    let apart = Duration::from_millis(30);
    let (transfers, mut running) = load(&world, 30, apart, Transfer::patient);
    let offsets = ["+3d", "-2h", "+5m", "-5m", "+400d", "-300d"];
    let mut next = offsets.iter().cycle();
    while !running.is_empty() {
        clock.set(next.next().expect("a cycle"));
        sleep(Duration::from_millis(15)).await;
        while running.try_join_next().is_some() {}
    }
    all_ended(&world, &transfers).await;
    is_at_rest(&world).await;
}

/// What was decided stays so; what was not is decided by its deadline, if that is over by the clock of the new process.
#[tokio::test]
async fn f13_three_days_forward_across_a_restart_no_decision_is_taken_twice() {
    let Some(clock) = Clock::new() else { return };
    let mut world = clock.world(&[]).await;
    let confirming = Transfer::new(ByTheCoordinator).once(1, "confirm", "do-and-hang").patient();
    let confirming = confirming.call_timeout(Duration::from_secs(60));
    let begin = confirming.begin(&world.banks);
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    let trying = json!({"gid": "trying", "decider": "initiator", "timeout_ms": 3_600_000});
    assert_eq!(world.coordinator.ask("POST", "", Some(trying)).await.0, 201);
    let called = async || (world.banks[1].faults(&confirming.gid, "confirm") > 0).then_some(());
    eventually("a confirm in flight", called).await;
    world.coordinator.kill().await;
    clock.set("+3d");
    world.coordinator.start().await;
    assert_eq!(world.coordinator.end("trying").await["reason"], json!("the deadline passed"));
    confirming.ended(&world, Confirm).await;
    assert!(ahead(&world) > 71.0, "the clock was not set: {}", ahead(&world));
}

/// What is due is due by the clock of the old process, and its successor's shows an earlier time.
#[tokio::test]
async fn f14_two_hours_back_across_a_restart_holds_nothing_up() {
    let Some(clock) = Clock::new() else { return };
    let mut world = clock.world(&[]).await;
    let transfer = Transfer::new(ByTheCoordinator).once(1, "confirm", "do-and-hang").patient();
    let transfer = transfer.call_timeout(Duration::from_secs(60));
    let begin = transfer.begin(&world.banks);
    assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
    let called = async || (world.banks[1].faults(&transfer.gid, "confirm") > 0).then_some(());
    eventually("a confirm in flight", called).await;
    world.coordinator.kill().await;
    clock.set("-2h");
    world.coordinator.start().await;
    transfer.ended(&world, Confirm).await;
    assert!(ahead(&world) < -1.0, "the clock was not set: {}", ahead(&world));
}
