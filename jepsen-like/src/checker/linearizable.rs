//! Linearizability of strong operations per key: they take effect one after another, each between its invocation and
//! its completion (Herlihy and Wing 1990), and weaker writes join this order as an environment.
//!
//! A strong operation of unknown outcome may take effect at any time after its invocation, or never. An eventual or
//! session write may take effect in the strong order at most once, at any time after its invocation (its completion
//! says nothing: it was acknowledged by its region, not by the order), and need not. A condition that did not hold
//! is a read. Linearizability is local, so every key is judged by itself, and every element of a set.
//!
//! Versions are judged too: a strong register operation shows no version below one that a strong operation had
//! shown before it began, and a write gets a greater one.

use std::collections::BTreeMap;

use self::counter::Counter;
use self::minimise::minimise;
use self::register::Register;
use self::search::{Found, search};
use super::index::{self, KeyIndex, Kind, Operation, Outcome, Writers};
use super::spread::Spread;
use super::{Verdict, Violation};
use crate::history::{Datum, History, Op};

mod counter;
mod minimise;
mod register;
mod search;
#[cfg(test)]
mod tests;

/// Name of the property.
pub const NAME: &str = "linearizable";

/// States visited for one key before the answer is unknown. Ordinary keys need one or two per operation.
pub const DEFAULT_BUDGET: u64 = 2_000_000;

/// Decides the property with [`DEFAULT_BUDGET`].
#[must_use]
pub fn check(history: &History) -> Verdict {
    check_with_budget(history, DEFAULT_BUDGET)
}

/// Decides the property, visiting at most `budget` states for each key or element. A violation anywhere wins over
/// an undecided key.
#[must_use]
pub fn check_with_budget(history: &History, budget: u64) -> Verdict {
    Spread::judge(history, |history| of_keys(history, budget))
}

fn of_keys(history: &History, budget: u64) -> Verdict {
    let mut unknown = None;
    for key in index::by_key(history) {
        for object in Object::of(&key) {
            match object.judge(budget) {
                Judged::Good => {}
                Judged::Unknown(why) => unknown = unknown.or(Some(why)),
                Judged::Bad { explanation, lines } => {
                    return Violation::verdict(history, NAME, explanation, lines);
                }
            }
        }
    }
    unknown.map_or(Verdict::Ok, |why| Verdict::Unknown { why })
}

enum Judged {
    Good,
    Bad {
        explanation: String,
        lines: Vec<usize>,
    },
    Unknown(String),
}

/// What one search found, in terms of the operations searched.
enum Answer {
    Order,
    None { stuck: Vec<usize>, idle: Vec<usize> },
    Unknown(String),
}

/// A register, a counter, or one element of a set.
struct Object<'h> {
    name: String,
    kind: Kind,
    operations: Vec<Operation<'h>>,
}

impl<'h> Object<'h> {
    fn of(key: &KeyIndex<'h>) -> Vec<Self> {
        let Some(kind) = key.kind else {
            return Vec::new();
        };
        if kind != Kind::Set {
            return vec![Self {
                name: key.key.to_owned(),
                kind,
                operations: key.operations.clone(),
            }];
        }
        let mut elements: BTreeMap<&str, Vec<Operation<'h>>> = BTreeMap::new();
        for operation in &key.operations {
            let element = match (&operation.record.value, operation.op()) {
                (Some(Datum::Text(element)), Op::Add | Op::Remove) => element,
                (Some(Datum::Membership(asked)), Op::Contains) => &asked.element,
                _ => continue,
            };
            elements.entry(element).or_default().push(operation.clone());
        }
        let elements = elements.into_iter();
        elements
            .map(|(element, operations)| Self {
                name: format!("{} element {element}", key.key),
                kind,
                operations,
            })
            .collect()
    }

    fn judge(&self, budget: u64) -> Judged {
        let judged = match self.answer(&self.operations, &mut budget.clone()) {
            Answer::None { .. } => return self.explain(budget),
            Answer::Order => Judged::Good,
            Answer::Unknown(why) => Judged::Unknown(why),
        };
        let versions = (self.kind == Kind::Register).then(|| self.version_went_back());
        match versions.flatten() {
            Some((explanation, lines)) => Judged::Bad { explanation, lines },
            None => judged,
        }
    }

    fn answer(&self, operations: &[Operation<'h>], budget: &mut u64) -> Answer {
        let (found, stuck, idle) = if self.kind == Kind::Counter {
            let model = match Counter::new(&self.name, operations) {
                Ok(model) => model,
                Err(why) => return Answer::Unknown(why),
            };
            let found = search(&model.spans(), &model, budget);
            let stuck = found.stuck().iter().map(|&call| model.operation(call));
            let stuck = stuck.collect();
            (found, stuck, model.idle())
        } else {
            let model = Register::new(operations);
            let found = search(&model.spans(), &model, budget);
            let stuck = found.stuck().iter().map(|&call| model.operation(call));
            let stuck = stuck.collect();
            (found, stuck, model.idle())
        };
        match found {
            Found::Order => Answer::Order,
            Found::None { .. } => Answer::None { stuck, idle },
            Found::Budget => Answer::Unknown(format!(
                "{}: no answer within the budget of states",
                self.name
            )),
        }
    }

    /// The smallest history found that still has no order.
    fn explain(&self, budget: u64) -> Judged {
        let (operations, stuck) = minimise(self, budget);
        let strong = operations
            .iter()
            .filter(|operation| operation.is_strong() && operation.outcome != Outcome::Unknown);
        let last = stuck
            .iter()
            .map(|&at| format!("\"{}\"", operations[at].record.describe()))
            .collect::<Vec<_>>()
            .join(" or ");
        Judged::Bad {
            explanation: format!(
                "{}: no order of {} strong operations agrees with real time and with what they saw; \
                 nothing can explain {last}",
                self.name,
                strong.count()
            ),
            lines: operations
                .iter()
                .flat_map(|operation| operation.lines.iter().copied())
                .collect(),
        }
    }

    /// Finds a strong operation that shows a version below one that was shown before it began.
    fn version_went_back(&self) -> Option<(String, Vec<usize>)> {
        let writers = Writers::of(&self.operations);
        let mut shown: Vec<(&Operation<'h>, &str, bool)> = Vec::new();
        for operation in &self.operations {
            if !operation.is_strong() {
                continue;
            }
            let record = operation.record;
            let written = record.op.is_write() && operation.outcome == Outcome::Ok;
            let version = match written {
                true => record.etag.as_deref(),
                false => writers.version_read(record),
            };
            shown.extend(version.map(|version| (operation, version, written)));
        }
        let mut ended: Vec<usize> = (0..shown.len()).collect();
        ended.sort_by_key(|&at| shown[at].0.complete);
        let mut ended = ended.into_iter().peekable();
        let mut highest: Option<usize> = None;
        for (operation, version, written) in &shown {
            while let Some(at) = ended.next_if(|&at| shown[at].0.complete < operation.invoke) {
                if highest.is_none_or(|high| shown[high].1 < shown[at].1) {
                    highest = Some(at);
                }
            }
            let Some((before, high, _)) = highest.map(|at| shown[at]) else {
                continue;
            };
            if *version < high || (*written && *version == high) {
                let explanation = format!(
                    "{}: a strong operation shows version {version} after version {high} was shown",
                    self.name
                );
                let lines = [before, *operation].map(|operation| operation.lines.clone());
                return Some((explanation, lines.concat()));
            }
        }
        None
    }
}
