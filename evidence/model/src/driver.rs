//! A node's driver: claim, plan, call, apply, save, as `tcc-server`'s driver does. Replies are facts: where another
//! writer was first, they are applied again to what it wrote.

use tcc_core::Operation;

use crate::action::Commit;
use crate::document::{Clock, Made, Saving, Standing, Todo};
use crate::model::{Broken, Fault, Model, Stepped};
use crate::promise;
use crate::rare::Rare;
use crate::shape::CHECK;
use crate::world::{Fact, Node, Slot, World};

impl Model {
    /// A driver takes the transaction up: it is due, and nobody's claim is in the way.
    pub(crate) fn claim(&self, mut world: World, node: usize) -> Option<World> {
        let forgotten = self.fault == Fault::NoClaims && world.sent != 0;
        if world.nodes[node].held != 0 || world.row == 0 || world.purged || forgotten {
            return None;
        }
        if self.phase(world.row).ended() {
            return None;
        }
        world.nodes[node].held = world.row;
        world.nodes[node].standing = Standing::Fresh;
        Some(world)
    }

    /// A driver makes a call that its copy plans.
    pub(crate) fn call(&mut self, mut world: World, node: usize, place: usize) -> Stepped {
        let it = &world.nodes[node];
        if !it.acts() || !it.slots[place].is_idle() {
            return Ok(None);
        }
        let view = self.documents.view(it.held);
        let planned = |clock: Clock| match view.todo(clock) {
            Todo::Calls(calls) => calls.iter().find(|call| call.0 == place).map(|call| call.1),
            Todo::Expire | Todo::Finished => None,
        };
        let readable =
            [Clock::Late, Clock::Early].into_iter().filter(|clock| view.may_read(world.late, *clock));
        let Some(operation) = readable.filter_map(planned).next() else { return Ok(None) };
        promise::of_a_call(self, &world, place, operation)?;
        for (other, theirs) in world.nodes.iter().enumerate() {
            let Some(under_way) = theirs.slots[place].operation() else { continue };
            if other != node && place != CHECK {
                self.seen[Rare::TwoCallers as usize] += 1;
                if under_way == Operation::Try && operation == Operation::Cancel {
                    self.seen[Rare::CancelBeforeTryAnswered as usize] += 1;
                }
            }
        }
        if operation == Operation::Try && self.phase(world.row).decision().is_some() {
            self.saw(Rare::TryAfterDecision);
        }
        world.sent |= World::sent_bit(place, operation);
        world.nodes[node].slots[place] = Slot::called(operation);
        Ok(Some(world))
    }

    /// A call has come to its end, one way or another.
    pub(crate) fn heard(
        &mut self,
        mut world: World,
        node: usize,
        fact: Fact,
        clock: Clock,
        commit: Commit,
    ) -> Stepped {
        let Some((place, ..)) = fact.reply() else { return Ok(None) };
        if !world.nodes[node].acts() {
            return Ok(None);
        }
        world.nodes[node].slots[place] = Slot::IDLE;
        self.learn(world, node, Some(fact), clock, commit)
    }

    /// A driver takes in a fact, and what it has not taken in yet, up to the first change, which it saves.
    pub(crate) fn learn(
        &mut self,
        mut world: World,
        node: usize,
        fact: Option<Fact>,
        clock: Clock,
        commit: Commit,
    ) -> Stepped {
        if let Some(fact) = fact {
            world.nodes[node].push(fact);
        }
        let it = &world.nodes[node];
        if it.held == 0 || !self.documents.view(it.held).may_read(world.late, clock) {
            return Ok(None);
        }
        if it.standing == Standing::Mine {
            return Ok((commit == Commit::Known).then(|| self.offer_again(world, node)));
        }
        loop {
            let it = &world.nodes[node];
            let Some(fact) = it.facts().get(usize::from(it.applied)).copied() else {
                if commit != Commit::Known {
                    return Ok(None);
                }
                self.stop_if_ended(&mut world, node);
                return Ok(Some(world));
            };
            match self.documents.learn(it.held, fact, clock) {
                // What is so already stays so: there is nothing to apply again. See `forgotten`.
                Made::Kept(doc) if doc == it.held && fact.settles() => {
                    self.forgotten.fact(world.row, &it.facts()[..usize::from(it.applied)], fact);
                    world.nodes[node].forget();
                }
                Made::Kept(doc) => {
                    promise::of_a_fact(self.documents.view(it.held), self.documents.view(doc))?;
                    world.nodes[node].held = doc;
                    world.nodes[node].applied += 1;
                }
                Made::Rejected(_) => return Broken::new("C4", format!("an answer does not fit: {fact:?}")),
                Made::Changed(saving) => {
                    promise::of_a_fact(self.documents.view(it.held), self.documents.view(saving.doc))?;
                    let saved = world.nodes[node].applied + 1;
                    return self.driver_saves(world, node, saving, saved, commit);
                }
            }
        }
    }

