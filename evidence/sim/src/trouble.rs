//! What strikes at a moment of its own rather than at a step of somebody: crashes, cuts, pauses, clocks.

use std::sync::Arc;
use std::time::Duration;

use tcc_server::limits::WATERMARK_LAG;
use tokio::time::{Instant, sleep};

use crate::fault::Fault;
use crate::log::Who;
use crate::network::Way;
use crate::node;
use crate::service::SERVICES;
use crate::setup::LEAP_EVERY;
use crate::world::World;

/// The faults that have a moment of their own.
const TROUBLES: [Fault; 10] = [
    Fault::CallCut,
    Fault::ParticipantDown,
    Fault::ParticipantPoisonous,
    Fault::StoreFull,
    Fault::StoreCut,
    Fault::ClockForward,
    Fault::ClockBack,
    Fault::NodeCrash,
    Fault::NodePause,
    Fault::NodeDrained,
];

/// Makes trouble until faults stop.
pub(crate) async fn make(world: Arc<World>) {
    while !world.is_healed() {
        let most = u64::try_from(world.nature.trouble_every.as_millis()).unwrap_or(u64::MAX);
        sleep(world.millis(1..2 * most)).await;
        let fault = TROUBLES[world.dice(|dice| dice.usize(0..TROUBLES.len()))];
        if world.allows(fault) {
            strike(&world, fault);
        }
    }
}

/// Sets the clock forward again and again, in a world that forgets soon.
pub(crate) async fn leap(world: Arc<World>) {
    while world.nature.forgets_soon() && !world.is_healed() {
        sleep(LEAP_EVERY).await;
        if !world.is_healed() {
            let leap = world.dice(|dice| WATERMARK_LAG.mul_f64(0.5 + 0.2 * dice.f64()));
            world.note(Who::World, None, "clock: leaps", || format!("{} s", leap.as_secs()));
            world.turn_clock(i64::try_from(leap.as_millis()).unwrap_or(i64::MAX));
        }
    }
}

fn strike(world: &Arc<World>, fault: Fault) {
    let node = world.dice(|dice| dice.usize(0..world.nodes.len()));
    let service = world.dice(|dice| dice.usize(0..SERVICES));
    let length = world.millis(200..20_000);
    world.note(Who::World, None, fault.text(), || {
        format!("node {node}, participant {service}, {} ms", length.as_millis())
    });
    match fault {
        Fault::CallCut => {
            let way = world.dice(|dice| dice.u32(0..3));
            if way != 1 {
                world.nodes[node].cut(service, Way::There, length);
            }
            if way != 0 {
                world.nodes[node].cut(service, Way::Back, length);
            }
        }
        Fault::ParticipantDown => world.services[service].go_down(length),
        Fault::ParticipantPoisonous => world.services[service].turn_poisonous(length),
        Fault::StoreFull => world.disk.fill(Instant::now() + length / 2),
        Fault::StoreCut => world.nodes[node].cut_from_store(length / 2),
        Fault::ClockForward => {
            if world.nature.forgets_soon() {
                return;
            }
            let longest = world.dice(|dice| if dice.bool() { 3_600_000 } else { 60_000 });
            let jump = world.dice(|dice| dice.i64(1..longest));
            world.turn_clock(jump);
        }
        Fault::ClockBack => world.turn_clock(-world.dice(|dice| dice.i64(1..20_000))),
        Fault::NodeCrash => {
            if !world.nodes[node].is_up() {
                return;
            }
            node::crash(world, node, "crashes");
        }
        Fault::NodePause => {
            // At times longer than a claim holds; never as long as the coordinator remembers.
            let times = world.dice(|dice| if dice.u32(0..4) == 0 { 12 } else { 1 });
            let longest = if world.nature.forgets_soon() { Duration::from_secs(5) } else { LONGEST };
            world.nodes[node].pause((length * times).min(longest));
        }
        Fault::NodeDrained => {
            if !world.nodes[node].is_up() {
                return;
            }
            node::replace(world, node);
        }
        _ => return,
    }
    world.struck(fault);
}

/// The longest any of it lasts.
pub(crate) const LONGEST: Duration = Duration::from_secs(240);
