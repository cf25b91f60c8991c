//! Faults: when they strike and what they do to the simulated world.

use hansa_consistency::event::Event;
use hansa_consistency::key::NodeId;
use hansa_consistency::version::ShardEpoch;

use super::node::Damage;
use super::profile::Profile;
use super::world::World;
use crate::history::{Datum, Op, Record, Status};
use crate::random::Random;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Messages from one node to another vanish.
    OneWay(NodeId, NodeId),
    /// A node's region talks to no other.
    Isolate(NodeId),
    /// All cuts end.
    Heal,
    /// A node loses power: it comes back after so many microseconds, with this damage.
    Crash(NodeId, u64, Damage),
    /// The links between two nodes break and stand again: both are told, messages under way arrive or not.
    Drop(NodeId, NodeId),
    /// A node's wall clock is off by this from now on, milliseconds.
    Clock(NodeId, i64),
    /// A node adopts a new epoch of the shard of this number.
    Epoch(NodeId, u64),
}

/// Number of the process that faults are recorded under.
const NEMESIS_PROCESS: u64 = 2_000_000;

/// What it has done so far.
#[derive(Debug, Default)]
pub struct Nemesis {
    lost_data: bool,
}

impl Nemesis {
    /// The faults of a run and when they strike.
    pub fn schedule(random: &mut Random, profile: &Profile, nodes: &[NodeId]) -> Vec<(u64, Fault)> {
        let mut plan = Vec::new();
        let mean = profile.fault_every_us.max(1);
        let mut at = 1_000_000;
        loop {
            at += random.between(mean / 4, mean * 2);
            if at >= profile.load_us {
                break;
            }
            plan.extend(draw(random, profile, nodes).map(|fault| (at, fault)));
        }
        plan
    }

    /// Carries a fault out.
    pub fn strike(world: &mut World, fault: &Fault) {
        if world.now_us >= world.profile.load_us {
            return;
        }
        note(world, fault);
        match fault {
            Fault::OneWay(from, to) => world.network.cut(*from, *to),
            Fault::Isolate(node) => isolate(world, *node),
            Fault::Heal => world.network.heal(),
            Fault::Crash(node, back, damage) => {
                // One node at most may lose what it had synced: two would be more than is promised.
                let damage = match *damage {
                    Damage::Tail(0) => Damage::Tail(0),
                    damage if !world.nemesis().lost_data => {
                        world.nemesis().lost_data = true;
                        damage
                    }
                    _ => Damage::Tail(0),
                };
                world.crash(*node, damage, *back);
            }
            Fault::Drop(a, b) => world.drop_link(*a, *b),
            Fault::Clock(node, skew) => {
                if let Some(node) = world.nodes.get_mut(node) {
                    node.skew_ms = *skew;
                }
            }
            Fault::Epoch(node, shard) => raise_epoch(world, *node, *shard),
        }
    }
}

fn draw(random: &mut Random, profile: &Profile, nodes: &[NodeId]) -> Option<Fault> {
    let faults = profile.faults;
    let node = *random.pick(nodes)?;
    let other = *random.pick(nodes)?;
    let weights = [
        faults.one_way,
        faults.isolate,
        faults.heal,
        faults.crash,
        faults.lost_tail,
        faults.clock,
        faults.wiped,
        faults.drop,
        faults.epoch,
    ];
    let mut roll = random.below(weights.iter().sum());
    let kind = weights.iter().position(|weight| {
        let hit = roll < *weight;
        roll = roll.saturating_sub(*weight);
        hit
    })?;
    let back = random.between(50_000, profile.restart_us);
    Some(match kind {
        0 => Fault::OneWay(node, other),
        1 => Fault::Isolate(node),
        2 => Fault::Heal,
        3 => Fault::Crash(node, back, Damage::Tail(0)),
        4 => {
            let tail = random.between(1, 12) as usize;
            Fault::Crash(node, back, Damage::Tail(tail))
        }
        5 => {
            let skew = random.between(0, 2 * profile.skew_ms) as i64;
            Fault::Clock(node, skew - profile.skew_ms as i64)
        }
        6 => Fault::Crash(node, back, Damage::Whole),
        7 => Fault::Drop(node, other),
        _ => Fault::Epoch(node, random.below(64)),
    })
}

fn isolate(world: &mut World, node: NodeId) {
    let Some(region) = world.nodes.get(&node).map(|n| n.region) else {
        return;
    };
    let (inside, outside): (Vec<_>, Vec<_>) = world
        .nodes
        .values()
        .map(|n| (n.id, n.region))
        .partition(|(_, r)| *r == region);
    for (a, _) in &inside {
        for (b, _) in &outside {
            world.network.cut(*a, *b);
            world.network.cut(*b, *a);
        }
    }
}

fn raise_epoch(world: &mut World, node: NodeId, number: u64) {
    let shards: Vec<_> = world.topology().shards().collect();
    let shard = shards[number as usize % shards.len()];
    let epoch = ShardEpoch {
        n: 1 + world.now_us / 1_000_000,
        proposer: node.0,
    };
    world.feed(node, Event::AdoptEpoch { shard, epoch });
}

fn note(world: &mut World, fault: &Fault) {
    let mut record = Record::event(NEMESIS_PROCESS, Op::Nemesis, world.now_us * 1000);
    record.status = Status::Ok;
    record.value = Some(Datum::Text(format!("{fault:?}")));
    record.complete_ns = Some(world.now_us * 1000);
    world.history.records.push(record);
}
