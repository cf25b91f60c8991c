//! Staleness is never above the receipt's: a read shows everything that was acknowledged anywhere longer ago than its
//! receipt says (`docs/consistency-model.md`, Receipts; bounded staleness as in Terry 2013 and Bailis and others 2012).
//!
//! Judged are reads below level strong whose receipt states a bound. The bound holds at the moment the read was
//! served, which is not before it was invoked, so every write acknowledged more than `staleness_ms` before the
//! invocation must show: of a register, a version that is not below; of a counter, the bit of the increment or, of
//! strong ones, the sum; of a set, the element, unless a removal can have taken it away. One clock measured all
//! these times. A read whose version the history does not tell is not judged.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{
    self, Increment, KeyIndex, Kind, Operation, Outcome, Writers, increments, split,
};
use super::receipt::Receipt;
use super::spread::Spread;
use super::{Verdict, Violation};
use crate::history::{Datum, History, Level, Op, Record};

/// Name of the property.
pub const NAME: &str = "staleness";

const NS_PER_MS: u64 = 1_000_000;

/// What is wrong with one read: the explanation and the lines of what it lacks.
type Lack = (String, Vec<usize>);

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    Spread::judge(history, of_keys)
}

fn of_keys(history: &History) -> Verdict {
    let mut unknown = None;
    for key in index::by_key(history) {
        match judge(history, &key) {
            Ok(None) => {}
            Ok(Some((explanation, lines))) => {
                return Violation::verdict(history, NAME, explanation, lines);
            }
            Err(why) => unknown = unknown.or(Some(format!("{}: {why}", key.key))),
        }
    }
    unknown.map_or(Verdict::Ok, |why| Verdict::Unknown { why })
}

/// A read with a stated bound.
struct Bounded<'h> {
    line: usize,
    record: &'h Record,
    staleness_ms: u64,
    /// Whatever was acknowledged before this moment must show.
    horizon: u64,
    until: u64,
}

fn judge<'h>(history: &'h History, key: &KeyIndex<'h>) -> Result<Option<Lack>, String> {
    let reads = bounded_reads(history, key)?;
    let (Some(kind), false) = (key.kind, reads.is_empty()) else {
        return Ok(None);
    };
    let state = match kind {
        Kind::Register => State::Register(Register::of(&key.operations)),
        Kind::Counter => State::Counter(Counter::of(key)?),
        Kind::Set => State::Set(elements(&key.operations)),
    };
    for read in reads {
        let lack = match &state {
            State::Register(register) => register.lacks(&read),
            State::Counter(counter) => counter.lacks(&read),
            State::Set(elements) => set_lacks(elements, &read),
        };
        if let Some((what, writes)) = lack {
            let explanation = format!(
                "{}: a read whose receipt says at most {} ms stale {what}, acknowledged longer before",
                key.key, read.staleness_ms
            );
            let lines = writes.iter().flat_map(|&at| &key.operations[at].lines);
            let lines = lines.copied().chain([read.line]).collect();
            return Ok(Some((explanation, lines)));
        }
    }
    Ok(None)
}

fn bounded_reads<'h>(history: &'h History, key: &KeyIndex<'_>) -> Result<Vec<Bounded<'h>>, String> {
    let mut reads = Vec::new();
    for operation in &key.operations {
        let judged = operation.outcome == Outcome::Ok
            && !operation.op().is_write()
            && !operation.is_strong();
        for &line in operation.lines.iter().filter(|_| judged) {
            let record = &history.records[line];
            let Some(receipt) = Receipt::of(record)? else {
                continue;
            };
            let Some(staleness_ms) = receipt.staleness_ms else {
                continue;
            };
            // A strong answer to a weaker question is not stale as its order has it; eventual writes that it could
            // not know are concurrent to it.
            if receipt.level()? == Some(Level::Strong) {
                continue;
            }
            let horizon = record
                .invoke_ns
                .checked_sub(staleness_ms.saturating_mul(NS_PER_MS));
            reads.extend(horizon.map(|horizon| Bounded {
                line,
                record,
                staleness_ms,
                horizon,
                until: record.complete_ns.unwrap_or(u64::MAX),
            }));
        }
    }
    Ok(reads)
}

