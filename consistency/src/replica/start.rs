//! May this start vote? A node votes only if it remembers every vote it ever gave.
//!
//! Every vote and heartbeat carries the sender's store sequence, and peers write down
//! the highest one they used. At start a node asks everybody it shares a shard with:
//! an answer fences the node's earlier starts (their messages still under way no longer
//! count) and tells the highest sequence seen. If nobody saw more than the store holds,
//! and a quorum answered, it votes as before. Otherwise it has lost data: it refills from
//! its peers, serves eventual reads, and does not vote (model `lost_tail.rs`).
//!
//! Until the answers are in, new entries go to a fresh origin, so that no log position is
//! ever used twice.
//!
//! A start that ends before the answers are in leaves the question to the next one: it is still
//! about the store as the first of them found it ([`Sure`]), however much was written since.
//! What they wrote meanwhile is not known to peers by sequence, so no vote rests on it.
//!
//! All this rests on numbers that tell any two starts apart, also two starts on the same copy
//! of a whole data directory, which remembers neither of them: see [`next_start`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::codec::{Decoded, Decoder, Encode, Encoder};
use crate::effect::Note;
use crate::key::{NodeId, ShardId};
use crate::layout;
use crate::message::Message;
use crate::port::{Damaged, Family, Reader};
use crate::quorum::Voters;
use crate::rules::{Mutant, Rules};
use crate::topology::Topology;
use crate::version::Origin;

use super::peer::Peer;
use super::shard::{EpochRecord, LogState, Shard};
use super::turn::{Turn, damaged};
use super::{Me, Replica};

/// Whether this node may vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It asks its peers what they saw of its earlier starts.
    Asking {
        /// Who answered that it saw nothing more.
        answered: BTreeSet<NodeId>,
    },
    /// It remembers every vote it gave.
    Voting,
    /// It lost data: eventual and session reads only, until it is readmitted.
    Lost,
}

impl Standing {
    pub(super) fn opened(lost: bool, rules: Rules) -> Standing {
        match (lost, rules.broken(Mutant::IncarnationReused)) {
            (true, false) => Standing::Lost,
            (_, true) => Standing::Voting,
            (false, false) => Standing::Asking {
                answered: BTreeSet::new(),
            },
        }
    }

    /// The word used in status, metrics and docs.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::Asking { .. } => "asking",
            Standing::Voting => "voting",
            Standing::Lost => "lost",
        }
    }
}

/// What was seen of a peer, as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// Messages of starts before this one are dropped.
    pub(super) fence: u64,
    /// The newest start heard of: the sequences of that one are not those of an earlier one.
    pub(super) start: u64,
    /// The highest store sequence seen in starts before that one.
    pub(super) before: u64,
    /// The highest store sequence seen at all.
    pub(super) sequence: u64,
}

impl Encode for Seen {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.fence);
        out.number(self.start);
        out.number(self.before);
        out.number(self.sequence);
    }
    fn decode(input: &mut Decoder) -> Decoded<Seen> {
        Ok(Seen {
            fence: input.number("fence")?,
            start: input.number("start")?,
            before: input.number("sequence before")?,
            sequence: input.number("sequence")?,
        })
    }
}

/// Up to where the store is known to have lost nothing; what lies behind was written before peers answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sure {
    /// Store sequences up to this.
    pub(super) sequence: u64,
    /// Own entries with a clock up to this.
    pub(super) newest: Hlc,
}

impl Sure {
    /// Peers answered, and the store goes on from there.
    pub(super) const ALL: Sure = Sure {
        sequence: u64::MAX,
        newest: Hlc(u64::MAX),
    };
}

impl Encode for Sure {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.sequence);
        out.number(self.newest.0);
    }
    fn decode(input: &mut Decoder) -> Decoded<Sure> {
        Ok(Sure {
            sequence: input.number("sure sequence")?,
            newest: Hlc(input.number("sure clock")?),
        })
    }
}

/// Own origins, as stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Origins(pub(super) Vec<Origin>);

impl Encode for Origins {
    fn encode(&self, out: &mut Encoder) {
        out.list(self.0.iter().copied());
    }
    fn decode(input: &mut Decoder) -> Decoded<Origins> {
        Ok(Origins(input.list("origins")?))
    }
}

/// Under which stands that this store lost data and was not readmitted since.
const LOST: &[u8] = b"lost";

