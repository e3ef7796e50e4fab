//! The configurations: which transaction, and how many faults it meets.

use crate::guard::Kind;
use crate::rare::Rare;

/// At most so many branches; their places are numbered from 0.
pub(crate) const BRANCHES: usize = 3;
/// The place after the branches is the check's.
pub(crate) const CHECK: usize = BRANCHES;

/// Who tries the branches and who decides: what the initiator does follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Play {
    /// The initiator begins, registers each branch, tries it, and confirms or cancels.
    Tries,
    /// The initiator begins with all branches and may cancel; the coordinator tries and decides.
    Watches,
    /// The initiator begins, commits or rolls back a local transaction and says so; else it is asked.
    Commits,
}

/// How often the counted faults may strike in one run. What is not here is not counted: messages are duplicated,
/// reordered and held back without bound, and leases run out at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Calls that bring no answer, or the answer "pending".
    pub(crate) losses: u8,
    /// Nodes that crash and commits whose outcome is not known.
    pub(crate) crashes: u8,
}

/// How much is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Few faults: the tests.
    Small,
    /// `cargo model`.
    Full,
    /// More faults at once.
    Deep,
}

/// One configuration.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) play: Play,
    /// The body of the begin, as it crosses the wire.
    pub(crate) begin: &'static str,
    /// The bodies of the registers, in their order.
    pub(crate) registers: &'static [&'static str],
    /// What each branch's participant is.
    pub(crate) kinds: &'static [Kind],
    /// For each branch those in front of it, across others.
    pub(crate) after: &'static [&'static [usize]],
    /// Budgets of the full run, in the order they are run.
    pub(crate) full: &'static [Budget],
    /// Budgets of the small run.
    pub(crate) small: &'static [Budget],
    /// Budgets of the deep run, for a machine that has nothing else to do.
    pub(crate) deep: &'static [Budget],
    /// The rare things that this configuration must show.
    pub(crate) rare: &'static [Rare],
}

impl Shape {
    /// The budgets that are run one after the other.
    pub(crate) const fn budgets(&self, size: Size) -> &'static [Budget] {
        match size {
            Size::Small => self.small,
            Size::Full => self.full,
            Size::Deep => self.deep,
        }
    }
}

const fn budget(losses: u8, crashes: u8) -> Budget {
    Budget { losses, crashes }
}

use Rare::{
    Abandoned, Acknowledged, Attention, BeginAfterCancel, BeginRepeated, CancelAfterConfirm,
    CancelBeforeBegin, CheckCommitted, CheckPending, CheckRolledBack, ConfirmAfterCancel,
    ConfirmAfterDeadline, CrashBeforeAct, DeadlineDecided, DuplicateConfirm, EmptyCancel, LateTryRefused,
    NotAllTried, OfferedLost, OfferedWon, PurgedTold, RefusalDecided, RegisterAfterDecision, StaleSave,
    TryAfterDecision, TwoCallers, UnknownUnwritten, UnknownWritten,
};

