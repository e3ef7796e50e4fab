//! Who is driving what in this process, who waits for what, and when the scheduler is to look again.

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::HashMap;
use tcc_core::{Gid, Stored, Timestamp};
use tokio::sync::{Notify, watch};

use crate::limits;
use crate::wait::Wait;

/// The transactions that have a driver here, and those somebody here waits for.
#[derive(Default)]
pub(crate) struct Live {
    drivers: Mutex<HashMap<Gid, Arc<Mailbox>>>,
    waiting: Mutex<HashMap<Gid, Vec<Arc<Listener>>>>,
    due: watch::Sender<Option<Timestamp>>,
    saving: Mutex<HashMap<Gid, Saves>>,
    /// Drivers of what was claimed from the store.
    claimed: AtomicUsize,
}

/// The saves of one transaction that are under way here.
#[derive(Default)]
struct Saves {
    under_way: usize,
    /// The newest version that any of them saved.
    newest: u64,
}

/// The newest version of a transaction that others in this process saved while it is driven.
#[derive(Default)]
pub(crate) struct Mailbox {
    newest: Mutex<Option<Stored>>,
    came: Notify,
}

impl Mailbox {
    fn put(&self, stored: Stored) {
        let mut newest = self.newest();
        if newest.as_ref().is_none_or(|known| known.version() < stored.version()) {
            *newest = Some(stored);
            self.came.notify_one();
        }
    }

    fn take(&self) -> Option<Stored> {
        self.newest().take()
    }

    fn newest(&self) -> MutexGuard<'_, Option<Stored>> {
        self.newest.lock().expect("no code under this lock can panic")
    }

    /// Waits for one that comes.
    ///
    /// # Cancel safety
    /// Safe: what came stays.
    pub(crate) async fn come(&self) -> Stored {
        loop {
            if let Some(stored) = self.take() {
                return stored;
            }
            self.came.notified().await;
        }
    }
}

impl Live {
    /// Whether another transaction may be driven here.
    pub(crate) fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// How many more transactions may be driven here.
    pub(crate) fn room(&self) -> usize {
        limits::DRIVERS.saturating_sub(self.drivers().len())
    }

    /// How many more that are claimed from the store may be driven here.
    pub(crate) fn room_for_claimed(&self) -> usize {
        limits::DRIVERS_CLAIMED.saturating_sub(self.claimed.load(Ordering::Relaxed)).min(self.room())
    }

    /// Counts a driver of what was claimed from the store, until [`Live::uncount_claimed`].
    pub(crate) fn count_claimed(&self) {
        self.claimed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn uncount_claimed(&self) {
        self.claimed.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes room for a driver. `None` where there is one already, to which the transaction was passed on, and where
    /// somebody here has saved a newer version: its writer has seen to it, and what was due in this one may not be.
    pub(crate) fn admit(&self, stored: Stored) -> Option<(Stored, Arc<Mailbox>)> {
        let gid = stored.transaction().gid().clone();
        // Held until the driver stands in its place: a newer version is either seen here, or finds the driver there.
        let saving = self.saving();
        let mut drivers = self.drivers();
        if let Some(driver) = drivers.get(&gid) {
            // A driver leaves under the same lock and only with an empty mailbox, so this is read.
            driver.put(stored);
            return None;
        }
        if saving.get(&gid).is_some_and(|saves| saves.newest > stored.version()) {
            return None;
        }
        let mailbox = Arc::<Mailbox>::default();
        drivers.insert(gid, mailbox.clone());
        Some((stored, mailbox))
    }

    /// Notes that a save is under way, until this is dropped.
    pub(crate) fn save(&self, gid: &Gid) -> Saving<'_> {
        self.saving().entry(gid.clone()).or_default().under_way += 1;
        Saving { live: self, gid: gid.clone() }
    }

    /// Notes what was saved, for those whose saves of the same transaction are under way.
    pub(crate) fn saved(&self, stored: &Stored) {
        if let Some(saves) = self.saving().get_mut(stored.transaction().gid()) {
            saves.newest = saves.newest.max(stored.version());
        }
    }

    /// Hands a newer version to the driver of the transaction, if it has one here.
    pub(crate) fn pass_on(&self, stored: &Stored) -> bool {
        let drivers = self.drivers();
        let driver = drivers.get(stored.transaction().gid());
        driver.inspect(|driver| driver.put(stored.clone())).is_some()
    }

    /// Ends a driver, unless something came for it in the meantime.
    pub(crate) fn leave(&self, gid: &Gid, mailbox: &Mailbox) -> Option<Stored> {
        let mut drivers = self.drivers();
        if let Some(newer) = mailbox.take() {
            return Some(newer);
        }
        drivers.remove(gid);
        None
    }

    /// Ends a driver, whatever came for it.
    pub(crate) fn drop_out(&self, gid: &Gid) {
        self.drivers().remove(gid);
    }

    /// Whether the transaction has a driver here.
    pub(crate) fn has(&self, gid: &Gid) -> bool {
        self.drivers().contains_key(gid)
    }

    /// How many transactions have a driver here.
    pub(crate) fn len(&self) -> usize {
        self.drivers().len()
    }

    /// Listens for what is saved of a transaction from now on.
    pub(crate) fn wait_for(&self, gid: &Gid) -> Waiting<'_> {
        let listener = Arc::<Listener>::default();
        self.waiting().entry(gid.clone()).or_default().push(listener.clone());
        Waiting { live: self, gid: gid.clone(), listener }
    }

