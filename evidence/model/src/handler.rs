//! A node's answers to requests: load, apply, save, as `tcc-server`'s coordinator does, and what it tells.

use tcc_core::{Decision, Phase};

use crate::action::{Answer, Commit};
use crate::document::{Clock, Doc, Made, Standing};
use crate::model::{Broken, Fault, Model, Stepped};
use crate::promise;
use crate::rare::Rare;
use crate::world::{Offered, Request, World};

/// What a node found when it looked at what a request asks for.
enum Looked {
    Answered,
    /// Nothing that matters to anybody.
    Nothing,
    /// To be saved.
    Changed(Doc),
}

impl Model {
    /// A node takes a request: load, apply, save, answer, in one step. If nobody writes between the load and the save,
    /// that is what it is; if somebody does, the save is lost, nothing has happened, and it loads again. (That such a
    /// save is lost is asked of the core for every change there is.)
    pub(crate) fn take(
        &mut self,
        mut world: World,
        request: Request,
        clock: Clock,
        commit: Commit,
        answer: Answer,
    ) -> Stepped {
        if self.fault == Fault::TellsUnsaved
            && let Looked::Changed(doc) = self.look(&mut world, request, clock, answer)?
        {
            self.tell(&mut world, request, self.phase(doc), answer)?;
        }
        let doc = match self.look(&mut world, request, clock, answer)? {
            Looked::Answered => return Ok((commit == Commit::Known).then_some(world)),
            Looked::Nothing => return Ok(None),
            Looked::Changed(doc) => doc,
        };
        match commit {
            Commit::Known => {
                self.saw_request(&world, request, doc);
                self.saw_written(&world, doc);
                world.written(doc);
                self.tell(&mut world, request, self.phase(doc), answer)?;
                Ok(Some(world))
            }
            Commit::Offered
                if answer == Answer::Lost && world.left.crashes > 0 && world.offered.is_none() =>
            {
                world.left.crashes -= 1;
                world.written(doc);
                world.offered = Some(Offered { request, doc, standing: Standing::Mine });
                Ok(Some(world))
            }
            // A commit after which its node restarts is one whose answer is lost, or that never was: only a driver
            // has more to lose.
            Commit::Written | Commit::Unwritten | Commit::Offered => Ok(None),
        }
    }

    /// A node offers a request's write again: if its tag is there still it has won, else it loads again.
    pub(crate) fn offer_request(&mut self, mut world: World, answer: Answer) -> Stepped {
        let Some(Offered { request, doc, standing }) = world.offered.take() else { return Ok(None) };
        if standing == Standing::Mine {
            self.saw(Rare::OfferedWon);
            self.tell(&mut world, request, self.phase(doc), answer)?;
            return Ok(Some(world));
        }
        self.saw(Rare::OfferedLost);
        Ok((answer == Answer::Lost).then_some(world))
    }

    /// Loads and applies.
    fn look(
        &mut self,
        world: &mut World,
        request: Request,
        clock: Clock,
        answer: Answer,
    ) -> Result<Looked, Broken> {
        if request == Request::Begin {
            return self.begin(world, clock, answer);
        }
        if world.row == 0 {
            // Nothing is known of the gid: a cancel bars the begin that may be on its way, anything else is told so.
            let bars = request == Request::Cancel && clock == Clock::Early;
            let doc = self.documents.cancelled_before.doc;
            return Ok(if bars { Looked::Changed(doc) } else { Looked::Nothing });
        }
        if world.purged {
            self.saw(Rare::PurgedTold);
            return Ok(Looked::Nothing);
        }
        let view = self.documents.view(world.row);
        if !view.may_read(world.late, clock) {
            return Ok(Looked::Nothing);
        }
        let phase = view.phase;
        match self.documents.ask(world.row, request, clock) {
            Made::Kept(_) => {
                self.tell(world, request, phase, answer)?;
                Ok(Looked::Answered)
            }
            Made::Rejected(None) => {
                if matches!(request, Request::ConfirmFirst | Request::ConfirmAll) {
                    self.saw(Rare::NotAllTried);
                }
                Ok(Looked::Nothing)
            }
            Made::Rejected(Some(phase)) => {
                self.tell(world, request, phase, answer)?;
                Ok(Looked::Nothing)
            }
            Made::Changed(saving) if !saving.sound => {
                Broken::new("C5", "the core called a save won that changed no row, or lost one that did")
            }
            Made::Changed(saving) => {
                if request == Request::Acknowledge {
                    promise::of_an_acknowledgement(self, world.row, saving.doc)?;
                }
                Ok(Looked::Changed(saving.doc))
            }
        }
    }

    /// A begin is an insert, in one step: between its save and its look at what was there before it, nothing can
    /// happen that could not happen after both.
    fn begin(&mut self, world: &mut World, clock: Clock, answer: Answer) -> Result<Looked, Broken> {
        if !self.documents.begun.sound || !self.documents.cancelled_before.sound {
            return Broken::new(
                "C5",
                "the core called an insert won that changed no row, or lost one that did",
            );
        }
        // Time is counted from the begin.
        if world.purged || clock == Clock::Late {
            return Ok(Looked::Nothing);
        }
        if world.row == 0 {
            let doc = self.documents.begun.doc;
            self.saw_written(world, doc);
            world.written(doc);
        } else if self.documents.view(world.row).begun {
            self.saw(Rare::BeginRepeated);
        } else {
            self.saw(Rare::BeginAfterCancel);
            let phase = self.phase(world.row);
            self.tell(world, Request::Cancel, phase, answer)?;
            return Ok(Looked::Nothing);
        }
        let phase = self.phase(world.row);
        self.tell(world, Request::Begin, phase, answer)?;
        Ok(Looked::Answered)
    }

    /// Somebody is told how a transaction stands: that must be what the store holds (C3).
    fn tell(
        &mut self,
        world: &mut World,
        request: Request,
        phase: Phase,
        answer: Answer,
    ) -> Result<(), Broken> {
        let truth = (world.row != 0).then(|| self.phase(world.row));
        if truth != Some(phase) {
            return Broken::new(
                "C3",
                format!("{request:?} was told {phase:?}, and the store holds {truth:?}"),
            );
        }
        match (request, phase.decision()) {
            (Request::Cancel, Some(Decision::Confirm)) => self.saw(Rare::CancelAfterConfirm),
            (Request::ConfirmFirst | Request::ConfirmAll, Some(Decision::Cancel)) => {
                self.saw(Rare::ConfirmAfterCancel);
            }
            (Request::Register(_), Some(_)) => self.saw(Rare::RegisterAfterDecision),
            _ => {}
        }
        if answer == Answer::Heard {
            match request {
                Request::Begin => world.knows.begun = true,
                Request::Register(i) if phase == Phase::Trying => {
                    world.knows.registered[usize::from(i)] = true
                }
                Request::Register(_)
                | Request::ConfirmFirst
                | Request::ConfirmAll
                | Request::Cancel
                | Request::Acknowledge => {}
            }
        }
        Ok(())
    }

    fn saw_request(&mut self, world: &World, request: Request, doc: u16) {
        if world.row == 0 {
            self.saw(Rare::CancelBeforeBegin);
        } else if request == Request::Acknowledge {
            self.saw(Rare::Acknowledged);
        } else if matches!(request, Request::ConfirmFirst | Request::ConfirmAll)
            && self.documents.view(doc).by_deadline
        {
            self.saw(Rare::ConfirmAfterDeadline);
        }
    }
}
