//! The model: what guard rows, accounts and effects come to, told without a database and without the guard's code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tcc_client::{Operation, Row};

use crate::banks::{Bank, Books, GuardRow};
use crate::flaky::Fate;
use crate::payment::{Charge, How, Seen};

/// What an account has at first: less than its branches would like to reserve together.
pub(super) const FUNDS: i64 = 25;
pub(super) const CENTS: i64 = 10;
pub(super) const ACCOUNTS: [&str; 2] = ["alice", "bob"];
pub(super) const GIDS: u8 = 5;
pub(super) const BRANCHES: u8 = 2;

/// A branch of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) gid: u8,
    pub(super) branch: u8,
}

/// One call, and what befalls it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) key: Key,
    pub(super) operation: Doing,
    pub(super) payload: Payload,
    pub(super) mark: Mark,
    pub(super) fate: Fate,
    /// Which of the participant's processes is called.
    pub(super) replica: usize,
    /// Different for each call, to tell in replies and reasons whose they are.
    pub(super) number: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Doing {
    Try,
    Confirm,
    Cancel,
}

/// What the payload makes the method do, if there is money enough and the method is run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Payload {
    Plain,
    Reply,
    Refuse,
    Fail,
    Unreadable,
}

/// What `Tcc-Settled` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mark {
    /// It is not there.
    Absent,
    /// The transaction did not begin before it.
    Open,
    /// The transaction began before it.
    Settled,
}

/// What a call is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    Done(Value),
    Refused(String),
    /// The code of any other problem.
    Problem(String),
}

/// How much a call wrote.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrote {
    Nothing,
    /// A guard row without a method.
    Row,
    /// What a method did, and its guard row.
    Work,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct World {
    /// Whether tries are prepared by the database, and a cancelled one leaves nothing.
    prepares: bool,
    pub(super) rows: BTreeMap<Key, Row>,
    pub(super) accounts: BTreeMap<String, Books>,
    /// The operations whose effects are there, in order.
    pub(super) effects: BTreeMap<Key, Vec<String>>,
    /// The kept mark: transactions below this number began before it.
    pub(super) settled: u8,
}

/// One of the things that happen at once.
#[derive(Clone, Copy)]
enum Event<'a> {
    Call(&'a Ask, &'a Option<Heard>),
    Clean(Cleaning),
}

/// A clean-up by the mark of this transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cleaning {
    pub(super) before: u8,
    pub(super) fate: Fate,
}

const ENDED: &str = "the transaction has ended long ago";
/// When the first transaction began; the others follow.
const BEGUN: i64 = 2000;

impl Key {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..GIDS).flat_map(|gid| (0..BRANCHES).map(move |branch| Self { gid, branch }))
    }

    pub(super) fn names(self) -> (String, String) {
        (format!("g{}", self.gid), format!("b{}", self.branch))
    }

    fn named(gid: &str, branch: &str) -> Self {
        Self { gid: gid[1..].parse().unwrap(), branch: branch[1..].parse().unwrap() }
    }

    pub(super) fn begun(self) -> i64 {
        BEGUN + i64::from(self.gid)
    }

    /// What is prepared locks its account, so that a second try would wait for the first one's end: there each branch
    /// has its own.
    fn account(self, prepares: bool) -> String {
        let (gid, branch) = self.names();
        let shared = ACCOUNTS[usize::from(self.gid + self.branch) % ACCOUNTS.len()];
        if prepares { format!("{gid}/{branch}") } else { shared.into() }
    }
}

impl Doing {
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Try => Operation::Try,
            Self::Confirm => Operation::Confirm,
            Self::Cancel => Operation::Cancel,
        }
    }

    fn moves(self) -> Books {
        match self {
            Self::Try => Books { free: -CENTS, reserved: CENTS, spent: 0 },
            Self::Confirm => Books { free: 0, reserved: -CENTS, spent: CENTS },
            Self::Cancel => Books { free: CENTS, reserved: -CENTS, spent: 0 },
        }
    }
}

impl Ask {
    pub(super) fn body(&self, prepares: bool) -> Vec<u8> {
        let (on, how) = match self.payload {
            Payload::Unreadable => return b"{".to_vec(),
            Payload::Plain => ("", How::Plainly),
            Payload::Reply => ("try", How::Reply(self.reply())),
            Payload::Refuse => ("try", How::Refuse(self.reason())),
            Payload::Fail => (self.operation.operation().as_str(), How::Fail("as the payload says".into())),
        };
        let account = self.key.account(prepares);
        let charge = Charge { account, cents: CENTS, on: on.into(), how };
        serde_json::to_vec(&charge).unwrap()
    }

