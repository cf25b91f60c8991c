//! The search for a linearization: Wing and Gong 1993 with the memory of Lowe 2017.
//!
//! Every call here has completed; operations of unknown outcome belong to the model's environment. The search knows
//! nothing of values: a [`Model`] says which states a call can lead to.

use std::collections::HashSet;
use std::hash::Hash;

/// The interval in which a call took effect, ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) invoke: u64,
    pub(super) complete: u64,
}

/// A sequential object together with its environment.
pub(super) trait Model {
    type State: Clone + Eq + Hash;

    fn start(&self) -> Self::State;

    /// Whether `call` never changes the state by itself.
    fn is_read(&self, call: usize) -> bool;

    /// Which of several calls to try first: lower ones. Any ranks give the same answer; those of the order in which
    /// the calls did take effect give it without a wrong turn.
    fn rank(&self, call: usize) -> u32;

    /// Appends to `next` every state that `call` can leave behind when it is the next in the order. Environment
    /// effects invoked at or before `bound` may come first. Where a read agrees with `state`, `state` itself must be
    /// the only choice offered: taking an environment effect before somebody observes it gains nothing.
    fn step(&self, state: &Self::State, call: usize, bound: u64, next: &mut Vec<Self::State>);
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is an order.
    Order,
    /// There is none. The calls that could not be next after the longest order found.
    None { stuck: Vec<usize> },
    /// The budget of states ran out.
    Budget,
}

impl Found {
    /// The calls that could not be next, if there is no order.
    pub(super) fn stuck(&self) -> &[usize] {
        match self {
            Self::None { stuck } => stuck,
            Self::Order | Self::Budget => &[],
        }
    }
}

/// A set of calls that is closed below: all before `base`, and some from there on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done {
    base: usize,
    bits: Vec<u64>,
}

impl Done {
    fn contains(&self, call: usize) -> bool {
        let Some(at) = call.checked_sub(self.base) else {
            return true;
        };
        self.bits
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn count(&self) -> usize {
        self.base
            + self
                .bits
                .iter()
                .map(|word| word.count_ones() as usize)
                .sum::<usize>()
    }

    /// The set with `call` in it; equal sets are equal values.
    fn with(&self, call: usize) -> Self {
        let mut done = self.clone();
        let at = call - self.base;
        if done.bits.len() <= at / 64 {
            done.bits.resize(at / 64 + 1, 0);
        }
        done.bits[at / 64] |= 1 << (at % 64);
        let full = done
            .bits
            .iter()
            .take_while(|word| **word == u64::MAX)
            .count();
        done.bits.drain(..full);
        done.base += full * 64;
        let ones = done.bits.first().map_or(0, |word| word.trailing_ones());
        if ones > 0 {
            let mut carry = 0;
            for word in done.bits.iter_mut().rev() {
                let low = *word << (64 - ones);
                *word = *word >> ones | carry;
                carry = low;
            }
            done.base += ones as usize;
        }
        while done.bits.last() == Some(&0) {
            done.bits.pop();
        }
        done
    }
}

/// The calls that may be next, the one of the lowest rank in front and of equal ones the one that must end first, and
/// the moment by which one of them must have taken effect.
fn candidates(calls: &[Span], model: &impl Model, done: &Done) -> (Vec<usize>, u64) {
    let mut bound = u64::MAX;
    let mut open = Vec::new();
    for (call, span) in calls.iter().enumerate().skip(done.base) {
        if span.invoke > bound {
            break;
        }
        if !done.contains(call) {
            bound = bound.min(span.complete);
            open.push(call);
        }
    }
    // The bound fell while the list grew.
    open.retain(|&call| calls[call].invoke <= bound);
    open.sort_by_key(|&call| (model.rank(call), calls[call].complete, call));
    (open, bound)
}

/// Searches for an order of `calls` (sorted by invocation) that the model allows and that respects real time, and
/// visits at most `budget` states. `budget` is lowered by what was used.
pub(super) fn search<M: Model>(calls: &[Span], model: &M, budget: &mut u64) -> Found {
    let start = (
        Done {
            base: 0,
            bits: Vec::new(),
        },
        model.start(),
    );
    let mut visited = HashSet::from([start.clone()]);
    let mut stack = vec![start];
    let mut deepest = (0, Vec::new());
    let mut next = Vec::new();
    while let Some((done, state)) = stack.pop() {
        let count = done.count();
        if count == calls.len() {
            return Found::Order;
        }
        let (open, bound) = candidates(calls, model, &done);
        let mut branches = Vec::new();
        let mut stuck = Vec::new();
        for &call in &open {
            next.clear();
            model.step(&state, call, bound, &mut next);
            if next.is_empty() {
                stuck.push(call);
            }
            let still = model.is_read(call) && next.first() == Some(&state);
            if still {
                // A read that agrees with the state can always go first: whatever order there is from here stays
                // one when the read moves to its front, so no other branch is needed.
                branches.clear();
            }
            branches.extend(next.drain(..).map(|state| (done.with(call), state)));
            if still {
                break;
            }
        }
        if branches.is_empty() && (count > deepest.0 || deepest.1.is_empty()) {
            deepest = (count, stuck);
        }
        for branch in branches.into_iter().rev() {
            if *budget == 0 {
                return Found::Budget;
            }
            *budget -= 1;
            if visited.insert(branch.clone()) {
                stack.push(branch);
            }
        }
    }
    Found::None { stuck: deepest.1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_equal_values() {
        let empty = Done {
            base: 0,
            bits: Vec::new(),
        };
        let mut forward = empty.clone();
        for call in 0..200 {
            forward = forward.with(call);
        }
        let mut backward = empty;
        for call in (0..200).rev() {
            assert!(!backward.contains(call));
            backward = backward.with(call);
            assert!(backward.contains(call));
        }
        assert!(forward == backward && forward.base == 200 && forward.bits.is_empty());
        let gap = forward.with(203);
        assert!(gap.contains(203) && !gap.contains(202) && gap.count() == 201);
        assert!(gap.with(201).with(200).with(202).base == 204);
    }
}
