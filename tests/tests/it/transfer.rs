//! A transfer from the first bank to the second, in both styles, with whatever goes wrong on its way.

use std::time::Duration;

use serde_json::{Value, json};
use tcc_client::{Branch, Client, Decision, Retry, RunError, Stop, Submission, Wait, new_gid};
use tokio::task::JoinSet;

use crate::bank::Bank;
use crate::world::{AMOUNT, LONG, World};

/// Who calls the tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    ByTheCoordinator,
    ByTheInitiator,
}

pub(crate) use Tried::{ByTheCoordinator, ByTheInitiator};

/// One transfer.
#[derive(Clone)]
pub(crate) struct Transfer {
    pub(crate) gid: String,
    pub(crate) tried: Tried,
    deadline: Duration,
    call_timeout: Duration,
    /// Whether the second branch comes after the first.
    in_order: bool,
    /// Of the branch in each bank.
    faults: [Vec<Value>; 2],
}

/// So often that it never ends.
const FOR_EVER: usize = 1_000_000;

impl Transfer {
    pub(crate) fn new(tried: Tried) -> Self {
        Self {
            gid: new_gid().to_string(),
            tried,
            deadline: LONG,
            call_timeout: Duration::from_millis(400),
            in_order: false,
            faults: [Vec::new(), Vec::new()],
        }
    }

    /// With a gid of the caller's own.
    pub(crate) fn named(mut self, gid: &str) -> Self {
        self.gid = gid.to_owned();
        self
    }

    /// To be cancelled, since the second bank refuses its try.
    pub(crate) fn refused(self) -> Self {
        self.for_ever(1, "try", "refuse")
    }

    /// A fault of a bank in an operation, once.
    pub(crate) fn once(self, bank: usize, operation: &str, what: &str) -> Self {
        self.fault(bank, operation, what, 1)
    }

    /// The same, each time.
    pub(crate) fn for_ever(self, bank: usize, operation: &str, what: &str) -> Self {
        self.fault(bank, operation, what, FOR_EVER)
    }

