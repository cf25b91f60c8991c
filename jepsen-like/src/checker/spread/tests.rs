//! Every checker that can catch something in a read of several keys does, and blames no good one.

use serde_json::json;

use super::*;
use crate::checker::testing::*;
use crate::checker::{
    convergence, counter_bounds, durability, linearizable, monotonic_reads, monotonic_writes,
    phantom, read_your_writes, receipts, request_ids, staleness, well_formed, writes_follow_reads,
};
use crate::history::Level;

const MS: u64 = 1_000_000;

/// Rows of keys under `t/`, each with its value and version; without a value nothing was found.
fn rows(all: &[(&str, Option<&str>, Option<&str>)]) -> Datum {
    let row = |(key, value, etag): &(&str, Option<&str>, Option<&str>)| {
        let (value, etag) = (value.map(str::to_owned), etag.map(str::to_owned));
        (format!("t/{key}"), Held { value, etag })
    };
    Datum::Rows(all.iter().map(row).collect())
}

fn scan(process: u64, key: &str, at: u64, found: &[(&str, Option<&str>, Option<&str>)]) -> Record {
    let scan = op(process, Op::Scan, Session, at, at + 1);
    scan.key(key).value(rows(found)).session("s")
}

fn batch(
    process: u64,
    level: Level,
    at: u64,
    found: &[(&str, Option<&str>, Option<&str>)],
) -> Record {
    let batch = op(process, Op::BatchGet, level, at, at + 5);
    batch.key("t/").value(rows(found))
}

fn put(session: &str, key: &str, value: &str, at: u64) -> Record {
    let put = op(1, Op::Put, Session, at, at + 1).session(session);
    put.key(key).text(value).etag(&format!("{at:03}"))
}

/// This checker catches it, and is content with the history without the guilty line.
#[track_caller]
fn caught(check: fn(&History) -> Verdict, records: &[Record], part: &str, lines: &[usize]) {
    assert_violation(&check(&history(records.to_vec())), part, lines);
    let (guilty, innocent) = records.split_last().unwrap();
    assert!(guilty.op.is_several());
    assert_eq!(check(&history(innocent.to_vec())), Verdict::Ok);
}

#[track_caller]
fn fine(check: fn(&History) -> Verdict, records: &[Record]) {
    assert_eq!(check(&history(records.to_vec())), Verdict::Ok);
}

#[test]
fn a_session_finds_what_it_wrote() {
    let check = read_your_writes::check;
    let wrote = put("s", "t/k/a0", "v", 10);
    let missed = scan(2, "t/k/", 20, &[]);
    caught(
        check,
        &[wrote.clone(), missed.clone()],
        "session s: version none is below version 010, which the session itself wrote before",
        &[0, 1],
    );
    let older = scan(2, "t/k/", 20, &[("k/a0", Some("u"), Some("005"))]);
    let before = op(9, Op::Put, Eventual, 5, 6).key("t/k/a0").text("u");
    let both = [before.etag("005"), wrote.clone()];
    caught(
        check,
        &[both[0].clone(), both[1].clone(), older],
        "version 005 is below version 010",
        &[1, 2],
    );
    fine(
        check,
        &[
            wrote.clone(),
            scan(2, "t/k/", 20, &[("k/a0", Some("v"), Some("010"))]),
        ],
    );
    // What it does not cover, and what a delete explains, is not missing.
    fine(check, &[wrote.clone(), scan(2, "t/k/b", 20, &[])]);
    let delete = op(9, Op::Delete, Eventual, 12, 13).key("t/k/a0");
    fine(
        check,
        &[delete.clone().etag("012"), wrote.clone(), missed.clone()],
    );
    fine(
        check,
        &[delete.clone().info(), wrote.clone(), missed.clone()],
    );
    caught(
        check,
        &[delete.etag("003"), wrote.clone(), missed],
        "version none is below version 010",
        &[1, 2],
    );
    let batch = batch(2, Session, 20, &[("k/a0", None, None), ("x", None, None)]);
    caught(
        check,
        &[wrote, batch.session("s")],
        "version none is below",
        &[0, 1],
    );
}