enum State<'h> {
    Register(Register<'h>),
    Counter(Counter),
    Set(BTreeMap<&'h str, Element>),
}

/// Running totals by time: each entry holds for what happened up to its moment.
struct Running<T>(Vec<(u64, T)>);

impl<T: Clone> Running<T> {
    /// Sorts `steps` by time and joins each with all before it.
    fn of(mut steps: Vec<(u64, T)>, join: impl Fn(&T, &T) -> T) -> Self {
        steps.sort_by_key(|(at, _)| *at);
        for at in 1..steps.len() {
            steps[at].1 = join(&steps[at - 1].1, &steps[at].1);
        }
        Self(steps)
    }

    /// What happened before `moment`.
    fn before(&self, moment: u64) -> Option<&T> {
        let count = self.0.partition_point(|(at, _)| *at < moment);
        Some(&self.0[count.checked_sub(1)?].1)
    }
}

/// Acknowledged writes and their positions.
fn acknowledged<'o, 'h>(
    operations: &'o [Operation<'h>],
) -> impl Iterator<Item = (usize, &'o Operation<'h>)> {
    let all = operations.iter().enumerate();
    all.filter(|(_, operation)| operation.op().is_write() && operation.outcome == Outcome::Ok)
}

struct Register<'h> {
    writers: Writers<'h>,
    /// The highest version acknowledged so far, and its write.
    newest: Running<(&'h str, usize)>,
    /// Invocation and version of the deletes that took effect or may have.
    deletes: Vec<(u64, Option<&'h str>)>,
}

impl<'h> Register<'h> {
    fn of(operations: &[Operation<'h>]) -> Self {
        let writers = Writers::of(operations);
        let versions = acknowledged(operations).filter_map(|(at, write)| {
            let version = write.record.etag.as_deref()?;
            Some((write.complete, (version, at)))
        });
        let deletes = operations.iter().enumerate();
        let deletes = deletes.filter(|(_, o)| o.op() == Op::Delete && o.may_apply());
        Self {
            newest: Running::of(versions.collect(), |a, b| *a.max(b)),
            deletes: deletes
                .map(|(at, delete)| (delete.invoke, writers.versions[at]))
                .collect(),
            writers,
        }
    }

    fn lacks(&self, read: &Bounded<'h>) -> Option<Lack> {
        let (needed, write) = *self.newest.before(read.horizon)?;
        let shown = match self.writers.version_read(read.record) {
            Some(shown) if shown >= needed => return None,
            Some(shown) => format!("version {shown}"),
            None if read.record.value.is_some() => return None,
            None => {
                let mut deletes = self.deletes.iter();
                let explained = deletes.any(|(invoke, version)| {
                    *invoke <= read.until && version.is_none_or(|version| version >= needed)
                });
                if explained {
                    return None;
                }
                "nothing".to_owned()
            }
        };
        Some((
            format!("shows {shown} and not version {needed}"),
            vec![write],
        ))
    }
}

struct Counter {
    /// Bits acknowledged so far.
    bits: Running<u64>,
    /// Sum of the strong increments acknowledged so far; `None` where one may take something off.
    strong: Option<Running<i64>>,
    /// Position, completion and increment of the acknowledged ones.
    acknowledged: Vec<(usize, u64, Increment)>,
}

impl Counter {
    /// # Errors
    /// Says which increment cannot be told apart in a total.
    fn of(key: &KeyIndex<'_>) -> Result<Self, String> {
        let decoded = increments(key.key, &key.operations)?;
        let falls =
            key.operations.iter().zip(&decoded).any(|(o, increment)| {
                o.may_apply() && matches!(increment, Some(Increment::High(..0)))
            });
        let all = acknowledged(&key.operations)
            .filter_map(|(at, write)| Some((at, write.complete, decoded[at]?)));
        let all: Vec<_> = all.collect();
        let bits = all
            .iter()
            .filter_map(|(_, done, increment)| match increment {
                Increment::Low(bit) => Some((*done, *bit)),
                Increment::High(_) => None,
            });
        let strong = all
            .iter()
            .filter_map(|(_, done, increment)| match increment {
                Increment::High(units) => Some((*done, *units)),
                Increment::Low(_) => None,
            });
        Ok(Self {
            bits: Running::of(bits.collect(), |a, b| a | b),
            strong: (!falls).then(|| Running::of(strong.collect(), |a, b| a + b)),
            acknowledged: all,
        })
    }

    fn lacks(&self, read: &Bounded<'_>) -> Option<Lack> {
        let (strong, mask) = split(read.record.integer()?);
        let needed = self.bits.before(read.horizon).copied().unwrap_or(0);
        let lost = needed & !mask;
        let sum = self.strong.as_ref().and_then(|s| s.before(read.horizon));
        let (what, wanted): (_, fn(Increment, u64) -> bool) = match sum {
            _ if lost != 0 => (
                format!("lacks increments {lost}"),
                |increment, lost| matches!(increment, Increment::Low(bit) if bit & lost != 0),
            ),
            Some(sum) if strong < *sum => (
                format!("has the strong part {strong} and not at least {sum}"),
                |increment, _| matches!(increment, Increment::High(_)),
            ),
            _ => return None,
        };
        let before = self
            .acknowledged
            .iter()
            .filter(|(_, done, increment)| *done < read.horizon && wanted(*increment, lost));
        Some((what, before.map(|(at, ..)| *at).collect()))
    }
}

/// One element of a set.
struct Element {
    /// By completion: of the acknowledged adds so far the one invoked last, which the fewest removals can follow.
    adds: Running<(u64, usize)>,
    /// By invocation: the last completion of the removals that took effect or may have.
    removals: Running<u64>,
}

/// An acknowledged add: its completion, its invocation, its position.
type Add = (u64, (u64, usize));

fn elements<'h>(operations: &[Operation<'h>]) -> BTreeMap<&'h str, Element> {
    let mut adds: BTreeMap<&str, Vec<Add>> = BTreeMap::new();
    for (at, write) in acknowledged(operations) {
        if let (Op::Add, Some(element)) = (write.op(), write.record.text()) {
            let add = (write.complete, (write.invoke, at));
            adds.entry(element).or_default().push(add);
        }
    }
    let mut removals: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for removal in operations.iter().filter(|o| o.may_apply()) {
        if let (Op::Remove, Some(element)) = (removal.op(), removal.record.text()) {
            let removal = (removal.invoke, removal.complete);
            removals.entry(element).or_default().push(removal);
        }
    }
    let all = adds.into_iter().map(|(name, adds)| {
        let removals = removals.remove(name).unwrap_or_default();
        let element = Element {
            adds: Running::of(adds, |a, b| *a.max(b)),
            removals: Running::of(removals, |a, b| *a.max(b)),
        };
        (name, element)
    });
    all.collect()
}

