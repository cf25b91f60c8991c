//! One region's replicas of a shard, two of another region, and their network: the state of a schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hansa_consistency::clock::Hlc;
use hansa_consistency::key::{KeyspaceId, NodeId, RegionId, Row};
use hansa_consistency::quorum::majority;
use hansa_consistency::record::Record;
use hansa_consistency::roster::{Acceptor, Roster, Version};
use hansa_consistency::version::{Ballot, Origin, Seq};

use super::broken::Broken;
use super::decree::Proposal;
use super::ledger::Ledger;
use super::logs::{Item, Log, Run};
use super::roster::{Held, first_roster};
use super::schedule::Weights;
use super::sessions::{Call, Client};
use super::time::Statement;
use crate::model::trace::Trace;
use crate::random::Random;

/// The region that is written in.
pub(super) const HOME: RegionId = RegionId(0);

/// Replicas in the other region.
const FAR: usize = 2;

/// Rows of the shard.
pub(super) const ROWS: usize = 2;

/// Messages sent twice, per thousand, while the network is bad.
const DOUBLED_PERMILLE: u64 = 40;

/// Rows, each a counter.
pub(super) type View = Vec<Option<Record>>;

/// What travels between nodes.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// Entries of the sender's own log, of this term; committed up to there.
    Append {
        origin: Origin,
        term: Version,
        first: Seq,
        items: Vec<Item>,
        committed: Seq,
    },
    /// I hold your log durably up to here.
    Acknowledge(Origin, Seq),
    /// I refuse your entries of this term.
    Refused(Version),
    /// What I wrote, and up to when that is all.
    Heartbeat(Statement),
    /// What do you hold beyond this?
    Pull(BTreeMap<Origin, Seq>),
    /// Committed entries, and what is known of everybody's writes.
    Entries(Vec<Run>, Vec<Statement>),
    /// Promise me this ballot for the roster of this version; refuse that node's entries of earlier terms.
    Prepare(Ballot, Version, Option<usize>),
    /// Promised; what I accepted for that version, and the logs I hold of those that have not ended.
    Promised(Ballot, Option<(Ballot, Arc<Roster>)>, Held),
    /// Accept this roster, and the entries of the logs that it ends.
    Accept(Ballot, Arc<Roster>, Held),
    /// Accepted.
    Accepted(Ballot),
    /// Refused: something higher is promised, or the version is decided.
    Nack(Ballot),
    /// Only what every message brings along.
    Nothing,
}

/// A message under way. Every one brings the sender's clock and the newest roster it knows to be chosen.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) hlc: Hlc,
    pub(super) roster: Arc<Roster>,
    pub(super) body: Body,
}

/// Whether a node runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Up,
    /// It does nothing; what is sent to it waits.
    Paused,
    Down,
}

/// One replica. What a crash takes is listed in `World::crash`; all else is durable at once.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) life: Life,
    /// It lost its disk: it takes no writes and no part in decisions.
    pub(super) lost: bool,
    /// The hybrid clock's newest value; its bound survives a crash and a loss does not matter.
    pub(super) clock: u64,
    pub(super) roster: Arc<Roster>,
    /// The one it knew before: only who breaks a rule goes back to it.
    pub(super) roster_before: Arc<Roster>,
    pub(super) acceptor: Acceptor,
    pub(super) logs: BTreeMap<Origin, Log>,
    pub(super) view: View,
    /// By number of node: every entry it wrote with a clock up to this is applied here.
    pub(super) known: Vec<Hlc>,
    /// By number of node: what it stated and is not all here yet.
    pub(super) stated: Vec<Option<Statement>>,
    /// The log new entries go to, and the term it is of; `None` between two terms.
    pub(super) writes: Option<(Origin, Version)>,
    /// How many logs it began: no name is used twice.
    pub(super) begun: u32,
    /// Own entries that lay behind the end of their log, until they are published again.
    pub(super) rest: Vec<Item>,
    /// Somebody refuses its entries: its term is over, or will be.
    pub(super) refused: bool,
    pub(super) acknowledged: BTreeMap<(Origin, usize), Seq>,
    /// Writes whose clients wait here for an answer.
    pub(super) waiting: BTreeSet<usize>,
    pub(super) proposal: Option<Proposal>,
}

