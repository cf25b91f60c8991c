//! When each node could ship what it had acknowledged, and when faults kept it from that.
//!
//! A write is on one disk only until its node has shipped it to some other region. So a node is kept from shipping while
//! it stands (ended, paused, throttled, replaced by a copy, or just started), or while in every other region there is
//! a node that it does not reach: that one ended, stands, has a faulty disk, or a direction between the two does not
//! carry everything. What only makes a direction late (delay, jitter, duplication) keeps nobody from shipping.

use std::collections::{BTreeMap, BTreeSet};

use crate::nemesis::{Action, Disk, Layout, NodeIndex, RECOVERS_WITHIN, Wire};

/// A node that nothing keeps from it ships everything within this, nanoseconds: ten times the longest round trip.
pub(super) const SHIPPED_WITHIN_NS: u64 = 2_200_000_000;

/// Why a node neither ships nor takes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Ended,
    Paused,
    Slow,
    Copied,
    Starting,
}

/// What faults have kept each node from shipping, all along a round.
#[derive(Clone, Debug)]
pub(super) struct Shipping {
    layout: Layout,
    /// Directions that do not carry everything.
    broken: BTreeSet<(NodeIndex, NodeIndex)>,
    standing: BTreeMap<NodeIndex, BTreeSet<Cause>>,
    /// Nodes that can not write what others ship.
    full: BTreeSet<NodeIndex>,
    /// When a node that was started does its work, nanoseconds.
    ready: BTreeMap<NodeIndex, u64>,
    /// Of each node: since when nothing keeps it from shipping; `None` while something does.
    free: Vec<Option<u64>>,
    /// Of each node: what it acknowledged before is shipped, as far as it was told when `free` changed last.
    shipped: Vec<u64>,
}

impl Shipping {
    /// A cluster that has shipped everything at 0.
    pub(super) fn new(layout: Layout) -> Shipping {
        let nodes = layout.nodes();
        let mut shipping = Shipping {
            layout,
            broken: BTreeSet::new(),
            standing: BTreeMap::new(),
            full: BTreeSet::new(),
            ready: BTreeMap::new(),
            free: vec![Some(0); nodes],
            shipped: vec![0; nodes],
        };
        // One region alone ships nothing.
        shipping.turn(0, 0);
        shipping
    }

    /// Takes in an action that began at `from_ns` and was in force at `until_ns`: it keeps from shipping since the first
    /// moment, and ends that at the last.
    pub(super) fn apply(&mut self, action: &Action, from_ns: u64, until_ns: u64) {
        self.pass(from_ns);
        match *action {
            Action::Wire(from, to, wire) if is_broken(wire) => {
                self.broken.insert((from, to));
            }
            Action::Wire(from, to, _) => {
                self.broken.remove(&(from, to));
            }
            Action::HealWires => self.broken.clear(),
            Action::Kill(node) | Action::Stop(node) => {
                self.ready.remove(&node);
                self.begins(node, Cause::Ended);
            }
            Action::Start(node) => self.started(node, until_ns),
            Action::Pause(node) => self.begins(node, Cause::Paused),
            Action::Resume(node) => self.ends(node, Cause::Paused),
            Action::Processor(node, 100) => self.ends(node, Cause::Slow),
            Action::Processor(node, _) => self.begins(node, Cause::Slow),
            Action::Disk(node, Disk::Healthy) => {
                self.full.remove(&node);
            }
            Action::Disk(node, _) => {
                self.full.insert(node);
            }
            // The others follow the newer start, which is the copy's, and hear this node no more.
            Action::Clone(node) => self.begins(node, Cause::Copied),
            Action::Clock(..) | Action::Data(..) => {}
        }
        self.turn(from_ns, until_ns);
    }

    /// What this node acknowledged before this moment has left it by `when_ns`, nanoseconds: nothing kept the node from
    /// shipping for [`SHIPPED_WITHIN_NS`] in a row from then on. Actions after `when_ns` must not have been taken in.
    pub(super) fn shipped_before(&self, node: NodeIndex, when_ns: u64) -> u64 {
        let mut then = self.clone();
        then.pass(when_ns);
        let free = then.free[node].and_then(|since| shipped_since(since, when_ns));
        free.unwrap_or(then.shipped[node])
    }

