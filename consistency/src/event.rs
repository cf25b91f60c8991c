//! Everything that can happen to a replica.

use crate::key::{NodeId, OpId, ShardId};
use crate::message::Envelope;
use crate::request::Request;
use crate::version::ShardEpoch;

/// An input of [`crate::replica::Replica::step`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The replica was opened: the first event of every start.
    Started,
    /// A client asks.
    Request {
        /// The caller's name for it: the reply carries it.
        id: OpId,
        /// What it asks.
        request: Request,
    },
    /// The client is gone: no reply is needed any more. What was begun may still take effect.
    Cancelled {
        /// Which request.
        id: OpId,
    },
    /// A peer says something (or this node itself: a vote that is durable now).
    Received(Envelope),
    /// A stream to a peer stands.
    LinkUp(NodeId),
    /// The stream to a peer broke.
    LinkDown(NodeId),
    /// The time asked for by the last [`crate::effect::Effect::Wake`] has come.
    Tick,
    /// Adopt a shard epoch (the control plane's word; until it exists, the simulator's).
    AdoptEpoch {
        /// Of which shard.
        shard: ShardId,
        /// Which one.
        epoch: ShardEpoch,
    },
}
