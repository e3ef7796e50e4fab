//! The checkers, each small enough to be believed.
//!
//! - [`decision`]: one decision, with a cause (C1, C2, C6);
//! - [`calls`]: no call of the other kind, none before its time (C1, C2, C8);
//! - [`answers`]: truthful answers to initiators (C3);
//! - [`guard`]: what the guard promises (P1 to P6);
//! - [`sender`]: a message goes with its local transaction, and waits while nobody knows (C3, C4);
//! - [`nested`]: a transaction within another comes to the same end;
//! - [`ending`]: everything ends, all or nothing, and the books balance (C4, C6, C9).

pub(crate) mod answers;
pub(crate) mod calls;
pub(crate) mod decision;
pub(crate) mod ending;
pub(crate) mod guard;
pub(crate) mod nested;
pub(crate) mod sender;
