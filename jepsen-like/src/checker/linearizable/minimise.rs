//! Makes a history without an order smaller, in steps that each follow from the one before: whoever accepts that the
//! small history is wrong must accept that the whole one is.
//!
//! The steps are: cut the end off (what had not completed becomes unknown), forget a read, forget when a write
//! completed, leave out an unknown write that nobody can have observed.

use super::super::index::{Operation, Outcome};
use super::{Answer, Object};

/// Searches that minimising may cost.
const MAX_SEARCHES: u32 = 400;

/// A smaller history of `object` that has no order, and the operations that no order can explain. `budget` is that
/// of one search.
pub(super) fn minimise<'h>(object: &Object<'h>, budget: u64) -> (Vec<Operation<'h>>, Vec<usize>) {
    let mut small = Small {
        object,
        budget,
        searches: MAX_SEARCHES,
        kept: object.operations.clone(),
        stuck: Vec::new(),
        idle: Vec::new(),
    };
    small.accepts(object.operations.clone());
    small.cut_end();
    small.drop_idle();
    small.weaken();
    small.drop_idle();
    (small.kept, small.stuck)
}

struct Small<'o, 'h> {
    object: &'o Object<'h>,
    budget: u64,
    searches: u32,
    /// The smallest history so far that has no order.
    kept: Vec<Operation<'h>>,
    stuck: Vec<usize>,
    idle: Vec<usize>,
}

impl<'h> Small<'_, 'h> {
    /// Takes `operations` as the new smallest history if it has no order.
    fn accepts(&mut self, operations: Vec<Operation<'h>>) -> bool {
        if self.searches == 0 {
            return false;
        }
        self.searches -= 1;
        let answer = self.object.answer(&operations, &mut self.budget.clone());
        let Answer::None { stuck, idle } = answer else {
            return false;
        };
        (self.kept, self.stuck, self.idle) = (operations, stuck, idle);
        true
    }

    /// Bisects for the shortest beginning that has no order.
    fn cut_end(&mut self) {
        let whole = self.kept.clone();
        let mut ends: Vec<u64> = whole.iter().map(|operation| operation.complete).collect();
        ends.retain(|&end| end != u64::MAX);
        ends.sort_unstable();
        let (mut good, mut bad) = (0, ends.len());
        while good < bad {
            let middle = usize::midpoint(good, bad);
            let short = whole
                .iter()
                .filter_map(|operation| until(operation, ends[middle]));
            match self.accepts(short.collect()) {
                true => bad = middle,
                false => good = middle + 1,
            }
        }
    }

    /// Weakens operations, many at a time at first.
    fn weaken(&mut self) {
        let mut chunk = self.kept.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < self.kept.len() && self.searches > 0 {
                let end = (at + chunk).min(self.kept.len());
                let parts = self.kept.iter().enumerate();
                let weaker: Vec<_> = parts
                    .filter_map(|(place, operation)| match (at..end).contains(&place) {
                        true => weakened(operation),
                        false => Some(operation.clone()),
                    })
                    .collect();
                let changed = weaker.len() < self.kept.len()
                    || weaker
                        .iter()
                        .zip(&self.kept)
                        .any(|(new, old)| new.outcome != old.outcome);
                let before = self.kept.len();
                let removed = changed && self.accepts(weaker);
                at = end - if removed { before - self.kept.len() } else { 0 };
            }
            chunk /= 2;
        }
    }

    fn drop_idle(&mut self) {
        while !self.idle.is_empty() {
            let parts = self.kept.iter().enumerate();
            let fewer = parts
                .filter(|(at, _)| !self.idle.contains(at))
                .map(|(_, operation)| operation.clone())
                .collect();
            if !self.accepts(fewer) {
                return;
            }
        }
    }
}

/// The operation as it stood at time `end`.
fn until<'h>(operation: &Operation<'h>, end: u64) -> Option<Operation<'h>> {
    match operation {
        operation if operation.invoke > end => None,
        operation if operation.complete > end => weakened(operation),
        operation => Some(operation.clone()),
    }
}

/// The operation with less known about it: a write may take effect later or never, a read is forgotten.
fn weakened<'h>(operation: &Operation<'h>) -> Option<Operation<'h>> {
    operation.may_apply().then(|| Operation {
        outcome: Outcome::Unknown,
        complete: u64::MAX,
        ..operation.clone()
    })
}