#[test]
fn a_session_does_not_read_backwards() {
    let writes = [put("w", "t/a", "1", 10), put("w", "t/a", "2", 12)];
    let get = op(2, Op::Get, Session, 20, 21).session("s").key("t/a");
    let get = get.text("2").etag("012");
    let back = scan(2, "t/", 30, &[("a", Some("1"), Some("010"))]);
    caught(
        monotonic_reads::check,
        &[&writes[..], &[get.clone(), back]].concat(),
        "version 010 is below version 012, which the session itself read before",
        &[2, 3],
    );
    let gone = batch(2, Session, 30, &[("a", None, None)]).session("s");
    caught(
        monotonic_reads::check,
        &[&writes[..], &[get, gone]].concat(),
        "version none is below version 012",
        &[2, 3],
    );
    // What a scan has shown counts for what comes later, here another scan.
    let seen = scan(2, "t/", 20, &[("a", Some("2"), Some("012"))]);
    caught(
        monotonic_reads::check,
        &[&writes[..], &[seen, scan(2, "t/", 30, &[])]].concat(),
        "version none is below version 012",
        &[2, 3],
    );
}

#[test]
fn what_a_read_write_follows_is_found_too() {
    let writes = [put("w", "t/a", "1", 10), put("w", "t/b", "2", 12)];
    let shown = batch(2, Session, 20, &[("b", Some("2"), Some("012"))]).session("s");
    // Both writes of one session: whoever has seen the second sees the first.
    caught(
        monotonic_writes::check,
        &[
            &writes[..],
            &[
                shown.clone(),
                scan(2, "t/", 30, &[("b", Some("2"), Some("012"))]),
            ],
        ]
        .concat(),
        "version none is below version 010, which session w wrote before",
        &[0, 3],
    );
    // One read, then written by another: reading the second shows the first.
    let first = put("v", "t/a", "1", 8);
    let read = op(3, Op::Get, Session, 9, 10).session("w").key("t/a");
    let read = read.text("1").etag("008");
    let second = put("w", "t/b", "2", 12);
    caught(
        writes_follow_reads::check,
        &[first, read, second, shown, scan(2, "t/a", 30, &[])],
        "version none is below version 008",
        &[1, 4],
    );
}

#[test]
fn nothing_is_invented() {
    let wrote = put("w", "t/a", "1", 10);
    let invented = scan(2, "t/", 20, &[("b", Some("9"), Some("010"))]);
    caught(
        phantom::check,
        &[wrote.clone(), invented],
        "t/b: value 9 was never written",
        &[1],
    );
    let failed = put("w", "t/a", "x", 12).failed();
    let shown = batch(2, Eventual, 20, &[("a", Some("x"), Some("012"))]);
    caught(
        phantom::check,
        &[wrote.clone(), failed, shown],
        "value x is visible, which failed",
        &[1, 2],
    );
    let early = batch(2, Eventual, 1, &[("a", Some("1"), Some("010"))]);
    caught(
        phantom::check,
        &[wrote.clone(), early],
        "not yet invoked",
        &[1, 0],
    );
    let versions = scan(2, "t/", 20, &[("a", Some("1"), Some("011"))]);
    caught(
        phantom::check,
        &[wrote.clone(), versions],
        "value 1 has versions 010 and 011",
        &[0, 1],
    );
    let mut twice = scan(2, "t/", 20, &[("a", Some("1"), Some("010"))]);
    fine(phantom::check, &[wrote.clone(), twice.clone()]);
    twice.error = Some(crate::history::ROW_TWICE.to_owned());
    caught(phantom::check, &[wrote, twice], "more than once", &[1]);
}

#[test]
fn a_stated_staleness_holds_for_every_key() {
    let wrote = op(1, Op::Put, Eventual, 9 * MS, 10 * MS).key("t/a");
    let wrote = wrote.text("1").etag("1");
    let at = |record: Record, staleness_ms: u64| Record {
        invoke_ns: 100 * MS,
        complete_ns: Some(101 * MS),
        level: Some(Eventual),
        session: None,
        receipt: Some(json!({"level": "eventual", "staleness_ms": staleness_ms})),
        ..record
    };
    for read in [
        scan(2, "t/", 1, &[]),
        batch(2, Eventual, 1, &[("b", None, None), ("a", None, None)]),
    ] {
        caught(
            staleness::check,
            &[wrote.clone(), at(read.clone(), 50)],
            "shows nothing and not version 1",
            &[0, 1],
        );
        fine(staleness::check, &[wrote.clone(), at(read, 90)]);
    }
}

