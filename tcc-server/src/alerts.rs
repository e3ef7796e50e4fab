//! Tells a webhook which transactions call for a human, once each and then at growing intervals.
//!
//! An alert is a transaction like any other, a message with a ladder that ends, and its gid says what it is about: so it is
//! durable, repeated, signed and bounded by what does that for all, and beginning it again begins nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tcc_core::store::{Filter, Page};
use tcc_core::wire::{BeginRequest, TransactionSummary};
use tcc_core::{Begin, Digest, Endpoint, Gid, matter};

use crate::coordinator::{Begun, Coordinator, Error, chain};
use crate::limits;

/// What the gids of alerts begin with.
const PREFIX: &str = "tcc/alert/";

/// Looks every so often for what calls for a human, for as long as it is told to whom that is to be said.
pub(crate) async fn tell(coordinator: Arc<Coordinator>) {
    let Some(at) = coordinator.settings.alerts.clone() else { return };
    let mut look = Look::default();
    loop {
        if coordinator.acts()
            && let Err(error) = look.tell(&coordinator, &at).await
        {
            tracing::warn!(error = %chain(&error), "what calls for a human could not be told");
        }
        tokio::time::sleep(limits::ALERTING).await;
    }
}

/// Goes through what calls for a human, a page at each look, and from the end to the beginning again.
#[derive(Default)]
struct Look {
    /// Where it goes on.
    after: Option<u64>,
    /// The alerts that were begun: beginning one again would change nothing, only cost.
    begun: HashSet<Gid>,
}

impl Look {
    async fn tell(&mut self, coordinator: &Arc<Coordinator>, at: &Endpoint) -> Result<(), Error> {
        let calling = Filter { attention: Some(true), ..Filter::default() };
        let page = Page { after: self.after, size: limits::LONGEST_LIST_PAGE };
        let (calling, next) = coordinator.list(&calling, None, page).await?;
        let mut told = 0;
        // An alert that nobody takes is no reason for another.
        for one in calling.iter().filter(|one| !one.gid.as_str().starts_with(PREFIX)) {
            let begin: Begin = alert(one, at).parse(|| unreachable!("an alert has a gid"))?;
            let gid = begin.gid.clone();
            if self.begun.contains(&gid) {
                continue;
            }
            if told == limits::ALERTS {
                // The same page again, with those who are left.
                return Ok(());
            }
            match coordinator.begin(begin).await {
                Ok(Begun::New(_)) => told += 1,
                // Told before; what is told may have changed a little since.
                Ok(Begun::Before(_)) | Err(Error::GidReused(_)) => {}
                Err(error @ (Error::Unknown(_) | Error::Unavailable(_))) => return Err(error),
                // The next may fare better.
                Err(error) => {
                    tracing::warn!(of = %one.gid, error = %chain(&error), "an alert could not be begun");
                    continue;
                }
            }
            if self.begun.len() == limits::ALERTS_BEGUN {
                self.begun.clear();
            }
            self.begun.insert(gid);
        }
        self.after = next;
        Ok(())
    }
}

/// The message. It says nothing that changes from one look to the next, or it would be another message.
fn alert(one: &TransactionSummary, at: &Endpoint) -> BeginRequest {
    let attention = one.attention.clone().unwrap_or_default();
    let about = Digest::of(&format!("{} {}", one.gid, matter(&attention)));
    let gid = format!("{PREFIX}{}/{:.32}", turn(Duration::from_millis(one.age_ms)), about.to_string());
    let request = json!({
        "gid": gid,
        "parent": one.gid,
        "branches": [{
            "id": "alert",
            "confirm": at.as_str(),
            "payload": { "type": "tcc.attention", "gid": one.gid, "phase": one.phase, "attention": attention },
            "retry": { "intervals_ms": [1000, 10_000, 60_000, 600_000, 3_600_000], "give_up": true },
        }],
    });
    serde_json::from_value(request).expect("it is a begin")
}

/// How often it was told already, by its age: each time that has doubled it is told again.
fn turn(age: Duration) -> u32 {
    let times = age.as_secs() / limits::ALERT_AGAIN.as_secs();
    u64::BITS - times.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_again_each_time_its_age_has_doubled() {
        let turns = |minutes: u64| turn(Duration::from_secs(60 * minutes));
        assert_eq!([0, 9, 10, 19, 20, 39, 40, 80].map(turns), [0, 0, 1, 1, 2, 2, 3, 4]);
    }
}
