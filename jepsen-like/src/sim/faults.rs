//! A plan of the shared vocabulary, carried out in the simulated world.
//!
//! | the plan says | here |
//! | --- | --- |
//! | black hole | messages vanish; the first ones after the cut wait and come out after it |
//! | half open | messages vanish until the connection is noticed to be dead and made anew |
//! | reset | both ends are told, and no new connection comes about |
//! | kill | of what was not synced the oldest part had reached the system and stays |
//! | stop | everything was synced |
//! | failed sync, full disk | at the next sync the replica in memory is thrown away; until it is started again the node refuses everybody |
//! | torn write | of the unsynced groups the oldest part is there, whole: a part of a group fails its checksum |
//! | bit flip | a record in use is damaged within seconds, whether the node runs or not: one that runs may meet it |
//! | misdirected block | a record is damaged before the start, whose check of all records finds it |
//!
//! A damaged store is put aside at the next start, at the latest when everything heals.

use std::collections::BTreeMap;
use std::time::Duration;

use hansa_consistency::key::NodeId;
use hansa_consistency::message::Envelope;
use hansa_consistency::request::{Applied, Reason, Refusal};

use super::node::Node;
use super::world::{CLIENT_US, LINK_BROKEN_US, Todo, World};
use crate::nemesis::{
    Action, Clock, Data, Disk, Layout, Nemesis, NodeIndex, Planned, Refused, Situation, Wire,
};

/// When the plan begins, microseconds of the run: the nodes are up then.
pub const PLAN_BEGINS_US: u64 = 1_000_000;
/// Messages that wait in a black hole for its end, per direction: about what a socket's buffer holds.
const HELD_MAX: usize = 64;
/// How soon and how late a half-open connection is noticed, microseconds.
const NOTICED_US: (u64, u64) = (1_000_000, 3_000_000);
/// What one step takes on a whole processor, microseconds; only counted on less than a whole one.
const STEP_US: u64 = 100;
/// How late after it was planned a bit at rest flips, microseconds. Everything heals later than that.
const ROT_US_MAX: u64 = 3_900_000;
/// How long after a full disk has space again its node is back, microseconds.
const SPACE_NOTICED_US: u64 = 1_000_000;
/// Synced groups that a disk loses with its tail, at most.
const TAIL_GROUPS_MAX: u64 = 8;

/// The plan and what came of it.
#[derive(Debug)]
pub struct Faults {
    planned: Vec<Planned>,
    situation: Situation,
    /// Kinds of which something was not carried out, and why.
    pub refused: BTreeMap<Nemesis, String>,
    /// What waits in black holes.
    held: BTreeMap<(NodeId, NodeId), Vec<Envelope>>,
    /// What waits until paused nodes go on, in order.
    postponed: BTreeMap<NodeId, Vec<Todo>>,
    /// Whether any node was ever paused or slowed down.
    hinders: bool,
}

impl Faults {
    /// Nothing planned.
    #[must_use]
    pub fn none(layout: Layout) -> Faults {
        Faults {
            planned: Vec::new(),
            situation: Situation::new(layout),
            refused: BTreeMap::new(),
            held: BTreeMap::new(),
            postponed: BTreeMap::new(),
            hinders: false,
        }
    }

    /// A message waits in a black hole, if there is room.
    pub fn hold(&mut self, direction: (NodeId, NodeId), envelope: Envelope) {
        let held = self.held.entry(direction).or_default();
        if held.len() < HELD_MAX {
            held.push(envelope);
        }
    }
}

/// The refusal of a request by a node whose disk failed.
pub fn stranded(applied: Applied) -> Refusal {
    let message = "this node's disk failed or is full: ask another node";
    Refusal {
        applied,
        ..Refusal::not_applied(Reason::StoreFailed, message)
    }
}

impl World {
    /// Plans what a plan says. To be called before anything happened.
    pub fn follow(&mut self, planned: &[Planned]) {
        self.faults.planned = planned.to_vec();
        for (place, it) in planned.iter().enumerate() {
            let at = PLAN_BEGINS_US + it.at.as_micros() as u64;
            self.after(at, Todo::Planned(place));
        }
    }

    /// Carries out what stands at a place of the plan.
    pub(super) fn carry_out(&mut self, place: usize) {
        let Some(planned) = self.faults.planned.get(place).copied() else {
            return;
        };
        match self.do_action(planned.action) {
            Ok(()) => self.note_planned(&planned),
            Err(refused) => {
                let why = self.faults.refused.entry(planned.of);
                why.or_insert_with(|| refused.to_string());
            }
        }
    }