    fn started(&mut self, node: NodeIndex, at_ns: u64) {
        // Nothing where it runs: what is done to a process ends with the process only.
        if self
            .standing
            .get(&node)
            .is_some_and(|it| it.contains(&Cause::Ended))
        {
            self.begins(node, Cause::Starting);
            for cause in [Cause::Ended, Cause::Copied] {
                self.ends(node, cause);
            }
            let recovers = u64::try_from(RECOVERS_WITHIN.as_nanos()).unwrap_or(u64::MAX);
            self.ready.insert(node, at_ns.saturating_add(recovers));
        }
        self.ends(node, Cause::Paused);
    }

    /// Lets the time pass: nodes that were started do their work.
    fn pass(&mut self, now_ns: u64) {
        while let Some((at, node)) = self.ready.iter().map(|(node, at)| (*at, *node)).min() {
            if at > now_ns {
                return;
            }
            self.ready.remove(&node);
            self.ends(node, Cause::Starting);
            self.turn(at, at);
        }
    }

    fn begins(&mut self, node: NodeIndex, cause: Cause) {
        self.standing.entry(node).or_default().insert(cause);
    }

    fn ends(&mut self, node: NodeIndex, cause: Cause) {
        if let Some(causes) = self.standing.get_mut(&node) {
            causes.remove(&cause);
        }
    }

    /// Notes for which nodes something changed.
    fn turn(&mut self, from_ns: u64, until_ns: u64) {
        for node in 0..self.layout.nodes() {
            match (self.free[node], self.is_kept(node)) {
                (Some(since), true) => {
                    self.free[node] = None;
                    if let Some(shipped) = shipped_since(since, from_ns) {
                        self.shipped[node] = shipped;
                    }
                }
                (None, false) => self.free[node] = Some(until_ns),
                _ => {}
            }
        }
    }

    fn is_kept(&self, node: NodeIndex) -> bool {
        let mut others = (0..self.layout.regions).filter(|it| *it != self.layout.region_of(node));
        let reaches = |region: usize| {
            let mut peers = self.layout.nodes_of(region);
            peers.all(|peer| self.reaches(node, peer))
        };
        self.stands(node) || !others.any(reaches)
    }

    fn reaches(&self, node: NodeIndex, peer: NodeIndex) -> bool {
        let takes = !self.stands(peer) && !self.full.contains(&peer);
        // Without the way back nothing is heard of connections, and none is made.
        let ways = [(node, peer), (peer, node)];
        takes && !ways.iter().any(|way| self.broken.contains(way))
    }

    fn stands(&self, node: NodeIndex) -> bool {
        let causes = self.standing.get(&node);
        causes.is_some_and(|causes| !causes.is_empty())
    }
}

/// What is shipped at `now_ns` by a node that nothing kept from it since `since_ns`; `None` where that is too short.
fn shipped_since(since_ns: u64, now_ns: u64) -> Option<u64> {
    let shipped = now_ns.checked_sub(SHIPPED_WITHIN_NS)?;
    (shipped >= since_ns).then_some(shipped)
}

