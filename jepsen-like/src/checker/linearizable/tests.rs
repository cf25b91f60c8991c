use std::time::Instant;

use super::*;
use crate::checker::testing::*;
use crate::history::{Expect, Level, Record, Status};

mod brute;

const UNIT: i64 = 1 << index::LOW_BITS;

fn put(process: u64, value: &str, invoke: u64, complete: u64) -> Record {
    op(process, Op::Put, Strong, invoke, complete)
        .text(value)
        .etag(&format!("v{invoke:03}"))
}

fn get(process: u64, value: &str, invoke: u64, complete: u64) -> Record {
    op(process, Op::Get, Strong, invoke, complete).text(value)
}

fn none(process: u64, invoke: u64, complete: u64) -> Record {
    op(process, Op::Get, Strong, invoke, complete)
}

fn cas(process: u64, expect: &str, new: &str, invoke: u64, complete: u64) -> Record {
    op(process, Op::Cas, Strong, invoke, complete)
        .value(swap(Expect::Value(expect.into()), new))
        .etag(&format!("v{invoke:03}"))
}

fn weak(record: Record) -> Record {
    Record {
        level: Some(Eventual),
        ..record
    }
}

fn ok(records: &[Record]) {
    let verdict = check(&history(records.to_vec()));
    assert_eq!(verdict, Verdict::Ok);
}

#[track_caller]
fn bad(records: &[Record], part: &str, lines: &[usize]) {
    assert_violation(&check(&history(records.to_vec())), part, lines);
}

#[test]
fn strong_reads_see_the_last_write() {
    ok(&[none(1, 0, 5), put(1, "a", 10, 20), get(2, "a", 30, 40)]);
    ok(&[
        put(1, "a", 10, 20),
        put(2, "b", 15, 40),
        get(3, "a", 30, 35),
    ]);
    bad(
        &[
            put(1, "a", 0, 1),
            put(2, "b", 10, 20),
            get(1, "b", 30, 40),
            get(2, "a", 50, 60),
        ],
        "nothing can explain \"process 2 strong get t/k a [50..60] ok\"",
        &[0, 1, 2, 3],
    );
    bad(
        &[put(1, "a", 10, 20), none(2, 30, 40)],
        "get t/k nothing",
        &[0, 1],
    );
    bad(&[get(1, "a", 0, 5), put(2, "a", 10, 20)], "get t/k a", &[0]);
}

#[test]
fn reads_that_overlap_a_write_may_not_flicker() {
    let write = put(1, "b", 10, 100);
    let first = put(1, "a", 0, 5);
    ok(&[
        first.clone(),
        write.clone(),
        get(2, "a", 20, 30),
        get(3, "b", 40, 50),
    ]);
    bad(
        &[first, write, get(2, "b", 20, 30), get(3, "a", 40, 50)],
        "get t/k a [40..50]",
        // That the second write completed, and when, is not needed for the proof.
        &[0, 1, 2, 3],
    );
}

#[test]
fn unknown_outcomes_may_come_late_or_never_and_failed_ones_never() {
    let open = put(1, "a", 0, 10).info();
    ok(&[
        open.clone(),
        none(2, 20, 30),
        get(3, "a", 40, 50),
        get(3, "a", 60, 70),
    ]);
    ok(&[open.clone(), none(2, 20, 30), none(3, 40, 50)]);
    bad(
        &[
            open,
            get(2, "a", 20, 30),
            put(2, "b", 31, 32),
            get(2, "a", 40, 50),
        ],
        "get t/k a [40..50]",
        &[0, 1, 2, 3],
    );
    bad(
        &[put(1, "a", 0, 10).failed(), get(2, "a", 20, 30)],
        "get t/k a",
        &[1],
    );
}

#[test]
fn eventual_writes_join_once_after_their_invocation() {
    let e = weak(put(1, "e", 10, 11));
    // Absorbed long after it completed, or never.
    ok(&[
        e.clone(),
        none(2, 20, 30),
        get(2, "e", 40, 50),
        put(3, "s", 60, 70),
    ]);
    ok(&[
        e.clone().etag("v021"),
        put(2, "s", 20, 30),
        get(2, "e", 40, 50),
    ]);
    bad(
        &[
            e.clone(),
            get(2, "e", 20, 30),
            put(3, "s", 40, 50),
            get(2, "e", 60, 70),
        ],
        "get t/k e [60..70]",
        &[0, 1, 2, 3],
    );
    bad(&[get(2, "e", 1, 5), e], "get t/k e [1..5]", &[0]);
}

