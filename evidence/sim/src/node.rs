//! Coordinators as processes: they start, crash, are paused, cut off and replaced; what they were doing is never
//! finished, and what they had sent is on its way all the same.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tcc_core::{Patience, Store};
use tcc_server::store::Batched;
use tcc_server::transport::Transports;
use tcc_server::{Coordinator, Scheduler, Settings};
use tokio::time::{Instant, sleep, sleep_until};

use crate::book::Process;
use crate::fault::Rare;
use crate::log::Who;
use crate::network::{SimTransport, Way};
use crate::store::SimStore;
use crate::world::{World, lock};

/// A place where a coordinator runs.
#[derive(Default)]
pub(crate) struct Node {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// One more with each process. What belongs to an earlier one is dead.
    epoch: u64,
    running: Option<Running>,
    paused_until: Option<Instant>,
    store_cut_until: Option<Instant>,
    cuts: Vec<(usize, Way, Instant)>,
}

struct Running {
    coordinator: Arc<Coordinator>,
    scheduler: Scheduler,
}

/// What a process has of the world. When the process is dead, nothing it asks for ever comes.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
    epoch: u64,
}

impl Life {
    /// Whether the process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        lock(&self.world.nodes[self.node].state).epoch == self.epoch
    }

    /// Goes on where the process does: not before a pause is over, and never once it is dead.
    pub(crate) async fn gate(&self) {
        loop {
            let until = {
                let state = lock(&self.world.nodes[self.node].state);
                if state.epoch == self.epoch {
                    match state.paused_until.filter(|until| *until > Instant::now()) {
                        None => return,
                        until => until,
                    }
                } else {
                    None
                }
            };
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        }
    }

    /// Which process it is.
    pub(crate) fn process(&self) -> Process {
        (self.node, self.epoch)
    }

    /// Crashes the process here and now.
    pub(crate) async fn crash(&self, why: &'static str) {
        if self.is_alive() {
            crash(&self.world, self.node, why);
        }
        pending().await
    }

    /// Whether the process cannot reach the store.
    pub(crate) fn is_cut_from_store(&self) -> bool {
        let until = lock(&self.world.nodes[self.node].state).store_cut_until;
        until.is_some_and(|until| Instant::now() < until)
    }
}

impl Node {
    /// The coordinator, if one is up, and the life it has.
    pub(crate) fn coordinator(&self, world: &Arc<World>, node: usize) -> Option<(Arc<Coordinator>, Life)> {
        let state = lock(&self.state);
        let running = state.running.as_ref()?;
        Some((running.coordinator.clone(), Life { world: world.clone(), node, epoch: state.epoch }))
    }

    /// Whether a coordinator is up.
    pub(crate) fn is_up(&self) -> bool {
        lock(&self.state).running.is_some()
    }

    /// Stops the process for a while.
    pub(crate) fn pause(&self, length: Duration) {
        lock(&self.state).paused_until = Some(Instant::now() + length);
    }

    /// Cuts it off from the store for a while.
    pub(crate) fn cut_from_store(&self, length: Duration) {
        lock(&self.state).store_cut_until = Some(Instant::now() + length);
    }

    /// Cuts it off from a participant for a while.
    pub(crate) fn cut(&self, service: usize, way: Way, length: Duration) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.cuts.retain(|(_, _, until)| *until > now);
        state.cuts.push((service, way, now + length));
    }

    /// Whether what goes this way between it and a participant is lost.
    pub(crate) fn is_cut(&self, service: usize, way: Way) -> bool {
        let state = lock(&self.state);
        if state.cuts.is_empty() {
            return false;
        }
        let now = Instant::now();
        state.cuts.iter().any(|(cut, its, until)| (*cut, *its) == (service, way) && *until > now)
    }

    /// Ends it for good.
    pub(crate) fn remove(&self) {
        let running = {
            let mut state = lock(&self.state);
            state.epoch += 1;
            state.running.take()
        };
        drop(running);
    }
}

/// Starts a process over what the store holds.
pub(crate) fn start(world: &Arc<World>, node: usize) {
    if world.is_over() {
        return;
    }
    let life = {
        let mut state = lock(&world.nodes[node].state);
        state.epoch += 1;
        state.paused_until = None;
        Life { world: world.clone(), node, epoch: state.epoch }
    };
    let store = SimStore { life: life.clone() };
    let store: Arc<dyn Store> =
        if world.nature.grouped { Arc::new(Batched::new(store)) } else { Arc::new(store) };
    let settings = Settings {
        retention: world.nature.retention,
        remember: Duration::from_secs(365 * 24 * 3600),
        patience: Patience { attempts: 6, age: Duration::from_secs(120) },
        call_timeout: Duration::from_secs(5),
        per_destination: world.nature.per_destination,
        ..Settings::default()
    };
    let transports = Transports::new().with(SimTransport { life });
    let coordinator = Coordinator::new(store, transports, settings);
    let scheduler = Scheduler::start(coordinator.clone());
    world.note(Who::Node(node), None, "starts", String::new);
    tokio::spawn(watch(world.clone(), node, coordinator.clone()));
    lock(&world.nodes[node].state).running = Some(Running { coordinator, scheduler });
}

/// Starts the process anew once it says that it cannot know any more what is durable.
async fn watch(world: Arc<World>, node: usize, coordinator: Arc<Coordinator>) {
    coordinator.failed().await;
    let is_this = lock(&world.nodes[node].state)
        .running
        .as_ref()
        .is_some_and(|running| Arc::ptr_eq(&running.coordinator, &coordinator));
    if is_this {
        world.saw(Rare::NodeReplaced);
        crash(&world, node, "its store failed");
    }
}

/// Kills the process; another one starts in its place after a while.
pub(crate) fn crash(world: &Arc<World>, node: usize, why: &'static str) {
    let running = {
        let mut state = lock(&world.nodes[node].state);
        let Some(running) = state.running.take() else { return };
        state.epoch += 1;
        running
    };
    world.note(Who::Node(node), None, "is dead", || why.to_owned());
    drop(running);
    if !world.nodes.iter().any(Node::is_up) {
        world.saw(Rare::NodesAllDown);
    }
    restart(world, node);
}

fn restart(world: &Arc<World>, node: usize) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(world.millis(100..15_000)).await;
        start(&world, node);
    });
}

/// Drains the process and starts another one, as an upgrade would.
pub(crate) fn replace(world: &Arc<World>, node: usize) {
    let Some(running) = lock(&world.nodes[node].state).running.take() else { return };
    world.note(Who::Node(node), None, "drains", String::new);
    let world = world.clone();
    tokio::spawn(async move {
        let drained = running.scheduler.drain(Duration::from_secs(10)).await;
        drop(running.coordinator);
        world.note(Who::Node(node), None, "drained", || format!("{drained:?}"));
        lock(&world.nodes[node].state).epoch += 1;
        restart(&world, node);
    });
}
