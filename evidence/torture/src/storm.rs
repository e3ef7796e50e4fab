//! Kills at random under load.
//!
//! Initiators begin transactions of every shape without pause. Again and again a process is killed, or all of them are,
//! and started again; then whoever is not done asks how it stands. Now and then everything is let finish, and the books
//! are checked.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Broken;
use crate::initiator::Initiator;
use crate::plan::Plan;
use crate::shape::{Outcome, Shape};
use crate::tally::Tally;
use crate::words::words;
use crate::world::World;

words! {
    /// What is killed.
    pub enum Target {
        /// The coordinator.
        Coordinator = "the coordinator",
        /// The coordinator, and again while it starts.
        Stillborn = "the coordinator, and again as it starts",
        /// The first service.
        First = "the first service",
        /// The second service.
        Second = "the second service",
        /// Both services.
        Services = "both services",
        /// All of them.
        All = "all of them",
    }
}

/// From a kill until the coordinator answers again: a bound that only something very wrong reaches.
pub const RECOVERY: Duration = Duration::from_secs(15);
/// What ended is purged that soon, so that purges are under way too.
const FLAGS: [&str; 4] = ["--retention", "3s", "--remember", "1d"];
/// How many of those that have ended are asked about after a kill.
const RECENT: usize = 12;

/// A storm.
#[derive(Clone, Debug)]
pub struct Storm {
    /// This package's program.
    pub program: PathBuf,
    /// Draws transactions, targets and moments.
    pub seed: u64,
    /// Kills.
    pub cycles: u64,
    /// Initiators at work.
    pub initiators: u64,
    /// After so many kills everything is let finish, and all books are checked.
    pub audit_every: u64,
}

/// What initiators and the torturer share.
struct Shared {
    seed: u64,
    initiator: Initiator,
    services: [std::net::SocketAddr; 2],
    next: AtomicU64,
    enough: AtomicBool,
    flying: Mutex<BTreeMap<String, Plan>>,
    over: Mutex<Vec<(Plan, Value)>>,
    recent: Mutex<VecDeque<String>>,
    broken: Mutex<Option<Broken>>,
}

impl Storm {
    /// Lets it rage, and says how often what happened. `note` is called after each audit.
    ///
    /// # Errors
    /// What should not have been.
    ///
    /// # Panics
    /// When no process can be started.
    pub async fn rage(&self, note: impl Fn(&Tally)) -> Result<Tally, Broken> {
        let mut world = World::new(self.program.clone(), &FLAGS).await?;
        let result = self.rage_in(&mut world, note).await;
        result.map_err(|why| format!("{why}\n{}", world.logs()))
    }

    async fn rage_in(&self, world: &mut World, note: impl Fn(&Tally)) -> Result<Tally, Broken> {
        world.coordinator.start(None, &[]).await?;
        let shared = Arc::new(Shared {
            seed: self.seed,
            initiator: world.initiator.clone(),
            services: world.services(),
            next: AtomicU64::new(0),
            enough: AtomicBool::new(false),
            flying: Mutex::default(),
            over: Mutex::default(),
            recent: Mutex::default(),
            broken: Mutex::default(),
        });
        let mut tally = Tally::default();
        while tally.cycles < self.cycles {
            shared.enough.store(false, Ordering::SeqCst);
            let mut at_work = JoinSet::new();
            (0..self.initiators).for_each(|_| drop(at_work.spawn(shared.clone().work())));
            let until = (tally.cycles + self.audit_every).min(self.cycles);
            while tally.cycles < until {
                self.cycle(world, &shared, &mut tally).await?;
            }
            shared.enough.store(true, Ordering::SeqCst);
            at_work.join_all().await;
            shared.is_well()?;
            audit(world, &shared, &mut tally)?;
            note(&tally);
        }
        look_back(&shared, &mut tally).await?;
        Ok(tally)
    }

    async fn cycle(&self, world: &mut World, shared: &Shared, tally: &mut Tally) -> Result<(), Broken> {
        let mut dice = fastrand::Rng::with_seed(mixed(self.seed, tally.cycles));
        // Sometimes at once: then what came back has hardly begun.
        let pause = if dice.u32(0..5) == 0 { dice.u64(0..8) } else { dice.u64(8..200) };
        sleep(Duration::from_millis(pause)).await;
        let target = match dice.u32(0..100) {
            0..50 => Target::Coordinator,
            50..60 => Target::Stillborn,
            60..70 => Target::First,
            70..80 => Target::Second,
            80..88 => Target::Services,
            _ => Target::All,
        };
        let flying: Vec<String> = lock(&shared.flying).keys().cloned().collect();
        let killed = Instant::now();
        let [first, second] = &world.hosts;
        let coordinator = &mut world.coordinator;
        match target {
            Target::Coordinator => {
                coordinator.kill().await;
                tally.starts.push(coordinator.start(None, &[]).await?);
            }
            Target::Stillborn => {
                coordinator.kill().await;
                coordinator.is_stillborn(Duration::from_micros(dice.u64(0..30_000))).await;
                tally.starts.push(coordinator.start(None, &[]).await?);
            }
            Target::First => first.kill().await?,
            Target::Second => second.kill().await?,
            Target::Services => {
                let (one, other) = tokio::join!(first.kill(), second.kill());
                one.and(other)?;
            }
            Target::All => {
                let ((), one, other) = tokio::join!(coordinator.kill(), first.kill(), second.kill());
                one.and(other)?;
                tally.starts.push(coordinator.start(None, &[]).await?);
            }
        }
        look(shared, &flying, killed, target, tally).await?;
        tally.cycles += 1;
        *tally.kills.entry(target).or_default() += 1;
        shared.is_well()
    }
}

