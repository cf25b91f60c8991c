//! Faults: one vocabulary for the simulator, for real processes and for other databases.
//!
//! A [`Nemesis`] is a kind of fault. [`Plan`] turns kinds into [`Action`]s at moments, by seed and nothing else; an
//! engine carries actions out, or says why it can not ([`Refused`]), and the verdict names what was not carried out.
//! The kinds are those of Jepsen's combined nemesis, `FoundationDB`'s swizzle, `TigerBeetle`'s storage faults and
//! `LazyFS`'s lost and torn writes.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::random::Random;

mod plan;
mod situation;
#[cfg(test)]
mod tests;

pub use plan::{Plan, Planned};
pub use situation::{RECOVERS_WITHIN, Situation, Standing};

/// A node by its position: region after region, in the order of the topology.
pub type NodeIndex = usize;

/// How a cluster is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Regions; at least one.
    pub regions: usize,
    /// Nodes in each; at least one.
    pub nodes_per_region: usize,
}

impl Layout {
    /// All nodes.
    #[must_use]
    pub fn nodes(self) -> usize {
        self.regions * self.nodes_per_region
    }

    /// The region of a node.
    #[must_use]
    pub fn region_of(self, node: NodeIndex) -> usize {
        node / self.nodes_per_region
    }

    /// The nodes of a region.
    pub fn nodes_of(self, region: usize) -> std::ops::Range<NodeIndex> {
        region * self.nodes_per_region..(region + 1) * self.nodes_per_region
    }
}

/// A kind of fault.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Nemesis {
    /// No fault: what every other run is compared with.
    Calm,
    /// Two halves that hear nothing of each other.
    FullPartition,
    /// One node hears another that does not hear it.
    OneWayPartition,
    /// Two nodes do not hear each other; both hear everybody else.
    PartialPartition,
    /// Two halves that only one node hears both of.
    BridgePartition,
    /// Every node hears its two neighbours and nobody else.
    RingPartition,
    /// One region hears no other.
    RegionIsolation,
    /// A cut that comes and goes several times a second.
    Flapping,
    /// Nodes are cut off one by one and come back in another order.
    Swizzle,
    /// Messages take much longer.
    Delay,
    /// Messages take now longer, now not, and overtake each other where the network allows it.
    Jitter,
    /// Messages get lost.
    Loss,
    /// Messages arrive twice.
    Duplication,
    /// Connections are reset in the middle of a message.
    Reset,
    /// A connection whose other end is gone without a word: what is sent goes nowhere, for ever.
    HalfOpen,
    /// Links that carry a few kilobytes a second.
    SlowDrip,
    /// A process ends by SIGKILL and is started again.
    Kill,
    /// A process stands still and goes on.
    Pause,
    /// A process is asked to stop and is started again.
    Restart,
    /// All processes, one after the other.
    RollingRestart,
    /// A process gets a twentieth of its processor.
    SlowCpu,
    /// A wall clock jumps.
    ClockJump,
    /// A wall clock runs too fast or too slow.
    ClockDrift,
    /// A wall clock stands still.
    ClockFreeze,
    /// Everything that was not synced is gone, and the process with it.
    PowerCut,
    /// As a power cut, and of what was not synced a part is there, of each file another.
    TornWrite,
    /// A sync fails.
    FailedSync,
    /// The disk takes nothing more.
    DiskFull,
    /// Every sync takes long.
    SlowDisk,
    /// A bit at rest is another.
    BitFlip,
    /// A block at rest is one from elsewhere.
    MisdirectedBlock,
    /// As a power cut, and the last of what was synced is gone too.
    LostTail,
    /// A node comes back with an empty disk.
    WipedNode,
    /// A node comes back with an old copy of its disk.
    OldCopy,
    /// A second node is started on a copy of a node's disk.
    ClonedNode,
    /// Nodes or regions join or leave.
    Membership,
    /// Nodes are upgraded and downgraded one by one.
    Upgrade,
}

/// Whether something can be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// It can.
    Yes,
    /// The product does not have what it is about yet; the issue that brings it.
    NotApplicable(u32),
}

impl Nemesis {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> String {
        crate::workload::name_of(&self)
    }

    /// Whether the product can express it.
    #[must_use]
    pub fn support(self) -> Support {
        match self {
            Nemesis::Membership => Support::NotApplicable(5),
            Nemesis::Upgrade => Support::NotApplicable(7),
            _ => Support::Yes,
        }
    }

    /// The regions below which it is no more than another kind, or nothing at all.
    #[must_use]
    pub fn regions_min(self) -> usize {
        match self {
            Nemesis::RingPartition | Nemesis::BridgePartition => 5,
            _ => 2,
        }
    }

    /// Whether it needs wall clocks that can be changed.
    #[must_use]
    pub fn needs_clocks(self) -> bool {
        matches!(
            self,
            Nemesis::ClockJump | Nemesis::ClockDrift | Nemesis::ClockFreeze
        )
    }