    /// A driver writes back what it noted, or renews its claim; so it also finds out that others wrote.
    pub(crate) fn write_back(&mut self, world: World, node: usize, commit: Commit) -> Stepped {
        let it = &world.nodes[node];
        if it.held == 0 || !it.is_settled() {
            return Ok(None);
        }
        if it.standing == Standing::Mine {
            return Ok((commit == Commit::Known).then(|| self.offer_again(world, node)));
        }
        // Nothing to save and nobody first: it only renews its claim.
        if it.standing == Standing::Fresh && it.facts().is_empty() {
            return Ok(None);
        }
        let (facts, saving) = (it.applied, self.documents.write_back(it.held));
        self.driver_saves(world, node, saving, facts, commit)
    }

    /// A driver saves a change that has so many facts in it.
    fn driver_saves(
        &mut self,
        mut world: World,
        node: usize,
        saving: Saving,
        facts: u8,
        commit: Commit,
    ) -> Stepped {
        if !saving.sound {
            return Broken::new("C5", "the core called a save won that changed no row, or lost one that did");
        }
        let standing = world.nodes[node].standing;
        let fresh = standing == Standing::Fresh || (self.fault == Fault::BlindStore && !world.purged);
        match commit {
            Commit::Known if fresh => {
                self.saw_written(&world, saving.doc);
                world.written(saving.doc);
                self.won(&mut world, node, facts);
                Ok(Some(world))
            }
            Commit::Known => {
                self.saw(if standing == Standing::Overtaken { Rare::OfferedLost } else { Rare::StaleSave });
                let it = &mut world.nodes[node];
                if self.fault == Fault::ActsOnLost && facts > 0 {
                    it.held = saving.doc;
                    it.applied = 0;
                    it.drain(facts);
                } else if world.purged {
                    it.stop_driving();
                } else {
                    it.held = world.row;
                    it.standing = Standing::Fresh;
                    it.applied = 0;
                    self.stop_if_settled_and_ended(&mut world, node);
                }
                Ok(Some(world))
            }
            Commit::Written | Commit::Unwritten | Commit::Offered if !fresh || world.left.crashes == 0 => {
                Ok(None)
            }
            Commit::Written => {
                self.saw(Rare::UnknownWritten);
                world.left.crashes -= 1;
                world.written(saving.doc);
                world.nodes[node] = Node::default();
                Ok(Some(world))
            }
            Commit::Unwritten => {
                self.saw(Rare::UnknownUnwritten);
                world.left.crashes -= 1;
                if self.fault == Fault::ActsOnUnknown {
                    let it = &mut world.nodes[node];
                    (it.held, it.applied) = (saving.doc, 0);
                    it.drain(facts);
                } else {
                    world.nodes[node] = Node::default();
                }
                Ok(Some(world))
            }
            Commit::Offered => {
                world.left.crashes -= 1;
                world.written(saving.doc);
                // Which facts the write has in it is known still: those before `applied`, and the one there.
                world.nodes[node].standing = Standing::Mine;
                Ok(Some(world))
            }
        }
    }

    /// The same write offered again: its tag is still there, so it has won.
    fn offer_again(&mut self, mut world: World, node: usize) -> World {
        self.saw(Rare::OfferedWon);
        let it = &world.nodes[node];
        let facts = if it.is_settled() { it.applied } else { it.applied + 1 };
        self.won(&mut world, node, facts);
        world
    }

    fn won(&mut self, world: &mut World, node: usize, facts: u8) {
        let row = world.row;
        let it = &mut world.nodes[node];
        it.held = row;
        it.standing = Standing::Fresh;
        it.applied = 0;
        it.drain(facts);
        self.stop_if_ended(world, node);
    }

    /// What is noteworthy in a write that is about to be made.
    pub(crate) fn saw_written(&mut self, world: &World, doc: u16) {
        let before = (world.row != 0).then(|| self.documents.view(world.row));
        let view = self.documents.view(doc);
        let undecided = before.is_some_and(|before| before.decision().is_none());
        let (deadline, refusal) = (undecided && view.by_deadline, undecided && view.by_refusal);
        let attention = view.attention && before.is_some_and(|before| !before.attention);
        let abandoned = view.phase == tcc_core::Phase::Abandoned;
        for (rare, saw) in [
            (Rare::DeadlineDecided, deadline),
            (Rare::RefusalDecided, refusal),
            (Rare::Attention, attention),
            (Rare::Abandoned, abandoned),
        ] {
            self.seen[rare as usize] += u64::from(saw);
        }
    }

    fn stop_if_settled_and_ended(&self, world: &mut World, node: usize) {
        if world.nodes[node].is_settled() {
            self.stop_if_ended(world, node);
        }
    }

    /// Nothing is left to do of what has ended; what was learned about it says nothing new.
    fn stop_if_ended(&self, world: &mut World, node: usize) {
        let it = &mut world.nodes[node];
        if self.phase(it.held).ended() && it.is_settled() {
            it.stop_driving();
        }
    }
}
