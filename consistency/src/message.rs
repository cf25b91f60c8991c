//! What replicas say to each other.
//!
//! The transport may lose, repeat and reorder messages; every kind is safe under
//! that. Requests that expect an answer carry a number the answer repeats.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::key::{ClusterId, NodeId, Row, ShardId};
use crate::register::{Combined, Errand, Executed, Promise, ReadAnswer, StrongValue};
use crate::request::{Refusal, Reply, Request};
use crate::version::{Ballot, Origin, Seq, ShardEpoch};

/// A message with what every one carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The sender's cluster; another one's messages are dropped.
    pub cluster: ClusterId,
    /// The sender.
    pub from: NodeId,
    /// Which of its starts the sender is in; older ones are fenced by an answered start.
    pub start: u64,
    /// The sender's incarnation.
    pub incarnation: u32,
    /// The sender's store sequence; that of its first unanswered start while it asks what it may have lost.
    /// Durable when the message carries a vote, is a heartbeat, or tells of the sender's log.
    pub store_sequence: u64,
    /// The sender's clock.
    pub hlc: Hlc,
    /// What it says.
    pub message: Message,
}

/// A vote's or proposal's place: which row, in which epoch, in which conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vote {
    /// The row.
    pub row: Row,
    /// The shard epoch it was asked for or given in.
    pub epoch: ShardEpoch,
    /// The asker's number for the conversation; repeated by the answer.
    pub round: u64,
}

/// The end of what a node had written to a shard, as of a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Whose entries.
    pub node: NodeId,
    /// Every entry that node wrote to the shard with a clock up to this ...
    pub hlc: Hlc,
    /// ... is among these prefixes of its origins' logs.
    pub ends: Vec<(Origin, Seq)>,
}

/// A run of consecutive entries of one origin's log, as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Whose log.
    pub origin: Origin,
    /// The seq of the first entry.
    pub first: Seq,
    /// The entries' stored records.
    pub entries: Vec<Bytes>,
}

/// How far one replica holds one origin's log of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// Whose log.
    pub origin: Origin,
    /// All entries up to this one are held, durably and committed.
    pub seq: Seq,
}

/// New entries of a node's own log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// Which shard.
    pub shard: ShardId,
    /// The entries.
    pub run: Run,
    /// The sender's log is committed in its region up to here.
    pub committed: Seq,
    /// The ends of the sender's other logs of the shard: whoever holds those and this run has
    /// everything the sender wrote up to the run's last clock value.
    pub others: Vec<Prefix>,
    /// Its place among all entries pushed to the receiver; `None` within a region.
    pub place: Option<Place>,
}

/// The place of a push among everything one node pushes to another since a heartbeat. Who took that
/// heartbeat and every push after it knows how far it has the sender's entries of all shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The sender's newest heartbeat to the receiver.
    pub after: u64,
    /// How many pushes there were since that heartbeat, this one and those that were left out included.
    pub number: u64,
    /// Every entry the sender wrote with a clock up to this, to whatever shard both hold, was stated
    /// by that heartbeat or pushed since, at the latest with this push.
    pub complete: Hlc,
}

