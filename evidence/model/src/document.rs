//! The real `tcc-core` behind small numbers.
//!
//! Every document the protocol can write is kept once and named by a number; what the core makes of a document and
//! an event is asked of it once and remembered. So a state of the world is a few bytes, and yet every plan, every
//! change, every save and every judgement of an answer is the core's own, by way of its own memory store.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tcc_core::answer::{self, Answer, Failure, Response, Shape as AnswerShape};
use tcc_core::store::{Found, Row, SaveError, Write, Written, load};
use tcc_core::wire::{BeginRequest, RegisterRequest};
use tcc_core::{
    Applied, Begin, Change, DEADLINE, Decision, Definition, End, Event, Gid, MemoryStore, Operation,
    Patience, Phase, Plan, Random, Rejection, Retry, Store, Stored, Then, Timestamp, Transaction, Tried,
};

use crate::guard::Said;
use crate::mixer::{QuickMap, QuickSet};
use crate::shape::{BRANCHES, CHECK, Shape};
use crate::world::{Fact, Request};

/// The number of a document; 0 is none.
pub(crate) type Doc = u16;

/// Few enough that a configuration reaches it: then somebody is waiting for a human.
const PATIENCE: Patience = Patience { attempts: 2, age: Duration::from_secs(1_000_000) };

/// What a node reads from its clock. Events fall on one of two moments, and a node that plans looks from shortly
/// after: every wait between two calls is over by then. How long a node really waits is when it takes its next
/// step, and that is any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Clock {
    /// Before the deadline.
    Early,
    /// After it.
    Late,
}

impl Clock {
    const fn now(self) -> Timestamp {
        Timestamp::from_millis(match self {
            Self::Early => 1_000_000,
            Self::Late => 3_000_000,
        })
    }

    fn look(self) -> Timestamp {
        self.now() + Duration::from_millis(900_000)
    }
}

/// How what a node holds stands to what the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Standing {
    /// It read the version that the store holds.
    #[default]
    Fresh,
    /// Somebody wrote since.
    Stale,
    /// The last write was its own, but it was not told so: it offers the same write again.
    Mine,
    /// Its own write, of which it was not told, is there no more.
    Overtaken,
}

impl Standing {
    /// After somebody wrote.
    pub(crate) const fn overtaken(self) -> Self {
        match self {
            Self::Fresh | Self::Stale => Self::Stale,
            Self::Mine | Self::Overtaken => Self::Overtaken,
        }
    }
}

/// A change, as it stands in the store once it is saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saving {
    pub(crate) doc: Doc,
    /// The core called the save won over the version it had read, lost over another, and won again where it was
    /// offered a second time; and the row changed in the first case alone.
    pub(crate) sound: bool,
}

/// What the core made of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made {
    /// To be saved.
    Changed(Saving),
    /// Noted, or nothing.
    Kept(Doc),
    /// The phase is none where the reason is not the decision.
    Rejected(Option<Phase>),
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Todo {
    Expire,
    Calls(Vec<(usize, Operation)>),
    Finished,
}

/// What can be read of one branch in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Part {
    pub(crate) here: bool,
    pub(crate) tried: bool,
    pub(crate) refused: bool,
    pub(crate) coordinator_tries: bool,
    pub(crate) has_cancel: bool,
    /// Calls of its present operation that settled nothing.
    pub(crate) attempts: u32,
    /// The waits of a ladder that ends.
    pub(crate) ladder: Option<u32>,
    /// Its present operation waits for its moment.
    pub(crate) due: bool,
    pub(crate) done: bool,
    pub(crate) given_up: bool,
    pub(crate) not_needed: bool,
}

/// What can be read of a document.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) phase: Phase,
    pub(crate) parts: [Part; BRANCHES],
    pub(crate) by_deadline: bool,
    pub(crate) by_refusal: bool,
    pub(crate) attention: bool,
    pub(crate) due: bool,
    /// It was decided after the deadline.
    decided_late: bool,
    /// It was begun by its initiator, not cancelled before.
    pub(crate) begun: bool,
    row: Row,
    todo: [Todo; 2],
}

