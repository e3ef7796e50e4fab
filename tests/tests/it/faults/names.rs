//! F36: names that do not resolve, for a while, in every way that a name server has. Unknown is all that follows from
//! it, whoever has an address is served, and no answer is kept longer than the server says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tcc_client::Decision::Confirm;
use tcc_tests::dns::{NameServer, Says};
use tcc_tests::{Fault, Proxy, Times};

use super::lab;
use crate::bank::Site;
use crate::transfer::{ByTheCoordinator, Transfer};
use crate::world::{World, eventually};

const HERE: Says = Says::Found(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// Transfers with banks that have names, while the name server says this.
async fn while_it_says(says: Says) {
    let server = NameServer::start("127.0.0.1:53".parse().expect("an address"), says).await;
    let named = |name| Site { name: Some(name), ..Site::default() };
    let mut world = World::of(&[], [named("first.test"), named("second.test")]).await;
    world.coordinator.start().await;
    let transfers = [(); 10].map(|()| {
        // The name server has a second; a call has more.
        Transfer::new(ByTheCoordinator).patient().call_timeout(Duration::from_secs(5))
    });
    for transfer in &transfers {
        let begun = world.coordinator.ask("POST", "", Some(transfer.begin(&world.banks))).await;
        assert_eq!(begun.0, 201);
    }
    for transfer in &transfers {
        eventually("a call that brings nothing", async || {
            let (_, view) = world.coordinator.view(&transfer.gid).await;
            assert!(view["decision"].is_null(), "unknown is neither done nor refused: {view}");
            view["branches"][0]["seen"].is_string().then_some(())
        })
        .await;
    }
    let healthy = Proxy::start().await;
    healthy.inflict(Fault::Status(200), Times::Always, "POST", "");
    let others = join_all((0..20).map(async |nth| {
        let (gid, at) = (format!("other/{nth}"), format!("http://{}/b", healthy.address()));
        let begin = json!({"gid": gid, "timeout_ms": 3_600_000, "branches": [{"id": "b", "at": at}]});
        assert_eq!(world.coordinator.ask("POST", "", Some(begin)).await.0, 201);
        world.coordinator.end(&gid).await
    }));
    for other in others.await {
        assert_eq!(other["phase"], json!("Confirmed"), "{other}");
    }
    assert!(world.states().is_empty(), "no bank was called");
    server.says(HERE);
    for transfer in &transfers {
        transfer.ended_alone(&world, Confirm).await;
    }
    world.balance();
}

#[test]
fn f36_a_name_that_does_not_exist_for_a_while() {
    lab::run(async || while_it_says(Says::NoSuchName).await);
}

#[test]
fn f36_a_name_server_that_fails_for_a_while() {
    lab::run(async || while_it_says(Says::Failure).await);
}

#[test]
fn f36_a_name_server_that_is_silent_for_a_while() {
    lab::run(async || while_it_says(Says::Silence).await);
}

/// The banks have no such address.
#[test]
fn f36_a_name_that_has_nothing_but_an_ipv6_address_for_a_while() {
    lab::run(async || while_it_says(Says::Found(IpAddr::V6(Ipv6Addr::LOCALHOST))).await);
}

/// A name that moves to an address where nobody listens.
#[test]
fn f36_a_name_that_leads_elsewhere_for_a_while() {
    lab::run(async || while_it_says(Says::Found(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77)))).await);
}
