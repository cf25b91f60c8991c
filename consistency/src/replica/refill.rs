//! A node that lost data shows a shard only after it fetched what a peer that votes holds of it, or,
//! where nobody votes, what every other replica holds: before that, `nothing` would be said of rows that
//! are there everywhere else.

use std::collections::BTreeSet;

use crate::effect::Note;
use crate::key::{NodeId, ShardId};

use super::Replica;
use super::turn::Turn;

impl Replica {
    /// From now on every shard has to be fetched before it is shown.
    pub(super) fn begin_refill(&mut self) {
        let shards = self.shards.keys();
        self.refill = shards.map(|shard| (*shard, BTreeSet::new())).collect();
    }

    /// Asks for shards that were not fetched yet, as many as may be under way.
    pub(super) fn refill_some(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        let mut asks = Vec::new();
        for (shard, fetched) in &self.refill {
            let Some(held) = self.shards.get(shard) else {
                continue;
            };
            let usable = |node: NodeId| {
                let peer = self.peers.get(&node).filter(|peer| peer.reachable(now))?;
                (!fetched.contains(&node)).then(|| (!peer.votes, peer.round_trip(), node))
            };
            let best = held.voters.nodes().filter_map(usable).min();
            asks.extend(best.map(|(_, _, node)| (node, *shard)));
        }
        for (node, shard) in asks {
            self.pull(turn, node, shard);
        }
    }

    /// A peer sent all it holds of a shard.
    pub(super) fn refilled(&mut self, turn: &mut Turn<'_>, from: NodeId, shard: ShardId) {
        let votes = self.peers.get(&from).is_some_and(|peer| peer.votes);
        let me = self.me.node;
        let (Some(fetched), Some(held)) = (self.refill.get_mut(&shard), self.shards.get(&shard))
        else {
            return;
        };
        fetched.insert(from);
        let everybody = held.voters.nodes().all(|n| n == me || fetched.contains(&n));
        if votes || everybody {
            self.refill.remove(&shard);
            if self.refill.is_empty() {
                turn.note(Note::Refilled);
            }
        }
        self.refill_some(turn);
    }
}