/// What one replica says to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    // --- liveness and time
    /// Sent every second, and every 20 ms towards a peer at which somebody waits. Never logged.
    Heartbeat(Heartbeat),

    // --- origin logs
    /// New entries of the sender's own log, pushed.
    Append(Append),
    /// The sender's own log is committed up to here; to replicas of its region.
    Committed {
        /// Which shard.
        shard: ShardId,
        /// Whose log.
        origin: Origin,
        /// Up to where.
        seq: Seq,
    },
    /// The sender holds the receiver's log durably up to here.
    Acknowledge {
        /// Which shard.
        shard: ShardId,
        /// Whose log.
        origin: Origin,
        /// Up to where.
        seq: Seq,
    },
    /// Digests of the sender's version vectors, by group of shards: ours differed.
    ExchangeRequest {
        /// One digest per group, [`crate::limits::EXCHANGE_GROUPS`] of them.
        digests: Vec<u64>,
    },
    /// The sender's version vectors of the shards in the groups that differed.
    ExchangeReply {
        /// The vectors.
        vectors: Vec<(ShardId, Vec<Prefix>)>,
    },
    /// Asks for the entries behind these prefixes, and for what is known of safe time.
    Pull {
        /// Which shard.
        shard: ShardId,
        /// What the sender holds.
        have: Vec<Prefix>,
    },
    /// Entries asked for.
    Entries {
        /// Which shard.
        shard: ShardId,
        /// The entries, per origin from the prefix asked for.
        runs: Vec<Run>,
        /// What the sender knows of safe time, valid once the prefixes are reached.
        statements: Vec<Statement>,
        /// Whether there is more: pull again.
        more: bool,
    },

    // --- the strong register
    /// Promise me this ballot.
    Prepare {
        /// Where.
        vote: Vote,
        /// The ballot.
        ballot: Ballot,
    },
    /// Promised.
    Promised {
        /// Where.
        vote: Vote,
        /// The ballot promised.
        ballot: Ballot,
        /// What the acceptor holds.
        promise: Promise,
    },
    /// Accept this value.
    Accept {
        /// Where.
        vote: Vote,
        /// The ballot.
        ballot: Ballot,
        /// The value.
        value: Arc<StrongValue>,
    },
    /// Accepted.
    Accepted {
        /// Where.
        vote: Vote,
        /// The ballot accepted.
        ballot: Ballot,
    },
    /// Execute these operations under my ballot, which my region has promised: promise, apply and accept.
    Delegate {
        /// Where.
        vote: Vote,
        /// The ballot; delegated to one region only.
        ballot: Ballot,
        /// The sender's own promise.
        promise: Promise,
        /// The operations: of the sender, and of those whose groups it combines.
        errands: Vec<Errand>,
    },
    /// Executed, and accepted here.
    Delegated {
        /// Where.
        vote: Vote,
        /// The ballot.
        ballot: Ballot,
        /// What was made of the operations.
        executed: Executed,
    },
    /// Your ballots win this row: combine my group into your next one.
    Combine {
        /// Where; the receiver votes in this epoch.
        vote: Vote,
        /// The group.
        errand: Errand,
    },
    /// Combined, and chosen.
    Combined {
        /// Where.
        vote: Vote,
        /// The ballot under which it was chosen.
        ballot: Ballot,
        /// The chosen value, and what became of the group.
        combined: Combined,
    },
    /// Refused: a higher ballot is promised.
    Nack {
        /// Where.
        vote: Vote,
        /// The ballot refused.
        ballot: Ballot,
        /// The ballot in the way.
        promised: Ballot,
    },
    /// What do you hold?
    Read {
        /// Where.
        vote: Vote,
        /// The ballot of the reader's own accepted value: it need not be sent.
        have: Ballot,
    },
    /// This.
    ReadAnswer {
        /// Where.
        vote: Vote,
        /// What the acceptor holds; the value is left out when the reader has it.
        answer: ReadAnswer,
    },
    /// Your epoch is old: this is the shard's.
    StaleEpoch {
        /// Where.
        vote: Vote,
        /// The sender's epoch.
        epoch: ShardEpoch,
    },

    // --- requests served elsewhere
    /// Serve this for me.
    Forward {
        /// The asker's number for it.
        id: u64,
        /// The receiver's start it is meant for.
        start: u64,
        /// The request; its deadline is the time left.
        request: Request,
    },
    /// Served.
    Forwarded {
        /// The asker's number for it.
        id: u64,
        /// The outcome.
        result: Result<Reply, Refusal>,
    },

    // --- starts
    /// I started: what have you seen of me?
    StartAsk,
    /// This. Earlier starts of the asker are fenced from now on, durably.
    StartAnswer {
        /// The highest store sequence of the asker seen with a used vote or a heartbeat.
        seen: u64,
        /// The highest incarnation-independent start number of the asker seen before this one.
        seen_start: u64,
        /// Whether the sender itself lost data: its answer does not count.
        lost: bool,
    },
    /// Dropped: the sender's clock is out of bounds as seen from here.
    ClockRefused {
        /// How far ahead it is, milliseconds.
        ahead_ms: u64,
    },
}