impl Node {
    fn new(at: usize, home: usize) -> Node {
        let mut node = Node {
            life: Life::Up,
            lost: false,
            clock: 1,
            roster: Arc::new(first_roster(home)),
            roster_before: Arc::new(first_roster(home)),
            acceptor: Acceptor::default(),
            logs: BTreeMap::new(),
            view: vec![None; ROWS],
            known: vec![Hlc::ZERO; home],
            stated: vec![None; home],
            writes: None,
            begun: 0,
            rest: Vec::new(),
            refused: false,
            acknowledged: BTreeMap::new(),
            waiting: BTreeSet::new(),
            proposal: None,
        };
        if at < home {
            node.writes = Some((node.next_origin(at), 0));
        }
        node
    }

    /// A name for a log that was never used.
    pub(super) fn next_origin(&mut self, at: usize) -> Origin {
        self.begun += 1;
        Origin {
            node: NodeId(at as u16),
            incarnation: self.begun,
        }
    }

    /// Every name it ever gave to a log of its own.
    pub(super) fn own_origins(&self, at: usize) -> impl Iterator<Item = Origin> + use<> {
        let node = NodeId(at as u16);
        (1..=self.begun).map(move |incarnation| Origin { node, incarnation })
    }

    /// The entries of a log that are held here.
    pub(super) fn held(&self, origin: Origin) -> Seq {
        self.logs
            .get(&origin)
            .map_or(0, |log| log.items.len() as Seq)
    }

    /// The entries of a log from behind `known` to `end`, as far as they are held here.
    pub(super) fn items_behind(&self, origin: Origin, known: Seq, end: Seq) -> Vec<Item> {
        let items = self.logs.get(&origin).map_or(&[][..], |log| &log.items);
        let end = items.len().min(usize::try_from(end).unwrap_or(usize::MAX));
        items[..end].iter().skip(known as usize).cloned().collect()
    }

    /// The entries of a log that are applied here.
    pub(super) fn applied(&self, origin: Origin) -> Seq {
        self.logs.get(&origin).map_or(0, |log| log.applied)
    }
}

/// How often the paths were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) closed: u64,
    pub(super) opened: u64,
    pub(super) published_again: u64,
    pub(super) adopted: u64,
    pub(super) session_reads: u64,
    pub(super) session_waits: u64,
}

/// A schedule under way.
pub(super) struct World {
    pub(super) broken: Option<Broken>,
    /// Nodes of the home region: the first ones.
    pub(super) home: usize,
    pub(super) random: Random,
    pub(super) weights: Weights,
    /// Messages lost, per thousand, while the network is bad.
    pub(super) lost_permille: u64,
    pub(super) now: u64,
    pub(super) rows: Vec<Row>,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Vec<Envelope>,
    /// Whether the network loses and doubles.
    pub(super) faulty: bool,
    /// Directed links that carry nothing.
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// How many nodes may still lose their disks.
    pub(super) wipes: usize,
    pub(super) clients: Vec<Client>,
    pub(super) calls: Vec<Call>,
    pub(super) ledger: Ledger,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
}

impl World {
    /// An empty shard. `None` never happens: the rows' names are valid.
    pub(super) fn new(
        home: usize,
        random: Random,
        broken: Option<Broken>,
        readable: bool,
    ) -> Option<World> {
        let name = |row: usize| Row::new(KeyspaceId(0), 1, &[b'a' + row as u8], b"", None).ok();
        Some(World {
            broken,
            home,
            random,
            weights: Weights::default(),
            lost_permille: 0,
            now: 0,
            rows: (0..ROWS).map(name).collect::<Option<_>>()?,
            nodes: (0..home + FAR).map(|at| Node::new(at, home)).collect(),
            network: Vec::new(),
            faulty: true,
            cut: BTreeSet::new(),
            wipes: home - majority(home),
            clients: Client::all(),
            calls: Vec::new(),
            ledger: Ledger::new(home, home + FAR),
            trace: Trace::new(readable),
            counts: Counts::default(),
        })
    }

