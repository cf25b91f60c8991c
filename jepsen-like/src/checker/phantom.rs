//! Nothing failed and nothing never invoked is ever visible (reads are of values that some operation wrote: G1a and
//! the "no phantom" rule of Jepsen's set and register tests; Adya 1999, Kingsbury).
//!
//! Judged over reads of every level and over the final reads: what they show was put there by an operation that was
//! invoked before the read completed and did not fail. A register's value is always shown under one version, and a
//! version always shows one value. A scan shows no row twice.

use std::collections::BTreeMap;

use super::index::{
    self, Increment, KeyIndex, Kind, Operation, Outcome, Writers, increments, split,
};
use super::spread::Spread;
use super::{Verdict, Violation};
use crate::history::{Datum, Expect, History, Op, ROW_TWICE, Record};

/// Name of the property.
pub const NAME: &str = "phantom";

/// What is wrong: the explanation and the lines that prove it.
pub(super) type Fault = (String, Vec<usize>);

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let twice = |record: &Record| record.error.as_deref() == Some(ROW_TWICE);
    if let Some(line) = history.records.iter().position(twice) {
        let explanation = "a scan shows a row more than once".to_owned();
        return Violation::verdict(history, NAME, explanation, vec![line]);
    }
    Spread::judge(history, of_keys)
}

fn of_keys(history: &History) -> Verdict {
    let mut unknown = None;
    for key in index::by_key(history) {
        let fault = match key.kind {
            Some(Kind::Register) => Ok(register(history, &key)),
            Some(Kind::Counter) => counter(history, &key),
            Some(Kind::Set) => Ok(set(history, &key)),
            None => Ok(None),
        };
        match fault {
            Ok(None) => {}
            Ok(Some((explanation, lines))) => {
                let explanation = format!("{}: {explanation}", key.key);
                return Violation::verdict(history, NAME, explanation, lines);
            }
            Err(why) => unknown = unknown.or(Some(why)),
        }
    }
    unknown.map_or(Verdict::Ok, |why| Verdict::Unknown { why })
}

/// Lines of everything that may show something, by time of invocation.
fn observers(history: &History, key: &KeyIndex<'_>) -> Vec<usize> {
    let lines = key.operations.iter().flat_map(|operation| &operation.lines);
    let mut lines: Vec<usize> = lines.chain(&key.finals).copied().collect();
    lines.retain(|&line| matches!(Outcome::of(&history.records[line]), Outcome::Ok));
    lines.sort_by_key(|&line| (history.records[line].invoke_ns, line));
    lines
}

/// Why a write cannot be visible to a read that completed at `until`.
fn invisible(write: &Operation<'_>, until: u64) -> Option<&'static str> {
    if !write.may_apply() {
        Some("which failed")
    } else if write.invoke > until {
        Some("which was not yet invoked")
    } else {
        None
    }
}

fn register(history: &History, key: &KeyIndex<'_>) -> Option<Fault> {
    let writers = Writers::of(&key.operations);
    for line in observers(history, key) {
        let record = &history.records[line];
        let value = match (record.op, record.swap().map(|swap| &swap.expect)) {
            (Op::Get | Op::Final, _) => record.text(),
            (Op::Cas, Some(Expect::Value(value))) => Some(value.as_str()),
            _ => None,
        };
        let Some(value) = value else { continue };
        let Some(&at) = writers.by_value.get(value) else {
            return Some((format!("value {value} was never written"), vec![line]));
        };
        let write = &key.operations[at];
        if let Some(why) = invisible(write, record.complete_ns.unwrap_or(u64::MAX)) {
            let explanation = format!("value {value} is visible, {why}");
            return Some((explanation, [write.lines.clone(), vec![line]].concat()));
        }
    }
    let two = two_versions(history, key, &writers).find(|(at, _)| {
        // Of a retried write it is the request id that was broken.
        key.operations[*at].lines.len() == 1
    });
    two.map(|(_, fault)| fault)
        .or_else(|| two_values(history, key))
}

/// Writes whose value was shown under two versions.
pub(super) fn two_versions<'k>(
    history: &'k History,
    key: &'k KeyIndex<'_>,
    writers: &'k Writers<'_>,
) -> impl Iterator<Item = (usize, Fault)> + 'k {
    let mut first: BTreeMap<usize, usize> = BTreeMap::new();
    observers(history, key).into_iter().filter_map(move |line| {
        let record = &history.records[line];
        let value = shows(record)?;
        let version = record.etag.as_deref()?;
        let at = *writers.by_value.get(value)?;
        let one = *first.entry(at).or_insert(line);
        let known = history.records[one].etag.as_deref().unwrap_or_default();
        (known != version).then(|| {
            let explanation = format!("value {value} has versions {known} and {version}");
            let write = &key.operations[at].lines;
            (at, (explanation, [write.clone(), vec![one, line]].concat()))
        })
    })
}

