//! A node's replica of everything it holds, as one state machine with one mutator.
//!
//! [`Replica::step`] takes the time, one event and a read-only view of storage, and
//! leaves effects. It never waits, never fails and reads nothing else. The caller's
//! duties stand at [`crate::effect`]; in short: carry effects out in order, and let
//! nothing that stands behind a write leave before the write is durable.
//!
//! Parts, each an `impl Replica` in its own file:
//!
//! | file | what |
//! | --- | --- |
//! | `jobs` | open requests, deadlines, replies |
//! | `local` | reads and writes at levels eventual and session; scans |
//! | `sessions` | waiting for a session's causes, or forwarding |
//! | `logs` | the own log: append, commit in the region, acknowledgements; applying entries |
//! | `exchange` | version-vector exchange, pulls, relays |
//! | `heartbeat` | liveness, safe time, staleness |
//! | `strong` | the coordinator of strong operations: groups, ballots, backoff |
//! | `delegation` | strong writes in one round trip, through one far replica |
//! | `combining` | contended rows: one coordinator proposes what several are asked for |
//! | `group` | what a coordinator keeps of one row |
//! | `strong_answer` | the entry, receipt and answer of what was chosen |
//! | `strong_read` | the coordinator of strong reads |
//! | `votes` | the acceptor; shard epochs |
//! | `reach` | whether and how fast a quorum answers; refusing what it does not |
//! | `start` | may this start vote? |
//! | `settle` | accepted values nobody finished |
//! | `status` | what operators see |

mod combining;
mod delegation;
mod exchange;
mod group;
mod heartbeat;
mod jobs;
mod local;
mod logs;
mod peer;
mod reach;
mod refill;
mod sessions;
mod settle;
mod shard;
mod start;
mod status;
#[cfg(test)]
mod stream_tests;
mod strong;
mod strong_answer;
mod strong_read;
mod turn;
mod votes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Hlc, Now};
use crate::codec::Encode;
use crate::effect::{Effect, Note};
use crate::event::Event;
use crate::key::{NodeId, OpId, RegionId, Row, ShardId};
use crate::layout;
use crate::limits::OPEN_REQUESTS_MAX;
use crate::message::{Envelope, Message};
use crate::port::{Damaged, Family, Reader};
use crate::request::{Level, Reason, Refusal, Request};
use crate::rules::{Mutant, Rules};
use crate::topology::Topology;
use crate::version::{Ballot, Origin};

use group::Coordinator;
use jobs::{Asker, Job, JobId};
use peer::Peer;
use shard::Shard;
pub use start::{Standing, next_start};
pub use status::{PeerStatus, Status, digest};
use strong_read::StrongRead;
use turn::Turn;

/// What a replica is told about itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which node of the topology this is.
    pub node: NodeId,
    /// The cluster.
    pub topology: Arc<Topology>,
    /// The rules in force: [`Rules::default`] in the product.
    pub rules: Rules,
}

/// What the opener found out about the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// From the identity file; a fresh random one when data may be lost. Never zero.
    pub incarnation: u32,
    /// Which start of the node this is: from [`next_start`], durable before the replica is opened.
    pub start: u64,
    /// Whether the store is shorter than its own sequence file says, damaged, or gone.
    pub lost: bool,
}

/// Why a replica could not be opened. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The topology does not name the node.
    #[error("the topology names no node {}", .0.0)]
    UnknownNode(NodeId),
    /// Records that must be whole are not.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// What a timer is for. A timer whose cause is gone does nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Heartbeat,
    Deadline(JobId),
    /// A session request has waited long enough locally.
    Forward(JobId),
    /// An attempt on a row has lasted long enough.
    Attempt(Row, u64),
    /// A coordinator may try again.
    Retry(Row),
    /// A strong read has lasted long enough.
    Read(u64),
}

/// What stays the same over a replica's life.
#[derive(Clone, Debug)]
struct Me {
    node: NodeId,
    region: RegionId,
    incarnation: u32,
    start: u64,
}