    fn reply(&self) -> Value {
        json!({ "call": self.number })
    }

    fn reason(&self) -> String {
        format!("reason {}", self.number)
    }
}

impl Cleaning {
    pub(super) fn mark(self) -> i64 {
        BEGUN + i64::from(self.before)
    }
}

impl Heard {
    pub(super) fn of(seen: &Seen) -> Self {
        match seen.code() {
            "done" => Self::Done(seen.body.clone()),
            "refused" => Self::Refused(seen.body["detail"].as_str().unwrap_or_default().into()),
            code => Self::Problem(code.into()),
        }
    }

    pub(super) fn word(&self) -> &str {
        match self {
            Self::Done(_) => "done",
            Self::Refused(_) => "refused",
            Self::Problem(code) => code,
        }
    }

    fn replied(reply: Option<&String>) -> Self {
        Self::Done(reply.map_or(Value::Null, |text| serde_json::from_str(text).unwrap()))
    }

    fn problem(code: &str) -> Self {
        Self::Problem(code.into())
    }
}

impl World {
    pub(super) fn new(prepares: bool) -> Self {
        let funds = Books { free: FUNDS, reserved: 0, spent: 0 };
        Self {
            prepares,
            rows: BTreeMap::new(),
            accounts: Key::all().map(|key| (key.account(prepares), funds)).collect(),
            effects: BTreeMap::new(),
            settled: 0,
        }
    }

    /// What a bank holds, as far as it can be read there.
    pub(super) async fn read<B: Bank>(bank: &B) -> Self {
        let mut world = Self::new(B::PREPARES);
        if let Some(mark) = bank.mark().await {
            world.settled = u8::try_from(mark - BEGUN).unwrap();
        }
        for GuardRow { gid, branch, state, kept } in bank.rows().await {
            world.rows.insert(Key::named(&gid, &branch), Row::from_columns(&state, kept).unwrap());
        }
        world.accounts = bank.accounts().await;
        for entry in bank.log().await {
            let words: Vec<_> = entry.split('|').collect();
            world.effects.entry(Key::named(words[0], words[1])).or_default().push(words[2].into());
        }
        world
    }

    /// The branches of transactions before this one that have not ended, as far as the guard knows.
    pub(super) fn unfinished(&self, before: u8) -> Vec<Key> {
        let open = |key: &Key| matches!(self.rows.get(key), None | Some(Row::Tried { .. }));
        Key::all().filter(|key| (self.settled..before).contains(&key.gid)).filter(open).collect()
    }

    /// What a clean-up by the mark of this transaction does.
    pub(super) fn forget(&mut self, before: u8) {
        self.rows.retain(|key, _| key.gid >= before);
        self.settled = self.settled.max(before);
    }

    /// What one call does when nothing goes wrong, as in the table at the head of `guard.rs`.
    pub(super) fn call(&mut self, ask: &Ask) -> Heard {
        self.answer(ask).0
    }

    fn answer(&mut self, ask: &Ask) -> (Heard, Wrote) {
        match ask.operation {
            Doing::Try => self.try_(ask),
            Doing::Confirm => self.confirm(ask),
            Doing::Cancel => self.cancel(ask),
        }
    }

    fn try_(&mut self, ask: &Ask) -> (Heard, Wrote) {
        let refused = match self.rows.get(&ask.key) {
            Some(Row::Tried { reply } | Row::Confirmed { reply }) => {
                return (Heard::replied(reply.as_ref()), Wrote::Nothing);
            }
            Some(Row::Refused { reason }) => return (Heard::Refused(reason.clone()), Wrote::Nothing),
            Some(Row::Cancelled) => {
                return (Heard::Refused("the branch is cancelled".into()), Wrote::Nothing);
            }
            None if ask.mark == Mark::Settled => Some(ENDED.to_owned()),
            None if ask.key.gid < self.settled => return (Heard::Refused(ENDED.into()), Wrote::Nothing),
            None => match ask.payload {
                Payload::Unreadable => {
                    let error = serde_json::from_slice::<Charge>(&ask.body(self.prepares)).unwrap_err();
                    Some(format!("the payload cannot be read: {error}"))
                }
                _ if self.accounts[&ask.key.account(self.prepares)].free < CENTS => Some("no funds".into()),
                Payload::Refuse => Some(ask.reason()),
                Payload::Fail => return (Heard::problem("internal"), Wrote::Nothing),
                Payload::Plain | Payload::Reply => None,
            },
        };
        if let Some(reason) = refused {
            self.rows.insert(ask.key, Row::Refused { reason: reason.clone() });
            return (Heard::Refused(reason), Wrote::Row);
        }
        let reply = (ask.payload == Payload::Reply).then(|| ask.reply().to_string());
        let heard = Heard::replied(reply.as_ref());
        self.work(ask, Row::Tried { reply });
        (heard, Wrote::Work)
    }

