//! A simulated network: delay, jitter, loss, duplication and reordering per message, and cuts per
//! direction. Links never break by a cut: as in a black hole, nobody is told.
//!
//! A planned fault gives single directions a [`Wire`] of their own on top of that.

use std::collections::{BTreeMap, BTreeSet};

use hansa_consistency::key::{NodeId, RegionId};

use crate::nemesis::Wire;
use crate::random::Random;

/// One-way delays between regions, microseconds: half of 90, 150 and 220 ms.
const DELAYS_US: [(u8, u8, u64); 3] = [(0, 1, 45_000), (0, 2, 75_000), (1, 2, 110_000)];
/// One-way delay inside a region, microseconds.
const NEAR_US: u64 = 300;
/// What waits longer than this for its turn on a slow wire is lost, microseconds: buffers end somewhere.
const WIRE_QUEUE_MAX_US: u64 = 2_000_000;

/// How bad the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Messages lost, permille.
    pub loss: u64,
    /// Messages that arrive twice, permille.
    pub duplication: u64,
    /// Messages that are held back and overtaken, permille.
    pub reordering: u64,
}

/// The network.
#[derive(Debug)]
pub struct Network {
    weather: Weather,
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// The wires that are not [`Wire::Open`].
    wires: BTreeMap<(NodeId, NodeId), Wire>,
    /// Until when slow wires are busy, microseconds of the run.
    busy_until_us: BTreeMap<(NodeId, NodeId), u64>,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Parcel {
    /// Who sends it, and from where.
    pub from: (NodeId, RegionId),
    /// Who gets it, and where.
    pub to: (NodeId, RegionId),
    /// Its size, bytes, about.
    pub bytes: u64,
}

impl Network {
    /// A network without cuts.
    #[must_use]
    pub fn new(weather: Weather) -> Network {
        Network {
            weather,
            cuts: BTreeSet::new(),
            wires: BTreeMap::new(),
            busy_until_us: BTreeMap::new(),
        }
    }

    /// What one direction does.
    #[must_use]
    pub fn wire(&self, from: NodeId, to: NodeId) -> Wire {
        self.wires.get(&(from, to)).copied().unwrap_or(Wire::Open)
    }

    /// Changes what one direction does. Returns what it did before.
    pub fn set_wire(&mut self, from: NodeId, to: NodeId, wire: Wire) -> Wire {
        self.busy_until_us.remove(&(from, to));
        let before = match wire {
            Wire::Open => self.wires.remove(&(from, to)),
            wire => self.wires.insert((from, to), wire),
        };
        before.unwrap_or(Wire::Open)
    }

    /// The directions whose wire is not open.
    #[must_use]
    pub fn bent(&self) -> Vec<(NodeId, NodeId)> {
        self.wires.keys().copied().collect()
    }

