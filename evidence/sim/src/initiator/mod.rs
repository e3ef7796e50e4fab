//! Those who begin transactions.
//!
//! - [`ask`]: a request to a coordinator, over a network that loses and repeats;
//! - [`fact`]: an initiator's own local transaction, and the check that asks for it;
//! - [`flow`]: what an initiator does, step by step, unless it is gone by then.

pub(crate) mod ask;
pub(crate) mod fact;
pub(crate) mod flow;
