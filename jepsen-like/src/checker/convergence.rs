//! Convergence: once no more writes come and everything healed, all replicas hold the same state (strong eventual
//! consistency; Shapiro and others 2011).
//!
//! Judged on the final reads, which must agree in value and, for registers, in version for every key, and on the
//! last digest that each node reported for each label. Digests are optional, final reads or digests are not.

use std::collections::BTreeMap;

use super::finals::Finals;
use super::index;
use super::{Verdict, Violation};
use crate::history::{Datum, History, Op, Record, Status};

/// Name of the property.
pub const NAME: &str = "convergence";

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    if let Some(verdict) = digests_differ(history) {
        return verdict;
    }
    let finals = Finals::of(history);
    let mut unknown = None;
    let mut judged = history.records.iter().any(|r| r.op == Op::Digest);
    for key in index::by_key(history) {
        let answered = key.finals.iter().copied();
        let answered = answered.filter(|&line| history.records[line].status == Status::Ok);
        let mut states = answered.map(|line| (line, state(&history.records[line])));
        if let Some((first, one)) = states.next() {
            judged = true;
            if let Some((second, other)) = states.find(|(_, other)| *other != one) {
                let place = |line: usize| history.records[line].region.as_deref().unwrap_or("?");
                let explanation = format!(
                    "{}: the final state in {} is {one}, in {} it is {other}",
                    key.key,
                    place(first),
                    place(second)
                );
                return Violation::verdict(history, NAME, explanation, vec![first, second]);
            }
        }
        let written = key.operations.iter().any(|operation| operation.may_apply());
        if (written || !key.finals.is_empty())
            && let Err(why) = finals.answered(&key)
        {
            unknown = unknown.or(Some(why));
        }
    }
    match unknown {
        Some(why) => Verdict::Unknown { why },
        None if judged => Verdict::Ok,
        None => Verdict::Unknown {
            why: "no final read and no digest".to_owned(),
        },
    }
}

/// A final state as text; equal states give equal texts.
fn state(record: &Record) -> String {
    let value = match &record.value {
        Some(Datum::Text(text)) => format!("\"{text}\""),
        Some(Datum::Integer(total)) => return total.to_string(),
        Some(Datum::Members(members)) => {
            let mut members = members.clone();
            members.sort_unstable();
            return format!("{members:?}");
        }
        None => "nothing".to_owned(),
        Some(other) => format!("{other:?}"),
    };
    match &record.etag {
        Some(version) => format!("{value} at version {version}"),
        None => value,
    }
}

fn digests_differ(history: &History) -> Option<Verdict> {
    let mut order: Vec<usize> = (0..history.records.len()).collect();
    order.retain(|&line| history.records[line].op == Op::Digest);
    order.sort_by_key(|&line| (history.records[line].invoke_ns, line));
    // The last of each node for each label counts.
    let mut last: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in order {
        let record = &history.records[line];
        let label = record.key.as_deref().unwrap_or_default();
        last.insert((label, record.node.as_deref().unwrap_or_default()), line);
    }
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (&(label, node), &line) in &last {
        let record = &history.records[line];
        if record.status != Status::Ok || record.text().is_none() {
            return Some(Verdict::Unknown {
                why: format!("node {node} reported no digest of \"{label}\""),
            });
        }
        let one = *first.entry(label).or_insert(line);
        if history.records[one].text() != record.text() {
            let other = history.records[one].node.as_deref().unwrap_or_default();
            let explanation =
                format!("nodes {other} and {node} differ in the digest of \"{label}\"");
            return Some(Violation::verdict(
                history,
                NAME,
                explanation,
                vec![one, line],
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::*;

    fn digest(node: &str, text: &str, at: u64) -> Record {
        let mut record = op(0, Op::Digest, Eventual, at, at + 1).text(text).key("t");
        record.node = Some(node.into());
        record
    }

    #[test]
    fn final_states_agree_in_value_and_version() {
        let text = |value: &str| Some(Datum::Text(value.into()));
        let end = |region, value, version| last(region, text(value)).etag(version);
        assert!(check(&history([end("eu", "a", "1"), end("us", "a", "1")])).is_ok());
        let differ = check(&history([end("eu", "a", "1"), end("us", "b", "2")]));
        let expected =
            "the final state in eu is \"a\" at version 1, in us it is \"b\" at version 2";
        assert_violation(&differ, expected, &[0, 1]);
        assert!(!check(&history([end("eu", "a", "1"), end("us", "a", "2")])).is_ok());
        assert!(!check(&history([end("eu", "a", "1"), last("us", None)])).is_ok());
        let order = history([
            last("eu", Some(members(&["a", "b"]))),
            last("us", Some(members(&["b", "a"]))),
        ]);
        assert!(check(&order).is_ok());
    }

    #[test]
    fn last_digests_agree() {
        let early = digest("eu-1", "00", 1);
        let good = [
            early.clone(),
            digest("eu-1", "aa", 10),
            digest("us-1", "aa", 11),
        ];
        assert!(check(&history(good.clone())).is_ok());
        let differ = check(&history([early, digest("us-1", "aa", 10)]));
        assert_violation(
            &differ,
            "nodes eu-1 and us-1 differ in the digest of \"t\"",
            &[0, 1],
        );
        let silent = check(&history([
            good[1].clone(),
            digest("us-1", "aa", 11).failed(),
        ]));
        assert_unknown(&silent, "us-1 reported no digest");
    }

    #[test]
    fn what_was_not_read_is_unknown() {
        assert_unknown(&check(&history([])), "no final read and no digest");
        let put = op(1, Op::Put, Strong, 1, 2).text("a").etag("1");
        let other = last("eu", None).key("t/other");
        assert_unknown(&check(&history([put, other])), "t/k: no final read from eu");
    }
}
