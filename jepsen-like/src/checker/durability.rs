//! No acknowledged write is lost: no acknowledged write is followed by a final state that does not descend from it
//! (after Jepsen's definition of a lost write; Kingsbury, "Jepsen: Cassandra" 2013).
//!
//! After everything healed and drained, every region's final read must show, for a register a version not below that
//! of any acknowledged write; for a counter every acknowledged increment exactly once and nothing else but increments
//! of unknown outcome; for a set every element whose acknowledged add no removal can have followed, and no element
//! whose removal knew of every add.

use super::causality;
use super::finals::Finals;
use super::index::{self, Increment, KeyIndex, Kind, Operation, Outcome, Writers, increments};
use super::totals::Totals;
use super::{Verdict, Violation};
use crate::history::{History, Op, Record};

/// Name of the property.
pub const NAME: &str = "durability";

/// What is wrong with one final read: the explanation and the lines that prove it.
type Loss = (String, Vec<usize>);

/// Decides the property. A key with an acknowledged write and without a final read from every region is unknown.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let finals = Finals::of(history);
    let mut unknown = None;
    for key in index::by_key(history) {
        match judge(history, &finals, &key) {
            Ok(None) => {}
            Ok(Some((explanation, lines))) => {
                let explanation = format!("{}: {explanation}", key.key);
                return Violation::verdict(history, NAME, explanation, lines);
            }
            Err(why) => unknown = unknown.or(Some(why)),
        }
    }
    match causality::undone_removal(history) {
        Ok(None) => {}
        Ok(Some((explanation, lines))) => {
            return Violation::verdict(history, NAME, explanation, lines);
        }
        Err(why) => unknown = unknown.or(Some(why)),
    }
    unknown.map_or(Verdict::Ok, |why| Verdict::Unknown { why })
}

fn judge(
    history: &History,
    finals: &Finals<'_>,
    key: &KeyIndex<'_>,
) -> Result<Option<Loss>, String> {
    let writes = key.operations.iter();
    if !writes.clone().any(|operation| operation.may_apply()) {
        return Ok(None);
    }
    // A loss in an answer that did come is a loss, whatever the other regions would say.
    let (lines, missing) = match finals.answered(key) {
        Ok(lines) => (lines, None),
        Err(why) => (key.finals.clone(), Some(why)),
    };
    let mut unknown = missing;
    for line in lines {
        let record = &history.records[line];
        if Outcome::of(record) != Outcome::Ok {
            continue;
        }
        let loss = match key.kind {
            Some(Kind::Register) => register(&key.operations, record),
            Some(Kind::Counter) => counter(key, record),
            Some(Kind::Set) => Ok(set(&key.operations, record)),
            None => Ok(None),
        };
        match loss {
            Ok(None) => {}
            Ok(Some((explanation, mut proof))) => {
                proof.push(line);
                let region = record.region.as_deref().unwrap_or("?");
                return Ok(Some((format!("in {region} {explanation}"), proof)));
            }
            Err(why) => unknown = unknown.or(Some(format!("{}: {why}", key.key))),
        }
    }
    let acked =
        |operation: &Operation<'_>| operation.may_apply() && operation.outcome == Outcome::Ok;
    match unknown {
        Some(why) if writes.clone().any(acked) => Err(why),
        _ => Ok(None),
    }
}

