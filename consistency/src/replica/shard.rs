//! What a replica keeps in memory of one shard it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Hlc;
use crate::codec::{DecodeError, Decoded, Decoder, Encode, Encoder};
use crate::key::{NodeId, ShardId};
use crate::limits::{UNCOMMITTED_BYTES_MAX, UNCOMMITTED_ENTRIES_MAX};
use crate::message::Prefix;
use crate::quorum::Voters;
use crate::record::Entry;
use crate::request::{Refusal, Reply};
use crate::version::{Dot, Origin, Seq, ShardEpoch};

use super::jobs::JobId;

/// How far one origin's log of a shard is held here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct LogState {
    /// All entries up to here are in the log family.
    pub(super) logged: Seq,
    /// All entries up to here are committed in their region and applied to the rows.
    pub(super) applied: Seq,
    /// The clock of the last applied entry.
    pub(super) hlc: Hlc,
}

/// A shard's voters' epoch as stored, with the incarnation each voter was admitted under.
///
/// Until readmission exists the map stays empty: a node that lost data does not vote by itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct EpochRecord {
    pub(super) epoch: ShardEpoch,
    pub(super) incarnations: BTreeMap<NodeId, u32>,
}

/// A local reply that waits until an own entry is durable in enough places.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) job: JobId,
    /// Further regions wanted.
    pub(super) ack_regions: u8,
    pub(super) result: Result<Reply, Refusal>,
}

/// How far an own log was pushed to a replica of the region.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pushed {
    /// Everything up to here was sent.
    pub(super) upto: Seq,
    /// Since when no acknowledgement of what is under way brought news.
    pub(super) waits_since: Duration,
}

/// Names and sizes of the own entries of all shards that are not committed in the region yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Uncommitted {
    entries: BTreeMap<(Hlc, ShardId, Origin, Seq), usize>,
    bytes: usize,
}

impl Uncommitted {
    pub(super) fn insert(&mut self, hlc: Hlc, shard: ShardId, dot: Dot, bytes: usize) {
        let name = (hlc, shard, dot.origin, dot.seq);
        let before = self.entries.insert(name, bytes).unwrap_or(0);
        self.bytes = self.bytes + bytes - before;
    }

    pub(super) fn remove(&mut self, hlc: Hlc, shard: ShardId, dot: Dot) {
        let name = (hlc, shard, dot.origin, dot.seq);
        self.bytes -= self.entries.remove(&name).unwrap_or(0);
    }

    /// The clock of the oldest.
    pub(super) fn oldest(&self) -> Option<Hlc> {
        self.entries.first_key_value().map(|((hlc, ..), _)| *hlc)
    }

    /// Whether no more may be begun.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= UNCOMMITTED_ENTRIES_MAX || self.bytes >= UNCOMMITTED_BYTES_MAX
    }
}

/// One shard.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) voters: Voters,
    pub(super) epoch: EpochRecord,
    pub(super) logs: BTreeMap<Origin, LogState>,
    /// Own entries that are logged but not committed in the region yet.
    pub(super) uncommitted: BTreeMap<(Origin, Seq), Entry>,
    /// How far each replica holds each own log durably.
    pub(super) acknowledged: BTreeMap<(Origin, NodeId), Seq>,
    /// How far each own log was pushed to each replica of the region.
    pub(super) pushed: BTreeMap<(Origin, NodeId), Pushed>,
    /// Replies waiting for an own entry.
    pub(super) waiting: BTreeMap<(Origin, Seq), Vec<Waiting>>,
    /// The number of the newest heartbeat made before an own entry was assigned: see heartbeat.rs.
    pub(super) changed_at: u64,
    /// Safe times learned from relays, per node.
    pub(super) relayed: BTreeMap<NodeId, Hlc>,
    /// Session requests waiting for entries.
    pub(super) sessions: BTreeSet<JobId>,
}

impl Shard {
    pub(super) fn new(voters: Voters) -> Shard {
        Shard {
            voters,
            epoch: EpochRecord::default(),
            logs: BTreeMap::new(),
            uncommitted: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            pushed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            changed_at: 0,
            relayed: BTreeMap::new(),
            sessions: BTreeSet::new(),
        }
    }

    /// How far one origin's log is applied.
    pub(super) fn applied(&self, origin: Origin) -> Seq {
        self.logs.get(&origin).map_or(0, |log| log.applied)
    }

    /// The first entry of an own log that is not committed in the region yet.
    pub(super) fn first_uncommitted(&self, origin: Origin) -> Option<Seq> {
        let mut entries = self.uncommitted.range((origin, 0)..=(origin, Seq::MAX));
        entries.next().map(|((_, seq), _)| *seq)
    }

    /// Own entries up to here were pushed to a replica or need not be, and whether some are under way.
    pub(super) fn pushed_to(&self, origin: Origin, node: NodeId) -> (Seq, bool) {
        let known = self.acknowledged.get(&(origin, node)).copied();
        let done = known.unwrap_or(0).max(self.applied(origin));
        let upto = self.pushed.get(&(origin, node)).map_or(0, |p| p.upto);
        (upto.max(done), upto > done)
    }

    /// What a replica was sent or holds is not known any more.
    pub(super) fn forget_replica(&mut self, node: NodeId) {
        self.acknowledged.retain(|(_, other), _| *other != node);
        self.pushed.retain(|(_, other), _| *other != node);
    }

    /// How far every other log of an origin's node was written, as its node knows.
    pub(super) fn other_ends(&self, origin: Origin) -> Vec<Prefix> {
        self.logs
            .iter()
            .filter(|(other, log)| other.node == origin.node && **other != origin && log.logged > 0)
            .map(|(other, log)| Prefix {
                origin: *other,
                seq: log.logged,
            })
            .collect()
    }

    /// Entries of a node arrived up to `last`: if those and its other logs are applied, everything the
    /// node wrote up to that entry's clock is here. The last applied entry alone would not tell: a node
    /// may have written to another log before.
    pub(super) fn learn_safe_time(&mut self, origin: Origin, last: Seq, others: &[Prefix]) {
        let complete = |prefix: &Prefix| self.applied(prefix.origin) >= prefix.seq;
        let Some(log) = self.logs.get(&origin).filter(|log| log.applied >= last) else {
            return;
        };
        if others.iter().all(complete) {
            let hlc = log.hlc;
            let known = self.relayed.entry(origin.node).or_default();
            *known = (*known).max(hlc);
        }
    }
}

impl Encode for LogState {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.logged);
        out.number(self.applied);
        out.put(&self.hlc);
    }
    fn decode(input: &mut Decoder) -> Decoded<LogState> {
        Ok(LogState {
            logged: input.number("logged")?,
            applied: input.number("applied")?,
            hlc: input.get()?,
        })
    }
}

impl Encode for EpochRecord {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.epoch);
        out.list(
            self.incarnations
                .iter()
                .map(|(node, inc)| (u64::from(node.0), u64::from(*inc))),
        );
    }
    fn decode(input: &mut Decoder) -> Decoded<EpochRecord> {
        let epoch = input.get()?;
        let what = "incarnations";
        let node = |number| u16::try_from(number).ok().map(NodeId);
        let small = |number: u64| u32::try_from(number).ok();
        let incarnations = input.map::<_, u64>(what, node)?.into_iter();
        let incarnations = incarnations.map(|(node, number)| Some((node, small(number)?)));
        Ok(EpochRecord {
            epoch,
            incarnations: incarnations
                .collect::<Option<_>>()
                .ok_or(DecodeError::Malformed { what })?,
        })
    }
}
