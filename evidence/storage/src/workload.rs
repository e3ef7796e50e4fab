//! Transactions of every kind, many at a time, through the calls a coordinator makes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use rusqlite::{Connection, OpenFlags};
use tcc_core::answer::{Outlook, Reply};
use tcc_core::store::{LoadError, SaveError, load};
use tcc_core::{
    Applied, Begin, Change, Decider, Definition, Digest, Event, Found, Gid, Patience, Plan, Random, Retry,
    Store, Stored, Timestamp, Transaction,
};
use tcc_server::store::SqliteOptions;

use crate::disk::File;
use crate::lab::Lab;

/// What is run, drawn from a seed.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The seed of all that is drawn while it runs.
    pub seed: u64,
    /// Transactions.
    pub transactions: usize,
    /// How many at a time.
    pub workers: usize,
    /// Bytes of WAL after which it is checkpointed.
    pub wal_bytes: u64,
    /// Writes after which rows are moved from the journal into the table.
    pub journal_writes: usize,
    /// Bytes of payload at most.
    pub payload: usize,
    /// Whether somebody reads now and then and keeps a checkpoint from its end.
    pub readers: Option<Readers>,
}

/// Others that read the file.
#[derive(Clone, Copy, Debug)]
pub struct Readers {
    /// So many in a hundred transactions have one that reads meanwhile.
    pub percent: u8,
}

/// Why a worker stopped.
#[derive(Debug)]
pub enum Stopped {
    /// The store does not know what became of a write, or does not answer.
    Failed,
    /// The store is full and stays so.
    Full,
}

/// Times a write that was refused is offered again.
const PATIENCE: usize = 40;

impl Workload {
    /// One of a size that lets every situation come up.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // The store looks at its WAL after some hundred rows. If it then finds many times its bound it waits for
        // readers and cuts the WAL off; below that it copies what it can and begins the WAL anew when it may.
        let cuts_off = rng.bool();
        Self {
            seed,
            transactions: rng.usize(80..180),
            workers: rng.usize(1..16),
            wal_bytes: if cuts_off { 4096 } else { 512 * 1024 },
            journal_writes: rng.usize(1..120),
            payload: rng.usize(50..4000),
            readers: (!cuts_off && rng.bool()).then_some(Readers { percent: 20 }),
        }
    }

    /// A small one, which still fills its WAL once or twice.
    #[must_use]
    pub fn small(seed: u64) -> Self {
        Self { transactions: 75, payload: 1500, readers: None, ..Self::draw(seed) }
    }

    /// How the file is to be opened.
    #[must_use]
    pub fn options(&self) -> SqliteOptions {
        // By the clock of the machine nothing must happen: what happens would differ from run to run.
        let never = Duration::from_secs(3600);
        let (wal_bytes, journal_writes) = (self.wal_bytes, self.journal_writes);
        SqliteOptions { readers: 1, wal_bytes, journal_writes, idle: never, settle: never }
    }

    /// Runs it. Ends early when the store fails.
    pub async fn run(&self, lab: &Arc<Lab>, folder: &Path) {
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = Vec::new();
        for worker in 0..self.workers {
            let (workload, lab, next) = (self.clone(), Arc::clone(lab), Arc::clone(&next));
            let folder = folder.to_owned();
            let mut rng = Rng::with_seed(self.seed ^ (worker as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            workers.push(tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= workload.transactions {
                        return;
                    }
                    let reads = workload.readers.is_some_and(|readers| rng.u8(0..100) < readers.percent);
                    let reader = reads.then(|| read(&folder));
                    if let Err(Stopped::Failed) = transaction(&lab, number, workload.payload, &mut rng).await
                    {
                        return;
                    }
                    drop(reader);
                    if number % 30 == 29 {
                        let now = lab.now();
                        let ago = |ms| now - Duration::from_millis(ms);
                        // A store that fails is found out by the next write.
                        let _ = lab.purge(ago(rng.u64(0..800)), ago(rng.u64(800..2000)), 10_000).await;
                    }
                }
            }));
        }
        for worker in workers {
            worker.await.expect("no worker panics");
        }
    }
}

