//! The shape of a run: how many replicas, how bad the network and disks, what clients do.
//!
//! Drawn from the seed, so that many seeds cover many shapes. A mutant may ask for a shape in which
//! its rule matters.

use clap::ValueEnum;
use hansa_consistency::limits::CLOCK_AHEAD_MAX_MS;

use super::network::Weather;
use crate::random::Random;
use crate::workload::{Mix, Recipe, Workload};

/// Two clocks that are off by this in opposite directions are just within the bound that the core accepts.
const SKEW_MS_MAX: u64 = CLOCK_AHEAD_MAX_MS / 2 - 1;

/// One run's shape.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Regions.
    pub regions: u8,
    /// Nodes in each, which all hold everything.
    pub replicas: u16,
    /// Clients.
    pub processes: u64,
    /// How long clients act, microseconds.
    pub load_us: u64,
    /// Longest pause of a client between operations, microseconds.
    pub think_us: u64,
    /// How often a client moves to another node, permille per operation.
    pub hop: u64,
    /// What they do.
    pub recipe: Recipe,
    /// Levels.
    pub mix: Mix,
    /// Messages.
    pub weather: Weather,
    /// Wall clocks are off by at most this, milliseconds.
    pub skew_ms: u64,
    /// Mean time between faults, microseconds.
    pub fault_every_us: u64,
    /// Chances of the kinds of fault.
    pub faults: Faults,
    /// A node that lost power is away for at most this, microseconds.
    pub restart_us: u64,
    /// Syncs do nothing. Only a mutant's disks are like that.
    pub lying_sync: bool,
    /// The sequence file is not synced with votes. Only a mutant's.
    pub sequence_late: bool,
    /// Reads do not see pending writes. Only a mutant's.
    pub hides_pending: bool,
    /// Whether the trace takes every message in, word by word: a third of the time of a run. Else it takes in
    /// who said when what kind of thing at which clock value.
    pub whole_trace: bool,
}

/// Weights of the kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// One direction between two nodes is cut.
    pub one_way: u64,
    /// A region is cut off.
    pub isolate: u64,
    /// Everything heals.
    pub heal: u64,
    /// A node loses power and comes back.
    pub crash: u64,
    /// As crash, and the disk loses some of what it had synced; once a run at most.
    pub lost_tail: u64,
    /// As crash, and the disk comes back empty; a lost tail or this once a run at most.
    pub wiped: u64,
    /// The links between two nodes break and stand again.
    pub drop: u64,
    /// A node's wall clock jumps.
    pub clock: u64,
    /// A shard's epoch rises.
    pub epoch: u64,
}

impl Profile {
    /// The shape a seed stands for.
    #[must_use]
    pub fn drawn(random: &mut Random) -> Profile {
        let rough = random.chance(600);
        Profile {
            regions: 3,
            replicas: if random.chance(250) { 3 } else { 1 },
            processes: random.between(3, 7),
            load_us: random.between(6, 14) * 1_000_000,
            think_us: random.between(40, 300) * 1000,
            hop: random.between(0, 400),
            recipe: Workload::All.recipe(),
            mix: Mix {
                eventual: random.between(100, 400),
                session: random.between(100, 400),
            },
            weather: Weather {
                loss: if rough { random.between(0, 60) } else { 0 },
                duplication: if rough { random.between(0, 40) } else { 0 },
                reordering: if rough { random.between(0, 300) } else { 20 },
            },
            skew_ms: random.between(0, SKEW_MS_MAX),
            fault_every_us: random.between(400, 3000) * 1000,
            faults: Faults {
                one_way: random.between(0, 4),
                isolate: random.between(0, 4),
                heal: random.between(2, 6),
                crash: random.between(0, 4),
                lost_tail: random.below(2),
                clock: random.below(2),
                epoch: random.below(3),
                wiped: u64::from(random.chance(250)),
                drop: random.below(3),
            },
            restart_us: 3_000_000,
            lying_sync: false,
            sequence_late: false,
            hides_pending: false,
            whole_trace: true,
        }
    }
}

/// A direction into which the drawn shape of a run can be bent, for what is rare otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Many operations at once.
    Busy,
    /// Many strong operations on few keys through one node.
    Contended,
    /// Nodes lose power often.
    Crashing,
    /// Nodes lose power and are back at once, with clocks that jump.
    Flapping,
    /// Sessions that hop between nodes and regions.
    Wandering,
    /// Sessions that hop all the time while single directions between nodes are cut.
    Torn,
    /// Disks that lose the tail of what they synced.
    TailLosing,
    /// Hopping sessions over a network that loses much.
    Lossy,
    /// Sessions that hop all the time while a disk forgets and is back at once.
    Forgetful,
}

impl Shape {
    /// The shape that a seed's run is bent by; about half of the seeds have none.
    #[must_use]
    pub fn drawn(seed: u64) -> Option<Shape> {
        let mut random = Random::new(seed ^ 0x005b_a9e5);
        let bent = random.chance(500);
        let shape = random.pick(Shape::value_variants()).copied();
        shape.filter(|_| bent)
    }

    fn tear(profile: &mut Profile) {
        profile.replicas = 1;
        profile.processes = 10;
        profile.think_us = 25_000;
        profile.hop = 600;
        profile.mix = Mix {
            eventual: 20,
            session: 900,
        };
        profile.skew_ms = SKEW_MS_MAX;
        profile.faults.one_way = 12;
        profile.faults.heal = 3;
        profile.fault_every_us = 500_000;
    }

    fn flap(profile: &mut Profile) {
        Shape::Torn.bend(profile);
        profile.faults.crash = 10;
        profile.faults.one_way = 0;
        profile.fault_every_us = 120_000;
        profile.restart_us = 60_000;
        profile.faults.clock = 8;
        // A session's token and every message lift a clock that had gone back: eventual writes carry
        // no token, and an isolated node gets no message.
        profile.faults.isolate = 8;
        profile.faults.heal = 6;
        profile.mix = Mix {
            eventual: 450,
            session: 450,
        };
    }

    /// Bends a profile.
    pub fn bend(self, profile: &mut Profile) {
        match self {
            Shape::Busy => {
                profile.think_us = 30_000;
                profile.processes = 9;
            }
            Shape::Contended => {
                profile.processes = 12;
                profile.think_us = 4_000;
                profile.hop = 0;
                profile.mix = Mix {
                    eventual: 50,
                    session: 50,
                };
            }
            Shape::Crashing => {
                Shape::Busy.bend(profile);
                profile.faults.crash = 8;
                profile.fault_every_us = 400_000;
            }
            Shape::Flapping => Shape::flap(profile),
            Shape::Torn => Shape::tear(profile),
            Shape::Forgetful => {
                Shape::Torn.bend(profile);
                profile.faults.lost_tail = 20;
                profile.faults.one_way = 8;
                profile.faults.crash = 0;
                profile.restart_us = 60_000;
                profile.fault_every_us = 400_000;
            }
            Shape::Wandering => {
                profile.hop = 500;
                profile.mix = Mix {
                    eventual: 100,
                    session: 450,
                };
                profile.think_us = 60_000;
                profile.skew_ms = SKEW_MS_MAX;
            }
            Shape::TailLosing => {
                Shape::Busy.bend(profile);
                profile.replicas = 1;
                profile.faults.lost_tail = 20;
                profile.faults.crash = 5;
                profile.faults.isolate = 10;
                profile.fault_every_us = 700_000;
                profile.mix = Mix {
                    eventual: 100,
                    session: 100,
                };
            }
            Shape::Lossy => {
                Shape::Wandering.bend(profile);
                profile.weather.loss = 150;
            }
        }
    }
}
