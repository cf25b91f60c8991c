//! Heartbeats: who is alive, how far away, and up to when everybody's writes are known.
//!
//! A heartbeat states, for each shard that changed since the heartbeat the receiver
//! last *echoed*, the last seq the sender *assigned*. The receiver may believe the
//! heartbeat's clock for a shard once its prefix reaches that seq: then it has every
//! entry the sender wrote up to that clock. Listing since the last one *sent* would
//! let a lost heartbeat hide an entry (model `heartbeats.py`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Hlc;
use crate::codec::{Decoded, Decoder, Encode, Encoder};
use crate::key::{NodeId, ShardId};
use crate::layout;
use crate::limits::{
    HEARTBEAT_BUSY_FOR_MS, HEARTBEAT_BUSY_MS, HEARTBEAT_IDLE_MS, PEER_SILENT_MS,
    SAFE_TIMES_STORE_MS,
};
use crate::message::{Echo, Envelope, Heartbeat, Message};
use crate::port::{Damaged, Family, Reader};
use crate::quorum::majority;
use crate::rules::Mutant;
use crate::version::{Origin, Seq};

use super::peer::{Behind, Known, Peer};
use super::turn::{Turn, damaged};
use super::{Replica, Standing, Timer};
use crate::effect::Note;

/// Up to when the peers' writes were known here when that was written down last.
///
/// Said of every shard at once: where one lags, of the moment before. The record goes into a batch
/// behind or with the entries it counts on, so a store that holds it holds them. Without it a restart
/// would forget that nothing of a region is missing, and only that region could tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SafeTimes {
    known: BTreeMap<NodeId, Hlc>,
    /// Not written again before.
    due: Duration,
}

impl Encode for SafeTimes {
    fn encode(&self, out: &mut Encoder) {
        let pairs = self.known.iter();
        out.list(pairs.map(|(node, hlc)| (u64::from(node.0), *hlc)));
    }
    fn decode(input: &mut Decoder) -> Decoded<SafeTimes> {
        let node = |number| u16::try_from(number).ok().map(NodeId);
        Ok(SafeTimes {
            known: BTreeMap::from_iter(input.map("safe times", node)?),
            due: Duration::ZERO,
        })
    }
}

impl Replica {
    /// Takes up what an earlier start knew; not where the store may have lost what that rests on.
    pub(super) fn restore_safe_times(&mut self, reader: &dyn Reader) -> Result<(), Damaged> {
        let stored = reader.get(Family::Meta, layout::SAFE)?;
        let Some(stored) = stored.filter(|_| self.standing != Standing::Lost) else {
            return Ok(());
        };
        self.safe_times = SafeTimes::from_record(&stored).map_err(|e| damaged(Family::Meta, &e))?;
        for (node, hlc) in &self.safe_times.known {
            if let Some(peer) = self.peers.get_mut(node) {
                peer.known.hlc = *hlc;
            }
        }
        Ok(())
    }

    /// Writes down what is known now, once in a while.
    pub(super) fn store_safe_times(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        if now < self.safe_times.due {
            return;
        }
        self.safe_times.due = now + Duration::from_millis(SAFE_TIMES_STORE_MS);
        let known = |(node, peer): (&NodeId, &Peer)| {
            let before = self.safe_times.known.get(node).copied();
            let hlc = before.unwrap_or(Hlc::ZERO).max(peer.known_everywhere());
            (hlc > Hlc::ZERO).then_some((*node, hlc))
        };
        let known: BTreeMap<NodeId, Hlc> = self.peers.iter().filter_map(known).collect();
        if known != self.safe_times.known {
            self.safe_times.known = known;
            let key = layout::SAFE.to_vec().into();
            turn.store(Family::Meta, key, &self.safe_times);
        }
    }

    /// Whether an envelope is to be read at all: right cluster, known sender, not a fenced start.
    pub(super) fn welcome(&mut self, turn: &mut Turn<'_>, envelope: &Envelope) -> bool {
        let cluster = self.topology.cluster;
        let Some(peer) = self.peers.get_mut(&envelope.from) else {
            turn.note(Note::Fenced);
            return false;
        };
        if envelope.cluster != cluster || envelope.start < peer.fence.max(peer.start) {
            turn.note(Note::Fenced);
            if envelope.cluster == cluster && envelope.message == Message::StartAsk {
                // An older copy of the node may be asking: it learns that a newer start was seen. Should the
                // newer one get the answer, it is true for that one.
                self.on_start_ask(turn, envelope.from);
            }
            return false;
        }
        if envelope.start > peer.start {
            peer.begin_start(envelope.start);
        }
        peer.heard_at = Some(turn.now.monotonic);
        let other = std::mem::replace(&mut peer.incarnation, envelope.incarnation);
        let new_store = other != 0 && other != envelope.incarnation;
        let tells = envelope.message.tells_of_the_store();
        if tells && envelope.store_sequence > peer.seen_sequence {
            peer.seen_sequence = envelope.store_sequence;
            peer.seen_stored = false;
        }
        let first = tells && !peer.told;
        peer.told |= tells;
        if new_store {
            self.forget_replica(envelope.from);
        }
        if first {
            // Should its next start come from an empty store, this one may have to tell.
            self.store_seen(turn, envelope.from);
        }
        true
    }