impl View {
    pub(crate) const fn decision(&self) -> Option<Decision> {
        self.phase.decision()
    }

    pub(crate) const fn todo(&self, clock: Clock) -> &Todo {
        &self.todo[clock as usize]
    }

    /// Whether a node that holds it may read this from its clock. Once the deadline has passed, a clock that is
    /// behind may still say otherwise. After the decision no time matters any more, so it stands still.
    pub(crate) fn may_read(&self, late: bool, clock: Clock) -> bool {
        match (self.phase, clock) {
            (Phase::Trying, Clock::Early) => true,
            (Phase::Trying, Clock::Late) => late,
            (_, Clock::Early) => !self.decided_late,
            (_, Clock::Late) => self.decided_late,
        }
    }

    /// What a node that holds it reads from a clock that is right.
    pub(crate) fn clock(&self, late: bool) -> Clock {
        if self.may_read(late, Clock::Late) { Clock::Late } else { Clock::Early }
    }
}

/// All documents met so far.
pub(crate) struct Documents {
    begin: Begin,
    registers: Vec<Vec<Definition>>,
    views: Vec<View>,
    known: HashMap<Vec<u8>, Doc>,
    facts: QuickMap<(Doc, Fact, Clock), Made>,
    requests: QuickMap<(Doc, Request, Clock), Made>,
    as_held: QuickMap<Doc, Saving>,
    /// What became of what by an acknowledgement, and was found to differ in nothing else.
    acknowledged: QuickSet<(Doc, Doc)>,
    pub(crate) begun: Saving,
    pub(crate) cancelled_before: Saving,
}

impl Documents {
    pub(crate) fn new(shape: &Shape) -> Self {
        let request: BeginRequest = serde_json::from_str(shape.begin).expect("a begin");
        let begin = request.parse(|| unreachable!("it has a gid")).expect("a begin that fits");
        let parse = |body: &&str| -> Vec<Definition> {
            let request: RegisterRequest = serde_json::from_str(body).expect("a register");
            request.parse().expect("branches that fit")
        };
        let nothing = Saving { doc: 0, sound: false };
        let mut documents = Self {
            registers: shape.registers.iter().map(parse).collect(),
            begin,
            views: Vec::new(),
            known: HashMap::new(),
            facts: QuickMap::default(),
            requests: QuickMap::default(),
            as_held: QuickMap::default(),
            acknowledged: QuickSet::default(),
            begun: nothing,
            cancelled_before: nothing,
        };
        let now = Clock::Early.now();
        let begin = documents.begin.clone();
        let (gid, digest) = (begin.gid.clone(), begin.digest);
        let transaction = Transaction::begin(begin, PATIENCE, now).expect("a transaction");
        documents.begun = documents.saving(&Change::begin(transaction, Some(digest)), None);
        let cancelled = Transaction::cancelled_before_begin(gid, "asked".to_owned(), PATIENCE, now);
        documents.cancelled_before = documents.saving(&Change::begin(cancelled, None), None);
        documents
    }

    pub(crate) fn len(&self) -> usize {
        self.views.len()
    }

    pub(crate) fn view(&self, doc: Doc) -> &View {
        &self.views[usize::from(doc) - 1]
    }

    /// Applies a fact to a document.
    pub(crate) fn learn(&mut self, doc: Doc, fact: Fact, clock: Clock) -> Made {
        if let Some(made) = self.facts.get(&(doc, fact, clock)) {
            return *made;
        }
        let event = self.event(fact);
        let made = self.apply(doc, event, clock);
        self.facts.insert((doc, fact, clock), made);
        made
    }

    /// Applies what somebody asks for to a document.
    pub(crate) fn ask(&mut self, doc: Doc, request: Request, clock: Clock) -> Made {
        if let Some(made) = self.requests.get(&(doc, request, clock)) {
            return *made;
        }
        let all = self.begin.branches.len() + self.registers.len();
        let ids = |n: usize| -> BTreeSet<_> {
            ["a", "b", "c"][..n].iter().map(|id| id.parse().expect("an id")).collect()
        };
        let event = match request {
            Request::Begin => unreachable!("a begin is an insert"),
            Request::Register(i) => Event::Register(self.registers[usize::from(i)].clone()),
            Request::ConfirmFirst => Event::Confirm { tried: ids(1) },
            Request::ConfirmAll => Event::Confirm { tried: ids(all) },
            Request::Cancel => Event::Cancel { reason: "asked".to_owned() },
            Request::Acknowledge => Event::Acknowledge { reason: "seen".to_owned() },
        };
        let made = self.apply(doc, event, clock);
        self.requests.insert((doc, request, clock), made);
        made
    }

