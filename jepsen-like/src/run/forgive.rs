//! What a destroyed disk may cost.
//!
//! At one replica per region a destroyed disk may lose what its region had acknowledged at level eventual and session
//! and not shipped yet (`docs/consistency-model.md`); the receipt names the regions that had it. Such writes become
//! `info` with error `DISK_LOST`, and what may have shown them loses its session, as in the simulator. Only writes of
//! the last moments before the loss are treated so, or since a fault began that kept them from being shipped: all
//! others must be there.

use std::collections::BTreeSet;

use crate::history::events::FaultEvent;
use crate::history::{DISK_LOST, Level, Op, Record, Status};

/// Without faults everything is shipped within this, nanoseconds: ten times the longest round trip.
const SHIPPED_WITHIN_NS: u64 = 2_200_000_000;

/// Forgives what the disk of `node` may have taken along when it was destroyed at `when_ns`.
pub(super) fn disk_lost(records: &mut [Record], node: &str, when_ns: u64) {
    let since = unshipped_since(records, when_ns);
    let lost_at = |record: &Record| {
        let done = record.complete_ns.unwrap_or(u64::MAX);
        served_at(record) == Some(node) && done >= since && record.invoke_ns <= when_ns
    };
    let mut keys = BTreeSet::new();
    for record in records.iter_mut() {
        let weak = matches!(record.level, Some(Level::Eventual | Level::Session));
        let written = record.op.is_write() && record.status == Status::Ok;
        if weak && written && lost_at(record) && held_alone(record) {
            record.status = Status::Info;
            record.error = Some(DISK_LOST.to_owned());
            keys.extend(record.key.clone());
        }
    }
    // Whoever was shown such a write has seen what may be gone.
    for record in records.iter_mut().filter(|record| record.op.is_client()) {
        if lost_at(record) && keys.iter().any(|key| record.tells_of(key)) {
            record.session = None;
        }
    }
}

/// The node whose disk has it: the one that did the work, when that was not the one asked.
fn served_at(record: &Record) -> Option<&str> {
    let forwarded = record.receipt.as_ref().map(|it| &it["forwarded_to"]);
    let forwarded = forwarded.and_then(|it| it.as_str());
    forwarded.or(record.node.as_deref())
}

/// Since when writes may not have left the node: the last moment without any fault, if that is longer ago.
fn unshipped_since(records: &[Record], when_ns: u64) -> u64 {
    let mut calm_until = 0;
    let mut lines: Vec<&Record> = records.iter().filter(|it| it.op == Op::Nemesis).collect();
    lines.sort_by_key(|record| record.invoke_ns);
    let mut calm = true;
    for line in lines.iter().filter(|line| line.invoke_ns < when_ns) {
        if calm {
            calm_until = line.invoke_ns;
        }
        calm = is_calm(line);
    }
    calm_until.saturating_sub(SHIPPED_WITHIN_NS)
}

/// Whether all regions hear each other after this line.
fn is_calm(line: &Record) -> bool {
    let event = FaultEvent::of(line).ok().flatten();
    event.is_some_and(|it| it.impaired.is_empty() && it.isolated.is_some_and(|all| all.is_empty()))
}

/// Whether the receipt names no region that has it but that of the node itself.
fn held_alone(record: &Record) -> bool {
    let durable = record.receipt.as_ref().map(|it| &it["durable_regions"]);
    let regions = durable.and_then(|it| it.as_array());
    regions.is_none_or(|regions| regions.len() <= 1)
}
