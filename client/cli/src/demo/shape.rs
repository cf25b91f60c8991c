//! The shape of the demo's cluster: regions, nodes, round trips between regions.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The demo's regions, in the order of the topology file.
pub(crate) const REGIONS: [&str; 3] = ["us-east", "eu-central", "ap-northeast"];

/// How many nodes a region may have.
pub(crate) const NODES_PER_REGION_MAX: u16 = 5;

/// Longest round trip that can be asked for, milliseconds.
pub(crate) const RTT_MS_MAX: u64 = 10_000;

/// Round trips that hold unless told otherwise, milliseconds: us-eu, us-ap, eu-ap.
const RTT_MS_DEFAULT: [(usize, usize, u64); 3] = [(0, 1, 90), (0, 2, 150), (1, 2, 220)];

/// One `A:B=MS` of `--rtt`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rtt {
    a: usize,
    b: usize,
    round_trip: Duration,
}

impl FromStr for Rtt {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Rtt> {
        let form = "write REGION:REGION=MILLISECONDS, for example us-east:eu-central=90";
        let (pair, time) = text.split_once('=').context(form)?;
        let (a, b) = pair.split_once(':').context(form)?;
        let (a, b) = (region_index(a)?, region_index(b)?);
        if a == b {
            bail!("a region has no link with itself; {form}");
        }
        let time: u64 = time.parse().ok().context(form)?;
        if time > RTT_MS_MAX {
            bail!("{time} ms is too long: at most {RTT_MS_MAX} ms");
        }
        let round_trip = Duration::from_millis(time);
        Ok(Rtt { a, b, round_trip })
    }
}

/// The position of a region.
///
/// # Errors
/// When the demo has no such region; names those it has.
pub(crate) fn region_index(name: &str) -> Result<usize> {
    let found = REGIONS.iter().position(|region| *region == name);
    found.with_context(|| {
        let known = REGIONS.join(", ");
        format!("the demo has no region `{name}`; it has {known}")
    })
}

/// Regions, nodes and the round trips between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// 1 to [`NODES_PER_REGION_MAX`].
    pub(crate) nodes_per_region: u16,
    rtt: [[Duration; REGIONS.len()]; REGIONS.len()],
}

impl Shape {
    /// The default round trips, replaced by those in `rtts`; the last one for a pair counts.
    pub(crate) fn new(nodes_per_region: u16, rtts: &[Rtt]) -> Shape {
        let mut rtt = [[Duration::ZERO; REGIONS.len()]; REGIONS.len()];
        let defaults = RTT_MS_DEFAULT.map(|(a, b, ms)| Rtt {
            a,
            b,
            round_trip: Duration::from_millis(ms),
        });
        for pair in defaults.iter().chain(rtts) {
            rtt[pair.a][pair.b] = pair.round_trip;
            rtt[pair.b][pair.a] = pair.round_trip;
        }
        Shape {
            nodes_per_region,
            rtt,
        }
    }

    /// Nodes of all regions.
    pub(crate) fn nodes(&self) -> usize {
        usize::from(self.nodes_per_region) * REGIONS.len()
    }

    /// The region of a node. Numbers go round the regions, so that the first three nodes are one of
    /// each region, whatever the number of nodes: the client ports that the command line tries by
    /// itself stay the same.
    pub(crate) fn region_of(&self, node: usize) -> usize {
        node % REGIONS.len()
    }

    /// A node's name: its region and its number there, from 1.
    pub(crate) fn node_name(&self, node: usize) -> String {
        let number = node / REGIONS.len() + 1;
        format!("{}-{number}", REGIONS[self.region_of(node)])
    }

    /// The numbers of a region's nodes.
    pub(crate) fn nodes_of(&self, region: usize) -> impl Iterator<Item = usize> + use<> {
        (region..self.nodes()).step_by(REGIONS.len())
    }

    /// The round trip between two regions; zero inside one.
    pub(crate) fn round_trip(&self, a: usize, b: usize) -> Duration {
        self.rtt[a][b]
    }

    /// The shortest round trip in which `region` reaches a majority of regions: what one round of a
    /// strong operation can cost at best.
    pub(crate) fn majority_round_trip(&self, region: usize) -> Duration {
        let mut others: Vec<Duration> = (0..REGIONS.len())
            .filter(|other| *other != region)
            .map(|other| self.round_trip(region, other))
            .collect();
        others.sort();
        // The region itself is one of the majority.
        others[REGIONS.len() / 2 - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(shape: &Shape) -> [u128; 3] {
        [0, 1, 2].map(|region| shape.majority_round_trip(region).as_millis())
    }

    #[test]
    fn the_nearest_majority_of_the_default_is_90_90_150() {
        assert_eq!(milliseconds(&Shape::new(1, &[])), [90, 90, 150]);
    }

    #[test]
    fn round_trips_can_be_replaced_and_the_last_counts() {
        let rtts = [
            "us-east:eu-central=7",
            "ap-northeast:us-east=5",
            "eu-central:us-east=30",
        ];
        let rtts = rtts.map(|text| text.parse().unwrap());
        let shape = Shape::new(1, &rtts);
        assert_eq!(milliseconds(&shape), [5, 30, 5]);
        assert_eq!(shape.round_trip(1, 2), Duration::from_millis(220));
    }

    #[test]
    fn wrong_round_trips_say_what_is_wrong() {
        for (text, part) in [
            ("us-east=90", "REGION:REGION"),
            ("us-east:eu-central", "REGION:REGION"),
            ("us-east:mars=90", "no region `mars`"),
            ("us-east:us-east=90", "itself"),
            ("us-east:eu-central=fast", "MILLISECONDS"),
            ("us-east:eu-central=10001", "too long"),
        ] {
            let error = text.parse::<Rtt>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_three_nodes_are_one_of_each_region() {
        let shape = Shape::new(2, &[]);
        let names: Vec<String> = (0..shape.nodes())
            .map(|node| shape.node_name(node))
            .collect();
        assert_eq!(names[..3], ["us-east-1", "eu-central-1", "ap-northeast-1"]);
        assert_eq!(names[3..], ["us-east-2", "eu-central-2", "ap-northeast-2"]);
        assert_eq!(shape.nodes_of(1).collect::<Vec<_>>(), [1, 4]);
    }
}