/// The replica of one node.
#[derive(Debug)]
pub struct Replica {
    me: Me,
    topology: Arc<Topology>,
    rules: Rules,
    clock: Clock,
    random: Random,
    store_sequence: u64,
    standing: Standing,
    /// The store sequence at open, or at the open of the first start before that peers did not answer either:
    /// peers that saw more know that the store lost something.
    opened_sequence: u64,
    /// Whether the start before, if any, was answered.
    opened_sure: bool,
    /// The clock of the newest own entry the store held then. A store that lost its end is an earlier
    /// state of all shards together: what was written before that entry is here.
    opened_newest: Hlc,
    /// Own origins, oldest first.
    origins: Vec<Origin>,
    /// Whether the last of them was taken in this start.
    fresh_origin: bool,
    shards: BTreeMap<ShardId, Shard>,
    /// Since a loss: shards that are not shown yet, and who has sent what it holds of them.
    refill: Option<refill::Refill>,
    uncommitted: shard::Uncommitted,
    peers: BTreeMap<NodeId, Peer>,
    jobs: BTreeMap<JobId, Job>,
    clients: BTreeMap<OpId, JobId>,
    /// Requests forwarded, and to whom: our number for it is the job's.
    forwarded: BTreeMap<JobId, NodeId>,
    next_job: u64,
    coordinators: BTreeMap<Row, Coordinator>,
    /// Whose ballots win contended rows.
    owners: combining::Owners,
    /// Which row a round of proposals belongs to.
    proposals: BTreeMap<u64, Row>,
    reads: BTreeMap<u64, StrongRead>,
    next_round: u64,
    recent: local::Recent,
    unsettled: settle::Unsettled,
    safe_times: heartbeat::SafeTimes,
    /// Promises that were answered without being written. Only a mutant makes any.
    unwritten: BTreeMap<Row, Ballot>,
    next_ping: u64,
    timers: BTreeSet<(Duration, Timer)>,
    /// When the heartbeat timer is set for.
    heartbeat_due: Duration,
    woken_for: Option<Duration>,
    damage: Option<Damaged>,
}

impl Replica {
    /// Opens a replica over what the store holds.
    ///
    /// # Errors
    /// [`OpenError`] when the topology does not name the node or a record needed now is damaged.
    pub fn open(
        config: Config,
        opened: Opened,
        seed: u64,
        now: Now,
        reader: &dyn Reader,
    ) -> Result<Replica, OpenError> {
        let Config {
            node,
            topology,
            rules,
        } = config;
        let region = topology
            .region_of(node)
            .ok_or(OpenError::UnknownNode(node))?;
        let me = Me {
            node,
            region,
            incarnation: opened.incarnation,
            start: opened.start,
        };
        let stored = start::Stored::load(&me, &topology, reader)?;
        let first_number = start::first_number(opened.start);
        let clock = Clock::resume(match rules.broken(Mutant::ClockNotReserved) {
            true => Hlc::ZERO,
            false => stored.clock,
        });
        let mut replica = Replica {
            standing: Standing::opened(opened.lost || stored.lost, rules),
            opened_sequence: stored.sequence.min(stored.sure.sequence),
            opened_newest: stored.newest.min(stored.sure.newest),
            opened_sure: stored.sure == start::Sure::ALL,
            fresh_origin: false,
            recent: local::Recent::new(stored.clock),
            me,
            topology,
            rules,
            clock,
            random: Random::new(seed),
            store_sequence: stored.sequence,
            origins: stored.origins,
            shards: stored.shards,
            refill: None,
            uncommitted: shard::Uncommitted::default(),
            peers: stored.peers,
            jobs: BTreeMap::new(),
            clients: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            next_job: first_number,
            coordinators: BTreeMap::new(),
            owners: combining::Owners::default(),
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_round: first_number,
            unsettled: settle::Unsettled::load(reader, now)?,
            safe_times: heartbeat::SafeTimes::default(),
            unwritten: BTreeMap::new(),
            next_ping: first_number,
            timers: BTreeSet::new(),
            heartbeat_due: Duration::ZERO,
            woken_for: None,
            damage: None,
        };
        replica.restore_uncommitted(reader)?;
        replica.restore_safe_times(reader)?;
        Ok(replica)
    }

    /// The durable store sequence: right after [`Replica::open`], what the store itself says.
    pub fn store_sequence(&self) -> u64 {
        self.store_sequence
    }

    /// Feeds one event. Effects are appended in the order in which they must be carried out.
    pub fn step(&mut self, now: Now, event: Event, reader: &dyn Reader, effects: &mut Vec<Effect>) {
        let mut turn = Turn::new(now, reader);
        self.run_timers(&mut turn);
        match event {
            Event::Started => self.on_started(&mut turn),
            Event::Request { id, request } => self.on_request(&mut turn, id, request),
            Event::Cancelled { id } => self.on_cancelled(id),
            Event::Received(envelope) => self.on_received(&mut turn, envelope),
            Event::LinkUp(node) => self.on_link_up(&mut turn, node),
            Event::LinkDown(node) => self.on_link_down(&mut turn, node),
            Event::Tick => {}
            Event::AdoptEpoch { shard, epoch } => {
                self.adopt_epoch(&mut turn, shard, epoch);
            }
        }
        self.finish_turn(turn, effects);
    }

