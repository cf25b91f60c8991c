//! Origin logs: appending to the own one, committing it in the region, applying everybody's.
//!
//! An own entry is durable here with the step's batch (D1). With one replica in the
//! region that commits it; with more, it is committed once a majority of the region's
//! replicas hold it durably (D2), and only then is it applied, acknowledged to the
//! client and shipped to other regions. The eventual view changes here and nowhere else.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::codec::Encode;
use crate::effect::Note;
use crate::key::{NodeId, RegionId, ShardId};
use crate::limits::{PUSH_AGAIN_MS, PUSH_BYTES_MAX};
use crate::message::{Append, Message, Run};
use crate::port::{Damaged, Family, Reader};
use crate::quorum::majority;
use crate::record::{Change, Entry, Record};
use crate::request::Level;
use crate::rules::Mutant;
use crate::version::{Ballot, Dot, Origin, Seq};
use crate::{clock, layout};

use super::jobs::{Job, JobId};
use super::peer::Peer;
use super::shard::{LogState, Pushed, Shard, Waiting};
use super::turn::{Turn, damaged};
use super::{Replica, Standing};

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
        let record = entry.to_record();
        let dot = Dot { origin, seq };
        self.uncommitted.insert(entry.hlc, shard, dot, record.len());
        turn.put(Family::Log, layout::entry(shard, origin, seq), record);
        turn.store(Family::Meta, layout::log_state(shard, origin), &state);
        held.changed_at = pings;
        held.uncommitted.insert((origin, seq), entry);
        for waiting in waiting {
            wait_for(&mut self.jobs, held, dot, waiting);
        }
        let alone = self.rules.broken(Mutant::CommittedAlone);
        if alone || held.voters.region_reached(region, |node| node == me) {
            self.commit_own(turn, shard, origin, seq);
        } else {
            self.push(turn, shard, origin);
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
        wait_for(&mut self.jobs, held, dot, waiting);
        self.release(turn, shard, dot.origin, dot.seq..=dot.seq);
    }

    /// A job waits for an own entry no longer.
    pub(super) fn forget_waiting(&mut self, shard: ShardId, dot: Dot, job: JobId) {
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let name = (dot.origin, dot.seq);
        if let Some(waiting) = held.waiting.get_mut(&name) {
            waiting.retain(|w| w.job != job);
            if waiting.is_empty() {
                held.waiting.remove(&name);
            }
        }
    }

    /// Sends the region's other replicas what they were not sent of an own log's uncommitted end.
    fn push(&mut self, turn: &mut Turn<'_>, shard: ShardId, origin: Origin) {
        for node in self.neighbours(shard) {
            self.push_to(turn, shard, origin, node);
        }
    }

    /// The region's other replicas of a shard.
    fn neighbours(&self, shard: ShardId) -> Vec<NodeId> {
        let held = self.shards.get(&shard);
        let nodes = held.and_then(|held| held.voters.regions().get(&self.me.region));
        let others = nodes.into_iter().flatten().copied();
        others.filter(|node| *node != self.me.node).collect()
    }

    /// What was just appended goes out at once; a backlog piece by piece, as it is acknowledged.
    fn push_to(&mut self, turn: &mut Turn<'_>, shard: ShardId, origin: Origin, node: NodeId) {
        let neighbour = |p: &Peer| p.up && p.region == self.me.region;
        let takes = self.peers.get(&node).is_some_and(neighbour);
        let Some(held) = self.shards.get_mut(&shard).filter(|_| takes) else {
            return;
        };
        let logged = held.logs.get(&origin).map_or(0, |log| log.logged);
        let (upto, under_way) = held.pushed_to(origin, node);
        if upto >= logged || (under_way && upto + 1 < logged) {
            return;
        }
        let first = upto + 1;
        let range = held.uncommitted.range((origin, first)..=(origin, logged));
        let entries = first_piece(range.map(|(_, entry)| entry.to_record()));
        if entries.is_empty() {
            return;
        }
        let pushed = held.pushed.entry((origin, node)).or_default();
        pushed.upto = upto + entries.len() as Seq;
        if !under_way {
            pushed.waits_since = turn.now.monotonic;
        }
        let append = Append {
            shard,
            run: Run {
                origin,
                first,
                entries,
            },
            committed: held.applied(origin),
            others: held.other_ends(origin),
            place: None,
        };
        self.send(turn, node, Message::Append(append));
    }

    /// Own logs with uncommitted entries.
    fn uncommitted_logs(&self) -> Vec<(ShardId, Origin)> {
        let logs = |(shard, held): (&ShardId, &Shard)| {
            let shard = *shard;
            let waits = |origin: &&Origin| held.first_uncommitted(**origin).is_some();
            let origins: Vec<Origin> = self.origins.iter().filter(waits).copied().collect();
            origins.into_iter().map(move |origin| (shard, origin))
        };
        let waiting = self
            .shards
            .iter()
            .filter(|(_, s)| !s.uncommitted.is_empty());
        waiting.flat_map(logs).collect()
    }

    /// A stream to a replica stands: nothing sent before is under way any more.
    pub(super) fn push_from_start(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        if self.topology.region_of(node) != Some(self.me.region) {
            return;
        }
        for (shard, origin) in self.uncommitted_logs() {
            if let Some(held) = self
                .shards
                .get_mut(&shard)
                .filter(|h| h.voters.contains(node))
            {
                held.pushed.remove(&(origin, node));
                self.push_to(turn, shard, origin, node);
            }
        }
    }

    /// Pushes again what was lost on its way or is not acknowledged for other reasons.
    pub(super) fn push_again(&mut self, turn: &mut Turn<'_>) {
        for (shard, origin) in self.uncommitted_logs() {
            for node in self.neighbours(shard) {
                self.push_again_to(turn, shard, origin, node);
            }
        }
    }

    fn push_again_to(&mut self, turn: &mut Turn<'_>, shard: ShardId, origin: Origin, node: NodeId) {
        let patience = Duration::from_millis(PUSH_AGAIN_MS);
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let overdue = |p: &Pushed| turn.now.monotonic >= p.waits_since + patience;
        let again = held.pushed.get(&(origin, node)).is_some_and(overdue);
        if again {
            held.pushed.remove(&(origin, node));
        }
        self.push_to(turn, shard, origin, node);
        // A probe must not make this step one that says something.
        if again && turn.has_said() {
            turn.note(Note::PushedAgain);
        }
    }

    /// Own entries up to `upto` are durable on a majority of the region: they count from now on.
    fn commit_own(&mut self, turn: &mut Turn<'_>, shard: ShardId, origin: Origin, upto: Seq) {
        let Some(held) = self.shards.get(&shard) else {
            return;
        };
        let first = held.applied(origin) + 1;
        let mut entries = self.take_uncommitted(shard, origin, upto);
        if entries.is_empty() {
            return;
        }
        let records = entries.values().map(|e| (e.hlc, e.to_record())).collect();
        self.apply_up_to(turn, shard, origin, upto, &mut entries);
        self.ship(turn, shard, origin, first, records);
        self.release(turn, shard, origin, first..=upto);
        self.wake_sessions(turn, shard);
    }

    /// Own entries up to `upto` count as uncommitted no longer.
    fn take_uncommitted(
        &mut self,
        shard: ShardId,
        origin: Origin,
        upto: Seq,
    ) -> BTreeMap<Seq, Entry> {
        let mut taken = BTreeMap::new();
        let Some(held) = self.shards.get_mut(&shard) else {
            return taken;
        };
        while let Some(seq) = held.first_uncommitted(origin).filter(|seq| *seq <= upto) {
            let Some(entry) = held.uncommitted.remove(&(origin, seq)) else {
                break;
            };
            self.uncommitted
                .remove(entry.hlc, shard, Dot { origin, seq });
            taken.insert(seq, entry);
        }
        taken
    }

    /// Pushes committed own entries to other regions, and the news of it to the own region. What does not
    /// fit into one push is left to the receivers: they see the gap, and pull.
    fn ship(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        origin: Origin,
        first: Seq,
        entries: Vec<(Hlc, Bytes)>,
    ) {
        let Some(held) = self.shards.get(&shard) else {
            return;
        };
        let committed = held.applied(origin);
        let others = held.other_ends(origin);
        let place = |node| (node, held.voters.region_of(node) == Some(self.me.region));
        let others_nodes = held.voters.nodes().filter(|node| *node != self.me.node);
        let targets: Vec<(NodeId, bool)> = others_nodes.map(place).collect();
        let piece = first_piece(entries.iter().map(|(_, record)| record.clone()));
        let whole = piece.len() == entries.len();
        let mut complete = self.complete_up_to(shard, origin);
        if let Some((last, _)) = entries.get(piece.len() - 1).filter(|_| !whole) {
            complete = complete.min(*last);
        }
        for (node, near) in targets {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            let place = (!near).then(|| peer.next_place(complete));
            if !(near || whole) {
                peer.skip_push();
            }
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
                        entries: piece.clone(),
                    },
                    committed,
                    others: others.clone(),
                    place,
                }),
            };
            self.send(turn, node, message);
        }
    }

    /// Every own entry with a clock up to this, in whatever shard, is committed when this one is.
    fn complete_up_to(&self, shard: ShardId, origin: Origin) -> Hlc {
        let held = self.shards.get(&shard);
        let log = held.and_then(|held| held.logs.get(&origin));
        match self.uncommitted.oldest() {
            Some(oldest) if !self.rules.broken(Mutant::PushesHideUncommitted) => Hlc(oldest.0 - 1),
            _ => log.map_or(Hlc::ZERO, |log| log.hlc),
        }
    }

    /// Answers whoever waited for one of these own entries and has it durable where it wants it.
    fn release(
        &mut self,
        turn: &mut Turn<'_>,
        shard: ShardId,
        origin: Origin,
        seqs: RangeInclusive<Seq>,
    ) {
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let (first, last) = (*seqs.start(), held.applied(origin).min(*seqs.end()));
        if first > last {
            return;
        }
        let mut ready = Vec::new();
        let waited_for = held.waiting.range((origin, first)..=(origin, last));
        let seqs: Vec<Seq> = waited_for.map(|((_, seq), _)| *seq).collect();
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
        let last = last_of(&run);
        let near = self.topology.region_of(from) == Some(self.me.region);
        // What comes from another region is committed there.
        let committed = if near { committed } else { last };
        if !self.take_run(turn, shard, run, committed) {
            self.catch_up(turn, from, [(shard, 1)]);
        }
        let Some(held) = self.shards.get_mut(&shard) else {
            return;
        };
        let trusted = self.peers.get(&from).is_some_and(|peer| peer.votes);
        if trusted || self.rules.broken(Mutant::TrustsWhoeverStarts) {
            held.learn_safe_time(origin, last, &others);
        }
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
        from: NodeId,
        shard: ShardId,
        origin: Origin,
        seq: Seq,
    ) {
        if origin.node != from {
            return;
        }
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
        let before = *known;
        *known = before.max(seq.min(log.logged));
        let now_held = *known;
        if now_held == before {
            // It holds no more than it did: what is under way to it may have met a gap.
            self.push_again_to(turn, shard, origin, from);
            return;
        }
        if let Some(pushed) = held.pushed.get_mut(&(origin, from)) {
            pushed.waits_since = turn.now.monotonic;
        }
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
        self.release(turn, shard, origin, before + 1..=now_held);
        self.push_to(turn, shard, origin, from);
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
        let more = logged > log.logged;
        if more {
            log.logged = logged;
            let state = *log;
            turn.store(Family::Meta, layout::log_state(shard, origin), &state);
            // In one batch with the entries: their places are told again should their writer forget them.
            self.store_seen_of(turn, origin.node);
        }
        self.apply_up_to(turn, shard, origin, committed.min(logged), &mut fresh);
        if origin.node == self.me.node {
            if more && self.standing != Standing::Lost {
                // Nothing of an own log leaves before it is durable: this store came back shorter.
                self.lose_vote(turn);
                self.begin_refill();
            }
            // Others hold more of an own log than was known here: it is committed.
            let applied = self.shards.get(&shard).map_or(0, |s| s.applied(origin));
            self.take_uncommitted(shard, origin, applied);
            self.release(turn, shard, origin, 0..=applied);
        }
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
                    let dot = Dot {
                        origin: *origin,
                        seq,
                    };
                    self.uncommitted
                        .insert(entry.hlc, *shard, dot, record.len());
                    held.uncommitted.insert((*origin, seq), entry);
                }
            }
        }
        Ok(())
    }
}

/// The seq of a run's last entry.
pub(super) fn last_of(run: &Run) -> Seq {
    let behind = run.first.saturating_add(run.entries.len() as Seq);
    behind.saturating_sub(1)
}

/// As many of the entries as one push holds.
fn first_piece(entries: impl Iterator<Item = Bytes>) -> Vec<Bytes> {
    let mut room = PUSH_BYTES_MAX;
    let fits = |entry: &Bytes| {
        let fits = room > 0;
        room = room.saturating_sub(entry.len());
        fits
    };
    entries.take_while(fits).collect()
}

/// Lets a reply wait for an own entry, if anybody waits for the reply.
fn wait_for(jobs: &mut BTreeMap<JobId, Job>, held: &mut Shard, dot: Dot, waiting: Waiting) {
    if let Some(job) = jobs.get_mut(&waiting.job) {
        job.entry = Some(dot);
        let name = (dot.origin, dot.seq);
        held.waiting.entry(name).or_default().push(waiting);
    }
}

/// The regions in which an own entry is durable on a majority of the replicas.
fn durable_regions(held: &Shard, own: RegionId, origin: Origin, seq: Seq) -> Vec<RegionId> {
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
