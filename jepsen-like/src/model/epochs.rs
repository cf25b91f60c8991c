//! Acceptors that lose everything, and their readmission in a new epoch (DESIGN 4.1, 13).
//!
//! One that lost its data does not vote until every other replica has adopted an epoch that names its new
//! incarnation and has handed over what it promised and accepted.

use std::collections::{BTreeMap, BTreeSet};

use hansa_consistency::register::Slot;
use hansa_consistency::version::ShardEpoch;

use super::proposer::Coordinator;
use super::world::World;

/// A readmission under way; one at a time.
#[derive(Clone, Debug)]
pub(super) struct Readmission {
    node: usize,
    epoch: ShardEpoch,
    /// Who has not handed over yet.
    missing: BTreeSet<usize>,
    /// The join of what was handed over.
    slot: Slot,
}

impl World {
    /// A node stops and starts again. What it had not written is gone; what clients asked of it is forgotten.
    pub(super) fn crash(&mut self, at: usize) {
        self.trace
            .note(self.now, (b'X', at), || format!("n{at} crashes"));
        let node = &mut self.nodes[at];
        node.slot = node.written.clone();
        node.coordinator = Coordinator::default();
        // The clock resumes at its reserved bound.
        node.clock += 10;
    }

    /// A node loses everything and asks to be readmitted under a new incarnation.
    pub(super) fn wipe(&mut self, at: usize) {
        self.trace
            .note(self.now, (b'W', at), || format!("n{at} loses its data"));
        let newest = self.nodes.iter().map(|n| n.epoch.n).max().unwrap_or(0);
        let epoch = ShardEpoch {
            n: newest + 1,
            proposer: at as u16,
        };
        let node = &mut self.nodes[at];
        node.slot = Slot::default();
        node.written = Slot::default();
        node.record = None;
        node.applied = BTreeMap::new();
        node.origin.incarnation += 1;
        node.votes = false;
        node.epoch = epoch;
        node.coordinator = Coordinator::default();
        self.readmission = Some(Readmission {
            node: at,
            epoch,
            missing: (0..self.nodes.len()).filter(|n| *n != at).collect(),
            slot: Slot::default(),
        });
    }

    /// The next replica, by chance, adopts the epoch and hands over; the last one readmits.
    pub(super) fn hand_over(&mut self) {
        let Some(mut readmission) = self.readmission.take() else {
            return;
        };
        let missing: Vec<usize> = readmission.missing.iter().copied().collect();
        if let Some(&from) = self.random.pick(&missing) {
            readmission.missing.remove(&from);
            self.adopt(from, readmission.epoch);
            let theirs = &self.nodes[from].slot;
            let slot = &mut readmission.slot;
            slot.promised = slot.promised.max(theirs.promised);
            if theirs.accepted > slot.accepted {
                slot.accepted = theirs.accepted;
                slot.value.clone_from(&theirs.value);
            }
            self.trace
                .note(self.now, (b'H', from), || format!("n{from} hands over"));
        }
        if readmission.missing.is_empty() {
            self.readmit(readmission);
        } else {
            self.readmission = Some(readmission);
        }
    }

    fn readmit(&mut self, readmission: Readmission) {
        let at = readmission.node;
        self.trace
            .note(self.now, (b'R', at), || format!("n{at} is readmitted"));
        self.counts.readmitted += 1;
        let node = &mut self.nodes[at];
        node.slot = readmission.slot.clone();
        node.written = readmission.slot;
        node.epoch = node.epoch.max(readmission.epoch);
        node.votes = true;
        self.holds(at);
    }
}
