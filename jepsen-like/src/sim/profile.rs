//! The shape of a run: how many replicas, how bad the network and disks, what clients do.
//!
//! Drawn from the seed, so that many seeds cover many shapes. A mutant may ask for a shape in which
//! its rule matters.

use super::network::Weather;
use super::random::Random;
use super::workload::Mix;

/// One run's shape.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Replicas per region.
    pub replicas: u16,
    /// Clients.
    pub processes: u64,
    /// How long clients act, microseconds.
    pub load_us: u64,
    /// Longest pause of a client between operations, microseconds.
    pub think_us: u64,
    /// How often a client moves to another node, permille per operation.
    pub hop: u64,
    /// Levels.
    pub mix: Mix,
    /// Messages.
    pub weather: Weather,
    /// Wall clocks are off by at most this, milliseconds.
    pub skew_ms: u64,
    /// Mean time between faults, microseconds; 0 for none.
    pub fault_every_us: u64,
    /// Chances of the kinds of fault.
    pub faults: Faults,
    /// Syncs do nothing. Only a mutant's disks are like that.
    pub lying_sync: bool,
    /// The sequence file is not synced with votes. Only a mutant's.
    pub sequence_late: bool,
    /// Reads do not see pending writes. Only a mutant's.
    pub hides_pending: bool,
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
            replicas: if random.chance(250) { 3 } else { 1 },
            processes: random.between(3, 7),
            load_us: random.between(6, 14) * 1_000_000,
            think_us: random.between(40, 300) * 1000,
            hop: random.between(0, 400),
            mix: Mix {
                eventual: random.between(100, 400),
                session: random.between(100, 400),
            },
            weather: Weather {
                loss: if rough { random.between(0, 60) } else { 0 },
                duplication: if rough { random.between(0, 40) } else { 0 },
                reordering: if rough { random.between(0, 300) } else { 20 },
            },
            skew_ms: random.between(0, 240),
            fault_every_us: random.between(400, 3000) * 1000,
            faults: Faults {
                one_way: random.between(0, 4),
                isolate: random.between(0, 4),
                heal: random.between(2, 6),
                crash: random.between(0, 4),
                lost_tail: random.below(2),
                clock: random.below(2),
                epoch: random.below(3),
            },
            lying_sync: false,
            sequence_late: false,
            hides_pending: false,
        }
    }
}