    /// A peer lost its store: nothing it acknowledged counts any more.
    fn forget_replica(&mut self, node: NodeId) {
        for held in self.shards.values_mut() {
            held.forget_replica(node);
        }
    }

    /// Clocks differ beyond the bound, as one of the two sees it.
    pub(super) fn dispute_clock(&mut self, turn: &mut Turn<'_>, with: NodeId) {
        let until = turn.now.monotonic + Duration::from_millis(PEER_SILENT_MS);
        if let Some(peer) = self.peers.get_mut(&with) {
            peer.clock_disputed_until = until;
        }
    }

    /// Whether so many dispute our clock that it must be ours that is wrong.
    pub(super) fn clock_out_of_bounds(&self, now: Duration) -> bool {
        let regions: std::collections::BTreeSet<_> = self
            .peers
            .values()
            .filter(|p| p.clock_disputed(now))
            .map(|p| p.region)
            .collect();
        regions.len() >= majority(self.topology.regions.len())
    }

    /// A stream to a peer stands: greet it.
    pub(super) fn on_link_up(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        let now = turn.now.monotonic;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.heard_at.is_some() && !peer.up {
            turn.note(Note::StreamResumed);
        }
        peer.up = true;
        peer.heard_at = Some(now);
        peer.answered_at = Some(now);
        peer.forget_conversation();
        // Also who lost data: the peer may know a higher start than this one, and drop what it says.
        if self.standing != Standing::Voting {
            self.send(turn, node, Message::StartAsk);
        }
        self.send_heartbeat(turn, node);
        self.schedule_heartbeats(turn);
        self.push_from_start(turn, node);
    }

