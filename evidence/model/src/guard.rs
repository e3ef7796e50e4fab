//! A participant behind its guard: the decision table of `tcc-client`'s guard as a function, and the books it keeps.
//!
//! A test puts every cell of this table to the real guard.

use tcc_core::Operation;

/// What a participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Try reserves, confirm does, cancel gives back.
    Reserves,
    /// Try does, cancel undoes: a step of a saga.
    Acts,
    /// Try does and nothing undoes it: a pivot.
    Turns,
    /// Confirm delivers: a consumer with its guard.
    Receives,
    /// As `Receives`, but may be given up.
    Hears,
}

/// The guard's row of one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) enum Row {
    #[default]
    None,
    Tried,
    Refused,
    Confirmed,
    Cancelled,
}

/// A participant's guard row and business rows, which commit together (P5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Party {
    pub(crate) row: Row,
    /// How often something was reserved; in a saga, done.
    pub(crate) reserved: u8,
    /// How often something was confirmed or delivered.
    pub(crate) done: u8,
    /// How often a reservation was given back, or an action undone.
    pub(crate) undone: u8,
}

/// What comes back to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Done,
    Pending,
    Refused,
    /// No answer in time.
    Nothing,
    /// It cannot be obeyed.
    Alarm,
}

/// What the participant is like today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mood {
    /// Accepts what it is free to refuse.
    Accepts,
    /// Refuses what it is free to refuse.
    Refuses,
    /// Is at work on something else that holds the row, and says so: 425.
    Busy,
    /// Had accepted before it was cancelled, and that answer was long on its way.
    Before,
}

/// What is wrong with a guard, where a test wants to see that found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// An empty cancel leaves no row behind, so nothing bars the late try.
    NoTombstone,
    /// A repeat is run again.
    RunsTwice,
    /// A confirm without a try is a success.
    ConfirmsUntried,
}

impl Party {
    /// Answers one call, in one local transaction.
    pub(crate) fn answer(&mut self, kind: Kind, operation: Operation, mood: Mood, flaw: Flaw) -> Said {
        match mood {
            Mood::Busy => return Said::Pending,
            Mood::Before => return Said::Done,
            Mood::Accepts | Mood::Refuses => {}
        }
        if matches!(kind, Kind::Receives | Kind::Hears)
            && self.row == Row::None
            && operation == Operation::Confirm
        {
            self.row = Row::Confirmed;
            self.done += 1;
            return Said::Done;
        }
        match (self.row, operation) {
            (Row::None, Operation::Try) if mood == Mood::Refuses => self.becomes(Row::Refused, Said::Refused),
            (Row::None, Operation::Try) => {
                self.reserved += 1;
                self.becomes(Row::Tried, Said::Done)
            }
            (Row::None, Operation::Confirm) if flaw == Flaw::ConfirmsUntried => {
                self.done += 1;
                self.becomes(Row::Confirmed, Said::Done)
            }
            (Row::None | Row::Refused, Operation::Confirm) => Said::Alarm,
            (Row::None, Operation::Cancel) if flaw == Flaw::NoTombstone => Said::Done,
            (Row::None, Operation::Cancel) => self.becomes(Row::Cancelled, Said::Done),

            (Row::Tried, Operation::Try) if flaw == Flaw::RunsTwice => {
                self.reserved += 1;
                Said::Done
            }
            (Row::Tried, Operation::Try) | (Row::Confirmed, Operation::Try | Operation::Confirm) => {
                Said::Done
            }
            (Row::Tried, Operation::Confirm) => {
                self.done += 1;
                self.becomes(Row::Confirmed, Said::Done)
            }
            (Row::Tried, Operation::Cancel) => {
                self.undone += 1;
                self.becomes(Row::Cancelled, Said::Done)
            }
            (Row::Refused, Operation::Try) => Said::Refused,
            (Row::Refused | Row::Cancelled, Operation::Cancel) => Said::Done,
            (Row::Confirmed, Operation::Cancel) => Said::Alarm,
            (Row::Cancelled, Operation::Try) => Said::Refused,
            (Row::Cancelled, Operation::Confirm) => Said::Alarm,
            (_, Operation::Check) => Said::Alarm,
        }
    }

    fn becomes(&mut self, row: Row, said: Said) -> Said {
        self.row = row;
        said
    }
}
