//! Whether and how fast a quorum answers, as this replica sees it, and what is refused when it does not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::effect::Note;
use crate::key::{NodeId, RegionId, Row, ShardId};
use crate::limits::{ATTEMPT_MS_MIN, ATTEMPT_ROUND_TRIPS};
use crate::quorum::majority;
use crate::request::{Reason, Refusal};

use super::jobs::{Asker, JobId};
use super::turn::Turn;
use super::{Replica, Standing, local};

/// Why a strong operation is refused whose quorum does not answer.
pub(super) const UNREACHABLE: &str = "no majority of regions is reachable from this node; \
     retry in another region, or use level session or eventual";
const UNREACHABLE_BEGUN: &str = "the majorities it needs became unreachable while the operation was \
     under way; retry with the same request id in another region";
/// Why a strong operation is refused whose quorum answers, but not the region that must log it.
pub(super) const REGION_GONE: &str = "no majority of this region's replicas of the key is reachable, \
     and the outcome must be logged here; nothing was applied: retry in another region";

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

    /// The round trip to the nearest quorum of a shard; to the farthest region that answers where none does.
    pub(super) fn quorum_round_trip(&self, now: Duration, shard: ShardId) -> Duration {
        let Some(held) = self.shards.get(&shard) else {
            return Duration::ZERO;
        };
        let regions = held.voters.regions();
        let trips = self.round_trips(now, regions);
        let majority = majority_trip(&trips, regions.len());
        majority.or(trips.last().copied()).unwrap_or(Duration::ZERO)
    }

    /// The round trip to the nearest majority of all regions; `None` while none answers.
    pub(super) fn regions_round_trip(&self, now: Duration) -> Option<Duration> {
        let regions = &self.topology.regions;
        majority_trip(&self.round_trips(now, regions), regions.len())
    }

    /// The round trips to the other regions of which a voter answers, shortest first.
    fn round_trips(
        &self,
        now: Duration,
        regions: &BTreeMap<RegionId, Vec<NodeId>>,
    ) -> Vec<Duration> {
        let nearest = |nodes: &Vec<NodeId>| {
            let peers = nodes.iter().filter_map(|node| self.peers.get(node));
            let voting = peers.filter(|p| p.reachable(now) && p.votes);
            voting.map(|p| p.round_trip()).min()
        };
        let others = regions
            .iter()
            .filter(|(region, _)| **region != self.me.region);
        let mut trips: Vec<Duration> = others.filter_map(|(_, nodes)| nearest(nodes)).collect();
        trips.sort_unstable();
        trips
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

    /// Refuses every strong request whose quorum is gone: at once, not at its deadline.
    pub(super) fn refuse_unreachable(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let rows: Vec<Row> = self
            .coordinators
            .keys()
            .filter(|row| !self.quorum_reachable(now, row.shard()))
            .cloned()
            .collect();
        let mut gone: Vec<JobId> = Vec::new();
        for row in rows {
            gone.extend(self.abandon(&row));
        }
        gone.extend(self.take_unreachable_reads(now));
        for id in gone {
            let Some(job) = self.jobs.get(&id) else {
                continue;
            };
            // Who settles is nobody who asked.
            if job.asker != Asker::Settle {
                turn.note(Note::QuorumLost);
            }
            let shard = local::shard_of(&job.request.command);
            let refusal = match (self.may_be_applied(id), self.voters_reachable(now, shard)) {
                (true, _) => Refusal::maybe_applied(Reason::QuorumUnreachable, UNREACHABLE_BEGUN),
                (false, true) => Refusal::not_applied(Reason::QuorumUnreachable, REGION_GONE),
                (false, false) => Refusal::not_applied(Reason::QuorumUnreachable, UNREACHABLE),
            };
            self.finish(turn, id, Err(refusal));
        }
    }
}

/// The round trip to a majority of so many regions, this one included.
fn majority_trip(trips: &[Duration], regions: usize) -> Option<Duration> {
    match majority(regions) - 1 {
        0 => Some(Duration::ZERO),
        others => trips.get(others - 1).copied(),
    }
}
