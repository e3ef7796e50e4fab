//! Some of the torture, so short that it can be done every time.

use std::collections::BTreeMap;

use tcc_server::crash::Site;
use tcc_torture::cell::{Cell, Point};
use tcc_torture::cells;
use tcc_torture::shape::Shape;
use tcc_torture::storm::Storm;

use crate::program;

/// Which cells are like each other: one of each kind is drawn.
fn kind(cell: &Cell) -> (Shape, &'static str) {
    let kind = match cell.point {
        Point::Write(Site::Purge, ..) | Point::NoWrite(..) => "purged, or nobody dies",
        Point::Write(..) => "the coordinator dies",
        Point::Service(..) => "a service dies",
    };
    (cell.shape, kind)
}

/// C1, C2, C3, C6, C9, P5 with real processes: a cell of each kind for each shape, others each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_process_dies_everything_ends_as_it_was_decided() {
    let mut all = Cell::all();
    fastrand::shuffle(&mut all);
    let drawn: BTreeMap<_, Cell> = all.into_iter().map(|cell| (kind(&cell), cell)).collect();
    let drawn: Vec<Cell> = drawn.into_values().collect();
    let drawn_of = |shape: &&Shape| drawn.iter().filter(|cell| cell.shape == **shape).count();
    assert_eq!(Shape::ALL.iter().find(|shape| drawn_of(shape) < 2), None, "it has no cells");
    for cell in &drawn {
        println!("{cell}");
    }
    let broken = cells::run(program(), drawn, 6).await;
    for (cell, why) in &broken {
        println!("BROKEN: {cell}: {why}\nagain: cargo torture -- --only {cell}");
    }
    assert!(broken.is_empty(), "{} cells are broken", broken.len());
}

/// C1, C3, C6, C9: processes are killed at random while transactions of every shape are under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_when_all_books_balance() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let storm = Storm { program: program().to_owned(), seed, cycles: 20, initiators: 4, audit_every: 10 };
    let tally = storm.rage(|_| {}).await.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    println!("{tally}");
    assert_eq!((tally.cycles, tally.audits), (20, 2));
    assert_eq!(tally.transactions(), tally.looked_back);
    assert!(tally.transactions() > 0, "nobody did anything");
}
