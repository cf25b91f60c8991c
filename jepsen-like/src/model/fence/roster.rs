//! The product's rosters, by the model's numbers of nodes and for its one shard.

use std::collections::BTreeMap;

use hansa_consistency::key::{KeyspaceId, NodeId, ShardId};
use hansa_consistency::roster::Roster;
use hansa_consistency::version::{Origin, Seq};

use super::logs::Item;

/// The shard.
pub(super) const SHARD: ShardId = ShardId {
    keyspace: KeyspaceId(0),
    index: 0,
};

/// All logs of some nodes, as one replica holds them.
pub(super) type Held = BTreeMap<Origin, Vec<Item>>;

/// A node by its number.
pub(super) fn node(at: usize) -> NodeId {
    NodeId(at as u16)
}

/// The first roster of a region of so many nodes.
pub(super) fn first_roster(home: usize) -> Roster {
    Roster::first((0..home).map(node))
}

/// Whether a node may not write.
pub(super) fn is_closed(roster: &Roster, at: usize) -> bool {
    roster.term(node(at)).is_none()
}

/// Where a log ends, if it has ended and is named.
pub(super) fn end_of(roster: &Roster, origin: Origin) -> Option<Seq> {
    roster.ends().get(&(SHARD, origin)).copied()
}
