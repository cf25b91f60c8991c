//! A node that lost data shows a shard only after it fetched what a peer that votes holds of it, or,
//! where nobody votes, what every other replica holds: before that, `nothing` would be said of rows that
//! are there everywhere else.

use std::collections::{BTreeMap, BTreeSet};

use crate::effect::Note;
use crate::key::{NodeId, ShardId};

use super::Replica;
use super::peer::Purpose;
use super::turn::Turn;

/// The shards that are not shown yet, each with the nodes that have sent all they hold of it.
pub(super) type Refill = BTreeMap<ShardId, BTreeSet<NodeId>>;

impl Replica {
    /// From now on every shard has to be fetched before it is shown; once in a start.
    pub(super) fn begin_refill(&mut self) {
        let shards = self.shards.keys();
        self.refill
            .get_or_insert_with(|| shards.map(|shard| (*shard, BTreeSet::new())).collect());
    }

    /// What has to be fetched before it is shown: empty when nothing was lost.
    pub(super) fn refilling(&self) -> &Refill {
        static NOTHING: Refill = Refill::new();
        self.refill.as_ref().unwrap_or(&NOTHING)
    }

    /// Shows the shards that were fetched, and asks for others, as many as may be under way.
    pub(super) fn refill_some(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let mut asks = Vec::new();
        let mut done = Vec::new();
        for (shard, fetched) in self.refilling() {
            let Some(held) = self.shards.get(shard) else {
                continue;
            };
            let look = |node| Some((fetched.contains(&node), self.peers.get(&node)?, node));
            let peers: Vec<_> = held.voters.nodes().filter_map(look).collect();
            // A peer that did not vote yet when it sent its entries had lost none if it votes now.
            let votes = peers.iter().any(|(sent, peer, _)| *sent && peer.votes);
            if votes || peers.iter().all(|(sent, ..)| *sent) {
                done.push(*shard);
                continue;
            }
            let open = peers
                .into_iter()
                .filter(|(sent, peer, _)| !sent && peer.reachable(now));
            let best = open.map(|(_, peer, node)| (!peer.votes, peer.round_trip(), node));
            asks.extend(best.min().map(|(_, _, node)| (node, *shard)));
        }
        if let Some(refill) = self.refill.as_mut().filter(|refill| !refill.is_empty()) {
            refill.retain(|shard, _| !done.contains(shard));
            if refill.is_empty() {
                turn.note(Note::Refilled);
            }
        }
        for (node, shard) in asks {
            self.pull(turn, node, shard, Purpose::Repair);
        }
    }

    /// A peer sent all it holds of a shard.
    pub(super) fn refilled(&mut self, turn: &mut Turn<'_>, from: NodeId, shard: ShardId) {
        let fetched = self
            .refill
            .as_mut()
            .and_then(|refill| refill.get_mut(&shard));
        if let Some(fetched) = fetched {
            fetched.insert(from);
            self.refill_some(turn);
        }
    }
}