    fn do_action(&mut self, action: Action) -> Result<(), Refused> {
        match action {
            Action::Wire(from, to, wire) => {
                let (from, to) = (self.at(from)?, self.at(to)?);
                self.bend(from, to, wire);
            }
            Action::HealWires => self.open_wires(),
            Action::Kill(node) => {
                let node = self.at(node)?;
                let unsynced = self.node(node).map_or(0, |node| node.disk.unsynced());
                let handed_over = self.random.below(unsynced as u64 + 1) as usize;
                self.end_process(node, handed_over);
            }
            Action::Stop(node) => {
                let node = self.at(node)?;
                self.end_process(node, usize::MAX);
            }
            Action::Start(node) => {
                let node = self.at(node)?;
                self.after(0, Todo::Restart(node));
            }
            Action::Pause(node) => {
                let node = self.at(node)?;
                self.faults.hinders = true;
                self.with(node, |node| node.paused = true);
            }
            Action::Resume(node) => {
                let node = self.at(node)?;
                self.resume(node);
            }
            Action::Processor(node, percent) => {
                let node = self.at(node)?;
                self.faults.hinders = true;
                self.with(node, |node| node.processor = percent.max(1));
            }
            Action::Clock(node, clock) => {
                let (node, now_us) = (self.at(node)?, self.now_us);
                self.with(node, |node| node.set_clock(clock, now_us));
            }
            Action::Disk(node, disk) => {
                let node = self.at(node)?;
                self.set_disk(node, disk);
            }
            Action::Data(node, data) => {
                let node = self.at(node)?;
                self.change_data(node, data);
            }
            Action::Clone(_) => {
                return Err(Refused::NotHere(
                    "the simulator has one process per node; real processes try it".into(),
                ));
            }
        }
        Ok(())
    }

    /// The node at a place of the layout.
    fn at(&self, node: NodeIndex) -> Result<NodeId, Refused> {
        let found = self.nodes.keys().nth(node).copied();
        found.ok_or_else(|| Refused::Failed(format!("the cluster has no node {node}")))
    }

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    fn with(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(&id) {
            change(node);
        }
    }

    // --- the network

    fn bend(&mut self, from: NodeId, to: NodeId, wire: Wire) {
        let before = self.network.wire(from, to);
        if before == Wire::HalfOpen {
            // It stays so until somebody notices, whatever the network does meanwhile.
            return;
        }
        self.network.set_wire(from, to, wire);
        match wire {
            Wire::Reset => {
                self.tell_link(from, to, false);
                // Tried again until it is let through.
                self.after(LINK_BROKEN_US, Todo::Link(from, to, true));
                self.after(LINK_BROKEN_US, Todo::Link(to, from, true));
            }
            Wire::HalfOpen => {
                let noticed = self.random.between(NOTICED_US.0, NOTICED_US.1);
                self.after(noticed, Todo::Noticed(from, to));
            }
            _ => {}
        }
        if before == Wire::Blackhole && wire != Wire::Blackhole {
            self.release_held((from, to));
        }
    }

    fn tell_link(&mut self, a: NodeId, b: NodeId, up: bool) {
        for (from, to) in [(a, b), (b, a)] {
            let told = self.random.between(0, 1_000);
            self.after(told, Todo::Link(from, to, up));
        }
    }

    fn release_held(&mut self, direction: (NodeId, NodeId)) {
        for envelope in self.faults.held.remove(&direction).unwrap_or_default() {
            let late = self.random.between(1_000, 50_000);
            self.after(late, Todo::Arrive(direction.1, Box::new(envelope)));
        }
    }

    /// A half-open connection is noticed: it breaks and is made anew.
    pub(super) fn notice(&mut self, from: NodeId, to: NodeId) {
        if self.network.wire(from, to) == Wire::HalfOpen {
            self.network.set_wire(from, to, Wire::Open);
            self.drop_link(from, to);
        }
    }

    fn open_wires(&mut self) {
        for (from, to) in self.network.bent() {
            self.bend(from, to, Wire::Open);
        }
    }

    // --- processes

    fn end_process(&mut self, id: NodeId, handed_over: usize) {
        self.faults.postponed.remove(&id);
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if node.replica.is_some() {
            node.end(handed_over);
            self.tell_gone(id);
        }
        self.with(id, |node| node.stranded = false);
    }

    fn resume(&mut self, id: NodeId) {
        self.with(id, |node| node.paused = false);
        for todo in self.faults.postponed.remove(&id).unwrap_or_default() {
            self.after(0, todo);
        }
    }

