//! A node that lost data shows a shard only after it fetched what a peer that votes holds of it:
//! before that, `nothing` would be said of rows that are there everywhere else.

use crate::effect::Note;
use crate::key::{NodeId, ShardId};

use super::Replica;
use super::turn::Turn;

impl Replica {
    /// From now on every shard has to be fetched before it is shown.
    pub(super) fn begin_refill(&mut self) {
        self.refill = self.shards.keys().copied().collect();
    }

    /// Asks for shards that were not fetched yet, as many as may be under way.
    pub(super) fn refill_some(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let missing: Vec<ShardId> = self.refill.iter().copied().collect();
        for shard in missing {
            let Some(held) = self.shards.get(&shard) else {
                continue;
            };
            let usable = |node: &NodeId| {
                let peer = self.peers.get(node)?;
                (peer.votes && peer.reachable(now)).then(|| (peer.round_trip(), *node))
            };
            let nearest = held.voters.nodes().filter_map(|node| usable(&node)).min();
            if let Some((_, node)) = nearest {
                self.pull(turn, node, shard);
            }
        }
    }

    /// A peer sent all it holds of a shard.
    pub(super) fn refilled(&mut self, turn: &mut Turn<'_>, from: NodeId, shard: ShardId) {
        let votes = self.peers.get(&from).is_some_and(|peer| peer.votes);
        if !votes || !self.refill.remove(&shard) {
            return;
        }
        if self.refill.is_empty() {
            turn.note(Note::Refilled);
        }
        self.refill_some(turn);
    }
}