/// Every configuration. The waits between calls are constant, so that the documents are finitely many.
pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        name: "tcc-by-initiator",
        play: Play::Tries,
        begin: r#"{"gid":"g","decider":"initiator","timeout_ms":1000000,"branches":[]}"#,
        registers: &[
            r#"{"branches":[{"id":"a","at":"t:a","retry":{"intervals_ms":[20]}}]}"#,
            r#"{"branches":[{"id":"b","at":"t:b","retry":{"intervals_ms":[20]}}]}"#,
        ],
        kinds: &[Kind::Reserves, Kind::Reserves],
        after: &[&[], &[]],
        full: &[budget(1, 1), budget(2, 0), budget(0, 2)],
        small: &[budget(0, 0)],
        deep: &[budget(2, 1), budget(1, 2)],
        rare: &[
            EmptyCancel,
            LateTryRefused,
            StaleSave,
            DeadlineDecided,
            UnknownWritten,
            UnknownUnwritten,
            OfferedWon,
            OfferedLost,
            DuplicateConfirm,
            CancelAfterConfirm,
            ConfirmAfterCancel,
            ConfirmAfterDeadline,
            RegisterAfterDecision,
            NotAllTried,
            CrashBeforeAct,
            CancelBeforeBegin,
            BeginAfterCancel,
            BeginRepeated,
            TwoCallers,
            PurgedTold,
            Attention,
        ],
    },
    Shape {
        name: "tcc-by-coordinator",
        play: Play::Watches,
        begin: r#"{"gid":"g","timeout_ms":1000000,"branches":[
            {"id":"a","at":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","at":"t:b","retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Reserves, Kind::Reserves],
        after: &[&[], &[]],
        full: &[budget(1, 0), budget(0, 1)],
        small: &[budget(0, 0)],
        deep: &[budget(1, 1)],
        rare: &[
            EmptyCancel,
            LateTryRefused,
            StaleSave,
            DeadlineDecided,
            RefusalDecided,
            UnknownWritten,
            OfferedWon,
            UnknownUnwritten,
            DuplicateConfirm,
            CancelAfterConfirm,
            CrashBeforeAct,
            TwoCallers,
            TryAfterDecision,
            BeginRepeated,
            BeginAfterCancel,
            PurgedTold,
        ],
    },
    Shape {
        name: "saga",
        play: Play::Watches,
        begin: r#"{"gid":"g","timeout_ms":1000000,"branches":[
            {"id":"a","try":"t:a","cancel":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","after":["a"],"try":"t:b","cancel":"t:b","retry":{"intervals_ms":[20]}},
            {"id":"c","after":["b"],"try":"t:c","cancel":"t:c","retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Acts, Kind::Acts, Kind::Acts],
        after: &[&[], &[0], &[0, 1]],
        full: &[budget(1, 1), budget(2, 0), budget(0, 2)],
        small: &[budget(0, 0)],
        deep: &[budget(2, 1), budget(1, 2)],
        rare: &[
            EmptyCancel,
            LateTryRefused,
            StaleSave,
            DeadlineDecided,
            RefusalDecided,
            UnknownWritten,
            CrashBeforeAct,
            TwoCallers,
            TryAfterDecision,
            Attention,
            Acknowledged,
        ],
    },
    Shape {
        name: "saga-concurrent",
        play: Play::Watches,
        begin: r#"{"gid":"g","timeout_ms":1000000,"branches":[
            {"id":"a","try":"t:a","cancel":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","try":"t:b","cancel":"t:b","retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Acts, Kind::Acts],
        after: &[&[], &[]],
        full: &[budget(1, 0), budget(0, 1)],
        small: &[budget(0, 0)],
        deep: &[budget(1, 1)],
        rare: &[
            EmptyCancel,
            LateTryRefused,
            StaleSave,
            DeadlineDecided,
            RefusalDecided,
            UnknownWritten,
            CrashBeforeAct,
            TwoCallers,
            TryAfterDecision,
        ],
    },
    Shape {
        name: "saga-graph",
        play: Play::Watches,
        begin: r#"{"gid":"g","timeout_ms":1000000,"branches":[
            {"id":"a","try":"t:a","cancel":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","try":"t:b","cancel":"t:b","retry":{"intervals_ms":[20]}},
            {"id":"c","after":["a","b"],"try":"t:c","cancel":"t:c","retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Acts, Kind::Acts, Kind::Acts],
        after: &[&[], &[], &[0, 1]],
        full: &[budget(0, 1)],
        small: &[budget(0, 0)],
        deep: &[budget(1, 0), budget(0, 2)],
        rare: &[
            EmptyCancel,
            LateTryRefused,
            StaleSave,
            DeadlineDecided,
            RefusalDecided,
            TwoCallers,
            TryAfterDecision,
        ],
    },
    Shape {
        name: "forward-only",
        play: Play::Watches,
        begin: r#"{"gid":"g","timeout_ms":1000000,"branches":[
            {"id":"a","confirm":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","after":["a"],"confirm":"t:b","delay_ms":500,"retry":{"intervals_ms":[20]}},
            {"id":"c","after":["b"],"confirm":"t:c","retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Receives, Kind::Receives, Kind::Receives],
        after: &[&[], &[0], &[0, 1]],
        full: &[budget(2, 1), budget(1, 2)],
        small: &[budget(1, 1)],
        deep: &[budget(2, 2)],
        rare: &[
            StaleSave,
            UnknownWritten,
            DuplicateConfirm,
            CancelAfterConfirm,
            CancelBeforeBegin,
            CrashBeforeAct,
            TwoCallers,
        ],
    },
    Shape {
        name: "message",
        play: Play::Commits,
        begin: r#"{"gid":"g","decider":"initiator","check":"t:check","check_after_ms":10,"timeout_ms":1000000,"branches":[
            {"id":"a","confirm":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","confirm":"t:b","after":["a"],"retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Receives, Kind::Receives],
        after: &[&[], &[0]],
        full: &[budget(1, 1), budget(2, 1), budget(1, 2)],
        small: &[budget(1, 1)],
        deep: &[budget(2, 2)],
        rare: &[
            CheckCommitted,
            CheckRolledBack,
            CheckPending,
            StaleSave,
            UnknownWritten,
            DuplicateConfirm,
            CancelBeforeBegin,
            BeginAfterCancel,
            CrashBeforeAct,
            TwoCallers,
            Acknowledged,
        ],
    },
    Shape {
        name: "message-to-several",
        play: Play::Commits,
        begin: r#"{"gid":"g","decider":"initiator","check":"t:check","check_after_ms":10,"timeout_ms":1000000,"branches":[
            {"id":"a","confirm":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","confirm":"t:b","delay_ms":500,"retry":{"intervals_ms":[20],"give_up":true}}]}"#,
        registers: &[],
        kinds: &[Kind::Receives, Kind::Hears],
        after: &[&[], &[]],
        full: &[budget(1, 1), budget(2, 0), budget(1, 2)],
        small: &[budget(1, 0)],
        deep: &[budget(2, 1), budget(2, 2)],
        rare: &[
            CheckCommitted,
            CheckRolledBack,
            CheckPending,
            Abandoned,
            StaleSave,
            UnknownWritten,
            DuplicateConfirm,
            CancelBeforeBegin,
            BeginAfterCancel,
            CrashBeforeAct,
            TwoCallers,
        ],
    },
    Shape {
        name: "notification",
        play: Play::Watches,
        begin: r#"{"gid":"g","timeout_ms":1000000,"branches":[
            {"id":"a","confirm":"t:a","retry":{"intervals_ms":[20],"give_up":true}},
            {"id":"b","after":["a"],"confirm":"t:b","retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Hears, Kind::Receives],
        after: &[&[], &[0]],
        full: &[budget(2, 1), budget(3, 1), budget(2, 2)],
        small: &[budget(2, 1)],
        deep: &[budget(3, 2)],
        rare: &[
            Abandoned,
            StaleSave,
            UnknownWritten,
            DuplicateConfirm,
            CancelBeforeBegin,
            CancelAfterConfirm,
            TwoCallers,
        ],
    },
    Shape {
        name: "pivot",
        play: Play::Watches,
        begin: r#"{"gid":"g","timeout_ms":1000000,"branches":[
            {"id":"a","at":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","after":["a"],"try":"t:b","cancel":"none","retry":{"intervals_ms":[20]}},
            {"id":"c","after":["b"],"confirm":"t:c","retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Reserves, Kind::Turns, Kind::Receives],
        after: &[&[], &[0], &[0, 1]],
        full: &[budget(1, 1), budget(2, 1), budget(1, 2)],
        small: &[budget(0, 0)],
        deep: &[budget(2, 2)],
        rare: &[DeadlineDecided, RefusalDecided, StaleSave, UnknownWritten, CrashBeforeAct, TwoCallers],
    },
    Shape {
        name: "mixed",
        play: Play::Watches,
        begin: r#"{"gid":"g","timeout_ms":1000000,"branches":[
            {"id":"a","try":"t:a","cancel":"t:a","retry":{"intervals_ms":[20]}},
            {"id":"b","after":["a"],"at":"t:b","retry":{"intervals_ms":[20]}},
            {"id":"c","after":["a"],"confirm":"t:c","retry":{"intervals_ms":[20]}}]}"#,
        registers: &[],
        kinds: &[Kind::Acts, Kind::Reserves, Kind::Receives],
        after: &[&[], &[0], &[0]],
        full: &[budget(1, 1), budget(0, 2)],
        small: &[budget(0, 0)],
        deep: &[budget(2, 1), budget(1, 2)],
        rare: &[
            EmptyCancel,
            LateTryRefused,
            StaleSave,
            DeadlineDecided,
            RefusalDecided,
            UnknownWritten,
            DuplicateConfirm,
            CrashBeforeAct,
            TwoCallers,
            TryAfterDecision,
        ],
    },
];
