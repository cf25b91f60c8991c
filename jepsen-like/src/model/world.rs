//! One row, its replicas and their network: the state of a schedule.

use std::collections::BTreeMap;
use std::sync::Arc;

use hansa_consistency::clock::Hlc;
use hansa_consistency::key::{KeyspaceId, NodeId, RegionId, Row};
use hansa_consistency::limits::DEDUP_SESSIONS_MAX;
use hansa_consistency::quorum::Voters;
use hansa_consistency::record::{Entry, Record};
use hansa_consistency::register::{
    Combined, Errand, Executed, Promise, ReadAnswer, Slot, StrongValue,
};
use hansa_consistency::rules::Rules;
use hansa_consistency::topology::ValueType;
use hansa_consistency::value::State;
use hansa_consistency::version::{Ballot, Origin, ShardEpoch};

use super::calls::{EVENTUAL_MAX, History};
use super::client::Client;
use super::epochs::Readmission;
use super::ledger::Ledger;
use super::proposer::Coordinator;
use super::trace::{Trace, short};
use crate::random::Random;

/// Regions of every schedule. The first replica of each proposes; all vote.
pub(super) const REGIONS: usize = 3;

/// Messages lost and sent twice, per thousand.
const LOST_PERMILLE: u64 = 60;
const DOUBLED_PERMILLE: u64 = 40;

/// Messages that come much later than others, per thousand, and how many of those arrive in a step, per thousand.
const LATE_PERMILLE: u64 = 30;
const ARRIVES_PERMILLE: u64 = 6;

/// What distinguishes one schedule from another beside chance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Acceptors in each region.
    pub(super) per_region: usize,
    /// What the row holds.
    pub(super) value_type: ValueType,
    /// Sessions whose request ids a value remembers.
    pub(super) dedup_sessions: usize,
    /// Acceptors that may lose everything in turn.
    pub(super) wipes: u64,
    /// Eventual writes, at most.
    pub(super) eventual: usize,
}

impl Shape {
    /// The shape a generator draws first.
    pub(super) fn drawn(random: &mut Random) -> Shape {
        let register = random.chance(500);
        Shape {
            per_region: if random.chance(200) { 3 } else { 1 },
            value_type: match register {
                true => ValueType::Register,
                false => ValueType::Counter,
            },
            dedup_sessions: match random.chance(400) {
                true => 2,
                false => DEDUP_SESSIONS_MAX,
            },
            wipes: if random.chance(300) { 2 } else { 0 },
            eventual: random.below(EVENTUAL_MAX as u64 + 1) as usize,
        }
    }
}

/// What travels between nodes.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Prepare(Ballot),
    Promised(Ballot, Promise),
    Accept(Ballot, Arc<StrongValue>),
    Accepted(Ballot),
    /// Execute these, my region promised.
    Delegate(Ballot, Promise, Vec<Errand>, Calls),
    /// Executed, and accepted here.
    Delegated(Ballot, Executed),
    /// Propose this with your own.
    Combine(Errand, Calls),
    /// Proposed under this ballot, and chosen.
    Combined(Ballot, Combined),
    /// Refused: this higher ballot was promised.
    Nack(Ballot),
    /// A strong read; the asker holds the value of this ballot already.
    Read(Ballot),
    Answer(ReadAnswer),
    /// The question's epoch is over: this is the newer one.
    Stale(ShardEpoch),
}

/// The calls that an errand's operations are of: for the ledger alone.
pub(super) type Calls = Vec<usize>;

/// A message under way. An answer repeats the epoch and the round of its question.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) epoch: ShardEpoch,
    /// The conversation: unique to one phase of one attempt, or to one read.
    pub(super) round: u64,
    pub(super) body: Body,
}

/// One replica: acceptor, eventual view and coordinator.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) region: RegionId,
    pub(super) origin: Origin,
    /// The hybrid clock's newest value; its bound survives a crash.
    pub(super) clock: u64,
    /// The acceptor's record as it answers.
    pub(super) slot: Slot,
    /// The acceptor's record as it survives a crash.
    pub(super) written: Slot,
    /// Whether it votes: not between losing its data and readmission.
    pub(super) votes: bool,
    pub(super) epoch: ShardEpoch,
    /// The row in the eventual view.
    pub(super) record: Option<Record>,
    /// How many entries of each origin it has applied.
    pub(super) applied: BTreeMap<Origin, usize>,
    pub(super) coordinator: Coordinator,
}

