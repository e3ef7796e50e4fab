//! How much the suite asks for, each with its reason.

/// How often a call is made at most that is answered *pending*: a lock is waited for, as the coordinator would.
pub(super) const PENDING: u32 = 60;
/// How often a call is made at most that brings no answer that settles it. One that fails may be bad luck.
pub(super) const FAILING: u32 = 3;
/// How often two calls are made at once, each time on a branch of its own: they do not meet every time.
pub(super) const ROUNDS: u32 = 8;
/// Bytes of an answer that are shown.
pub(super) const SHOWN: usize = 200;
/// Tries of the payload that are accepted, at most: what they take has to be there.
pub const ACCEPTED: u32 = 64;
/// Of these, confirmed ones at most: what they take is not given back.
pub const CONFIRMED: u32 = 30;
