//! Canaries: secrets that are easy to recognise. Where one of them is seen, a real one would have been.

/// The token that the coordinator asks for.
pub const TOKEN: &str = "canary-token-7f3b9c55e1d24a08";
/// A token that it does not take; it may be the right one of another coordinator.
pub const WRONG_TOKEN: &str = "canary-wrong-51c0ffee9a7d4e62";
/// Stands in the headers of branches, which may be credentials.
pub const HEADER: &str = "canary-header-0d7e4b1c9f3a4c55";
/// Stands in payloads, which are the callers' business and nobody else's.
pub const PAYLOAD: &str = "canary-payload-93b2a6d8407e4f1b";
/// Stands in the query of endpoints, where some services want their key.
pub const QUERY: &str = "canary-query-b68e2f0c717d4d39";
/// Stands in the replies of participants, which are shown to the initiator and nobody else.
pub const REPLY: &str = "canary-reply-2e9a4c1875fb4b60";

/// What a log must not hold.
pub const NOT_IN_LOGS: [&str; 6] = [TOKEN, WRONG_TOKEN, HEADER, PAYLOAD, QUERY, REPLY];
/// What no answer may hold, views and problems.
pub const NOT_IN_ANSWERS: [&str; 5] = [TOKEN, WRONG_TOKEN, HEADER, PAYLOAD, QUERY];

/// The first of these secrets that stands in what was written, if any does.
#[must_use]
pub fn found(written: &[u8], secrets: &[&'static str]) -> Option<&'static str> {
    let holds = |secret: &&&str| written.windows(secret.len()).any(|window| window == secret.as_bytes());
    secrets.iter().find(holds).copied()
}