/// How often the paths were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) one_round_trip: u64,
    pub(super) helped: u64,
    pub(super) absorbed: u64,
    pub(super) unknown: u64,
    pub(super) readmitted: u64,
    pub(super) delegated: u64,
    pub(super) combined: u64,
}

/// A schedule under way.
pub(super) struct World {
    pub(super) rules: Rules,
    pub(super) shape: Shape,
    pub(super) random: Random,
    pub(super) now: u64,
    pub(super) row: Row,
    pub(super) voters: Voters,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Vec<Envelope>,
    /// Messages that nobody counts on any more.
    late: Vec<Envelope>,
    /// Whether the network loses and doubles.
    pub(super) faulty: bool,
    /// Every origin's log of the row's shard; replicas apply them in order, at their own pace.
    pub(super) logs: BTreeMap<Origin, Vec<Entry>>,
    pub(super) readmission: Option<Readmission>,
    pub(super) clients: Vec<Client>,
    pub(super) history: History,
    pub(super) ledger: Ledger,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    pub(super) rounds: u64,
}

impl World {
    /// An empty row. `None` never happens: the row's name is valid.
    pub(super) fn new(shape: Shape, random: Random, rules: Rules, readable: bool) -> Option<World> {
        let count = REGIONS * shape.per_region;
        let region = |at: usize| RegionId((at / shape.per_region) as u8);
        let mut regions: BTreeMap<RegionId, Vec<NodeId>> = BTreeMap::new();
        for at in 0..count {
            regions
                .entry(region(at))
                .or_default()
                .push(NodeId(at as u16));
        }
        Some(World {
            rules,
            shape,
            random,
            now: 0,
            row: Row::new(KeyspaceId(0), 1, b"row", b"", None).ok()?,
            voters: Voters::new(regions),
            nodes: (0..count).map(|at| Node::new(at, region(at))).collect(),
            network: Vec::new(),
            late: Vec::new(),
            faulty: true,
            logs: BTreeMap::new(),
            readmission: None,
            clients: Client::all(),
            history: History {
                value_type: shape.value_type,
                calls: Vec::new(),
                eventual: Vec::new(),
            },
            ledger: Ledger::default(),
            trace: Trace::new(readable),
            counts: Counts::default(),
            rounds: 0,
        })
    }

    /// A node that proposes, by number below [`REGIONS`].
    pub(super) fn proposer(&self, number: usize) -> usize {
        number * self.shape.per_region
    }

    /// A new clock value of a node.
    pub(super) fn tick(&mut self, at: usize) -> Hlc {
        let clock = &mut self.nodes[at].clock;
        *clock += 1;
        Hlc(*clock)
    }

    /// Puts a message on the network, which may lose or double it. A node reaches itself always.
    pub(super) fn send(&mut self, envelope: Envelope) {
        if self.faulty && envelope.from != envelope.to {
            if self.random.chance(LOST_PERMILLE) {
                let now = self.now;
                self.trace
                    .note(now, (b'L', envelope.round, envelope.to), || {
                        format!("lost: {}", envelope.describe())
                    });
                return;
            }
            if self.random.chance(DOUBLED_PERMILLE) {
                self.network.push(envelope.clone());
            }
            if self.random.chance(LATE_PERMILLE) {
                self.late.push(envelope);
                return;
            }
        }
        self.network.push(envelope);
    }

    /// Lets some of the late messages arrive, or all.
    pub(super) fn late_arrive(&mut self, all: bool) {
        let mut at = 0;
        while at < self.late.len() {
            match all || self.random.chance(ARRIVES_PERMILLE) {
                true => self.network.push(self.late.swap_remove(at)),
                false => at += 1,
            }
        }
    }

    /// Sends a question to a node, of the asker's epoch.
    pub(super) fn ask(&mut self, from: usize, to: usize, round: u64, body: Body) {
        let epoch = self.nodes[from].epoch;
        self.send(Envelope {
            from,
            to,
            epoch,
            round,
            body,
        });
    }

    /// Sends a question to every voter.
    pub(super) fn ask_all(&mut self, from: usize, round: u64, body: &Body) {
        for to in 0..self.nodes.len() {
            self.ask(from, to, round, body.clone());
        }
    }