#[test]
fn eventual_deletes_are_counted() {
    let delete = |at| op(9, Op::Delete, Eventual, at, at + 1).etag(&format!("d{at}"));
    let half = [
        put(1, "a", 0, 1),
        delete(10),
        none(2, 20, 21),
        put(1, "b", 30, 31),
    ];
    ok(&half);
    let mut twice = half.to_vec();
    twice.push(none(2, 40, 41));
    bad(&twice, "get t/k nothing", &[0, 1, 2, 3, 4]);
    twice.push(delete(38));
    ok(&twice);
}

#[test]
fn conditions_are_read_both_ways() {
    ok(&[
        put(1, "a", 0, 1),
        cas(2, "a", "b", 10, 20),
        get(3, "b", 30, 40),
    ]);
    bad(
        &[
            put(1, "a", 0, 1),
            put(1, "b", 2, 3),
            cas(2, "a", "c", 10, 20),
        ],
        "cas t/k",
        &[0, 1, 2],
    );
    // Two successes on one value.
    bad(
        &[
            put(1, "a", 0, 1),
            cas(2, "a", "b", 10, 20),
            cas(3, "a", "c", 12, 22),
        ],
        "cas t/k",
        &[0, 1, 2],
    );
    let refused = |expect, at| cas(4, expect, "x", at, at + 1).refused();
    let mut no = refused("b", 10);
    no.etag = None;
    ok(&[put(1, "a", 0, 1), no.clone()]);
    bad(&[put(1, "b", 0, 1), no.clone()], "cas t/k", &[0, 1]);
    // An eventual write may have stood in the way.
    ok(&[put(1, "b", 0, 1), weak(put(2, "e", 5, 6)), no]);
    // A refusal that names a version is a read of it.
    ok(&[put(1, "a", 0, 1), refused("b", 10).etag("v000")]);
    bad(
        &[
            put(1, "a", 0, 1),
            put(1, "c", 2, 3),
            refused("b", 10).etag("v000"),
        ],
        "cas t/k",
        &[0, 1, 2],
    );
}

#[test]
fn conditions_on_versions_and_absence() {
    let on = |expect, at| {
        op(5, Op::Cas, Strong, at, at + 1)
            .value(swap(expect, "n"))
            .etag(&format!("v{at:03}"))
    };
    let a = put(1, "a", 0, 1);
    ok(&[
        a.clone(),
        on(Expect::Etag("v000".into()), 5),
        get(2, "n", 8, 9),
    ]);
    bad(
        &[
            a.clone(),
            put(1, "b", 2, 3),
            on(Expect::Etag("v000".into()), 5),
        ],
        "cas t/k",
        &[0, 1, 2],
    );
    bad(&[a.clone(), on(Expect::Absent, 5)], "cas t/k", &[0, 1]);
    ok(&[
        a.clone(),
        op(1, Op::Delete, Strong, 2, 3).etag("v002"),
        on(Expect::Absent, 5),
    ]);
    // The version of a write whose reply was lost is known from a read.
    let lost = put(3, "q", 2, 3).info();
    let read = get(2, "q", 4, 5).etag("v002");
    ok(&[
        a.clone(),
        lost.clone(),
        read.clone(),
        on(Expect::Etag("v002".into()), 6),
    ]);
    bad(
        &[
            a,
            lost,
            read,
            put(1, "z", 6, 7),
            on(Expect::Etag("v002".into()), 8),
        ],
        "cas t/k",
        &[1, 2, 3, 4],
    );
}

#[test]
fn versions_follow_real_time() {
    bad(
        &[put(1, "a", 0, 1).etag("9"), put(2, "b", 5, 6).etag("3")],
        "shows version 3 after version 9",
        &[0, 1],
    );
    ok(&[put(1, "a", 0, 7).etag("9"), put(2, "b", 5, 6).etag("3")]);
}

#[test]
fn retried_writes_are_one_operation() {
    let first = put(1, "a", 0, 5).info().request("r");
    let again = put(1, "a", 50, 60).request("r");
    // The first attempt took effect before the second was sent.
    ok(&[first.clone(), get(2, "a", 10, 20), again.clone()]);
    bad(
        &[
            first,
            get(2, "a", 10, 20),
            put(3, "b", 30, 40),
            again,
            get(2, "a", 70, 80),
        ],
        "get t/k a [70..80]",
        &[0, 1, 2, 3, 4],
    );
}