    fn fault(mut self, bank: usize, operation: &str, what: &str, times: usize) -> Self {
        self.faults[bank].push(json!({"on": operation, "what": what, "times": times}));
        self
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With a deadline that no test waits for.
    pub(crate) fn patient(self) -> Self {
        self.deadline(Duration::from_secs(3600))
    }

    pub(crate) fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    pub(crate) fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// Its two branches.
    pub(crate) fn branches(&self, banks: &[Bank; 2]) -> [Branch; 2] {
        let branch = |id: &str, i: usize, amount: i64| {
            Branch::at(id, banks[i].at())
                .payload(&json!({"amount": amount, "faults": self.faults[i]}))
                .expect("JSON")
                .timeout(self.call_timeout)
                .retry(Retry::Exponential {
                    first: Duration::from_millis(20),
                    longest: Duration::from_millis(100),
                })
        };
        let (from, to) = (branch("from", 0, -AMOUNT), branch("to", 1, AMOUNT));
        [from, if self.in_order { to.after("from") } else { to }]
    }

    /// The whole of it in one request.
    pub(crate) fn submission(&self, banks: &[Bank; 2]) -> Submission {
        Submission::new(self.gid.parse().expect("a gid"))
            .branches(self.branches(banks))
            .timeout(self.deadline)
            .wait(Wait::End)
            .at_most(LONG)
    }

    /// The same as it is sent.
    pub(crate) fn begin(&self, banks: &[Bank; 2]) -> Value {
        let branch = |id: &str, i: usize, amount: i64| {
            json!({
                "id": id, "at": banks[i].at(), "payload": {"amount": amount, "faults": self.faults[i]},
                "timeout_ms": self.call_timeout.as_millis() as u64,
                "retry": {"first_ms": 20, "longest_ms": 100},
            })
        };
        json!({
            "gid": self.gid, "timeout_ms": self.deadline.as_millis() as u64,
            "branches": [branch("from", 0, -AMOUNT), branch("to", 1, AMOUNT)],
        })
    }

    /// What an initiator does, with its client and the two branches.
    pub(crate) fn initiator(&self, world: &World) -> Initiator {
        Initiator {
            client: world.coordinator.client(),
            transfer: self.clone(),
            branches: self.branches(&world.banks),
            submission: self.submission(&world.banks),
        }
    }

    /// Does it, and checks that it ends as it should, everywhere, and that its faults did happen.
    pub(crate) async fn ends(&self, world: &World, decision: Decision) {
        assert_eq!(self.initiator(world).run().await, decision);
        self.ended(world, decision).await;
    }

    /// Checks that it ended as it should, while others may still be under way.
    pub(crate) async fn ended_alone(&self, world: &World, decision: Decision) {
        let view = world.coordinator.end(&self.gid).await;
        assert_eq!(view["decision"], json!(decision.as_str()), "{view}");
    }

    /// Checks that it ended as it should, everywhere, and that its faults did happen.
    pub(crate) async fn ended(&self, world: &World, decision: Decision) {
        world.ends(&self.gid, decision).await;
        for (bank, faults) in world.banks.iter().zip(&self.faults) {
            for fault in faults {
                let operation = fault["on"].as_str().expect("a word");
                assert!(bank.faults(&self.gid, operation) > 0, "there was no such fault: {fault}");
            }
        }
    }
}

/// Whoever begins a transfer.
#[derive(Clone)]
pub(crate) struct Initiator {
    pub(crate) client: Client,
    transfer: Transfer,
    branches: [Branch; 2],
    submission: Submission,
}

impl Initiator {
    /// Has the transfer done, and finds out what was decided.
    pub(crate) async fn run(&self) -> Decision {
        match self.transfer.tried {
            ByTheCoordinator => {
                let standing = self.client.submit(self.submission.clone()).await.expect("an answer");
                standing.decision().expect("a decision")
            }
            ByTheInitiator => self.run_scope().await,
        }
    }

    async fn run_scope(&self) -> Decision {
        let gid = self.transfer.gid.parse().expect("a gid");
        let [from, to] = self.branches.clone();
        let run = self.client.transaction(gid).timeout(self.transfer.deadline).wait(Wait::End).at_most(LONG);
        let run = run.run(async |tcc| {
            tcc.try_(from).await?;
            tcc.try_(to).await?;
            Ok(())
        });
        match run.await {
            Ok(()) => Decision::Confirm,
            Err(RunError::Cancelled(stop)) => {
                assert!(!matches!(stop, Stop::NotAllTried(_)), "{stop}");
                Decision::Cancel
            }
            Err(RunError::Decided(phase)) => phase.decision().expect("it is decided"),
            Err(error) => panic!("it was not found out: {error:?}"),
        }
    }
}

/// Many transfers of both styles, every third to be cancelled, begun one shortly after the other.
pub(crate) fn load(
    world: &World,
    many: u32,
    apart: Duration,
    each: impl Fn(Transfer) -> Transfer,
) -> (Vec<Transfer>, JoinSet<()>) {
    let transfers: Vec<Transfer> = (0..many)
        .map(|nth| {
            let transfer = Transfer::new(if nth % 2 == 0 { ByTheCoordinator } else { ByTheInitiator });
            each(if nth % 3 == 0 { transfer.refused() } else { transfer })
        })
        .collect();
    let mut running = JoinSet::new();
    for (transfer, nth) in transfers.iter().zip(0..) {
        let initiator = transfer.initiator(world);
        running.spawn(async move {
            tokio::time::sleep(apart * nth).await;
            initiator.run().await;
        });
    }
    (transfers, running)
}

/// Each of that load has ended as it should.
pub(crate) async fn all_ended(world: &World, transfers: &[Transfer]) {
    for (transfer, nth) in transfers.iter().zip(0..) {
        let decision = if nth % 3 == 0 { Decision::Cancel } else { Decision::Confirm };
        transfer.ended(world, decision).await;
    }
}
