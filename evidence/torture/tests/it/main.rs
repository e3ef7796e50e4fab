//! The short form of the torture, and the proof that nothing is missing from it and that it sees.
//!
//! - [`complete`]: every durable write of every shape has its cells, and every kind of transaction has its shape;
//! - [`short`]: some of the cells and some kills at random, others each time;
//! - [`sight`]: what is wrong is seen.

use std::path::Path;

mod complete;
mod short;
mod sight;

/// The program that becomes a coordinator or a service.
fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tcc-torture"))
}
