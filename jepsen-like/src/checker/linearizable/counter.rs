//! The sequential counter, with eventual increments as environment.
//!
//! A total is the sum of the strong increments above `2^LOW_BITS` and a mask of the others below. The mask may only
//! grow along the order; the strong part must be exact.

use super::search::{Model, Span};
use crate::checker::index::{Increment, Operation, Outcome, increments, split};
use crate::history::Op;

/// Most combinations of strong increments of unknown outcome that one read may have to try.
const MAX_WAYS: usize = 1 << 20;

enum Call {
    Add(i64),
    Read { strong: i64, mask: u64 },
}

/// Strong increments of unknown outcome with one amount; they cannot be told apart.
struct Open {
    units: i64,
    /// Sorted.
    invokes: Vec<u64>,
}

/// Totals so far, and how many of each kind of open increment are in them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    strong: i64,
    mask: u64,
    used: Vec<u32>,
}

/// The operations on one counter, ready for the search.
pub(super) struct Counter {
    calls: Vec<(usize, Span, Call)>,
    open: Vec<Open>,
    /// Operation, invocation and bit of the eventual and session increments.
    low: Vec<(usize, u64, u64)>,
}

impl Counter {
    /// The model of `operations`, which are sorted by invocation and concern one counter.
    ///
    /// # Errors
    /// Says which increment cannot be told apart in a total.
    pub(super) fn new(key: &str, operations: &[Operation<'_>]) -> Result<Self, String> {
        let mut model = Self {
            calls: Vec::new(),
            open: Vec::new(),
            low: Vec::new(),
        };
        let decoded = increments(key, operations)?;
        for (at, (operation, increment)) in operations.iter().zip(decoded).enumerate() {
            let call = match (increment, operation.outcome) {
                (_, Outcome::Failed | Outcome::Refused) => continue,
                (Some(Increment::Low(bit)), _) => {
                    model.low.push((at, operation.invoke, bit));
                    continue;
                }
                (Some(Increment::High(units)), Outcome::Unknown) => {
                    model.open(units, operation.invoke);
                    continue;
                }
                (Some(Increment::High(units)), Outcome::Ok) => Call::Add(units),
                (None, _) => match (operation.op(), operation.record.integer()) {
                    (Op::Read, Some(total))
                        if operation.is_strong() && operation.outcome == Outcome::Ok =>
                    {
                        let (strong, mask) = split(total);
                        Call::Read { strong, mask }
                    }
                    _ => continue,
                },
            };
            let span = Span {
                invoke: operation.invoke,
                complete: operation.complete,
            };
            model.calls.push((at, span, call));
        }
        let ways = model.open.iter().fold(1usize, |ways, open| {
            ways.saturating_mul(open.invokes.len() + 1)
        });
        if ways > MAX_WAYS {
            return Err(format!(
                "{key}: strong increments of unknown outcome allow {ways} sums"
            ));
        }
        Ok(model)
    }

    fn open(&mut self, units: i64, invoke: u64) {
        match self.open.iter_mut().find(|open| open.units == units) {
            Some(open) => open.invokes.push(invoke),
            None => self.open.push(Open {
                units,
                invokes: vec![invoke],
            }),
        }
    }

    /// The intervals of the calls, for the search.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.calls.iter().map(|(_, span, _)| *span).collect()
    }

    /// Which operation a call is.
    pub(super) fn operation(&self, call: usize) -> usize {
        self.calls[call].0
    }

    /// Operations of the environment that no observation can need, whatever the order.
    pub(super) fn idle(&self) -> Vec<usize> {
        let seen = self.calls.iter().fold(0, |seen, (_, _, call)| match call {
            Call::Read { mask, .. } => seen | mask,
            Call::Add(_) => seen,
        });
        let idle = self.low.iter().filter(|(_, _, bit)| bit & seen == 0);
        idle.map(|(at, _, _)| *at).collect()
    }

    /// Every way to bring the strong total to `target` with open increments from kind `kind` on.
    fn fill(&self, state: &State, kind: usize, target: i64, bound: u64, out: &mut Vec<State>) {
        if state.strong == target {
            out.push(state.clone());
            return;
        }
        let Some(open) = self.open.get(kind) else {
            return;
        };
        let available = open.invokes.partition_point(|&invoke| invoke <= bound) as u32;
        let mut with = state.clone();
        loop {
            self.fill(&with, kind + 1, target, bound, out);
            if with.used[kind] >= available || with.strong == target {
                return;
            }
            with.used[kind] += 1;
            with.strong += open.units;
        }
    }
}

impl Model for Counter {
    type State = State;

    fn start(&self) -> State {
        State {
            strong: 0,
            mask: 0,
            used: vec![0; self.open.len()],
        }
    }

    fn is_read(&self, call: usize) -> bool {
        matches!(self.calls[call].2, Call::Read { .. })
    }

    /// Totals name no order, and increments of one amount are as good as each other: the one that must end first.
    fn rank(&self, _call: usize) -> u32 {
        0
    }

    fn step(&self, state: &State, call: usize, bound: u64, next: &mut Vec<State>) {
        match self.calls[call].2 {
            Call::Add(units) => next.push(State {
                strong: state.strong + units,
                ..state.clone()
            }),
            Call::Read { strong, mask } => {
                let invoked = self
                    .low
                    .iter()
                    .take_while(|(_, invoke, _)| *invoke <= bound)
                    .fold(0, |bits, (_, _, bit)| bits | bit);
                if state.mask & !mask != 0 || mask & !invoked != 0 {
                    return;
                }
                let grown = State {
                    mask,
                    ..state.clone()
                };
                self.fill(&grown, 0, strong, bound, next);
            }
        }
    }
}
