//! How a cell is run: start, die, come back, finish, check.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tcc_server::crash::{Moment, Site};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Broken;
use crate::cell::{Cell, Point};
use crate::initiator::PATIENCE;
use crate::plan::Plan;
use crate::shape::Outcome;
use crate::world::World;

/// How often what depends on a deadline is done again with a later one, and what must not happen is waited for.
const TIMES: u32 = 4;
/// One cell, with all that.
const CELL: Duration = Duration::from_secs(300);
/// What is kept for so short is purged at the next start.
const PURGING: [&str; 4] = ["--retention", "1ms", "--remember", "1h"];

/// How a cell went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// It died there, and all was well.
    Died,
    /// It never came to that point, and all was well.
    Missed,
}

/// Runs these cells, so many at once, and returns those that are broken, with what should not have been.
///
/// # Panics
/// When no process can be started.
pub async fn run(program: &Path, cells: Vec<Cell>, at_once: usize) -> Vec<(Cell, Broken)> {
    let (cells, next) = (Arc::new(cells), Arc::<AtomicUsize>::default());
    let mut workers = JoinSet::new();
    for _ in 0..at_once.min(cells.len()) {
        workers.spawn(work(program.to_owned(), cells.clone(), next.clone()));
    }
    workers.join_all().await.concat()
}

async fn work(program: PathBuf, cells: Arc<Vec<Cell>>, next: Arc<AtomicUsize>) -> Vec<(Cell, Broken)> {
    let mut broken = Vec::new();
    let mut world = None;
    while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut here = match world.take() {
            Some(world) => world,
            None => World::new(program.clone(), &[]).await.expect("a world"),
        };
        match timeout(CELL, torture(&mut here, cell)).await.unwrap_or_else(|_| Err(format!("after {CELL:?}")))
        {
            Ok(()) => world = Some(here),
            // What is broken stays so: the next one is run in a new world.
            Err(why) => broken.push((*cell, format!("{why}\n{}", here.logs()))),
        }
    }
    broken
}

async fn torture(world: &mut World, cell: &Cell) -> Result<(), Broken> {
    let wanted = if matches!(cell.point, Point::NoWrite(..)) { Went::Missed } else { Went::Died };
    for nth in 1..=TIMES {
        let gid = format!("{}/{nth}", cell.to_string().replace('/', ":"));
        let mut plan = Plan::new(cell.shape, cell.outcome, gid.replace('/', ":"), world.services());
        plan.deadline *= 1 << (nth - 1);
        world.coordinator.forget();
        let went = match cell.point {
            Point::Write(Site::Purge, moment, _) => purge(world, &plan, moment).await,
            Point::Write(..) | Point::NoWrite(..) => write(world, &plan, &crash_at(cell.point)).await,
            Point::Service(branch, operation, dies) => {
                plan.dies = Some((branch, operation, dies));
                service(world, &plan).await
            }
        };
        let went = went?;
        world.coordinator.kill().await;
        // A slow machine writes attempts in between that nobody asked for, and may not come to a point before the
        // deadline decides.
        let again = wanted == Went::Missed || cell.outcome == Outcome::Expired;
        match (went == wanted, again) {
            (true, _) => return Ok(()),
            (false, true) => {}
            (false, false) => break,
        }
    }
    Err(match wanted {
        Went::Died => "it was never there".to_owned(),
        Went::Missed => "there is such a write".to_owned(),
    })
}

/// What the coordinator is told.
fn crash_at(point: Point) -> String {
    match point {
        Point::Write(site, Moment::Before, nth) => format!("{}:before:{nth}", site.word()),
        Point::Write(site, Moment::After, nth) | Point::NoWrite(site, nth) => {
            format!("{}:after:{nth}", site.word())
        }
        Point::Service(..) => unreachable!("the coordinator does not die"),
    }
}

/// The coordinator ends itself around a write.
async fn write(world: &mut World, plan: &Plan, at: &str) -> Result<Went, Broken> {
    world.coordinator.start(Some(at), &[]).await?;
    let initiator = world.initiator.clone();
    let finishes = async {
        initiator.play(plan).await?;
        initiator.ended(plan).await
    };
    let mut finishes = std::pin::pin!(finishes);
    let went = tokio::select! {
        biased;
        back = world.coordinator.dies_and_comes_back() => {
            back?;
            finishes.await?;
            Went::Died
        }
        finished = &mut finishes => {
            finished?;
            Went::Missed
        }
    };
    is_well(world, plan).await?;
    Ok(went)
}

/// The coordinator ends itself around the purge of a transaction that has ended.
async fn purge(world: &mut World, plan: &Plan, moment: Moment) -> Result<Went, Broken> {
    world.coordinator.start(None, &[]).await?;
    world.initiator.play(plan).await?;
    world.initiator.ended(plan).await?;
    is_well(world, plan).await?;
    world.coordinator.kill().await;
    let at = crash_at(Point::Write(Site::Purge, moment, 1));
    // It purges as soon as it starts, perhaps before it listens.
    world.coordinator.dies_at_its_start(&at, &PURGING).await?;
    world.coordinator.start(None, &PURGING).await?;
    let purged = async {
        loop {
            let (status, view) = world.initiator.view(&plan.gid).await?;
            if status != 200 || view["purged"] == json!(true) {
                return Ok::<Value, Broken>(view);
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let view = timeout(PATIENCE, purged).await.map_err(|_| "it is not purged".to_owned())??;
    if view["decision"] != json!(plan.decision().as_str()) {
        return Err(format!("after the purge it is {view}"));
    }
    world.initiator.repeat(plan).await?;
    world.audit.check(&[], false)?;
    no_contradictions(world)?;
    Ok(Went::Died)
}

/// A service ends itself in an operation.
async fn service(world: &mut World, plan: &Plan) -> Result<Went, Broken> {
    let deaths = world.deaths();
    world.coordinator.start(None, &[]).await?;
    world.initiator.play(plan).await?;
    world.initiator.ended(plan).await?;
    is_well(world, plan).await?;
    match world.deaths() - deaths {
        0 => Ok(Went::Missed),
        1 => Ok(Went::Died),
        more => Err(format!("services died {more} times")),
    }
}

/// The transaction has ended as it should, in the log, in the books, and for whoever asks again.
async fn is_well(world: &mut World, plan: &Plan) -> Result<(), Broken> {
    let (_, view) = world.initiator.view(&plan.gid).await?;
    // A ladder may come to its end while its service starts again.
    world.audit.check(&[(plan, view)], plan.dies.is_some())?;
    world.initiator.repeat(plan).await?;
    world.audit.check(&[], false)?;
    no_contradictions(world)
}

fn no_contradictions(world: &World) -> Result<(), Broken> {
    match world.initiator.answers().contradictions().first() {
        None => Ok(()),
        Some(contradiction) => Err(contradiction.clone()),
    }
}
