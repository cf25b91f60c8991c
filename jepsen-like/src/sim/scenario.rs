//! A run of the simulator in the shared vocabulary: a workload, its levels and a plan of faults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::faults::PLAN_BEGINS_US;
use super::network::Weather;
use super::profile::{Faults, Profile};
use crate::nemesis::{Layout, Nemesis, Plan, Planned};
use crate::random::Random;
use crate::workload::{Levels, Workload};

/// Faults of the drawn kind are this far apart: never.
const NEVER_US: u64 = 1 << 50;
/// Wall clocks are off by at most this without faults, milliseconds: what jumps leave of the accepted bound.
const SKEW_MS: u64 = 5;

/// Everything that makes a run; the same scenario under the same code is the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The seed of everything that the plan does not say.
    pub seed: u64,
    /// The cluster.
    pub layout: Layout,
    /// What clients do.
    pub workload: Workload,
    /// At which levels.
    pub levels: Levels,
    /// Clients.
    pub processes: u64,
    /// How long they act once the plan begins, milliseconds.
    pub load_ms: u64,
    /// The faults, in order of time.
    pub planned: Vec<Planned>,
}

/// What a scenario is drawn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// What clients do.
    pub workload: Workload,
    /// At which levels.
    pub levels: Levels,
    /// Kinds of fault, composed.
    pub nemeses: Vec<Nemesis>,
    /// How long clients act, milliseconds.
    pub load_ms: u64,
}

impl Choice {
    /// The scenario that a seed makes of it.
    #[must_use]
    pub fn draw(&self, seed: u64) -> Scenario {
        let names: Vec<String> = self.nemeses.iter().map(|it| it.name()).collect();
        let text = format!(
            "{seed} {} {} {}",
            self.workload.name(),
            self.levels.name(),
            names.join(",")
        );
        let mut random = Random::new(xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
        let layout = self.layout(&mut random);
        let load = Duration::from_millis(self.load_ms);
        let plan = Plan::new(layout, &self.nemeses, load, &mut random);
        Scenario {
            seed: random.below(u64::MAX),
            layout,
            workload: self.workload,
            levels: self.levels,
            processes: random.between(4, 7),
            load_ms: self.load_ms,
            planned: plan.planned().to_vec(),
        }
    }

    /// The smallest layout in which the faults are what they are called; a few with several nodes per region.
    fn layout(&self, random: &mut Random) -> Layout {
        let needed = self.nemeses.iter().map(|it| it.regions_min()).max();
        let (regions, nodes_per_region) = match needed {
            Some(regions @ 4..) => (regions, 1),
            _ if random.chance(200) => (3, 3),
            _ => (3, 1),
        };
        Layout {
            regions,
            nodes_per_region,
        }
    }
}

impl Scenario {
    /// The planned actions fault by fault: each begins, goes on and ends. In order of their beginnings.
    #[must_use]
    pub fn faults(&self) -> Vec<Vec<Planned>> {
        let mut faults: Vec<Vec<Planned>> = Vec::new();
        let mut newest: BTreeMap<Nemesis, usize> = BTreeMap::new();
        for planned in &self.planned {
            match newest.get(&planned.of).filter(|_| !planned.begins) {
                Some(place) => faults[*place].push(*planned),
                None => {
                    newest.insert(planned.of, faults.len());
                    faults.push(vec![*planned]);
                }
            }
        }
        faults
    }

    /// The same run with these faults instead.
    #[must_use]
    pub fn with_faults(&self, faults: &[Vec<Planned>]) -> Scenario {
        let mut planned = faults.concat();
        planned.sort_by_key(|it| it.at);
        Scenario {
            planned,
            ..self.clone()
        }
    }

    /// The shape of the run. Faults come from the plan alone.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let mut random = Random::new(self.seed ^ 0x5eed);
        Profile {
            regions: self.layout.regions as u8,
            replicas: self.layout.nodes_per_region as u16,
            processes: self.processes,
            load_us: PLAN_BEGINS_US + self.load_ms * 1000,
            think_us: random.between(40, 200) * 1000,
            hop: random.between(0, 400),
            recipe: self.workload.recipe(),
            mix: self.levels.mix(),
            weather: Weather {
                loss: 0,
                duplication: 0,
                reordering: 20,
            },
            skew_ms: SKEW_MS,
            fault_every_us: NEVER_US,
            faults: Faults {
                one_way: 0,
                isolate: 0,
                heal: 0,
                crash: 0,
                lost_tail: 0,
                wiped: 0,
                drop: 0,
                clock: 0,
                epoch: 0,
            },
            whole_trace: false,
            ..Profile::drawn(&mut random)
        }
    }
}