#[test]
fn receipts_of_several_are_judged_as_others() {
    let with = |record: Record, receipt| Record {
        node: Some("eu-1".into()),
        region: Some("eu".into()),
        receipt: Some(receipt),
        ..record
    };
    let scanned = scan(2, "t/", 20, &[]);
    let lower = json!({"level": "eventual", "served_by": "eu-1"});
    let verdict = receipts::check(&history([with(scanned.clone(), lower)]));
    assert_violation(&verdict, "eventual was reached and session", &[0]);
    let right = json!({"level": "session", "served_by": "eu-1"});
    fine(receipts::check, &[with(scanned, right)]);
    let strong = batch(2, Strong, 20, &[("a", None, None)]);
    let stale = json!({"level": "strong", "staleness_ms": 4});
    let verdict = receipts::check(&history([with(strong, stale)]));
    assert_violation(&verdict, "a strong read is 4 ms stale", &[0]);
}

#[test]
fn a_strong_batch_is_a_strong_read_of_each_key() {
    let put = |key: &str, value: &str, at| {
        let put = op(1, Op::Put, Strong, at, at + 1).key(key);
        put.text(value).etag(&format!("{at:03}"))
    };
    let writes = [put("t/a", "1", 10), put("t/b", "2", 12)];
    let read = |a, b| batch(2, Strong, 20, &[("a", a, None), ("b", b, None)]);
    caught(
        linearizable::check,
        &[&writes[..], &[read(Some("1"), None)]].concat(),
        "t/b: no order of 2 strong operations",
        &[1, 2],
    );
    fine(
        linearizable::check,
        &[&writes[..], &[read(Some("1"), Some("2"))]].concat(),
    );
    // No snapshot: while both are written, one may be seen and the other not, whichever came first.
    for (a, b) in [(Some("1"), None), (None, Some("2"))] {
        let both = batch(2, Strong, 9, &[("a", a, None), ("b", b, None)]);
        fine(linearizable::check, &[&writes[..], &[both]].concat());
    }
    let back = batch(3, Strong, 30, &[("a", Some("1"), Some("008"))]);
    caught(
        linearizable::check,
        &[writes[0].clone(), writes[1].clone(), back],
        "t/a: a strong operation shows version 008 after version 010",
        &[0, 2],
    );
}

#[test]
fn a_repeated_write_is_shown_under_one_version() {
    let first = put("w", "t/a", "1", 10).request("q").info();
    let mut second = put("w", "t/a", "1", 20).request("q");
    second.process = 3;
    let shown = batch(2, Eventual, 12, &[("a", Some("1"), Some("010"))]);
    let again = op(4, Op::Get, Eventual, 30, 31).key("t/a").text("1");
    let records = [first, shown, again.etag("020"), second];
    let verdict = request_ids::check(&history(records));
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict:?}");
}

#[test]
fn only_what_succeeded_shows_anything() {
    let wrote = put("s", "t/a", "1", 10);
    let checks = [
        read_your_writes::check,
        phantom::check,
        linearizable::check,
        well_formed::check,
    ];
    for check in checks {
        let mut failed = scan(2, "t/", 20, &[]).failed();
        failed.value = None;
        fine(check, &[wrote.clone(), failed]);
        let asked = batch(2, Session, 20, &[("a", None, None)]).session("s");
        fine(check, &[wrote.clone(), asked.failed()]);
    }
}

#[test]
fn other_properties_are_not_confused_by_them() {
    let end = |key: &str| last("eu", Some(Datum::Text("1".into()))).key(key);
    let wrote = put("s", "t/a", "1", 10);
    let shown = scan(2, "t/", 20, &[("a", Some("1"), Some("010"))]);
    let asked = batch(2, Session, 30, &[("a", Some("1"), Some("010"))]);
    let records = [wrote, shown, asked, end("t/a").etag("010")];
    for check in [durability::check, convergence::check, counter_bounds::check] {
        fine(check, &records);
    }
}

#[test]
fn their_form_is_judged() {
    let check = |record: Record| well_formed::check(&history([record]));
    let outside = scan(2, "t/k/", 20, &[("x", Some("1"), Some("1"))]);
    assert_unknown(&check(outside), "does not fit its operation");
    let mut bare = scan(2, "t/", 20, &[]);
    bare.value = None;
    assert_unknown(&check(bare), "does not fit its operation");
    assert_unknown(
        &check(batch(2, Strong, 20, &[])),
        "does not fit its operation",
    );
    let text = batch(2, Strong, 20, &[]).text("t/a");
    assert_unknown(&check(text), "does not fit its operation");
    let touching = [
        scan(2, "t/", 20, &[]),
        batch(2, Strong, 21, &[("a", None, None)]),
    ];
    assert_unknown(&well_formed::check(&history(touching)), "had not ended");
}