/// What a node says of itself, to one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The number of this heartbeat; echoed by the peer's next one.
    pub ping: u64,
    /// The number of the newest heartbeat received from the peer, and for how long it has been here.
    pub echo: Option<Echo>,
    /// The heartbeat of the sender relative to which `assigned` is complete; 0 when it lists everything.
    /// A receiver that has not processed that one must not draw conclusions from this one.
    pub since: u64,
    /// For each shard that changed since the heartbeat the peer last echoed: the last seq assigned in
    /// each of the sender's own logs.
    pub assigned: Vec<(ShardId, Origin, Seq)>,
    /// A digest of the sender's version vectors over the shards it shares with the peer; `None` when
    /// not computed this time.
    pub digest: Option<u64>,
    /// Whether the sender votes.
    pub votes: bool,
    /// Whether the sender lost data and awaits readmission: its entries' ends are unknown.
    pub lost: bool,
    /// Whether somebody waits at the sender: answer at once, and often for a while.
    pub urgent: bool,
    /// The sender's round trip to its nearest majority of regions, microseconds; `None` while it reaches none.
    pub quorum_us: Option<u64>,
}

/// An echoed heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// Which one.
    pub ping: u64,
    /// How long it lay at the echoing side, microseconds: subtracted from the measured round trip.
    pub held_us: u64,
}

impl Message {
    /// Whether the message is a vote: it leaves only when the store sequence it carries is synced.
    pub fn is_vote(&self) -> bool {
        // What a node has applied is taken up in a strong value on its word.
        if let Message::Combine { errand, .. } = self {
            return errand.eventual.is_some();
        }
        matches!(
            self,
            Message::Promised { .. }
                | Message::Accepted { .. }
                | Message::Delegate { .. }
                | Message::Delegated { .. }
                | Message::ReadAnswer { .. }
                | Message::Heartbeat(_)
        )
    }

    /// Whether the message tells of what its sender's store holds, up to the store sequence it carries:
    /// whoever got it would notice if that store came back shorter.
    pub fn tells_of_the_store(&self) -> bool {
        self.is_vote()
            || matches!(
                self,
                Message::StartAsk
                    | Message::Append(_)
                    | Message::Committed { .. }
                    | Message::Acknowledge { .. }
                    | Message::Entries { .. }
            )
    }

    /// The word used in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Heartbeat(_) => "heartbeat",
            Message::Append(_) => "append",
            Message::Committed { .. } => "committed",
            Message::Acknowledge { .. } => "acknowledge",
            Message::ExchangeRequest { .. } => "exchange_request",
            Message::ExchangeReply { .. } => "exchange_reply",
            Message::Pull { .. } => "pull",
            Message::Entries { .. } => "entries",
            Message::Prepare { .. } => "prepare",
            Message::Promised { .. } => "promised",
            Message::Accept { .. } => "accept",
            Message::Accepted { .. } => "accepted",
            Message::Delegate { .. } => "delegate",
            Message::Delegated { .. } => "delegated",
            Message::Combine { .. } => "combine",
            Message::Combined { .. } => "combined",
            Message::Nack { .. } => "nack",
            Message::Read { .. } => "read",
            Message::ReadAnswer { .. } => "read_answer",
            Message::StaleEpoch { .. } => "stale_epoch",
            Message::Forward { .. } => "forward",
            Message::Forwarded { .. } => "forwarded",
            Message::StartAsk => "start_ask",
            Message::StartAnswer { .. } => "start_answer",
            Message::ClockRefused { .. } => "clock_refused",
        }
    }
}