fn incr(process: u64, amount: i64, level: Level, invoke: u64) -> Record {
    op(process, Op::Incr, level, invoke, invoke + 1).int(amount)
}

fn total(process: u64, total: i64, invoke: u64) -> Record {
    op(process, Op::Read, Strong, invoke, invoke + 1).int(total)
}

#[test]
fn counters_are_exact_above_and_grow_below() {
    let weak = incr(1, 4, Eventual, 0);
    let strong = incr(2, UNIT, Strong, 10);
    ok(&[
        weak.clone(),
        strong.clone(),
        total(3, UNIT, 20),
        total(3, UNIT + 4, 30),
    ]);
    bad(
        &[
            weak.clone(),
            strong.clone(),
            total(3, UNIT + 4, 20),
            total(3, UNIT, 30),
        ],
        "read t/k 1099511627776 [30..31]",
        &[0, 1, 2, 3],
    );
    bad(&[strong.clone(), total(3, 0, 20)], "read t/k 0", &[0, 1]);
    bad(
        &[strong.clone(), total(3, 2 * UNIT, 20)],
        "read t/k",
        &[0, 1],
    );
    bad(
        &[total(3, 4, 20), incr(1, 4, Eventual, 40)],
        "read t/k 4",
        &[0],
    );
    let open = incr(2, 3 * UNIT, Strong, 10).info();
    ok(&[
        open.clone(),
        strong,
        total(3, UNIT, 20),
        total(3, 4 * UNIT, 30),
    ]);
    bad(
        &[open, total(3, 3 * UNIT, 20), total(3, 0, 30)],
        "read t/k 0",
        &[0, 1, 2],
    );
    let verdict = check(&history([incr(1, 3, Eventual, 0)]));
    assert_unknown(&verdict, "no power of two");
}

#[test]
fn set_elements_are_judged_one_by_one() {
    let add = |element, level, at| op(1, Op::Add, level, at, at + 1).text(element);
    let remove = |element, level, at| op(2, Op::Remove, level, at, at + 1).text(element);
    let has = |element, present, at| {
        op(3, Op::Contains, Strong, at, at + 1).value(asked(element, present))
    };
    ok(&[
        add("a", Strong, 0),
        has("a", true, 5),
        remove("a", Strong, 10),
        has("a", false, 15),
    ]);
    bad(
        &[add("a", Strong, 0), add("b", Strong, 2), has("a", false, 5)],
        "element a",
        &[0, 2],
    );
    ok(&[
        add("a", Eventual, 0),
        has("a", false, 5),
        has("a", true, 10),
    ]);
    bad(
        &[
            add("a", Eventual, 0),
            has("a", true, 5),
            has("a", false, 10),
        ],
        "contains t/k",
        &[0, 1, 2],
    );
    // An add that finds the element there still counts after a removal.
    let late = op(1, Op::Add, Strong, 10, 30).text("a");
    ok(&[
        add("a", Strong, 0),
        late,
        remove("a", Strong, 12),
        has("a", true, 40),
    ]);
}

#[test]
fn a_spent_budget_is_unknown_and_a_violation_elsewhere_still_wins() {
    let mut records: Vec<Record> = (0..12u64)
        .map(|n| put(n, &format!("w{n}"), n, 100 + n))
        .collect();
    records.push(get(50, "w11", 200, 201));
    assert_unknown(&check_with_budget(&history(records.clone()), 5), "budget");
    records.push(get(60, "nowhere", 300, 301).key("t/z"));
    assert_violation(&check_with_budget(&history(records), 5), "t/z", &[13]);
}

#[test]
fn versions_lead_the_search_through_many_writes_at_once() {
    // Thirty writes under way at once, which end in one order and take effect in the other.
    let writes = (0..30u64).map(|n| {
        let version = format!("v{:03}", 99 - n);
        put(n, &format!("w{n}"), n, 1_000 + n).etag(&version)
    });
    let reads = (0..30u64).rev().map(|n| {
        let at = 100 + 10 * (30 - n);
        get(50, &format!("w{n}"), at, at + 1).etag(&format!("v{:03}", 99 - n))
    });
    let records: Vec<Record> = writes.chain(reads).collect();
    let verdict = check_with_budget(&history(records), 5_000);
    assert_eq!(verdict, Verdict::Ok);
}