/// Whether a direction may not carry everything in time.
fn is_broken(wire: Wire) -> bool {
    match wire {
        Wire::Blackhole | Wire::Reset | Wire::HalfOpen | Wire::Loss(_) | Wire::Bandwidth(_) => true,
        Wire::Open | Wire::Delay(_) | Wire::Jitter(_) | Wire::Duplication(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Data;

    const LAYOUT: Layout = Layout {
        regions: 3,
        nodes_per_region: 1,
    };
    const SECOND: u64 = 1_000_000_000;

    /// Actions and the tenths of a second at which they are done, at once.
    fn after(layout: Layout, actions: &[(u64, Action)]) -> Shipping {
        let mut shipping = Shipping::new(layout);
        for (tenths, action) in actions {
            shipping.apply(action, tenths * SECOND / 10, tenths * SECOND / 10);
        }
        shipping
    }

    /// Tenths of a second before which everything of node 0 is shipped at 20 s.
    fn shipped(actions: &[(u64, Action)]) -> u64 {
        after(LAYOUT, actions).shipped_before(0, 20 * SECOND) * 10 / SECOND
    }

    fn both(tenths: u64, peer: NodeIndex, wire: Wire) -> [(u64, Action); 2] {
        [(0, peer), (peer, 0)].map(|(from, to)| (tenths, Action::Wire(from, to, wire)))
    }

    #[test]
    fn faults_elsewhere_keep_nobody_from_shipping() {
        assert_eq!(shipped(&[]), 178);
        assert_eq!(shipped(&both(100, 1, Wire::Blackhole)), 178, "2 takes it");
        assert_eq!(shipped(&[(100, Action::Kill(1))]), 178);
        let far = [(1, 2), (2, 1)].map(|(a, b)| (100, Action::Wire(a, b, Wire::Blackhole)));
        assert_eq!(shipped(&far), 178);
        let late = [
            both(100, 1, Wire::Delay(800)),
            both(100, 2, Wire::Jitter(400)),
        ];
        assert_eq!(shipped(&late.concat()), 178);
        assert_eq!(shipped(&[(100, Action::Disk(0, Disk::Slow(500)))]), 178);
    }

    #[test]
    fn a_cut_node_ships_nothing_from_the_last_cut_on() {
        let cut = [both(80, 1, Wire::Blackhole), both(100, 2, Wire::HalfOpen)].concat();
        assert_eq!(shipped(&cut), 78, "what was under way at 10 s counts too");
        let one_way = [
            (100, Action::Wire(1, 0, Wire::Reset)),
            (100, Action::Wire(0, 2, Wire::Bandwidth(2048))),
        ];
        assert_eq!(shipped(&one_way), 78);
        let mut healed = cut.clone();
        healed.extend([(150, Action::HealWires)]);
        assert_eq!(shipped(&healed), 178, "it had 5 s");
        let mut shortly = cut;
        shortly.extend([(190, Action::HealWires)]);
        assert_eq!(shipped(&shortly), 78, "1 s does not do");
    }

    #[test]
    fn a_node_that_stands_or_whose_peers_all_do_ships_nothing() {
        assert_eq!(shipped(&[(100, Action::Pause(0))]), 78);
        assert_eq!(shipped(&[(100, Action::Processor(0, 5))]), 78);
        let peers = [(90, Action::Kill(1)), (100, Action::Disk(2, Disk::Full))];
        assert_eq!(shipped(&peers), 78);
        let resumed = [(100, Action::Pause(0)), (150, Action::Resume(0))];
        assert_eq!(shipped(&resumed), 178);
    }

    #[test]
    fn a_started_node_takes_its_time_and_a_start_of_a_running_one_is_nothing() {
        let restarted = |start| shipped(&[(100, Action::Kill(0)), (start, Action::Start(0))]);
        assert_eq!(restarted(120), 178, "up at 16 s");
        assert_eq!(restarted(140), 78, "up at 18 s: less than 2.2 s");
        assert_eq!(shipped(&[(190, Action::Start(0))]), 178);
        let twice = [
            (100, Action::Kill(0)),
            (110, Action::Start(0)),
            (120, Action::Kill(0)),
        ];
        assert_eq!(
            shipped(&twice),
            78,
            "the second end is not undone by the first start"
        );
    }

    #[test]
    fn an_action_that_takes_time_keeps_from_its_beginning_to_its_end() {
        let mut shipping = Shipping::new(LAYOUT);
        shipping.apply(&Action::Stop(0), 10 * SECOND, 13 * SECOND);
        assert_eq!(shipping.shipped_before(0, 13 * SECOND), 78 * SECOND / 10);
        let mut shipping = Shipping::new(LAYOUT);
        shipping.apply(&Action::Pause(0), 10 * SECOND, 10 * SECOND);
        shipping.apply(&Action::Resume(0), 12 * SECOND, 18 * SECOND);
        assert_eq!(shipping.shipped_before(0, 20 * SECOND), 78 * SECOND / 10);
    }

    #[test]
    fn with_several_nodes_a_region_one_that_is_away_holds_up_its_part() {
        let layout = Layout {
            regions: 2,
            nodes_per_region: 2,
        };
        let actions = [(100, Action::Kill(3)), (150, Action::Data(0, Data::Wipe))];
        let shipping = after(layout, &actions);
        assert_eq!(shipping.shipped_before(0, 20 * SECOND), 78 * SECOND / 10);
        let one = Layout {
            regions: 1,
            nodes_per_region: 2,
        };
        let alone = after(one, &[]);
        assert_eq!(alone.shipped_before(0, 20 * SECOND), 0, "nobody to ship to");
    }
}
