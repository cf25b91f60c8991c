use super::*;
use crate::checker::testing::*;
use crate::history::events::Phase;
use crate::history::{Datum, Op};

const S: u64 = 1_000_000_000;

/// From this second on these regions are cut off; `majority` is what the others are.
fn stands(second: u64, isolated: &[&str], majority: Option<&[&str]>) -> Record {
    let names = |regions: &[&str]| regions.iter().map(|r| (*r).to_owned()).collect();
    let event = FaultEvent {
        nemesis: "region-isolation".into(),
        phase: Phase::Act,
        action: None,
        isolated: Some(names(isolated)),
        majority: Some(majority.is_some()),
        connected: names(majority.unwrap_or_default()),
        impaired: Vec::new(),
    };
    event.record(second * S, second * S + 5)
}

/// An operation in a region that takes a tenth of a second.
fn at(region: &str, level: Level, tenth: u64) -> Record {
    let start = tenth * S / 10;
    Record {
        region: Some(region.into()),
        ..op(tenth, Op::Get, level, start, start + S / 10 - 1)
    }
}

/// One of these every second from one second to another.
fn every_second(region: &str, level: Level, from: u64, until: u64) -> Vec<Record> {
    (from..until)
        .map(|second| at(region, level, second * 10))
        .collect()
}

fn unknown(record: Record) -> Record {
    Record {
        op: Op::Put,
        error: Some("TIMEOUT".into()),
        ..record.info()
    }
}

/// Cut off from second 10 to second 30, and these.
fn while_cut(records: impl IntoIterator<Item = Record>) -> History {
    let ends = [
        stands(0, &[], Some(&[])),
        stands(10, &["eu"], Some(&["us", "ap"])),
        stands(30, &[], Some(&[])),
        at("us", Eventual, 400),
    ];
    history(ends.into_iter().chain(records))
}

#[test]
fn without_structured_lines_there_is_nothing_to_judge() {
    let words = Record {
        value: Some(Datum::Text("Isolate(eu)".into())),
        ..Record::event(9, Op::Nemesis, 10 * S)
    };
    let mut records = vec![words, at("eu", Strong, 400)];
    records.extend(
        every_second("eu", Eventual, 10, 30)
            .into_iter()
            .map(Build::failed),
    );
    let history = history(records);
    assert_eq!(check(&history), Verdict::Ok);
    assert_eq!(gaps(&history), []);
    assert_eq!(periods(&history), Ok(Vec::new()));
}

#[test]
fn a_broken_structured_line_is_unknown() {
    let broken = Record {
        value: Some(Datum::Json(serde_json::json!({"phase": "begin"}))),
        ..Record::event(9, Op::Nemesis, 10)
    };
    assert_unknown(
        &check(&history([broken])),
        "line 1: a fault that cannot be read",
    );
}

#[test]
fn periods_reach_from_one_line_to_the_next() {
    let told = periods(&while_cut([])).unwrap();
    let times: Vec<_> = told
        .iter()
        .map(|p| (p.from_ns, p.until_ns, p.line))
        .collect();
    let last = at("us", Eventual, 400).complete_ns.unwrap();
    assert_eq!(
        times,
        [
            (5, 10 * S, 0),
            (10 * S + 5, 30 * S, 1),
            (30 * S + 5, last, 2)
        ]
    );
    assert_eq!(told[1].event.connected, ["us", "ap"]);
}

#[test]
fn an_isolated_region_serves_eventual_operations() {
    let served = every_second("eu", Eventual, 10, 30);
    assert_eq!(check(&while_cut(served.clone())), Verdict::Ok);
    for bad in [
        at("eu", Eventual, 115).failed(),
        unknown(at("eu", Eventual, 115)),
    ] {
        let verdict = check(&while_cut(served.iter().cloned().chain([bad])));
        assert_violation(&verdict, "region eu was undisturbed", &[1, 24]);
    }
    let fine = [
        // In the grace, after the heal, of another level, with others to wait for.
        at("eu", Eventual, 105).failed(),
        at("eu", Eventual, 305).failed(),
        at("eu", Strong, 205).failed(),
        at("eu", Session, 207).failed(),
        Record {
            ack_regions: Some(1),
            ..unknown(at("eu", Eventual, 205))
        },
        // The asker's own fault.
        Record {
            error: Some("INVALID".into()),
            ..at("eu", Eventual, 205).failed()
        },
        Record {
            error: Some("UNKNOWN_OUTCOME".into()),
            ..unknown(at("eu", Eventual, 205))
        },
    ];
    for fine in fine {
        assert_eq!(check(&while_cut([fine])), Verdict::Ok);
    }
    let verdict = check(&while_cut([at("us", Eventual, 205).failed()]));
    assert!(
        !verdict.is_ok(),
        "a region of the majority serves them, too"
    );
}

#[test]
fn what_the_heal_finds_unanswered_was_open_too_long_only_after_a_while() {
    let open = |tenth, end: Option<u64>| Record {
        complete_ns: end.map(|tenth| tenth * S / 10),
        ..unknown(at("eu", Eventual, tenth))
    };
    for late in [open(240, Some(350)), open(240, None)] {
        assert_violation(&check(&while_cut([late])), "was not served", &[1, 4]);
    }
    for fine in [open(260, Some(350)), open(295, None)] {
        assert_eq!(check(&while_cut([fine])), Verdict::Ok);
    }
}

