//! An operator, who looks now and then: takes note of what calls for a human, has it called now, and has delivered anew
//! what was given up.

use std::sync::Arc;

use tcc_core::Phase;
use tokio::time::sleep;

use crate::book::{CHILD, RowSeen};
use crate::initiator::ask::{Ask, once};
use crate::plan::Shape;
use crate::world::{World, lock};

/// Looks until faults stop.
pub(crate) async fn look(world: Arc<World>) {
    while !world.is_healed() {
        sleep(world.millis(500..6_000)).await;
        if let Some((number, ask)) = what_to_do(&world) {
            once(&world, number, &ask).await;
        }
    }
}

/// One of all the things there are to do.
fn what_to_do(world: &World) -> Option<(usize, Ask)> {
    let things: Vec<(usize, Ask)> = {
        let book = lock(&world.book);
        let things = book.all().flat_map(|(number, case)| {
            let row = case.row;
            let given_up = |row: &RowSeen| row.phase == Phase::Abandoned && case.plan.shape == Shape::Ladder;
            let resend = row.filter(given_up).map(|_| (number + CHILD, Ask::Resend));
            resend.into_iter().chain(row.filter(|row| row.attention).map(|_| (number, Ask::Acknowledge)))
        });
        things.collect()
    };
    if things.is_empty() {
        return None;
    }
    let (number, ask) = things[world.dice(|dice| dice.usize(0..things.len()))].clone();
    let retries = matches!(ask, Ask::Acknowledge) && world.dice(|dice| dice.bool());
    Some((number, if retries { Ask::Retry } else { ask }))
}