    /// Writes what goes with every step, and hands the effects over.
    fn finish_turn(&mut self, mut turn: Turn<'_>, effects: &mut Vec<Effect>) {
        // A store from which anything was ever heard holds something: an empty one was lost.
        let begins = self.store_sequence == 0;
        if (turn.has_written() || turn.has_said() || begins)
            && let Some((bound, urgent)) = self.clock.reserve()
        {
            turn.put(
                Family::Meta,
                layout::CLOCK.to_vec().into(),
                bound.to_record(),
            );
            if urgent {
                turn.make_replies_wait();
            }
        }
        if turn.has_written() {
            self.store_safe_times(&mut turn);
            self.store_sequence += 1;
            let sequence = self.store_sequence.to_record();
            turn.put(Family::Meta, layout::SEQUENCE.to_vec().into(), sequence);
        }
        let next = self.timers.first().map(|(at, _)| *at);
        if next != self.woken_for {
            self.woken_for = next;
            if let Some(at) = next {
                turn.say(Effect::Wake(at));
            }
        }
        turn.finish(self.store_sequence, effects);
    }

    fn on_request(&mut self, turn: &mut Turn<'_>, id: OpId, request: Request) {
        let job = self.open_job(Asker::Client(id), request);
        if self.jobs.len() > OPEN_REQUESTS_MAX {
            self.refuse(
                turn,
                job,
                Reason::Overloaded,
                "too many requests are open at this node; retry later",
            );
            return;
        }
        self.serve(turn, job);
    }

    /// Begins to serve an open job.
    fn serve(&mut self, turn: &mut Turn<'_>, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let issued = job.request.request_id.map(|request| request.issued);
        let admitted = self.admit(turn.now.monotonic, &job.request);
        // Once taken over it is below the clock's durable bound: a restart knows that it may be from before.
        let known = match issued {
            Some(issued) if admitted.is_ok() => self.clock.observe(turn.now, issued),
            _ => Ok(()),
        };
        if let Err(refusal) = admitted.and(known.map_err(|ahead| local::from_the_future(&ahead))) {
            self.finish(turn, id, Err(refusal));
            return;
        }
        let shard = local::shard_of(&job.request.command);
        if !self.shards.contains_key(&shard) {
            self.forward_to_holder(turn, id, shard);
            return;
        }
        match job.request.level {
            Level::Strong => self.serve_strong(turn, id),
            Level::Session if !self.covers_for(id, shard) => {
                self.wait_for_session(turn, id, shard);
            }
            Level::Eventual | Level::Session => self.serve_local(turn, id, shard),
        }
    }

    fn on_received(&mut self, turn: &mut Turn<'_>, envelope: Envelope) {
        let Envelope {
            from,
            hlc,
            ref message,
            ..
        } = envelope;
        if from == self.me.node {
            // What an earlier start said to itself was said before it forgot everything.
            if envelope.start == self.me.start {
                self.on_message(turn, from, hlc, envelope.message);
            }
            return;
        }
        if !self.welcome(turn, &envelope) {
            return;
        }
        if let Message::ClockRefused { ahead_ms: _ } = message {
            self.dispute_clock(turn, from);
            return;
        }
        if let Err(ahead) = self.clock.observe(turn.now, hlc) {
            turn.note(Note::ClockRefused);
            self.dispute_clock(turn, from);
            let ahead_ms = ahead.ahead_ms;
            self.send(turn, from, Message::ClockRefused { ahead_ms });
            return;
        }
        self.on_message(turn, from, hlc, envelope.message);
    }

    fn on_message(&mut self, turn: &mut Turn<'_>, from: NodeId, hlc: Hlc, message: Message) {
        match message {
            Message::Heartbeat(heartbeat) => self.on_heartbeat(turn, from, hlc, &heartbeat),
            Message::Append(append) => self.on_append(turn, from, append),
            Message::Committed { shard, origin, seq } => {
                self.on_committed(turn, from, shard, origin, seq);
            }
            Message::Acknowledge { shard, origin, seq } => {
                self.on_acknowledge(turn, from, shard, origin, seq);
            }
            Message::ExchangeRequest { digests } => self.on_exchange_request(turn, from, &digests),
            Message::ExchangeReply { vectors } => self.on_exchange_reply(turn, from, vectors),
            Message::Pull { shard, have } => self.on_pull(turn, from, shard, &have),
            Message::Entries {
                shard,
                runs,
                statements,
                more,
            } => self.on_entries(turn, from, shard, runs, statements, more),
            Message::Forward { id, start, request } => {
                // Meant for an earlier start, which may have served it: a request must not be served twice.
                if start == self.me.start {
                    self.on_forward(turn, from, id, request);
                }
            }
            Message::Forwarded { id, result } => self.on_forwarded(turn, from, id, result),
            Message::StartAsk => self.on_start_ask(turn, from),
            Message::StartAnswer {
                seen,
                seen_start,
                lost,
            } => self.on_start_answer(turn, from, seen, seen_start, lost),
            Message::ClockRefused { .. } => {}
            vote => self.on_vote_message(turn, from, vote),
        }
    }

