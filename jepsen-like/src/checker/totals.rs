//! Which totals of a counter its increments can explain.

use std::collections::BTreeSet;

use super::index::{Increment, Operation, Outcome, split};

/// Most different sums of increments of unknown outcome that are tried.
const MAX_SUMS: usize = 1 << 16;

/// The increments of one counter, summed up.
#[derive(Debug, Default)]
pub(super) struct Totals {
    acked: u64,
    invoked: u64,
    /// The strong parts that are possible; empty if there are too many.
    strong: BTreeSet<i64>,
}

impl Totals {
    /// Sums up `operations`, whose decoded increments are `increments`.
    pub(super) fn of(operations: &[Operation<'_>], increments: &[Option<Increment>]) -> Self {
        let mut totals = Self::default();
        let mut acked = 0;
        let mut open = Vec::new();
        for (operation, increment) in operations.iter().zip(increments) {
            match (increment, operation.outcome) {
                (Some(Increment::Low(bit)), Outcome::Ok) => totals.acked |= bit,
                (Some(Increment::Low(bit)), Outcome::Unknown) => totals.invoked |= bit,
                (Some(Increment::High(units)), Outcome::Ok) => acked += units,
                (Some(Increment::High(units)), Outcome::Unknown) => open.push(units),
                _ => {}
            }
        }
        totals.invoked |= totals.acked;
        totals.strong.insert(acked);
        for units in open {
            let more: Vec<i64> = totals.strong.iter().map(|sum| sum + units).collect();
            totals.strong.extend(more);
            if totals.strong.len() > MAX_SUMS {
                totals.strong.clear();
                break;
            }
        }
        totals
    }

    /// Whether the increments explain `total` as a final one: every acknowledged increment once, any of those of
    /// unknown outcome at most once. If not, says why.
    ///
    /// # Errors
    /// Says so if too many sums are possible.
    pub(super) fn explain(&self, total: i64) -> Result<Option<String>, String> {
        let (strong, mask) = split(total);
        let lost = self.acked & !mask;
        if lost != 0 {
            return Ok(Some(format!(
                "total {total} lacks acknowledged increments {lost}"
            )));
        }
        let alien = mask & !self.invoked;
        if alien != 0 {
            return Ok(Some(format!(
                "total {total} contains {alien}, which nobody added or which failed"
            )));
        }
        if self.strong.is_empty() {
            return Err("too many strong increments of unknown outcome".to_owned());
        }
        Ok((!self.strong.contains(&strong)).then(|| {
            let sums = (self.strong.first(), self.strong.last());
            let (low, high) = (sums.0.unwrap_or(&0), sums.1.unwrap_or(&0));
            format!(
                "the strong part of total {total} is {strong}, which no sum of the strong increments gives \
                 (they give {low} to {high})"
            )
        }))
    }
}
