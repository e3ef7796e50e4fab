//! One configuration at work: what a step makes of a state, and whether a promise was broken by it.

use tcc_core::{Operation, Phase};

use crate::action::Action;
use crate::document::{Clock, Doc, Documents, Standing, Todo};
use crate::forgotten::Forgotten;
use crate::guard::{Flaw, Kind, Mood, Row, Said};
use crate::promise;
use crate::rare::Rare;
use crate::shape::{CHECK, Play, Shape, Size};
use crate::world::{Fact, Local, Node, World};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Its name in DESIGN.md §5.
    pub(crate) promise: &'static str,
    /// How.
    pub(crate) how: String,
}

impl Broken {
    pub(crate) fn new<T>(promise: &'static str, how: impl Into<String>) -> Result<T, Self> {
        Err(Self { promise, how: how.into() })
    }
}

/// A state after a step; nothing if the step cannot be taken, or changes nothing.
pub(crate) type Stepped = Result<Option<World>, Broken>;

/// Something wrong that is built into the world, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// A driver acts on a save that lost.
    ActsOnLost,
    /// The initiator is told of a change before it is saved.
    TellsUnsaved,
    /// A call without an answer counts as done.
    GuessesDone,
    /// The store replaces a row whatever version was read.
    BlindStore,
    /// A driver acts on a commit of unknown outcome.
    ActsOnUnknown,
    /// Nobody looks after a transaction whose node crashed.
    NoClaims,
    /// A participant's guard has a flaw.
    Guard(Flaw),
}

impl Fault {
    /// Every fault, by the name it has on the command line.
    pub(crate) const ALL: [(&'static str, Self); 9] = [
        ("acts-on-lost", Self::ActsOnLost),
        ("tells-unsaved", Self::TellsUnsaved),
        ("guesses-done", Self::GuessesDone),
        ("blind-store", Self::BlindStore),
        ("acts-on-unknown", Self::ActsOnUnknown),
        ("no-claims", Self::NoClaims),
        ("no-tombstone", Self::Guard(Flaw::NoTombstone)),
        ("runs-twice", Self::Guard(Flaw::RunsTwice)),
        ("confirms-untried", Self::Guard(Flaw::ConfirmsUntried)),
    ];

    pub(crate) const fn flaw(self) -> Flaw {
        match self {
            Self::Guard(flaw) => flaw,
            Self::None
            | Self::ActsOnLost
            | Self::TellsUnsaved
            | Self::GuessesDone
            | Self::BlindStore
            | Self::ActsOnUnknown
            | Self::NoClaims => Flaw::None,
        }
    }
}

/// A configuration at work.
pub(crate) struct Model {
    pub(crate) shape: &'static Shape,
    pub(crate) documents: Documents,
    pub(crate) fault: Fault,
    /// What drivers forgot because it changed nothing.
    pub(crate) forgotten: Forgotten,
    /// How often each rare thing was seen.
    pub(crate) seen: [u64; Rare::ALL.len()],
}

impl Model {
    pub(crate) fn new(shape: &'static Shape, fault: Fault) -> Self {
        Self {
            shape,
            documents: Documents::new(shape),
            fault,
            forgotten: Forgotten::default(),
            seen: [0; Rare::ALL.len()],
        }
    }

    pub(crate) fn saw(&mut self, rare: Rare) {
        self.seen[rare as usize] += 1;
    }

    /// The rare things that this configuration must show and did not.
    pub(crate) fn missing(&self, size: Size) -> Vec<Rare> {
        let counted = |rare: Rare| size == Size::Small && rare.needs_faults();
        let due = self.shape.rare.iter().copied().filter(|rare| !counted(*rare));
        due.filter(|rare| self.seen[*rare as usize] == 0).collect()
    }

    pub(crate) fn phase(&self, doc: Doc) -> Phase {
        self.documents.view(doc).phase
    }

