//! Answers that are cut, drip, never end, lead elsewhere or are none at all, on each hop of a transfer. The work behind
//! such an answer was done, except behind a redirect; whoever cannot read it asks again, and what was done is not done
//! twice.

use std::net::SocketAddr;
use std::time::Duration;

use tcc_client::Decision::{self, Cancel, Confirm};
use tcc_client::{Gid, RunError, Wait};
use tcc_tests::{Fault, Proxy, Times};

use crate::transfer::{ByTheCoordinator, ByTheInitiator, Transfer, Tried};
use crate::world::{LONG, World};

/// One hop: who asks whom for what, in which style and on the way to which decision.
struct Hop {
    tried: Tried,
    to: To,
    method: &'static str,
    ending: &'static str,
    decision: Decision,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    TheCoordinator,
    /// The first of them.
    ABank,
}

use To::{ABank, TheCoordinator};

const fn hop(tried: Tried, to: To, method: &'static str, ending: &'static str, decision: Decision) -> Hop {
    Hop { tried, to, method, ending, decision }
}

/// One answer on a hop is spoilt, the first.
async fn spoilt(fault: impl Fn(SocketAddr) -> Fault, hop: Hop) {
    let world = World::new().await;
    // Whoever is sent there comes too far.
    let trap = Proxy::start().await;
    trap.inflict(Fault::Status(200), Times::Always, "POST", "");
    trap.inflict(Fault::Status(200), Times::Always, "GET", "");
    let proxy = match hop.to {
        TheCoordinator => &world.coordinator.proxy,
        ABank => &*world.banks[0].proxy,
    };
    let fault = fault(trap.address());
    proxy.inflict(fault, Times::Once, hop.method, hop.ending);
    let transfer = Transfer::new(hop.tried);
    let transfer = if hop.decision == Cancel { transfer.refused() } else { transfer };
    let decision = decision(&hop, fault);
    assert_eq!(finds_out(&transfer, &world).await, decision);
    world.ends(&transfer.gid, decision).await;
    assert_eq!(proxy.inflicted(), [1], "it was spoilt");
    let (method, exchanges) = (format!("{} ", hop.method), proxy.exchanges());
    let alike = |request: &str| request.starts_with(&method) && request.ends_with(hop.ending);
    let arrived = exchanges.iter().filter(|exchange| alike(&exchange.request)).count();
    assert!(arrived >= least(&hop, fault), "it was not asked again: {exchanges:?}");
    assert_eq!(trap.inflicted(), [0, 0], "nobody follows a redirect");
}

/// Where the answer to a register is one that no repeat can mend, the initiator takes its transfer back.
fn decision(hop: &Hop, fault: Fault) -> Decision {
    let beyond_mending = matches!(fault, Fault::Redirect(_) | Fault::EndlessBody);
    if hop.ending == "/branches" && beyond_mending { Cancel } else { hop.decision }
}

/// How often a request must have arrived for its answer to have been spoilt, and asked for again.
fn least(hop: &Hop, fault: Fault) -> usize {
    let arrives = !matches!(fault, Fault::LoseRequest | Fault::Redirect(_));
    // A participant's success is one however long it is; only of a try the reply is wanted. And an initiator who cannot
    // make out what its decision came to asks by beginning once more.
    let enough = fault == Fault::EndlessBody && ["/confirm", "/cancel"].contains(&hop.ending);
    let again = !enough && decision(hop, fault) == hop.decision;
    usize::from(arrives) + usize::from(again)
}

