//! What errors of drivers call for.

use std::error::Error;

use crate::{BoxError, Trouble};

/// All connections were in use for too long.
#[cfg_attr(feature = "redis", allow(dead_code, reason = "in Redis one connection is for all"))]
#[derive(Debug, thiserror::Error)]
#[error("all connections are in use")]
pub(super) struct InUse;

/// What the first error of a driver in a chain calls for.
pub(super) fn trouble_of<E: Error + 'static>(error: &BoxError, judge: impl Fn(&E) -> Trouble) -> Trouble {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&**error);
    while let Some(error) = cause {
        if error.is::<InUse>() {
            return Trouble::Locked;
        }
        if let Some(error) = error.downcast_ref() {
            return judge(error);
        }
        cause = error.source();
    }
    Trouble::Other
}
