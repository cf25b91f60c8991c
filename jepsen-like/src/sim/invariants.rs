//! Invariants of the protocol that no client can see, watched on every message that leaves and every vote that
//! is durable.
//!
//! * S1: at most one value per (row, ballot) in the whole cluster.
//! * S7: no eventual or session read shows a strong write that is not chosen.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use hansa_consistency::codec::Encode;
use hansa_consistency::key::{NodeId, Row};
use hansa_consistency::message::{Envelope, Message};
use hansa_consistency::quorum::{Tally, Voters};
use hansa_consistency::register::StrongValue;
use hansa_consistency::topology::Topology;
use hansa_consistency::version::Ballot;

/// What was seen of one ballot. A vote may be durable before its proposal is seen.
#[derive(Debug, Default)]
struct Proposal {
    value: Option<(u128, Bytes)>,
    votes: Tally,
}

/// The watcher.
#[derive(Debug, Default)]
pub struct Invariants {
    proposals: BTreeMap<(Row, Ballot), Proposal>,
    /// Per row, the etags of chosen values.
    chosen: BTreeMap<Row, BTreeSet<Bytes>>,
    violations: Vec<String>,
}

impl Invariants {
    /// Watches a message that leaves a node (durable by now).
    pub fn sent(&mut self, topology: &Topology, envelope: &Envelope) {
        match &envelope.message {
            Message::Accept {
                vote,
                ballot,
                value,
            } => {
                self.proposed(&vote.row, *ballot, value);
                self.count(topology, &vote.row, *ballot);
            }
            Message::Delegated {
                vote,
                ballot,
                executed,
            } => {
                self.proposed(&vote.row, *ballot, &executed.value);
                self.count(topology, &vote.row, *ballot);
            }
            _ => {}
        }
    }

    fn proposed(&mut self, row: &Row, ballot: Ballot, value: &StrongValue) {
        let digest = xxhash_rust::xxh3::xxh3_128(&value.to_record());
        let proposal = self.proposals.entry((row.clone(), ballot)).or_default();
        let known = proposal.value.get_or_insert_with(|| (digest, value.etag()));
        if known.0 != digest {
            self.violations.push(format!(
                "S1: two values under ballot {ballot:?} of row {row:?}"
            ));
        }
    }

    /// Watches an acceptor's record that is durable now.
    pub fn accepted(&mut self, topology: &Topology, by: NodeId, row: &Row, ballot: Ballot) {
        let proposal = self.proposals.entry((row.clone(), ballot)).or_default();
        proposal.votes.count(by);
        self.count(topology, row, ballot);
    }

    fn count(&mut self, topology: &Topology, row: &Row, ballot: Ballot) {
        let Some(proposal) = self.proposals.get(&(row.clone(), ballot)) else {
            return;
        };
        let voters = Voters::new(topology.replicas(row.shard()));
        if let Some((_, etag)) = proposal
            .value
            .as_ref()
            .filter(|_| proposal.votes.reached(&voters))
        {
            self.chosen
                .entry(row.clone())
                .or_default()
                .insert(etag.clone());
        }
    }

    /// Watches the version an eventual or session read of a register showed.
    pub fn shown(&mut self, row: &Row, etag: &Bytes) {
        // Byte 12 of a register's etag tells a strong write (0) from an eventual one (1).
        let strong = etag.len() > 12 && etag[12] == 0;
        if strong
            && !self
                .chosen
                .get(row)
                .is_some_and(|chosen| chosen.contains(etag))
        {
            self.violations.push(format!(
                "S7: a read of row {row:?} showed a strong write that is not chosen"
            ));
        }
    }

    /// What was violated, in order.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}