/// A linearizable history of one register: operations take effect at distinct moments inside their intervals.
fn random_register(rng: &mut Rng, key: &str, operations: u64, width: u64) -> Vec<Record> {
    let mut current: Option<(String, String)> = None;
    let mut records = Vec::new();
    for n in 0..operations {
        let moment = 1_000 + n * 10;
        let level = if rng.chance(25) { Eventual } else { Strong };
        let (invoke, complete) = (moment - rng.below(width), moment + 1 + rng.below(width));
        let version = format!("{n:08}");
        let value = format!("{key}-{n}");
        let mut record = op(n, Op::Get, level, invoke, complete).key(key);
        if rng.chance(50) && level == Strong {
            record.value = current
                .as_ref()
                .map(|(value, _)| Datum::Text(value.clone()));
            record.etag = current.as_ref().map(|(_, version)| version.clone());
        } else if let Some((old, _)) = current
            .as_ref()
            .filter(|_| level == Strong && rng.chance(40))
        {
            record.op = Op::Cas;
            record = record
                .value(swap(Expect::Value(old.clone()), &value))
                .etag(&version);
            current = Some((value, version));
        } else {
            record.op = Op::Put;
            record = record.text(&value).etag(&version);
            if rng.chance(5) {
                record = record.info();
            }
            // An eventual write, or one of unknown outcome, need not take effect.
            if (level == Strong && record.status == Status::Ok) || rng.chance(60) {
                current = Some((value, version));
            }
        }
        records.push(record);
    }
    records
}

/// Replaces a strong read's answer by a value that was certainly overwritten before the read began.
fn make_stale(rng: &mut Rng, records: &mut [Record]) -> bool {
    let strong = |record: &Record| record.level == Some(Strong) && record.status == Status::Ok;
    let ended = |record: &Record| record.complete_ns.unwrap();
    let start = rng.below(records.len() as u64) as usize;
    for read in start..records.len() {
        if records[read].op != Op::Get || !strong(&records[read]) {
            continue;
        }
        let writes = records.iter().filter(|r| r.op.is_write() && strong(r));
        let over = writes.clone().rfind(|w| ended(w) < records[read].invoke_ns);
        let Some(over) = over else { continue };
        let Some(old) = writes.clone().rfind(|w| ended(w) < over.invoke_ns) else {
            continue;
        };
        let (value, etag) = (old.stores().unwrap().to_owned(), old.etag.clone());
        records[read].value = Some(Datum::Text(value));
        records[read].etag = etag;
        return true;
    }
    false
}

#[test]
fn random_linearizable_histories_pass_and_stale_reads_do_not() {
    let mut rng = Rng(7);
    let mut caught = 0;
    for round in 0..300 {
        let mut records = random_register(&mut rng, "t/k", 60, 5 + round % 60);
        assert_eq!(
            check(&history(records.clone())),
            Verdict::Ok,
            "round {round}"
        );
        if make_stale(&mut rng, &mut records) {
            caught += 1;
            for with_versions in [true, false] {
                if !with_versions {
                    records.iter_mut().for_each(|record| record.etag = None);
                }
                let verdict = check(&history(records.clone()));
                let Verdict::Violation(violation) = verdict else {
                    panic!("round {round}: {verdict:?}");
                };
                // What is left is small, and is a violation by itself.
                assert!(violation.operations.len() < 15, "{violation:?}");
                let left = violation.operations.iter().map(|&at| records[at].clone());
                assert!(matches!(check(&history(left)), Verdict::Violation(_)));
            }
        }
    }
    assert!(caught > 250, "{caught}");
}

#[test]
fn a_hundred_thousand_operations_on_a_thousand_keys() {
    let mut rng = Rng(11);
    let records = (0..1_000).flat_map(|key| {
        let key = format!("t/{key:04}");
        random_register(&mut rng, &key, 100, 60)
    });
    let history = history(records.collect::<Vec<_>>());
    let start = Instant::now();
    assert_eq!(check(&history), Verdict::Ok);
    let spent = start.elapsed();
    println!("{} operations in {spent:?}", history.records.len());
    assert!(spent.as_secs() < 60, "{spent:?}");
}

#[test]
fn one_contended_key() {
    let mut rng = Rng(13);
    let records = random_register(&mut rng, "t/k", 10_000, 120);
    assert_eq!(check(&history(records)), Verdict::Ok);
}
