//! A branch, as an initiator describes it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tcc_core::wire::{BranchRequest, RetryRequest};
use tcc_core::{Retry, Then};

/// One participant's part in a transaction, to be submitted or registered.
///
/// ```
/// use std::time::Duration;
/// use tcc_client::{Branch, Retry, Then};
///
/// #[derive(serde::Serialize)]
/// struct Reserve { sku: &'static str, count: u32 }
///
/// // Tried, confirmed and cancelled at http://inventory/tcc/stock/{try,confirm,cancel}.
/// let stock = Branch::at("stock", "http://inventory/tcc/stock")
///     .payload(&Reserve { sku: "4711", count: 2 })?
///     .reserves(Duration::from_secs(120));
///
/// // Delivered once the transaction is confirmed, and given up after three failures.
/// let mail = Branch::new("mail").confirm("http://mailer/order-confirmed").retry(Retry::Intervals {
///     waits: vec![Duration::from_secs(5), Duration::from_secs(60)],
///     then: Then::GiveUp,
/// });
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Branch {
    pub(super) request: BranchRequest,
}

impl Branch {
    /// A branch with this id, unique in its transaction, and no endpoint yet.
    pub fn new(id: impl Into<String>) -> Self {
        Self { request: BranchRequest { id: id.into(), ..BranchRequest::default() } }
    }

    /// A branch with this id, called at `at/try`, `at/confirm` and `at/cancel`.
    pub fn at(id: impl Into<String>, at: impl Into<String>) -> Self {
        let mut branch = Self::new(id);
        branch.request.at = Some(at.into());
        branch
    }

    /// A step of a saga: `action` does it, and `compensate` undoes it if a later step, or another branch, is refused.
    /// These are its try and its cancel under the names that sagas have for them; with [`after`](Self::after) steps get
    /// their order, and compensations the reverse.
    ///
    /// ```
    /// use tcc_client::Branch;
    ///
    /// let flight = Branch::step("flight", "http://airline/book", "http://airline/cancel");
    /// let hotel = Branch::step("hotel", "http://hotel/book", "http://hotel/cancel").after("flight");
    /// # let _ = (flight, hotel);
    /// ```
    pub fn step(id: impl Into<String>, action: impl Into<String>, compensate: impl Into<String>) -> Self {
        Self::new(id).try_(action).cancel(compensate)
    }

    /// What is called to try it, instead of `at/try`.
    pub fn try_(mut self, endpoint: impl Into<String>) -> Self {
        self.request.try_ = Some(endpoint.into());
        self
    }

    /// What is called to confirm it, instead of `at/confirm`.
    pub fn confirm(mut self, endpoint: impl Into<String>) -> Self {
        self.request.confirm = Some(endpoint.into());
        self
    }

    /// What is called to cancel it, instead of `at/cancel`.
    pub fn cancel(mut self, endpoint: impl Into<String>) -> Self {
        self.request.cancel = Some(endpoint.into());
        self
    }

    /// Its try leaves nothing to undo. It has to be said: a try whose cancel was forgotten would end as cancelled
    /// with the money gone.
    pub fn no_cancel(self) -> Self {
        self.cancel("none")
    }

    /// The branch with this id goes first: its try before this try, its confirm before this confirm, and this
    /// cancel before its cancel.
    pub fn after(mut self, id: impl Into<String>) -> Self {
        self.request.after.push(id.into());
        self
    }

    /// The body of each of its calls.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn payload<P: Serialize + ?Sized>(mut self, payload: &P) -> Result<Self, serde_json::Error> {
        self.request.payload = Some(Arc::from(serde_json::value::to_raw_value(payload)?));
        Ok(self)
    }

    /// The body of each of its calls, as JSON text that is sent as it stands.
    pub fn raw_payload(mut self, payload: impl Into<Arc<RawValue>>) -> Self {
        self.request.payload = Some(payload.into());
        self
    }

    /// A header sent along with each of its calls. The coordinator stores it and never shows it.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.headers.insert(name.into(), value.into());
        self
    }

    /// When the coordinator repeats a call. Only a branch with `confirm` alone may be given up.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.request.retry = Some(match retry {
            Retry::Exponential { first, longest } => RetryRequest {
                first_ms: Some(millis(first)),
                longest_ms: Some(millis(longest)),
                ..RetryRequest::default()
            },
            Retry::Intervals { waits, then } => RetryRequest {
                intervals_ms: Some(waits.into_iter().map(millis).collect()),
                give_up: then == Then::GiveUp,
                ..RetryRequest::default()
            },
        });
        self
    }

    /// How long the coordinator holds back its first call: that of its try, or of its confirm if it has no try.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.request.delay_ms = Some(millis(delay));
        self
    }

    /// How long what its try reserves is held. The transaction's deadline becomes no later than that.
    pub fn reserves(mut self, length: Duration) -> Self {
        self.request.reserves_ms = Some(millis(length));
        self
    }

    /// How long one of its calls may take; 10 seconds if nothing is said, 60 at most.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout_ms = Some(millis(timeout));
        self
    }
}

/// Whole milliseconds, as the wire has them. What is not zero does not become it.
pub(super) fn millis(length: Duration) -> u64 {
    let whole = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    if length.is_zero() { 0 } else { whole.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_says_all_that_the_wire_can() {
        let branch = Branch::at("stock", "http://inventory/stock")
            .try_("http://inventory/check")
            .confirm("http://inventory/ship")
            .no_cancel()
            .after("money")
            .after("points")
            .payload(&[1, 2])
            .unwrap()
            .header("x-tenant", "7")
            .retry(Retry::Exponential { first: Duration::from_millis(20), longest: Duration::from_secs(5) })
            .delay(Duration::from_secs(1))
            .reserves(Duration::from_secs(60))
            .timeout(Duration::from_micros(1));
        assert_eq!(
            serde_json::to_value(&branch.request).unwrap(),
            serde_json::json!({
                "id": "stock",
                "at": "http://inventory/stock",
                "try": "http://inventory/check",
                "confirm": "http://inventory/ship",
                "cancel": "none",
                "after": ["money", "points"],
                "payload": [1, 2],
                "headers": {"x-tenant": "7"},
                "retry": {"first_ms": 20, "longest_ms": 5000},
                "delay_ms": 1000,
                "reserves_ms": 60_000,
                "timeout_ms": 1,
            })
        );
    }

    #[test]
    fn a_ladder_ends_or_goes_on() {
        for (then, give_up) in [(Then::GiveUp, Some(true)), (Then::Repeat, None)] {
            let waits = vec![Duration::from_secs(1), Duration::from_secs(2)];
            let branch = Branch::new("mail").confirm("http://mail").retry(Retry::Intervals { waits, then });
            let retry = serde_json::to_value(branch.request.retry).unwrap();
            assert_eq!(retry["intervals_ms"], serde_json::json!([1000, 2000]));
            assert_eq!(retry.get("give_up").and_then(serde_json::Value::as_bool), give_up);
        }
    }
}