/// What a store says at open.
pub(super) struct Stored {
    pub(super) clock: Hlc,
    /// The clock of the newest own entry, in whatever shard.
    pub(super) newest: Hlc,
    pub(super) sequence: u64,
    pub(super) sure: Sure,
    pub(super) lost: bool,
    pub(super) origins: Vec<Origin>,
    pub(super) shards: BTreeMap<ShardId, Shard>,
    pub(super) peers: BTreeMap<NodeId, Peer>,
}

impl Stored {
    pub(super) fn load(
        me: &Me,
        topology: &Topology,
        reader: &dyn Reader,
    ) -> Result<Stored, Damaged> {
        let mut shards = shards_of(me.node, topology);
        let mut peers = peers_of(me.node, topology, &shards);
        let mut newest = Hlc::ZERO;
        read_named::<LogState>(reader, layout::LOG, |key, state| {
            if let Some((shard, origin)) = layout::log_state_of(key)
                && let Some(held) = shards.get_mut(&shard)
            {
                if origin.node == me.node {
                    newest = newest.max(state.hlc);
                }
                held.logs.insert(origin, state);
            }
        })?;
        read_named::<EpochRecord>(reader, layout::EPOCH, |key, record| {
            if let Some(held) = layout::epoch_of(key).and_then(|s| shards.get_mut(&s)) {
                held.epoch = record;
            }
        })?;
        read_named::<Seen>(reader, layout::SEEN, |key, seen| {
            if let Some(peer) = layout::seen_of(key).and_then(|n| peers.get_mut(&n)) {
                peer.fence = seen.fence;
                peer.start = seen.start;
                peer.seen_before = seen.before;
                peer.seen_sequence = seen.sequence;
            }
        })?;
        Ok(Stored {
            clock: read_meta(reader, layout::CLOCK)?.unwrap_or(Hlc::ZERO),
            newest,
            sequence: read_meta(reader, layout::SEQUENCE)?.unwrap_or(0),
            sure: read_meta(reader, layout::SURE)?.unwrap_or(Sure::ALL),
            lost: reader.get(Family::Meta, LOST)?.is_some(),
            origins: read_meta::<Origins>(reader, layout::ORIGINS)?
                .unwrap_or_default()
                .0,
            shards,
            peers,
        })
    }
}

/// Bits of a conversation's number that count within one start: enough for a million a second over
/// twelve days. The 24 bits above name the start.
const NUMBER_BITS: u32 = 40;

/// Where a start begins to number its conversations and requests, so that an answer to an earlier start
/// fits none of this one. The lowest 24 bits of start numbers are as good as random: that two starts between
/// which an answer was under way have the same is one chance in 16 million.
pub(super) fn first_number(start: u64) -> u64 {
    // Shifting drops the start's higher bits.
    start << NUMBER_BITS
}

/// Whether two numbers of conversations are of one start.
pub(super) fn same_start(one: u64, other: u64) -> bool {
    one >> NUMBER_BITS == other >> NUMBER_BITS
}

/// How far beyond the clock a start number may lie, nanoseconds: 16 ms, less than any start takes.
const START_STEP_MAX: u64 = 1 << 24;

/// The number of a start after `previous` (0 if none is known), at the time `wall` since 1970 as the machine
/// believes it, with a fresh `random` number of the full range.
///
/// It is higher than `previous`, and no other start of the node has it: not one that began on the same copy
/// of the data directory, because the clock went on; should the clock stand still or be set back, the random
/// part differs. Were it the same, peers would take what they saw of the one for the other's, and its loss
/// would not be noticed.
pub fn next_start(previous: u64, wall: Duration, random: u64) -> u64 {
    let clock = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
    let step = 1 + random % START_STEP_MAX;
    previous.max(clock).saturating_add(step)
}

fn read_meta<T: Encode>(reader: &dyn Reader, key: &[u8]) -> Result<Option<T>, Damaged> {
    let decode = |bytes: Bytes| T::from_record(&bytes).map_err(|e| damaged(Family::Meta, &e));
    reader.get(Family::Meta, key)?.map(decode).transpose()
}

fn read_named<T: Encode>(
    reader: &dyn Reader,
    start: &[u8],
    mut take: impl FnMut(&[u8], T),
) -> Result<(), Damaged> {
    let end = crate::key::prefix_end(start);
    let mut failed = None;
    reader.scan(
        Family::Meta,
        start,
        end.as_deref(),
        &mut |key, value| match T::from_record(&value) {
            Ok(record) => {
                take(key, record);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(damaged(Family::Meta, &error));
                ControlFlow::Break(())
            }
        },
    )?;
    failed.map_or(Ok(()), Err)
}