/// The value that stands under the version in a record's reply.
fn shows(record: &Record) -> Option<&str> {
    match record.op {
        Op::Get | Op::Final => record.text(),
        _ => record.stores(),
    }
}

fn two_values(history: &History, key: &KeyIndex<'_>) -> Option<Fault> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for line in observers(history, key) {
        let record = &history.records[line];
        let Some(version) = record.etag.as_deref() else {
            continue;
        };
        let one = *first.entry(version).or_insert(line);
        let values =
            [&history.records[one], record].map(|record| shows(record).unwrap_or("nothing"));
        if values[0] != values[1] {
            let explanation = format!("version {version} shows {} and {}", values[0], values[1]);
            return Some((explanation, vec![one, line]));
        }
    }
    None
}

fn counter(history: &History, key: &KeyIndex<'_>) -> Result<Option<Fault>, String> {
    let decoded = increments(key.key, &key.operations)?;
    let mut low: BTreeMap<u64, usize> = BTreeMap::new();
    // Bounds of the strong part after each strong increment, by invocation.
    let mut bounds = vec![(0, 0i64, 0i64)];
    for (at, (operation, increment)) in key.operations.iter().zip(&decoded).enumerate() {
        match increment {
            Some(Increment::Low(bit)) => {
                low.insert(*bit, at);
            }
            Some(Increment::High(units)) if operation.may_apply() => {
                let (_, least, most) = bounds[bounds.len() - 1];
                bounds.push((
                    operation.invoke,
                    least + units.min(&0),
                    most + units.max(&0),
                ));
            }
            _ => {}
        }
    }
    for line in observers(history, key) {
        let record = &history.records[line];
        let until = record.complete_ns.unwrap_or(u64::MAX);
        let reads = matches!(record.op, Op::Read | Op::Final);
        let Some(total) = record.integer().filter(|_| reads) else {
            continue;
        };
        let (strong, mask) = split(total);
        for bit in (0..index::LOW_BITS).map(|shift| 1 << shift) {
            if mask & bit == 0 {
                continue;
            }
            let Some(&at) = low.get(&bit) else {
                let explanation = format!("total {total} contains {bit}, which nobody added");
                return Ok(Some((explanation, vec![line])));
            };
            if let Some(why) = invisible(&key.operations[at], until) {
                let explanation = format!("total {total} contains increment {bit}, {why}");
                let write = key.operations[at].lines.clone();
                return Ok(Some((explanation, [write, vec![line]].concat())));
            }
        }
        let after = bounds.partition_point(|(invoke, _, _)| *invoke <= until);
        let (_, least, most) = bounds[after.max(1) - 1];
        if strong < least || strong > most {
            let explanation = format!(
                "the strong part of total {total} is {strong}, and the strong increments invoked so far give \
                 {least} to {most}"
            );
            return Ok(Some((explanation, vec![line])));
        }
    }
    Ok(None)
}

