//! What a link counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::settings::Direction;

/// Counters of a link since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Connections accepted from clients.
    pub accepted: u64,
    /// Accepted connections that never reached the target: it did not answer,
    /// the link was reset, half-open or full, or the client gave up in a black
    /// hole.
    pub refused: u64,
    /// Accepted connections that have not ended yet.
    pub open: u64,
    /// Client to target.
    pub forward: DirectionCounters,
    /// Target to client.
    pub backward: DirectionCounters,
}

/// Counters of one direction, over all connections of the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionCounters {
    /// Bytes read from the sending end.
    pub bytes_in: u64,
    /// Bytes handed to the receiving end. What is missing against `bytes_in`
    /// is in flight, held, or was lost: with its connection, or in
    /// [`Cut::HalfOpen`](crate::Cut::HalfOpen).
    pub bytes_out: u64,
    /// Connections that reached the target and whose direction still carries
    /// bytes, that is, is not yet half-closed.
    pub connections: u64,
}

/// The live counters behind [`LinkCounters`].
///
/// Every field is an independent statistic, hence relaxed ordering.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) open: AtomicU64,
    forward: DirectionCells,
    backward: DirectionCells,
}

/// The live counters of one direction.
#[derive(Debug, Default)]
pub(crate) struct DirectionCells {
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) connections: AtomicU64,
}

impl Counters {
    pub(crate) fn direction(&self, direction: Direction) -> &DirectionCells {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        }
    }

    pub(crate) fn read(&self) -> LinkCounters {
        LinkCounters {
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            open: self.open.load(Ordering::Relaxed),
            forward: self.forward.read(),
            backward: self.backward.read(),
        }
    }
}

impl DirectionCells {
    fn read(&self) -> DirectionCounters {
        DirectionCounters {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}

pub(crate) fn add(cell: &AtomicU64, amount: usize) {
    cell.fetch_add(amount as u64, Ordering::Relaxed);
}

/// Counts one thing from its creation until it is dropped.
pub(crate) struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    pub(crate) fn enter(cell: &'a AtomicU64) -> Self {
        cell.fetch_add(1, Ordering::Relaxed);
        Self(cell)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
