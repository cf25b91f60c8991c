//! What a replica knows of one peer: whether it answers, how far away it is, and up to
//! when its writes are known here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::Hlc;
use crate::key::{RegionId, ShardId};
use crate::limits::{
    DELEGATE_MISSES_MAX, DELEGATE_SHUNNED_MS, HEARTBEAT_BUSY_MS, LAGS_PER_PEER_MAX, PEER_SILENT_MS,
    PULLS_PER_PEER_MAX, ROUND_TRIP_UNKNOWN_MS, SESSION_PULLS_PER_PEER_MAX,
};
use crate::message::Place;
use crate::version::{Origin, Seq};

use super::start::same_start;

/// Forwarded requests whose numbers are remembered, so that a repeated message is not served twice.
const SERVED_KEPT: usize = 4096;

/// A pull not answered for this long may be asked again.
const PULL_PATIENCE: Duration = Duration::from_secs(2);

/// Heartbeats whose sending time is remembered, to measure echoes.
const PINGS_KEPT: usize = 256;

/// Up to when a peer's writes are known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Known {
    /// Everything it wrote with a clock up to this is applied.
    pub(super) hlc: Hlc,
    /// Everything it had at this local time is applied; `None` before the first echo.
    pub(super) fresh_at: Option<Duration>,
}

/// A shard in which entries the peer stated are still missing here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Behind {
    pub(super) stated: BTreeMap<Origin, Seq>,
    /// What was known before those were stated.
    pub(super) known: Known,
}

/// What a pull is for; each purpose has its own allowance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// To catch up.
    Repair,
    /// A session waits.
    Session,
}

/// One peer.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) region: RegionId,
    /// Shards both hold.
    pub(super) shared: Vec<ShardId>,
    pub(super) up: bool,
    pub(super) heard_at: Option<Duration>,
    /// When the newest heartbeat of ours was sent that it echoed: proof that both directions work.
    pub(super) answered_at: Option<Duration>,
    pub(super) round_trip: Option<Duration>,
    /// Its round trip to its nearest majority of regions, as it says.
    pub(super) quorum: Option<Duration>,
    /// The peer's start and incarnation its newest message came from; 0 before the first.
    pub(super) start: u64,
    pub(super) incarnation: u32,
    /// The lowest start whose messages are taken.
    pub(super) fence: u64,
    /// The highest store sequence seen in starts before this one.
    pub(super) seen_before: u64,
    /// The highest store sequence seen at all, and whether that is written down.
    pub(super) seen_sequence: u64,
    pub(super) seen_stored: bool,
    /// Whether it told of its store in its present start.
    pub(super) told: bool,
    pub(super) votes: bool,
    pub(super) lost: bool,
    /// The number and arrival of its newest heartbeat.
    pub(super) last_ping: Option<(u64, Duration)>,
    /// Our heartbeats under way: number and sending time.
    pub(super) pings: VecDeque<(u64, Duration)>,
    /// Our newest heartbeat it echoed in its present start.
    pub(super) echoed: u64,
    /// Our newest heartbeat sent to it.
    pub(super) pinged: u64,
    pub(super) heartbeat_at: Duration,
    pub(super) heartbeat_sent_at: Duration,
    pub(super) digest_sent_at: Option<Duration>,
    pub(super) busy_until: Duration,
    /// Pushes to it since our newest heartbeat, also those that could not be sent.
    pub(super) pushed: u64,
    /// Its pushes taken since its newest heartbeat, without a gap.
    followed: u64,
    pub(super) known: Known,
    pub(super) behind: BTreeMap<ShardId, Behind>,
    /// Delegations in a row that it did not answer in time.
    missed: u8,
    /// Until when no group is delegated to it.
    pub(super) shunned_until: Duration,
    /// Until when its or our clock is disputed.
    pub(super) clock_disputed_until: Duration,
    pub(super) exchange_at: Duration,
    /// Pulls under way: when asked, and what for.
    pulls: BTreeMap<ShardId, (Duration, Purpose)>,
    /// Shards in which it is ahead and that are not pulled yet, with by how much.
    lags: BTreeMap<ShardId, Seq>,
    /// The last shard whose vectors it was shown in an exchange.
    pub(super) shown: Option<ShardId>,
    /// The newest requests it forwarded in its present start.
    served: BTreeSet<u64>,
}

