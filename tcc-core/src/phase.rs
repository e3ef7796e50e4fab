//! Where a transaction stands.

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Not decided: branches may be registered and tried.
    Trying,
    /// Decided: every branch is being confirmed.
    Confirming,
    /// Every branch is confirmed.
    Confirmed,
    /// Decided: every branch that may have been tried is being cancelled.
    Cancelling,
    /// Every branch that may have been tried is cancelled.
    Cancelled,
    /// Decided to confirm and ended, but a best-effort branch was given up.
    Abandoned,
}

/// What was decided, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(rename_all = "lowercase"))]
pub enum Decision {
    /// It happens everywhere.
    Confirm,
    /// It happens nowhere.
    Cancel,
}

impl Phase {
    /// Every phase, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Trying, Self::Confirming, Self::Confirmed, Self::Cancelling, Self::Cancelled, Self::Abandoned];

    /// The decision that led here; `None` while trying.
    #[must_use]
    pub const fn decision(self) -> Option<Decision> {
        match self {
            Self::Trying => None,
            Self::Confirming | Self::Confirmed | Self::Abandoned => Some(Decision::Confirm),
            Self::Cancelling | Self::Cancelled => Some(Decision::Cancel),
        }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub const fn ended(self) -> bool {
        matches!(self, Self::Confirmed | Self::Cancelled | Self::Abandoned)
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trying => "Trying",
            Self::Confirming => "Confirming",
            Self::Confirmed => "Confirmed",
            Self::Cancelling => "Cancelling",
            Self::Cancelled => "Cancelled",
            Self::Abandoned => "Abandoned",
        }
    }
}

impl Decision {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
        }
    }
}
