//! When which action is due: by seed, layout and time alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Action, Clock, Data, Disk, Layout, Nemesis, NodeIndex, Support, Wire, between};
use crate::random::Random;

/// Wall clocks jump by at most this: two that do so in opposite directions are within what the product accepts.
const JUMP_MS_MAX: u64 = 240;
/// Shortest and longest time that a fault lasts, milliseconds.
const LASTS_MS: (u64, u64) = (1_500, 5_000);
/// Shortest and longest time between two faults of a kind, milliseconds.
const PAUSE_MS: (u64, u64) = (800, 3_000);
/// Shortest and longest tail of a disk that is lost, milliseconds: less than the sequence file lags, and much more.
const TAIL_MS: (u64, u64) = (20, 1_000);

/// An action and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Time since the load began.
    pub at: Duration,
    /// What to do.
    pub action: Action,
    /// Which kind of fault it belongs to.
    pub of: Nemesis,
    /// Whether a fault begins with it (`true`), goes on or ends.
    pub begins: bool,
}

/// What is done to a cluster during a run. At its end nothing is healed yet: the engine heals everything.
#[derive(Clone, Debug)]
pub struct Plan {
    layout: Layout,
    kinds: Vec<Nemesis>,
    until: Duration,
    victim: NodeIndex,
    planned: Vec<Planned>,
}

impl Plan {
    /// A plan for so long a load, in which each kind of fault strikes again and again, independently of the others.
    ///
    /// Destroying kinds all strike one and the same node, each once.
    #[must_use]
    pub fn new(layout: Layout, kinds: &[Nemesis], until: Duration, random: &mut Random) -> Plan {
        let mut plan = Plan {
            layout,
            kinds: kinds.to_vec(),
            until,
            victim: random.below(layout.nodes() as u64) as usize,
            planned: Vec::new(),
        };
        for kind in kinds {
            plan.add(*kind, random);
        }
        plan.planned.sort_by_key(|planned| planned.at);
        plan
    }

    /// A plan that is written down: what is due when, in order, and nothing else.
    #[must_use]
    pub fn staged(layout: Layout, planned: Vec<Planned>) -> Plan {
        let kinds = planned.iter().map(|it| it.of);
        let kinds: std::collections::BTreeSet<Nemesis> = kinds.collect();
        Plan {
            layout,
            kinds: kinds.into_iter().collect(),
            until: planned.last().map_or(Duration::ZERO, |it| it.at),
            victim: 0,
            planned,
        }
    }

    /// Kinds that were asked for and do nothing in this plan although they could: the layout has too few nodes, or
    /// the load is too short.
    pub fn idle(&self) -> impl Iterator<Item = Nemesis> {
        let able = |kind: &&Nemesis| **kind != Nemesis::Calm && kind.support() == Support::Yes;
        let idle = |kind: &Nemesis| self.planned.iter().all(|planned| planned.of != *kind);
        self.kinds.iter().filter(able).copied().filter(idle)
    }

    /// The actions in order of time.
    #[must_use]
    pub fn planned(&self) -> &[Planned] {
        &self.planned
    }

    fn add(&mut self, kind: Nemesis, random: &mut Random) {
        let mut at = between(random, PAUSE_MS.0, PAUSE_MS.1).min(self.until / 4);
        loop {
            let left = self.until.saturating_sub(at);
            let lasts = between(random, LASTS_MS.0, LASTS_MS.1).min(left / 2);
            // What is too short to matter, unless nothing else fits.
            if lasts < Duration::from_millis(LASTS_MS.0).min(self.until / 4) {
                return;
            }
            let mut strike = Strike {
                plan: self,
                kind,
                at,
                begins: true,
            };
            strike.draw(lasts, random);
            at += lasts + between(random, PAUSE_MS.0, PAUSE_MS.1);
            if kind.destroys() || kind == Nemesis::RollingRestart {
                return;
            }
        }
    }
}

/// One fault of a kind, being planned.
struct Strike<'a> {
    plan: &'a mut Plan,
    kind: Nemesis,
    at: Duration,
    begins: bool,
}

