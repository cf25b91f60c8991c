//! What the demo's workload measured, per region and level.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hansa_client::{Consistency, Error, Receipt};
use hdrhistogram::Histogram;

use super::shape::REGIONS;

/// The levels, in the order of the table.
pub(crate) const LEVELS: [Consistency; 3] = [
    Consistency::Eventual,
    Consistency::Session,
    Consistency::Strong,
];

/// Longest latency that is told apart, microseconds; longer ones count as this one.
const LATENCY_US_MAX: u64 = 60_000_000;

/// An empty histogram of latencies in microseconds, with this many significant digits, at most 3.
pub(crate) fn histogram(digits: u8) -> Histogram<u64> {
    #[expect(
        clippy::expect_used,
        reason = "the constant bounds are in those of the crate"
    )]
    Histogram::new_with_bounds(1, LATENCY_US_MAX, digits.min(3)).expect("the bounds are sound")
}

/// Counts one latency.
pub(crate) fn count(histogram: &mut Histogram<u64>, time: Duration) {
    let microseconds = u64::try_from(time.as_micros()).unwrap_or(LATENCY_US_MAX);
    histogram.saturating_record(microseconds);
}

/// One region at one level, over one period.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// Of operations that succeeded.
    latency: Histogram<u64>,
    /// Operations that did not succeed.
    failed: u64,
    /// The worst staleness in the receipts.
    staleness: Option<Duration>,
    /// Receipts of operations that merged or absorbed a concurrent write.
    merges: u64,
}

impl Default for Cell {
    fn default() -> Cell {
        Cell {
            latency: histogram(2),
            failed: 0,
            staleness: None,
            merges: 0,
        }
    }
}

impl Cell {
    fn done(&mut self, receipt: &Receipt) {
        count(&mut self.latency, receipt.elapsed);
        self.staleness = self.staleness.max(receipt.staleness);
        self.merges += u64::from(receipt.merged || receipt.absorbed);
    }

    /// Operations that succeeded.
    pub(crate) fn operations(&self) -> u64 {
        self.latency.len()
    }

    /// Operations that did not.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Merges.
    pub(crate) fn merges(&self) -> u64 {
        self.merges
    }

    /// The worst staleness; `None` when no receipt told one.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        self.staleness
    }

    /// A latency that this share of the operations did not exceed; `None` without operations.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let some = !self.latency.is_empty();
        some.then(|| Duration::from_micros(self.latency.value_at_quantile(share)))
    }
}

/// One cell per region and level.
pub(crate) type Cells = [[Cell; LEVELS.len()]; REGIONS.len()];

/// The counters that the workload writes and the table reads.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Cells>);

impl Board {
    /// Counts the outcome of one operation; `level` is a position in [`LEVELS`].
    pub(crate) fn count(&self, region: usize, level: usize, outcome: &Result<Receipt, Error>) {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = &mut cells[region][level];
        match outcome {
            Ok(receipt) => cell.done(receipt),
            Err(_) => cell.failed += 1,
        }
    }

    /// What was counted since the last time.
    pub(crate) fn take(&self) -> Cells {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *cells)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A receipt with what the board looks at.
    pub(crate) fn receipt(milliseconds: u64, staleness: u64, merged: bool) -> Receipt {
        Receipt {
            level: Consistency::Eventual,
            staleness: Some(Duration::from_millis(staleness)),
            served_by: String::new(),
            served_in: String::new(),
            replicas: Vec::new(),
            regions: Vec::new(),
            durable_regions: Vec::new(),
            wan_round_trips: 0,
            path: None,
            absorbed: false,
            merged,
            forwarded_to: None,
            epoch: 1,
            attempts: 1,
            elapsed: Duration::from_millis(milliseconds),
            request_id: None,
        }
    }

    #[test]
    fn a_period_is_counted_and_then_forgotten() {
        let board = Board::default();
        for (latency, staleness, merged) in [(1, 5, false), (2, 700, true), (900, 6, false)] {
            board.count(1, 2, &Ok(receipt(latency, staleness, merged)));
        }
        let cell = &board.take()[1][2];
        assert_eq!((cell.operations(), cell.merges(), cell.failed()), (3, 1, 0));
        assert_eq!(cell.staleness(), Some(Duration::from_millis(700)));
        let p50 = cell.quantile(0.5).unwrap().as_micros();
        assert!((1980..2040).contains(&p50), "{p50}");
        assert!(cell.quantile(0.99).unwrap() >= Duration::from_millis(890));
        let next = &board.take()[1][2];
        assert_eq!((next.operations(), next.quantile(0.5)), (0, None));
    }
}
