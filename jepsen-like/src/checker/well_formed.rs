//! The history can be judged: it follows the rules of the format that the other checkers rest on (own definition,
//! `docs/history-format.md`).
//!
//! A fault here is one of the workload or of the recorder, not of the database, so it is never a violation: the
//! verdict is unknown, which counts as a failure all the same.

use std::collections::BTreeMap;

use super::Verdict;
use super::index::{self, KeyIndex, Kind};
use crate::history::{Datum, History, Op, Record, Status};

/// Name of the property.
pub const NAME: &str = "well_formed";

/// Decides the property: ok or unknown.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let lines = history
        .records
        .iter()
        .enumerate()
        .find_map(|(line, record)| {
            let fault = fault_of(record)?;
            Some(format!("line {}: {fault}", line + 1))
        });
    let fault = lines.or_else(|| overlap(history)).or_else(|| {
        index::by_key(history)
            .iter()
            .find_map(|key| key_fault(history, key))
    });
    fault.map_or(Verdict::Ok, |why| Verdict::Unknown { why })
}

fn fault_of(record: &Record) -> Option<&'static str> {
    match record.complete_ns {
        Some(end) if end < record.invoke_ns => return Some("completed before it was invoked"),
        None if record.op.is_client() && record.status != Status::Info => {
            return Some("has an outcome and no completion");
        }
        _ => {}
    }
    if matches!(record.op, Op::Nemesis | Op::Usage) {
        return None;
    }
    if record.key.is_none() && record.op != Op::Digest {
        return Some("has no key");
    }
    if record.op.is_client() && record.level.is_none() {
        return Some("has no level");
    }
    let done = record.status == Status::Ok;
    let shaped = match (record.op, &record.value) {
        (Op::Put | Op::Add | Op::Remove, Some(Datum::Text(_)))
        | (Op::Cas, Some(Datum::Swap(_)))
        | (Op::Incr, Some(Datum::Integer(_)))
        | (Op::Get, Some(Datum::Text(_)) | None)
        | (Op::Delete, None) => true,
        (Op::Read, value) => !done || matches!(value, Some(Datum::Integer(_))),
        (Op::Members, value) => !done || matches!(value, Some(Datum::Members(_))),
        (Op::Contains, Some(Datum::Membership(asked))) => !done || asked.present.is_some(),
        (Op::BatchGet, Some(Datum::Rows(asked))) => !asked.is_empty(),
        (Op::Scan, value) => !done || lists_what_it_covers(record, value.as_ref()),
        (Op::Final | Op::Digest, _) => true,
        _ => false,
    };
    if !shaped {
        return Some("has a value that does not fit its operation");
    }
    let register_write = matches!(record.op, Op::Put | Op::Delete | Op::Cas);
    (done && register_write && record.etag.is_none()).then_some("is a done write without an etag")
}

/// Whether the rows of a scan begin with its key.
fn lists_what_it_covers(scan: &Record, value: Option<&Datum>) -> bool {
    let Some(Datum::Rows(rows)) = value else {
        return false;
    };
    rows.keys().all(|key| scan.tells_of(key))
}

/// A process with two operations at once. Operations of one process that touch count as at once: judged as
/// concurrent, they would make every checker blind to their order.
fn overlap(history: &History) -> Option<String> {
    let mut order: Vec<usize> = (0..history.records.len()).collect();
    order.retain(|&line| history.records[line].op.is_client());
    order.sort_by_key(|&line| (history.records[line].invoke_ns, line));
    let mut busy: BTreeMap<u64, (usize, Option<u64>)> = BTreeMap::new();
    for line in order {
        let record = &history.records[line];
        let before = busy.insert(record.process, (line, record.complete_ns));
        if let Some((before, end)) = before
            && end.is_none_or(|end| end >= record.invoke_ns)
        {
            return Some(format!(
                "line {}: process {} had not ended the operation of line {}",
                line + 1,
                record.process,
                before + 1
            ));
        }
    }
    None
}

fn key_fault(history: &History, key: &KeyIndex<'_>) -> Option<String> {
    let mut values: BTreeMap<&str, usize> = BTreeMap::new();
    for operation in &key.operations {
        let line = operation.lines[0];
        if Kind::of(operation.op()) != key.kind {
            return Some(format!("line {}: {} has two types", line + 1, key.key));
        }
        let retries = operation.lines.iter().map(|&line| &history.records[line]);
        let first = &history.records[line];
        for retry in retries {
            if (retry.op, &retry.value, retry.level) != (first.op, &first.value, first.level) {
                return Some(format!(
                    "line {}: attempts of one request differ in what they ask",
                    line + 1
                ));
            }
        }
        if let Some(value) = operation.record.stores()
            && let Some(other) = values.insert(value, line)
        {
            return Some(format!(
                "line {}: value {value} was also written in line {}",
                line + 1,
                other + 1
            ));
        }
    }
    match key.kind {
        Some(Kind::Counter) => index::increments(key.key, &key.operations).err(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::*;

    #[test]
    fn each_broken_rule_is_named() {
        let put = op(1, Op::Put, Strong, 10, 20).text("a").etag("1");
        let get = |process, at| op(process, Op::Get, Eventual, at, at + 1);
        assert_eq!(check(&history([put.clone(), get(1, 21)])), Verdict::Ok);
        let mut open = put.clone();
        open.complete_ns = None;
        let mut bare = put.clone();
        bare.etag = None;
        let mut keyless = put.clone();
        keyless.key = None;
        let mut leveless = put.clone();
        leveless.level = None;
        let incr = |amount| op(5, Op::Incr, Eventual, 30, 31).int(amount);
        let retry = put.clone().text("b").request("q");
        let cases: Vec<(Vec<Record>, &str)> = vec![
            (
                vec![op(1, Op::Get, Strong, 10, 9)],
                "line 1: completed before",
            ),
            (vec![open.clone()], "has an outcome and no completion"),
            (vec![bare], "without an etag"),
            (vec![keyless], "has no key"),
            (vec![leveless], "has no level"),
            (vec![put.clone().int(3)], "does not fit its operation"),
            (
                vec![put.clone(), get(1, 20)],
                "line 2: process 1 had not ended the operation of line 1",
            ),
            (
                vec![open.info(), get(1, 90)],
                "line 2: process 1 had not ended",
            ),
            (vec![put.clone(), incr(1)], "t/k has two types"),
            (
                vec![
                    put.clone(),
                    op(2, Op::Put, Strong, 30, 31).text("a").etag("2"),
                ],
                "also written in line 1",
            ),
            (
                vec![
                    put.clone().request("q"),
                    Record {
                        process: 2,
                        ..retry
                    },
                ],
                "attempts of one request differ",
            ),
            (vec![incr(3)], "no power of two"),
            (
                vec![
                    incr(4),
                    Record {
                        process: 6,
                        ..incr(4)
                    },
                ],
                "no power of two",
            ),
        ];
        for (records, part) in cases {
            assert_unknown(&check(&history(records)), part);
        }
    }
}