impl Strike<'_> {
    fn act(&mut self, action: Action) {
        let planned = Planned {
            at: self.at,
            action,
            of: self.kind,
            begins: std::mem::replace(&mut self.begins, false),
        };
        self.plan.planned.push(planned);
    }

    fn later(&mut self, by: Duration) {
        self.at += by;
    }

    /// Both directions between two nodes.
    fn both(&mut self, a: NodeIndex, b: NodeIndex, wire: Wire) {
        self.act(Action::Wire(a, b, wire));
        self.act(Action::Wire(b, a, wire));
    }

    /// Cuts every pair of nodes of which `apart` says so, for a while. It is asked with the greater one first.
    fn cut(&mut self, lasts: Duration, apart: impl Fn(NodeIndex, NodeIndex) -> bool) {
        let nodes = self.plan.layout.nodes();
        let pairs: Vec<_> = (0..nodes)
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .filter(|(a, b)| apart(*a, *b))
            .collect();
        for (a, b) in &pairs {
            self.both(*a, *b, Wire::Blackhole);
        }
        self.later(lasts);
        for (a, b) in pairs {
            self.both(a, b, Wire::Open);
        }
    }

    /// Every direction between regions does this for a while.
    fn weather(&mut self, lasts: Duration, wire: Wire) {
        let layout = self.plan.layout;
        let nodes = layout.nodes();
        let far = move |a: NodeIndex, b: NodeIndex| layout.region_of(a) != layout.region_of(b);
        for wire in [wire, Wire::Open] {
            for from in 0..nodes {
                for to in (0..nodes).filter(|to| far(from, *to)) {
                    self.act(Action::Wire(from, to, wire));
                }
            }
            self.later(lasts);
        }
    }

    fn draw(&mut self, lasts: Duration, random: &mut Random) {
        let layout = self.plan.layout;
        let nodes = layout.nodes() as u64;
        let node = random.below(nodes) as usize;
        let other = (node + 1 + random.below(nodes.max(2) - 1) as usize) % nodes as usize;
        match self.kind {
            Nemesis::Calm | Nemesis::Membership | Nemesis::Upgrade => {}
            Nemesis::FullPartition => {
                let side = halves(random, layout.nodes());
                self.cut(lasts, |a, b| side[a] != side[b]);
            }
            Nemesis::OneWayPartition => {
                self.act(Action::Wire(node, other, Wire::Blackhole));
                self.later(lasts);
                self.act(Action::Wire(node, other, Wire::Open));
            }
            Nemesis::PartialPartition => self.link(lasts, node, other, Wire::Blackhole),
            Nemesis::BridgePartition => {
                let side = halves(random, layout.nodes());
                self.cut(lasts, |a, b| a != node && b != node && side[a] != side[b]);
            }
            Nemesis::RingPartition => {
                let nodes = layout.nodes();
                self.cut(lasts, |a, b| a - b != 1 && a - b != nodes - 1);
            }
            Nemesis::RegionIsolation => {
                let region = layout.region_of(node);
                let inside = |node| layout.region_of(node) == region;
                self.cut(lasts, |a, b| inside(a) != inside(b));
            }
            Nemesis::Flapping => self.flap(lasts, node, random),
            Nemesis::Swizzle => self.swizzle(lasts, random),
            Nemesis::Delay => self.weather(lasts, Wire::Delay(random.between(100, 800))),
            Nemesis::Jitter => self.weather(lasts, Wire::Jitter(random.between(50, 400))),
            Nemesis::Loss => self.weather(lasts, Wire::Loss(random.between(10, 300))),
            Nemesis::Duplication => {
                self.weather(lasts, Wire::Duplication(random.between(50, 500)));
            }
            Nemesis::SlowDrip => self.weather(lasts, Wire::Bandwidth(random.between(2, 20) << 10)),
            Nemesis::Reset => self.link(lasts, node, other, Wire::Reset),
            Nemesis::HalfOpen => self.link(lasts, node, other, Wire::HalfOpen),
            _ => self.on_node(lasts, node, random),
        }
    }

    fn link(&mut self, lasts: Duration, a: NodeIndex, b: NodeIndex, wire: Wire) {
        self.both(a, b, wire);
        self.later(lasts);
        self.both(a, b, Wire::Open);
    }

    fn flap(&mut self, lasts: Duration, node: NodeIndex, random: &mut Random) {
        let end = self.at + lasts;
        while self.at < end {
            self.cut(between(random, 50, 300), |a, b| a == node || b == node);
            self.later(between(random, 50, 300));
        }
    }

    fn swizzle(&mut self, lasts: Duration, random: &mut Random) {
        let nodes = self.plan.layout.nodes();
        let pause = lasts / (2 * nodes as u32);
        for wire in [Wire::Blackhole, Wire::Open] {
            for node in shuffled(random, nodes) {
                for other in (0..nodes).filter(|other| *other != node) {
                    self.both(node, other, wire);
                }
                self.later(pause);
            }
        }
    }

    /// Faults of processes, clocks and disks.
    fn on_node(&mut self, lasts: Duration, node: NodeIndex, random: &mut Random) {
        match self.kind {
            Nemesis::Kill => self.away(lasts, Action::Kill(node), None, node),
            Nemesis::Restart => self.away(lasts / 4, Action::Stop(node), None, node),
            Nemesis::RollingRestart => {
                for node in 0..self.plan.layout.nodes() {
                    self.away(Duration::from_millis(200), Action::Stop(node), None, node);
                    self.later(lasts / 2);
                }
            }
            Nemesis::Pause => self.lasting(lasts, Action::Pause(node), Action::Resume(node)),
            Nemesis::SlowCpu => {
                let slow = Action::Processor(node, 5);
                self.lasting(lasts, slow, Action::Processor(node, 100));
            }
            Nemesis::ClockJump => {
                let jump = random.between(0, 2 * JUMP_MS_MAX) as i64 - JUMP_MS_MAX as i64;
                self.clock(lasts, node, Clock::Offset(jump));
            }
            // At most so much is gained or lost as a jump may be.
            Nemesis::ClockDrift => {
                let rate = if random.chance(500) { 1040 } else { 960 };
                self.clock(lasts, node, Clock::Rate(rate));
            }
            Nemesis::ClockFreeze => {
                let lasts = lasts.min(Duration::from_millis(JUMP_MS_MAX));
                self.clock(lasts, node, Clock::Frozen);
            }
            Nemesis::PowerCut => self.power_cut(lasts, node, Data::DropUnsynced),
            Nemesis::TornWrite => self.power_cut(lasts, node, Data::Tear),
            Nemesis::SlowDisk => {
                let slow = Disk::Slow(random.between(50, 500));
                self.disk(lasts, node, slow);
            }
            Nemesis::DiskFull => self.disk(lasts, node, Disk::Full),
            // A node that met a failed sync takes nothing more until it is started again.
            Nemesis::FailedSync => {
                self.disk(lasts, node, Disk::FailSyncs);
                self.power_cut(Duration::from_millis(200), node, Data::DropUnsynced);
            }
            _ => self.destroy(lasts, random),
        }
    }

    fn lasting(&mut self, lasts: Duration, begin: Action, end: Action) {
        self.act(begin);
        self.later(lasts);
        self.act(end);
    }

    fn clock(&mut self, lasts: Duration, node: NodeIndex, clock: Clock) {
        let end = Action::Clock(node, Clock::True);
        self.lasting(lasts, Action::Clock(node, clock), end);
    }

    fn disk(&mut self, lasts: Duration, node: NodeIndex, disk: Disk) {
        let end = Action::Disk(node, Disk::Healthy);
        self.lasting(lasts, Action::Disk(node, disk), end);
    }

    fn power_cut(&mut self, lasts: Duration, node: NodeIndex, data: Data) {
        self.away(lasts, Action::Kill(node), Some(data), node);
    }

    /// A process ends, something may happen to its data, and it is back after a while.
    fn away(&mut self, lasts: Duration, end: Action, data: Option<Data>, node: NodeIndex) {
        self.act(end);
        if let Some(data) = data {
            self.act(Action::Data(node, data));
        }
        self.later(lasts);
        self.act(Action::Start(node));
    }

    /// The run's victim loses something it had synced.
    fn destroy(&mut self, lasts: Duration, random: &mut Random) {
        let node = self.plan.victim;
        match self.kind {
            Nemesis::BitFlip => self.power_cut(lasts, node, Data::FlipBit),
            Nemesis::MisdirectedBlock => self.power_cut(lasts, node, Data::Misdirect),
            Nemesis::LostTail => {
                let tail_ms = random.between(TAIL_MS.0, TAIL_MS.1);
                self.power_cut(lasts, node, Data::LoseTail(tail_ms));
            }
            Nemesis::WipedNode => self.power_cut(lasts, node, Data::Wipe),
            Nemesis::OldCopy => {
                let short = Duration::from_millis(200);
                self.power_cut(short, node, Data::Keep);
                self.later(lasts);
                self.power_cut(short, node, Data::Restore);
            }
            _ => self.act(Action::Clone(node)),
        }
    }
}

/// Which side each node is on; both have one.
fn halves(random: &mut Random, nodes: usize) -> Vec<bool> {
    let order = shuffled(random, nodes);
    let mut side = vec![false; nodes];
    for node in order.iter().take(nodes.div_ceil(2)) {
        side[*node] = true;
    }
    side
}

fn shuffled(random: &mut Random, nodes: usize) -> Vec<NodeIndex> {
    let mut order: Vec<NodeIndex> = (0..nodes).collect();
    for at in (1..nodes).rev() {
        order.swap(at, random.below(at as u64 + 1) as usize);
    }
    order
}
