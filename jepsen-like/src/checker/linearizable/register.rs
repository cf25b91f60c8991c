//! The sequential register, and the single element of a set, with eventual writes as environment.
//!
//! What can be current is one of a few *classes*: a class of its own for every write whose value or version somebody
//! can name, one for "nothing there" and one for "the element is there", where writes cannot be told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::search::{Model, Span};
use crate::checker::index::{Operation, Outcome, Writers};
use crate::history::{Expect, Op};

/// Nothing was written, or an unnamed delete was the last write.
const ABSENT: u32 = 0;
/// An unnamed add was the last write.
const PRESENT: u32 = 1;

/// The classes that an observation allows.
#[derive(Clone, Debug)]
struct Sees {
    /// Sorted.
    classes: Rc<[u32]>,
    /// The classes are the forbidden ones.
    negate: bool,
}

impl Sees {
    fn only(class: Option<u32>) -> Self {
        Self {
            classes: class.into_iter().collect(),
            negate: false,
        }
    }

    fn among(classes: &Rc<[u32]>) -> Self {
        Self {
            classes: Rc::clone(classes),
            negate: false,
        }
    }

    fn anything() -> Self {
        Self {
            classes: Rc::new([]),
            negate: true,
        }
    }

    fn allows(&self, class: u32) -> bool {
        self.classes.binary_search(&class).is_ok() != self.negate
    }
}

/// A condition of a compare-and-set: what makes it hold, and whether the history tells that exactly.
struct Condition {
    holds: Sees,
    certain: bool,
}

/// A call that completed.
struct Call {
    operation: usize,
    span: Span,
    sees: Option<Sees>,
    writes: Option<u32>,
    /// Its place in the order of versions, as far as the history tells it.
    rank: u32,
}

/// A write that may take effect once, at any time after its invocation, or never.
struct Environment {
    operation: usize,
    invoke: u64,
    class: u32,
    /// For a compare-and-set of unknown outcome: what it must find.
    expect: Option<Sees>,
}

/// The current class and the environment writes used up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    current: u32,
    used: Vec<u64>,
}

impl State {
    fn has_used(&self, write: usize) -> bool {
        self.used[write / 64] >> (write % 64) & 1 == 1
    }
}

/// The operations on one register or one element, ready for the search.
pub(super) struct Register {
    calls: Vec<Call>,
    environment: Vec<Environment>,
    /// Environment writes of each class, by invocation.
    by_class: Vec<Vec<usize>>,
}