fn register(operations: &[Operation<'_>], last: &Record) -> Result<Option<Loss>, String> {
    let writers = Writers::of(operations);
    let acked = operations
        .iter()
        .filter(|operation| operation.op().is_write() && operation.outcome == Outcome::Ok);
    let mut highest: Option<(&str, &Operation<'_>)> = None;
    for operation in acked {
        let Some(version) = operation.record.etag.as_deref() else {
            return Err("an acknowledged write has no version".to_owned());
        };
        if highest.is_none_or(|(high, _)| high < version) {
            highest = Some((version, operation));
        }
    }
    let Some((version, write)) = highest else {
        return Ok(None);
    };
    let shown = match (&last.etag, last.text()) {
        (Some(etag), _) => etag.as_str(),
        (None, Some(value)) => {
            let writer = writers.by_value.get(value);
            let known = writer.and_then(|&at| writers.versions[at]);
            known.ok_or_else(|| format!("the version of the final value {value} is not known"))?
        }
        (None, None) => {
            // A delete that may be the last write explains the absence.
            let deleted = operations.iter().enumerate().any(|(at, operation)| {
                operation.op() == Op::Delete
                    && operation.may_apply()
                    && writers.versions[at].is_none_or(|deleted| deleted >= version)
            });
            if deleted {
                return Ok(None);
            }
            "none"
        }
    };
    let lost = shown == "none" || shown < version;
    Ok(lost.then(|| {
        let explanation =
            format!("the final version {shown} is below the acknowledged version {version}");
        (explanation, write.lines.clone())
    }))
}

fn counter(key: &KeyIndex<'_>, last: &Record) -> Result<Option<Loss>, String> {
    let Some(total) = last.integer() else {
        return Err("a final read of a counter without a total".to_owned());
    };
    let decoded = increments(key.key, &key.operations)?;
    let Some(explanation) = Totals::of(&key.operations, &decoded).explain(total)? else {
        return Ok(None);
    };
    let (_, mask) = index::split(total);
    // Name the increments that are missing; for a wrong strong part, all strong ones.
    let low = |bit: u64| mask & bit == 0;
    let all = key.operations.iter().zip(&decoded);
    let absent: Vec<usize> = all
        .clone()
        .filter(|(operation, increment)| {
            operation.outcome == Outcome::Ok
                && matches!(increment, Some(Increment::Low(bit)) if low(*bit))
        })
        .flat_map(|(operation, _)| operation.lines.iter().copied())
        .collect();
    if !absent.is_empty() {
        return Ok(Some((explanation, absent)));
    }
    let strong = all.filter(|(_, increment)| matches!(increment, Some(Increment::High(_))));
    let strong = strong.flat_map(|(operation, _)| operation.lines.iter().copied());
    Ok(Some((explanation, strong.collect())))
}

fn set(operations: &[Operation<'_>], last: &Record) -> Option<Loss> {
    let members = last.members().unwrap_or_default();
    operations
        .iter()
        .filter(|add| add.op() == Op::Add && add.outcome == Outcome::Ok)
        .find_map(|add| {
            let element = add.record.text()?;
            let removed = operations.iter().any(|remove| {
                remove.op() == Op::Remove
                    && remove.may_apply()
                    && remove.record.text() == Some(element)
                    && !(remove.outcome == Outcome::Ok && remove.complete < add.invoke)
            });
            let lost = !removed && !members.iter().any(|member| member == element);
            lost.then(|| {
                let text = format!("element {element} is missing from the final set");
                (text, add.lines.clone())
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::*;
    use crate::history::Datum;

    fn put(value: &str, version: &str) -> Record {
        op(1, Op::Put, Eventual, 10, 11).text(value).etag(version)
    }

    fn end(region: &str, value: &str, version: &str) -> Record {
        last(region, Some(Datum::Text(value.into()))).etag(version)
    }

    #[test]
    fn registers_end_at_the_highest_acknowledged_version_or_above() {
        let (a, b) = (put("a", "1"), put("b", "2"));
        let both = |x, y| history([a.clone(), b.clone(), x, y]);
        assert!(check(&both(end("eu", "b", "2"), end("us", "b", "2"))).is_ok());
        let lost = check(&both(end("eu", "b", "2"), end("us", "a", "1")));
        let text = "t/k: in us the final version 1 is below the acknowledged version 2";
        assert_violation(&lost, text, &[1, 3]);
        let gone = check(&both(last("eu", None), end("us", "b", "2")));
        assert_violation(&gone, "the final version none is below", &[1, 2]);
        let delete = op(2, Op::Delete, Eventual, 5, 6).etag("3");
        assert!(check(&history([b.clone(), delete.clone(), last("eu", None)])).is_ok());
        let early = delete.etag("1");
        assert!(!check(&history([b.clone(), early.clone(), last("eu", None)])).is_ok());
        assert!(check(&history([b, early.info(), last("eu", None)])).is_ok());
    }

    #[test]
    fn without_final_reads_nothing_is_known() {
        assert_unknown(&check(&history([put("a", "1")])), "no final read");
        let other = end("us", "z", "1").key("t/other");
        let half = history([put("a", "1"), end("eu", "a", "1"), other]);
        assert_unknown(&check(&half), "t/k: no final read from us");
        assert!(check(&history([put("a", "1").info()])).is_ok());
    }

    #[test]
    fn counters_end_at_what_was_acknowledged_and_perhaps_more() {
        const UNIT: i64 = 1 << index::LOW_BITS;
        let incr = |amount, level| op(1, Op::Incr, level, 10, 11).int(amount);
        let base = [
            incr(1, Eventual),
            incr(4, Eventual).info(),
            incr(UNIT, Strong),
            incr(3 * UNIT, Strong).info(),
        ];
        let ends = |total| {
            let mut records = base.to_vec();
            records.push(last("eu", Some(Datum::Integer(total))));
            check(&history(records))
        };
        for good in [UNIT + 1, UNIT + 5, 4 * UNIT + 1, 4 * UNIT + 5] {
            assert!(ends(good).is_ok(), "{good}");
        }
        assert_violation(&ends(UNIT), "lacks acknowledged increments 1", &[0, 4]);
        assert_violation(&ends(UNIT + 2), "lacks acknowledged increments 1", &[0, 4]);
        assert_violation(
            &ends(UNIT + 3),
            "contains 2, which nobody added",
            &[2, 3, 4],
        );
        assert_violation(&ends(2 * UNIT + 1), "strong part", &[2, 3, 4]);
        assert_violation(&ends(1), "(they give 1 to 4)", &[2, 3, 4]);
    }

    #[test]
    fn sets_keep_what_no_removal_can_have_taken() {
        let add = op(1, Op::Add, Eventual, 10, 11).text("e");
        let remove = |at| op(2, Op::Remove, Eventual, at, at + 1).text("e");
        let without = last("eu", Some(members(&[])));
        let lost = check(&history([add.clone(), without.clone()]));
        assert_violation(&lost, "element e is missing", &[0, 1]);
        let lost = check(&history([remove(5), add.clone(), without.clone()]));
        assert_violation(&lost, "element e is missing", &[1, 2]);
        assert!(check(&history([add.clone(), remove(20), without.clone()])).is_ok());
        assert!(check(&history([remove(5).info(), add.clone(), without])).is_ok());
        assert!(check(&history([add, last("eu", Some(members(&["e"])))])).is_ok());
    }

    #[test]
    fn a_removal_that_knew_of_every_add_is_not_undone() {
        let add = op(1, Op::Add, Session, 10, 11).text("e").session("s");
        let remove = op(1, Op::Remove, Session, 20, 21).text("e").session("s");
        let with = last("eu", Some(members(&["e"])));
        let undone = check(&history([add.clone(), remove.clone(), with.clone()]));
        assert_violation(&undone, "element e is there", &[1, 2]);
        let stranger = op(2, Op::Add, Eventual, 5, 6).text("e");
        assert!(
            check(&history([
                add.clone(),
                stranger,
                remove.clone(),
                with.clone()
            ]))
            .is_ok()
        );
        let eventual = Record {
            level: Some(Eventual),
            ..remove
        };
        assert!(check(&history([add, eventual, with])).is_ok());
    }
}
