//! Whether and how fast a quorum answers, as this replica sees it.

use std::time::Duration;

use crate::key::{NodeId, ShardId};
use crate::limits::{ATTEMPT_MS_MIN, ATTEMPT_ROUND_TRIPS};
use crate::quorum::majority;

use super::{Replica, Standing};

impl Replica {
    /// Whether everybody answers whom a strong operation needs: a quorum that votes, and the majority
    /// of this region that logs the outcome.
    pub(super) fn quorum_reachable(&self, now: Duration, shard: ShardId) -> bool {
        self.voters_reachable(now, shard) && self.region_reachable(now, shard)
    }

    /// Whether a majority of the own region's replicas answers, so that an own entry can be committed.
    pub(super) fn region_reachable(&self, now: Duration, shard: ShardId) -> bool {
        let takes = |node: NodeId| {
            let peer = self.peers.get(&node);
            let up = peer.is_some_and(|p| p.reachable(now) && !p.clock_disputed(now));
            node == self.me.node || up
        };
        self.shards
            .get(&shard)
            .is_some_and(|held| held.voters.region_reached(self.me.region, takes))
    }

    /// Whether a quorum of a shard's voters answers and votes: enough to read what is logged here.
    pub(super) fn voters_reachable(&self, now: Duration, shard: ShardId) -> bool {
        let votes = |node: NodeId| match node == self.me.node {
            true => self.standing == Standing::Voting,
            false => self
                .peers
                .get(&node)
                .is_some_and(|peer| peer.reachable(now) && peer.votes && !peer.clock_disputed(now)),
        };
        self.shards
            .get(&shard)
            .is_some_and(|held| held.voters.reached(votes))
    }

    /// The round trip to the nearest quorum.
    pub(super) fn quorum_round_trip(&self, now: Duration, shard: ShardId) -> Duration {
        let Some(held) = self.shards.get(&shard) else {
            return Duration::ZERO;
        };
        let mut regions: Vec<Duration> = held
            .voters
            .regions()
            .iter()
            .filter(|(region, _)| **region != self.me.region)
            .filter_map(|(_, nodes)| {
                let peers = nodes.iter().filter_map(|node| self.peers.get(node));
                peers
                    .filter(|p| p.reachable(now) && p.votes)
                    .map(|p| p.round_trip())
                    .min()
            })
            .collect();
        regions.sort_unstable();
        let others = majority(held.voters.regions().len()) - 1;
        match others.checked_sub(1).and_then(|at| regions.get(at)) {
            Some(round_trip) => *round_trip,
            None => regions.last().copied().unwrap_or(Duration::ZERO),
        }
    }

    /// How long one attempt of a conversation with a quorum lasts; longer after earlier ones failed, in
    /// case the round trip is estimated too short.
    pub(super) fn attempt_patience(
        &self,
        now: Duration,
        shard: ShardId,
        attempts: u32,
    ) -> Duration {
        let round_trips = self.quorum_round_trip(now, shard) * ATTEMPT_ROUND_TRIPS;
        round_trips.max(Duration::from_millis(ATTEMPT_MS_MIN)) * 2u32.pow(attempts.min(3))
    }
}
