//! Reads of several keys as what they promise: a read of each key for itself.
//!
//! A batch or a scan becomes one `get` per key, invoked and completed with it, and every checker of single keys judges
//! those. A batch names its keys. A scan covers every register of the history that begins with its key: what it does
//! not list showed nothing. Only what succeeded shows anything; the rest is left out.

use std::collections::BTreeSet;

use super::index::Kind;
use super::{Verdict, Violation};
use crate::history::{Datum, Held, History, Op, Record, Status};

/// A history without reads of several keys.
pub(super) struct Spread {
    pub(super) history: History,
    /// The line that each record stands for.
    pub(super) origin: Vec<usize>,
}

impl Spread {
    /// The history spread; `None` if there is nothing to spread.
    pub(super) fn of(history: &History) -> Option<Self> {
        if !history.records.iter().any(|record| record.op.is_several()) {
            return None;
        }
        let registers = registers(history);
        let mut spread = Self {
            history: History::default(),
            origin: Vec::new(),
        };
        for (line, record) in history.records.iter().enumerate() {
            if !record.op.is_several() {
                spread.push(line, record.clone());
                continue;
            }
            if record.status != Status::Ok {
                continue;
            }
            let nothing = Held::default();
            let listed = record.rows().into_iter().flatten();
            for (key, held) in listed {
                spread.push(line, get(record, key, held));
            }
            for key in unlisted(&registers, record) {
                spread.push(line, get(record, key, &nothing));
            }
        }
        Some(spread)
    }

    fn push(&mut self, line: usize, record: Record) {
        self.history.records.push(record);
        self.origin.push(line);
    }

    /// Decides a property of single keys; the lines of a violation are those of `history`.
    pub(super) fn judge(history: &History, check: impl FnOnce(&History) -> Verdict) -> Verdict {
        let Some(spread) = Self::of(history) else {
            return check(history);
        };
        match check(&spread.history) {
            Verdict::Violation(violation) => {
                let operations = violation.operations.iter();
                let operations = operations.map(|&line| spread.origin[line]).collect();
                let Violation {
                    property,
                    explanation,
                    ..
                } = violation;
                Violation::verdict(history, property, explanation, operations)
            }
            other => other,
        }
    }
}

/// Every register that a client named by itself.
fn registers(history: &History) -> BTreeSet<&str> {
    let records = history.records.iter();
    let named = records.filter(|record| Kind::of(record.op) == Some(Kind::Register));
    named.filter_map(|record| record.key.as_deref()).collect()
}

/// The registers that a scan covers and did not list.
fn unlisted<'h>(
    registers: &'h BTreeSet<&'h str>,
    scan: &'h Record,
) -> impl Iterator<Item = &'h str> {
    let start = scan.key.as_deref().filter(|_| scan.op == Op::Scan);
    let covered = start.into_iter().flat_map(move |start| {
        let from = registers.range(start..);
        from.take_while(move |key| key.starts_with(start))
    });
    let listed = scan.rows();
    covered
        .copied()
        .filter(move |key| !listed.is_some_and(|rows| rows.contains_key(*key)))
}

/// The read of one key that a read of several contains.
fn get(several: &Record, key: &str, held: &Held) -> Record {
    let value = held.value.clone().map(Datum::Text);
    Record {
        op: Op::Get,
        key: Some(key.to_owned()),
        value,
        etag: held.etag.clone(),
        receipt: several.receipt.clone(),
        session: several.session.clone(),
        region: several.region.clone(),
        node: several.node.clone(),
        level: several.level,
        complete_ns: several.complete_ns,
        status: several.status,
        token_in: several.token_in.clone(),
        token_out: several.token_out.clone(),
        ..Record::event(several.process, Op::Get, several.invoke_ns)
    }
}

#[cfg(test)]
mod tests;
