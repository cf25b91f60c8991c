//! The cluster: nodes with replicas, disks and clocks, and the loop that moves time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hansa_consistency::clock::Now;
use hansa_consistency::effect::{Effect, Note};
use hansa_consistency::event::Event;
use hansa_consistency::key::{ClusterId, NodeId, OpId, RegionId};
use hansa_consistency::replica::{Config, Opened, Replica, next_start};
use hansa_consistency::request::{Refusal, Reply, Request};
use hansa_consistency::rules::Rules;
use hansa_consistency::topology::{Keyspace, Mixing, Topology, ValueType};

use super::disk::Disk;
use super::post::{Mail, Post};

/// Wall clock at the beginning, milliseconds since 1970.
const WALL_MS: u64 = 1_700_000_000_000;

/// One node.
pub(crate) struct Machine {
    /// `None` while it is down.
    pub(crate) replica: Option<Replica>,
    pub(crate) disk: Disk,
    /// A copy of the disk and of the number of the newest start, taken earlier.
    copy: Option<(Disk, u64)>,
    /// How far its wall clock is off.
    pub(crate) skew_ms: i64,
    /// Whether syncs wait for a command.
    pub(crate) frozen: bool,
    incarnation: u32,
    start: u64,
    lives: u64,
    lost: bool,
    wake: Option<Duration>,
    waiting: Vec<Effect>,
}

impl Machine {
    /// Copies the whole data directory.
    pub(crate) fn keep(&mut self) {
        self.copy = Some((self.disk.clone(), self.start));
    }

    /// Puts the store of the copy back beside the present identity file.
    pub(crate) fn rewind(&mut self) {
        (self.disk, _) = self.copy.take().expect("a copy was taken");
    }

    /// Puts the whole copy back.
    pub(crate) fn restore(&mut self) {
        (self.disk, self.start) = self.copy.take().expect("a copy was taken");
    }
}

/// The outcome of a request and when it came.
pub(crate) type Outcome = (Duration, Result<Reply, Refusal>);

/// Everything.
pub(crate) struct Cluster {
    pub(crate) topology: Arc<Topology>,
    pub(crate) machines: BTreeMap<NodeId, Machine>,
    pub(crate) post: Post,
    pub(crate) now: Duration,
    pub(crate) outcomes: BTreeMap<OpId, Outcome>,
    pub(crate) notes: BTreeMap<Note, u32>,
    /// Pairs whose connection is broken, and known to be.
    down: BTreeSet<(NodeId, NodeId)>,
    next_op: u64,
}

fn topology(nodes_per_region: u16) -> Topology {
    let nodes = |r: u16| (0..nodes_per_region).map(move |n| NodeId(r * nodes_per_region + n));
    let keyspace = |value_type, mixing| Keyspace {
        value_type,
        regions: (0..3).map(RegionId).collect(),
        replicas: nodes_per_region,
        shards: 1,
        mixing,
    };
    Topology {
        cluster: ClusterId::of("scripted"),
        regions: (0..3u8)
            .map(|r| (RegionId(r), nodes(u16::from(r)).collect()))
            .collect(),
        keyspaces: vec![
            keyspace(ValueType::Register, Mixing::StrongWins),
            keyspace(ValueType::Counter, Mixing::StrongWins),
            keyspace(ValueType::Set, Mixing::StrongWins),
            keyspace(ValueType::Register, Mixing::StrongOnly),
        ],
    }
}