impl Register {
    /// The model of `operations`, which are sorted by invocation and concern one register or one element.
    pub(super) fn new(operations: &[Operation<'_>]) -> Self {
        let names = Names::of(operations);
        let mut model = Self {
            calls: Vec::new(),
            environment: Vec::new(),
            by_class: vec![Vec::new(); names.count as usize],
        };
        for (at, operation) in operations.iter().enumerate() {
            let writes = names.class[at];
            let decided = matches!(operation.outcome, Outcome::Ok | Outcome::Refused);
            let sees = names.sees(operation);
            if operation.is_strong() && decided {
                let span = Span {
                    invoke: operation.invoke,
                    complete: operation.complete,
                };
                model.calls.push(Call {
                    operation: at,
                    span,
                    sees,
                    writes,
                    rank: 0,
                });
            } else if let Some(class) = writes {
                model.by_class[class as usize].push(model.environment.len());
                model.environment.push(Environment {
                    operation: at,
                    invoke: operation.invoke,
                    class,
                    expect: sees.filter(|_| operation.is_strong()),
                });
            }
        }
        model.rank_calls(operations, &names.writers);
        model
    }

    /// Ranks the calls by the version that each wrote or showed. One that shows none comes right after the highest
    /// that was known when it began.
    fn rank_calls(&mut self, operations: &[Operation<'_>], writers: &Writers<'_>) {
        let mut known: Vec<(u64, &str)> = Vec::new();
        let mut versions = BTreeSet::from([""]);
        let version = |call: &Call| {
            let operation = &operations[call.operation];
            match call.writes {
                Some(_) => writers.versions[call.operation],
                None => writers.version_read(operation.record),
            }
        };
        for call in &self.calls {
            if let Some(version) = version(call) {
                known.push((call.span.complete, version));
                versions.insert(version);
            }
        }
        known.sort_unstable();
        for at in 1..known.len() {
            known[at].1 = known[at].1.max(known[at - 1].1);
        }
        let places: BTreeMap<&str, u32> = versions.into_iter().zip(0..).collect();
        for call in &mut self.calls {
            let shown = version(call).unwrap_or_else(|| {
                let before = known.partition_point(|(end, _)| *end < call.span.invoke);
                before.checked_sub(1).map_or("", |last| known[last].1)
            });
            // A version is written before it is shown.
            call.rank = 2 * places[shown] + u32::from(call.writes.is_none());
        }
    }

    /// The intervals of the calls, for the search.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.calls.iter().map(|call| call.span).collect()
    }

    /// Which operation a call is.
    pub(super) fn operation(&self, call: usize) -> usize {
        self.calls[call].operation
    }

    /// Operations of the environment that no observation can need, whatever the order.
    pub(super) fn idle(&self) -> Vec<usize> {
        let observations = || {
            let calls = self.calls.iter().filter_map(|call| call.sees.as_ref());
            calls.chain(self.environment.iter().filter_map(|e| e.expect.as_ref()))
        };
        if observations().any(|sees| sees.negate) {
            return Vec::new();
        }
        let named: BTreeSet<u32> = observations()
            .flat_map(|sees| sees.classes.iter().copied())
            .collect();
        let idle = self
            .environment
            .iter()
            .filter(|write| !named.contains(&write.class));
        idle.map(|write| write.operation).collect()
    }

    /// Every state that agrees with `sees` and is reached from `state` by the fewest environment writes.
    fn reach(&self, state: &State, sees: &Sees, bound: u64, out: &mut Vec<State>) {
        if sees.allows(state.current) {
            out.push(state.clone());
            return;
        }
        if !sees.negate {
            for &class in sees.classes.iter() {
                self.take(state, class, bound, out);
            }
            return;
        }
        for class in 0..self.by_class.len() as u32 {
            if sees.allows(class) {
                self.take(state, class, bound, out);
            }
        }
    }

    /// Lets an environment write of `class` take effect, if one is left. Which one makes no difference: `bound` only
    /// grows along an order, so whatever is left now is left later.
    fn take(&self, state: &State, class: u32, bound: u64, out: &mut Vec<State>) {
        let left = self.by_class[class as usize]
            .iter()
            .copied()
            .take_while(|&write| self.environment[write].invoke <= bound)
            .find(|&write| !state.has_used(write));
        let Some(write) = left else {
            return;
        };
        let mut after = state.clone();
        after.used[write / 64] |= 1 << (write % 64);
        let from = out.len();
        match &self.environment[write].expect {
            None => out.push(after),
            Some(expect) => self.reach(&after, expect, bound, out),
        }
        for state in &mut out[from..] {
            state.current = class;
        }
    }
}

impl Model for Register {
    type State = State;

    fn start(&self) -> State {
        State {
            current: ABSENT,
            used: vec![0; self.environment.len().div_ceil(64)],
        }
    }

    fn is_read(&self, call: usize) -> bool {
        self.calls[call].writes.is_none()
    }

    fn rank(&self, call: usize) -> u32 {
        self.calls[call].rank
    }

    fn step(&self, state: &State, call: usize, bound: u64, next: &mut Vec<State>) {
        let call = &self.calls[call];
        match &call.sees {
            Some(sees) => self.reach(state, sees, bound, next),
            None => next.push(state.clone()),
        }
        if let Some(class) = call.writes {
            for state in next {
                state.current = class;
            }
        }
    }
}

/// How the operations of one register name each other.
struct Names<'h> {
    writers: Writers<'h>,
    /// The class that each operation writes, if it took effect or may have.
    class: Vec<Option<u32>>,
    count: u32,
    /// Classes in which nothing is there.
    absent: Rc<[u32]>,
    /// Classes whose version the history does not tell.
    unversioned: Rc<[u32]>,
}