    /// The stream to a peer broke.
    pub(super) fn on_link_down(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.up = false;
            peer.stop_pulling();
        }
        self.take_back_forwarded(turn);
        self.take_back_combined(turn, node);
        self.refuse_unreachable(turn);
    }

    /// Time to send heartbeats to whoever is due.
    pub(super) fn on_heartbeat_timer(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let due: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.up && p.heartbeat_at <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            if matches!(self.standing, Standing::Asking { .. }) {
                self.send(turn, node, Message::StartAsk);
            }
            self.send_heartbeat(turn, node);
        }
        for shard in self.waited_for() {
            self.ask_around(turn, shard);
        }
        self.push_again(turn);
        self.take_back_forwarded(turn);
        self.refill_some(turn);
        self.refuse_unreachable(turn);
        self.settle_some(turn);
        self.schedule_heartbeats(turn);
    }

    /// Sets the timer for the next heartbeat that is due.
    pub(super) fn schedule_heartbeats(&mut self, turn: &Turn<'_>) {
        let idle = turn.now.monotonic + Duration::from_millis(HEARTBEAT_IDLE_MS);
        let up = self.peers.values().filter(|p| p.up);
        let next = up.map(|p| p.heartbeat_at).min().unwrap_or(idle);
        self.timers.remove(&(self.heartbeat_due, Timer::Heartbeat));
        self.heartbeat_due = next.max(turn.now.monotonic);
        self.set_timer(self.heartbeat_due, Timer::Heartbeat);
    }

    /// Sends one heartbeat.
    pub(super) fn send_heartbeat(&mut self, turn: &mut Turn<'_>, to: NodeId) {
        let now = turn.now.monotonic;
        let urgent = self.somebody_waits();
        let Some(peer) = self.peers.get(&to) else {
            return;
        };
        let since = peer.echoed;
        let listed_since = match self.rules.broken(Mutant::HeartbeatSinceSent) {
            true => peer.pinged,
            false => since,
        };
        let busy = urgent || now < peer.busy_until;
        let interval = match busy {
            true => HEARTBEAT_BUSY_MS,
            false => HEARTBEAT_IDLE_MS,
        };
        let second = Duration::from_millis(HEARTBEAT_IDLE_MS - HEARTBEAT_BUSY_MS);
        let digest_due = peer.digest_sent_at.is_none_or(|at| now >= at + second);
        self.next_ping += 1;
        let heartbeat = Heartbeat {
            ping: self.next_ping,
            echo: peer.last_ping.map(|(ping, at)| Echo {
                ping,
                held_us: (now - at).as_micros() as u64,
            }),
            since,
            assigned: self.assigned(to, listed_since),
            digest: digest_due.then(|| self.vectors_digest(to)),
            votes: self.standing == Standing::Voting,
            lost: self.standing == Standing::Lost,
            urgent,
            quorum_us: self
                .regions_round_trip(now)
                .map(|round_trip| round_trip.as_micros() as u64),
        };
        let ping = heartbeat.ping;
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.sent_ping(ping, now);
            peer.heartbeat_at = now + Duration::from_millis(interval);
            if digest_due {
                peer.digest_sent_at = Some(now);
            }
        }
        self.send(turn, to, Message::Heartbeat(heartbeat));
    }

    /// The last seq assigned in each own log of the shared shards that changed since a heartbeat.
    fn assigned(&self, to: NodeId, since: u64) -> Vec<(ShardId, Origin, Seq)> {
        let shared = self.peers.get(&to).map_or(&[][..], |p| &p.shared);
        let changed = shared
            .iter()
            .filter_map(|shard| Some((*shard, self.shards.get(shard)?)))
            .filter(|(_, held)| since == 0 || held.changed_at >= since);
        changed
            .flat_map(|(shard, held)| {
                let own = held.logs.iter();
                own.filter(|(origin, log)| origin.node == self.me.node && log.logged > 0)
                    .map(move |(origin, log)| (shard, *origin, log.logged))
            })
            .collect()
    }

    /// A peer's heartbeat.
    pub(super) fn on_heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        hlc: Hlc,
        heartbeat: &Heartbeat,
    ) {
        let now = turn.now.monotonic;
        let over_gaps = self.rules.broken(Mutant::HeartbeatOverGap);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer
            .last_ping
            .is_some_and(|(last, _)| heartbeat.ping <= last)
        {
            return;
        }
        let processed = peer.last_ping.map_or(0, |(last, _)| last);
        let sent_at = match heartbeat.echo {
            Some(echo) => peer.take_echo(echo.ping, Duration::from_micros(echo.held_us), now),
            None => {
                peer.echoed = 0;
                None
            }
        };
        peer.votes = heartbeat.votes;
        peer.quorum = heartbeat.quorum_us.map(Duration::from_micros);
        let newly_lost = heartbeat.lost && !peer.lost;
        peer.lost = heartbeat.lost;
        // Relative to a heartbeat we never saw: neither believed nor echoed, so that the next lists all.
        if heartbeat.since <= processed {
            peer.believe(heartbeat.ping, now);
            let before = peer.known;
            for (shard, origin, seq) in &heartbeat.assigned {
                let applied = self.shards.get(shard).map(|held| held.applied(*origin));
                if applied.is_none_or(|applied| applied >= *seq) || over_gaps {
                    continue;
                }
                let behind = peer.behind.entry(*shard).or_insert_with(|| Behind {
                    stated: BTreeMap::new(),
                    known: before,
                });
                let stated = behind.stated.entry(*origin).or_default();
                *stated = (*stated).max(*seq);
            }
            // Who does not vote may have lost entries of its own: what it states is not all it wrote.
            if heartbeat.votes || self.rules.broken(Mutant::TrustsWhoeverStarts) {
                peer.known = Known {
                    hlc: before.hlc.max(hlc),
                    fresh_at: before.fresh_at.max(sent_at),
                };
            }
        }
        if newly_lost {
            self.forget_replica(from);
        }
        self.after_heartbeat(turn, from, heartbeat);
    }

    fn after_heartbeat(&mut self, turn: &mut Turn<'_>, from: NodeId, heartbeat: &Heartbeat) {
        let now = turn.now.monotonic;
        if let Some(digest) = heartbeat.digest
            && digest != self.vectors_digest(from)
        {
            self.begin_exchange(turn, from);
        }
        if heartbeat.urgent
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.busy_until = now + Duration::from_millis(HEARTBEAT_BUSY_FOR_MS);
            if !peer.just_sent(now) {
                self.send_heartbeat(turn, from);
            }
            self.schedule_heartbeats(turn);
        }
        self.wake_all_sessions(turn);
    }
}
