//! Quorum arithmetic; knows nothing of values.
//!
//! A strong quorum is a majority of the regions that hold a shard, and in each of
//! them a majority of its replicas (Gifford 1979; nested as in Flexible Paxos).
//! Any two such sets share a node: two majorities of regions share a region, and
//! two majorities of its replicas share a replica.

use std::collections::{BTreeMap, BTreeSet};

use crate::key::{NodeId, RegionId};

/// The voters of one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Voters {
    regions: BTreeMap<RegionId, Vec<NodeId>>,
}

/// How many of `count` are a majority.
pub fn majority(count: usize) -> usize {
    count / 2 + 1
}

impl Voters {
    /// The replicas of a shard, by region.
    pub fn new(regions: BTreeMap<RegionId, Vec<NodeId>>) -> Voters {
        Voters { regions }
    }

    /// The regions and their replicas.
    pub fn regions(&self) -> &BTreeMap<RegionId, Vec<NodeId>> {
        &self.regions
    }

    /// All voters, in order of regions.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.regions.values().flatten().copied()
    }

    /// Whether a node votes.
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes().any(|n| n == node)
    }

    /// The region a voter belongs to.
    pub fn region_of(&self, node: NodeId) -> Option<RegionId> {
        self.regions
            .iter()
            .find(|(_, nodes)| nodes.contains(&node))
            .map(|(region, _)| *region)
    }

    /// Whether a set holds a majority of one region's replicas.
    pub fn region_reached(&self, region: RegionId, has: impl Fn(NodeId) -> bool) -> bool {
        self.regions
            .get(&region)
            .is_some_and(|nodes| nodes.iter().filter(|n| has(**n)).count() >= majority(nodes.len()))
    }

    /// The regions of whose replicas a set holds a majority.
    pub fn regions_reached(&self, has: impl Fn(NodeId) -> bool) -> Vec<RegionId> {
        self.regions
            .keys()
            .filter(|region| self.region_reached(**region, &has))
            .copied()
            .collect()
    }

    /// Whether a set is a quorum.
    pub fn reached(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.regions_reached(has).len() >= majority(self.regions.len())
    }
}

/// Answers counted so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    yes: BTreeSet<NodeId>,
}

impl Tally {
    /// Counts one answer; `false` when it was counted before.
    pub fn count(&mut self, node: NodeId) -> bool {
        self.yes.insert(node)
    }

    /// Whether a node was counted.
    pub fn has(&self, node: NodeId) -> bool {
        self.yes.contains(&node)
    }

    /// How many were counted.
    pub fn len(&self) -> usize {
        self.yes.len()
    }

    /// Whether none was counted.
    pub fn is_empty(&self) -> bool {
        self.yes.is_empty()
    }

    /// Who was counted.
    pub fn nodes(&self) -> &BTreeSet<NodeId> {
        &self.yes
    }

    /// Whether the counted ones are a quorum.
    pub fn reached(&self, voters: &Voters) -> bool {
        voters.reached(|n| self.has(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(replicas: &[u16]) -> Voters {
        let mut next = 0;
        let regions = (0u8..).zip(replicas).map(|(region, count)| {
            let nodes = (next..next + count).map(NodeId).collect();
            next += count;
            (RegionId(region), nodes)
        });
        Voters::new(regions.collect())
    }

    fn subsets(voters: &Voters) -> Vec<u32> {
        let count = voters.nodes().count();
        (0..1u32 << count)
            .filter(|set| voters.reached(|n| set >> n.0 & 1 == 1))
            .collect()
    }

    #[test]
    fn any_two_quorums_share_a_node() {
        for shape in [
            &[1, 1, 1][..],
            &[3, 3, 3],
            &[1, 2, 3],
            &[1, 1, 1, 1, 1],
            &[3],
            &[2, 2],
        ] {
            let quorums = subsets(&voters(shape));
            assert!(!quorums.is_empty());
            for a in &quorums {
                assert!(quorums.iter().all(|b| a & b != 0), "{shape:?}");
            }
        }
    }

    #[test]
    fn a_lost_region_and_a_lost_node_in_each_other_leave_a_quorum() {
        let voters = voters(&[3, 3, 3]);
        let alive = [0, 1, 4, 5];
        assert!(voters.reached(|n| alive.contains(&n.0)));
        assert!(!voters.reached(|n| alive[..3].contains(&n.0)));
    }
}