    /// Whether a new connection between two nodes comes about.
    #[must_use]
    pub fn connects(&self, a: NodeId, b: NodeId) -> bool {
        let shut = |from, to| matches!(self.wire(from, to), Wire::Blackhole | Wire::Reset);
        !shut(a, b) && !shut(b, a)
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Heals everything; loss, duplication and reordering end too.
    pub fn calm(&mut self) {
        self.heal();
        self.weather = Weather {
            loss: 0,
            duplication: 0,
            reordering: 0,
        };
    }

    /// Heals all cuts.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Whether a direction is cut.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// When the copies of a message arrive, microseconds from now; none when it is lost.
    pub fn arrivals(&mut self, random: &mut Random, now_us: u64, parcel: Parcel) -> Vec<u64> {
        let Parcel { from, to, .. } = parcel;
        if self.is_cut(from.0, to.0) || random.chance(self.weather.loss) {
            return Vec::new();
        }
        let base = delay_us(from.1, to.1);
        let mut arrivals = vec![base + random.below(base / 20 + 100)];
        if random.chance(self.weather.duplication) {
            arrivals.push(base + random.below(base * 2 + 1000));
        }
        if random.chance(self.weather.reordering) {
            arrivals[0] += random.below(base * 3 + 20_000);
        }
        if !self.wires.is_empty() {
            self.pass_wire(random, now_us, parcel, &mut arrivals);
        }
        arrivals
    }

    /// What the wire does to a message that would arrive so.
    fn pass_wire(
        &mut self,
        random: &mut Random,
        now_us: u64,
        parcel: Parcel,
        arrivals: &mut Vec<u64>,
    ) {
        let direction = (parcel.from.0, parcel.to.0);
        match self.wire(direction.0, direction.1) {
            Wire::Open => {}
            Wire::Blackhole | Wire::Reset | Wire::HalfOpen => arrivals.clear(),
            Wire::Delay(ms) => arrivals.iter_mut().for_each(|at| *at += ms * 1000),
            Wire::Jitter(ms) => {
                for at in arrivals {
                    *at += random.below(ms * 1000 + 1);
                }
            }
            Wire::Loss(permille) if random.chance(permille) => arrivals.clear(),
            Wire::Duplication(permille) if random.chance(permille) => {
                let first = arrivals[0];
                arrivals.push(first + random.below(first + 1000));
            }
            Wire::Loss(_) | Wire::Duplication(_) => {}
            Wire::Bandwidth(bytes_per_second) => {
                let busy = self.busy_until_us.entry(direction).or_default();
                let begins = now_us.max(*busy);
                if begins - now_us > WIRE_QUEUE_MAX_US {
                    arrivals.clear();
                    return;
                }
                *busy = begins + parcel.bytes * 1_000_000 / bytes_per_second.max(1);
                let waits = *busy - now_us;
                arrivals.iter_mut().for_each(|at| *at += waits);
            }
        }
    }
}

/// The one-way delay between two regions.
#[must_use]
pub fn delay_us(a: RegionId, b: RegionId) -> u64 {
    let pair = (a.0.min(b.0), a.0.max(b.0));
    if a == b {
        return NEAR_US;
    }
    let known = DELAYS_US.iter().find(|(x, y, _)| (*x, *y) == pair);
    known.map_or(60_000, |(_, _, delay)| *delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Weather = Weather {
        loss: 0,
        duplication: 0,
        reordering: 0,
    };

    fn arrivals(wire: Wire) -> Vec<Vec<u64>> {
        let mut network = Network::new(CALM);
        network.set_wire(NodeId(0), NodeId(1), wire);
        let mut random = Random::new(1);
        let parcel = Parcel {
            from: (NodeId(0), RegionId(0)),
            to: (NodeId(1), RegionId(1)),
            bytes: 1000,
        };
        let mut send = |_| network.arrivals(&mut random, 0, parcel);
        (0..100).map(&mut send).collect()
    }

    #[test]
    fn every_wire_does_what_its_name_says() {
        let open = |all: &[Vec<u64>]| all.iter().all(|it| it.len() == 1 && it[0] < 50_000);
        assert!(open(&arrivals(Wire::Open)));
        for closed in [Wire::Blackhole, Wire::Reset, Wire::HalfOpen] {
            assert!(arrivals(closed).iter().all(Vec::is_empty));
        }
        assert!(arrivals(Wire::Delay(500)).iter().all(|it| it[0] > 500_000));
        let jitter = arrivals(Wire::Jitter(400));
        assert!(
            jitter.windows(2).any(|it| it[0] > it[1]),
            "nothing overtakes"
        );
        let count = |wire| arrivals(wire).iter().map(Vec::len).sum::<usize>();
        assert!((40..90).contains(&count(Wire::Loss(300))));
        assert!((120..190).contains(&count(Wire::Duplication(500))));
        // A thousand bytes at ten thousand a second take a tenth of one; what would wait for two is lost.
        let slow = arrivals(Wire::Bandwidth(10_000));
        assert!((145_000..160_000).contains(&slow[0][0]));
        assert_eq!(slow.iter().filter(|it| !it.is_empty()).count(), 21);
    }

    #[test]
    fn no_connection_comes_about_over_a_direction_that_is_shut() {
        let mut network = Network::new(CALM);
        let (a, b) = (NodeId(0), NodeId(1));
        assert!(network.connects(a, b));
        assert_eq!(network.set_wire(a, b, Wire::Blackhole), Wire::Open);
        assert!(!network.connects(b, a));
        assert_eq!(network.set_wire(a, b, Wire::Open), Wire::Blackhole);
        assert!(network.connects(a, b) && network.bent().is_empty());
    }
}
