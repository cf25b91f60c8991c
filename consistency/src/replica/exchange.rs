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
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;

use crate::effect::Note;
use crate::key::{NodeId, ShardId};
use crate::layout;
use crate::limits::{
    EXCHANGE_GROUPS, EXCHANGE_SHARDS_MAX, HEARTBEAT_IDLE_MS, PULL_BYTES_MAX, PULLS_PER_PEER_MAX,
};
use crate::message::{Message, Prefix, Run, Statement};
use crate::port::{Damaged, Family};
use crate::version::{Origin, Seq};

use super::Replica;
use super::turn::Turn;

/// A pull not answered for this long may be asked again.
const PULL_PATIENCE: Duration = Duration::from_secs(2);

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

    /// A peer shows digests by group: it gets our vectors of the groups that differ.
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
        let shared = self.peers.get(&from).map_or(&[][..], |p| &p.shared);
        let vectors = shared
            .iter()
            .filter(|shard| own[group_of(**shard)] != digests[group_of(**shard)])
            .take(EXCHANGE_SHARDS_MAX)
            .map(|shard| (*shard, self.prefixes(*shard)))
            .filter(|(_, prefixes)| !prefixes.is_empty())
            .collect();
        self.send(turn, from, Message::ExchangeReply { vectors });
    }

    /// A peer's vectors: pull where it is ahead, the largest lag first.
    pub(super) fn on_exchange_reply(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        vectors: Vec<(ShardId, Vec<Prefix>)>,
    ) {
        let mut lags: Vec<(Seq, ShardId)> = Vec::new();
        for (shard, prefixes) in vectors {
            let Some(held) = self.shards.get(&shard) else {
                continue;
            };
            let behind = |p: &Prefix| p.seq.saturating_sub(held.applied(p.origin));
            let lag = prefixes.iter().map(behind).sum();
            if lag > 0 {
                lags.push((lag, shard));
            }
        }
        lags.sort_unstable_by(|a, b| b.cmp(a));
        for (_, shard) in lags {
            self.pull(turn, from, shard);
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
    pub(super) fn pull(&mut self, turn: &mut Turn<'_>, from: NodeId, shard: ShardId) {
        let now = turn.now.monotonic;
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        peer.pulls.retain(|_, asked| now < *asked + PULL_PATIENCE);
        if peer.pulls.len() >= PULLS_PER_PEER_MAX || peer.pulls.contains_key(&shard) {
            return;
        }
        peer.pulls.insert(shard, now);
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
                self.pull(turn, node, shard);
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
        let mut budget = PULL_BYTES_MAX;
        let mut more = false;
        let mut runs = Vec::new();
        for (origin, applied) in logs {
            let first = have.get(&origin).copied().unwrap_or(0) + 1;
            if first > applied {
                continue;
            }
            if budget == 0 {
                more = true;
                break;
            }
            match read_run(turn, shard, origin, first..=applied, &mut budget) {
                Ok(run) => {
                    more |= first + (run.entries.len() as Seq) <= applied;
                    runs.push(run);
                }
                Err(damage) => {
                    self.meet_damage(turn, damage);
                    return;
                }
            }
        }
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
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.pulls.remove(&shard);
        }
        for run in runs {
            let origin = run.origin;
            // Only committed entries are served.
            self.take_run(turn, shard, run, Seq::MAX);
            self.acknowledge(turn, shard, origin);
        }
        if let Some(held) = self.shards.get_mut(&shard) {
            for statement in statements {
                let reached = |(origin, seq): &(Origin, Seq)| held.applied(*origin) >= *seq;
                if statement.node != self.me.node && statement.ends.iter().all(reached) {
                    let known = held.relayed.entry(statement.node).or_default();
                    *known = (*known).max(statement.hlc);
                }
            }
        }
        self.progressed(turn, shard);
        if more {
            self.pull(turn, from, shard);
        } else {
            self.refilled(turn, from, shard);
        }
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

/// Reads stored entries until the budget is used up; at least one.
fn read_run(
    turn: &Turn<'_>,
    shard: ShardId,
    origin: Origin,
    seqs: std::ops::RangeInclusive<Seq>,
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
