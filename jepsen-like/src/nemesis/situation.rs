//! What the faults in force mean for the regions: who hears whom, and who is promised what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Action, Clock, Disk, Layout, Nemesis, NodeIndex, Planned, Wire};
use crate::history::events::{FaultEvent, Phase};

/// What is promised to a region while the present faults last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its nodes are up and whole, and it hears no other region, nor any other it: eventual operations must go on.
    Isolated,
    /// Its nodes are up and whole, and it is in a majority of regions of which all hear each other: strong operations
    /// must go on, eventual ones too.
    Majority,
    /// Something else is wrong: nothing is promised but the truth.
    Impaired,
}

/// How long a node that was started, or whose disk or clock is healthy again, may take to serve as before.
pub const RECOVERS_WITHIN: Duration = Duration::from_secs(4);

/// Why a node is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Ended,
    Paused,
    Slow,
    Clock,
    Disk,
}

/// The faults in force.
#[derive(Clone, Debug)]
pub struct Situation {
    layout: Layout,
    wires: BTreeMap<(NodeIndex, NodeIndex), Wire>,
    /// What ails nodes, each cause by itself: one may end while another lasts.
    ailing: BTreeMap<NodeIndex, BTreeSet<Cause>>,
    /// When nodes were started or their disks mended: they are not whole at once.
    mended: BTreeMap<NodeIndex, Duration>,
    /// Nodes of which a disk may have lost something: they serve what they can prove, for the rest of the run.
    spoilt: BTreeSet<NodeIndex>,
}

impl Situation {
    /// Without faults.
    #[must_use]
    pub fn new(layout: Layout) -> Situation {
        Situation {
            layout,
            wires: BTreeMap::new(),
            ailing: BTreeMap::new(),
            mended: BTreeMap::new(),
            spoilt: BTreeSet::new(),
        }
    }

    /// Takes in an action that is carried out at this time of the run.
    pub fn apply(&mut self, action: &Action, at: Duration) {
        self.mended.retain(|_, since| *since + RECOVERS_WITHIN > at);
        match *action {
            Action::Wire(from, to, Wire::Open) => {
                self.wires.remove(&(from, to));
            }
            Action::Wire(from, to, wire) => {
                self.wires.insert((from, to), wire);
            }
            Action::HealWires => self.wires.clear(),
            Action::Start(node) => {
                // A process that was paused and ended is not paused any more.
                self.ends(node, Cause::Paused);
                self.ends(node, Cause::Ended);
                self.mended.insert(node, at);
            }
            Action::Disk(node, Disk::Healthy) => {
                self.ends(node, Cause::Disk);
                self.mended.insert(node, at);
            }
            Action::Resume(node) => self.ends(node, Cause::Paused),
            Action::Processor(node, 100) => self.ends(node, Cause::Slow),
            // What it stamped while it was ahead has to be behind it first.
            Action::Clock(node, Clock::True) => {
                self.ends(node, Cause::Clock);
                self.mended.insert(node, at);
            }
            Action::Kill(node) | Action::Stop(node) => self.begins(node, Cause::Ended),
            Action::Pause(node) => self.begins(node, Cause::Paused),
            Action::Processor(node, _) => self.begins(node, Cause::Slow),
            Action::Clock(node, _) => self.begins(node, Cause::Clock),
            Action::Disk(node, _) => self.begins(node, Cause::Disk),
            Action::Data(node, data) if data.destroys() => {
                self.spoilt.insert(node);
            }
            Action::Data(..) => {}
            Action::Clone(node) => {
                self.spoilt.insert(node);
            }
        }
    }

    fn begins(&mut self, node: NodeIndex, cause: Cause) {
        self.ailing.entry(node).or_default().insert(cause);
    }

    fn ends(&mut self, node: NodeIndex, cause: Cause) {
        if let Some(causes) = self.ailing.get_mut(&node) {
            causes.remove(&cause);
            if causes.is_empty() {
                self.ailing.remove(&node);
            }
        }
    }

    /// Forgets everything but what disks lost.
    pub fn heal(&mut self) {
        self.wires.clear();
        self.ailing.clear();
        self.mended.clear();
    }

