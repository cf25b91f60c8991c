//! Counters stay within what was added: what was acknowledged, and no more than what was tried (the counter checker
//! of Jepsen; Kingsbury).
//!
//! Judged on plain sums per key, so it needs no bits: it is for histories of other databases as much as for ours.
//! A final total is the sum of all acknowledged increments and of any of those whose outcome is unknown. A total read
//! before is at most the sum of the positive increments invoked until it was there, and at least that of the negative
//! ones; a strong one contains every strong increment acknowledged before it was asked for. Every attempt of one
//! request counts once.

use super::index::{self, KeyIndex, Kind, Outcome};
use super::{Verdict, Violation};
use crate::history::{History, Level, Op, Record};

/// Name of the property.
pub const NAME: &str = "counter_bounds";

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    for key in index::by_key(history) {
        if key.kind != Some(Kind::Counter) {
            continue;
        }
        let bounds = match Bounds::of(&key) {
            Ok(bounds) => bounds,
            Err(why) => return Verdict::Unknown { why },
        };
        let reads = key.operations.iter().filter(|read| read.op() == Op::Read);
        let reads = reads.flat_map(|read| &read.lines).chain(&key.finals);
        for &line in reads {
            let record = &history.records[line];
            let Some(total) = record.integer() else {
                continue;
            };
            let (least, most) = bounds.at(record);
            let total = i128::from(total);
            if Outcome::of(record) == Outcome::Ok && !(least..=most).contains(&total) {
                let explanation = format!(
                    "{}: total {total} is not between {least} and {most}, which the increments allow",
                    key.key
                );
                return Violation::verdict(history, NAME, explanation, vec![line]);
            }
        }
    }
    Verdict::Ok
}

/// A sum that grows with time.
#[derive(Default)]
struct Growing(Vec<(u64, i128)>);

impl Growing {
    fn of(mut steps: Vec<(u64, i128)>) -> Self {
        steps.sort_by_key(|(at, _)| *at);
        let mut sum = 0;
        for (_, amount) in &mut steps {
            sum += *amount;
            *amount = sum;
        }
        Self(steps)
    }