/// Somebody who reads, from now until it is dropped.
fn read(folder: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(folder.join(File::Db.name()), flags).expect("a reader");
    reader.execute_batch("BEGIN; SELECT count(*) FROM transactions").expect("a read");
    reader
}

/// The life of one transaction.
async fn transaction(lab: &Lab, number: usize, payload: usize, rng: &mut Rng) -> Result<(), Stopped> {
    let gid: Gid = format!("t/{number}").parse().expect("a gid");
    match rng.u8(0..100) {
        0..5 => {
            let cancelled =
                Transaction::cancelled_before_begin(gid, "nothing began".into(), patience(), lab.now());
            save(lab, Change::begin(cancelled, None), rng).await?;
            return Ok(());
        }
        5..25 => {
            let stored = begin(lab, gid, Decider::Coordinator, payload, rng).await?;
            return drive(lab, stored, rng).await;
        }
        _ => {}
    }
    let mut stored = begin(lab, gid.clone(), Decider::Initiator, payload, rng).await?;
    for id in 10..rng.usize(10..13) {
        let event = Event::Register(vec![branch(id, Decider::Initiator, payload, rng)]);
        stored = apply(lab, stored, event, rng).await?;
    }
    if rng.u8(0..10) == 0 {
        // Left alone, as when the initiator vanished.
        return Ok(());
    }
    let tried = stored.transaction().branches().iter().map(|branch| branch.definition().id.clone()).collect();
    let (confirm, cancel) = (Event::Confirm { tried }, Event::Cancel { reason: "no seat left".into() });
    stored = match rng.u8(0..10) {
        0..3 => apply(lab, stored, cancel, rng).await?,
        3..6 => {
            // Two sides decide at once, each on what it read; one wins.
            let (one, other) = (change(stored.clone(), confirm, lab), change(stored, cancel, lab));
            let mut others = rng.fork();
            let won = tokio::join!(save(lab, one, rng), save(lab, other, &mut others));
            match won {
                (Ok(Some(stored)), _) | (_, Ok(Some(stored))) => stored,
                (Ok(None), Ok(None)) => unreachable!("one of two wins"),
                (Err(stopped), _) | (_, Err(stopped)) => return Err(stopped),
            }
        }
        _ => apply(lab, stored, confirm, rng).await?,
    };
    if rng.bool() {
        // The next step is another's, who reads first.
        stored = match load(lab, &gid).await {
            Ok(Some(Found::Stored(stored))) => *stored,
            Ok(found) => panic!("{gid} is unfinished, and {found:?} was found"),
            Err(LoadError::Unavailable(_)) => return Err(Stopped::Failed),
            Err(LoadError::Undecodable(error)) => panic!("{error}"),
        };
    }
    drive(lab, stored, rng).await
}

/// Makes the calls that are due, whose participants answer one way or the other, until nothing is left to do.
async fn drive(lab: &Lab, mut stored: Stored, rng: &mut Rng) -> Result<(), Stopped> {
    loop {
        let due = stored.transaction().due().unwrap_or_default();
        let now = lab.now().max(due);
        match stored.plan(now) {
            Plan::Finished => return Ok(()),
            Plan::Expire => stored = apply_at(lab, stored, Event::Expire, now, rng).await?,
            Plan::Work { calls, .. } => {
                for call in calls {
                    let reply = match rng.u8(0..20) {
                        0 => Reply::Refused("sold out".into()),
                        1 => {
                            let seen = "503".to_owned();
                            Reply::Unknown { seen, retry_after: None, outlook: Outlook::Passing }
                        }
                        _ => Reply::Done(None),
                    };
                    let random = Random(rng.u32(..));
                    let event =
                        Event::Reply { branch: call.branch, operation: call.operation, reply, random };
                    stored = apply_at(lab, stored, event, now, rng).await?;
                    if rng.u8(0..40) == 0 {
                        // Left in the middle, as by a coordinator that is busy.
                        return Ok(());
                    }
                }
            }
        }
    }
}