    /// Whether a rule is left out.
    pub(super) fn broken(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    /// Whether a node of the home region takes part in decisions and acknowledges.
    pub(super) fn takes_part(&self, at: usize) -> bool {
        at < self.home && (!self.nodes[at].lost || self.broken(Broken::LostTakesPart))
    }

    /// A new clock value of a node.
    pub(super) fn tick(&mut self, at: usize) -> Hlc {
        let clock = &mut self.nodes[at].clock;
        *clock += 1;
        Hlc(*clock)
    }

    /// Sends a message. The network may lose or double it, except to its own sender.
    pub(super) fn send(&mut self, from: usize, to: usize, body: Body) {
        let hlc = self.tick(from);
        let envelope = Envelope {
            from,
            to,
            hlc,
            roster: self.nodes[from].roster.clone(),
            body,
        };
        if from != to {
            if self.cut.contains(&(from, to))
                || (self.faulty && self.random.chance(self.lost_permille))
            {
                return;
            }
            if self.faulty && self.random.chance(DOUBLED_PERMILLE) {
                self.network.push(envelope.clone());
            }
        }
        self.network.push(envelope);
    }

    /// Sends to every node of the home region, the sender included.
    pub(super) fn send_home(&mut self, from: usize, body: &Body) {
        for to in 0..self.home {
            self.send(from, to, body.clone());
        }
    }

    /// Delivers one message; not to a node that is down, and not yet to one that is paused.
    pub(super) fn deliver(&mut self, position: usize) {
        if self.nodes[self.network[position].to].life == Life::Paused {
            return;
        }
        let envelope = self.network.swap_remove(position);
        let to = envelope.to;
        if self.nodes[to].life == Life::Down {
            return;
        }
        let (now, name) = (self.now, name_of(&envelope.body));
        self.trace.note(now, (name, envelope.from, to), || {
            format!("n{} -> n{to} {:?}", envelope.from, envelope.body)
        });
        // In quiet the clocks meet, or nothing would ever settle.
        if to >= self.home || !self.faulty || !self.broken(Broken::ClockNotRaised) {
            let clock = &mut self.nodes[to].clock;
            *clock = (*clock).max(envelope.hlc.0);
        }
        let relay = matches!(envelope.body, Body::Entries(..));
        if !(relay && self.broken(Broken::RelayWithoutRoster)) {
            self.learn_roster(to, &envelope.roster);
        }
        self.receive(envelope);
        self.note_safe_time(to);
    }

    fn receive(&mut self, envelope: Envelope) {
        let Envelope { from, to, body, .. } = envelope;
        match body {
            Body::Append {
                origin,
                term,
                first,
                items,
                committed,
            } => self.on_append(from, to, (origin, term), first, &items, committed),
            Body::Acknowledge(origin, seq) => self.on_acknowledge(from, to, origin, seq),
            Body::Refused(term) => {
                let node = &mut self.nodes[to];
                node.refused |= node.writes.is_some_and(|(_, own)| own <= term);
            }
            Body::Heartbeat(statement) => self.keep_statement(to, statement),
            Body::Pull(have) => self.on_pull(from, to, &have),
            Body::Entries(runs, statements) => self.on_entries(to, runs, &statements),
            Body::Prepare(ballot, version, closing) => {
                self.on_prepare(from, to, ballot, version, closing);
            }
            Body::Promised(ballot, accepted, held) => {
                self.on_promised(from, to, ballot, accepted, held);
            }
            Body::Accept(ballot, roster, held) => self.on_accept(from, to, ballot, &roster, held),
            Body::Accepted(ballot) => self.on_accepted(from, to, ballot),
            Body::Nack(ballot) => {
                let node = &mut self.nodes[to];
                if node.proposal.as_ref().is_some_and(|p| p.ballot == ballot) {
                    node.proposal = None;
                }
            }
            Body::Nothing => {}
        }
    }
}

fn name_of(body: &Body) -> u8 {
    match body {
        Body::Append { .. } => b'A',
        Body::Acknowledge(..) => b'K',
        Body::Refused(_) => b'R',
        Body::Heartbeat(_) => b'H',
        Body::Pull(_) => b'P',
        Body::Entries(..) => b'E',
        Body::Prepare(..) => b'1',
        Body::Promised(..) => b'2',
        Body::Accept(..) => b'3',
        Body::Accepted(_) => b'4',
        Body::Nack(_) => b'N',
        Body::Nothing => b'0',
    }
}