    /// Says something to a peer, or to this node itself once this step's writes are durable.
    fn send(&mut self, turn: &mut Turn<'_>, to: NodeId, message: Message) {
        let envelope = Envelope {
            cluster: self.topology.cluster,
            from: self.me.node,
            start: self.me.start,
            incarnation: self.me.incarnation,
            store_sequence: self.told_sequence(turn),
            hlc: self.clock.read(turn.now),
            message,
        };
        turn.say(Effect::Send { to, envelope });
    }

    /// A fresh ballot above every one this node has seen or used: ballots are clock values, and the
    /// clock never repeats, not even over a restart.
    fn fresh_ballot(&mut self, turn: &Turn<'_>) -> Ballot {
        Ballot {
            n: self.clock.tick(turn.now).0,
            origin: self.own_proposer(),
        }
    }

    /// The name under which this node proposes.
    fn own_proposer(&self) -> Origin {
        Origin {
            node: self.me.node,
            incarnation: self.me.incarnation,
        }
    }

    fn fresh_round(&mut self) -> u64 {
        self.next_round += 1;
        self.next_round
    }

    fn set_timer(&mut self, at: Duration, timer: Timer) {
        self.timers.insert((at, timer));
    }

    fn run_timers(&mut self, turn: &mut Turn<'_>) {
        while let Some((at, _)) = self.timers.first()
            && *at <= turn.now.monotonic
        {
            let Some((_, timer)) = self.timers.pop_first() else {
                return;
            };
            match timer {
                Timer::Heartbeat => self.on_heartbeat_timer(turn),
                Timer::Deadline(id) => self.on_deadline(turn, id),
                Timer::Forward(id) => self.on_forward_timer(turn, id),
                Timer::Attempt(row, round) => self.on_attempt_timer(turn, &row, round),
                Timer::Retry(row) => self.on_retry_timer(turn, &row),
                Timer::Read(round) => self.on_read_timer(turn, round),
            }
        }
    }

    /// Serves what can be served without looking further, or says why the request is refused.
    fn admit(&self, now: Duration, request: &Request) -> Result<(), Refusal> {
        local::check(&self.topology, request)?;
        let shard = local::shard_of(&request.command);
        let local_read = request.command.is_read() && request.level != Level::Strong;
        if local_read {
            return match self.refilling().contains_key(&shard) {
                false => Ok(()),
                true => Err(Refusal::not_applied(
                    Reason::AwaitingReadmission,
                    "this node lost data and has not fetched this part of it from its peers yet: retry, or ask another node",
                )),
            };
        }
        if self.standing == Standing::Lost {
            return Err(Refusal::not_applied(
                Reason::AwaitingReadmission,
                "this node lost data and is being refilled; it serves eventual and session reads only: ask another node",
            ));
        }
        let held_here = self.shards.contains_key(&shard);
        if held_here && self.uncommitted.is_full() {
            return Err(Refusal::not_applied(
                Reason::Overloaded,
                "too much written at this node waits for a majority of its region's replicas; ask another region, or retry when they are back",
            ));
        }
        if self.clock_out_of_bounds(now) {
            return Err(Refusal::not_applied(
                Reason::ClockOutOfBounds,
                "this node's clock differs too much from its peers'; ask another node, and mend the clock",
            ));
        }
        Ok(())
    }

    /// Meets a damaged record: the vote is lost when it was not a mere row.
    fn meet_damage(&mut self, turn: &mut Turn<'_>, damage: Damaged) -> Refusal {
        turn.note(Note::DamageMet);
        let message = format!("{damage}; ask another node, and rebuild this one from its peers");
        if damage.family != Family::Data {
            self.lose_vote(turn);
        }
        self.damage = Some(damage);
        Refusal::not_applied(Reason::Damaged, message)
    }
}

/// A small generator for jitter and incarnations (`SplitMix64`, Steele et al. 2014): nothing that
/// must be unpredictable is drawn from it.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A factor between 0.5 and 1.5.
    fn jitter(&mut self, around: Duration) -> Duration {
        let permille = 500 + self.next() % 1001;
        around * permille as u32 / 1000
    }
}
