//! What an operator asks the coordinator for: lists, what happened, and what is done by hand.

use reqwest::Method;
use reqwest::Url;
use serde::Serialize;
use tcc_core::wire::{
    AcknowledgeRequest, ForceRequest, ResendRequest, RetryNowRequest, TransactionEvents, TransactionList,
    TransactionView,
};
use tcc_core::{BranchId, Gid, Phase, Timestamp};

use super::client::Client;
use super::error::{Error, Failure};
use super::exchange::{Ask, Wish, is_of, segment};
use super::standing::Standing;

/// Which transactions to list; all of them unless something is said.
///
/// ```
/// use tcc_client::{Listed, Phase};
///
/// let overdue = Listed { phase: Some(Phase::Confirming), attention: Some(true), ..Listed::default() };
/// # let _ = overdue;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Only those in this phase.
    pub phase: Option<Phase>,
    /// Only those that call for a human, or only those that do not.
    pub attention: Option<bool>,
    /// Only those whose gid begins so.
    pub prefix: Option<String>,
    /// Only those that call this destination, as in `payment:8082`.
    pub destination: Option<String>,
    /// Only those begun at or after this moment, by the coordinator's clock.
    pub created_from: Option<Timestamp>,
    /// Only those begun before this moment.
    pub created_before: Option<Timestamp>,
    /// How many on a page; the coordinator says if nothing is said here.
    pub limit: Option<u32>,
    /// The `next` of the page before, of a list with the same filters.
    pub page: Option<String>,
}

impl Listed {
    /// As a query, with its question mark.
    fn query(&self) -> String {
        let millis = |at: Option<Timestamp>| at.map(|at| at.as_millis().to_string());
        let parameters = [
            ("phase", self.phase.map(|phase| phase.as_str().to_owned())),
            ("attention", self.attention.map(|attention| attention.to_string())),
            ("prefix", self.prefix.clone()),
            ("destination", self.destination.clone()),
            ("created_from", millis(self.created_from)),
            ("created_before", millis(self.created_before)),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("page", self.page.clone()),
        ];
        // Only for its way of writing a query.
        let mut url = Url::parse("http://coordinator").expect("it is one");
        let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        url.query_pairs_mut().extend_pairs(given);
        format!("?{}", url.query().unwrap_or_default())
    }
}

impl Client {
    /// One page of the transactions that match, in the order they were begun. Only the last has no `next`; any other may
    /// be short too, or even empty.
    ///
    /// # Errors
    /// [`Error::Status`], with the code `invalid` where a filter is none.
    pub async fn list(&self, listed: &Listed) -> Result<TransactionList, Error> {
        Ok(self.exchange_for(Ask::of_many(listed.query()), |_, list| Ok(list)).await?.view)
    }

    /// What happened to a transaction, the oldest first, and why it stands where it does.
    ///
    /// # Errors
    /// [`Error::Status`]. The code `unknown-gid` says that nothing is known, and never that nothing happened.
    pub async fn events(&self, gid: &Gid) -> Result<TransactionEvents, Error> {
        let ask = Ask::new(Wish::Status, Method::GET, gid, "/events");
        let judge = |ask: &Ask<'_>, told: TransactionEvents| is_of(ask, &told.gid).map(|()| told);
        Ok(self.exchange_for(ask, judge).await?.view)
    }

    /// Has called now what is due later. Saying it again has it called again.
    ///
    /// # Errors
    /// [`Error::ByHand`].
    pub async fn retry(&self, gid: &Gid) -> Result<Standing, Error> {
        self.by_hand(gid, "/retry", &RetryNowRequest {}).await
    }

    /// Takes note of what calls for a human, which then does so no more until something else does.
    ///
    /// # Errors
    /// [`Error::ByHand`], with the code `invalid` where the reason is empty or too long.
    pub async fn acknowledge(&self, gid: &Gid, reason: &str) -> Result<Standing, Error> {
        self.by_hand(gid, "/acknowledge", &AcknowledgeRequest { reason: reason.to_owned() }).await
    }

    /// Has delivered anew what a transaction gave up, by another one with this gid, whose parent it is. Saying it again with
    /// the same gid begins nothing new.
    ///
    /// # Errors
    /// [`Error::ByHand`], with the code `nothing-given-up` among others.
    pub async fn resend(&self, gid: &Gid, under: &Gid) -> Result<Standing, Error> {
        let body = ResendRequest { gid: under.to_string() };
        let ask = Ask::new(Wish::ByHand, Method::POST, gid, "/resend").body(&body);
        let judge = |_: &Ask<'_>, view: TransactionView| {
            let other = || Failure::Unreadable(format!("it is of {}", view.gid).into());
            if view.gid == *under { Ok(view) } else { Err(other()) }
        };
        Ok(Standing::new(self.exchange_for(ask, judge).await?.view))
    }

    /// Ends a branch of a decided transaction that cannot be ended otherwise. What became of it, the reason alone tells.
    ///
    /// # Errors
    /// [`Error::ByHand`], with the codes `not-decided` and `unknown-branch` among others.
    pub async fn force(&self, gid: &Gid, branch: &BranchId, reason: &str) -> Result<Standing, Error> {
        let path = format!("/branches/{}/force", segment(branch.as_str()));
        self.by_hand(gid, &path, &ForceRequest { reason: reason.to_owned() }).await
    }

    async fn by_hand(&self, gid: &Gid, below: &str, body: &impl Serialize) -> Result<Standing, Error> {
        let ask = Ask::new(Wish::ByHand, Method::POST, gid, below).body(body);
        Ok(Standing::new(self.exchange(ask).await?.view))
    }
}