    fn confirm(&mut self, ask: &Ask) -> (Heard, Wrote) {
        let reply = match self.rows.get(&ask.key) {
            None | Some(Row::Refused { .. }) => return (Heard::problem("not-tried"), Wrote::Nothing),
            Some(Row::Cancelled) => return (Heard::problem("already-cancelled"), Wrote::Nothing),
            Some(Row::Confirmed { .. }) => return (Heard::Done(Value::Null), Wrote::Nothing),
            Some(Row::Tried { reply }) => reply.clone(),
        };
        self.end(ask, Row::Confirmed { reply })
    }

    fn cancel(&mut self, ask: &Ask) -> (Heard, Wrote) {
        match self.rows.get(&ask.key) {
            None => {
                self.rows.insert(ask.key, Row::Cancelled);
                (Heard::Done(Value::Null), Wrote::Row)
            }
            Some(Row::Refused { .. } | Row::Cancelled) => (Heard::Done(Value::Null), Wrote::Nothing),
            Some(Row::Confirmed { .. }) => (Heard::problem("already-confirmed"), Wrote::Nothing),
            Some(Row::Tried { .. }) => self.end(ask, Row::Cancelled),
        }
    }

    /// A confirm or a cancel of what was tried.
    fn end(&mut self, ask: &Ask, row: Row) -> (Heard, Wrote) {
        match ask.payload {
            Payload::Unreadable => (Heard::problem("unreadable-payload"), Wrote::Nothing),
            Payload::Fail => (Heard::problem("internal"), Wrote::Nothing),
            Payload::Plain | Payload::Reply | Payload::Refuse => {
                self.work(ask, row);
                (Heard::Done(Value::Null), Wrote::Work)
            }
        }
    }

    fn work(&mut self, ask: &Ask, row: Row) {
        let account = ask.key.account(self.prepares);
        let books = self.accounts.get_mut(&account).expect("every key has an account");
        let by = ask.operation.moves();
        books.free += by.free;
        books.reserved += by.reserved;
        books.spent += by.spent;
        if self.prepares && ask.operation == Doing::Cancel {
            self.effects.remove(&ask.key);
        } else {
            self.effects.entry(ask.key).or_default().push(ask.operation.operation().as_str().into());
        }
        self.rows.insert(ask.key, row);
    }

    /// Halfway through a cancel of what is prepared: it is rolled back, and there is no row yet.
    fn halfway(&self, event: Event<'_>) -> Option<Self> {
        let Event::Call(ask, _) = event else { return None };
        let tried = matches!(self.rows.get(&ask.key), Some(Row::Tried { .. }));
        let comes_to_it = match ask.fate {
            Fate::KilledFirst | Fate::KilledHalfway | Fate::CommitLost => false,
            Fate::Well | Fate::Conflict | Fate::AnswerLost | Fate::KilledCommitting | Fate::HungUp => true,
        };
        let cancels = ask.operation == Doing::Cancel && self.clone().call(ask) == Heard::Done(Value::Null);
        if !(self.prepares && tried && cancels && comes_to_it) {
            return None;
        }
        let mut world = self.clone();
        world.call(ask);
        world.rows.remove(&ask.key);
        Some(world)
    }

    /// Everything that a call may come to, with what befalls it. `None`: nobody heard the answer.
    fn outcomes(&self, ask: &Ask) -> Vec<(Option<Heard>, Self)> {
        let mut after = self.clone();
        let (heard, wrote) = after.answer(ask);
        let (heard, before) = (Some(heard), self.clone());
        let problem = |code| Some(Heard::problem(code));
        match (ask.fate, wrote) {
            (Fate::Well | Fate::Conflict, _) => vec![(heard, after)],
            (Fate::HungUp, _) => vec![(None, after), (None, before)],
            (Fate::KilledFirst, _) => vec![(problem("internal"), before)],
            // Of a confirm or a cancel nothing was written yet, and it is found out when it is sent.
            (Fate::KilledHalfway, Wrote::Work) if self.prepares && ask.operation != Doing::Try => {
                vec![(problem("unknown"), before)]
            }
            (Fate::KilledHalfway, Wrote::Work) => vec![(problem("internal"), before)],
            (Fate::AnswerLost, Wrote::Row | Wrote::Work) => vec![(problem("unknown"), after)],
            (Fate::CommitLost, Wrote::Row | Wrote::Work) => vec![(problem("unknown"), before)],
            (Fate::KilledCommitting, Wrote::Row | Wrote::Work) => {
                vec![(heard, after.clone()), (problem("unknown"), after), (problem("unknown"), before)]
            }
            (Fate::KilledHalfway, Wrote::Row) => vec![(heard, after)],
            // What writes nothing has nothing to commit.
            (
                Fate::KilledHalfway | Fate::AnswerLost | Fate::CommitLost | Fate::KilledCommitting,
                Wrote::Nothing,
            ) => vec![(heard, before)],
        }
    }