    /// Takes a step and holds what came of it against every promise.
    pub(crate) fn step(&mut self, before: &World, action: Action) -> Stepped {
        let Some(after) = self.take_step(*before, action)? else { return Ok(None) };
        if after == *before {
            return Ok(None);
        }
        if before.row != 0 && before.row != after.row {
            self.forgotten.write(before.row, after.row);
        }
        promise::of_a_step(self, before, &after)?;
        promise::of_a_state(self, &after)?;
        Ok(Some(after))
    }

    fn take_step(&mut self, mut world: World, action: Action) -> Stepped {
        match action {
            Action::End(local) => Ok(self.end_local(world, local)),
            Action::Try(place, mood) => self.try_(world, place, mood),
            Action::Arrive(place, operation, mood) => {
                self.participant(&mut world, place, operation, mood)?;
                Ok(Some(world))
            }
            Action::Take(request, clock, commit, answer) => self.take(world, request, clock, commit, answer),
            Action::Offer(answer) => self.offer_request(world, answer),
            Action::Claim(node) => Ok(self.claim(world, node)),
            Action::Call(node, place) => self.call(world, node, place),
            Action::Receive(node, place, mood, clock, commit) => {
                let Some(operation) = world.nodes[node].slots[place].operation() else { return Ok(None) };
                if !world.nodes[node].acts() {
                    return Ok(None);
                }
                let Some(said) = self.answered(&mut world, place, operation, mood)? else { return Ok(None) };
                self.heard(world, node, Fact::replied(place, operation, said), clock, commit)
            }
            Action::Lose(node, place, clock, commit) => {
                let Some(operation) = world.nodes[node].slots[place].operation() else { return Ok(None) };
                if world.left.losses == 0 {
                    return Ok(None);
                }
                world.left.losses -= 1;
                let said = if self.fault == Fault::GuessesDone { Said::Done } else { Said::Nothing };
                self.heard(world, node, Fact::replied(place, operation, said), clock, commit)
            }
            Action::Expire(node, commit) => {
                let it = &world.nodes[node];
                if !world.late
                    || !it.acts()
                    || *self.documents.view(it.held).todo(Clock::Late) != Todo::Expire
                {
                    return Ok(None);
                }
                self.learn(world, node, Some(Fact::EXPIRED), Clock::Late, commit)
            }
            Action::Settle(node, clock, commit) => {
                if world.nodes[node].is_settled() {
                    return Ok(None);
                }
                self.learn(world, node, None, clock, commit)
            }
            Action::WriteBack(node, commit) => self.write_back(world, node, commit),
            Action::LetGo(node) => Ok(let_go(world, node)),
            Action::Crash(node) => Ok(self.crash(world, node)),
            Action::Pass => {
                let undecided = |doc: Doc| doc != 0 && self.phase(doc) == Phase::Trying;
                let passes = !world.late
                    && (undecided(world.row) || world.nodes.iter().any(|node| undecided(node.held)));
                world.late = true;
                Ok(passes.then_some(world))
            }
            Action::Purge => Ok(self.purge(world)),
        }
    }

    fn end_local(&self, mut world: World, local: Local) -> Option<World> {
        // It commits only once it was told that its message is stored.
        if self.shape.play != Play::Commits || (local == Local::Committed && !world.knows.begun) {
            return None;
        }
        world.local = local;
        Some(world)
    }

    fn try_(&mut self, mut world: World, place: usize, mood: Mood) -> Stepped {
        if !world.knows.registered[place] || world.knows.tried[place] {
            return Ok(None);
        }
        match self.participant(&mut world, place, Operation::Try, mood)? {
            Said::Done => world.knows.tried[place] = true,
            Said::Pending | Said::Refused | Said::Nothing | Said::Alarm => return Ok(None),
        }
        Ok(Some(world))
    }