    /// What each region is promised now.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let regions = 0..self.layout.regions;
        let connected = |a: usize, b: usize| self.wire(a, b) == Some(Wire::Open);
        let group = |of: usize| {
            let near = regions
                .clone()
                .filter(|other| *other == of || connected(of, *other));
            let near: Vec<usize> = near.filter(|region| self.is_whole(*region)).collect();
            let pairs = near
                .iter()
                .all(|a| near.iter().all(|b| a == b || connected(*a, *b)));
            (near.len(), pairs)
        };
        let cut = |a: usize, b: usize| self.wire(a, b) == Some(Wire::Blackhole);
        let standing = |region: usize| {
            if !self.is_whole(region) {
                return Standing::Impaired;
            }
            let mut others = regions.clone().filter(|other| *other != region);
            let (near, pairs) = group(region);
            match near * 2 > self.layout.regions && pairs {
                true => Standing::Majority,
                false if others.all(|other| cut(region, other)) => Standing::Isolated,
                false => Standing::Impaired,
            }
        };
        regions.clone().map(standing).collect()
    }

    /// The line of a history that says so; `names` are those of the regions. The whole cluster is told: what was
    /// done last is only what it is called by.
    #[must_use]
    pub fn event(&self, names: &[String], planned: Option<&Planned>, ended: bool) -> FaultEvent {
        let standings = self.standings();
        let of = |standing: Standing| -> Vec<String> {
            let all = names.iter().zip(&standings);
            all.filter(|(_, it)| **it == standing)
                .map(|(name, _)| name.clone())
                .collect()
        };
        let connected = of(Standing::Majority);
        FaultEvent {
            nemesis: planned.map_or(Nemesis::Calm, |it| it.of).name(),
            phase: match planned {
                _ if ended => Phase::End,
                Some(it) if !it.begins => Phase::Act,
                _ => Phase::Begin,
            },
            action: planned.map(|it| it.action.to_string()),
            isolated: Some(of(Standing::Isolated)),
            majority: Some(!connected.is_empty()),
            connected,
            impaired: of(Standing::Impaired),
        }
    }

    /// Whether nothing is wrong with a region's nodes and with what is between them.
    fn is_whole(&self, region: usize) -> bool {
        let well = |node: NodeIndex| {
            let ails = self.ailing.contains_key(&node) || self.mended.contains_key(&node);
            !ails && !self.spoilt.contains(&node)
        };
        let mut nodes = self.layout.nodes_of(region);
        let inside = self.wires.keys().any(|(from, to)| {
            self.layout.region_of(*from) == region && self.layout.region_of(*to) == region
        });
        !inside && nodes.all(well)
    }

    /// What every direction between two regions does; `None` when they differ.
    fn wire(&self, a: usize, b: usize) -> Option<Wire> {
        let (layout, wires) = (self.layout, &self.wires);
        let one_way = |a: usize, b: usize| {
            let pairs = layout
                .nodes_of(a)
                .flat_map(move |from| layout.nodes_of(b).map(move |to| (from, to)));
            pairs.map(|pair| wires.get(&pair).copied().unwrap_or(Wire::Open))
        };
        let mut all = one_way(a, b).chain(one_way(b, a));
        let first = all.next()?;
        all.all(|wire| wire == first).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Data;
    use super::*;

    const LAYOUT: Layout = Layout {
        regions: 3,
        nodes_per_region: 1,
    };

    fn after(actions: &[Action]) -> Vec<Standing> {
        let mut situation = Situation::new(LAYOUT);
        for action in actions {
            situation.apply(action, Duration::ZERO);
        }
        situation.standings()
    }

    fn isolate(node: NodeIndex) -> Vec<Action> {
        let others = (0..3).filter(|other| *other != node);
        let both = others.flat_map(|other| [(node, other), (other, node)]);
        both.map(|(from, to)| Action::Wire(from, to, Wire::Blackhole))
            .collect()
    }

    #[test]
    fn a_region_that_hears_nobody_is_isolated_and_the_others_are_a_majority() {
        use Standing::{Isolated, Majority};
        assert_eq!(after(&[]), [Majority; 3]);
        assert_eq!(after(&isolate(1)), [Majority, Isolated, Majority]);
        let mut healed = isolate(1);
        healed.push(Action::HealWires);
        assert_eq!(after(&healed), [Majority; 3]);
    }

    #[test]
    fn one_cause_may_end_while_another_lasts_and_a_start_takes_its_time() {
        use Standing::{Impaired, Majority};
        let both = [
            Action::Kill(0),
            Action::Disk(0, Disk::Full),
            Action::Disk(0, Disk::Healthy),
        ];
        assert_eq!(after(&both)[0], Impaired, "it does not run");
        let mut situation = Situation::new(LAYOUT);
        let second = Duration::from_secs;
        situation.apply(&Action::Kill(0), second(1));
        situation.apply(&Action::Start(0), second(2));
        assert_eq!(situation.standings()[0], Impaired, "just started");
        situation.apply(&Action::HealWires, second(6));
        assert_eq!(situation.standings(), [Majority; 3]);
    }

    #[test]
    fn one_direction_or_one_dead_node_is_neither() {
        use Standing::{Impaired, Majority};
        let one_way = Action::Wire(0, 1, Wire::Blackhole);
        assert_eq!(
            after(&[one_way])[2],
            Impaired,
            "0 and 1 do not hear each other"
        );
        assert_eq!(after(&[Action::Kill(0)]), [Impaired, Majority, Majority]);
        let mut alone = isolate(2);
        alone.push(Action::Kill(0));
        assert_eq!(after(&alone)[1], Impaired);
        let wiped = [
            Action::Kill(0),
            Action::Data(0, Data::Wipe),
            Action::Start(0),
        ];
        assert_eq!(after(&wiped), [Impaired, Majority, Majority]);
    }
}
