//! Sessions: a replica serves one when it has applied all that the session has seen.
//!
//! Otherwise the request waits for entries on their way, or is forwarded to a region
//! that has them, whichever is predicted sooner; past its deadline it is refused and
//! surely not applied.

use std::time::Duration;

use crate::clock::Hlc;
use crate::effect::Note;
use crate::key::{NodeId, RegionId, ShardId};
use crate::limits::{DEADLINE_MAX_MS, HEARTBEAT_BUSY_MS, SESSION_WAIT_MIN_MS};
use crate::message::Message;
use crate::request::{Applied, Command, Level, Reason, Refusal, Reply, Request};
use crate::rules::Mutant;
use crate::session::Context;
use crate::version::Origin;

use super::jobs::{Asker, Job, JobId, Stage};
use super::turn::Turn;
use super::{Replica, Standing, Timer};

impl Replica {
    /// Up to which clock value a node's writes to a shard are applied here.
    pub(super) fn safe_time(&self, shard: ShardId, node: NodeId) -> Hlc {
        let Some(held) = self.shards.get(&shard) else {
            return Hlc::ZERO;
        };
        if node == self.me.node {
            // The clock rises along a log: the first entry of each is its oldest.
            let first = |origin: &Origin| {
                let name = (*origin, held.first_uncommitted(*origin)?);
                held.uncommitted.get(&name).map(|entry| entry.hlc)
            };
            let uncommitted = self.origins.iter().filter_map(first).min();
            let before = uncommitted.map_or(Hlc(u64::MAX), |first| Hlc(first.0 - 1));
            return match self.standing {
                // The end of the own log is unknown: nothing is sure.
                Standing::Lost => Hlc::ZERO,
                // The store may have lost what came after its newest entry, and nobody said yet.
                Standing::Asking { .. } => before.min(self.opened_newest),
                Standing::Voting => before,
            };
        }
        let relayed = held.relayed.get(&node).copied().unwrap_or(Hlc::ZERO);
        let known = self
            .peers
            .get(&node)
            .map_or(Hlc::ZERO, |p| p.known(shard).hlc);
        relayed.max(known)
    }

    /// The regions in which a context is not covered yet, with the value wanted.
    fn missing(&self, shard: ShardId, context: &Context) -> Vec<(RegionId, Hlc)> {
        let Some(held) = self.shards.get(&shard) else {
            return Vec::new();
        };
        let covered = |region: RegionId, hlc: Hlc| {
            let nodes = held.voters.regions().get(&region);
            // A region that does not hold the keyspace wrote nothing to it.
            nodes.is_none_or(|nodes| nodes.iter().all(|n| self.safe_time(shard, *n) >= hlc))
        };
        context
            .iter()
            .filter(|(region, hlc)| !covered(*region, *hlc))
            .collect()
    }

    /// Whether the causes a job's session carries are applied here.
    pub(super) fn covers_for(&self, id: JobId, shard: ShardId) -> bool {
        let Some(job) = self.jobs.get(&id) else {
            return true;
        };
        let put = matches!(job.request.command, Command::Put(..));
        let blind = match job.request.level {
            Level::Strong => self.rules.broken(Mutant::StrongIgnoresToken),
            _ => put && self.rules.broken(Mutant::SessionPutDoesNotWait),
        };
        blind || self.missing(shard, &job.request.context).is_empty()
    }

    /// Lets a job wait for its session's causes, and asks for them.
    pub(super) fn wait_for_session(&mut self, turn: &mut Turn<'_>, id: JobId, shard: ShardId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.stage = Stage::Session;
        let (context, may_forward) = (job.request.context.clone(), job.may_forward);
        let strong = job.request.level == Level::Strong;
        let missing = self.missing(shard, &context);
        turn.note(Note::SessionWaited);
        if let Some(held) = self.shards.get_mut(&shard) {
            held.sessions.insert(id);
        }
        self.ask_around(turn, shard);
        if !may_forward || strong {
            return;
        }
        let now = turn.now.monotonic;
        let (wait, forward) = self.predict(turn, shard, &missing);
        let patience = match wait <= forward {
            true => Duration::from_millis(SESSION_WAIT_MIN_MS).max(wait * 2),
            false => Duration::ZERO,
        };
        self.forward_later(id, now + patience);
    }

