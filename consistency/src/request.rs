//! What clients ask of a replica, and what they are told.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::key::{KeyspaceId, NodeId, RegionId, Row};
use crate::record::RequestId;
use crate::register::Expect;
use crate::session::Context;

/// What a request asks for, chosen per request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Level {
    /// The local region alone; converges.
    Eventual,
    /// As eventual, plus everything the session has seen.
    Session,
    /// Linearizable: a majority of regions.
    Strong,
}

impl Level {
    /// The word used on the wire, in metrics, on the command line and in the docs.
    pub fn name(self) -> &'static str {
        match self {
            Level::Eventual => "eventual",
            Level::Session => "session",
            Level::Strong => "strong",
        }
    }
}

/// What to do with one row, or with a range of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Reads one row.
    Get(Row),
    /// Writes a register.
    Put(Row, Bytes),
    /// Deletes a register, or takes a counter's observed value off.
    Delete(Row),
    /// Writes or deletes a register if the expectation holds. Level strong only.
    CompareAndSet(Row, Expect, Option<Bytes>),
    /// Adds to a counter.
    Increment(Row, i64),
    /// Adds the row's element to its set.
    AddElement(Row),
    /// Removes the row's element from its set.
    RemoveElement(Row),
    /// Reads rows in order. Level eventual or session only.
    Scan(Scan),
}

impl Command {
    /// The row the command is about; `None` for a scan.
    pub fn row(&self) -> Option<&Row> {
        match self {
            Command::Get(row)
            | Command::Put(row, _)
            | Command::Delete(row)
            | Command::CompareAndSet(row, ..)
            | Command::Increment(row, _)
            | Command::AddElement(row)
            | Command::RemoveElement(row) => Some(row),
            Command::Scan(_) => None,
        }
    }

    /// Whether the command changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Command::Get(_) | Command::Scan(_))
    }

    /// The word used in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Get(_) => "get",
            Command::Put(..) => "put",
            Command::Delete(_) => "delete",
            Command::CompareAndSet(..) => "compare_and_set",
            Command::Increment(..) => "increment",
            Command::AddElement(_) => "add_element",
            Command::RemoveElement(_) => "remove_element",
            Command::Scan(_) => "scan",
        }
    }
}

/// A page of rows: storage keys from `from` (inclusive) to `to` (exclusive), within one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scan {
    /// The keyspace scanned.
    pub keyspace: KeyspaceId,
    /// First storage key.
    pub from: Bytes,
    /// First storage key behind the range; the whole range lies in one shard.
    pub to: Bytes,
    /// Rows at most; 1 to [`crate::limits::SCAN_ROWS_MAX`].
    pub limit: usize,
}

/// A request as it reaches the core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// At which level.
    pub level: Level,
    /// What the session has seen; empty without a session.
    pub context: Context,
    /// The client's name for the request, to answer a retry.
    pub request_id: Option<RequestId>,
    /// `Some` when this repeats a request: the node that took the first attempt, and its level.
    pub retry_of: Option<(NodeId, Level)>,
    /// Further regions in which an eventual or session write must be durable before the reply.
    pub ack_regions: u8,
    /// When the reply must have left, on the replica's monotonic clock.
    pub deadline: Duration,
}

/// What a request found or did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing is there (or it is deleted).
    Nothing,
    /// A register's bytes.
    Value(Bytes),
    /// A counter's value.
    Total(i64),
    /// The element is in its set.
    Member,
}

/// One row of a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScannedRow {
    /// Its name.
    pub row: Row,
    /// What it holds; rows with nothing in them are left out.
    pub found: Found,
    /// Its version.
    pub etag: Bytes,
}

/// The body of a reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To a read of one row.
    Read {
        /// What was found.
        found: Found,
        /// The row's version; empty when it was never written.
        etag: Bytes,
    },
    /// To a write.
    Written {
        /// The row's version right after the write.
        etag: Bytes,
        /// A counter's value right after the write as this replica sees it, else 0.
        total: i64,
    },
    /// To a scan.
    Page {
        /// The rows, in order.
        rows: Vec<ScannedRow>,
        /// Where to go on; `None` at the end of the range.
        next: Option<Bytes>,
    },
}

/// How a strong operation was decided; of several at once, the last in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Path {
    /// A read whose newest ballot was proven chosen: one round trip.
    Proven,
    /// A read that sent an unproven value again.
    Helped,
    /// Executed by one far replica: one round trip.
    Delegated,
    /// A quorum promised, then a quorum accepted: two round trips.
    Prepared,
    /// The key is contended: another coordinator proposed it together with operations of its own.
    Combined,
}

impl Path {
    /// All of them.
    pub const ALL: [Path; 5] = [
        Path::Proven,
        Path::Helped,
        Path::Delegated,
        Path::Prepared,
        Path::Combined,
    ];

    /// The word used in receipts and docs.
    pub fn name(self) -> &'static str {
        match self {
            Path::Proven => "proven",
            Path::Helped => "helped",
            Path::Delegated => "delegated",
            Path::Prepared => "prepared",
            Path::Combined => "combined",
        }
    }
}

/// What a reply is worth: carried by every one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// Upper bound of the staleness of what was read: everything acknowledged in any region longer
    /// ago than this was seen. `None` when some region was never heard of. Strong reads: zero.
    pub staleness: Option<Duration>,
    /// The nodes that took part.
    pub replicas: Vec<NodeId>,
    /// Their regions.
    pub regions: Vec<RegionId>,
    /// For a write: the regions in which it was durable when the reply left.
    pub durable_regions: Vec<RegionId>,
    /// Round trips between regions that were paid, one after the other.
    pub wan_round_trips: u8,
    /// How a strong operation was decided in the end; `None` below strong.
    pub path: Option<Path>,
    /// Whether eventual state was absorbed into the strong value for this request.
    pub absorbed: bool,
    /// Whether a concurrent write was merged or overwritten by this request.
    pub merged: bool,
    /// The node that served it, when that was not the one asked.
    pub forwarded_to: Option<NodeId>,
}