impl<'h> Names<'h> {
    fn of(operations: &[Operation<'h>]) -> Self {
        let writers = Writers::of(operations);
        let mentioned = mentioned_versions(operations);
        let mut count = PRESENT + 1;
        let mut absent = vec![ABSENT];
        let mut unversioned = vec![ABSENT];
        let class = operations.iter().enumerate().map(|(at, operation)| {
            if !operation.may_apply() {
                return None;
            }
            let version = writers.versions[at];
            let named = match operation.op() {
                Op::Put | Op::Cas => true,
                Op::Delete => version.is_some_and(|version| mentioned.contains(version)),
                Op::Add => return Some(PRESENT),
                _ => false,
            };
            if !named {
                return Some(ABSENT);
            }
            let class = count;
            count += 1;
            if operation.op() == Op::Delete {
                absent.push(class);
            }
            if version.is_none() {
                unversioned.push(class);
            }
            Some(class)
        });
        let class = class.collect();
        Self {
            writers,
            class,
            count,
            absent: absent.into(),
            unversioned: unversioned.into(),
        }
    }

    fn of_version(&self, version: &str) -> Option<u32> {
        self.class[*self.writers.by_version.get(version)?]
    }

    fn of_value(&self, value: &str) -> Sees {
        let writer = self.writers.by_value.get(value);
        Sees::only(writer.and_then(|&at| self.class[at]))
    }

    /// What an operation observed or must observe; `None` for a blind write.
    fn sees(&self, operation: &Operation<'h>) -> Option<Sees> {
        let record = operation.record;
        match operation.op() {
            Op::Get => Some(match (record.text(), record.etag.as_deref()) {
                (Some(value), _) => self.of_value(value),
                (None, Some(version)) => match self.of_version(version) {
                    Some(class) if self.absent.contains(&class) => Sees::only(Some(class)),
                    Some(_) => Sees::only(None),
                    None => Sees::among(&self.absent),
                },
                (None, None) => Sees::among(&self.absent),
            }),
            Op::Contains => Some(Sees::only(Some(match present(operation) {
                Some(true) => PRESENT,
                _ => ABSENT,
            }))),
            Op::Cas => {
                let condition = self.condition(&record.swap()?.expect);
                if operation.outcome != Outcome::Refused {
                    return Some(condition.holds);
                }
                let found = record.etag.as_deref().and_then(|v| self.of_version(v));
                Some(refusal(condition, found))
            }
            _ => None,
        }
    }

    fn condition(&self, expect: &Expect) -> Condition {
        let (holds, certain) = match expect {
            Expect::Absent => (Sees::among(&self.absent), true),
            Expect::Value(value) => (self.of_value(value), true),
            Expect::Etag(version) => match self.of_version(version) {
                Some(class) => (Sees::only(Some(class)), true),
                None => (Sees::among(&self.unversioned), false),
            },
        };
        Condition { holds, certain }
    }
}

/// What a refused compare-and-set observed: the class it named, or anything but what its condition asks for.
fn refusal(condition: Condition, found: Option<u32>) -> Sees {
    match found {
        Some(class) if condition.certain && condition.holds.allows(class) => Sees::only(None),
        Some(class) => Sees::only(Some(class)),
        None if condition.certain => Sees {
            negate: true,
            ..condition.holds
        },
        None => Sees::anything(),
    }
}

fn present(operation: &Operation<'_>) -> Option<bool> {
    match &operation.record.value {
        Some(crate::history::Datum::Membership(membership)) => membership.present,
        _ => None,
    }
}

/// Versions by which an operation names what it found or expects.
fn mentioned_versions<'h>(operations: &[Operation<'h>]) -> BTreeSet<&'h str> {
    let mut mentioned = BTreeSet::new();
    for operation in operations {
        let record = operation.record;
        if record.op == Op::Get || operation.outcome == Outcome::Refused {
            mentioned.extend(record.etag.as_deref());
        }
        if let Some(Expect::Etag(version)) = record.swap().map(|swap| &swap.expect) {
            mentioned.insert(version);
        }
    }
    mentioned
}