/// Asks how everything stands that was under way at a kill, or had ended before it.
async fn look(
    shared: &Shared,
    flying: &[String],
    killed: Instant,
    target: Target,
    tally: &mut Tally,
) -> Result<(), Broken> {
    let recent: Vec<String> = lock(&shared.recent).iter().cloned().collect();
    let mut phases = BTreeMap::<String, u64>::new();
    let mut first = true;
    for (gid, under_way) in
        flying.iter().zip(std::iter::repeat(true)).chain(recent.iter().zip(std::iter::repeat(false)))
    {
        let (status, view) = shared.initiator.view(gid).await?;
        tally.looks += 1;
        if std::mem::take(&mut first) && !matches!(target, Target::First | Target::Second | Target::Services)
        {
            let recovery = killed.elapsed();
            if recovery > RECOVERY {
                return Err(format!("it took {recovery:?} until the coordinator answered again"));
            }
            tally.recoveries.push(recovery);
        }
        if under_way {
            let phase = if status == 404 { "not begun" } else { view["phase"].as_str().unwrap_or("?") };
            *phases.entry(phase.to_owned()).or_default() += 1;
        }
    }
    for (phase, transactions) in phases {
        let found = tally.found.entry(phase).or_default();
        found.0 += 1;
        found.1 += transactions;
    }
    Ok(())
}

/// Everything has ended: all books are checked.
fn audit(world: &mut World, shared: &Shared, tally: &mut Tally) -> Result<(), Broken> {
    let over = std::mem::take(&mut *lock(&shared.over));
    let ended: Vec<(&Plan, Value)> = over.iter().map(|(plan, view)| (plan, view.clone())).collect();
    world.audit.check(&ended, true)?;
    tally.audits += 1;
    for (plan, view) in &ended {
        let phase = view["phase"].as_str().unwrap_or_default().to_owned();
        *tally.ended.entry((plan.shape, plan.outcome, phase)).or_default() += 1;
    }
    Ok(())
}

/// Asks once more about everything that ever was: nothing is forgotten or told otherwise.
async fn look_back(shared: &Arc<Shared>, tally: &mut Tally) -> Result<(), Broken> {
    let numbers = Arc::new(AtomicU64::new(0));
    let last = shared.next.load(Ordering::SeqCst);
    let mut lookers = JoinSet::new();
    for _ in 0..8 {
        let (shared, numbers) = (shared.clone(), numbers.clone());
        lookers.spawn(async move {
            loop {
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                if number >= last {
                    return Ok(());
                }
                let gid = shared.plan(number).gid;
                let (status, view) = shared.initiator.view(&gid).await?;
                let ended = shared.initiator.answers().known(&gid).ended;
                if status != 200 || ended.is_none() {
                    return Err(format!("{gid} has ended, and now: {status} {view}"));
                }
            }
        });
    }
    lookers.join_all().await.into_iter().collect::<Result<(), Broken>>()?;
    tally.looked_back = last;
    shared.is_well()
}

impl Shared {
    /// An initiator: one transaction after the other.
    async fn work(self: Arc<Self>) {
        while !self.enough.load(Ordering::SeqCst) {
            let plan = self.plan(self.next.fetch_add(1, Ordering::SeqCst));
            lock(&self.flying).insert(plan.gid.clone(), plan.clone());
            match self.have_done(&plan).await {
                Ok(view) => {
                    lock(&self.flying).remove(&plan.gid);
                    let mut recent = lock(&self.recent);
                    recent.push_back(plan.gid.clone());
                    if recent.len() > RECENT {
                        recent.pop_front();
                    }
                    lock(&self.over).push((plan, view));
                }
                Err(why) => {
                    let (shape, outcome) = (plan.shape.word(), plan.outcome.word());
                    lock(&self.broken).get_or_insert(format!("{} ({shape}/{outcome}): {why}", plan.gid));
                    return;
                }
            }
        }
    }

    async fn have_done(&self, plan: &Plan) -> Result<Value, Broken> {
        self.initiator.play(plan).await?;
        self.initiator.ended(plan).await
    }

    /// The transaction of that number.
    fn plan(&self, number: u64) -> Plan {
        let mut dice = fastrand::Rng::with_seed(mixed(!self.seed, number));
        let shape = Shape::ALL[dice.usize(0..Shape::ALL.len())];
        let outcomes = shape.outcomes();
        // Those that wait for a deadline would otherwise be most of what is under way.
        let outcome = match outcomes[dice.usize(0..outcomes.len())] {
            Outcome::Expired if dice.bool() => Outcome::Confirmed,
            outcome => outcome,
        };
        let mut plan = Plan::new(shape, outcome, format!("t{number}"), self.services);
        plan.payer = dice.usize(0..2);
        plan
    }

    fn is_well(&self) -> Result<(), Broken> {
        if let Some(why) = lock(&self.broken).clone() {
            return Err(why);
        }
        match self.initiator.answers().contradictions().first() {
            None => Ok(()),
            Some(contradiction) => Err(contradiction.clone()),
        }
    }
}

const fn mixed(seed: u64, number: u64) -> u64 {
    (seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) ^ seed
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