impl Cluster {
    /// A cluster whose nodes have started, met and may vote.
    pub(crate) fn new(nodes_per_region: u16) -> Cluster {
        let topology = Arc::new(topology(nodes_per_region));
        let nodes: Vec<NodeId> = topology.regions.values().flatten().copied().collect();
        let machine = |node: &NodeId| Machine {
            replica: None,
            disk: Disk::default(),
            copy: None,
            skew_ms: 0,
            frozen: false,
            incarnation: 1000 + u32::from(node.0),
            start: 0,
            lives: 0,
            lost: false,
            wake: None,
            waiting: Vec::new(),
        };
        let mut cluster = Cluster {
            machines: nodes.iter().map(|n| (*n, machine(n))).collect(),
            topology,
            post: Post::default(),
            now: Duration::from_secs(10),
            outcomes: BTreeMap::new(),
            notes: BTreeMap::new(),
            down: BTreeSet::new(),
            next_op: 0,
        };
        for node in nodes {
            cluster.start(node);
        }
        cluster.run_until(cluster.now + Duration::from_secs(3));
        cluster.notes.clear();
        cluster
    }

    /// The region of a node.
    pub(crate) fn region_of(&self, node: NodeId) -> RegionId {
        self.topology
            .region_of(node)
            .expect("a node of the cluster")
    }

    /// The time as a node sees it.
    pub(crate) fn now_at(&self, node: NodeId) -> Now {
        let wall = WALL_MS + self.now.as_millis() as u64;
        Now {
            monotonic: self.now,
            wall_ms: wall.saturating_add_signed(self.machines[&node].skew_ms),
        }
    }

    fn latency(&self, from: NodeId, to: NodeId) -> Duration {
        let (from, to) = (self.region_of(from).0, self.region_of(to).0);
        Duration::from_micros(match (from.min(to), from.max(to)) {
            (0, 1) => 45_000,
            (0, 2) => 75_000,
            (1, 2) => 110_000,
            _ => 500,
        })
    }

    /// Starts a node on what its disk holds, and connects it.
    pub(crate) fn start(&mut self, node: NodeId) {
        let now = self.now_at(node);
        let topology = self.topology.clone();
        let machine = self.machines.get_mut(&node).expect("a node of the cluster");
        machine.lives += 1;
        let seed = u64::from(node.0) + 100 * machine.lives;
        machine.start = next_start(machine.start, Duration::from_millis(now.wall_ms), seed);
        let opened = Opened {
            incarnation: machine.incarnation,
            start: machine.start,
            lost: machine.lost,
        };
        let config = Config {
            node,
            topology,
            rules: Rules::default(),
        };
        let replica = Replica::open(config, opened, seed, now, &machine.disk);
        machine.replica = Some(replica.expect("the disk is whole"));
        self.feed(node, Event::Started);
        for peer in self.up_peers(node) {
            self.feed(peer, Event::LinkUp(node));
            self.feed(node, Event::LinkUp(peer));
        }
    }

    fn up_peers(&self, node: NodeId) -> Vec<NodeId> {
        let connected = |n: &NodeId| *n != node && !self.down.contains(&pair(*n, node));
        let up = self.machines.iter().filter(|(_, m)| m.replica.is_some());
        up.map(|(n, _)| *n).filter(connected).collect()
    }

    /// Ends a node's process: what was not synced is lost, its connections break.
    pub(crate) fn crash(&mut self, node: NodeId) {
        let machine = self.machines.get_mut(&node).expect("a node of the cluster");
        machine.replica = None;
        machine.wake = None;
        machine.frozen = false;
        machine.waiting.clear();
        machine.disk.lose_pending();
        self.post.forget_own(node);
        for peer in self.up_peers(node) {
            self.feed(peer, Event::LinkDown(node));
        }
    }

    /// Takes a stopped node's disk away.
    pub(crate) fn destroy_disk(&mut self, node: NodeId) {
        let machine = self.machines.get_mut(&node).expect("a node of the cluster");
        machine.disk = Disk::default();
        machine.incarnation += 5000;
        machine.lost = true;
    }

    /// Breaks the connection of two nodes; both know.
    pub(crate) fn disconnect(&mut self, a: NodeId, b: NodeId) {
        if a != b && self.down.insert(pair(a, b)) {
            self.post.cuts.extend([(a, b), (b, a)]);
            self.feed(a, Event::LinkDown(b));
            self.feed(b, Event::LinkDown(a));
        }
    }