    fn forward_later(&mut self, id: JobId, at: Duration) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let before = job.forward_at.replace(at);
        if let Some(before) = before {
            self.timers.remove(&(before, Timer::Forward(id)));
        }
        self.set_timer(at, Timer::Forward(id));
    }

    /// How long the missing entries will take, and how long a forwarded request would.
    fn predict(
        &self,
        turn: &Turn<'_>,
        shard: ShardId,
        missing: &[(RegionId, Hlc)],
    ) -> (Duration, Duration) {
        let mut wait = Duration::ZERO;
        let mut forward = Duration::ZERO;
        for (region, hlc) in missing {
            let Some(peer) = self.nearest_in(turn.now.monotonic, *region, shard) else {
                return (Duration::ZERO, Duration::MAX);
            };
            let round_trip = self
                .peers
                .get(&peer)
                .map_or(Duration::MAX, |p| p.round_trip());
            // Entries arrive half a round trip after they were written, heartbeats right behind.
            let age = turn.now.wall_ms.saturating_sub(hlc.ms());
            let arrival = round_trip / 2 + Duration::from_millis(HEARTBEAT_BUSY_MS);
            wait = wait.max(arrival.saturating_sub(Duration::from_millis(age)));
            forward = forward.max(round_trip);
        }
        (wait, forward)
    }

    /// The reachable replica of a shard in a region that answers soonest.
    fn nearest_in(&self, now: Duration, region: RegionId, shard: ShardId) -> Option<NodeId> {
        let nodes = self.shards.get(&shard)?.voters.regions().get(&region)?;
        let round_trip = |node: &NodeId| self.serves_others(now, *node).map(|time| (time, *node));
        nodes
            .iter()
            .filter_map(round_trip)
            .min()
            .map(|(_, node)| node)
    }

    /// The round trip to a peer, if requests may be forwarded to it.
    fn serves_others(&self, now: Duration, node: NodeId) -> Option<Duration> {
        let peer = self.peers.get(&node)?;
        // Before its first word nobody knows which start would serve the request.
        let heard = peer.last_ping.is_some();
        (peer.reachable(now) && heard && !peer.lost).then(|| peer.round_trip())
    }

    /// Entries or safe times of a shard arrived: whoever waits may be served now.
    pub(super) fn wake_sessions(&mut self, turn: &mut Turn<'_>, shard: ShardId) {
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        if held.sessions.is_empty() {
            return;
        }
        for id in std::mem::take(&mut held.sessions) {
            let Some(job) = self.jobs.get(&id) else {
                continue;
            };
            // A forwarded write may be served already; a read is answered by whoever is first.
            if self.forwarded.contains_key(&id) && !job.request.command.is_read() {
                continue;
            }
            if self.covers_for(id, shard) {
                self.forwarded.remove(&id);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.stage = Stage::Clean;
                }
                self.serve(turn, id);
            } else if let Some(held) = self.shards.get_mut(&shard) {
                held.sessions.insert(id);
            }
        }
    }

    /// A node's entries of all shards are known further: whoever waits may be served now.
    pub(super) fn wake_all_sessions(&mut self, turn: &mut Turn<'_>) {
        for shard in self.waited_for() {
            self.wake_sessions(turn, shard);
        }
    }

    /// Whether anybody waits at this node for what others know.
    pub(super) fn somebody_waits(&self) -> bool {
        self.shards.values().any(|s| !s.sessions.is_empty())
    }

    /// Shards at which a session waits.
    pub(super) fn waited_for(&self) -> Vec<ShardId> {
        let waits = self.shards.iter().filter(|(_, s)| !s.sessions.is_empty());
        waits.map(|(shard, _)| *shard).collect()
    }

    /// A session request has waited long enough here.
    pub(super) fn on_forward_timer(&mut self, turn: &mut Turn<'_>, id: JobId) {
        let waits = |j: &&Job| j.stage == Stage::Session && !self.forwarded.contains_key(&id);
        let Some(job) = self.jobs.get(&id).filter(waits) else {
            return;
        };
        let shard = super::local::shard_of(&job.request.command);
        let reads = job.request.command.is_read() && job.request.level == Level::Session;
        if reads && self.rules.broken(Mutant::SessionServedUncovered) {
            self.serve_local(turn, id, shard);
            return;
        }
        let missing = self.missing(shard, &job.request.context);
        let newest = missing.iter().max_by_key(|(_, hlc)| *hlc);
        let target =
            newest.and_then(|(region, _)| self.nearest_in(turn.now.monotonic, *region, shard));
        // Nobody to ask: it goes on waiting until its deadline.
        if let Some(target) = target {
            turn.note(Note::SessionForwarded);
            self.forward(turn, id, target);
        }
    }

    /// Hands a job to a node of its keyspace when this one holds no replica of the shard.
    pub(super) fn forward_to_holder(&mut self, turn: &mut Turn<'_>, id: JobId, shard: ShardId) {
        let now = turn.now.monotonic;
        let holders = self.topology.replicas(shard);
        let own = self.me.region;
        let target = holders
            .iter()
            .flat_map(|(region, nodes)| nodes.iter().map(move |n| (*region != own, *n)))
            .filter_map(|(far, node)| {
                let round_trip = self.serves_others(now, node)?;
                Some((far, round_trip, node))
            })
            .min();
        let may_forward = self.jobs.get(&id).is_some_and(|job| job.may_forward);
        match target.filter(|_| may_forward) {
            Some((_, _, node)) => self.forward(turn, id, node),
            None => self.refuse(
                turn,
                id,
                Reason::NotHere,
                "this node holds no replica of the key and reaches none; ask another node",
            ),
        }
    }

    fn forward(&mut self, turn: &mut Turn<'_>, id: JobId, to: NodeId) {
        let now = turn.now.monotonic;
        let left = self.time_left(id, now);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let mut request = job.request.clone();
        request.deadline = left;
        if !job.request.command.is_read() {
            job.stage = Stage::Begun;
        }
        self.forwarded.insert(id, to);
        if request.level != Level::Strong
            && let (Some(request_id), Some(row)) = (request.request_id, request.command.row())
        {
            self.recent.remember_elsewhere(row.clone(), request_id);
        }
        let start = self.peers.get(&to).map_or(0, |peer| peer.start);
        let id = id.0;
        self.send(turn, to, Message::Forward { id, start, request });
    }

    /// Reads forwarded to a node that is not reachable any more are looked after here again: they wait
    /// for their entries, or go to another node. A write may have been served there: nobody can tell.
    pub(super) fn take_back_forwarded(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let gone = |node: &NodeId| !self.peers.get(node).is_some_and(|p| p.reachable(now));
        let is_read = |id: &JobId| {
            let job = self.jobs.get(id);
            job.is_some_and(|job| job.request.command.is_read())
        };
        let back: Vec<JobId> = self
            .forwarded
            .iter()
            .filter(|(id, node)| gone(node) && is_read(id))
            .map(|(id, _)| *id)
            .collect();
        for id in back {
            self.forwarded.remove(&id);
            if let Some(job) = self.jobs.get_mut(&id) {
                job.stage = Stage::Clean;
            }
            self.serve(turn, id);
        }
    }

    /// A peer asks us to serve a request.
    pub(super) fn on_forward(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        number: u64,
        mut request: Request,
    ) {
        // A message may be repeated on its way; the request must not.
        let peer = self.peers.get_mut(&from);
        if !peer.is_some_and(|peer| peer.first_forward(number)) {
            return;
        }
        let bound = Duration::from_millis(DEADLINE_MAX_MS);
        request.deadline = turn.now.monotonic + request.deadline.min(bound);
        let id = self.open_job(Asker::Peer(from, number), request);
        self.serve(turn, id);
    }

    /// A request that another node surely did not apply may be tried again here.
    fn forget_elsewhere(&mut self, id: JobId, result: &Result<Reply, Refusal>) {
        let refused = result.as_ref().is_err_and(|r| r.applied == Applied::No);
        if let Some(job) = self.jobs.get(&id).filter(|_| refused)
            && let (Some(request), Some(row)) = (job.request.request_id, job.request.command.row())
        {
            self.recent.forget_elsewhere(row, request);
        }
    }

    /// A forwarded request came back.
    pub(super) fn on_forwarded(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        number: u64,
        mut result: Result<Reply, Refusal>,
    ) {
        let id = JobId(number);
        // Only who was asked last may answer.
        if self.forwarded.get(&id) != Some(&from) {
            return;
        }
        self.forwarded.remove(&id);
        self.forget_elsewhere(id, &result);
        let far = self
            .peers
            .get(&from)
            .is_some_and(|p| p.region != self.me.region);
        if let Ok(reply) = &mut result {
            reply.receipt.forwarded_to = Some(from);
            reply.receipt.wan_round_trips += u8::from(far);
        }
        self.finish(turn, id, result);
    }
}