impl Peer {
    pub(super) fn new(region: RegionId, shared: Vec<ShardId>) -> Peer {
        Peer {
            region,
            shared,
            up: false,
            heard_at: None,
            answered_at: None,
            round_trip: None,
            quorum: None,
            start: 0,
            incarnation: 0,
            fence: 0,
            seen_before: 0,
            seen_sequence: 0,
            seen_stored: true,
            told: false,
            votes: false,
            lost: false,
            last_ping: None,
            pings: VecDeque::new(),
            echoed: 0,
            pinged: 0,
            heartbeat_at: Duration::ZERO,
            heartbeat_sent_at: Duration::ZERO,
            digest_sent_at: None,
            busy_until: Duration::ZERO,
            pushed: 0,
            followed: 0,
            known: Known::default(),
            behind: BTreeMap::new(),
            missed: 0,
            shunned_until: Duration::ZERO,
            clock_disputed_until: Duration::ZERO,
            exchange_at: Duration::ZERO,
            pulls: BTreeMap::new(),
            lags: BTreeMap::new(),
            shown: None,
            served: BTreeSet::new(),
        }
    }

    /// It did not answer a delegation in time; whether it is shunned for that from now on.
    pub(super) fn miss(&mut self, now: Duration) -> bool {
        self.missed = self.missed.saturating_add(1);
        let shunned = self.missed >= DELEGATE_MISSES_MAX;
        if shunned {
            self.shunned_until = now + Duration::from_millis(DELEGATE_SHUNNED_MS);
        }
        shunned
    }

    /// It answered a delegation, however late.
    pub(super) fn answers(&mut self) {
        self.missed = 0;
        self.shunned_until = Duration::ZERO;
    }

    /// Whether a forwarded request is new; older ones than are remembered count as known.
    pub(super) fn first_forward(&mut self, number: u64) -> bool {
        let full = self.served.len() >= SERVED_KEPT;
        if full && self.served.first().is_some_and(|oldest| number < *oldest) {
            return false;
        }
        let first = self.served.insert(number);
        if self.served.len() > SERVED_KEPT {
            self.served.pop_first();
        }
        first
    }

    /// A new start of the peer: its numbers and our conversation begin again.
    pub(super) fn begin_start(&mut self, start: u64) {
        self.seen_before = self.seen_before.max(self.seen_sequence);
        self.start = start;
        self.told = false;
        self.votes = false;
        self.served.clear();
        self.forget_conversation();
    }

    /// Whether messages are believed to get through both ways.
    pub(super) fn reachable(&self, now: Duration) -> bool {
        let silent = Duration::from_millis(PEER_SILENT_MS);
        let recent = |at: Option<Duration>| at.is_some_and(|at| now <= at + silent);
        self.up && recent(self.heard_at) && recent(self.answered_at)
    }

    /// Whether the peer disputes our clock, or we its.
    pub(super) fn clock_disputed(&self, now: Duration) -> bool {
        now < self.clock_disputed_until
    }