async fn begin(
    lab: &Lab,
    gid: Gid,
    decider: Decider,
    payload: usize,
    rng: &mut Rng,
) -> Result<Stored, Stopped> {
    let digest = Digest::of(gid.as_str());
    let branches = (0..rng.usize(1..4)).map(|id| branch(id, decider, payload, rng)).collect();
    let timeout = Duration::from_secs(3600);
    let begin =
        Begin { gid, decider, timeout, check: None, parent: None, traceparent: None, branches, digest };
    let transaction = Transaction::begin(begin, patience(), lab.now()).expect("branches that fit together");
    match save(lab, Change::begin(transaction, Some(digest)), rng).await? {
        Some(stored) => Ok(stored),
        None => panic!("nobody else begins this one"),
    }
}

fn branch(id: usize, decider: Decider, payload: usize, rng: &mut Rng) -> Definition {
    let endpoint = |operation: &str| Some(format!("local:stock/{operation}").parse().expect("an endpoint"));
    let payload: String = (0..rng.usize(0..payload)).map(|_| rng.alphanumeric()).collect();
    let payload: Box<_> = serde_json::value::RawValue::from_string(format!("\"{payload}\"")).expect("JSON");
    Definition {
        id: format!("b{id}").parse().expect("a branch id"),
        after: Vec::new(),
        try_: endpoint("try").filter(|_| decider == Decider::Coordinator),
        confirm: endpoint("confirm"),
        cancel: endpoint("cancel"),
        no_cancel: false,
        payload: Some(payload.into()),
        headers: Default::default(),
        retry: Retry::default(),
        delay: Duration::ZERO,
        reserves: None,
        timeout: None,
    }
}

const fn patience() -> Patience {
    Patience { attempts: 3, age: Duration::from_secs(600) }
}

fn change(stored: Stored, event: Event, lab: &Lab) -> Change {
    match stored.apply(event, lab.now()) {
        Applied::Changed(change) => change,
        Applied::Kept(_) | Applied::Rejected(..) => panic!("a decision changes what is undecided"),
    }
}

async fn apply(lab: &Lab, stored: Stored, event: Event, rng: &mut Rng) -> Result<Stored, Stopped> {
    let now = lab.now();
    apply_at(lab, stored, event, now, rng).await
}

async fn apply_at(
    lab: &Lab,
    stored: Stored,
    event: Event,
    now: Timestamp,
    rng: &mut Rng,
) -> Result<Stored, Stopped> {
    match stored.apply(event, now) {
        Applied::Changed(change) => match save(lab, change, rng).await? {
            Some(stored) => Ok(stored),
            None => panic!("nobody else changes this one"),
        },
        Applied::Kept(stored) => Ok(stored),
        Applied::Rejected(stored, rejection) => panic!("{stored:?}: {rejection}"),
    }
}

/// Saves, and offers anew what a full disk refused. Gives nothing if another writer was first.
async fn save(lab: &Lab, change: Change, rng: &mut Rng) -> Result<Option<Stored>, Stopped> {
    for _ in 0..PATIENCE {
        let claim = rng.bool().then_some(Duration::from_secs(30));
        match change.clone().save(lab, rng.u64(..), claim).await {
            Ok(stored) => return Ok(Some(stored)),
            Err(SaveError::Conflict) => return Ok(None),
            Err(SaveError::Refused(_)) => tokio::task::yield_now().await,
            Err(SaveError::Unknown(_)) => return Err(Stopped::Failed),
        }
    }
    Err(Stopped::Full)
}