    /// Whether it needs disks of the nodes' own, that keep only what was synced.
    #[must_use]
    pub fn needs_disks(self) -> bool {
        matches!(
            self,
            Nemesis::PowerCut
                | Nemesis::TornWrite
                | Nemesis::FailedSync
                | Nemesis::DiskFull
                | Nemesis::SlowDisk
                | Nemesis::LostTail
        )
    }

    /// Whether it may cost a disk something that it had synced. A cluster is promised to survive that on one node,
    /// so a run has one victim.
    #[must_use]
    pub fn destroys(self) -> bool {
        matches!(
            self,
            Nemesis::BitFlip
                | Nemesis::MisdirectedBlock
                | Nemesis::LostTail
                | Nemesis::WipedNode
                | Nemesis::OldCopy
                | Nemesis::ClonedNode
        )
    }
}

/// What one direction between two nodes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wire {
    /// As the WAN is without faults.
    Open,
    /// Nothing comes out, nobody is told; what a connection holds comes out after the heal.
    Blackhole,
    /// Connections are reset, new ones too.
    Reset,
    /// What comes out is thrown away, the connection stays up and never recovers.
    HalfOpen,
    /// So much later, milliseconds.
    Delay(u64),
    /// Up to so much later, milliseconds.
    Jitter(u64),
    /// Lost, permille.
    Loss(u64),
    /// Twice, permille.
    Duplication(u64),
    /// At most so many bytes a second.
    Bandwidth(u64),
}

/// What a wall clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// The time.
    True,
    /// The time and so many milliseconds.
    Offset(i64),
    /// So many permille of the seconds that pass.
    Rate(u64),
    /// Always the same.
    Frozen,
}

/// What a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    /// What it should.
    Healthy,
    /// Syncs fail, and what they should have kept is gone at the next power cut.
    FailSyncs,
    /// Writes fail: no space is left.
    Full,
    /// Every sync takes so many milliseconds longer.
    Slow(u64),
}

/// What happens to the data of a node that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// What was not synced is gone.
    DropUnsynced,
    /// As [`Data::DropUnsynced`], and of what was not synced a part is there, of each file another.
    Tear,
    /// As [`Data::DropUnsynced`], and of what lies in directories below the top, what was synced in the last so many
    /// milliseconds is gone too: a drive that said yes and kept it in its cache. At most 1000.
    LoseTail(u64),
    /// One bit somewhere is another.
    FlipBit,
    /// One block somewhere is another block's.
    Misdirect,
    /// Everything is gone.
    Wipe,
    /// A copy is put aside.
    Keep,
    /// The copy is put back.
    Restore,
}

impl Data {
    /// Whether something that was synced may be gone.
    #[must_use]
    pub fn destroys(self) -> bool {
        matches!(
            self,
            Data::LoseTail(_) | Data::FlipBit | Data::Misdirect | Data::Wipe | Data::Restore
        )
    }
}

/// One thing to do to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// One direction between two nodes changes.
    Wire(NodeIndex, NodeIndex, Wire),
    /// All directions are as without faults.
    HealWires,
    /// A process ends by SIGKILL; of its data nothing is lost.
    Kill(NodeIndex),
    /// A process is asked to end, and is waited for.
    Stop(NodeIndex),
    /// A process that ended is started; nothing where it runs.
    Start(NodeIndex),
    /// A process stands still.
    Pause(NodeIndex),
    /// It goes on.
    Resume(NodeIndex),
    /// A process gets so many percent of a processor; 100 for all it wants.
    Processor(NodeIndex, u8),
    /// A wall clock changes.
    Clock(NodeIndex, Clock),
    /// A disk changes.
    Disk(NodeIndex, Disk),
    /// The data of a node that does not run changes.
    Data(NodeIndex, Data),
    /// A second process is started on a copy of a node's data, and has to be refused by the others or to end.
    Clone(NodeIndex),
}

/// What an action did that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Something is otherwise than before.
    Changed,
    /// Nothing: all was so already, or there was nothing to do it to.
    Nothing,
}

impl Effect {
    /// [`Effect::Changed`] if so.
    #[must_use]
    pub fn if_changed(changed: bool) -> Effect {
        if changed {
            Effect::Changed
        } else {
            Effect::Nothing
        }
    }
}

/// Why an engine did not carry an action out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This engine, or this machine, has no means for it; what would be needed.
    #[error("not possible here: {0}")]
    NotHere(String),
    /// It was tried and failed: the harness is broken, and the run with it.
    #[error("failed: {0}")]
    Failed(String),
}

impl Action {
    /// Whether it ends a fault or a part of one.
    #[must_use]
    pub fn heals(&self) -> bool {
        matches!(
            self,
            Action::Wire(_, _, Wire::Open)
                | Action::HealWires
                | Action::Start(_)
                | Action::Resume(_)
                | Action::Processor(_, 100)
                | Action::Clock(_, Clock::True)
                | Action::Disk(_, Disk::Healthy)
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

/// Draws a duration, in whole milliseconds.
fn between(random: &mut Random, low_ms: u64, high_ms: u64) -> Duration {
    Duration::from_millis(random.between(low_ms, high_ms))
}
