//! The network between callers and participants: it loses, repeats, delays and cuts.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tcc_core::answer::{Answer, Failure, Response};
use tcc_core::store::BoxFuture;
use tcc_core::{Endpoint, Operation};
use tcc_server::transport::{Outgoing, Transport};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::fault::{Fault, Rare};
use crate::log::Who;
use crate::node::Life;
use crate::setup::Break;
use crate::world::{World, lock};

/// A process's transport.
pub(crate) struct SimTransport {
    pub(crate) life: Life,
}

/// The two ways between a node and a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Requests.
    There,
    /// Replies.
    Back,
}

impl Transport for SimTransport {
    fn schemes(&self) -> &[&'static str] {
        &["sim"]
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), String> {
        match address(endpoint) {
            Some(_) => Ok(()),
            None => Err("is nowhere".into()),
        }
    }

    fn destination(&self, endpoint: &Endpoint) -> String {
        endpoint.as_str().split('/').next().unwrap_or_default().to_owned()
    }

    fn call(&self, outgoing: Outgoing) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let (life, world) = (&self.life, &self.life.world);
            life.gate().await;
            if world.strikes(Fault::NodeCrashBeforeCall) {
                life.crash("crashes before a call").await;
            }
            let case = crate::book::number(&outgoing.call.gid);
            let checked = lock(&world.book).sent(world, case, life.node, &outgoing.call);
            world.hold(Some(case), checked);
            if world.strikes(Fault::NodeCrashInCall) {
                let (world, sender) = (world.clone(), Who::Node(life.node));
                tokio::spawn(async move { carry(&world, sender, outgoing).await });
                life.crash("crashes with a call on its way").await;
                return Answer::None(Failure::Other);
            }
            let call = outgoing.call.clone();
            let answer = carry(world, Who::Node(life.node), outgoing).await;
            life.gate().await;
            if world.nature.reads_and_writes() {
                let checked = lock(&world.book).heard(case, life.process(), &call, &answer);
                world.hold(Some(case), checked);
            }
            answer
        })
    }
}

/// Where an endpoint is: the number of a participant, and the path there.
fn address(endpoint: &Endpoint) -> Option<(usize, &str)> {
    let (host, path) = endpoint.as_str().strip_prefix("sim:")?.split_once('/')?;
    Some((host.strip_prefix('p')?.parse().ok()?, path))
}

/// Carries a call to its end and the answer back, or does not.
pub(crate) async fn carry(world: &Arc<World>, sender: Who, outgoing: Outgoing) -> Answer {
    let case = crate::book::number(&outgoing.call.gid);
    let by = Instant::now() + outgoing.timeout;
    let operation = outgoing.call.operation;
    let branch = outgoing.call.branch.clone();
    let name = || format!("{operation} {}", branch.as_ref().map_or("", |branch| branch.as_str()));
    world.note(sender, Some(case), "calls", name);
    let answer = fate(world, sender, outgoing, by).await;
    world.note(sender, Some(case), "sees", || format!("{} of {}", seen(&answer), name()));
    let timed_out = matches!(answer, Answer::None(Failure::TimedOut)) && operation == Operation::Try;
    let said = |status, body: &str| {
        Answer::Response(Response { status, retry_after: None, body: Some(body.into()) })
    };
    match world.broken {
        Some(Break::TimeoutAsRefusal) if timed_out => said(409, r#"{"code":"refused"}"#),
        Some(Break::TimeoutAsDone) if timed_out => said(200, "{}"),
        _ => answer,
    }
}

fn seen(answer: &Answer) -> String {
    match answer {
        Answer::Response(response) => response.status.to_string(),
        Answer::None(failure) => failure.as_str().to_owned(),
    }
}

/// What becomes of a call.
async fn fate(world: &Arc<World>, sender: Who, outgoing: Outgoing, by: Instant) -> Answer {
    let service = address(&outgoing.call.endpoint).map(|(service, _)| service);
    let cut = |way| match (sender, service) {
        (Who::Node(node), Some(service)) => world.nodes[node].is_cut(service, way),
        _ => false,
    };
    if world.strikes(Fault::CallNotConnected) {
        return Answer::None(
            world.dice(|dice| {
                [Failure::Connect, Failure::Dns, Failure::Tls, Failure::Other][dice.usize(0..4)]
            }),
        );
    }
    if cut(Way::There) || world.strikes(Fault::CallLost) {
        return timed_out(by).await;
    }
    let longest = u64::try_from(world.nature.longest_delay.as_millis()).unwrap_or(u64::MAX);
    if world.strikes(Fault::CallDuplicated) {
        let delay = world.millis(0..longest);
        send_late(world, outgoing.clone(), delay);
    }
    if world.strikes(Fault::CallOvertaken) {
        let delay = world.millis(0..longest);
        send_late(world, outgoing, delay);
        return timed_out(by).await;
    }
    let delay = if world.strikes(Fault::CallDelayed) {
        world.millis(1..4_000)
    } else {
        Duration::from_millis(world.dice(|dice| [0, 0, 0, 1, 2, 3, 8, 20][dice.usize(0..8)]))
    };
    let answer = if delay.is_zero() {
        timeout_at(by, arrive(world, outgoing)).await
    } else {
        let late = arrive(world, outgoing);
        timeout_at(by, async {
            sleep(delay).await;
            late.await
        })
        .await
    };
    let Ok(answer) = answer else { return Answer::None(Failure::TimedOut) };
    if cut(Way::Back) || world.strikes(Fault::CallReplyLost) {
        return timed_out(by).await;
    }
    if world.strikes(Fault::CallBroken) {
        return Answer::None(Failure::Broken);
    }
    answer
}

async fn timed_out(by: Instant) -> Answer {
    sleep_until(by).await;
    Answer::None(Failure::TimedOut)
}

/// Has a request arrive after all, when nobody listens for its answer any more.
fn send_late(world: &Arc<World>, outgoing: Outgoing, delay: Duration) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(delay).await;
        if !world.is_over() {
            arrive(&world, outgoing).await;
        }
    });
}

/// A request has arrived.
async fn arrive(world: &Arc<World>, outgoing: Outgoing) -> Answer {
    let endpoint = outgoing.call.endpoint.clone();
    match address(&endpoint) {
        None => Answer::None(Failure::Dns),
        Some((service, path)) => {
            if world.nature.hung == Some(service) && !world.is_healed() {
                return pending().await;
            }
            let service = &world.services[service];
            if let Some(response) = service.in_front(world, outgoing.call.operation, path) {
                return Answer::Response(response);
            }
            service.take(world, path, outgoing).await
        }
    }
}

/// Counts that one branch was called by more than one node.
pub(crate) fn count_two_nodes(world: &World, before: Option<usize>, now: usize) {
    if before.is_some_and(|before| before != now) {
        world.saw(Rare::CallTwoNodes);
    }
}
