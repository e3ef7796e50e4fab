//! A store in memory: for tests, for embedding without durability, and as the plainest reading of the contract.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::{
    BoxFuture, Claimed, Counts, Filter, Listing, Page, Parked, Refusal, Row, Store, Subscription,
    Unavailable, Unknown, Write, Written,
};
use crate::topic::Subscriber;
use crate::{Endpoint, Gid, Phase, SubscriberId, Timestamp, TopicName};

/// A store that forgets everything when it is dropped.
///
/// ```
/// use std::time::Instant;
/// use tcc_core::{MemoryStore, Store, Timestamp};
///
/// let opened = Instant::now();
/// let store = MemoryStore::new(move || Timestamp::from_millis(0) + opened.elapsed());
/// assert!(store.now() >= Timestamp::from_millis(0));
/// ```
pub struct MemoryStore {
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    rows: Mutex<Rows>,
    subscribers: Mutex<BTreeMap<(TopicName, SubscriberId), Endpoint>>,
}

#[derive(Default)]
struct Rows {
    /// By the order in which they were inserted, counted from 1.
    by_order: BTreeMap<u64, Kept>,
    by_gid: HashMap<Gid, u64>,
    /// What has not ended, the longest due first.
    due: BTreeSet<(Timestamp, u64)>,
    /// What of that is parked, by destination, the longest parked first.
    parked: BTreeMap<String, BTreeSet<(Timestamp, u64)>>,
    inserted: u64,
}

struct Kept {
    row: Row,
    claimed_until: Option<Timestamp>,
}

impl MemoryStore {
    /// An empty store that goes by this clock.
    #[must_use]
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), rows: Mutex::default(), subscribers: Mutex::default() }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Nothing here panics half way through a change.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<Vec<Written>, Unknown>> {
        Box::pin(async move {
            let now = self.now();
            let mut rows = self.rows();
            Ok(batch.into_iter().map(|write| rows.write(write, now)).collect())
        })
    }

    fn load<'a>(&'a self, gid: &'a Gid) -> BoxFuture<'a, Result<Option<Row>, Unavailable>> {
        Box::pin(async move {
            let rows = self.rows();
            Ok(rows.by_gid.get(gid).map(|order| rows.by_order[order].row.clone()))
        })
    }

    fn list<'a>(&'a self, filter: &'a Filter, page: Page) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        Box::pin(async move { Ok(self.rows().list(filter, &page)) })
    }

    fn claim(&self, lease: Duration, limit: usize) -> BoxFuture<'_, Result<Claimed, Unavailable>> {
        Box::pin(async move {
            let now = self.now();
            Ok(self.rows().claim(now, now + lease, limit))
        })
    }

    fn claim_parked<'a>(
        &'a self,
        destination: &'a str,
        lease: Duration,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Row>, Unavailable>> {
        Box::pin(async move {
            let now = self.now();
            Ok(self.rows().claim_parked(destination, now, now + lease, limit))
        })
    }

    fn parked_at(&self, limit: usize) -> BoxFuture<'_, Result<Vec<String>, Unavailable>> {
        Box::pin(async move { Ok(self.rows().parked.keys().take(limit).cloned().collect()) })
    }

    fn counts(&self) -> BoxFuture<'_, Result<Counts, Unavailable>> {
        Box::pin(async move { Ok(self.rows().counts()) })
    }

    fn purge(
        &self,
        ended_before: Timestamp,
        forget_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, Unavailable>> {
        Box::pin(async move { Ok(self.rows().purge(ended_before, forget_before, limit)) })
    }

    fn subscribe(&self, change: Subscription) -> BoxFuture<'_, Result<Result<(), Refusal>, Unknown>> {
        Box::pin(async move {
            let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            match change {
                Subscription::Put(Subscriber { topic, id, deliver }) => {
                    subscribers.insert((topic, id), deliver)
                }
                Subscription::Drop(topic, id) => subscribers.remove(&(topic, id)),
            };
            Ok(Ok(()))
        })
    }

    fn subscribers<'a>(
        &'a self,
        topic: Option<&'a TopicName>,
    ) -> BoxFuture<'a, Result<Vec<Subscriber>, Unavailable>> {
        Box::pin(async move {
            let subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            let of_it = subscribers.iter().filter(|((name, _), _)| topic.is_none_or(|topic| topic == name));
            let told = |((topic, id), deliver): (&(TopicName, SubscriberId), &Endpoint)| Subscriber {
                topic: topic.clone(),
                id: id.clone(),
                deliver: deliver.clone(),
            };
            Ok(of_it.map(told).collect())
        })
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

