//! The JSON bodies of the coordinator's API. Lengths cross the wire (`…_ms`), moments never do (C10).
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/transactions` | [`BeginRequest`] | [`TransactionView`] |
//! | `POST /v1/transactions/{gid}/branches` | [`RegisterRequest`] | [`TransactionView`] |
//! | `POST /v1/transactions/{gid}/confirm` | [`ConfirmRequest`] | [`TransactionView`] |
//! | `POST /v1/transactions/{gid}/cancel` | [`CancelRequest`] | [`TransactionView`] |
//! | `POST /v1/transactions/{gid}/retry` | [`RetryNowRequest`] | [`TransactionView`] |
//! | `POST /v1/transactions/{gid}/branches/{id}/force` | [`ForceRequest`] | [`TransactionView`] |
//! | `POST /v1/transactions/{gid}/acknowledge` | [`AcknowledgeRequest`] | [`TransactionView`] |
//! | `POST /v1/transactions/{gid}/resend` | [`ResendRequest`] | [`TransactionView`] |
//! | `GET /v1/transactions/{gid}` | | [`TransactionView`] |
//! | `GET /v1/transactions/{gid}/events` | | [`TransactionEvents`] |
//! | `GET /v1/transactions` | | [`TransactionList`] |
//! | `PUT /v1/topics/{topic}/subscribers/{id}` | [`SubscribeRequest`] | [`TopicView`] |
//! | `DELETE /v1/topics/{topic}/subscribers/{id}` | | [`TopicView`] |
//! | `GET /v1/topics/{topic}` | | [`TopicView`] |
//! | `GET /v1/topics` | | [`TopicList`] |
//!
//! Every error is a [`Problem`].

mod by_hand;
mod events;
mod list;
mod problem;
mod request;
mod topics;
mod view;

pub use by_hand::{AcknowledgeRequest, ForceRequest, ResendRequest, RetryNowRequest};
pub use events::{EventKind, EventView, TransactionEvents};
pub use list::{TransactionList, TransactionSummary};
pub use problem::{Problem, ProblemCode};
pub use request::{
    BeginRequest, BranchRequest, CancelRequest, ConfirmRequest, RegisterRequest, RetryRequest,
};
pub use topics::{SubscribeRequest, SubscriberView, TopicList, TopicView};
pub use view::{BranchState, BranchView, TransactionView};
