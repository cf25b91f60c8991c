//! Who there is: regions, nodes, keyspaces, and which nodes hold a shard.
//!
//! The topology is the same on all nodes and names everything by number; names
//! for people live with the caller. Placement inside a region is rendezvous
//! hashing (Thaler and Ravishankar, 1998): every node computes the same replicas
//! without talking to anybody.

use std::collections::BTreeMap;

use crate::key::{ClusterId, KeyspaceId, NodeId, RegionId, ShardId};

/// What the rows of a keyspace are. Declared once, so that no two regions can create one key with two types.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ValueType {
    /// Bytes; the greatest stamp wins.
    Register,
    /// A sum of increments and decrements.
    Counter,
    /// Elements; a concurrent add wins over a remove.
    Set,
}

/// Whether a keyspace takes writes of different levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mixing {
    /// A strong write beats every eventual write it had not seen nor that had seen it.
    StrongWins,
    /// Only strong writes are taken, so that a compare-and-set is a complete guard.
    StrongOnly,
}

/// One keyspace's policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyspace {
    /// What its rows are.
    pub value_type: ValueType,
    /// The regions that hold it, in order.
    pub regions: Vec<RegionId>,
    /// Replicas of each shard in each region; fewer where the region has fewer nodes.
    pub replicas: u16,
    /// How many shards it has.
    pub shards: u16,
    /// Whether writes of different levels may meet on one key.
    pub mixing: Mixing,
}

/// The whole cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// The nodes of each region, in order.
    pub regions: BTreeMap<RegionId, Vec<NodeId>>,
    /// The keyspaces; a keyspace's id is its position.
    pub keyspaces: Vec<Keyspace>,
}

impl Topology {
    /// The region of a node, if the topology names it.
    pub fn region_of(&self, node: NodeId) -> Option<RegionId> {
        self.regions
            .iter()
            .find(|(_, nodes)| nodes.contains(&node))
            .map(|(region, _)| *region)
    }

    /// A keyspace's policy, if the topology names it.
    pub fn keyspace(&self, id: KeyspaceId) -> Option<&Keyspace> {
        self.keyspaces.get(usize::from(id.0))
    }

    /// Every shard of every keyspace, in order.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        (0u16..)
            .zip(&self.keyspaces)
            .flat_map(|(keyspace, policy)| {
                (0..policy.shards).map(move |index| ShardId {
                    keyspace: KeyspaceId(keyspace),
                    index,
                })
            })
    }

    /// The replicas of a shard, by region.
    pub fn replicas(&self, shard: ShardId) -> BTreeMap<RegionId, Vec<NodeId>> {
        let Some(policy) = self.keyspace(shard.keyspace) else {
            return BTreeMap::new();
        };
        let hold = |region: &RegionId| {
            let nodes = self.regions.get(region)?;
            let chosen = rendezvous(shard, nodes, usize::from(policy.replicas));
            (!chosen.is_empty()).then_some((*region, chosen))
        };
        policy.regions.iter().filter_map(hold).collect()
    }
}

/// The `count` nodes with the highest weight for a shard, in order of node ids.
fn rendezvous(shard: ShardId, nodes: &[NodeId], count: usize) -> Vec<NodeId> {
    let weight = |node: &NodeId| {
        let mut name = [0; 6];
        name[..4].copy_from_slice(&shard.prefix());
        name[4..].copy_from_slice(&node.0.to_be_bytes());
        xxhash_rust::xxh3::xxh3_64(&name)
    };
    let mut ranked: Vec<(u64, NodeId)> = nodes.iter().map(|n| (weight(n), *n)).collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    let mut chosen: Vec<NodeId> = ranked.into_iter().take(count).map(|e| e.1).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(nodes: u16, replicas: u16) -> Topology {
        let regions = (0..3)
            .map(|r| {
                let ids = (0..nodes).map(|n| NodeId(u16::from(r) * nodes + n));
                (RegionId(r), ids.collect())
            })
            .collect();
        Topology {
            cluster: ClusterId(1),
            regions,
            keyspaces: vec![Keyspace {
                value_type: ValueType::Register,
                regions: vec![RegionId(0), RegionId(1), RegionId(2)],
                replicas,
                shards: 256,
                mixing: Mixing::StrongWins,
            }],
        }
    }

    #[test]
    fn every_region_holds_every_shard_and_nodes_share_evenly() {
        let topology = topology(5, 3);
        let mut load = BTreeMap::new();
        for shard in topology.shards() {
            let replicas = topology.replicas(shard);
            assert_eq!(replicas.len(), 3);
            for node in replicas.values().flatten() {
                *load.entry(*node).or_insert(0) += 1;
            }
            assert!(replicas.values().all(|nodes| nodes.len() == 3));
        }
        assert!(
            load.values().all(|held| (100..210).contains(held)),
            "{load:?}"
        );
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_shards() {
        let before = topology(5, 3);
        let mut after = before.clone();
        after.regions.get_mut(&RegionId(0)).unwrap().remove(2);
        for shard in before.shards() {
            let (old, new) = (
                &before.replicas(shard)[&RegionId(0)],
                &after.replicas(shard)[&RegionId(0)],
            );
            if !old.contains(&NodeId(2)) {
                assert_eq!(old, new);
            }
        }
    }
}