fn set(history: &History, key: &KeyIndex<'_>) -> Option<Fault> {
    let mut adds: BTreeMap<&str, Vec<&Operation<'_>>> = BTreeMap::new();
    for operation in &key.operations {
        if let (Op::Add, Some(element)) = (operation.op(), operation.record.text()) {
            adds.entry(element).or_default().push(operation);
        }
    }
    for line in observers(history, key) {
        let record = &history.records[line];
        let until = record.complete_ns.unwrap_or(u64::MAX);
        let shown: Vec<&str> = match &record.value {
            Some(Datum::Members(members)) => members.iter().map(String::as_str).collect(),
            Some(Datum::Membership(asked)) if asked.present == Some(true) => vec![&asked.element],
            _ => continue,
        };
        for element in shown {
            let Some(adds) = adds.get(element) else {
                return Some((format!("element {element} was never added"), vec![line]));
            };
            if let Some(why) = adds.iter().map(|add| invisible(add, until)).min().flatten() {
                let lines = adds.iter().flat_map(|add| add.lines.iter().copied());
                let lines = lines.chain([line]).collect();
                return Some((format!("element {element} is visible, {why}"), lines));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::checker::testing::*;

    fn put(value: &str) -> Record {
        op(1, Op::Put, Strong, 10, 20).text(value).etag("1")
    }

    fn get(value: &str, at: u64) -> Record {
        op(2, Op::Get, Eventual, at, at + 1).text(value).etag("1")
    }

    #[test]
    fn register_values_come_from_writes() {
        assert_eq!(check(&history([put("a"), get("a", 12)])), Verdict::Ok);
        assert_eq!(
            check(&history([put("a").info(), get("a", 50)])),
            Verdict::Ok
        );
        let never = check(&history([put("a"), get("b", 30)]));
        assert_violation(&never, "value b was never written", &[1]);
        let failed = check(&history([put("a").failed(), get("a", 30)]));
        assert_violation(&failed, "value a is visible, which failed", &[0, 1]);
        let early = check(&history([get("a", 1), put("a")]));
        assert_violation(
            &early,
            "value a is visible, which was not yet invoked",
            &[0, 1],
        );
        let end = last("eu", Some(Datum::Text("z".into())));
        assert_violation(&check(&history([put("a"), end])), "value z was never", &[1]);
        let refused = op(1, Op::Cas, Strong, 1, 2)
            .value(swap(Expect::Absent, "c"))
            .refused();
        let shown = check(&history([refused, get("c", 30)]));
        assert_violation(&shown, "value c is visible, which failed", &[0, 1]);
    }

    #[test]
    fn a_value_and_a_version_belong_together() {
        let two = check(&history([put("a"), get("a", 30).etag("2")]));
        assert_violation(&two, "value a has versions 1 and 2", &[0, 1]);
        let other = put("b").info();
        let same = check(&history([put("a"), other, get("b", 30)]));
        assert_violation(&same, "version 1 shows a and b", &[0, 2]);
    }

    #[test]
    fn counter_totals_come_from_increments() {
        const UNIT: i64 = 1 << index::LOW_BITS;
        let incr = |amount, level| op(1, Op::Incr, level, 10, 20).int(amount);
        let read = |total, at| op(2, Op::Read, Eventual, at, at + 1).int(total);
        let base = [
            incr(1, Eventual),
            incr(4, Session).failed(),
            incr(UNIT, Strong),
        ];
        let shows = |total, at| {
            let mut records = base.to_vec();
            records.push(read(total, at));
            check(&history(records))
        };
        assert_eq!(shows(UNIT + 1, 30), Verdict::Ok);
        assert_eq!(shows(0, 30), Verdict::Ok);
        assert_violation(&shows(2, 30), "contains 2, which nobody added", &[3]);
        assert_violation(&shows(5, 30), "contains increment 4, which failed", &[1, 3]);
        assert_violation(&shows(1, 3), "which was not yet invoked", &[3, 0]);
        assert_violation(&shows(2 * UNIT, 30), "give 0 to 1", &[3]);
        assert_violation(&shows(UNIT, 3), "give 0 to 0", &[3]);
    }

    #[test]
    fn elements_come_from_adds() {
        let add = op(1, Op::Add, Eventual, 10, 20).text("e");
        let list = |at| op(2, Op::Members, Eventual, at, at + 1).value(members(&["e"]));
        assert_eq!(check(&history([add.clone(), list(30)])), Verdict::Ok);
        assert_violation(
            &check(&history([list(30)])),
            "element e was never added",
            &[0],
        );
        let failed = check(&history([add.clone().failed(), list(30)]));
        assert_violation(&failed, "element e is visible, which failed", &[0, 1]);
        assert_eq!(
            check(&history([
                add.clone().failed(),
                add.clone().info(),
                list(30)
            ])),
            Verdict::Ok
        );
        let has = op(2, Op::Contains, Strong, 1, 2).value(asked("e", true));
        assert_violation(&check(&history([add, has])), "not yet invoked", &[1, 0]);
    }

    #[test]
    fn what_failed_is_seen_by_nobody() {
        let failed = |record: Record| record.failed();
        let later = |what, level| op(2, what, level, 30, 31);
        let value = |value: &str| Some(Datum::Text(value.into()));
        let put = failed(op(1, Op::Put, Eventual, 10, 20).text("a"));
        let cas = op(1, Op::Cas, Strong, 10, 20).value(swap(Expect::Absent, "a"));
        let incr = failed(op(1, Op::Incr, Eventual, 10, 20).int(4));
        let add = failed(op(1, Op::Add, Session, 10, 20).text("e"));
        let observers = [
            (&put, later(Op::Get, Session).text("a")),
            (&put, later(Op::Get, Strong).text("a")),
            (&put, last("eu", value("a"))),
            (&failed(cas.clone()), later(Op::Get, Strong).text("a")),
            (&cas.refused(), last("eu", value("a"))),
            (
                &put,
                later(Op::Cas, Strong)
                    .value(swap(Expect::Value("a".into()), "b"))
                    .etag("2"),
            ),
            (&incr, later(Op::Read, Strong).int(4)),
            (&incr, last("eu", Some(Datum::Integer(4)))),
            (&add, later(Op::Contains, Eventual).value(asked("e", true))),
            (&add, later(Op::Members, Session).value(members(&["e"]))),
            (&add, last("eu", Some(members(&["e"])))),
        ];
        for (write, observer) in observers {
            let verdict = check(&history([write.clone(), observer.clone()]));
            assert_violation(&verdict, "which failed", &[0, 1]);
            // Had its outcome been unknown, it could have been seen.
            let open = Record {
                error: None,
                ..write.clone().info()
            };
            assert_eq!(check(&history([open, observer])), Verdict::Ok);
        }
    }
}
