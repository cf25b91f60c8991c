//! What clients saw: strong calls with their results, and eventual writes.

use bytes::Bytes;
use hansa_consistency::register::Operation;
use hansa_consistency::session::Context;
use hansa_consistency::topology::ValueType;
use hansa_consistency::version::Dot;

/// Names what wrote a register row: call `i` makes version `i + 1`, eventual write `k` makes
/// [`EVENTUAL`]` + k`.
pub(super) type Version = u32;

/// The version of a row that was never written.
pub(super) const NEVER: Version = 0;

/// The version of the first eventual write.
pub(super) const EVENTUAL: Version = 100;

/// Eventual writes of a schedule, at most. On a counter the k-th adds 2^k, so that a total tells which it holds.
pub(super) const EVENTUAL_MAX: usize = 5;

/// A condition, in versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// No value.
    Absent,
    /// The etag of this version.
    IsVersion(Version),
    /// The bytes that this version wrote.
    IsValue(Version),
}

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Reads.
    Read,
    /// Writes bytes of its own.
    Put,
    /// Deletes a register, or takes a counter's total off.
    Delete,
    /// Writes or deletes if the condition holds.
    CompareAndSet {
        /// The condition.
        expects: Condition,
        /// Whether it deletes.
        deletes: bool,
    },
    /// Adds to a counter: a multiple of 2^[`EVENTUAL_MAX`], a power of two of its own.
    Add(i64),
}

/// What a reply says about the row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// A counter's total at that moment.
    Total(i64),
    /// A register's version: the one read, or the one written.
    Version(Version),
    /// The condition did not hold; the version found.
    Refused(Version),
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    /// When.
    pub(super) at: u64,
    /// What it says.
    pub(super) seen: Seen,
    /// The etag it carries.
    pub(super) etag: Bytes,
    /// The context it gives the session.
    pub(super) context: Context,
}

/// One strong call, with all its attempts.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Who called.
    pub(super) client: usize,
    /// What.
    pub(super) action: Action,
    /// The same in the product's words.
    pub(super) operation: Operation,
    /// When the first attempt began.
    pub(super) invoked: u64,
    /// The first reply; without one it may take effect at any time or never.
    pub(super) reply: Option<Reply>,
    /// The client's own eventual writes, as bits, that every node had applied when it was asked.
    pub(super) covered: u32,
}

/// One eventual write.
#[derive(Clone, Debug)]
pub(super) struct EventualWrite {
    /// Who wrote.
    pub(super) client: usize,
    /// Its log entry.
    pub(super) dot: Dot,
    /// When.
    pub(super) invoked: u64,
    /// What its session has seen afterwards: its causes and itself.
    pub(super) context: Context,
    /// The version it made, on a register.
    pub(super) etag: Bytes,
}

/// Everything clients did in a schedule.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// What the row holds.
    pub(super) value_type: ValueType,
    /// Strong calls in order of invocation.
    pub(super) calls: Vec<Call>,
    /// Eventual writes in order.
    pub(super) eventual: Vec<EventualWrite>,
}

impl History {
    /// Whether a version leaves no value behind.
    pub(super) fn is_absent(&self, version: Version) -> bool {
        version == NEVER
            || self
                .calls
                .get(version as usize - 1)
                .is_some_and(|call| match call.action {
                    Action::Delete => true,
                    Action::CompareAndSet { deletes, .. } => deletes,
                    Action::Read | Action::Put | Action::Add(_) => false,
                })
    }

    /// Whether a condition holds at a version.
    pub(super) fn meets(&self, condition: Condition, version: Version) -> bool {
        match condition {
            Condition::Absent => self.is_absent(version),
            Condition::IsVersion(expected) => version == expected,
            Condition::IsValue(expected) => version == expected && !self.is_absent(version),
        }
    }

    /// The eventual writes that a reply shows.
    pub(super) fn shown(&self, seen: Seen) -> impl Iterator<Item = &EventualWrite> {
        let shows = move |k: usize| match seen {
            Seen::Total(total) => total >> k & 1 == 1,
            Seen::Version(version) | Seen::Refused(version) => version == EVENTUAL + k as Version,
        };
        let writes = self.eventual.iter().enumerate();
        writes.filter(move |(k, _)| shows(*k)).map(|(_, w)| w)
    }

    /// The calls, one a line.
    pub(super) fn describe(&self) -> Vec<String> {
        let calls = self.calls.iter().enumerate().map(|(i, call)| {
            let reply = call.reply.as_ref().map_or_else(
                || "no reply".to_owned(),
                |r| format!("{:?} at {}", r.seen, r.at),
            );
            format!(
                "call {i} (version {}) by client {}: {:?} from {}: {reply}",
                i + 1,
                call.client,
                call.action,
                call.invoked
            )
        });
        let writes = self.eventual.iter().enumerate();
        let writes = writes.map(|(k, w)| format!("eventual write {k} at {}", w.invoked));
        calls.chain(writes).collect()
    }
}