#[test]
fn strong_operations_are_served_where_the_majority_is() {
    let all = |records: &[Record]| while_cut(records.to_vec());
    let mut us = every_second("us", Strong, 1, 40);
    us.extend(every_second("ap", Strong, 1, 40));
    // In the isolated region none is promised.
    us.extend(
        every_second("eu", Strong, 11, 30)
            .into_iter()
            .map(Build::failed),
    );
    assert_eq!(check(&all(&us)), Verdict::Ok);
    // Nor does it count that the other region of the majority is served.
    let dead = |record: &Record| record.region.as_deref() == Some("us");
    let broken = |from: u64, until: u64| -> Vec<Record> {
        let hit = |r: &Record| dead(r) && (from * S..until * S).contains(&r.invoke_ns);
        let all = us.iter().cloned();
        all.map(|record| {
            if hit(&record) {
                record.failed()
            } else {
                record
            }
        })
        .collect()
    };
    assert_eq!(check(&all(&broken(12, 21))), Verdict::Ok);
    let verdict = check(&all(&broken(12, 24)));
    let Verdict::Violation(violation) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        violation
            .explanation
            .contains("in us no strong operation was served for 12099 ms"),
        "{violation:?}"
    );
    assert_eq!(violation.operations.len(), SHOWN + 1);
    // Where nobody asks, nobody is refused.
    let quiet: Vec<Record> = us.iter().filter(|r| !dead(r)).cloned().collect();
    assert_eq!(check(&all(&quiet)), Verdict::Ok);
}

#[test]
fn without_the_names_of_the_majority_all_that_are_not_isolated_are_one() {
    let cut = |records: Vec<Record>| {
        let ends = [stands(0, &["eu"], Some(&[])), at("us", Eventual, 400)];
        history(ends.into_iter().chain(records))
    };
    let mut records: Vec<Record> = every_second("us", Strong, 1, 30);
    records.extend(
        every_second("eu", Strong, 1, 30)
            .into_iter()
            .map(Build::failed),
    );
    records.extend(
        every_second("ap", Strong, 1, 30)
            .into_iter()
            .map(Build::failed),
    );
    assert_eq!(check(&cut(records.clone())), Verdict::Ok);
    let refused = records.into_iter().map(Build::failed).collect();
    let verdict = check(&cut(refused));
    let Verdict::Violation(violation) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(
        violation.explanation.contains("in all of them"),
        "{violation:?}"
    );
}

#[test]
fn the_longest_gap_of_every_span_is_told() {
    let mut records = every_second("us", Strong, 11, 15);
    // A refused condition is an answer; what fails begins a gap that an overlapping success does not reach back.
    let refused = Record {
        op: Op::Cas,
        ..at("us", Strong, 160).refused()
    };
    records.extend([
        refused,
        at("us", Strong, 175).failed(),
        at("us", Strong, 190),
    ]);
    records.push(at("eu", Eventual, 120));
    let gaps = gaps(&while_cut(records));
    let eventual = Gap {
        from_ns: 12 * S,
        until_ns: 12 * S + S / 10 - 1,
        level: Eventual,
        region: Some("eu".into()),
    };
    let strong = Gap {
        from_ns: 17 * S + S / 2,
        until_ns: 19 * S + S / 10 - 1,
        level: Strong,
        region: Some("us".into()),
    };
    assert_eq!(gaps, [eventual, strong]);
}

#[test]
fn what_only_the_token_makes_impossible_is_not_judged() {
    let away = |reason: &str| {
        let failed = (11..28).map(|second| Record {
            error: Some(reason.into()),
            ..at("us", Strong, second * 10).failed()
        });
        check(&while_cut(failed.chain([at("eu", Eventual, 120)])))
    };
    assert!(away("SESSION_UNAVAILABLE").is_ok());
    assert!(!away("QUORUM_UNREACHABLE").is_ok());
}

#[test]
fn where_nobody_asks_for_long_nothing_is_known() {
    let mut records = every_second("us", Strong, 11, 13);
    // One failed, nobody asked for half a minute, and the next was served.
    records.extend([
        at("us", Strong, 135).failed(),
        at("us", Strong, 440),
        at("eu", Eventual, 120),
    ]);
    let history = while_cut(records);
    assert!(check(&history).is_ok());
    let strong = gaps(&history).into_iter().find(|gap| gap.level == Strong);
    assert!(strong.unwrap().length_ns() < S, "{:?}", gaps(&history));
}

#[test]
fn a_span_goes_on_over_an_action_that_does_not_change_it() {
    let ends = [
        stands(10, &["eu"], Some(&["us", "ap"])),
        stands(18, &["eu"], Some(&["us", "ap"])),
        at("us", Eventual, 400),
    ];
    let dead: Vec<Record> = every_second("us", Strong, 11, 25)
        .into_iter()
        .map(Build::failed)
        .collect();
    let history = history(ends.into_iter().chain(dead));
    let mut gaps = gaps(&history);
    gaps.retain(|gap| gap.level == Strong);
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].from_ns, 11 * S);
    assert!(!check(&history).is_ok());
}
