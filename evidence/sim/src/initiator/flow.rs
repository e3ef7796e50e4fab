//! What an initiator does, step by step; at each it may be gone, change its mind or say two things at once.

use std::sync::Arc;
use std::time::Duration;

use tcc_core::answer::{Reply, Shape as Judged, judge};
use tcc_core::{Call, Decision, Operation, Phase, Timestamp};
use tcc_server::Wait;
use tcc_server::transport::Outgoing;
use tokio::time::sleep;

use crate::book;
use crate::fault::Fault;
use crate::initiator::ask::{Ask, No, Told, branch_id, insist, once};
use crate::initiator::fact::{self, Came};
use crate::log::Who;
use crate::network::carry;
use crate::plan::{Plan, TriedBy};
use crate::world::{World, lock};

/// The initiator is gone.
struct Gone;

/// One initiator and its transaction.
struct Flow {
    world: Arc<World>,
    number: usize,
    plan: Arc<Plan>,
}

/// Begins a transaction when its time has come, and sees it through or not.
pub(crate) async fn run(world: Arc<World>, number: usize) {
    let plan = lock(&world.book).case(number).plan.clone();
    sleep(world.nature.busy.mul_f64(plan.start as f64 / 1000.0)).await;
    let flow = Flow { world: world.clone(), number, plan };
    world.note(Who::Initiator, Some(number), "comes with", || format!("{:?}", flow.plan.shape));
    let done = flow.run().await;
    if done.is_err() {
        world.note(Who::Initiator, Some(number), "is gone", String::new);
    }
    if world.dice(|dice| dice.u32(0..4) == 0) {
        // Somebody else looks later, perhaps long after.
        sleep(world.millis(0..250_000)).await;
        if world.dice(|dice| dice.bool()) && lock(&world.book).case(number).told_new {
            insist(&world, number, Ask::Begin { reused: false }).await;
        } else {
            insist(&world, number, Ask::Get).await;
        }
    }
}

impl Flow {
    fn step(&self) -> Result<(), Gone> {
        if self.world.strikes(Fault::InitiatorVanishes) { Err(Gone) } else { Ok(()) }
    }

    async fn insist(&self, ask: Ask) -> Result<Told, Gone> {
        insist(&self.world, self.number, ask).await.ok_or(Gone)
    }

    async fn run(&self) -> Result<(), Gone> {
        let world = &self.world;
        if world.dice(|dice| dice.u32(0..20) == 0) {
            once(world, self.number, &Ask::Get).await;
        }
        if world.strikes(Fault::CancelFirst) {
            self.renounce();
            let ask = Ask::Cancel;
            if world.dice(|dice| dice.bool()) {
                self.insist(ask).await?;
            } else {
                let (world, number) = (world.clone(), self.number);
                tokio::spawn(async move { insist(&world, number, ask).await });
            }
        }
        let begun = match self.insist(Ask::Begin { reused: false }).await? {
            Told::Stands { begun, phase, .. } => {
                if phase.decision().is_some() && self.plan.by_initiator {
                    return Ok(());
                }
                begun.unwrap_or_default()
            }
            Told::No(_) => return Ok(()),
        };
        self.step()?;
        if world.strikes(Fault::InitiatorReuses) {
            once(world, self.number, &Ask::Begin { reused: true }).await;
        }
        if let Some(sender) = self.plan.sender {
            self.message(sender, begun).await
        } else if self.plan.by_initiator {
            self.tries(begun).await
        } else {
            self.watches().await
        }
    }

    /// The coordinator decides: look on, or change one's mind.
    async fn watches(&self) -> Result<(), Gone> {
        let world = &self.world;
        if world.strikes(Fault::InitiatorCancels) {
            sleep(world.millis(0..3_000)).await;
            self.insist(Ask::Cancel).await?;
        }
        self.step()?;
        match world.dice(|dice| dice.u32(0..6)) {
            0 => drop(self.insist(Ask::Wait(Wait::End)).await?),
            1 => drop(self.insist(Ask::Wait(Wait::Decision)).await?),
            2 => drop(self.insist(Ask::Get).await?),
            _ => {}
        }
        Ok(())
    }