    /// Delivers the message at a position of the network.
    pub(super) fn deliver(&mut self, position: usize) {
        let envelope = self.network.remove(position);
        let fact = (b'M', envelope.from, envelope.to, envelope.round);
        let ballot = envelope.body.ballot();
        self.trace
            .note(self.now, (fact, ballot), || envelope.describe());
        match envelope.body {
            Body::Prepare(_)
            | Body::Accept(..)
            | Body::Delegate(..)
            | Body::Combine(..)
            | Body::Read(_) => {
                self.on_question(envelope);
            }
            _ => self.on_answer(envelope),
        }
    }
}

impl Node {
    fn new(at: usize, region: RegionId) -> Node {
        Node {
            region,
            origin: Origin {
                node: NodeId(at as u16),
                incarnation: 1,
            },
            clock: 0,
            slot: Slot::default(),
            written: Slot::default(),
            votes: true,
            epoch: ShardEpoch::default(),
            record: None,
            applied: BTreeMap::new(),
            coordinator: Coordinator::default(),
        }
    }
}

impl Body {
    fn ballot(&self) -> Ballot {
        match self {
            Body::Prepare(ballot)
            | Body::Promised(ballot, _)
            | Body::Accept(ballot, _)
            | Body::Accepted(ballot)
            | Body::Delegate(ballot, ..)
            | Body::Delegated(ballot, _)
            | Body::Combined(ballot, _)
            | Body::Nack(ballot)
            | Body::Read(ballot) => *ballot,
            Body::Answer(answer) => answer.accepted,
            Body::Stale(_) | Body::Combine(..) => Ballot::ZERO,
        }
    }

    fn describe(&self) -> String {
        match self {
            Body::Prepare(ballot) => format!("prepare {}", short(*ballot)),
            Body::Promised(ballot, promise) => format!(
                "promised {}, accepted {} {}, eventual {}",
                short(*ballot),
                short(promise.accepted),
                describe_value(promise.value.as_deref()),
                describe_state(promise.eventual.as_ref().map(|e| &e.state)),
            ),
            Body::Accept(ballot, value) => {
                format!("accept {} {}", short(*ballot), describe_value(Some(value)))
            }
            Body::Accepted(ballot) => format!("accepted {}", short(*ballot)),
            Body::Delegate(ballot, promise, ..) => format!(
                "delegate {}, accepted {} {}",
                short(*ballot),
                short(promise.accepted),
                describe_value(promise.value.as_deref()),
            ),
            Body::Delegated(ballot, executed) => format!(
                "executed {} {}",
                short(*ballot),
                describe_value(Some(&executed.value))
            ),
            Body::Combine(errand, calls) => format!("combine {}, calls {calls:?}", errand.group),
            Body::Combined(ballot, combined) => format!(
                "combined {} {}",
                short(*ballot),
                describe_value(Some(&combined.executed.value))
            ),
            Body::Nack(promised) => format!("refused, promised {}", short(*promised)),
            Body::Read(_) => "read".to_owned(),
            Body::Answer(answer) => format!(
                "answer: accepted {} {}, chosen {}, eventual {}",
                short(answer.accepted),
                describe_value(answer.value.as_deref()),
                short(answer.chosen),
                describe_state(answer.eventual.as_ref().map(|e| &e.state)),
            ),
            Body::Stale(epoch) => format!("stale: the epoch is {}", epoch.n),
        }
    }
}

impl Envelope {
    fn describe(&self) -> String {
        format!(
            "n{} -> n{} round {} epoch {}: {}",
            self.from,
            self.to,
            self.round,
            self.epoch.n,
            self.body.describe()
        )
    }
}

/// A strong value in a few words.
pub(super) fn describe_value(value: Option<&StrongValue>) -> String {
    value.map_or_else(String::new, |value| {
        let state = describe_state(value.state.as_ref());
        format!("[sv {} {state}]", value.strong_version)
    })
}

/// A state in a few words: a counter's total, or the version a register's bytes name.
pub(super) fn describe_state(state: Option<&State>) -> String {
    match state {
        None => "none".to_owned(),
        Some(State::Register(register)) => {
            let bytes = register.val.value.as_deref();
            let version = bytes.map(|b| b.iter().fold(0, |n, b| n << 8 | u32::from(*b)));
            let version = version.map_or_else(|| "deleted".to_owned(), |v| format!("version {v}"));
            format!("{version} (sv {})", register.marker.strong_version)
        }
        Some(state) => state
            .total()
            .map_or_else(|_| "overflow".to_owned(), |total| format!("total {total}")),
    }
}