    /// The sum of what was at or before `until`.
    fn until(&self, until: u64) -> i128 {
        let count = self.0.partition_point(|(at, _)| *at <= until);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// What the increments of one counter allow, with amounts below zero and above it summed up apart.
struct Bounds {
    /// By invocation: the increments that took effect or may have.
    falls: Growing,
    rises: Growing,
    /// By completion: the strong ones that were acknowledged.
    strong_falls: Growing,
    strong_rises: Growing,
    /// Of the final total.
    last: (i128, i128),
}

impl Bounds {
    /// # Errors
    /// Names a counter with an increment without an amount.
    fn of(key: &KeyIndex<'_>) -> Result<Self, String> {
        let (mut tried, mut strong, mut last) = (Vec::new(), Vec::new(), (0, 0));
        for operation in key.operations.iter().filter(|o| o.may_apply()) {
            let Some(amount) = operation.record.integer().map(i128::from) else {
                return Err(format!("{}: an increment without an amount", key.key));
            };
            tried.push((operation.invoke, amount));
            let done = operation.outcome == Outcome::Ok;
            if done && operation.is_strong() {
                strong.push((operation.complete, amount));
            }
            last.0 += if done { amount } else { amount.min(0) };
            last.1 += if done { amount } else { amount.max(0) };
        }
        let falls = |steps: &[(u64, i128)]| {
            Growing::of(steps.iter().map(|(at, n)| (*at, *n.min(&0))).collect())
        };
        let rises = |steps: &[(u64, i128)]| {
            Growing::of(steps.iter().map(|(at, n)| (*at, *n.max(&0))).collect())
        };
        Ok(Self {
            falls: falls(&tried),
            rises: rises(&tried),
            strong_falls: falls(&strong),
            strong_rises: rises(&strong),
            last,
        })
    }

    /// The least and the greatest total that a read may show.
    fn at(&self, record: &Record) -> (i128, i128) {
        if record.op == Op::Final {
            return self.last;
        }
        let until = record.complete_ns.unwrap_or(u64::MAX);
        let (mut least, mut most) = (self.falls.until(until), self.rises.until(until));
        // What a strong read must have seen counts in full, whatever its sign.
        if record.level == Some(Level::Strong)
            && let Some(before) = record.invoke_ns.checked_sub(1)
        {
            least += self.strong_rises.until(before);
            most += self.strong_falls.until(before);
        }
        (least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::*;
    use crate::history::Datum;

    fn incr(amount: i64, level: Level, at: u64) -> Record {
        op(1, Op::Incr, level, at, at + 5).int(amount)
    }

    fn read(total: i64, level: Level, at: u64) -> Record {
        op(2, Op::Read, level, at, at + 5).int(total)
    }

    /// Judges `records` and a last one, which must be at fault with `part` or, without, fit.
    #[track_caller]
    fn judge(records: &[Record], last: Record, part: Option<&str>) {
        let mut records = records.to_vec();
        records.push(last);
        let at = records.len() - 1;
        let verdict = check(&history(records));
        match part {
            Some(part) => assert_violation(&verdict, part, &[at]),
            None => assert_eq!(verdict, Verdict::Ok),
        }
    }

    #[test]
    fn final_totals_are_the_acknowledged_and_some_of_the_unknown() {
        let records = [
            incr(1, Eventual, 10),
            incr(1, Strong, 20),
            incr(3, Strong, 30).info(),
            incr(-2, Strong, 40).info(),
            incr(100, Strong, 50).failed(),
        ];
        for total in 0..=5 {
            judge(&records, last("eu", Some(Datum::Integer(total))), None);
        }
        for total in [-1, 6, 102] {
            let part = format!("t/k: total {total} is not between 0 and 5");
            let end = last("eu", Some(Datum::Integer(total)));
            judge(&records, end, Some(&part));
        }
    }

    #[test]
    fn reads_show_no_more_than_was_tried() {
        let records = [incr(5, Eventual, 10), incr(-1, Eventual, 100).info()];
        judge(&records, read(0, Eventual, 12), None);
        judge(&records, read(5, Eventual, 12), None);
        judge(&records, read(5, Eventual, 1), Some("between 0 and 0"));
        judge(&records, read(6, Session, 50), Some("between 0 and 5"));
        judge(&records, read(-1, Session, 50), Some("between 0 and 5"));
        judge(&records, read(-1, Session, 150), None);
        judge(&records, read(-2, Session, 150), Some("between -1 and 5"));
    }

    #[test]
    fn strong_reads_show_what_strong_increments_added_before() {
        let records = [
            incr(5, Strong, 10),
            incr(-2, Strong, 20),
            incr(7, Eventual, 30),
            incr(9, Strong, 40).info(),
        ];
        for total in [3, 10, 12, 19] {
            judge(&records, read(total, Strong, 60), None);
        }
        judge(&records, read(2, Strong, 60), Some("between 3 and 19"));
        judge(&records, read(20, Strong, 60), Some("between 3 and 19"));
        // One that was still under way may be missing, and a weaker read may lack them all.
        judge(&records, read(5, Strong, 22), None);
        judge(&records, read(2, Strong, 22), Some("between 3 and 5"));
        judge(&records, read(0, Eventual, 60), None);
    }

    #[test]
    fn attempts_of_one_request_count_once() {
        let twice = [
            incr(1, Strong, 10).request("q").info(),
            incr(1, Strong, 20).request("q"),
        ];
        judge(&twice, last("eu", Some(Datum::Integer(1))), None);
        let end = last("eu", Some(Datum::Integer(2)));
        judge(&twice, end, Some("total 2 is not between 1 and 1"));
        let mut bare = incr(1, Strong, 10);
        bare.value = None;
        assert_unknown(&check(&history([bare])), "without an amount");
    }
}