    /// The round trip, measured or assumed.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
            .unwrap_or(Duration::from_millis(ROUND_TRIP_UNKNOWN_MS))
    }

    /// Up to when the peer's writes to a shard are known here.
    pub(super) fn known(&self, shard: ShardId) -> Known {
        match self.behind.get(&shard) {
            Some(behind) => behind.known,
            None => self.known,
        }
    }

    /// Up to when its writes to every shard are known here.
    pub(super) fn known_everywhere(&self) -> Hlc {
        let behind = self.behind.values().map(|behind| behind.known.hlc);
        behind.fold(self.known.hlc, Ord::min)
    }

    /// Remembers a heartbeat as sent.
    pub(super) fn sent_ping(&mut self, ping: u64, now: Duration) {
        self.pinged = ping;
        self.pushed = 0;
        self.pings.push_back((ping, now));
        if self.pings.len() > PINGS_KEPT {
            self.pings.pop_front();
        }
        self.heartbeat_sent_at = now;
    }

    /// The place of the next push.
    pub(super) fn next_place(&mut self, complete: Hlc) -> Place {
        self.pushed += 1;
        Place {
            after: self.pinged,
            number: self.pushed,
            complete,
        }
    }

    /// Something that was to be pushed is left out: what is pushed later shows a gap.
    pub(super) fn skip_push(&mut self) {
        self.pushed += 1;
    }

    /// Its heartbeat was processed: what it states is known to be missing here, or here.
    pub(super) fn believe(&mut self, ping: u64, now: Duration) {
        self.last_ping = Some((ping, now));
        self.followed = 0;
    }

    /// A push of its was applied. If nothing is missing between its newest heartbeat and the push, its
    /// entries of all shards are here up to what the push says; `true` when that is news.
    pub(super) fn follow(&mut self, place: Place, over_gaps: bool) -> bool {
        let heard = self.last_ping.map(|(ping, _)| ping) == Some(place.after);
        let next = heard && place.number == self.followed + 1;
        if !self.votes || !(next || over_gaps) {
            return false;
        }
        self.followed = place.number;
        let news = place.complete > self.known.hlc;
        self.known.hlc = self.known.hlc.max(place.complete);
        news
    }

    /// Takes an echo: when that heartbeat was sent, and the round trip if it was the first echo of it. What
    /// an earlier start of ours sent is none of ours: what changed since it is not known.
    pub(super) fn take_echo(
        &mut self,
        ping: u64,
        held: Duration,
        now: Duration,
    ) -> Option<Duration> {
        if !same_start(ping, self.pinged) {
            return None;
        }
        self.echoed = self.echoed.max(ping);
        while self.pings.front().is_some_and(|(p, _)| *p < ping) {
            self.pings.pop_front();
        }
        let (_, sent_at) = *self.pings.front().filter(|(p, _)| *p == ping)?;
        self.answered_at = self.answered_at.max(Some(sent_at));
        let sample = (now - sent_at).saturating_sub(held);
        self.round_trip = Some(match self.round_trip {
            // A slow average, fast to go down: queues add to a sample, nothing takes away from it.
            Some(old) if sample > old => (old * 7 + sample) / 8,
            Some(old) => (old + sample) / 2,
            None => sample,
        });
        Some(sent_at)
    }

    /// A new life of the peer, or of the link: what was relative to its memory starts over.
    pub(super) fn forget_conversation(&mut self) {
        self.last_ping = None;
        self.echoed = 0;
        self.pings.clear();
        self.stop_pulling();
    }

    /// The peer is ahead in a shard: it is pulled when its turn comes.
    pub(super) fn lags_in(&mut self, shard: ShardId, lag: Seq) {
        if self.lags.len() < LAGS_PER_PEER_MAX || self.lags.contains_key(&shard) {
            self.lags.insert(shard, lag);
        }
    }

    /// The shard with the largest lag, if one more pull may be under way.
    pub(super) fn next_lag(&mut self, now: Duration) -> Option<ShardId> {
        if !self.may_pull(now, Purpose::Repair) {
            return None;
        }
        let (shard, _) = self.lags.iter().max_by_key(|(_, lag)| **lag)?;
        let shard = *shard;
        self.lags.remove(&shard);
        Some(shard)
    }

    fn may_pull(&mut self, now: Duration, purpose: Purpose) -> bool {
        self.pulls
            .retain(|_, (asked, _)| now < *asked + PULL_PATIENCE);
        let same = self.pulls.values().filter(|(_, p)| *p == purpose).count();
        same < match purpose {
            Purpose::Repair => PULLS_PER_PEER_MAX,
            Purpose::Session => SESSION_PULLS_PER_PEER_MAX,
        }
    }

    /// Counts a pull as under way; `false` when it must not begin now, or has begun.
    pub(super) fn begin_pull(&mut self, shard: ShardId, now: Duration, purpose: Purpose) -> bool {
        if !self.may_pull(now, purpose) || self.pulls.contains_key(&shard) {
            return false;
        }
        self.pulls.insert(shard, (now, purpose));
        true
    }

    /// A pull was answered: what it was for.
    pub(super) fn end_pull(&mut self, shard: ShardId) -> Option<Purpose> {
        self.pulls.remove(&shard).map(|(_, purpose)| purpose)
    }

    /// Nothing asked for will be answered any more.
    pub(super) fn stop_pulling(&mut self) {
        self.pulls.clear();
        self.lags.clear();
    }

    /// Whether a heartbeat was sent so recently that an urgent one need not be answered yet.
    pub(super) fn just_sent(&self, now: Duration) -> bool {
        now < self.heartbeat_sent_at + Duration::from_millis(HEARTBEAT_BUSY_MS / 4)
    }
}