fn set_lacks(elements: &BTreeMap<&str, Element>, read: &Bounded<'_>) -> Option<Lack> {
    match &read.record.value {
        Some(Datum::Membership(asked)) if asked.present == Some(false) => elements
            .get(asked.element.as_str())?
            .missing(&asked.element, read),
        Some(Datum::Members(members)) => {
            let members: BTreeSet<&str> = members.iter().map(String::as_str).collect();
            let mut absent = elements.iter().filter(|(name, _)| !members.contains(*name));
            absent.find_map(|(name, element)| element.missing(name, read))
        }
        _ => None,
    }
}

impl Element {
    /// Why the element, which a read did not show, should have been there.
    fn missing(&self, name: &str, read: &Bounded<'_>) -> Option<Lack> {
        let (invoke, add) = *self.adds.before(read.horizon)?;
        let removed = self.removals.before(read.until.saturating_add(1));
        let explained = removed.is_some_and(|end| *end >= invoke);
        (!explained).then(|| (format!("does not show element {name}"), vec![add]))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checker::testing::*;

    const MS: u64 = NS_PER_MS;

    /// A write acknowledged at 10 ms.
    fn write(what: Op, level: Level) -> Record {
        op(1, what, level, 9 * MS, 10 * MS)
    }

    /// A read at 100 ms whose receipt says this.
    fn read(what: Op, staleness_ms: u64) -> Record {
        Record {
            receipt: Some(json!({"level": "eventual", "staleness_ms": staleness_ms})),
            ..op(2, what, Eventual, 100 * MS, 101 * MS)
        }
    }

    #[track_caller]
    fn fits(records: &[Record]) {
        assert_eq!(check(&history(records.to_vec())), Verdict::Ok);
    }

    #[track_caller]
    fn stale(records: &[Record], part: &str, lines: &[usize]) {
        assert_violation(&check(&history(records.to_vec())), part, lines);
    }

    #[test]
    fn registers_show_what_was_acknowledged_before_the_bound() {
        let put = write(Op::Put, Strong).text("b").etag("2");
        let old = op(3, Op::Put, Eventual, 1, 2).text("a").etag("1");
        let behind = |ms| read(Op::Get, ms).text("a").etag("1");
        let both = |last| [old.clone(), put.clone(), last];
        stale(
            &both(behind(89)),
            "t/k: a read whose receipt says at most 89 ms stale shows version 1 and not version 2",
            &[1, 2],
        );
        stale(&both(behind(0)), "at most 0 ms stale", &[1, 2]);
        // Exactly as old as stated, or older than the run, is no lie.
        for ms in [90, 91, 100, 101, u64::MAX] {
            fits(&both(behind(ms)));
        }
        fits(&both(read(Op::Get, 0).text("b").etag("2")));
        fits(&both(read(Op::Get, 0).text("b")));
        stale(&both(read(Op::Get, 0)), "shows nothing", &[1, 2]);
        // A newer one is as good; one of unknown outcome or that failed is not needed.
        let newer = op(4, Op::Put, Eventual, 20, 30).text("c").etag("3");
        fits(&[put.clone(), newer, read(Op::Get, 0).text("c").etag("3")]);
        fits(&[old.clone(), put.clone().info(), behind(0)]);
        fits(&[old, put.failed(), behind(0)]);
    }

    #[test]
    fn only_stated_bounds_of_weak_reads_are_judged() {
        let put = write(Op::Put, Eventual).text("b").etag("2");
        let with = |receipt| Record {
            receipt,
            ..read(Op::Get, 0)
        };
        fits(&[put.clone(), with(None)]);
        fits(&[put.clone(), with(Some(json!({"staleness_ms": null})))]);
        let mut strong = read(Op::Get, 0);
        strong.level = Some(Strong);
        fits(&[put.clone(), strong.clone()]);
        // Nor is a read that was answered as strong ones are.
        strong.level = Some(Eventual);
        strong.receipt = Some(json!({"level": "strong", "staleness_ms": 0}));
        fits(&[put.clone(), strong]);
        let mut session = read(Op::Get, 5);
        session.level = Some(Session);
        stale(&[put.clone(), session], "at most 5 ms stale", &[0, 1]);
        let broken = with(Some(json!({"staleness_ms": "soon"})));
        assert_unknown(&check(&history([put, broken])), "cannot be read");
    }

    #[test]
    fn nothing_found_may_be_a_delete() {
        let put = write(Op::Put, Eventual).text("b").etag("2");
        let delete = op(3, Op::Delete, Eventual, 50 * MS, 51 * MS);
        let nothing = read(Op::Get, 0);
        fits(&[put.clone(), delete.clone().etag("3"), nothing.clone()]);
        fits(&[put.clone(), delete.clone().info(), nothing.clone()]);
        let lower = delete.clone().etag("1");
        stale(
            &[put.clone(), lower, nothing.clone()],
            "shows nothing",
            &[0, 2],
        );
        let mut late = delete.etag("3");
        (late.invoke_ns, late.complete_ns) = (200 * MS, Some(201 * MS));
        stale(&[put.clone(), late, nothing.clone()], "nothing", &[0, 2]);
        stale(&[put, nothing.etag("1")], "version 1 and not", &[0, 1]);
    }

    #[test]
    fn counters_show_every_bit_and_the_strong_sum() {
        const UNIT: i64 = 1 << index::LOW_BITS;
        let four = write(Op::Incr, Eventual).int(4);
        let strong = write(Op::Incr, Strong).int(2 * UNIT);
        let late = op(3, Op::Incr, Eventual, 50 * MS, 60 * MS).int(16);
        let shows = |total, ms| {
            [
                four.clone(),
                strong.clone(),
                late.clone(),
                read(Op::Read, ms).int(total),
            ]
        };
        fits(&shows(2 * UNIT + 4, 50));
        fits(&shows(2 * UNIT + 20, 0));
        fits(&shows(0, 95));
        stale(&shows(2 * UNIT + 4, 30), "lacks increments 16", &[2, 3]);
        stale(&shows(2 * UNIT + 16, 30), "lacks increments 4", &[0, 3]);
        stale(
            &shows(UNIT + 4, 50),
            "strong part 1 and not at least 2",
            &[1, 3],
        );
        // With something taken off, the sum says nothing.
        let mut off = shows(UNIT + 4, 50).to_vec();
        off.push(op(5, Op::Incr, Strong, 1, 2).int(-UNIT).info());
        fits(&off);
        let odd = [write(Op::Incr, Eventual).int(3), read(Op::Read, 0).int(0)];
        assert_unknown(&check(&history(odd)), "no power of two");
    }

    #[test]
    fn sets_show_what_no_removal_can_have_taken() {
        let add = write(Op::Add, Eventual).text("e");
        let list = |ms, elements: &[&str]| read(Op::Members, ms).value(members(elements));
        let has = |ms, present| read(Op::Contains, ms).value(asked("e", present));
        stale(&[add.clone(), list(50, &["f"])], "element e", &[0, 1]);
        stale(&[add.clone(), has(50, false)], "element e", &[0, 1]);
        fits(&[add.clone(), list(50, &["e"])]);
        fits(&[add.clone(), has(50, true)]);
        fits(&[add.clone(), has(90, false)]);
        let remove = |at: u64| op(3, Op::Remove, Eventual, at * MS, (at + 1) * MS).text("e");
        fits(&[add.clone(), remove(50), has(50, false)]);
        fits(&[add.clone(), remove(9), has(50, false)]);
        fits(&[add.clone(), remove(1).info(), has(50, false)]);
        stale(
            &[add.clone(), remove(1), has(50, false)],
            "element e",
            &[0, 2],
        );
        stale(
            &[add.clone(), remove(102), has(50, false)],
            "element e",
            &[0, 2],
        );
        // A later add that no removal follows is needed again.
        let again = op(4, Op::Add, Eventual, 60 * MS, 61 * MS).text("e");
        let three = [add, remove(50), again, has(30, false)];
        stale(&three, "element e", &[2, 3]);
    }
}