    /// Everything that a clean-up may come to: a row that others use at the same time may stay.
    fn cleaned(&self, cleaning: Cleaning, used: &[Key]) -> Vec<Self> {
        let mut outcomes = vec![self.clone()];
        outcomes[0].forget(cleaning.before);
        let old = |key: &&Key| key.gid < cleaning.before;
        for (key, row) in used.iter().filter(old).filter_map(|key| self.rows.get_key_value(key)) {
            let mut staying = outcomes.clone();
            staying.iter_mut().for_each(|world| drop(world.rows.insert(*key, row.clone())));
            outcomes.append(&mut staying);
        }
        if cleaning.fate != Fate::Well {
            outcomes.push(self.clone());
        }
        outcomes
    }

    /// Whether there is an order in which these calls and this clean-up, one after the other, are answered so and
    /// leave that world.
    pub(super) fn explains(
        &self,
        asks: &[Ask],
        heard: &[Option<Heard>],
        cleaning: Option<Cleaning>,
        after: &Self,
    ) -> bool {
        fn reaches(world: &World, left: &mut Vec<Event<'_>>, used: &[Key], after: &World) -> bool {
            if left.is_empty() {
                return world == after;
            }
            for place in 0..left.len() {
                let event = left.remove(place);
                let outcomes = match event {
                    Event::Call(ask, heard) => {
                        let outcomes = world.outcomes(ask).into_iter();
                        let said = outcomes.filter(|(said, _)| said.is_none() || said == heard);
                        said.map(|(_, world)| world).collect()
                    }
                    Event::Clean(cleaning) => world.cleaned(cleaning, used),
                };
                let found = outcomes.iter().any(|world| reaches(world, left, used, after));
                left.insert(place, event);
                let halfway = world.halfway(event);
                if found || halfway.is_some_and(|world| reaches(&world, left, used, after)) {
                    return true;
                }
            }
            false
        }
        let mut used: Vec<_> = asks.iter().map(|ask| ask.key).collect();
        used.sort();
        used.dedup();
        let calls = asks.iter().zip(heard).map(|(ask, heard)| Event::Call(ask, heard));
        reaches(self, &mut calls.chain(cleaning.map(Event::Clean)).collect(), &used, after)
    }

    /// What must be true whatever was called, and that the model of a single call could itself get wrong.
    pub(super) fn is_sound(&self) -> Result<(), String> {
        let mut expected = Self::new(self.prepares).accounts;
        for key in Key::all() {
            let effects: Vec<_> = self.effects.get(&key).into_iter().flatten().map(String::as_str).collect();
            let account = key.account(self.prepares);
            let books = expected.get_mut(&account).expect("every key has an account");
            let (reserved, spent) = match effects[..] {
                [] | ["try", "cancel"] => (0, 0),
                ["try"] => (CENTS, 0),
                ["try", "confirm"] => (0, CENTS),
                _ => return Err(format!("{key:?} had the effects {effects:?}")),
            };
            books.free -= reserved + spent;
            books.reserved += reserved;
            books.spent += spent;
            let agree = match self.rows.get(&key) {
                _ if key.gid < self.settled => effects[..] != ["try"],
                None | Some(Row::Refused { .. }) => effects.is_empty(),
                Some(Row::Tried { .. }) => effects[..] == ["try"],
                Some(Row::Confirmed { .. }) => effects[..] == ["try", "confirm"],
                Some(Row::Cancelled) => effects[..] != ["try"] && effects[..] != ["try", "confirm"],
            };
            if !agree {
                return Err(format!("{key:?} is {:?} and had the effects {effects:?}", self.rows.get(&key)));
            }
        }
        if self.accounts != expected || expected.values().any(|books| books.free < 0) {
            return Err(format!("the accounts hold {:?}, and by their effects {expected:?}", self.accounts));
        }
        Ok(())
    }
}
