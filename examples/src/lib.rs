//! A shop in three services, each its own process with its own database: who orders is charged and gets the goods,
//! or neither.
//!
//! - [`payment`], a participant: money that is available, or frozen for an order;
//! - [`inventory`], a participant: goods on the shelf, reserved for an order, or sold;
//! - [`order`], the initiator: an HTTP service that has both happen or neither, in two styles;
//! - [`points`], a transactional message: an order, and points if it was placed;
//! - [`outbox`], a message in the shop's own database: placed while the coordinator is away;
//! - [`trip`], a saga: flight, hotel and car, one after the other or none of them;
//! - [`loyalty`] and [`serving`], what several of these have in common;
//! - [`demo`]: starts them and a coordinator, kills some of them at the worst moments, and checks the books.

pub mod demo;
pub mod inventory;
pub mod loyalty;
pub mod order;
pub mod outbox;
pub mod payment;
pub mod points;
pub mod serving;
pub mod trip;