impl Rows {
    fn write(&mut self, write: Write, now: Timestamp) -> Written {
        let Write { row, replaces, claim } = write;
        if let Err(refusal) = storable(&row) {
            return Written::Refused(refusal);
        }
        let known = self.by_gid.get(&row.gid).copied();
        let held = known.and_then(|order| self.by_order.get(&order)).map(|kept| &kept.row);
        if held.is_some_and(|held| (held.version, held.tag) == (row.version, row.tag)) {
            return Written::Won;
        }
        if held.map(|held| held.version) != replaces {
            return Written::Lost;
        }
        let order = known.unwrap_or_else(|| {
            self.inserted += 1;
            self.inserted
        });
        if let Some(due_at) = held.and_then(|held| held.due_at) {
            self.due.remove(&(due_at, order));
        }
        if let Some(Parked { at, since }) = held.and_then(|held| held.parked.as_ref())
            && let Some(parked) = self.parked.get_mut(at)
        {
            parked.remove(&(*since, order));
            if parked.is_empty() {
                self.parked.remove(at);
            }
        }
        if let Some(due_at) = row.due_at {
            self.due.insert((due_at, order));
        }
        if let Some(Parked { at, since }) = &row.parked {
            self.parked.entry(at.clone()).or_default().insert((*since, order));
        }
        self.by_gid.insert(row.gid.clone(), order);
        self.by_order.insert(order, Kept { row, claimed_until: claim.map(|lease| now + lease) });
        Written::Won
    }

    fn list(&self, filter: &Filter, page: &Page) -> Listing {
        let from = page.after.unwrap_or(0).saturating_add(1);
        let mut matching = self.by_order.range(from..).filter(|(_, kept)| matches(filter, &kept.row));
        let mut listing = Listing::default();
        let mut last = None;
        for (order, kept) in matching.by_ref().take(page.size) {
            listing.rows.push(kept.row.clone());
            last = Some(*order);
        }
        listing.next = matching.next().and(last);
        listing
    }

    fn claim(&mut self, now: Timestamp, until: Timestamp, limit: usize) -> Claimed {
        let mut claimed = Claimed::default();
        for &(due_at, order) in &self.due {
            if claimed.next.is_some_and(|next| next <= due_at) {
                break;
            }
            let Some(kept) = self.by_order.get_mut(&order) else { continue };
            let mut free_at = kept.claimed_until.map_or(due_at, |until| until.max(due_at));
            if free_at <= now && claimed.rows.len() < limit {
                kept.claimed_until = Some(until);
                claimed.rows.push(kept.row.clone());
                free_at = until;
            }
            claimed.next = Some(claimed.next.map_or(free_at, |next| next.min(free_at)));
        }
        claimed
    }

    fn claim_parked(
        &mut self,
        destination: &str,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Vec<Row> {
        let mut claimed = Vec::new();
        for (_, order) in self.parked.get(destination).into_iter().flatten() {
            if claimed.len() == limit {
                break;
            }
            let Some(kept) = self.by_order.get_mut(order) else { continue };
            if kept.claimed_until.is_none_or(|until| until <= now) {
                kept.claimed_until = Some(until);
                claimed.push(kept.row.clone());
            }
        }
        claimed
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for row in self.by_order.values().map(|kept| &kept.row).filter(|row| !row.document.is_empty()) {
            let number = Phase::ALL.iter().position(|phase| *phase == row.phase);
            counts.phases[number.expect("every phase is in Phase::ALL")] += 1;
            counts.attention += u64::from(row.attention);
            if row.ended_at.is_none() {
                let oldest = counts.oldest_unfinished.map_or(row.created_at, |at| at.min(row.created_at));
                counts.oldest_unfinished = Some(oldest);
            }
        }
        counts
    }

    fn purge(&mut self, ended_before: Timestamp, forget_before: Timestamp, limit: usize) -> usize {
        let before = |row: &Row, bound| row.ended_at.is_some_and(|ended_at| ended_at < bound);
        let forgotten: Vec<u64> = self
            .by_order
            .iter()
            .filter(|(_, kept)| kept.row.document.is_empty() && before(&kept.row, forget_before))
            .map(|(order, _)| *order)
            .take(limit)
            .collect();
        for order in &forgotten {
            if let Some(kept) = self.by_order.remove(order) {
                self.by_gid.remove(&kept.row.gid);
            }
        }
        let mut emptied = 0;
        for Kept { row, .. } in self.by_order.values_mut() {
            if emptied < limit && !row.document.is_empty() && before(row, ended_before) {
                row.document = Vec::new();
                row.attention = false;
                // A purge is a write like any other: whoever read the row before it cannot bring it back.
                row.version += 1;
                emptied += 1;
            }
        }
        forgotten.len() + emptied
    }
}

fn storable(row: &Row) -> Result<(), Refusal> {
    let flaw = if row.document.is_empty() {
        "its document is empty, which means purged"
    } else if row.phase.ended() != row.ended_at.is_some() {
        "its phase and the moment it ended contradict each other"
    } else if row.phase.ended() == row.due_at.is_some() {
        "its phase and the moment it is due contradict each other"
    } else if row.phase.ended() && row.parked.is_some() {
        "its phase and that it is parked contradict each other"
    } else {
        return Ok(());
    };
    Err(Refusal::Unstorable(flaw.into()))
}

fn matches(filter: &Filter, row: &Row) -> bool {
    !row.document.is_empty()
        && filter.phase.is_none_or(|phase| phase == row.phase)
        && filter.attention.is_none_or(|attention| attention == row.attention)
        && filter.prefix.as_ref().is_none_or(|prefix| row.gid.as_str().starts_with(prefix))
        && filter.created_from.is_none_or(|from| from <= row.created_at)
        && filter.created_before.is_none_or(|before| row.created_at < before)
}
