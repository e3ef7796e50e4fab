//! The life of one world, from its first coordinator to the last check.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::check::ending;
use crate::initiator::flow;
use crate::log::{Keep, Log};
use crate::setup::Setup;
use crate::world::{Counts, World, lock};
use crate::{node, operator, trouble};

/// How long everything may take to end, once faults have stopped: all that may still last then, one after another.
const BOUND: Duration = Duration::from_secs(flow::LONGEST.as_secs() + trouble::LONGEST.as_secs() + 1_200);
/// How long after its last event a world is at rest.
const REST: Duration = Duration::from_secs(15);
/// Steps between looks.
const LOOK: Duration = Duration::from_secs(2);

/// What came of a world.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was found wrong first.
    pub(crate) failure: Option<String>,
    /// The hash of everything that happened.
    pub(crate) hash: u64,
    /// The lines, if they were kept.
    pub(crate) lines: String,
    pub(crate) counts: Counts,
    /// How long it lasted, in its own time.
    pub(crate) lasted: Duration,
}

/// Runs a world.
pub(crate) fn run(setup: &Setup, keep: Keep) -> Outcome {
    // The server and the client draw from the thread's generator: so does the seed reach them.
    fastrand::seed(setup.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O");
    runtime.block_on(live(setup, keep))
}

async fn live(setup: &Setup, keep: Keep) -> Outcome {
    let world = World::new(setup, keep);
    for node in 0..world.nature.nodes {
        node::start(&world, node);
    }
    let mut initiators = JoinSet::new();
    for number in &setup.cases {
        initiators.spawn(flow::run(world.clone(), *number));
    }
    tokio::spawn(operator::look(world.clone()));
    tokio::spawn(trouble::make(world.clone()));
    tokio::spawn(trouble::leap(world.clone()));
    let storm = u64::try_from((world.nature.busy + world.nature.stormy).as_millis()).unwrap_or(u64::MAX);
    while world.passed() < storm && world.failure().is_none() {
        sleep(LOOK).await;
    }
    ending::check_isolation(&world);
    world.heal();
    calm_down(&world, &mut initiators, storm).await;
    if world.failure().is_none() {
        // What is still in the network arrives, late as it is.
        sleep(world.nature.longest_delay + REST).await;
        ending::check(&world);
    }
    world.end();
    let log = std::mem::replace(&mut *lock(&world.log), Log::new(Keep::Hash));
    Outcome {
        failure: world.failure(),
        hash: log.hash(),
        lines: log.into_lines(),
        counts: world.counted(),
        lasted: Duration::from_millis(world.passed()),
    }
}

/// Waits until everything has ended, as it must.
async fn calm_down(world: &Arc<World>, initiators: &mut JoinSet<()>, storm: u64) {
    let bound = storm + u64::try_from(BOUND.as_millis()).unwrap_or(u64::MAX);
    loop {
        while initiators.try_join_next().is_some() {}
        let open = ending::open(world);
        if world.failure().is_some() || (open.is_empty() && initiators.is_empty()) {
            return;
        }
        if world.passed() > bound {
            let why = format!("not ended {} s after faults stopped: {open:?}", BOUND.as_secs());
            return world.hold(open.first().copied(), Err(why));
        }
        sleep(LOOK).await;
    }
}
