//! What tests of several crates need, and (in `tests/`) the tests that need several crates.

mod broker;
#[cfg(feature = "processes")]
pub mod dns;
#[cfg(feature = "processes")]
pub mod http;
#[cfg(feature = "processes")]
pub mod mishap;
mod mariadb;
mod postgres;
mod redis;
#[cfg(feature = "processes")]
mod process;
#[cfg(feature = "processes")]
mod proxy;
#[cfg(feature = "processes")]
mod spoilt;

pub use broker::Broker;
pub use mariadb::{Mariadb, mariadb};
pub use postgres::{Postgres, postgres, postgres_that_prepares_nothing, postgres_that_prepares_one, skipped};
#[cfg(feature = "processes")]
pub use process::{Process, die_with_the_test};
#[cfg(feature = "processes")]
pub use proxy::{Exchange, Fault, Proxy, Times};
pub use redis::{Redis, redis};
