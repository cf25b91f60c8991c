//! Request ids: an operation retried under one id takes effect at most once, and its attempts agree on the outcome
//! (exactly-once semantics as in RIFL; Lee and others 2015).
//!
//! Judged over operations with several attempts: several lines of one request id, or one line whose receipt counts
//! several, because the client library itself repeated it. A register's write that took effect twice shows its value under two
//! versions; a counter's shows in a total that is right only if the increment is counted again. Linearizability and
//! durability see the same faults, this property names them.

use super::index::{
    self, Increment, KeyIndex, Kind, Operation, Outcome, Writers, increments, split,
};
use super::phantom::{Fault, two_versions};
use super::spread::Spread;
use super::totals::Totals;
use super::{Verdict, Violation};
use crate::history::{History, Op};

/// Name of the property.
pub const NAME: &str = "request_ids";

/// Attempts of one operation that are told apart at most: a write that took effect more often than that is seen by its
/// first excess, too.
const TRIES_MAX: i64 = 64;

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    Spread::judge(history, of_keys)
}

fn of_keys(history: &History) -> Verdict {
    let mut unknown = None;
    for key in index::by_key(history) {
        let mut retried = key
            .operations
            .iter()
            .filter(|o| tries(history, o) > 1)
            .peekable();
        if retried.peek().is_none() {
            continue;
        }
        let disagreement = retried.find_map(|operation| disagree(history, &key, operation));
        let fault = match (disagreement, key.kind) {
            (Some(fault), _) => Ok(Some(fault)),
            (None, Some(Kind::Register)) => Ok(register(history, &key)),
            (None, Some(Kind::Counter)) => counter(history, &key),
            (None, _) => Ok(None),
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

fn id<'h>(operation: &Operation<'h>) -> &'h str {
    operation.record.request_id.as_deref().unwrap_or_default()
}

/// How often an operation was asked for, as far as the history tells and at most [`TRIES_MAX`].
fn tries(history: &History, operation: &Operation<'_>) -> i64 {
    let tries = |&line: &usize| {
        let record = &history.records[line];
        let named = record
            .receipt
            .as_ref()
            .filter(|_| record.request_id.is_some());
        let attempts = named.and_then(|receipt| receipt.get("attempts")?.as_i64());
        attempts.unwrap_or(1).clamp(1, TRIES_MAX)
    };
    let lines = operation.lines.iter().map(tries);
    lines.fold(0, i64::saturating_add).min(TRIES_MAX)
}

/// Attempts with different definite outcomes. "Failed" without a condition says only that this attempt did nothing.
fn disagree(history: &History, key: &KeyIndex<'_>, operation: &Operation<'_>) -> Option<Fault> {
    let mut outcomes = operation.lines.iter().filter_map(|&line| {
        let record = &history.records[line];
        let version = record
            .etag
            .as_deref()
            .filter(|_| key.kind == Some(Kind::Register));
        match Outcome::of(record) {
            Outcome::Ok => Some((line, "succeeded", version)),
            Outcome::Refused => Some((line, "was refused", version)),
            Outcome::Unknown | Outcome::Failed => None,
        }
    });
    let (one, first, version) = outcomes.next()?;
    let (two, second, other) = outcomes.find(|(_, second, other)| {
        *second != first || (version.is_some() && other.is_some() && *other != version)
    })?;
    let show = |version: Option<&str>| version.unwrap_or("none").to_owned();
    let explanation = format!(
        "attempts of request {} disagree: one {first} with version {}, one {second} with version {}",
        id(operation),
        show(version),
        show(other)
    );
    Some((explanation, vec![one, two]))
}

fn register(history: &History, key: &KeyIndex<'_>) -> Option<Fault> {
    let writers = Writers::of(&key.operations);
    let mut twice = two_versions(history, key, &writers);
    let (at, (explanation, lines)) =
        twice.find(|(at, _)| tries(history, &key.operations[*at]) > 1)?;
    let request = id(&key.operations[at]);
    Some((
        format!("request {request} took effect twice: {explanation}"),
        lines,
    ))
}

fn counter(history: &History, key: &KeyIndex<'_>) -> Result<Option<Fault>, String> {
    let decoded = increments(key.key, &key.operations)?;
    let totals = Totals::of(&key.operations, &decoded);
    let invoked = key.operations.iter().zip(&decoded);
    let invoked = invoked.fold(0, |bits, (operation, increment)| match increment {
        Some(Increment::Low(bit)) if operation.may_apply() => bits | bit,
        _ => bits,
    });
    let reads = key
        .operations
        .iter()
        .filter(|read| read.op() == Op::Read && read.outcome == Outcome::Ok);
    let reads = reads.flat_map(|read| &read.lines).chain(&key.finals);
    for &line in reads {
        let record = &history.records[line];
        let (Some(total), Outcome::Ok) = (record.integer(), Outcome::of(record)) else {
            continue;
        };
        let explained = |total: i64| match record.op {
            Op::Final => totals.explain(total).map(|fault| fault.is_none()),
            _ => Ok(split(total).1 & !invoked == 0),
        };
        if explained(total)? {
            continue;
        }
        for operation in &key.operations {
            let tries = tries(history, operation);
            let repeated = tries > 1 && operation.may_apply();
            let Some(amount) = operation.record.integer().filter(|_| repeated) else {
                continue;
            };
            for extra in 1..=tries {
                let again = amount.checked_mul(extra);
                let Some(rest) = again.and_then(|again| total.checked_sub(again)) else {
                    break;
                };
                if explained(rest)? {
                    let explanation = format!(
                        "request {} took effect {} times: total {total} is right only with {amount} counted again",
                        id(operation),
                        extra + 1
                    );
                    return Ok(Some((
                        explanation,
                        [operation.lines.clone(), vec![line]].concat(),
                    )));
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checker::Verdict;
    use crate::checker::testing::*;
    use crate::history::{Datum, Expect, Level, Record};

    fn incr(amount: i64, level: Level, at: u64) -> Record {
        op(1, Op::Incr, level, at, at + 1).int(amount).request("q")
    }

    fn end(total: i64) -> Record {
        last("eu", Some(Datum::Integer(total)))
    }

    #[test]
    fn a_retried_increment_counts_once() {
        const UNIT: i64 = 1 << index::LOW_BITS;
        for (amount, level) in [(4, Eventual), (UNIT, Strong)] {
            let tries = [incr(amount, level, 10).info(), incr(amount, level, 20)];
            let with = |total| history(tries.iter().cloned().chain([end(total)]));
            assert_eq!(check(&with(amount)), Verdict::Ok);
            assert_violation(
                &check(&with(2 * amount)),
                "request q took effect 2 times",
                &[0, 1, 2],
            );
        }
        // A wrong total that the retry does not explain is for other checkers.
        let single = history([incr(4, Eventual, 10), end(8)]);
        assert_eq!(check(&single), Verdict::Ok);
        let read = op(2, Op::Read, Eventual, 30, 31).int(8);
        let live = history([
            incr(4, Eventual, 10).info(),
            incr(4, Eventual, 20).info(),
            read,
        ]);
        assert_violation(&check(&live), "request q took effect 2 times", &[0, 1, 2]);
    }

    #[test]
    fn attempts_inside_of_one_line_are_attempts() {
        let after = |attempts: u64| Record {
            receipt: Some(json!({ "attempts": attempts })),
            ..incr(4, Eventual, 10)
        };
        assert_eq!(check(&history([after(2), end(4)])), Verdict::Ok);
        let twice = check(&history([after(2), end(8)]));
        assert_violation(&twice, "request q took effect 2 times", &[0, 1]);
        // What was asked once, or without a name, is for other checkers. So is what its attempts do not explain.
        let unnamed = Record {
            request_id: None,
            ..after(2)
        };
        for (line, total) in [(after(1), 8), (unnamed, 8), (after(2), 16)] {
            assert_eq!(check(&history([line, end(total)])), Verdict::Ok);
        }
        let put = |attempts: u64| Record {
            receipt: Some(json!({ "attempts": attempts })),
            ..op(1, Op::Put, Strong, 10, 11)
                .text("a")
                .etag("2")
                .request("q")
        };
        let get = op(2, Op::Get, Eventual, 20, 21).text("a").etag("3");
        let versions = |attempts| check(&history([put(attempts), get.clone()]));
        assert_violation(&versions(2), "request q took effect twice", &[0, 1]);
        assert_eq!(versions(1), Verdict::Ok);
    }

    #[test]
    fn a_retried_write_has_one_version() {
        let put = |at| op(1, Op::Put, Session, at, at + 1).text("a").request("q");
        let get = |version, at| op(2, Op::Get, Eventual, at, at + 1).text("a").etag(version);
        let tries = [put(10).info(), put(20).etag("2")];
        let with = |version| history(tries.iter().cloned().chain([get(version, 30)]));
        assert_eq!(check(&with("2")), Verdict::Ok);
        assert_violation(
            &check(&with("1")),
            "request q took effect twice",
            &[0, 1, 2],
        );
    }

    #[test]
    fn attempts_agree() {
        let cas = |at| {
            let value = swap(Expect::Value("a".into()), "b");
            op(1, Op::Cas, Strong, at, at + 1)
                .value(value)
                .etag("2")
                .request("q")
        };
        assert_eq!(check(&history([cas(10), cas(20)])), Verdict::Ok);
        assert_eq!(check(&history([cas(10), cas(20).failed()])), Verdict::Ok);
        let both = check(&history([cas(10), cas(20).refused()]));
        assert_violation(
            &both,
            "one succeeded with version 2, one was refused",
            &[0, 1],
        );
        let other = check(&history([cas(10), cas(20).etag("3")]));
        assert_violation(&other, "one succeeded with version 3", &[0, 1]);
    }
}
