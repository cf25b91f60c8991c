//! Origin logs: appending to the own one, committing it in the region, applying everybody's.
//!
//! An own entry is durable here with the step's batch (D1). With one replica in the
//! region that commits it; with more, it is committed once a majority of the region's
//! replicas hold it durably (D2), and only then is it applied, acknowledged to the
//! client and shipped to other regions. The eventual view changes here and nowhere else.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::codec::Encode;
use crate::effect::Note;
use crate::key::{NodeId, RegionId, ShardId};
use crate::message::{Append, Message, Run};
use crate::port::{Damaged, Family, Reader};
use crate::quorum::majority;
use crate::record::{Change, Entry, Record};
use crate::request::Level;
use crate::rules::Mutant;
use crate::version::{Ballot, Dot, Origin, Seq};
use crate::{clock, layout};

use super::Replica;
use super::shard::{LogState, Waiting};
use super::turn::{Turn, damaged};

/// Own entries re-sent to a replica of the region at once.
const RESEND_ENTRIES: usize = 64;

impl Replica {
    /// Appends an entry to the own log of a shard; replies may wait for its durability.
    pub(super) fn append(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        entry: Entry,
        waiting: Vec<Waiting>,
    ) {
        let origin = self.open_origin(turn);
        let pings = self.next_ping;
        let region = self.me.region;
        let me = self.me.node;
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let log = held.logs.entry(origin).or_default();
        log.logged += 1;
        let (seq, state) = (log.logged, *log);
        turn.put(
            Family::Log,
            layout::entry(shard, origin, seq),
            entry.to_record(),
        );
        turn.store(Family::Meta, layout::log_state(shard, origin), &state);
        held.changed_at = pings;
        self.uncommitted.insert((entry.hlc, shard, origin, seq));
        held.uncommitted.insert((origin, seq), entry);
        held.waiting
            .entry((origin, seq))
            .or_default()
            .extend(waiting);
        if held.voters.region_reached(region, |node| node == me) {
            self.commit_own(turn, shard, origin, seq);
        } else {
            self.resend(turn, shard, origin);
        }
    }

    /// Lets a reply wait for an own entry that was appended earlier.
    pub(super) fn await_entry(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        dot: Dot,
        waiting: Waiting,
    ) {
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let name = (dot.origin, dot.seq);
        held.waiting.entry(name).or_default().push(waiting);
        self.release(turn, shard, dot.origin);
    }

    /// Sends the uncommitted end of an own log to the region's other replicas.
    pub(super) fn resend(&mut self, turn: &mut Turn<'_>, shard: ShardId, origin: Origin) {
        let Some(held) = self.shards.get(&shard) else {
            return;
        };
        let committed = held.applied(origin);
        let others = held.other_ends(origin);
        let neighbours = held.voters.regions().get(&self.me.region);
        let mut messages = Vec::new();
        for node in neighbours.into_iter().flatten().copied() {
            if node == self.me.node {
                continue;
            }
            let held_there = held.acknowledged.get(&(origin, node)).copied();
            let first = held_there.unwrap_or(0).max(committed) + 1;
            let range = held.uncommitted.range((origin, first)..=(origin, Seq::MAX));
            let entries: Vec<Bytes> = range
                .take(RESEND_ENTRIES)
                .map(|(_, e)| e.to_record())
                .collect();
            if !entries.is_empty() {
                let run = Run {
                    origin,
                    first,
                    entries,
                };
                let append = Append {
                    shard,
                    run,
                    committed,
                    others: others.clone(),
                    place: None,
                };
                messages.push((node, Message::Append(append)));
            }
        }
        for (node, message) in messages {
            self.send(turn, node, message);
        }
    }

    /// Own entries up to `upto` are durable on a majority of the region: they count from now on.
    fn commit_own(&mut self, turn: &mut Turn<'_>, shard: ShardId, origin: Origin, upto: Seq) {
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let first = held.applied(origin) + 1;
        let mut entries = BTreeMap::new();
        for seq in first..=upto {
            if let Some(entry) = held.uncommitted.remove(&(origin, seq)) {
                self.uncommitted.remove(&(entry.hlc, shard, origin, seq));
                entries.insert(seq, entry);
            }
        }
        if entries.is_empty() {
            return;
        }
        let records = entries.values().map(Encode::to_record).collect();
        self.apply_up_to(turn, shard, origin, upto, &mut entries);
        self.ship(turn, shard, origin, first, records);
        self.release(turn, shard, origin);
        self.wake_sessions(turn, shard);
    }