    /// Mends everything between the nodes.
    pub(crate) fn heal(&mut self) {
        self.post.cuts.clear();
        for (a, b) in std::mem::take(&mut self.down) {
            self.feed(a, Event::LinkUp(b));
            self.feed(b, Event::LinkUp(a));
        }
    }

    /// Makes what a frozen node wrote durable, and lets what waited for that leave.
    pub(crate) fn sync(&mut self, node: NodeId) {
        let machine = self.machines.get_mut(&node).expect("a node of the cluster");
        machine.disk.sync();
        for effect in std::mem::take(&mut machine.waiting) {
            self.carry_out(node, effect, false);
        }
        self.run_until(self.now);
    }

    /// Hands a request to a node.
    pub(crate) fn ask(&mut self, node: NodeId, request: Request) -> OpId {
        self.next_op += 1;
        let id = OpId(self.next_op);
        self.feed(node, Event::Request { id, request });
        self.run_until(self.now);
        id
    }

    /// Feeds one event and carries out what follows.
    pub(crate) fn feed(&mut self, node: NodeId, event: Event) {
        let now = self.now_at(node);
        let machine = self.machines.get_mut(&node).expect("a node of the cluster");
        let Some(replica) = machine.replica.as_mut() else {
            return;
        };
        let mut effects = Vec::new();
        machine.disk.take_used_pending();
        replica.step(now, event, &machine.disk, &mut effects);
        let used_pending = machine.disk.take_used_pending();
        for effect in effects {
            self.carry_out(node, effect, used_pending);
        }
    }

    fn carry_out(&mut self, node: NodeId, effect: Effect, used_pending: bool) {
        let latency = match &effect {
            Effect::Send { to, .. } if *to != node => self.latency(node, *to),
            _ => Duration::ZERO,
        };
        let machine = self.machines.get_mut(&node).expect("a node of the cluster");
        match effect {
            Effect::Persist(writes) => {
                machine.disk.write(writes);
                if !machine.frozen {
                    machine.disk.sync();
                }
            }
            Effect::StoreSequence { .. } => {}
            Effect::Wake(at) => machine.wake = Some(at),
            Effect::Note(note) => *self.notes.entry(note).or_default() += 1,
            Effect::Reply { id, result, waits }
                if !machine.disk.is_pending() || !(waits || used_pending) =>
            {
                self.outcomes.insert(id, (self.now, result));
            }
            Effect::Send { to, envelope } if !machine.disk.is_pending() => {
                self.post.send(self.now, latency, Mail { to, envelope });
            }
            waits => machine.waiting.push(waits),
        }
    }

    /// Moves time on, with everything that happens until then.
    pub(crate) fn run_until(&mut self, end: Duration) {
        while self.next_happening().is_some_and(|at| at <= end) {
            self.one_happening();
        }
        self.now = end;
    }

    /// Moves time on until a request is answered, or to `end`.
    pub(crate) fn run_until_answered(&mut self, id: OpId, end: Duration) {
        while !self.outcomes.contains_key(&id) && self.next_happening().is_some_and(|at| at <= end)
        {
            self.one_happening();
        }
    }

    fn next_happening(&self) -> Option<Duration> {
        let wakes = self.machines.values().filter_map(|m| m.wake);
        wakes.chain(self.post.next_arrival()).min()
    }

    fn one_happening(&mut self) {
        let Some(at) = self.next_happening() else {
            return;
        };
        self.now = self.now.max(at);
        if let Some(mail) = self.post.take_arrived(self.now) {
            self.feed(mail.to, Event::Received(mail.envelope));
            return;
        }
        let due = |(_, m): &(&NodeId, &mut Machine)| m.wake.is_some_and(|at| at <= self.now);
        if let Some((node, machine)) = self.machines.iter_mut().find(due) {
            let node = *node;
            machine.wake = None;
            self.feed(node, Event::Tick);
        }
    }
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}
