//! What a cluster is to be: shape, round trips, engine, binary.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use hansa_consistency::limits::REGIONS_MAX;

use crate::nemesis::{Layout, NodeIndex};

/// Most nodes of a cluster. Each pair has two proxies with up to four open files each, all in this process.
pub const NODES_MAX: usize = 48;

/// The names of the first regions; later ones are numbered.
const REGIONS: [&str; 3] = ["us-east", "eu-central", "ap-northeast"];

/// Round trips between the first three regions, milliseconds: smaller position first.
const ROUND_TRIPS_MS: [(usize, usize, u64); 3] = [(0, 1, 90), (0, 2, 150), (1, 2, 220)];

/// Round trip between any other two regions.
const ROUND_TRIP: Duration = Duration::from_millis(120);

/// What the nodes are connected by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wires {
    /// TCP proxies on loopback: no root is needed.
    Proxies,
    /// Hosts in network namespaces behind an emulated WAN: needs root; faults of packets are possible.
    Hosts,
}

/// A cluster to be started.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Regions and nodes.
    pub layout: Layout,
    /// Round trips that differ from the default ones, by positions of the regions, the smaller one first.
    pub round_trips: BTreeMap<(usize, usize), Duration>,
    /// The storage engine, as `hansa serve` names it.
    pub engine: String,
    /// The `hansa` binary; `None` for the one beside this program.
    pub program: Option<PathBuf>,
    /// Where settings, data and logs go and stay; `None` for a temporary directory. It must be empty or new.
    pub folder: Option<PathBuf>,
    /// What the nodes are connected by.
    pub wires: Wires,
    /// Whether wall clocks can be changed. It costs every node some microseconds each time it reads its clock.
    pub clocks: bool,
    /// Whether every node's data lies on a disk of its own that keeps only what was synced, and can fail.
    pub disks: bool,
    /// Whether a name on these disks is durable only when its directory is synced, which is all that POSIX promises.
    pub strict_names: bool,
    /// Whether the power of a node's disk goes with a kill: what is being synced then is not. It comes back with the next
    /// change of the data, or the next start, and what was not synced is gone.
    pub kills_cut_power: bool,
    /// The rule that the nodes break; the binary has to be one built with feature `mutants`.
    pub mutant: Option<String>,
    /// Seed of what is left to chance: which bit is flipped, what a torn write leaves.
    pub seed: u64,
}

impl Spec {
    /// A cluster of this shape with every default.
    #[must_use]
    pub fn new(layout: Layout) -> Spec {
        Spec {
            layout,
            round_trips: BTreeMap::new(),
            engine: "fjall".to_owned(),
            program: None,
            folder: None,
            wires: Wires::Proxies,
            clocks: false,
            disks: false,
            strict_names: false,
            kills_cut_power: false,
            mutant: None,
            seed: 1,
        }
    }

    /// The same with one round trip between any two regions.
    #[must_use]
    pub fn with_round_trip(mut self, time: Duration) -> Spec {
        let regions = self.layout.regions;
        let pairs = (0..regions).flat_map(|b| (0..b).map(move |a| (a, b)));
        self.round_trips = pairs.map(|pair| (pair, time)).collect();
        self
    }

    /// The name of a region.
    #[must_use]
    pub fn region_name(&self, region: usize) -> String {
        let known = REGIONS.get(region).map(|name| (*name).to_owned());
        known.unwrap_or_else(|| format!("region-{}", region + 1))
    }

    /// The name of a node: its region and its number there, from 1.
    #[must_use]
    pub fn node_name(&self, node: NodeIndex) -> String {
        let region = self.region_name(self.layout.region_of(node));
        format!("{region}-{}", node % self.layout.nodes_per_region + 1)
    }

    /// The round trip between two regions; zero inside one.
    #[must_use]
    pub fn round_trip(&self, a: usize, b: usize) -> Duration {
        let pair = (a.min(b), a.max(b));
        if a == b {
            return Duration::ZERO;
        }
        let known = |(first, second, _): &&(usize, usize, u64)| (*first, *second) == pair;
        let default = ROUND_TRIPS_MS.iter().find(known);
        let default = default.map_or(ROUND_TRIP, |(_, _, ms)| Duration::from_millis(*ms));
        self.round_trips.get(&pair).copied().unwrap_or(default)
    }

    /// Whether such a cluster can be.
    ///
    /// # Errors
    /// Names the bound that does not hold.
    pub fn check(&self) -> Result<()> {
        let Layout {
            regions,
            nodes_per_region,
        } = self.layout;
        ensure!(
            (1..=REGIONS_MAX).contains(&regions),
            "{regions} regions: choose 1 to {REGIONS_MAX}"
        );
        ensure!(
            nodes_per_region >= 1 && self.layout.nodes() <= NODES_MAX,
            "{nodes_per_region} nodes in each of {regions} regions: choose 1 to {}",
            NODES_MAX / regions
        );
        Ok(())
    }

    /// The `hansa` binary.
    ///
    /// # Errors
    /// When there is none; says how to get one.
    pub fn binary(&self) -> Result<PathBuf> {
        if let Some(program) = &self.program {
            let found = std::fs::canonicalize(program);
            return found.with_context(|| format!("there is no {}", program.display()));
        }
        let own = std::env::current_exe().context("the path of this program is not known")?;
        let beside = own.with_file_name("hansa");
        if !beside.is_file() {
            bail!(
                "there is no {}: build it with `cargo build --release -p hansa`, or name it with --bin",
                beside.display()
            );
        }
        Ok(beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(regions: usize, nodes_per_region: usize) -> Spec {
        Spec::new(Layout {
            regions,
            nodes_per_region,
        })
    }

    #[test]
    fn names_go_region_after_region_and_on_for_ever() {
        let spec = spec(5, 2);
        let names: Vec<String> = [0, 1, 2, 9].map(|node| spec.node_name(node)).into();
        assert_eq!(
            names,
            ["us-east-1", "us-east-2", "eu-central-1", "region-5-2"]
        );
    }

    #[test]
    fn round_trips_have_defaults_and_can_be_replaced() {
        let ms = |spec: &Spec, a, b| spec.round_trip(a, b).as_millis();
        let mut spec = spec(4, 1);
        assert_eq!(ms(&spec, 1, 0), 90);
        assert_eq!(ms(&spec, 2, 1), 220);
        assert_eq!(ms(&spec, 0, 3), 120);
        assert_eq!(ms(&spec, 2, 2), 0);
        spec.round_trips.insert((0, 1), Duration::from_millis(7));
        assert_eq!((ms(&spec, 1, 0), ms(&spec, 0, 2)), (7, 150));
        let spec = spec.with_round_trip(Duration::from_millis(5));
        assert_eq!((ms(&spec, 1, 2), ms(&spec, 3, 0)), (5, 5));
    }

    #[test]
    fn shapes_out_of_bounds_and_missing_binaries_are_named() {
        assert!(spec(3, 16).check().is_ok());
        for (regions, nodes, part) in [
            (0, 1, "choose 1 to 16"),
            (17, 1, "choose 1 to 16"),
            (3, 17, "choose 1 to 16"),
            (3, 0, "0 nodes"),
        ] {
            let error = spec(regions, nodes).check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let missing = Spec {
            program: Some("/nowhere/hansa".into()),
            ..spec(3, 1)
        };
        let error = missing.binary().unwrap_err().to_string();
        assert!(error.contains("/nowhere/hansa"), "{error}");
        // Beside a test there is none.
        let error = spec(3, 1).binary().unwrap_err().to_string();
        assert!(error.contains("cargo build --release -p hansa"), "{error}");
    }
}
