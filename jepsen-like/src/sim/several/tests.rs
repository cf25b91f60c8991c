use hansa_consistency::request::{Reason, Receipt};
use hansa_consistency::rules::Rules;

use super::*;
use crate::checker::{self, Verdict};
use crate::history::{History, Level as Asked, Status};
use crate::nemesis::Nemesis;
use crate::sim::{self, scenario::Choice};
use crate::workload::{Levels, Workload};

fn calm(workload: Workload, levels: Levels) -> History {
    let choice = Choice {
        workload,
        levels,
        nemeses: vec![Nemesis::Calm],
        load_ms: 5_000,
    };
    let run = sim::run_scenario(&choice.draw(1), Rules::default(), |_| {});
    assert_eq!(run.violations, []);
    run.history
}

fn done(history: &History, op: Op) -> impl Iterator<Item = (usize, &Record)> {
    let all = history.records.iter().enumerate();
    all.filter(move |(_, it)| it.op == op && it.status == Status::Ok)
}

#[test]
fn scans_go_over_pages_and_shards_and_tell_what_is_there() {
    let history = calm(Workload::Scan, Levels::Session);
    let longest = |of: fn(&str) -> bool| {
        let scans = done(&history, Op::Scan);
        let scans = scans.filter(|(_, it)| it.key.as_deref().is_some_and(of));
        scans.filter_map(|(_, it)| Some(it.rows()?.len())).max()
    };
    let rows = longest(|key| key.ends_with('/')).unwrap();
    assert!(rows > PAGE, "{rows} rows of one key");
    let whole = longest(|key| key.matches('/').count() == 1).unwrap();
    assert!(whole > rows, "{whole} rows of a keyspace");
    let part = longest(|key| key.ends_with("/a")).unwrap();
    assert!((1..=2).contains(&part), "{part} rows of a prefix");
}

#[test]
fn batches_are_answered_at_every_level() {
    let history = calm(Workload::ManyKeys, Levels::Mixed);
    for level in [Asked::Eventual, Asked::Session, Asked::Strong] {
        let batches = done(&history, Op::BatchGet).filter(|(_, it)| it.level == Some(level));
        let held = batches.filter_map(|(_, it)| it.rows());
        let found = held.flat_map(BTreeMap::values);
        let found = found.filter(|it| it.value.is_some() && it.etag.is_some());
        assert!(found.count() > 5, "{level:?}");
    }
}

/// What a broken scan would record: it forgets a row that its session wrote.
#[test]
fn a_scan_that_forgets_a_row_is_caught() {
    let mut history = calm(Workload::Scan, Levels::Session);
    let written = |scan: &Record, key: &str| {
        history.records.iter().any(|it| {
            let own = it.op == Op::Put && it.session == scan.session;
            own && it.tells_of(key) && it.complete_ns < Some(scan.invoke_ns)
        })
    };
    let deleted = |key: &str| {
        let mut all = history.records.iter();
        all.any(|it| it.op == Op::Delete && it.tells_of(key))
    };
    let forgettable = done(&history, Op::Scan).find_map(|(line, scan)| {
        let mut keys = scan.rows()?.keys();
        let key = keys.find(|key| written(scan, key) && !deleted(key))?;
        Some((line, key.clone()))
    });
    let (line, key) = forgettable.unwrap();
    let Some(Datum::Rows(rows)) = &mut history.records[line].value else {
        panic!("a scan without rows");
    };
    rows.remove(&key);
    match checker::read_your_writes::check(&history) {
        Verdict::Violation(violation) => assert!(violation.operations.contains(&line)),
        other => panic!("{other:?}"),
    }
}

fn reply(answer: Answer, staleness_ms: Option<u64>) -> Result<Reply, Refusal> {
    Ok(Reply {
        answer,
        level: Level::Session,
        context: Context::new(),
        hlc: hansa_consistency::clock::Hlc::ZERO,
        receipt: Receipt {
            staleness: staleness_ms.map(Duration::from_millis),
            wan_round_trips: 1,
            ..Receipt::default()
        },
    })
}

fn walk(key: &str) -> Several {
    let record = Record::invoked(1, Op::Scan, key, Asked::Session, 1);
    Several::of(&record, Level::Session, Context::new()).unwrap()
}

fn page(keys: &[&str], next: Option<&'static [u8]>) -> Answer {
    let row = |key: &&str| ScannedRow {
        row: client::row(REGISTERS, key, None).unwrap(),
        found: Found::Value(Bytes::from_static(b"v")),
        etag: Bytes::from_static(b"\x01"),
    };
    Answer::Page {
        rows: keys.iter().map(row).collect(),
        next: next.map(Bytes::from_static),
    }
}

#[test]
fn a_row_that_comes_twice_is_noted_and_pages_are_worth_the_worst() {
    let mut scan = walk("registers/k/");
    assert_eq!(scan.begin(|| 7).len(), 1);
    let first = page(&["k/a0", "k/a1"], Some(b"x"));
    let step = scan.answered(7, &reply(first, Some(9)));
    assert!(matches!(step, Step::Ask(_, true)), "{step:?}");
    let Step::Done(result) = scan.answered(8, &reply(page(&["k/a1"], None), Some(4))) else {
        panic!("the last page is the end");
    };
    let receipt = result.unwrap().receipt;
    assert_eq!(receipt.staleness, Some(Duration::from_millis(9)));
    assert_eq!(receipt.wan_round_trips, 2);
    let mut record = Record::invoked(1, Op::Scan, "registers/k/", Asked::Session, 1);
    scan.fill(&mut record);
    assert_eq!(record.rows().unwrap().len(), 2);
    assert_eq!(record.error.as_deref(), Some(ROW_TWICE));
}

#[test]
fn one_refusal_refuses_a_batch() {
    let mut record = Record::invoked(1, Op::BatchGet, "registers/", Asked::Session, 1);
    let keys = ["registers/a", "registers/b"].map(|key| (key.to_owned(), Held::default()));
    record.value = Some(Datum::Rows(keys.into()));
    let mut batch = Several::of(&record, Level::Session, Context::new()).unwrap();
    let mut number = 10;
    let requests = batch.begin(|| {
        number += 1;
        number
    });
    assert_eq!(requests.len(), 2);
    let read = Answer::Read {
        found: Found::Nothing,
        etag: Bytes::new(),
    };
    assert!(matches!(batch.answered(12, &reply(read, None)), Step::Wait));
    let refusal = Refusal::not_applied(Reason::UnknownKeyspace, "no such keyspace");
    match batch.answered(11, &Err(refusal.clone())) {
        Step::Done(result) => assert_eq!(*result, Err(refusal)),
        other => panic!("{other:?}"),
    }
}