    /// A call arrives at its participant.
    fn participant(
        &mut self,
        world: &mut World,
        place: usize,
        operation: Operation,
        mood: Mood,
    ) -> Result<Said, Broken> {
        let kind = self.shape.kinds[place];
        let party = &mut world.parties[place];
        let before = *party;
        let said = party.answer(kind, operation, mood, self.fault.flaw());
        let after = *party;
        match (before.row, operation, said) {
            (Row::None, Operation::Cancel, _) => self.saw(Rare::EmptyCancel),
            (Row::Cancelled, Operation::Try, Said::Refused) => self.saw(Rare::LateTryRefused),
            (Row::Confirmed, Operation::Confirm, Said::Done) => self.saw(Rare::DuplicateConfirm),
            (Row::Cancelled, Operation::Cancel, Said::Done) => self.saw(Rare::DuplicateCancel),
            _ => {}
        }
        if said == Said::Alarm {
            let name = if operation == Operation::Cancel { "P1" } else { "P6" };
            return Broken::new(name, format!("a {operation} met the guard row {:?}", before.row));
        }
        if said != Said::Pending {
            promise::of_a_repeat(kind, after, operation, mood, said, self.fault.flaw())?;
        }
        Ok(said)
    }

    /// What a driver's call is answered.
    ///
    /// The answer is heard in the step in which it is given. That it may be long on its way changes it in one case:
    /// a try that was accepted and then cancelled would be refused by now.
    fn answered(
        &mut self,
        world: &mut World,
        place: usize,
        operation: Operation,
        mood: Mood,
    ) -> Result<Option<Said>, Broken> {
        if mood == Mood::Busy {
            if world.left.losses == 0 || (place == CHECK && world.local != Local::Open) {
                return Ok(None);
            }
            world.left.losses -= 1;
            if place == CHECK {
                self.saw(Rare::CheckPending);
                return Ok(Some(Said::Pending));
            }
        }
        if place != CHECK {
            let party = &world.parties[place];
            let possible = match mood {
                Mood::Accepts | Mood::Busy => true,
                Mood::Refuses => operation == Operation::Try && party.row == Row::None,
                Mood::Before => {
                    operation == Operation::Try && party.row == Row::Cancelled && party.reserved > 0
                }
            };
            return if possible {
                self.participant(world, place, operation, mood).map(Some)
            } else {
                Ok(None)
            };
        }
        match (world.local, mood) {
            (Local::Committed, Mood::Accepts) => {
                self.saw(Rare::CheckCommitted);
                Ok(Some(Said::Done))
            }
            // Whoever is asked and finds nothing bars the commit, and only then says so.
            (Local::Open | Local::RolledBack, Mood::Refuses) => {
                self.saw(Rare::CheckRolledBack);
                world.local = Local::RolledBack;
                Ok(Some(Said::Refused))
            }
            _ => Ok(None),
        }
    }

    fn crash(&mut self, mut world: World, node: usize) -> Option<World> {
        let it = world.nodes[node];
        if it == Node::default() || world.left.crashes == 0 {
            return None;
        }
        let decided = it.held != 0 && it.held == world.row && self.phase(it.held).decision().is_some();
        if decided && it.standing == Standing::Fresh && world.sent & !World::TRIES == 0 {
            self.saw(Rare::CrashBeforeAct);
        }
        world.left.crashes -= 1;
        world.nodes[node] = Node::default();
        Some(world)
    }

    fn purge(&self, mut world: World) -> Option<World> {
        if world.row == 0 || world.purged || !self.phase(world.row).ended() {
            return None;
        }
        world.purged = true;
        world.written(world.row);
        Some(world)
    }

    /// Whether a branch is one of those whose books must balance.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (usize, Kind)> + use<> {
        self.shape.kinds.iter().copied().enumerate()
    }
}

fn let_go(mut world: World, node: usize) -> Option<World> {
    let it = &mut world.nodes[node];
    // Its last write was one that released its claim.
    if !it.acts()
        || it.standing != Standing::Fresh
        || !it.facts().is_empty()
        || it.slots.iter().any(|slot| !slot.is_idle())
    {
        return None;
    }
    it.stop_driving();
    Some(world)
}