fn shards_of(node: NodeId, topology: &Topology) -> BTreeMap<ShardId, Shard> {
    topology
        .shards()
        .map(|shard| (shard, Voters::new(topology.replicas(shard))))
        .filter(|(_, voters)| voters.contains(node))
        .map(|(shard, voters)| (shard, Shard::new(voters)))
        .collect()
}

fn peers_of(
    node: NodeId,
    topology: &Topology,
    shards: &BTreeMap<ShardId, Shard>,
) -> BTreeMap<NodeId, Peer> {
    let others = topology
        .regions
        .iter()
        .flat_map(|(region, nodes)| nodes.iter().map(move |n| (*n, *region)))
        .filter(|(n, _)| *n != node);
    others
        .map(|(n, region)| {
            let shared = shards.iter().filter(|(_, held)| held.voters.contains(n));
            let shared = shared.map(|(shard, _)| *shard).collect();
            (n, Peer::new(region, shared))
        })
        .collect()
}

impl Replica {
    /// The first event of a start.
    pub(super) fn on_started(&mut self, turn: &mut Turn<'_>) {
        self.recent.begin_start(turn.now);
        if self.standing == Standing::Lost {
            turn.note(Note::DataLost);
            turn.put(Family::Meta, LOST.to_vec().into(), 1u64.to_record());
            self.begin_refill();
        }
        if matches!(self.standing, Standing::Asking { .. }) {
            let sure = Sure {
                sequence: self.sure_sequence(),
                newest: self.opened_newest,
            };
            turn.store(Family::Meta, layout::SURE.to_vec().into(), &sure);
        }
        self.settle_standing(turn);
        self.schedule_heartbeats(turn);
    }

    /// The store sequence up to which peers have to remember this store. The first write makes a store one
    /// that is not empty, which they have to remember in any case.
    fn sure_sequence(&self) -> u64 {
        self.opened_sequence.max(1)
    }

    /// The store sequence that a message carries: what was written before peers answered is none of theirs.
    pub(super) fn told_sequence(&self, turn: &Turn<'_>) -> u64 {
        let now = self.store_sequence + u64::from(turn.has_written());
        match self.standing {
            Standing::Asking { .. } => now.min(self.sure_sequence()),
            Standing::Voting | Standing::Lost => now,
        }
    }

    /// The origin new entries go to; a fresh one while it is not sure where the old one ends.
    pub(super) fn open_origin(&mut self, turn: &mut Turn<'_>) -> Origin {
        let sure = self.standing == Standing::Voting || self.fresh_origin;
        if let Some(origin) = self.origins.last().filter(|_| sure) {
            return *origin;
        }
        // A store without origins may have had one: it may be older than its first entry.
        let first = self.origins.is_empty() && self.standing == Standing::Voting;
        let incarnation = match first {
            true => self.me.incarnation,
            false => {
                turn.note(Note::OriginRenewed);
                (self.random.next() as u32).max(1)
            }
        };
        let origin = Origin {
            node: self.me.node,
            incarnation,
        };
        self.origins.push(origin);
        self.fresh_origin = true;
        let stored = Origins(self.origins.clone());
        turn.store(Family::Meta, layout::ORIGINS.to_vec().into(), &stored);
        origin
    }

    /// A peer started: tells what was seen of it, and fences its earlier starts, durably.
    pub(super) fn on_start_ask(&mut self, turn: &mut Turn<'_>, from: NodeId) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        peer.fence = peer.start;
        let (seen, seen_start) = (peer.seen_before, peer.start);
        self.store_seen(turn, from);
        let lost = self.standing == Standing::Lost;
        self.send(
            turn,
            from,
            Message::StartAnswer {
                seen,
                seen_start,
                lost,
            },
        );
    }

