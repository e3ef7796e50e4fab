//! Lower bounds: what a coordinator's calls, and its writes, cost by themselves.

pub(crate) mod relay;
pub(crate) mod writes;
