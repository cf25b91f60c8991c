//! What a destroyed disk may cost.
//!
//! At one replica per region a destroyed disk may lose what its region had acknowledged at level eventual and session
//! and not shipped yet (`docs/consistency-model.md`); the receipt names the regions that had it. Such writes become
//! `info` with error `DISK_LOST`, and what may have shown them loses its session, as in the simulator. Only writes that
//! this node acknowledged in the last moments before the loss are treated so, or since faults keep this node from
//! shipping ([`Shipping`](super::shipping::Shipping)): all others must be there.

use std::collections::BTreeSet;

use crate::history::{DISK_LOST, Level, Record, Status};
use crate::nemesis::NodeIndex;

/// A disk that was destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// Whose it was.
    pub(super) node: NodeIndex,
    /// What the node acknowledged before is elsewhere, nanoseconds of the run.
    pub(super) shipped_before_ns: u64,
    /// When it was destroyed, nanoseconds of the run.
    pub(super) when_ns: u64,
}

/// Forgives what was lost with the disk of the node of this name.
pub(super) fn disk_lost(records: &mut [Record], node: &str, loss: &Loss) {
    let lost_at = |record: &Record| {
        let done = record.complete_ns.unwrap_or(u64::MAX);
        let early_enough = record.invoke_ns <= loss.when_ns;
        served_at(record) == Some(node) && done >= loss.shipped_before_ns && early_enough
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

/// Whether the receipt says that no region has it but that of the node itself. One that says nothing excuses nothing.
fn held_alone(record: &Record) -> bool {
    let durable = record.receipt.as_ref().map(|it| &it["durable_regions"]);
    let regions = durable.and_then(|it| it.as_array());
    regions.is_some_and(|regions| regions.len() <= 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::{Datum, Op};

    const SECOND: u64 = 1_000_000_000;
    const LOSS: Loss = Loss {
        node: 1,
        shipped_before_ns: 10 * SECOND,
        when_ns: 15 * SECOND,
    };

    /// A write that node `n1` acknowledged at a moment, nanoseconds.
    fn write(done_ns: u64) -> Record {
        Record {
            session: Some("s1".to_owned()),
            node: Some("n1".to_owned()),
            value: Some(Datum::Text("v".to_owned())),
            complete_ns: Some(done_ns),
            status: Status::Ok,
            receipt: Some(json!({"durable_regions": ["r1"], "forwarded_to": null})),
            ..Record::invoked(1, Op::Put, "registers/k", Level::Session, done_ns - 1000)
        }
    }

    fn forgiven(change: impl FnOnce(&mut Record)) -> bool {
        let mut records = [write(12 * SECOND)];
        change(&mut records[0]);
        let before = records[0].clone();
        disk_lost(&mut records, "n1", &LOSS);
        let [after] = records;
        let marked = after.error.as_deref() == Some(DISK_LOST);
        assert_eq!(marked, after.status == Status::Info);
        assert_eq!(marked, after.session.is_none() && before.session.is_some());
        assert!(marked || after == before, "nothing else is touched");
        marked
    }

    #[test]
    fn only_what_the_lost_disk_alone_held_in_the_window_is_forgiven() {
        assert!(forgiven(|_| {}));
        assert!(forgiven(|it| it.level = Some(Level::Eventual)));
        assert!(!forgiven(|it| it.level = Some(Level::Strong)));
        assert!(!forgiven(|it| it.node = Some("n2".to_owned())));
        assert!(!forgiven(|it| it.status = Status::Fail));
        let receipt = |receipt| move |it: &mut Record| it.receipt = Some(receipt);
        assert!(!forgiven(receipt(json!({"durable_regions": ["r0", "r1"]}))));
        assert!(!forgiven(receipt(json!({}))), "it does not say who has it");
        let elsewhere = json!({"durable_regions": ["r1"], "forwarded_to": "n2"});
        assert!(!forgiven(receipt(elsewhere)));
    }

    #[test]
    fn what_was_acknowledged_outside_of_the_window_must_be_there() {
        assert!(
            !forgiven(|it| *it = write(10 * SECOND - 1)),
            "it was shipped"
        );
        assert!(forgiven(|it| *it = write(10 * SECOND)));
        assert!(forgiven(|it| *it = write(15 * SECOND)));
        assert!(
            !forgiven(|it| *it = write(15 * SECOND + 2000)),
            "the new disk took it"
        );
    }

    #[test]
    fn who_was_shown_a_forgiven_write_loses_its_session_and_nobody_else() {
        let read = |node: &str, key: &str| Record {
            op: Op::Get,
            node: Some(node.to_owned()),
            key: Some(format!("registers/{key}")),
            ..write(13 * SECOND)
        };
        let reads = [read("n1", "k"), read("n1", "other"), read("n2", "k")];
        let mut records = [&[write(12 * SECOND)], &reads[..]].concat();
        disk_lost(&mut records, "n1", &LOSS);
        let sessions = records[1..].iter().map(|it| it.session.is_some());
        assert_eq!(sessions.collect::<Vec<_>>(), [false, true, true]);
        assert!(records[1..].iter().all(|it| it.status == Status::Ok));
    }
}
