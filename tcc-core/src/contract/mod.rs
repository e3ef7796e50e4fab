//! The suite that every [`Store`] must pass, whatever it is made of.
//!
//! A store's test says how to make an empty one and how to let time pass on its clock, and runs [`all`]:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicI64, Ordering};
//! use std::time::Duration;
//! use tcc_core::contract::{self, Subject};
//! use tcc_core::store::BoxFuture;
//! use tcc_core::{MemoryStore, Store, Timestamp};
//!
//! struct Memory(Arc<AtomicI64>);
//!
//! impl Subject for Memory {
//!     fn fresh(&self) -> BoxFuture<'_, Arc<dyn Store>> {
//!         let clock = Arc::clone(&self.0);
//!         let store = MemoryStore::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)));
//!         Box::pin(async move { Arc::new(store) as Arc<dyn Store> })
//!     }
//!     fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
//!         self.0.fetch_add(length.as_millis() as i64, Ordering::Relaxed);
//!         Box::pin(async {})
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! contract::all(&Memory(Arc::default())).await;
//! # });
//! ```
//!
//! A store that answers [`Unknown`](crate::store::Unknown) or [`Unavailable`](crate::store::Unavailable) fails a
//! case: the suite is about a store that is well.

mod claims;
mod lists;
mod parked;
mod purge;
mod topics;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use crate::store::{BoxFuture, Row, Write, Written};
use crate::together::together;
use crate::{Gid, Phase, Store, Timestamp};

/// What is tested.
pub trait Subject: Sync {
    /// An empty store. Those made before may still be in use.
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Store>>;

    /// Lets this much time pass on the clock of every store made.
    fn pass(&self, length: Duration) -> BoxFuture<'_, ()>;
}

/// One case. It panics if the store does not keep the contract.
pub type Case = for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, ()>;

macro_rules! cases {
    ($($module:ident: $($case:ident),+;)+) => {
        &[$($((stringify!($case), |subject| Box::pin($module::$case(subject))),)+)+]
    };
}

/// Every case, by name.
pub const CASES: &[(&str, Case)] = cases! {
    writes:
        an_insert_wins_once,
        a_replace_wins_at_its_version_only,
        the_same_write_has_won_again,
        each_write_of_a_batch_has_its_own_result,
        writes_on_one_gid_act_in_order,
        what_cannot_be_stored_is_refused_alone,
        every_column_comes_back,
        gids_are_exact,
        one_writer_wins_each_version;
    lists:
        each_filter_holds,
        filters_combine,
        a_prefix_is_no_pattern,
        pages_are_complete_and_without_repeats,
        counts_follow_every_write;
    claims:
        only_what_is_due_is_claimed,
        the_longest_due_is_claimed_first,
        nothing_is_claimed_twice_within_its_lease,
        a_claim_runs_out,
        a_write_takes_a_claim_or_lets_it_go,
        a_write_that_loses_leaves_the_claim,
        next_is_when_the_next_row_is_due;
    parked:
        what_is_parked_is_claimed_by_destination,
        what_is_parked_can_be_claimed_when_it_is_due,
        claims_hold_whichever_way_they_were_made,
        destinations_are_told_while_something_is_parked_there;
    purge:
        a_purge_leaves_the_decision,
        what_is_purged_is_out_of_sight,
        what_is_purged_stays_so,
        what_is_forgotten_can_begin_again,
        nothing_unfinished_is_purged,
        a_purge_keeps_to_its_limit;
    topics:
        who_subscribed_is_told_by_topic_and_in_order,
        who_subscribes_again_moves,
        who_left_is_gone;
};

/// Runs every case, each on a store of its own.
///
/// # Panics
/// At the first case that fails; its name is printed.
pub async fn all(subject: &dyn Subject) {
    for (name, case) in CASES {
        let _named = Named(name);
        case(subject).await;
    }
}

struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the store does not keep the contract: {}", self.0);
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
/// A length that is waited for, on a clock that may be a real one.
const SOON: Duration = Duration::from_millis(30);

fn gid(text: &str) -> Gid {
    text.parse().expect("a gid")
}

/// The row of a transaction that begins at a moment and is due at once.
///
/// # Panics
/// When the gid is none.
#[must_use]
pub fn row(id: &str, document: Vec<u8>, now: Timestamp) -> Row {
    Row {
        gid: gid(id),
        document,
        phase: Phase::Trying,
        due_at: Some(now),
        parked: None,
        attention: false,
        created_at: now,
        ended_at: None,
        digest: None,
        version: 1,
        tag: 1,
    }
}

/// A transaction that begins now, due in an hour.
fn begun(store: &dyn Store, id: &str) -> Row {
    let now = store.now();
    Row { due_at: Some(now + HOUR), ..row(id, format!("{id} begins").into_bytes(), now) }
}

/// A transaction that begins now and is due at a moment.
fn due(store: &dyn Store, id: &str, at: Timestamp) -> Row {
    Row { due_at: Some(at), ..begun(store, id) }
}

/// The row after it, in this phase, still due when it was.
fn then(row: &Row, phase: Phase) -> Row {
    let version = row.version + 1;
    let document = format!("{} at version {version}", row.gid).into_bytes();
    Row { phase, document, version, tag: row.tag + 1, ..row.clone() }
}

/// The row after it, ended at a moment.
fn ended(row: &Row, phase: Phase, at: Timestamp) -> Row {
    Row { due_at: None, parked: None, ended_at: Some(at), ..then(row, phase) }
}

fn insert(row: &Row) -> Write {
    Write { row: row.clone(), replaces: None, claim: None }
}

fn replace(row: &Row) -> Write {
    Write { row: row.clone(), replaces: Some(row.version - 1), claim: None }
}

fn claiming(write: Write, lease: Duration) -> Write {
    Write { claim: Some(lease), ..write }
}

/// Commits one write.
async fn commit(store: &dyn Store, write: Write) -> Written {
    let mut written = store.commit(vec![write]).await.expect("a known outcome");
    assert_eq!(written.len(), 1, "one result for one write");
    written.remove(0)
}

/// Commits one write that has to win.
async fn win(store: &dyn Store, write: Write) {
    let what = format!("version {} of {}", write.row.version, write.row.gid);
    assert_eq!(commit(store, write).await, Written::Won, "{what}");
}

/// Begins a transaction and ends it at a moment.
async fn finish(store: &dyn Store, id: &str, phase: Phase, at: Timestamp) -> Row {
    let row = Row { digest: Some(crate::Digest::of(id)), ..begun(store, id) };
    win(store, insert(&row)).await;
    let row = ended(&row, phase, at);
    win(store, replace(&row)).await;
    row
}

async fn load(store: &dyn Store, id: &str) -> Option<Row> {
    store.load(&gid(id)).await.expect("a store that can be read")
}

/// The gids claimed, in order.
async fn claim(store: &dyn Store, lease: Duration, limit: usize) -> Vec<String> {
    names(&store.claim(lease, limit).await.expect("a store that can be reached").rows)
}

fn names(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| row.gid.to_string()).collect()
}
