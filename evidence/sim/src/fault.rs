//! What can go wrong, and what is rare: each is counted, and a run that never met one of them is red.

/// Declares an enum whose variants are listed, named and numbered.
macro_rules! listed {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal $(, $odds:literal)?;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $(#[doc = $text] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// In words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// How often it strikes where it can, in a million; 0 for what is brought about at a moment of its own.
            #[must_use]
            pub const fn odds(self) -> u32 {
                match self {
                    $(Self::$variant => {
                        const ODDS: &[u32] = &[$($odds)?];
                        match ODDS {
                            [odds, ..] => *odds,
                            [] => 0,
                        }
                    })*
                }
            }

            /// The one with this name, as written in code or in words.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.text() == name || format!("{known:?}") == name)
            }
        }
    };
}

listed! {
    /// What the world does to those in it. Each can be switched off.
    Fault {
        CallLost = "call: request lost", 15_000;
        CallReplyLost = "call: reply lost", 15_000;
        CallDuplicated = "call: request arrives twice", 20_000;
        CallOvertaken = "call: request arrives after its time-out", 10_000;
        CallDelayed = "call: delayed, overtaken by others", 30_000;
        CallNotConnected = "call: no connection", 10_000;
        CallBroken = "call: connection broken after the work", 10_000;
        CallCut = "call: partition between a node and a participant";
        AnswerServerError = "answer: 5xx", 10_000;
        AnswerGarbage = "answer: a status of no meaning", 4_000;
        AnswerNotFound = "answer: 404 from another route", 3_000;
        AnswerOtherConflict = "answer: 409 with another code", 3_000;
        AnswerTooMany = "answer: 429 with Retry-After", 5_000;
        AnswerPending = "answer: 202 or 425", 8_000;
        AnswerTooLong = "answer: body over its limit", 2_000;
        ParticipantSlow = "participant: slow", 10_000;
        ParticipantDown = "participant: down for a while";
        ParticipantPoisonous = "participant: answers nonsense for a while";
        ParticipantCrashBefore = "participant: crashes before its commit", 2_000;
        ParticipantCrashAfter = "participant: crashes after its commit", 2_000;
        LocalConflict = "local database: deadlock or serialization failure", 8_000;
        LocalLocked = "local database: a row is locked by others for long", 3_000;
        LocalFails = "local database: a statement fails", 4_000;
        LocalUnknownWritten = "local database: commit error, yet written", 3_000;
        LocalUnknownNotWritten = "local database: commit error, not written", 3_000;
        LocalHangs = "local database: commit never answers", 1_000;
        StoreSlow = "store: slow commit", 10_000;
        StoreUnknownWritten = "store: commit error, yet written", 300;
        StoreUnknownNotWritten = "store: commit error, not written", 300;
        StoreUnknownLate = "store: commit error, written later", 150;
        StoreUnstorable = "store: a row is not taken", 500;
        StoreFull = "store: full for a while";
        StoreUnavailable = "store: a read fails", 3_000;
        StoreCut = "store: partition between a node and the store";
        ClockForward = "clock: jumps forward";
        ClockBack = "clock: steps back";
        NodeCrash = "node: crashes at any moment";
        NodeCrashBeforeCommit = "node: crashes before a commit", 200;
        NodeCrashInCommit = "node: crashes with a commit on its way", 200;
        NodeCrashAfterCommit = "node: crashes after a commit", 200;
        NodeCrashBeforeCall = "node: crashes before a call", 150;
        NodeCrashInCall = "node: crashes with a call on its way", 150;
        NodePause = "node: paused";
        NodeDrained = "node: drained and replaced";
        RequestLost = "initiator: request to the coordinator lost", 15_000;
        RequestReplyLost = "initiator: the coordinator's reply lost", 15_000;
        RequestDuplicated = "initiator: request arrives twice", 20_000;
        RequestDelayed = "initiator: request delayed", 15_000;
        InitiatorVanishes = "initiator: gone at any step", 15_000;
        InitiatorCancels = "initiator: changes its mind", 20_000;
        InitiatorCrosses = "initiator: confirm and cancel cross", 20_000;
        InitiatorMisnames = "initiator: confirms without having tried all", 30_000;
        InitiatorReuses = "initiator: takes a gid for other content", 10_000;
        CancelFirst = "initiator: cancel before begin", 15_000;
    }
}

impl Fault {
    /// Whether it has a call arrive when nobody expects it any more.
    pub(crate) const fn is_late(self) -> bool {
        matches!(self, Self::CallDuplicated | Self::CallOvertaken)
    }
}

listed! {
    /// What the world is to come to see. A run that never saw one has not looked.
    Rare {
        EmptyCancel = "guard: a cancel before its try";
        LateTryBarred = "guard: a late try is barred";
        TryRepeated = "guard: a try repeated, same answer";
        RefusalRepeated = "guard: a refusal repeated, same answer";
        EndRepeated = "guard: a confirm or cancel repeated";
        GuardForgot = "guard: rows forgotten by the watermark";
        CallTwoNodes = "one branch called by two nodes";
        WriteLost = "a node lost the race for a write";
        DecidedByDeadline = "decided by the deadline";
        DecidedByRefusal = "decided by a refusal";
        DecidedByCheck = "decided by a check's answer";
        CheckSaidNo = "a check answered: never";
        CheckSaidWait = "a check answered: not yet";
        TombstoneWon = "a check barred the local transaction";
        Abandoned = "a ladder came to its end";
        Resent = "what was given up delivered anew";
        ResentAgain = "what was delivered anew asked for again, told so";
        Acknowledged = "what called for a human acknowledged";
        NestedConfirmed = "a transaction within another confirmed with it";
        NestedCancelled = "a transaction within another cancelled with it";
        Attention = "a human was called for";
        SagaCompensated = "a saga compensated more than one step";
        BeginRepeated = "a begin repeated, told so";
        BeginBarred = "a begin barred by an earlier cancel";
        GidReused = "a gid refused for other content";
        NotAllTried = "a confirm refused: not all tried";
        ToldDecided = "told: decided otherwise";
        ToldUnknownGid = "told: unknown gid";
        ToldUnknown = "told: outcome unknown";
        ToldFull = "told: store full";
        ToldContended = "told: contended or unavailable";
        RegisteredLate = "a register after the decision, told so";
        Purged = "purged, and still truthful";
        Parked = "parked, and called again";
        NodeReplaced = "a node replaced after an unknown commit";
        HungAlone = "a participant hung, and others were not held up";
        NodesAllDown = "no node was up";
        CancelledFrozen = "cancelled with untried branches left alone";
        GroupCommit = "several writes in one commit";
    }
}
