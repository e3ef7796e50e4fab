//! What the coordinator of a test has done.

use std::fmt;
use std::time::Duration;

use tcc_core::answer::Answer;
use tcc_core::{BranchId, Gid, Operation};

use super::faults::Fault;

/// A call that the coordinator made.
#[derive(Clone, Debug)]
pub struct Called {
    /// The transaction.
    pub gid: Gid,
    /// The branch; `None` for a check.
    pub branch: Option<BranchId>,
    /// What was asked.
    pub operation: Operation,
    /// How many calls of this operation were made to this branch, this one included.
    pub nth: u32,
    /// When it was sent, counted from the coordinator's start.
    pub at: Duration,
    /// What went wrong.
    pub fault: Option<Fault>,
    /// What the participant answered, each time that it arrived there.
    pub answers: Vec<Answer>,
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let branch = self.branch.as_ref().map_or("", BranchId::as_str);
        write!(
            f,
            "{:9.3} s  {}  {branch}  {} {}",
            self.at.as_secs_f64(),
            self.gid,
            self.operation,
            self.nth
        )?;
        if let Some(fault) = self.fault {
            write!(f, ", {fault}")?;
        }
        for answer in &self.answers {
            match answer {
                Answer::Response(response) => write!(f, " → {}", response.status)?,
                Answer::None(failure) => write!(f, " → {}", failure.as_str())?,
            }
        }
        Ok(())
    }
}