    /// What is due at a node that stands still or has no processor for it waits; everything else is given back.
    pub(super) fn unhindered(&mut self, todo: Todo) -> Option<Todo> {
        if !self.faults.hinders {
            return Some(todo);
        }
        let id = match &todo {
            Todo::Arrive(node, _) | Todo::Ask(node, ..) | Todo::Link(node, ..) => *node,
            Todo::Release(node, life, _) | Todo::Wake(node, life) | Todo::Tick(node, life) => {
                let current = self.nodes.get(node).is_some_and(|n| n.life == *life);
                current.then_some(*node)?
            }
            _ => return Some(todo),
        };
        let now = self.now_us;
        let node = self.nodes.get_mut(&id)?;
        let waits_us = node.busy_until_us.saturating_sub(now);
        if !node.paused && waits_us == 0 {
            if node.processor < 100 {
                node.busy_until_us = now + STEP_US * 100 / u64::from(node.processor);
            }
            return Some(todo);
        }
        // A wake is only due at its own moment: later it is another thing.
        let todo = match todo {
            Todo::Wake(_, life) if node.wake_us == Some(now) => Todo::Tick(id, life),
            Todo::Wake(..) => return None,
            todo => todo,
        };
        match node.paused {
            true => self.faults.postponed.entry(id).or_default().push(todo),
            false => self.after(waits_us, todo),
        }
        None
    }

    // --- disks

    /// The disk failed at a sync: the replica is thrown away, and who waits for it is told.
    pub(super) fn strand(&mut self, id: NodeId) {
        self.with(id, Node::strand);
        self.faults.postponed.remove(&id);
        for (number, writes) in self.asked(id) {
            let applied = match writes {
                true => Applied::Maybe,
                false => Applied::No,
            };
            let refused = Box::new(Err(stranded(applied)));
            self.after(CLIENT_US, Todo::Answer(number, refused));
        }
    }

    fn set_disk(&mut self, id: NodeId, disk: Disk) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let was_full = node.disk_fault == Disk::Full;
        node.disk_fault = disk;
        // A full disk is tried again and again; one that failed is not trusted any more.
        if was_full && disk == Disk::Healthy && node.stranded {
            self.after(SPACE_NOTICED_US, Todo::Restart(id));
        }
    }

    fn change_data(&mut self, id: NodeId, data: Data) {
        self.end_process(id, usize::MAX);
        let place = self.random.below(u64::MAX);
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let lost = match data {
            Data::DropUnsynced => node.disk.crash(0),
            Data::Tear => {
                let unsynced = node.disk.unsynced() as u64;
                node.disk.tear((place % (unsynced + 1)) as usize);
                Vec::new()
            }
            // Groups are what is synced there, whatever their time.
            Data::LoseTail(_) => {
                let tail = 1 + (place % TAIL_GROUPS_MAX) as usize;
                node.crash(super::node::Damage::Tail(tail))
            }
            Data::FlipBit => {
                let after = self.random.below(ROT_US_MAX);
                self.after(after, Todo::Rot(id, place));
                Vec::new()
            }
            Data::Misdirect => {
                node.disk.crash(0);
                node.disk.damage(place);
                Vec::new()
            }
            Data::Wipe => node.crash(super::node::Damage::Whole),
            Data::Keep => {
                node.keep();
                Vec::new()
            }
            Data::Restore => node.restore(),
        };
        self.lose(id, lost);
    }

    // --- the end

    /// Ends every fault of the plan; nodes that are down are started by whoever calls.
    pub(super) fn end_faults(&mut self) {
        if self.faults.planned.is_empty() {
            return;
        }
        self.open_wires();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.resume(id);
            let now_us = self.now_us;
            self.with(id, |node| {
                node.processor = 100;
                node.disk_fault = Disk::Healthy;
                node.set_clock(Clock::True, now_us);
            });
            if self.node(id).is_some_and(|node| node.disk.is_damaged()) {
                // As the refusals of such a node say: it is rebuilt from its peers.
                self.end_process(id, usize::MAX);
            }
        }
        self.after(PLAN_BEGINS_US, Todo::Healed);
    }

    // --- the record

    fn note_planned(&mut self, planned: &Planned) {
        let at = Duration::from_micros(self.now_us);
        self.faults.situation.apply(&planned.action, at);
        self.note_situation(Some(planned), false);
    }

    pub(super) fn note_healed(&mut self) {
        self.faults.situation.heal();
        self.note_situation(None, true);
    }

    fn note_situation(&mut self, planned: Option<&Planned>, ended: bool) {
        let regions = self.topology().regions.keys();
        let names: Vec<String> = regions.map(|region| format!("r{}", region.0)).collect();
        let event = self.faults.situation.event(&names, planned, ended);
        let now_ns = self.now_ns();
        self.history.records.push(event.record(now_ns, now_ns));
    }
}
