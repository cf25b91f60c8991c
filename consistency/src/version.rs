//! Versions: who wrote what, and which write wins.
//!
//! * [`Origin`] = a node's incarnation: the single writer of its logs.
//! * [`Dot`] = (origin, seq): the name of one log entry of a shard (Almeida et al., 2014).
//! * [`Ballot`] = the name of one attempt to choose a strong value (CASPaxos, Rystsov 2018).
//! * [`Stamp`] = the order of register writes: a strong write beats every eventual
//!   write that had not seen it, whatever the clocks say.

use crate::clock::Hlc;
use crate::key::NodeId;

/// A single writer: a node and the random number of one of its incarnations.
///
/// A node that may have lost data takes a new incarnation, so that no dot or ballot is ever used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Random; zero is never used.
    pub incarnation: u32,
}

/// A position in an origin's log of one shard. The first entry has seq 1; 0 means none.
pub type Seq = u64;

/// The name of one log entry within its shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Dot {
    /// Who wrote it.
    pub origin: Origin,
    /// Its position in that origin's log.
    pub seq: Seq,
}

/// The name of one attempt on a row's strong register. `n` first, then the proposer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ballot {
    /// Rises with every attempt; 0 only in [`Ballot::ZERO`].
    pub n: u64,
    /// The proposer; its incarnation makes ballots unique over restarts that lost data.
    pub origin: Origin,
}

impl Ballot {
    /// Below every real ballot: nothing promised, nothing accepted.
    pub const ZERO: Ballot = Ballot {
        n: 0,
        origin: Origin {
            node: NodeId(0),
            incarnation: 0,
        },
    };
}

/// What made a write: an operation of a strong group, or a log entry.
///
/// The order of the variants counts: at equal version and clock a ballot sorts below a dot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Tag {
    /// The operation at `index` of the group chosen at this ballot.
    Strong(Ballot, u16),
    /// The log entry of this name.
    Entry(Dot),
}

/// The version of a register write, globally unique; the greatest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Stamp {
    /// Strong writes this write had seen, itself included if it is one.
    pub strong_version: u32,
    /// When, by the hybrid clock.
    pub hlc: Hlc,
    /// What made it: the tie-breaker.
    pub tag: Tag,
}

impl Stamp {
    /// An order-preserving rendering: comparing the bytes compares the stamps.
    pub fn ordered_bytes(&self) -> [u8; STAMP_BYTES] {
        let mut out = [0; STAMP_BYTES];
        out[..4].copy_from_slice(&self.strong_version.to_be_bytes());
        out[4..12].copy_from_slice(&self.hlc.0.to_be_bytes());
        let (kind, number, origin, index) = match self.tag {
            Tag::Strong(ballot, index) => (0, ballot.n, ballot.origin, index),
            Tag::Entry(dot) => (1, dot.seq, dot.origin, 0),
        };
        out[12] = kind;
        // A dot compares by origin before seq, a ballot by number before origin.
        let (first, second) = if kind == 0 { (13, 21) } else { (19, 13) };
        out[first..first + 8].copy_from_slice(&number.to_be_bytes());
        out[second..second + 2].copy_from_slice(&origin.node.0.to_be_bytes());
        out[second + 2..second + 6].copy_from_slice(&origin.incarnation.to_be_bytes());
        out[27..29].copy_from_slice(&index.to_be_bytes());
        out
    }
}

/// Length of [`Stamp::ordered_bytes`].
pub const STAMP_BYTES: usize = 29;

/// The epoch of a shard's voters: votes of different epochs never count together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct ShardEpoch {
    /// Rises with every change of voters.
    pub n: u64,
    /// Who proposed it: breaks ties between two proposers of one `n`.
    pub proposer: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origins() -> impl Strategy<Value = Origin> {
        (0u16..3, 1u32..3).prop_map(|(node, incarnation)| Origin {
            node: NodeId(node),
            incarnation,
        })
    }

    fn stamps() -> impl Strategy<Value = Stamp> {
        let tag = prop_oneof![
            (1u64..4, origins(), 0u16..3)
                .prop_map(|(n, origin, index)| Tag::Strong(Ballot { n, origin }, index)),
            (1u64..4, origins()).prop_map(|(seq, origin)| Tag::Entry(Dot { origin, seq })),
        ];
        (0u32..3, 0u64..3, tag).prop_map(|(strong_version, hlc, tag)| Stamp {
            strong_version,
            hlc: Hlc(hlc),
            tag,
        })
    }

    proptest! {
        #[test]
        fn ordered_bytes_keep_the_order(a in stamps(), b in stamps()) {
            prop_assert_eq!(a.ordered_bytes().cmp(&b.ordered_bytes()), a.cmp(&b));
        }
    }

    #[test]
    fn at_equal_version_and_clock_a_ballot_sorts_below_a_dot() {
        let origin = Origin {
            node: NodeId(9),
            incarnation: 9,
        };
        let low = Origin {
            node: NodeId(0),
            incarnation: 1,
        };
        let stamp = |tag| Stamp {
            strong_version: 1,
            hlc: Hlc(5),
            tag,
        };
        let ballot = stamp(Tag::Strong(Ballot { n: 99, origin }, 7));
        assert!(
            ballot
                < stamp(Tag::Entry(Dot {
                    origin: low,
                    seq: 1
                }))
        );
    }
}
