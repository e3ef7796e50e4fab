//! What operators send.

use serde::{Deserialize, Serialize};

use crate::definition::Invalid;
use crate::{Gid, answer, limits};

/// Has what is due later called now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({})))]
#[serde(deny_unknown_fields)]
pub struct RetryNowRequest {}

/// Takes note of what calls for a human.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeRequest {
    /// What is done about it, for people.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 1024, example = "ticket 4711"))]
    pub reason: String,
}

/// Delivers anew what was given up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResendRequest {
    /// The gid of the transaction that does so: repeating the request with it begins nothing new.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[A-Za-z0-9_:/-]{1,128}$", example = "payment/4711/paid/2")
    )]
    pub gid: String,
}

/// Ends a branch that cannot be ended otherwise.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ForceRequest {
    /// Why, for people; kept for ever.
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 1, max_length = 1024, example = "booked by hand, ticket 4711")
    )]
    pub reason: String,
}

impl ResendRequest {
    /// The gid.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(self) -> Result<Gid, Invalid> {
        self.gid.parse().map_err(|why| Invalid::new("/gid", why))
    }
}

impl ForceRequest {
    /// The reason, made fit to be stored. None of it is cut off, for it is all that will tell why.
    ///
    /// # Errors
    /// When it says nothing, or is too long.
    pub fn parse(self) -> Result<String, Invalid> {
        given(&self.reason)
    }
}

impl AcknowledgeRequest {
    /// The reason, made fit to be stored.
    ///
    /// # Errors
    /// When it says nothing, or is too long.
    pub fn parse(self) -> Result<String, Invalid> {
        given(&self.reason)
    }
}

fn given(reason: &str) -> Result<String, Invalid> {
    if reason.trim().is_empty() {
        return Err(Invalid::new("/reason", "is empty"));
    }
    if reason.len() > limits::REASON {
        return Err(Invalid::new("/reason", format!("is longer than {} bytes", limits::REASON)));
    }
    Ok(answer::cut(reason))
}
