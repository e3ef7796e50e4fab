//! One transaction: what its initiator sends, and what must be in the books afterwards.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tcc_client::{Decision, Operation, Phase};
use tcc_core::Decider;

use crate::service::LOCAL;
use crate::shape::{Branch, Outcome, Shape};
use crate::work::{Kind, Sums};

/// When a participant ends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dies {
    /// With the work done and not committed.
    BeforeCommit,
    /// With the work committed and not answered.
    AfterCommit,
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its shape.
    pub shape: Shape,
    /// How it is to end.
    pub outcome: Outcome,
    /// Its id.
    pub gid: String,
    /// Its branches.
    pub branches: Vec<Branch>,
    /// Where a participant ends itself: in the operation of a branch, or of the check if no branch has that name.
    pub dies: Option<(&'static str, Operation, Dies)>,
    /// The service that pays; the other one is paid.
    pub payer: usize,
    /// How long its deadline is where that is to decide.
    pub deadline: Duration,
    /// Where the two services are.
    pub services: [SocketAddr; 2],
}

/// A mishap that happens whenever it can.
const FOR_EVER: usize = 1_000_000;
/// Far beyond everything that happens.
const FAR: Duration = Duration::from_secs(600);
/// A call that brings no answer within this is made again. It must end before the deadline of those that expire.
const CALL: Duration = Duration::from_secs(5);
/// The same, where the answer never comes.
const CALL_OF_A_CULPRIT: Duration = Duration::from_millis(300);
/// When an initiator is asked that says nothing.
const CHECK: Duration = Duration::from_millis(300);

impl Plan {
    /// A transaction of a shape that ends so, between two services.
    #[must_use]
    pub fn new(shape: Shape, outcome: Outcome, gid: String, services: [SocketAddr; 2]) -> Self {
        let deadline = Duration::from_millis(900);
        Self { shape, outcome, gid, branches: shape.branches(), dies: None, payer: 0, deadline, services }
    }

    /// The decision that it is to come to.
    #[must_use]
    pub const fn decision(&self) -> Decision {
        match self.outcome {
            Outcome::Confirmed | Outcome::Abandoned => Decision::Confirm,
            Outcome::Cancelled | Outcome::Expired => Decision::Cancel,
        }
    }

    /// Whether it may end in this phase. Where services die at random a ladder may come to its end all the same.
    #[must_use]
    pub fn may_end(&self, phase: Phase, at_random: bool) -> bool {
        match (self.outcome, phase) {
            (Outcome::Confirmed, Phase::Confirmed)
            | (Outcome::Cancelled | Outcome::Expired, Phase::Cancelled)
            | (Outcome::Abandoned, Phase::Abandoned) => true,
            (Outcome::Confirmed, Phase::Abandoned) => {
                at_random && self.branches.iter().any(|branch| branch.ladder)
            }
            (
                Outcome::Confirmed | Outcome::Cancelled | Outcome::Expired | Outcome::Abandoned,
                Phase::Trying
                | Phase::Confirming
                | Phase::Confirmed
                | Phase::Cancelling
                | Phase::Cancelled
                | Phase::Abandoned,
            ) => false,
        }
    }

    /// The body of its begin.
    #[must_use]
    pub fn begin(&self) -> Value {
        let by_initiator = self.shape.decider() == Decider::Initiator;
        let reserved = self.shape == Shape::TccInOrder;
        let expires = self.outcome == Outcome::Expired;
        let timeout = if expires && !reserved { self.deadline } else { FAR };
        let branches: Vec<Value> =
            self.branches[..self.shape.at_begin()].iter().map(|branch| self.branch(branch)).collect();
        let mut begin = json!({"gid": self.gid, "timeout_ms": millis(timeout), "branches": branches});
        if by_initiator {
            begin["decider"] = json!("initiator");
        }
        if self.shape.checks() {
            let dies = match self.dies {
                Some((_, Operation::Check, Dies::BeforeCommit)) => "before",
                Some((_, Operation::Check, Dies::AfterCommit)) => "after",
                Some(_) | None => "never",
            };
            let after = if self.shape == Shape::MessageChecked { CHECK } else { FAR };
            begin["check"] = json!(format!("http://{}/check/{dies}", self.services[self.payer]));
            begin["check_after_ms"] = json!(millis(after));
        }
        begin
    }

    /// A branch, as it stands in a request.
    #[must_use]
    pub fn branch(&self, branch: &Branch) -> Value {
        let [tries, confirms, cancels] = branch.way.endpoints();
        let service = self.address(branch);
        let at = |operation: &str| format!("http://{service}/clerk/{operation}");
        let culprit = self.shape.culprit() == Some(branch.id);
        let never_answers = culprit && self.outcome == Outcome::Expired && tries;
        let mut request = json!({
            "id": branch.id,
            "after": branch.after,
            "payload": self.payload(branch),
            "timeout_ms": millis(if never_answers { CALL_OF_A_CULPRIT } else { CALL }),
        });
        if tries {
            request["try"] = json!(at("try"));
        }
        if confirms {
            let delivered = !branch.way.is_tried();
            request["confirm"] =
                json!(if delivered { format!("http://{service}/inbox") } else { at("confirm") });
        }
        if cancels {
            request["cancel"] = json!(at("cancel"));
        } else if tries {
            request["cancel"] = json!("none");
        }
        request["retry"] = if branch.ladder {
            json!({"intervals_ms": [20, 30], "give_up": true})
        } else if branch.delay.is_some() {
            json!({"intervals_ms": [50]})
        } else {
            json!({"first_ms": 20, "longest_ms": 100})
        };
        if let Some(delay) = branch.delay {
            request["delay_ms"] = json!(millis(delay));
        }
        if self.shape == Shape::TccInOrder {
            let holds = if self.outcome == Outcome::Expired { self.deadline } else { FAR };
            request["reserves_ms"] = json!(millis(holds));
        }
        request
    }

