//! The rare things: every one of them must have happened, or a promise was kept because nothing put it to the test.

/// Something rare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rare {
    EmptyCancel,
    LateTryRefused,
    StaleSave,
    DeadlineDecided,
    RefusalDecided,
    UnknownWritten,
    UnknownUnwritten,
    OfferedWon,
    OfferedLost,
    DuplicateConfirm,
    DuplicateCancel,
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
    TryAfterDecision,
    CancelBeforeTryAnswered,
    Attention,
    CheckCommitted,
    CheckRolledBack,
    CheckPending,
    Abandoned,
    Acknowledged,
    PurgedTold,
}

impl Rare {
    /// All of them, in the order they are declared.
    pub(crate) const ALL: [Self; 30] = [
        Self::EmptyCancel,
        Self::LateTryRefused,
        Self::StaleSave,
        Self::DeadlineDecided,
        Self::RefusalDecided,
        Self::UnknownWritten,
        Self::UnknownUnwritten,
        Self::OfferedWon,
        Self::OfferedLost,
        Self::DuplicateConfirm,
        Self::DuplicateCancel,
        Self::CancelAfterConfirm,
        Self::ConfirmAfterCancel,
        Self::ConfirmAfterDeadline,
        Self::RegisterAfterDecision,
        Self::NotAllTried,
        Self::CrashBeforeAct,
        Self::CancelBeforeBegin,
        Self::BeginAfterCancel,
        Self::BeginRepeated,
        Self::TwoCallers,
        Self::TryAfterDecision,
        Self::CancelBeforeTryAnswered,
        Self::Attention,
        Self::CheckCommitted,
        Self::CheckRolledBack,
        Self::CheckPending,
        Self::Abandoned,
        Self::Acknowledged,
        Self::PurgedTold,
    ];

    /// Whether it takes a counted fault, of which small runs have none.
    pub(crate) const fn needs_faults(self) -> bool {
        matches!(
            self,
            Self::UnknownWritten
                | Self::UnknownUnwritten
                | Self::OfferedWon
                | Self::OfferedLost
                | Self::CrashBeforeAct
                | Self::Attention
                | Self::CheckPending
                | Self::Abandoned
                | Self::Acknowledged
        )
    }

    /// What it is, in words.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::EmptyCancel => "a cancel came before its try (empty cancel)",
            Self::LateTryRefused => "a try came after its cancel and was refused",
            Self::StaleSave => "a driver's save over a stale copy was refused",
            Self::DeadlineDecided => "the deadline decided",
            Self::RefusalDecided => "a refused try decided",
            Self::UnknownWritten => "a commit of unknown outcome was written, and its node restarted",
            Self::UnknownUnwritten => "a commit of unknown outcome was not written, and its node restarted",
            Self::OfferedWon => "a commit of unknown outcome was offered again and had won",
            Self::OfferedLost => "a commit of unknown outcome was offered again after another writer",
            Self::DuplicateConfirm => "a confirm was repeated and did nothing",
            Self::DuplicateCancel => "a cancel was repeated and did nothing",
            Self::CancelAfterConfirm => "a cancel was told that it is confirmed",
            Self::ConfirmAfterCancel => "a confirm was told that it is cancelled",
            Self::ConfirmAfterDeadline => {
                "a confirm that came after the deadline became the deadline's decision"
            }
            Self::RegisterAfterDecision => "a register was told the decision",
            Self::NotAllTried => "a confirm that forgot a branch was refused",
            Self::CrashBeforeAct => "a node crashed between a decision's save and its first call",
            Self::CancelBeforeBegin => "a cancel came before its begin",
            Self::BeginAfterCancel => "a begin was told that it is cancelled",
            Self::BeginRepeated => "a begin was repeated",
            Self::TwoCallers => "both nodes called one branch at once",
            Self::TryAfterDecision => "a node with a stale copy sent a try after the decision",
            Self::CancelBeforeTryAnswered => {
                "a cancel was sent by one node while another's try was under way"
            }
            Self::Attention => "a transaction called for a human",
            Self::CheckCommitted => "the check was answered: committed",
            Self::CheckRolledBack => "the check was answered: rolled back",
            Self::CheckPending => "the check was answered: not yet",
            Self::Abandoned => "a best-effort branch was given up",
            Self::Acknowledged => "what called for a human was acknowledged",
            Self::PurgedTold => "a request found its transaction purged",
        }
    }
}
