//! Liveness of operations: once everything healed and all replicas are equal, a strong read of every key must be
//! answered in every region that votes, and must show what everybody shows.

use hansa_consistency::key::{NodeId, RegionId};
use hansa_consistency::replica::Standing;

use super::client;
use super::world::{PATIENCE_US, World};
use crate::history::{Datum, Level, Op, Record, Status};

/// Number of the first process that reads at the end; each read is a process of its own.
const FIRST_PROCESS: u64 = 3_000_000;
/// How long one wait for answers lasts, microseconds.
const WAIT_US: u64 = 100_000;

/// Reads every key at level strong in every region that votes, one region after the other. The reads go into
/// the history, so that the checkers judge them too. Returns what was violated.
pub fn demand(world: &mut World) -> Vec<String> {
    let mut violations = standings(world);
    let readers = readers(world);
    let regions = world.topology().regions.len();
    if readers.len() <= regions / 2 {
        return violations;
    }
    let finals = world.history.records.iter();
    let finals: Vec<Record> = finals.filter(|r| r.op == Op::Final).cloned().collect();
    let mut process = FIRST_PROCESS;
    for (region, node) in readers {
        let before = world.history.records.len();
        let here = format!("r{}", region.0);
        let finals = finals.iter().filter(|r| r.region.as_ref() == Some(&here));
        // Several replicas of a region show the same, which convergence judges: the first will do.
        let mut keys: Vec<&Record> = Vec::new();
        for last in finals {
            if keys.iter().all(|known| known.key != last.key) {
                keys.push(last);
            }
        }
        for last in &keys {
            for (op, value, request) in client::strong_reads(last.key.as_deref().unwrap_or("")) {
                process += 1;
                let key = last.key.as_deref().unwrap_or_default();
                let now_ns = world.now_us * 1000;
                let mut record = Record::invoked(process, op, key, Level::Strong, now_ns);
                record.value = value;
                record.region = Some(here.clone());
                world.read_at_end(record, request, node);
            }
        }
        let deadline = world.now_us + PATIENCE_US;
        while world.now_us < deadline && world.reads_at_end() > 0 {
            world.run_until(world.now_us + WAIT_US);
        }
        world.give_up_reads_at_end();
        for read in &world.history.records[before..] {
            let last = keys.iter().find(|last| last.key == read.key);
            violations.extend(last.and_then(|last| fault(read, last)));
        }
    }
    if let Some(first) = violations.first_mut() {
        for status in world.statuses() {
            *first += &format!("\n{status:?}");
        }
    }
    violations
}

/// Nodes that do not vote although they lost nothing.
fn standings(world: &World) -> Vec<String> {
    let mut violations = Vec::new();
    for status in world.statuses() {
        let node = world.nodes.get(&status.node);
        let excused = status.standing == Standing::Lost && node.is_some_and(|n| n.lost_data);
        if status.standing != Standing::Voting && !excused {
            let (node, standing) = (status.node.0, status.standing.name());
            violations.push(format!(
                "node {node} lost nothing and is {standing}, not voting"
            ));
        }
    }
    violations
}

/// A node that votes in each region in which a majority of the replicas does.
fn readers(world: &World) -> Vec<(RegionId, NodeId)> {
    let statuses = world.statuses();
    let voting = |node: &NodeId| {
        let mut all = statuses.iter();
        all.any(|status| status.node == *node && status.standing == Standing::Voting)
    };
    let mut readers = Vec::new();
    for (region, nodes) in &world.topology().regions {
        let mut able = nodes.iter().filter(|node| voting(node));
        let enough = able.clone().count() > nodes.len() / 2;
        readers.extend(able.next().filter(|_| enough).map(|node| (*region, *node)));
    }
    readers
}

/// What is wrong with a strong read, given the region's final read of the key.
fn fault(read: &Record, last: &Record) -> Option<String> {
    if read.status != Status::Ok {
        let error = read.error.as_deref().unwrap_or("no reason");
        return Some(format!("{}: refused with {error}", read.describe()));
    }
    let same = match (&read.value, &last.value) {
        (Some(Datum::Membership(asked)), Some(Datum::Members(members))) => {
            asked.present == Some(members.contains(&asked.element))
        }
        (read, last) => read == last,
    };
    (!same).then(|| format!("{} differs from {}", read.describe(), last.describe()))
}