    /// Writes down what was seen of a peer.
    pub(super) fn store_seen(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.seen_stored = true;
            let seen = Seen {
                fence: peer.fence,
                start: peer.start,
                before: peer.seen_before,
                sequence: peer.seen_sequence,
            };
            turn.store(Family::Meta, layout::seen(node), &seen);
        }
    }

    /// Writes down what was seen of a peer since it was written down last.
    pub(super) fn store_seen_of(&mut self, turn: &mut Turn<'_>, node: NodeId) {
        if self.peers.get(&node).is_some_and(|peer| !peer.seen_stored) {
            self.store_seen(turn, node);
        }
    }

    /// Writes down every sequence seen since: at the latest with the commit entry that used the vote.
    pub(super) fn store_all_seen(&mut self, turn: &mut Turn<'_>) {
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in peers {
            self.store_seen_of(turn, node);
        }
    }

    /// A peer tells what it saw of this node.
    pub(super) fn on_start_answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        seen: u64,
        seen_start: u64,
        lost: bool,
    ) {
        if self.rules.broken(Mutant::IncarnationReused) {
            return;
        }
        if seen > self.opened_sequence || seen_start > self.me.start {
            self.lose_vote(turn);
            self.begin_refill();
            if seen_start > self.me.start {
                // Peers drop what a start says that is older than one they know. Not durable: the next
                // start learns the same again.
                self.me.start = seen_start.saturating_add(1 + self.random.next() % START_STEP_MAX);
            }
            return;
        }
        // An answer to an earlier start does not know what that start voted since. An answer to this one
        // names it: the question brought its number along.
        if let Standing::Asking { answered } = &mut self.standing
            && !lost
            && seen_start == self.me.start
        {
            answered.insert(from);
            self.settle_standing(turn);
        }
    }

    /// Votes from now on, if a quorum of every shard answered.
    fn settle_standing(&mut self, turn: &mut Turn<'_>) {
        let Standing::Asking { answered } = &self.standing else {
            return;
        };
        let me = self.me.node;
        let sure = |held: &Shard| held.voters.reached(|n| n == me || answered.contains(&n));
        if !self.shards.values().all(sure) {
            return;
        }
        if !self.opened_sure {
            // Had the start before lost the end of its log, peers could not tell.
            self.open_origin(turn);
        }
        self.standing = Standing::Voting;
        turn.store(Family::Meta, layout::SURE.to_vec().into(), &Sure::ALL);
        turn.note(Note::VotesAgain);
        // Peers learn of it at once, so that nobody is refused a quorum for a second.
        let up: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.up)
            .map(|(n, _)| *n)
            .collect();
        for node in up {
            self.send_heartbeat(turn, node);
        }
        self.schedule_heartbeats(turn);
    }

    /// This node lost data, or can not be sure that it did not: it votes no more.
    pub(super) fn lose_vote(&mut self, turn: &mut Turn<'_>) {
        if self.standing == Standing::Lost {
            return;
        }
        self.standing = Standing::Lost;
        turn.note(Note::DataLost);
        turn.put(Family::Meta, LOST.to_vec().into(), 1u64.to_record());
        self.refuse_unreachable(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn start_numbers_follow_the_clock_and_rise_when_it_does_not() {
        let clock = Duration::from_secs(100);
        for random in [0, 1, START_STEP_MAX - 1, u64::MAX] {
            let first = next_start(0, clock, random);
            assert!(first > 100 * SECOND && first < 101 * SECOND);
            for wall in [clock, Duration::ZERO] {
                let second = next_start(first, wall, random);
                assert!(second > first && second < 102 * SECOND);
            }
            assert!(next_start(first, 2 * clock, random) > 200 * SECOND);
        }
    }

    #[test]
    fn two_starts_on_one_copy_have_different_numbers() {
        let (copy, clock) = (50 * SECOND, Duration::from_secs(100));
        let first = next_start(copy, clock, 7);
        assert!(next_start(copy, clock + Duration::from_secs(1), 7) > first);
        // The clock stands still, or was set back.
        assert_ne!(next_start(copy, clock, 8), first);
        let behind = Duration::from_secs(1);
        assert_ne!(next_start(copy, behind, 7), next_start(copy, behind, 8));
    }

    #[test]
    fn what_an_earlier_start_sent_is_not_echoed_to_this_one() {
        // Later starts may number lower: only some bits of a start's number are in those of its heartbeats.
        let (earlier, now) = (first_number(9), first_number(5));
        let mut peer = Peer::new(crate::key::RegionId(1), Vec::new());
        peer.sent_ping(now + 1, Duration::ZERO);
        let echo = |peer: &mut Peer, ping| peer.take_echo(ping, Duration::ZERO, Duration::ZERO);
        assert_eq!(echo(&mut peer, earlier + 1), None);
        assert_eq!(peer.echoed, 0);
        assert_eq!(echo(&mut peer, now + 1), Some(Duration::ZERO));
        assert_eq!(peer.echoed, now + 1);
    }
}