    /// Pushes committed own entries to other regions, and the news of it to the own region.
    fn ship(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        origin: Origin,
        first: Seq,
        entries: Vec<Bytes>,
    ) {
        let Some(held) = self.shards.get(&shard) else {
            return;
        };
        let committed = held.applied(origin);
        let complete = match self.uncommitted.first() {
            Some((first, ..)) if !self.rules.broken(Mutant::PushesHideUncommitted) => {
                Hlc(first.0 - 1)
            }
            _ => held.logs.get(&origin).map_or(Hlc::ZERO, |log| log.hlc),
        };
        let others = held.other_ends(origin);
        let targets: Vec<(NodeId, bool)> = held
            .voters
            .regions()
            .iter()
            .flat_map(|(region, nodes)| nodes.iter().map(move |n| (*n, *region)))
            .filter(|(node, _)| *node != self.me.node)
            .map(|(node, region)| (node, region == self.me.region))
            .collect();
        for (node, near) in targets {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            let place = (!near).then(|| peer.next_place(complete));
            if !peer.up {
                continue;
            }
            let message = match near {
                true => Message::Committed {
                    shard,
                    origin,
                    seq: committed,
                },
                false => Message::Append(Append {
                    shard,
                    run: Run {
                        origin,
                        first,
                        entries: entries.clone(),
                    },
                    committed,
                    others: others.clone(),
                    place,
                }),
            };
            self.send(turn, node, message);
        }
    }

    /// Answers whoever waited for own entries that are durable where they want them.
    fn release(&mut self, turn: &mut Turn<'_>, shard: ShardId, origin: Origin) {
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let committed = held.applied(origin);
        let mut ready = Vec::new();
        let range = (origin, 0)..=(origin, committed);
        let seqs: Vec<Seq> = held
            .waiting
            .range(range)
            .map(|((_, seq), _)| *seq)
            .collect();
        for seq in seqs {
            let regions = durable_regions(held, self.me.region, origin, seq);
            let Some(waiting) = held.waiting.get_mut(&(origin, seq)) else {
                continue;
            };
            let enough = |w: &Waiting| regions.len() > usize::from(w.ack_regions);
            let (done, rest) = std::mem::take(waiting).into_iter().partition(enough);
            *waiting = rest;
            if waiting.is_empty() {
                held.waiting.remove(&(origin, seq));
            }
            let done: Vec<Waiting> = done;
            ready.extend(done.into_iter().map(|w| (w, regions.clone())));
        }
        for (mut waiting, regions) in ready {
            // A strong reply names the quorum that chose it; other writes, where they are durable.
            if let Ok(reply) = &mut waiting.result
                && reply.level != Level::Strong
            {
                reply.receipt.replicas = vec![self.me.node];
                reply.receipt.regions = regions.clone();
                reply.receipt.durable_regions = regions;
                reply.receipt.wan_round_trips = u8::from(waiting.ack_regions > 0);
            }
            self.finish(turn, waiting.job, waiting.result);
        }
    }

    /// Entries of a peer's own log arrive, pushed by the peer.
    pub(super) fn on_append(&mut self, turn: &mut Turn<'_>, from: NodeId, append: Append) {
        let Append {
            shard,
            run,
            committed,
            others,
            place,
        } = append;
        let origin = run.origin;
        if origin.node != from || run.entries.is_empty() || !self.shards.contains_key(&shard) {
            return;
        }
        let last = run.first + run.entries.len() as Seq - 1;
        let near = self.topology.region_of(from) == Some(self.me.region);
        let committed = if near { committed } else { Seq::MAX };
        if !self.take_run(turn, shard, run, committed) {
            self.catch_up(turn, from, [(shard, 1)]);
        }
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        held.learn_safe_time(origin, last, &others);
        let applied = held.applied(origin) >= last;
        self.acknowledge(turn, shard, origin);
        self.progressed(turn, shard);
        let over_gaps = self.rules.broken(Mutant::PushesOverGap);
        if let Some(place) = place
            && (applied || over_gaps)
            && let Some(peer) = self.peers.get_mut(&from)
            && peer.follow(place, over_gaps)
        {
            self.wake_all_sessions(turn);
        }
    }

