//! A simulated network: delay, jitter, loss, duplication and reordering per message, and cuts per
//! direction. Links never break by a cut: as in a black hole, nobody is told.

use std::collections::BTreeSet;

use hansa_consistency::key::{NodeId, RegionId};

use crate::random::Random;

/// One-way delays between regions, microseconds: half of 90, 150 and 220 ms.
const DELAYS_US: [(u8, u8, u64); 3] = [(0, 1, 45_000), (0, 2, 75_000), (1, 2, 110_000)];
/// One-way delay inside a region, microseconds.
const NEAR_US: u64 = 300;

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
}

impl Network {
    /// A network without cuts.
    #[must_use]
    pub fn new(weather: Weather) -> Network {
        Network {
            weather,
            cuts: BTreeSet::new(),
        }
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
    pub fn arrivals(
        &self,
        random: &mut Random,
        from: (NodeId, RegionId),
        to: (NodeId, RegionId),
    ) -> Vec<u64> {
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
        arrivals
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
