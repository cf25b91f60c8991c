//! What the faults in force mean for the regions: who hears whom, and who is promised what.

use std::collections::{BTreeMap, BTreeSet};

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

/// The faults in force.
#[derive(Clone, Debug)]
pub struct Situation {
    layout: Layout,
    wires: BTreeMap<(NodeIndex, NodeIndex), Wire>,
    /// Nodes that do not run, stand still, are slow, or have a disk or clock with a fault.
    ailing: BTreeSet<NodeIndex>,
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
            ailing: BTreeSet::new(),
            spoilt: BTreeSet::new(),
        }
    }

    /// Takes an action in.
    pub fn apply(&mut self, action: &Action) {
        match *action {
            Action::Wire(from, to, Wire::Open) => {
                self.wires.remove(&(from, to));
            }
            Action::Wire(from, to, wire) => {
                self.wires.insert((from, to), wire);
            }
            Action::HealWires => self.wires.clear(),
            Action::Start(node)
            | Action::Resume(node)
            | Action::Processor(node, 100)
            | Action::Clock(node, Clock::True)
            | Action::Disk(node, Disk::Healthy) => {
                self.ailing.remove(&node);
            }
            Action::Kill(node)
            | Action::Stop(node)
            | Action::Pause(node)
            | Action::Processor(node, _)
            | Action::Clock(node, _)
            | Action::Disk(node, _) => {
                self.ailing.insert(node);
            }
            Action::Data(node, data) if data.destroys() => {
                self.spoilt.insert(node);
            }
            Action::Data(..) => {}
            Action::Clone(node) => {
                self.spoilt.insert(node);
            }
        }
    }

    /// Forgets everything but what disks lost.
    pub fn heal(&mut self) {
        self.wires.clear();
        self.ailing.clear();
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

    fn is_whole(&self, region: usize) -> bool {
        let mut nodes = self.layout.nodes_of(region);
        nodes.all(|node| !self.ailing.contains(&node) && !self.spoilt.contains(&node))
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
            situation.apply(action);
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