    /// The peer's log is committed in its region: what is logged here may be applied.
    pub(super) fn on_committed(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        origin: Origin,
        seq: Seq,
    ) {
        let logged = self
            .shards
            .get(&shard)
            .and_then(|held| held.logs.get(&origin))
            .map_or(0, |log| log.logged);
        self.apply_up_to(turn, shard, origin, seq.min(logged), &mut BTreeMap::new());
        self.progressed(turn, shard);
    }

    /// A peer holds our log durably up to here.
    pub(super) fn on_acknowledge(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        shard: ShardId,
        origin: Origin,
        seq: Seq,
    ) {
        let region = self.me.region;
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let Some(log) = held.logs.get(&origin).copied() else {
            return;
        };
        if origin.node != self.me.node || !held.voters.contains(from) {
            return;
        }
        let known = held.acknowledged.entry((origin, from)).or_default();
        *known = (*known).max(seq.min(log.logged));
        // The highest entry that a majority of the region's replicas hold.
        let nodes = held.voters.regions().get(&region);
        let mut ends: Vec<Seq> = nodes
            .into_iter()
            .flatten()
            .map(|node| match *node == self.me.node {
                true => log.logged,
                false => held
                    .acknowledged
                    .get(&(origin, *node))
                    .copied()
                    .unwrap_or(0),
            })
            .collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let committed = ends.get(majority(ends.len()) - 1).copied().unwrap_or(0);
        self.commit_own(turn, shard, origin, committed);
        self.release(turn, shard, origin);
    }

    /// Tells an origin how far its log is held durably here.
    pub(super) fn acknowledge(&mut self, turn: &mut Turn<'_>, shard: ShardId, origin: Origin) {
        let held = self.shards.get(&shard);
        let Some(log) = held.and_then(|held| held.logs.get(&origin)) else {
            return;
        };
        let seq = log.logged;
        if origin.node != self.me.node {
            self.send(
                turn,
                origin.node,
                Message::Acknowledge { shard, origin, seq },
            );
        }
    }

    /// Logs a run of entries and applies what is committed; `false` when there is a gap before it.
    pub(super) fn take_run(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        run: Run,
        committed: Seq,
    ) -> bool {
        let origin = run.origin;
        let Some(held) = self.shards.get_mut(&shard) else {
            return true;
        };
        let log = held.logs.entry(origin).or_default();
        let mut logged = log.logged;
        if run.first > logged + 1 {
            return false;
        }
        let mut fresh = BTreeMap::new();
        for (seq, record) in (run.first..).zip(run.entries) {
            if seq <= logged {
                continue;
            }
            let Ok(entry) = Entry::from_record(&record) else {
                // A newer format, or damage on the way: what follows cannot be taken either.
                turn.note(Note::DamageMet);
                break;
            };
            if clock::check_ahead(turn.now, entry.hlc).is_err() {
                turn.note(Note::ClockRefused);
                break;
            }
            turn.put(Family::Log, layout::entry(shard, origin, seq), record);
            fresh.insert(seq, entry);
            logged = seq;
        }
        if logged > log.logged {
            log.logged = logged;
            let state = *log;
            turn.store(Family::Meta, layout::log_state(shard, origin), &state);
        }
        self.apply_up_to(turn, shard, origin, committed.min(logged), &mut fresh);
        true
    }

