//! Anti-entropy: version vectors over contiguous origin logs (as in scuttlebutt, van
//! Renesse et al. 2008), so that finding and shipping what is missing costs what is
//! missing. An idle pair exchanges one digest a second.
//!
//! A heartbeat carries a digest of the sender's vectors. Where it differs from our
//! own, we send one digest per group of shards, get the vectors of the groups that
//! differ, and pull what we lack. Anybody who holds entries may serve them: a replica
//! cut off from an origin learns its entries, and up to when they are complete, from a
//! third one.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::time::Duration;

use bytes::Bytes;

use crate::effect::Note;
use crate::key::{NodeId, ShardId};
use crate::layout;
use crate::limits::{
    EXCHANGE_GROUPS, EXCHANGE_PREFIXES_MAX, EXCHANGE_SHARDS_MAX, HEARTBEAT_IDLE_MS, PULL_BYTES_MAX,
};
use crate::message::{Message, Prefix, Run, Statement};
use crate::port::{Damaged, Family};
use crate::version::{Origin, Seq};

use super::Replica;
use super::logs::last_of;
use super::peer::Purpose;
use super::turn::Turn;

impl Replica {
    /// One digest of the vectors of all shards shared with a peer.
    pub(super) fn vectors_digest(&self, peer: NodeId) -> u64 {
        let mut bytes = Vec::new();
        for digest in self.group_digests(peer) {
            bytes.extend_from_slice(&digest.to_be_bytes());
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    fn group_digests(&self, peer: NodeId) -> Vec<u64> {
        let mut groups = vec![0u64; EXCHANGE_GROUPS];
        let shared = self.peers.get(&peer).map_or(&[][..], |p| &p.shared);
        for shard in shared {
            let Some(held) = self.shards.get(shard) else {
                continue;
            };
            for (origin, log) in held.logs.iter().filter(|(_, log)| log.applied > 0) {
                let name = layout::entry(*shard, *origin, log.applied);
                // A sum does not depend on the order, so neither side needs the other's.
                let group = &mut groups[group_of(*shard)];
                *group = group.wrapping_add(xxhash_rust::xxh3::xxh3_64(&name));
            }
        }
        groups
    }

    /// The peer's vectors differ from ours.
    pub(super) fn begin_exchange(&mut self, turn: &mut Turn<'_>, with: NodeId) {
        let now = turn.now.monotonic;
        let Some(peer) = self.peers.get_mut(&with).filter(|p| p.exchange_at <= now) else {
            return;
        };
        peer.exchange_at = now + Duration::from_millis(HEARTBEAT_IDLE_MS);
        let digests = self.group_digests(with);
        turn.note(Note::Exchanged);
        self.send(turn, with, Message::ExchangeRequest { digests });
    }

    /// A peer shows digests by group: it gets our vectors of the groups that differ, as many as an answer
    /// holds. The next answer goes on where this one ended, so that every shard has its turn.
    pub(super) fn on_exchange_request(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        digests: &[u64],
    ) {
        let own = self.group_digests(from);
        if digests.len() != own.len() {
            return;
        }
        let Some(peer) = self.peers.get(&from) else {
            return;
        };
        let behind_last = peer.shared.partition_point(|s| Some(*s) <= peer.shown);
        let (before, behind) = peer.shared.split_at(behind_last);
        let mut room = EXCHANGE_PREFIXES_MAX;
        let vectors: Vec<(ShardId, Vec<Prefix>)> = behind
            .iter()
            .chain(before)
            .filter(|shard| own[group_of(**shard)] != digests[group_of(**shard)])
            .map(|shard| (*shard, self.prefixes(*shard)))
            .filter(|(_, prefixes)| !prefixes.is_empty())
            .take(EXCHANGE_SHARDS_MAX)
            .take_while(|(_, prefixes)| {
                let fits = room > 0;
                room = room.saturating_sub(prefixes.len());
                fits
            })
            .collect();
        if let (Some((last, _)), Some(peer)) = (vectors.last(), self.peers.get_mut(&from)) {
            peer.shown = Some(*last);
        }
        self.send(turn, from, Message::ExchangeReply { vectors });
    }

    /// A peer's vectors: pull where it is ahead, the largest lag first.
    pub(super) fn on_exchange_reply(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        vectors: Vec<(ShardId, Vec<Prefix>)>,
    ) {
        let mut lags: Vec<(ShardId, Seq)> = Vec::new();
        for (shard, prefixes) in vectors {
            let Some(held) = self.shards.get(&shard) else {
                continue;
            };
            let behind = |p: &Prefix| p.seq.saturating_sub(held.applied(p.origin));
            let lag = prefixes.iter().map(behind).fold(0, Seq::saturating_add);
            if lag > 0 {
                lags.push((shard, lag));
            }
        }
        self.catch_up(turn, from, lags);
    }

    /// A peer is ahead in these shards, by so much: pulls them, as many at once as may be.
    pub(super) fn catch_up(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        lags: impl IntoIterator<Item = (ShardId, Seq)>,
    ) {
        let now = turn.now.monotonic;
        if let Some(peer) = self.peers.get_mut(&from) {
            for (shard, lag) in lags {
                peer.lags_in(shard, lag);
            }
        }
        while let Some(shard) = self.peers.get_mut(&from).and_then(|p| p.next_lag(now)) {
            self.pull(turn, from, shard, Purpose::Repair);
        }
    }

    fn prefixes(&self, shard: ShardId) -> Vec<Prefix> {
        let held = self.shards.get(&shard);
        held.into_iter()
            .flat_map(|held| &held.logs)
            .filter(|(_, log)| log.applied > 0)
            .map(|(origin, log)| Prefix {
                origin: *origin,
                seq: log.applied,
            })
            .collect()
    }

    /// Asks a peer for what it has beyond our prefixes, unless enough is under way already.
    pub(super) fn pull(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        shard: ShardId,
        purpose: Purpose,
    ) {
        let now = turn.now.monotonic;
        let peer = self.peers.get_mut(&from);
        if !peer.is_some_and(|peer| peer.begin_pull(shard, now, purpose)) {
            return;
        }
        let have = self.prefixes(shard);
        turn.note(Note::Pulled);
        self.send(turn, from, Message::Pull { shard, have });
    }

    /// A session waits at a shard: asks every replica of it for entries and safe times.
    pub(super) fn ask_around(&mut self, turn: &mut Turn<'_>, shard: ShardId) {
        let now = turn.now.monotonic;
        let Some(held) = self.shards.get(&shard) else {
            return;
        };
        let nodes: Vec<NodeId> = held.voters.nodes().collect();
        for node in nodes {
            if self.peers.get(&node).is_some_and(|p| p.reachable(now)) {
                self.pull(turn, node, shard, Purpose::Session);
                if !self.peers.get(&node).is_some_and(|p| p.just_sent(now)) {
                    self.send_heartbeat(turn, node);
                }
            }
        }
        self.schedule_heartbeats(turn);
    }

    /// A peer asks for entries.
    pub(super) fn on_pull(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        shard: ShardId,
        have: &[Prefix],
    ) {
        let Some(held) = self.shards.get(&shard) else {
            return;
        };
        let have: BTreeMap<Origin, Seq> = have.iter().map(|p| (p.origin, p.seq)).collect();
        let logs: Vec<(Origin, Seq)> = held.logs.iter().map(|(o, l)| (*o, l.applied)).collect();
        let missing = logs.into_iter().filter_map(|(origin, applied)| {
            let first = have.get(&origin).copied().unwrap_or(0).checked_add(1)?;
            (first <= applied).then_some((origin, first..=applied))
        });
        let (runs, more) = match read_runs(turn, shard, missing) {
            Ok(found) => found,
            Err(damage) => {
                self.meet_damage(turn, damage);
                return;
            }
        };
        let statements = self.statements(turn, shard);
        self.send(
            turn,
            from,
            Message::Entries {
                shard,
                runs,
                statements,
                more,
            },
        );
        // Whoever pulled the end has its safe time right behind it: the link keeps the order.
        let now = turn.now.monotonic;
        if !more && !self.peers.get(&from).is_none_or(|p| p.just_sent(now)) {
            self.send_heartbeat(turn, from);
        }
    }

    /// Up to when each node's writes to a shard are known here, and the prefixes that hold them.
    fn statements(&mut self, turn: &Turn<'_>, shard: ShardId) -> Vec<Statement> {
        let own = self.clock.read(turn.now);
        let Some(held) = self.shards.get(&shard) else {
            return Vec::new();
        };
        let statement = |node: NodeId| Statement {
            node,
            hlc: self.safe_time(shard, node).min(own),
            ends: held
                .logs
                .iter()
                .filter(|(origin, _)| origin.node == node)
                .map(|(origin, log)| (*origin, log.applied))
                .collect(),
        };
        held.voters.nodes().map(statement).collect()
    }

    /// Entries asked for arrive.
    pub(super) fn on_entries(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        shard: ShardId,
        runs: Vec<Run>,
        statements: Vec<Statement>,
        more: bool,
    ) {
        let pull = match self.peers.get_mut(&from) {
            Some(peer) => peer.end_pull(shard),
            None => return,
        };
        let mut whole = !more;
        let before = self.applied_in(shard);
        for run in runs {
            let origin = run.origin;
            // Only committed entries are served; what is merely logged here may lie behind them.
            let last = last_of(&run);
            self.take_run(turn, shard, run, last);
            self.acknowledge(turn, shard, origin);
        }
        if let Some(held) = self.shards.get_mut(&shard) {
            for statement in statements {
                let reached = |(origin, seq): &(Origin, Seq)| held.applied(*origin) >= *seq;
                let reached = statement.ends.iter().all(reached);
                whole &= reached;
                if reached && statement.node != self.me.node {
                    let known = held.relayed.entry(statement.node).or_default();
                    *known = (*known).max(statement.hlc);
                }
            }
        }
        self.progressed(turn, shard);
        // Entries that can not be taken would be sent again and again: the next exchange tries again.
        if more && self.applied_in(shard) > before {
            self.pull(turn, from, shard, pull.unwrap_or(Purpose::Repair));
        } else if whole && pull.is_some() {
            // An answer that was asked for in this start, and no gap before what it brought.
            self.refilled(turn, from, shard);
        }
        self.catch_up(turn, from, None);
    }

    /// How many entries of a shard are applied.
    fn applied_in(&self, shard: ShardId) -> Seq {
        let held = self.shards.get(&shard);
        held.map_or(0, |held| held.logs.values().map(|log| log.applied).sum())
    }

    /// Prefixes of a shard grew: stated ends may be reached, sessions may be covered.
    pub(super) fn progressed(&mut self, turn: &mut Turn<'_>, shard: ShardId) {
        let Some(held) = self.shards.get(&shard) else {
            return;
        };
        for peer in self.peers.values_mut() {
            let reached = peer.behind.get(&shard).is_some_and(|behind| {
                let mut stated = behind.stated.iter();
                stated.all(|(origin, seq)| held.applied(*origin) >= *seq)
            });
            if reached {
                peer.behind.remove(&shard);
            }
        }
        self.wake_sessions(turn, shard);
    }
}

fn group_of(shard: ShardId) -> usize {
    (usize::from(shard.keyspace.0) * 7 + usize::from(shard.index)) % EXCHANGE_GROUPS
}

/// Reads the stored entries of these logs, about [`PULL_BYTES_MAX`] at most, and whether there is more.
fn read_runs(
    turn: &Turn<'_>,
    shard: ShardId,
    missing: impl Iterator<Item = (Origin, RangeInclusive<Seq>)>,
) -> Result<(Vec<Run>, bool), Damaged> {
    let mut budget = PULL_BYTES_MAX;
    let mut runs = Vec::new();
    let mut more = false;
    for (origin, seqs) in missing {
        if budget == 0 {
            more = true;
            break;
        }
        let wanted = seqs.end() - seqs.start() + 1;
        let run = read_run(turn, shard, origin, seqs, &mut budget)?;
        more |= (run.entries.len() as Seq) < wanted;
        runs.push(run);
    }
    Ok((runs, more))
}

/// Reads stored entries until the budget is used up; at least one.
fn read_run(
    turn: &Turn<'_>,
    shard: ShardId,
    origin: Origin,
    seqs: RangeInclusive<Seq>,
    budget: &mut usize,
) -> Result<Run, Damaged> {
    let first = *seqs.start();
    let from = layout::entry(shard, origin, first);
    let to = layout::entry(shard, origin, seqs.end() + 1);
    let mut entries = Vec::new();
    turn.reader
        .scan(Family::Log, &from, Some(&to), &mut |key, value: Bytes| {
            let expected = layout::entry(shard, origin, first + entries.len() as Seq);
            if key != &expected[..] {
                return ControlFlow::Break(());
            }
            *budget = budget.saturating_sub(value.len());
            entries.push(value);
            match *budget {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?;
    Ok(Run {
        origin,
        first,
        entries,
    })
}
