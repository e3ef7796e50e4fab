//! The coordinator as a library of the load: its log is a SQLite file, its participants are functions that answer at
//! once and do nothing. From begin until every branch is confirmed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;
use tcc_core::answer::Response;
use tcc_core::wire::{BeginRequest, BranchRequest};
use tcc_core::{Gid, Operation, Phase};
use tcc_server::store::{SqliteOptions, SqliteStore};
use tcc_server::transport::{LocalTransport, Outgoing, Transports};
use tcc_server::{Begun, Coordinator, Known, Scheduler, Settings, Wait, limits};

use super::PAYLOAD;
use crate::Failure;

pub(super) struct Embedded {
    coordinator: Arc<Coordinator>,
    log: Arc<SqliteStore>,
    _scheduler: Scheduler,
    branches: Vec<BranchRequest>,
    /// Confirms that the functions saw.
    confirms: Arc<AtomicU64>,
}

impl Embedded {
    /// One with so many participants, each a branch of every transaction.
    pub(super) fn start(file: &Path, branches: usize) -> Result<Self, Failure> {
        let log = Arc::new(SqliteStore::open(file, SqliteOptions::default())?);
        let confirms = Arc::new(AtomicU64::new(0));
        let mut transport = LocalTransport::new();
        for i in 0..branches {
            let confirms = confirms.clone();
            transport = transport.with(format!("p{i}"), move |outgoing: Outgoing| {
                if outgoing.call.operation == Operation::Confirm {
                    confirms.fetch_add(1, Ordering::Relaxed);
                }
                std::future::ready(Response::done())
            });
        }
        let transports = Transports::new().with(transport);
        let coordinator = Coordinator::new(log.clone(), transports, Settings::default());
        let payload: Arc<RawValue> = RawValue::from_string(PAYLOAD.to_owned())?.into();
        let branch = |i| BranchRequest {
            id: format!("b{i}"),
            at: Some(format!("local:p{i}")),
            payload: Some(payload.clone()),
            ..BranchRequest::default()
        };
        Ok(Self {
            _scheduler: Scheduler::start(coordinator.clone()),
            coordinator,
            log,
            branches: (0..branches).map(branch).collect(),
            confirms,
        })
    }

    pub(super) async fn transact(&self, gid: &str) -> Result<(), Failure> {
        let request = BeginRequest {
            gid: Some(gid.to_owned()),
            branches: self.branches.clone(),
            ..BeginRequest::default()
        };
        let begin = request.parse(|| unreachable!("it has a gid"))?;
        let gid: Gid = begin.gid.clone();
        let waiter = self.coordinator.listen(&gid);
        let known = match self.coordinator.begin(begin).await? {
            Begun::New(stored) => Known::Stored(stored),
            Begun::Before(known) => known,
        };
        let known = waiter.wait(known, Wait::End, limits::LONGEST_WAIT).await;
        match known.phase() {
            Phase::Confirmed => Ok(()),
            phase @ (Phase::Trying
            | Phase::Confirming
            | Phase::Cancelling
            | Phase::Cancelled
            | Phase::Abandoned) => Err(format!("{gid} is {}", phase.as_str()).into()),
        }
    }

    /// Times the log was made durable so far.
    pub(super) fn syncs(&self) -> u64 {
        let stats = self.log.stats();
        stats.commits + stats.moves + 2 * stats.checkpoints
    }

    /// Of so many confirmed transactions, those whose confirms the functions did not see.
    pub(super) fn left(&self, confirmed: u64) -> u64 {
        let branches = self.branches.len() as u64;
        (confirmed * branches).saturating_sub(self.confirms.load(Ordering::Relaxed)).div_ceil(branches)
    }
}