/// Does what an initiator is told to do: whoever does not know what came of it asks again with the same gid.
async fn finds_out(transfer: &Transfer, world: &World) -> Decision {
    let client = world.coordinator.client_that_waits(Duration::from_secs(1));
    let gid: Gid = transfer.gid.parse().expect("a gid");
    for _ in 0..3 {
        match transfer.tried {
            ByTheCoordinator => {
                let submission = transfer.submission(&world.banks).wait(Wait::Stored);
                match client.submit(submission).await {
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.outcome(), tcc_client::Outcome::Unknown, "{error:?}");
                        continue;
                    }
                }
                world.coordinator.end(&transfer.gid).await;
            }
            ByTheInitiator => {
                let [from, to] = transfer.branches(&world.banks);
                let run = client.transaction(gid.clone()).timeout(LONG).run(async |tcc| {
                    tcc.try_(from).await?;
                    tcc.try_(to).await?;
                    Ok(())
                });
                match run.await {
                    Ok(()) | Err(RunError::Cancelled(_) | RunError::Decided(_)) => {}
                    Err(RunError::Unknown(_)) => continue,
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        for _ in 0..3 {
            if let Ok(standing) = client.status(&gid).await {
                return standing.decision().expect("it is decided");
            }
        }
    }
    panic!("it was not found out");
}

/// A test for each hop, of an answer that is spoilt like this.
macro_rules! on_each_hop {
    ($row:ident: $fault:expr) => {
        mod $row {
            use super::*;

            #[tokio::test]
            async fn at_a_begin_that_the_coordinator_tries() {
                spoilt($fault, hop(ByTheCoordinator, TheCoordinator, "POST", "/transactions", Confirm)).await;
            }

            #[tokio::test]
            async fn at_a_begin_that_the_initiator_tries() {
                spoilt($fault, hop(ByTheInitiator, TheCoordinator, "POST", "/transactions", Confirm)).await;
            }

            #[tokio::test]
            async fn at_a_register() {
                spoilt($fault, hop(ByTheInitiator, TheCoordinator, "POST", "/branches", Confirm)).await;
            }

            #[tokio::test]
            async fn at_the_decision_to_confirm() {
                spoilt($fault, hop(ByTheInitiator, TheCoordinator, "POST", "/confirm", Confirm)).await;
            }

            #[tokio::test]
            async fn at_the_decision_to_cancel() {
                spoilt($fault, hop(ByTheInitiator, TheCoordinator, "POST", "/cancel", Cancel)).await;
            }

            #[tokio::test]
            async fn at_a_status() {
                spoilt($fault, hop(ByTheCoordinator, TheCoordinator, "GET", "", Confirm)).await;
            }

            #[tokio::test]
            async fn at_a_try_by_the_coordinator() {
                spoilt($fault, hop(ByTheCoordinator, ABank, "POST", "/try", Confirm)).await;
            }

            #[tokio::test]
            async fn at_a_try_by_the_initiator() {
                spoilt($fault, hop(ByTheInitiator, ABank, "POST", "/try", Confirm)).await;
            }

            #[tokio::test]
            async fn at_a_participants_confirm() {
                spoilt($fault, hop(ByTheCoordinator, ABank, "POST", "/confirm", Confirm)).await;
            }

            #[tokio::test]
            async fn at_a_participants_cancel() {
                spoilt($fault, hop(ByTheCoordinator, ABank, "POST", "/cancel", Cancel)).await;
            }
        }
    };
}

on_each_hop!(f22_a_reset_before_the_work: |_| Fault::LoseRequest);
on_each_hop!(f22_a_reset_after_the_work: |_| Fault::LoseReply);
on_each_hop!(f28_an_answer_cut_in_its_head: |_| Fault::CutInTheHead);
on_each_hop!(f28_an_answer_cut_in_its_body: |_| Fault::CutInTheBody);
on_each_hop!(f28_an_answer_that_a_gateway_lost: |_| Fault::BadGateway);
on_each_hop!(f29_an_answer_that_drips: |_| Fault::Drip);
on_each_hop!(f30_bytes_that_are_no_answer: |_| Fault::Garbage);
on_each_hop!(f30_a_head_without_end: |_| Fault::EndlessHead);
on_each_hop!(f30_a_body_without_end: |_| Fault::EndlessBody);
on_each_hop!(f30_a_redirect_to_elsewhere: Fault::Redirect);