    /// What a branch carries.
    #[must_use]
    pub fn payload(&self, branch: &Branch) -> Value {
        let mut faults = Vec::new();
        if let Some((id, operation, dies)) = self.dies
            && id == branch.id
        {
            let what = match dies {
                Dies::BeforeCommit => "die-before-commit",
                Dies::AfterCommit => "die-after-commit",
            };
            faults.push(json!({"on": operation.as_str(), "what": what, "times": 1}));
        }
        let culprit = self.shape.culprit() == Some(branch.id);
        let for_ever = |on, what| json!({"on": on, "what": what, "times": FOR_EVER});
        match self.outcome {
            Outcome::Cancelled if culprit => faults.push(for_ever("try", "refuse")),
            // Where the initiator decides it is the initiator that says nothing more.
            Outcome::Expired if culprit && self.shape.decider() == Decider::Coordinator => {
                faults.push(for_ever("try", "hang"));
            }
            Outcome::Abandoned if branch.ladder => faults.push(for_ever("confirm", "fail")),
            Outcome::Confirmed | Outcome::Cancelled | Outcome::Expired | Outcome::Abandoned => {}
        }
        json!({"kind": branch.kind, "n": branch.n, "faults": faults})
    }

    /// Where a branch is.
    #[must_use]
    pub fn address(&self, branch: &Branch) -> SocketAddr {
        self.services[self.service(branch)]
    }

    /// Which service a branch is at.
    #[must_use]
    pub const fn service(&self, branch: &Branch) -> usize {
        (branch.service + self.payer) % 2
    }

    /// What the initiator's own local transaction pays.
    #[must_use]
    pub fn pays(&self) -> Option<i64> {
        let gained = self.branches.iter().find(|branch| branch.kind == Kind::Gain).map(|branch| branch.n);
        gained.filter(|_| self.shape.checks())
    }

    /// Every operation that a service does something in, and whether it can end itself before and after its commit.
    #[must_use]
    pub fn operations(&self) -> Vec<(&'static str, Operation, [bool; 2])> {
        let mut operations = Vec::new();
        if self.shape == Shape::CancelFirst {
            return operations;
        }
        let coordinator = self.shape.decider() == Decider::Coordinator;
        for branch in &self.branches {
            let [_, confirms, cancels] = branch.way.endpoints();
            let culprit = self.shape.culprit() == Some(branch.id);
            let hangs = culprit && coordinator && self.outcome == Outcome::Expired;
            if branch.way.is_tried() && !hangs {
                operations.push((branch.id, Operation::Try, [true, true]));
            }
            match self.decision() {
                // Where every call fails none commits.
                Decision::Confirm if confirms && !(branch.ladder && self.outcome == Outcome::Abandoned) => {
                    operations.push((branch.id, Operation::Confirm, [true, true]));
                }
                Decision::Cancel if cancels => {
                    // The cancel of what was refused, or never tried, has no work before its commit.
                    let works = !culprit || (!hangs && self.outcome == Outcome::Expired);
                    operations.push((branch.id, Operation::Cancel, [works, true]));
                }
                Decision::Confirm | Decision::Cancel => {}
            }
        }
        if self.shape == Shape::MessageChecked {
            operations.push(("check", Operation::Check, [true, true]));
        }
        operations
    }

    /// What is different in the books of each service when it has come to this end.
    #[must_use]
    pub fn net(&self, decision: Decision) -> [Sums; 2] {
        let mut sums = [Sums::default(); 2];
        if decision == Decision::Confirm {
            for branch in &self.branches {
                let service = self.service(branch);
                sums[service] = sums[service].plus(branch.kind.net(), branch.n);
            }
        }
        if let (Some(n), Decision::Confirm) = (self.pays(), self.decision()) {
            sums[self.payer] = sums[self.payer].plus(Kind::Pay.net(), n);
        }
        sums
    }

    /// How often each operation of a branch may stand in the ledger: at least and at most.
    #[must_use]
    pub fn entries(&self, branch: &Branch, phase: Phase, tried: usize) -> [(Operation, usize, usize); 3] {
        let [_, confirms, cancels] = branch.way.endpoints();
        let (tries, culprit) = (branch.way.is_tried(), self.shape.culprit() == Some(branch.id));
        let may_be_given_up = usize::from(!(branch.ladder && phase == Phase::Abandoned));
        let confirm = usize::from(confirms);
        match self.decision() {
            Decision::Confirm => [
                (Operation::Try, usize::from(tries), usize::from(tries)),
                (Operation::Confirm, confirm.min(may_be_given_up), confirm),
                (Operation::Cancel, 0, 0),
            ],
            Decision::Cancel => {
                let may = usize::from(tries && !(culprit && self.says_no()));
                let undone = if cancels { tried } else { 0 };
                [(Operation::Try, 0, may), (Operation::Confirm, 0, 0), (Operation::Cancel, undone, undone)]
            }
        }
    }

    /// Whether the culprit's try never comes to anything.
    fn says_no(&self) -> bool {
        match self.outcome {
            Outcome::Cancelled => true,
            Outcome::Expired => self.shape.decider() == Decider::Coordinator,
            Outcome::Confirmed | Outcome::Abandoned => false,
        }
    }

    /// Whether a branch of that name stands in no request, yet in the ledger.
    #[must_use]
    pub fn is_local(&self, branch: &str) -> bool {
        branch == LOCAL && self.pays().is_some() && self.decision() == Decision::Confirm
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