    /// Applies logged entries in order; `at_hand` saves reading back what was just logged.
    fn apply_up_to(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        origin: Origin,
        upto: Seq,
        at_hand: &mut BTreeMap<Seq, Entry>,
    ) {
        let applied = self.shards.get(&shard).map_or(0, |s| s.applied(origin));
        let Some(region) = self.topology.region_of(origin.node) else {
            return;
        };
        let mut last = None;
        for seq in applied + 1..=upto {
            let entry = match at_hand.remove(&seq) {
                Some(entry) => Ok(Some(entry)),
                None => turn.load(Family::Log, &layout::entry(shard, origin, seq)),
            };
            let entry = match entry {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(damage) => {
                    self.meet_damage(turn, damage);
                    break;
                }
            };
            let _ = self.clock.observe(turn.now, entry.hlc);
            self.apply_entry(turn, region, &entry);
            last = Some((seq, entry.hlc));
        }
        let held = self.shards.get_mut(&shard);
        if let (Some((seq, hlc)), Some(held)) = (last, held) {
            let log = held.logs.entry(origin).or_default();
            log.applied = seq;
            log.hlc = hlc;
            let state: LogState = *log;
            turn.store(Family::Meta, layout::log_state(shard, origin), &state);
        }
    }

    fn apply_entry(&mut self, turn: &mut Turn<'_>, region: RegionId, entry: &Entry) {
        for change in &entry.changes {
            match self.record(turn, &change.row) {
                Ok(before) => self.apply_change(turn, region, entry, change, before),
                Err(damage) => {
                    self.meet_damage(turn, damage);
                }
            }
        }
    }

    fn apply_change(
        &mut self,
        turn: &mut Turn<'_>,
        region: RegionId,
        entry: &Entry,
        change: &Change,
        before: Option<Record>,
    ) {
        if before
            .as_ref()
            .is_some_and(|b| concurrent(b, region, entry))
        {
            turn.note(Note::Merged);
        }
        let chosen = before.as_ref().map_or(Ballot::ZERO, |r| r.chosen);
        let (record, changed) = Record::apply(before, region, entry, change, self.rules);
        if change.chosen > Ballot::ZERO {
            self.unsettled.settle(&change.row, change.chosen);
        }
        if changed || record.chosen > chosen {
            turn.store(Family::Data, change.row.as_bytes().clone(), &record);
        }
    }

    /// Joins a chosen value into the eventual view without a log entry. Only mutants call it.
    pub(super) fn join_view(&mut self, turn: &mut Turn<'_>, change: &Change, entry: &Entry) {
        if let Ok(before) = self.record(turn, &change.row) {
            let (record, _) = Record::apply(before, self.me.region, entry, change, self.rules);
            turn.store(Family::Data, change.row.as_bytes().clone(), &record);
        }
    }

    /// Reads back own entries that were logged but not committed before a restart.
    pub(super) fn restore_uncommitted(&mut self, reader: &dyn Reader) -> Result<(), Damaged> {
        for (shard, held) in &mut self.shards {
            for origin in &self.origins {
                let Some(log) = held.logs.get(origin).copied() else {
                    continue;
                };
                for seq in log.applied + 1..=log.logged {
                    let key = layout::entry(*shard, *origin, seq);
                    let record = reader.get(Family::Log, &key)?.ok_or_else(|| Damaged {
                        family: Family::Log,
                        what: "an entry within the log's prefix is missing".into(),
                    })?;
                    let entry =
                        Entry::from_record(&record).map_err(|e| damaged(Family::Log, &e))?;
                    self.uncommitted.insert((entry.hlc, *shard, *origin, seq));
                    held.uncommitted.insert((*origin, seq), entry);
                }
            }
        }
        Ok(())
    }
}

/// The regions in which an own entry is durable on a majority of the replicas.
fn durable_regions(
    held: &super::shard::Shard,
    own: RegionId,
    origin: Origin,
    seq: Seq,
) -> Vec<RegionId> {
    let holds = |node: NodeId| {
        let known = held.acknowledged.get(&(origin, node));
        known.is_some_and(|end| *end >= seq)
    };
    let committed = held.applied(origin) >= seq;
    held.voters
        .regions()
        .keys()
        .filter(|region| match **region == own {
            true => committed,
            false => held.voters.region_reached(**region, holds),
        })
        .copied()
        .collect()
}

/// Whether another region changed the row after the entry was written: neither saw the other.
fn concurrent(before: &Record, region: RegionId, entry: &Entry) -> bool {
    let other = |(r, hlc): (RegionId, Hlc)| r != region && hlc > entry.hlc;
    before.touched.iter().any(other)
}