    /// Saves a document as a node holds it, with what it noted.
    pub(crate) fn write_back(&mut self, doc: Doc) -> Saving {
        if let Some(saving) = self.as_held.get(&doc) {
            return *saving;
        }
        let stored = self.stored(doc);
        let saving = self.saving(&stored.into_change(), Some(doc));
        self.as_held.insert(doc, saving);
        saving
    }

    /// Whether an acknowledgement was seen to make a document of another.
    pub(crate) fn is_acknowledged(&self, before: Doc, after: Doc) -> bool {
        self.acknowledged.contains(&(before, after))
    }

    /// Whether a document differs from another in nothing but that a human took note of what called for one.
    pub(crate) fn differ_by_an_acknowledgement(&mut self, before: Doc, after: Doc) -> bool {
        if self.acknowledged.contains(&(before, after)) {
            return true;
        }
        let taken_note = |doc| {
            let transaction = format!("{:?}", self.stored(doc).transaction());
            transaction.replace("acknowledged: true", "acknowledged: false")
        };
        let so = taken_note(before) == taken_note(after) && !self.view(after).attention;
        if so {
            self.acknowledged.insert((before, after));
        }
        so
    }

    fn event(&self, fact: Fact) -> Event {
        let Some((place, operation, said)) = fact.reply() else { return Event::Expire };
        let response = |status, body: &str| {
            Answer::Response(Response { status, retry_after: None, body: Some(body.into()) })
        };
        let seen = match said {
            Said::Done => response(200, "{}"),
            Said::Pending => response(425, ""),
            Said::Refused => response(409, r#"{"code":"refused","detail":"no"}"#),
            Said::Nothing => Answer::None(Failure::TimedOut),
            Said::Alarm => response(409, r#"{"code":"not-tried"}"#),
        };
        let branch = (place != CHECK).then(|| ["a", "b", "c"][place].parse().expect("an id"));
        let confirms_only = self.begin.branches.get(place).is_some_and(Definition::confirms_only);
        let shape = if confirms_only { AnswerShape::ConfirmsOnly } else { AnswerShape::Other };
        Event::Reply { branch, operation, reply: answer::judge(operation, shape, seen), random: Random(0) }
    }

    fn apply(&mut self, doc: Doc, event: Event, clock: Clock) -> Made {
        match self.stored(doc).apply(event, clock.now()) {
            Applied::Changed(change) => Made::Changed(self.saving(&change, Some(doc))),
            // Written down only to be named: no node reads what another noted.
            Applied::Kept(kept) => Made::Kept(self.saving(&kept.into_change(), Some(doc)).doc),
            Applied::Rejected(_, Rejection::Decided(phase)) => Made::Rejected(Some(phase)),
            Applied::Rejected(..) => Made::Rejected(None),
        }
    }

    fn stored(&self, doc: Doc) -> Stored {
        let store = holding(Some((self.row(doc), 1)));
        match at_once(load(&store, &self.begin.gid)) {
            Ok(Some(Found::Stored(stored))) => *stored,
            other => panic!("a row that was saved cannot be loaded: {other:?}"),
        }
    }

    fn row(&self, doc: Doc) -> Row {
        self.view(doc).row.clone()
    }

    /// Saves a change three times: over what it replaces, where somebody was first, and where it was saved already.
    fn saving(&mut self, change: &Change, over: Option<Doc>) -> Saving {
        let gid = change.gid().clone();
        let fresh = holding(over.map(|doc| (self.row(doc), 1)));
        let save = |store: &MemoryStore, tag| match at_once(change.clone().save(store, tag, None)) {
            Ok(_) => true,
            Err(SaveError::Conflict) => false,
            Err(error) => panic!("{error}"),
        };
        let won = save(&fresh, 7);
        let row = held(&fresh, &gid).expect("a row");
        let again = save(&fresh, 7) && held(&fresh, &gid).as_ref() == Some(&row);
        let theirs = (row.clone(), over.map_or(1, |_| 2));
        let stale = holding(Some(theirs));
        let before = held(&stale, &gid);
        let lost = !save(&stale, 8) && held(&stale, &gid) == before;
        Saving { doc: self.intern(row), sound: won && lost && again }
    }

    fn intern(&mut self, row: Row) -> Doc {
        // Whether it was cancelled before its begin stands beside the document.
        let mut key = row.document.clone();
        key.push(u8::from(row.digest.is_some()));
        if let Some(doc) = self.known.get(&key) {
            return *doc;
        }
        let doc = Doc::try_from(self.views.len() + 1).expect("fewer documents than a number can name");
        self.known.insert(key, doc);
        let store = holding(Some((row.clone(), 1)));
        let Ok(Some(Found::Stored(stored))) = at_once(load(&store, &self.begin.gid)) else {
            panic!("a row that was saved cannot be loaded")
        };
        self.views.push(view(&stored, row));
        doc
    }
}

fn view(stored: &Stored, row: Row) -> View {
    let transaction = stored.transaction();
    let mut parts = [Part::default(); BRANCHES];
    for branch in transaction.branches() {
        let definition = branch.definition();
        parts[place(definition.id.as_str())] = Part {
            here: true,
            tried: matches!(branch.tried(), Tried::Done(_)),
            refused: matches!(branch.tried(), Tried::Refused(_)),
            coordinator_tries: definition.try_.is_some(),
            has_cancel: definition.cancel.is_some(),
            attempts: branch.progress().attempts,
            ladder: match &definition.retry {
                Retry::Intervals { waits, then: Then::GiveUp } => u32::try_from(waits.len()).ok(),
                Retry::Intervals { then: Then::Repeat, .. } | Retry::Exponential { .. } => None,
            },
            due: branch.progress().due.is_some(),
            done: branch.end() == Some(&End::Done),
            given_up: branch.end() == Some(&End::GivenUp),
            not_needed: branch.end() == Some(&End::NotNeeded),
        };
    }
    let reason = transaction.decided().and_then(|decided| decided.reason.as_deref());
    let todo = |clock: Clock| match stored.plan(clock.look()) {
        Plan::Expire => Todo::Expire,
        Plan::Finished => Todo::Finished,
        Plan::Work { calls, .. } => Todo::Calls(
            calls
                .iter()
                .map(|c| (c.branch.as_ref().map_or(CHECK, |id| place(id.as_str())), c.operation))
                .collect(),
        ),
    };
    View {
        phase: transaction.phase(),
        parts,
        by_deadline: reason == Some(DEADLINE),
        by_refusal: reason.is_some_and(|reason| reason.starts_with("branch ")),
        attention: transaction.attention().is_some(),
        due: transaction.due().is_some(),
        decided_late: transaction.decided().is_some_and(|decided| decided.at == Clock::Late.now()),
        begun: row.digest.is_some(),
        todo: [todo(Clock::Early), todo(Clock::Late)],
        row,
    }
}

fn place(id: &str) -> usize {
    ["a", "b", "c"].iter().position(|known| *known == id).expect("a known branch")
}

/// A store that holds this row, in this version, or nothing.
fn holding(row: Option<(Row, u64)>) -> MemoryStore {
    let store = MemoryStore::new(|| Clock::Early.now());
    if let Some((row, version)) = row {
        let write = Write { row: Row { version, tag: 1, ..row }, replaces: None, claim: None };
        let written = at_once(store.commit(vec![write])).expect("a memory store knows what it did");
        assert_eq!(written, [Written::Won]);
    }
    store
}

fn held(store: &MemoryStore, gid: &Gid) -> Option<Row> {
    at_once(store.load(gid)).expect("a memory store can be read")
}

/// Runs a future that never waits: the memory store answers at once.
fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the memory store made its caller wait"),
    }
}
