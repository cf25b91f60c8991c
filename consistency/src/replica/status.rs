//! What operators see of a replica.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Hlc, Now};
use crate::codec::Encode;
use crate::key::{NodeId, RegionId, ShardId};
use crate::port::{Damaged, Family, Reader};
use crate::record::Record;

use super::turn::damaged;
use super::{Replica, Standing};

/// One peer, as this replica sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Which.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// Whether messages get through both ways.
    pub reachable: bool,
    /// Whether it votes.
    pub votes: bool,
    /// Whether it lost data and awaits readmission.
    pub lost: bool,
    /// Whether its clock and ours differ beyond the bound.
    pub clock_disputed: bool,
    /// The measured round trip; `None` before the first echo.
    pub round_trip: Option<Duration>,
    /// Everything it had this long ago is applied here, in every shared shard; `None` when never.
    pub staleness: Option<Duration>,
    /// Shards in which stated entries are missing here.
    pub shards_behind: usize,
}

/// A replica at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Which node.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// Which of its starts.
    pub start: u64,
    /// Whether it votes.
    pub standing: Standing,
    /// Whether it takes writes: its clock is in bounds and it did not lose data.
    pub writable: bool,
    /// Whether a quorum of every shard is reachable from here.
    pub strong_available: bool,
    /// The store sequence.
    pub store_sequence: u64,
    /// Its clock.
    pub hlc: Hlc,
    /// The peers, in order.
    pub peers: Vec<PeerStatus>,
    /// Shards held here.
    pub shards: usize,
    /// Entries of all origins applied here.
    pub entries_applied: u64,
    /// Own entries not committed in the region yet.
    pub entries_uncommitted: usize,
    /// Shards lost here and not shown until a peer has sent what it holds of them.
    pub shards_refilling: usize,
    /// Requests open.
    pub open_requests: usize,
    /// Session requests waiting for entries.
    pub sessions_waiting: usize,
    /// Rows with an accepted value not known chosen.
    pub unsettled: usize,
    /// The last damaged record met, if any.
    pub damage: Option<String>,
}

impl Replica {
    /// How the replica is doing.
    pub fn status(&self, now: Now) -> Status {
        let monotonic = now.monotonic;
        let peer_status = |(node, peer): (&NodeId, &super::peer::Peer)| {
            let oldest = peer.behind.values().map(|behind| behind.known.fresh_at);
            let fresh_at = oldest.fold(peer.known.fresh_at, Ord::min);
            PeerStatus {
                node: *node,
                region: peer.region,
                reachable: peer.reachable(monotonic),
                votes: peer.votes,
                lost: peer.lost,
                clock_disputed: peer.clock_disputed(monotonic),
                round_trip: peer.round_trip,
                staleness: fresh_at.map(|at| monotonic.saturating_sub(at)),
                shards_behind: peer.behind.len(),
            }
        };
        let logs = || self.shards.values().flat_map(|held| held.logs.values());
        Status {
            node: self.me.node,
            region: self.me.region,
            start: self.me.start,
            standing: self.standing.clone(),
            writable: self.standing != Standing::Lost && !self.clock_out_of_bounds(monotonic),
            strong_available: self
                .shards
                .keys()
                .all(|shard| self.quorum_reachable(monotonic, *shard)),
            store_sequence: self.store_sequence,
            hlc: self.clock.last(),
            peers: self.peers.iter().map(peer_status).collect(),
            shards: self.shards.len(),
            entries_applied: logs().map(|log| log.applied).sum(),
            entries_uncommitted: self
                .shards
                .values()
                .map(|held| held.uncommitted.len())
                .sum(),
            shards_refilling: self.refilling().len(),
            open_requests: self.jobs.len(),
            sessions_waiting: self.shards.values().map(|held| held.sessions.len()).sum(),
            unsettled: self.unsettled.len(),
            damage: self.damage.as_ref().map(ToString::to_string),
        }
    }
}

/// A digest of the eventual view of one shard: equal on replicas that applied the same entries,
/// in whatever order. The sum over its rows, so that rows can be added up piece by piece.
///
/// # Errors
/// [`Damaged`] when a row is.
pub fn digest(reader: &dyn Reader, shard: ShardId) -> Result<u128, Damaged> {
    let mut sum = 0u128;
    let mut failed = None;
    let end = shard.end();
    let to = end.as_ref().map(|end| &end[..]);
    reader.scan(
        Family::Data,
        &shard.prefix(),
        to,
        &mut |key, value: Bytes| match Record::from_record(&value) {
            Ok(record) => {
                let mut named = key.to_vec();
                named.extend_from_slice(&record.state.to_record());
                sum = sum.wrapping_add(xxhash_rust::xxh3::xxh3_128(&named));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(damaged(Family::Data, &error));
                ControlFlow::Break(())
            }
        },
    )?;
    failed.map_or(Ok(sum), Err)
}