    /// A local transaction decides, and the check knows of it.
    async fn message(&self, sender: usize, begun: Timestamp) -> Result<(), Gone> {
        let world = &self.world;
        sleep(world.millis(0..4_000)).await;
        self.step()?;
        if world.dice(|dice| dice.u32(0..5) == 0) {
            self.renounce();
        }
        let came = if lock(&world.book).case(self.number).renounced {
            Came::Failed
        } else {
            fact::commit(world, self.number, sender, begun).await
        };
        self.step()?;
        let ask = match came {
            Came::Committed => Ask::Confirm((0..self.plan.branches.len()).collect()),
            Came::Failed => {
                self.renounce();
                Ask::Cancel
            }
            // Whoever asks finds out.
            Came::Barred | Came::Unknown => return Ok(()),
        };
        self.insist(ask).await?;
        Ok(())
    }

    /// From now on there will be no local transaction.
    fn renounce(&self) {
        lock(&self.world.book).case(self.number).renounced = true;
    }

    /// The initiator registers and tries, and then says what is to be.
    async fn tries(&self, begun: Timestamp) -> Result<(), Gone> {
        let world = &self.world;
        let misnames = world.strikes(Fault::InitiatorMisnames);
        let mut all = true;
        let mut named = Vec::new();
        for (i, branch) in self.plan.branches.iter().enumerate() {
            self.step()?;
            if i >= self.plan.at_begin && !self.register(i).await? {
                return Ok(());
            }
            if branch.tried_by == TriedBy::Initiator && !misnames {
                all = all && self.try_(i, begun).await;
            }
            if branch.tried_by != TriedBy::Coordinator {
                named.push(i);
            }
            if !all {
                break;
            }
        }
        self.step()?;
        if !all || world.strikes(Fault::InitiatorCancels) {
            self.insist(Ask::Cancel).await?;
            return Ok(());
        }
        if world.strikes(Fault::InitiatorCrosses) {
            let (world, number) = (world.clone(), self.number);
            tokio::spawn(async move {
                sleep(world.millis(0..30)).await;
                once(&world, number, &Ask::Cancel).await;
            });
        }
        if misnames {
            // It has tried none of its own, and names all but one of them.
            named.pop();
        }
        self.confirm(named).await
    }

    async fn confirm(&self, named: Vec<usize>) -> Result<(), Gone> {
        let world = &self.world;
        for _ in 0..10 {
            match self.insist(Ask::Confirm(named.clone())).await? {
                Told::No(No::NotAllTried) => sleep(world.millis(100..2_000)).await,
                told => {
                    if world.dice(|dice| dice.u32(0..8) == 0) {
                        let again = self.insist(Ask::Confirm(named)).await?;
                        let decision = |told: &Told| told.phase().and_then(Phase::decision);
                        if decision(&told) != decision(&again) && decision(&told) == Some(Decision::Confirm) {
                            world.hold(Some(self.number), Err(format!("told {told:?}, and then {again:?}")));
                        }
                    }
                    return Ok(());
                }
            }
        }
        self.insist(Ask::Cancel).await?;
        Ok(())
    }

    /// Whether the branch is registered now.
    async fn register(&self, i: usize) -> Result<bool, Gone> {
        let told = self.insist(Ask::Register(i)).await?;
        let registered = matches!(told, Told::Stands { .. });
        if registered {
            lock(&self.world.book).case(self.number).branches[i].registered = true;
        }
        Ok(registered)
    }

    /// Tries a branch over the same network, and says whether it was done.
    async fn try_(&self, i: usize, begun: Timestamp) -> bool {
        let world = &self.world;
        let request = self.plan.branch(i);
        let endpoint = format!("sim:p{}/clerk/try", self.plan.branches[i].service);
        let call = Call {
            gid: book::gid(self.number),
            branch: Some(branch_id(i)),
            operation: Operation::Try,
            endpoint: endpoint.parse().expect("an endpoint"),
            payload: request.payload,
            headers: Vec::new(),
            attempt: 1,
            timeout: None,
            traceparent: None,
            begun,
            shape: Judged::Other,
            gives_up: false,
        };
        for _ in 0..4 {
            let timeout = self.plan.call_timeout(i);
            let outgoing = Outgoing { call: call.clone(), timeout, settled: None };
            let answer = carry(world, Who::Initiator, outgoing).await;
            match judge(Operation::Try, Judged::Other, answer) {
                Reply::Done(_) => return true,
                Reply::Refused(_) => return false,
                Reply::Pending(_) | Reply::Unknown { .. } => sleep(world.millis(50..1_500)).await,
            }
        }
        false
    }
}

/// How long an initiator may take, at the most, once nothing goes wrong any more.
pub(crate) const LONGEST: Duration = Duration::from_secs(1_200);