impl Receipt {
    /// Adds what a further part of one request was worth: the worst of both, in everything but the round trips,
    /// which depend on whether the parts were asked side by side.
    pub fn join(&mut self, part: &Receipt) {
        fn add<T: Copy + Ord>(all: &mut Vec<T>, more: &[T]) {
            all.extend_from_slice(more);
            all.sort_unstable();
            all.dedup();
        }
        self.staleness = self.staleness.zip(part.staleness).map(|(a, b)| a.max(b));
        add(&mut self.replicas, &part.replicas);
        add(&mut self.regions, &part.regions);
        self.absorbed |= part.absorbed;
        self.merged |= part.merged;
        self.path = self.path.max(part.path);
        self.forwarded_to = self.forwarded_to.or(part.forwarded_to);
    }
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What was found or done.
    pub answer: Answer,
    /// The level that was reached; never below the one asked for.
    pub level: Level,
    /// The session's context after this reply.
    pub context: Context,
    /// A server clock value: what a later request may name as `issued`.
    pub hlc: Hlc,
    /// What the reply is worth.
    pub receipt: Receipt,
}

impl Reply {
    /// Adds a further part's level, context, clock and receipt; the answer and the round trips are the caller's.
    pub fn join(&mut self, part: &Reply) {
        self.level = self.level.min(part.level);
        self.context.join(&part.context);
        self.hlc = self.hlc.max(part.hlc);
        self.receipt.join(&part.receipt);
    }
}

/// Whether a refused request left anything behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Surely not.
    No,
    /// It may have been, or may still be.
    Maybe,
}

/// Why a request was refused. The names are stable: clients branch on them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Reason {
    /// The topology names no such keyspace.
    UnknownKeyspace,
    /// The keyspace's type does not know the command.
    WrongType,
    /// The command is not offered at this level.
    LevelNotSupported,
    /// The keyspace takes strong writes only.
    StrongOnly,
    /// A field is out of its bounds.
    Invalid,
    /// The counter would overflow.
    Overflow,
    /// The compare-and-set's condition did not hold.
    ConditionFailed,
    /// No quorum is reachable from here.
    QuorumUnreachable,
    /// The session's causes could not be covered in time.
    SessionUnavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// The request id is older than what is remembered, or was taken elsewhere.
    UnknownOutcome,
    /// Too much is waiting already.
    Overloaded,
    /// This node lost data and refills; it takes no writes.
    AwaitingReadmission,
    /// This node's clock is out of bounds.
    ClockOutOfBounds,
    /// The row's stored record is damaged here.
    Damaged,
    /// This node holds no replica of the key and knows none that answers.
    NotHere,
    /// This node's disk is full or failed.
    StoreFailed,
    /// This node is stopping.
    ShuttingDown,
}

impl Reason {
    /// All of them: the documented catalogue.
    pub const ALL: [Reason; 18] = [
        Reason::UnknownKeyspace,
        Reason::WrongType,
        Reason::LevelNotSupported,
        Reason::StrongOnly,
        Reason::Invalid,
        Reason::Overflow,
        Reason::ConditionFailed,
        Reason::QuorumUnreachable,
        Reason::SessionUnavailable,
        Reason::DeadlineExceeded,
        Reason::UnknownOutcome,
        Reason::Overloaded,
        Reason::AwaitingReadmission,
        Reason::ClockOutOfBounds,
        Reason::Damaged,
        Reason::NotHere,
        Reason::StoreFailed,
        Reason::ShuttingDown,
    ];

    /// The stable name clients see.
    pub fn name(self) -> &'static str {
        match self {
            Reason::UnknownKeyspace => "UNKNOWN_KEYSPACE",
            Reason::WrongType => "WRONG_TYPE",
            Reason::LevelNotSupported => "LEVEL_NOT_SUPPORTED",
            Reason::StrongOnly => "STRONG_ONLY",
            Reason::Invalid => "INVALID",
            Reason::Overflow => "OVERFLOW",
            Reason::ConditionFailed => "CONDITION_FAILED",
            Reason::QuorumUnreachable => "QUORUM_UNREACHABLE",
            Reason::SessionUnavailable => "SESSION_UNAVAILABLE",
            Reason::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Reason::UnknownOutcome => "UNKNOWN_OUTCOME",
            Reason::Overloaded => "OVERLOADED",
            Reason::AwaitingReadmission => "AWAITING_READMISSION",
            Reason::ClockOutOfBounds => "CLOCK_OUT_OF_BOUNDS",
            Reason::Damaged => "DAMAGED",
            Reason::NotHere => "NOT_HERE",
            Reason::StoreFailed => "STORE_FAILED",
            Reason::ShuttingDown => "SHUTTING_DOWN",
        }
    }
}

/// A refused request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Whether anything was applied.
    pub applied: Applied,
    /// What was wrong and what to do, for people; without keys and values.
    pub message: String,
    /// For a failed condition: the row's version at that moment.
    pub etag: Bytes,
    /// For a failed condition: what the session has seen by learning that.
    pub context: Context,
}

impl Refusal {
    /// A refusal that left nothing behind.
    pub fn not_applied(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            applied: Applied::No,
            message: message.into(),
            etag: Bytes::new(),
            context: Context::new(),
        }
    }

    /// A refusal that may have left something behind.
    pub fn maybe_applied(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal {
            applied: Applied::Maybe,
            ..Refusal::not_applied(reason, message)
        }
    }
}
