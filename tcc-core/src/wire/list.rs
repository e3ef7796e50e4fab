//! What many transactions look like from outside, a page at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::view::{BranchState, TransactionView};
use crate::store::Row;
use crate::{Decision, Gid, Phase, Timestamp, record};

/// One page of a list of transactions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransactionList {
    /// The transactions, in the order they were begun. There may be few or none of them and yet more to come.
    pub transactions: Vec<TransactionSummary>,
    /// What the next page is asked for with; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// A transaction in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransactionSummary {
    /// Its id.
    pub gid: Gid,
    /// Where it stands.
    pub phase: Phase,
    /// What was decided; absent while it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<Decision>,
    /// Why a human should look at it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attention: Option<String>,
    /// When it began, by the coordinator's clock: what `created_from` and `created_before` are compared with.
    pub begun: i64,
    /// How long ago it began.
    pub age_ms: u64,
    /// How many of its branches stand where.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, usize>))]
    pub branches: BTreeMap<BranchState, usize>,
    /// Whether what is stored of it cannot be read: then only this much is known.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unreadable: bool,
}

impl TransactionSummary {
    /// What a row of a list looks like at a moment. One whose document cannot be read is told of as far as its columns
    /// go, and takes no other with it (C9).
    #[must_use]
    pub fn of(row: &Row, now: Timestamp) -> Self {
        let view = record::decode(&row.gid, &row.document).map(|(read, _)| TransactionView::of(&read, now));
        let (unreadable, attention, branches) = match view {
            Ok(view) => (false, view.attention, view.branches),
            Err(_) => (true, row.attention.then(|| "its document cannot be read".to_owned()), Vec::new()),
        };
        let mut states = BTreeMap::new();
        for branch in branches {
            *states.entry(branch.state).or_default() += 1;
        }
        Self {
            gid: row.gid.clone(),
            phase: row.phase,
            decision: row.phase.decision(),
            attention,
            begun: row.created_at.as_millis(),
            age_ms: u64::try_from(now.since(row.created_at).as_millis()).unwrap_or(u64::MAX),
            branches: states,
            unreadable,
        }
    }
}