    /// Tells those who wait what was saved.
    pub(crate) fn publish(&self, stored: &Stored) {
        if let Some(listeners) = self.waiting().get(stored.transaction().gid()) {
            listeners.iter().for_each(|listener| listener.tell(stored));
        }
    }

    /// Tells the scheduler that something is due at a moment.
    pub(crate) fn announce(&self, due: Timestamp) {
        self.due.send_if_modified(|earliest| {
            let earlier = earliest.is_none_or(|earliest| due < earliest);
            if earlier {
                *earliest = Some(due);
            }
            earlier
        });
    }

    /// What was announced since this was asked last.
    pub(crate) fn take_announced(&self) -> Option<Timestamp> {
        let mut taken = None;
        self.due.send_if_modified(|earliest| {
            taken = earliest.take();
            false
        });
        taken
    }

    /// Follows the announcements.
    pub(crate) fn announcements(&self) -> watch::Receiver<Option<Timestamp>> {
        self.due.subscribe()
    }

    fn saving(&self) -> MutexGuard<'_, HashMap<Gid, Saves>> {
        self.saving.lock().expect("no code under this lock can panic")
    }

    fn drivers(&self) -> MutexGuard<'_, HashMap<Gid, Arc<Mailbox>>> {
        self.drivers.lock().expect("no code under this lock can panic")
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Gid, Vec<Arc<Listener>>>> {
        self.waiting.lock().expect("no code under this lock can panic")
    }
}

/// A save that is under way. Whoever holds one learns, by [`Live::admit`], of newer versions saved meanwhile.
pub(crate) struct Saving<'a> {
    live: &'a Live,
    gid: Gid,
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut saves) = self.live.saving().entry(self.gid.clone()) {
            saves.get_mut().under_way -= 1;
            if saves.get().under_way == 0 {
                saves.remove();
            }
        }
    }
}

/// What somebody who waits was told.
#[derive(Default)]
struct Listener {
    heard: Mutex<Heard>,
    wake: Notify,
}

#[derive(Default)]
struct Heard {
    /// The newest version that was saved.
    newest: Option<Stored>,
    /// What is waited for: nobody is woken for less.
    until: Option<Wait>,
}

impl Listener {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().expect("no code under this lock can panic")
    }

    fn tell(&self, stored: &Stored) {
        let mut heard = self.heard();
        // Two saves may be told of in another order than they were made.
        if heard.newest.as_ref().is_none_or(|newest| newest.version() < stored.version()) {
            heard.newest = Some(stored.clone());
            if heard.until.is_some_and(|until| until.is_over(stored.transaction().phase())) {
                self.wake.notify_one();
            }
        }
    }
}

/// Somebody who waits for a transaction.
pub(crate) struct Waiting<'a> {
    live: &'a Live,
    gid: Gid,
    listener: Arc<Listener>,
}

impl Waiting<'_> {
    /// The first version saved since this listens that need not be waited for any more.
    ///
    /// # Cancel safety
    /// Safe: what was told is kept.
    pub(crate) async fn until(&self, until: Wait) -> Stored {
        loop {
            if let Some(over) = self.newest_if_over(until) {
                return over;
            }
            self.listener.wake.notified().await;
        }
    }

    fn newest_if_over(&self, until: Wait) -> Option<Stored> {
        let mut heard = self.listener.heard();
        heard.until = Some(until);
        heard.newest.take_if(|newest| until.is_over(newest.transaction().phase()))
    }

    /// The newest version saved since this listens.
    pub(crate) fn newest(&self) -> Option<Stored> {
        self.listener.heard().newest.take()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut listeners) = self.live.waiting().entry(self.gid.clone()) {
            listeners.get_mut().retain(|listener| !Arc::ptr_eq(listener, &self.listener));
            if listeners.get().is_empty() {
                listeners.remove();
            }
        }
    }
}
