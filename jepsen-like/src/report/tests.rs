//! The report of runs that were, and of runs that hardly were.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;

use super::*;
use crate::history::{Datum, Op, Record, Status};
use crate::nemesis::{Layout, Nemesis, Plan, Situation, Standing};
use crate::random::Random;
use crate::run::Cell;
use crate::run::outcome::{Figures, Finding};
use crate::workload::{Levels, Workload};

/// The bound that a run of 40 rounds and 100 000 operations has to stay below.
const BYTES_MAX: usize = 5_000_000;

const LAYOUT: Layout = Layout {
    regions: 3,
    nodes_per_region: 1,
};

const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];

/// A line of a fault, as the runner writes it. A region `whole` hears everybody.
pub(super) fn fault(
    at_ns: u64,
    kind: Option<&str>,
    phase: &str,
    isolated: &[&str],
    impaired: &[&str],
) -> Record {
    let mut record = Record::event(2_000_000, Op::Nemesis, at_ns);
    record.complete_ns = Some(at_ns);
    record.status = Status::Ok;
    record.value = Some(Datum::Json(json!({
        "nemesis": kind.unwrap_or("calm"), "phase": phase, "action": kind, "isolated": isolated,
        "majority": true, "connected": ["whole"], "impaired": impaired,
    })));
    record
}

/// A client operation that was done.
pub(super) fn operation(process: u64, op: Op, level: Level, from_ns: u64, to_ns: u64) -> Record {
    let mut record = Record::invoked(process, op, "registers/k", level, from_ns);
    record.complete_ns = Some(to_ns);
    record.status = Status::Ok;
    record
}

/// Whether every element is closed in order, every attribute quoted, and every ampersand an escape.
pub(super) fn well_formed(markup: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut ids: BTreeSet<&str> = BTreeSet::new();
    let mut rest = markup.trim_start().trim_start_matches("<!DOCTYPE html>");
    while let Some(at) = rest.find('<') {
        escapes(&rest[..at])?;
        rest = &rest[at + 1..];
        let end = rest.find('>').ok_or("a tag without an end")?;
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(last) if last == name => continue,
                last => return Err(format!("</{name}> ends {last:?}")),
            }
        }
        let (tag, alone) = tag.strip_suffix('/').map_or((tag, false), |it| (it, true));
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        if name.is_empty() || !name.chars().all(|it| it.is_ascii_alphanumeric()) {
            return Err(format!("no name of an element: {name}"));
        }
        while !attributes.trim().is_empty() {
            let (key, value) = attributes.trim().split_once("=\"").ok_or(tag)?;
            let (value, after) = value.split_once('"').ok_or(tag)?;
            escapes(value)?;
            if key == "id" && !ids.insert(value) {
                return Err(format!("two elements are {value}"));
            }
            if key.contains(|it: char| !it.is_ascii_alphanumeric() && it != '-') {
                return Err(format!("no attribute: {key} in {tag}"));
            }
            attributes = after;
        }
        if !alone {
            open.push(name);
        }
        if name == "style" {
            let end = rest.find("</style>").ok_or("a style without an end")?;
            rest = &rest[end..];
        }
    }
    escapes(rest)?;
    match open.is_empty() {
        true => Ok(()),
        false => Err(format!("never closed: {open:?}")),
    }
}

fn escapes(content: &str) -> Result<(), String> {
    for part in content.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        if !known.iter().any(|it| part.starts_with(it)) {
            return Err(format!("a bare ampersand before {part:.20}"));
        }
    }
    Ok(())
}

/// The links within a page lead somewhere.
pub(super) fn links_lead_somewhere(page: &str) {
    let after = |mark: &str| -> BTreeSet<&str> {
        let parts = page.split(mark).skip(1);
        parts.map(|it| it.split('"').next().unwrap()).collect()
    };
    let (links, ids) = (after("href=\"#"), after(" id=\""));
    let lost: Vec<&&str> = links.difference(&ids).collect();
    assert_eq!(lost, [&""; 0]);
}

fn outcome(rounds: Vec<Round>) -> Outcome {
    Outcome {
        seed: 4711,
        asked: BTreeMap::new(),
        seconds: 312.4,
        wanted: 0,
        rounds,
        probes: BTreeMap::from([
            ("forwarded_session_read".to_owned(), 311),
            ("helper_read".to_owned(), 0),
            ("refused_epoch".to_owned(), 12),
        ]),
        not_applicable: BTreeMap::from([(Nemesis::Membership, 5), (Nemesis::Upgrade, 7)]),
    }
}

fn round(number: u32, nemeses: &[Nemesis]) -> Round {
    let workloads = Workload::value_variants();
    let levels = Levels::value_variants();
    let strikes = nemeses.iter().filter(|it| **it != Nemesis::Calm);
    Round {
        number,
        cell: Cell {
            workload: workloads[number as usize % workloads.len()],
            levels: levels[number as usize % levels.len()],
            nemeses: nemeses.to_vec(),
        },
        layout: LAYOUT,
        strikes: strikes.map(|it| (*it, 3)).collect(),
        load_ms: 8000,
        vain: BTreeMap::new(),
        not_here: BTreeMap::new(),
        settled_ms: Some(400 + u64::from(number) * 77 % 900),
        figures: Vec::new(),
        gaps: Vec::new(),
        held: ["well_formed", "linearizable", "durability"]
            .map(str::to_owned)
            .to_vec(),
        findings: Vec::new(),
    }
}

fn finding(property: &str, lines: &[usize]) -> Finding {
    Finding {
        property: property.to_owned(),
        explanation: format!("{property}: <seen> & promised"),
        lines: lines.to_vec(),
    }
}

/// The fault lines of a real plan.
fn faults(nemeses: &[Nemesis], until: Duration, random: &mut Random) -> Vec<Record> {
    let mut situation = Situation::new(LAYOUT);
    let mut lines = vec![fault(0, None, "begin", &[], &[])];
    for planned in Plan::new(LAYOUT, nemeses, until, random).planned() {
        situation.apply(&planned.action, planned.at);
        let standings = situation.standings();
        let of = |standing: Standing| -> Vec<&str> {
            let all = REGIONS.iter().zip(&standings);
            all.filter(|it| *it.1 == standing).map(|it| *it.0).collect()
        };
        let phase = if planned.begins { "begin" } else { "act" };
        let kind = planned.of.name();
        let at_ns = planned.at.as_nanos() as u64;
        let (isolated, impaired) = (of(Standing::Isolated), of(Standing::Impaired));
        lines.push(fault(at_ns, Some(&kind), phase, &isolated, &impaired));
    }
    lines.push(fault(until.as_nanos() as u64, None, "end", &[], &[]));
    for line in &mut lines {
        if let Some(Datum::Json(value)) = &mut line.value {
            value["connected"] = json!(REGIONS);
        }
    }
    lines
}

/// A history as a cluster under faults leaves it: strong operations of cut regions fail or hang.
fn history(nemeses: &[Nemesis], seconds: u64, operations: usize, seed: u64) -> History {
    let mut random = Random::new(seed);
    let mut records = faults(nemeses, Duration::from_secs(seconds), &mut random);
    let cut = faults::Faults::of(&records, &BTreeSet::new(), seconds * 1_000_000_000);
    let each = seconds * 1_000_000_000 * 6 / operations as u64;
    let end_ns = seconds * 1_000_000_000;
    for made in 0..operations {
        let process = made as u64 % 6;
        let now = made as u64 / 6 * each + random.below(each / 3 + 1);
        let level = [Level::Eventual, Level::Session, Level::Strong][random.below(3) as usize];
        let op = [Op::Put, Op::Get, Op::Get, Op::Delete][random.below(4) as usize];
        let mut us = 150 + random.below(300) * random.below(9);
        let mut record = operation(process, op, level, now, now);
        record.key = Some(format!("registers/r0-k{}", made / 90));
        record.region = Some(REGIONS[process as usize % 3].to_owned());
        record.session = Some(format!("s{process}"));
        record.etag = Some(format!("{made:016x}"));
        let text = Some(Datum::Text(format!("v{made}")));
        record.value = text.filter(|_| op != Op::Delete);
        let mut hit = cut
            .regions
            .iter()
            .filter(|it| Some(&it.0) == record.region.as_ref());
        let hit = hit.any(|it| it.1.iter().any(|it| it.begin_ns <= now && now < it.end_ns));
        if level == Level::Strong {
            us = (us * 5 + random.below(60_000)).min(each / 1_500);
        }
        if hit && level != Level::Eventual {
            us = each / 1_200;
            record.status = [Status::Info, Status::Fail][usize::from(random.chance(600))];
        }
        record.complete_ns = Some((now + us * 1000).min(end_ns));
        records.push(record);
    }
    for (node, region) in REGIONS.iter().enumerate() {
        let mut record = Record::event(2_000_001, Op::Usage, end_ns + 5);
        record.node = Some(format!("{region}-1"));
        record.value = Some(Datum::Json(
            json!({"memory": 90_000_000 + node * 3_000_000, "disk": 14_000_000, "files": 61}),
        ));
        records.push(record);
        for key in 0..=operations / 90 {
            let mut record = Record::event(1_000_000, Op::Final, end_ns + 2_000_000_000);
            record.complete_ns = Some(end_ns + 2_000_400_000 + key as u64);
            record.status = Status::Ok;
            record.region = Some((*region).to_owned());
            record.key = Some(format!("registers/r0-k{key}"));
            records.push(record);
        }
    }
    records.sort_by_key(|record| record.invoke_ns);
    History { records }
}

fn figures_of(history: &History) -> Vec<Figures> {
    let mut kinds: BTreeMap<String, Figures> = BTreeMap::new();
    for record in history.records.iter().filter(|it| it.op.is_client()) {
        let does = if record.op.is_write() {
            "write"
        } else {
            "read"
        };
        let kind = format!("{} {does}", chart::level_class(record.level.unwrap()));
        let it = kinds.entry(kind.clone()).or_default();
        it.kind = kind;
        match record.status {
            Status::Ok => it.ok += 1,
            Status::Fail => it.failed += 1,
            Status::Info => it.unknown += 1,
        }
    }
    kinds.into_values().collect()
}

fn gap(round: u32, level: Level, ms: u64) -> Gap {
    Gap {
        round,
        level,
        region: REGIONS[round as usize % 3].to_owned(),
        begin_ns: 7_250_000_000,
        end_ns: 7_250_000_000 + ms * 1_000_000,
        during: "majority".to_owned(),
    }
}

fn page(outcome: &Outcome, gaps: &[Gap], histories: &Histories<'_>) -> String {
    let replay = format!("hansa-jepsen run --seed {} --time 300 <&>", outcome.seed);
    let page = render(outcome, &replay, gaps, histories);
    assert_eq!(well_formed(&page), Ok(()));
    links_lead_somewhere(&page);
    for broken in ["NaN", "inf\"", "inf ", "-inf"] {
        assert!(!page.contains(broken), "{broken}");
    }
    assert!(!page.contains("<script"));
    assert!(!page.contains("src=") && !page.contains("url("));
    assert!(page.contains("hansa-jepsen run --seed 4711 --time 300 &lt;&amp;&gt;"));
    page
}

/// Forty rounds with everything that a run can have.
fn sample(operations_each: usize) -> (Outcome, BTreeMap<u32, History>) {
    let able: Vec<Nemesis> = Nemesis::value_variants()
        .iter()
        .copied()
        .filter(|it| it.support() == crate::nemesis::Support::Yes)
        .collect();
    let mut histories = BTreeMap::new();
    let mut rounds = Vec::new();
    for number in 0..40_u32 {
        let at = number as usize;
        let mut nemeses = vec![able[at * 3 % able.len()], able[(at * 7 + 1) % able.len()]];
        nemeses.truncate(1 + at % 2);
        let mut round = round(number, &nemeses);
        let history = history(&nemeses, 20, operations_each, u64::from(number));
        round.figures = figures_of(&history);
        if nemeses.contains(&Nemesis::ClockJump) {
            round.strikes.clear();
            let why = "a clock of its own: install faketime".to_owned();
            round.not_here.insert(Nemesis::ClockJump, why);
        }
        histories.insert(number, history);
        rounds.push(round);
    }
    let lines = |number: u32, wanted: usize| -> Vec<usize> {
        let records = &histories[&number].records;
        let found = records.iter().enumerate().filter(|(_, it)| {
            it.key.as_deref() == Some("registers/r0-k7") && it.level != Some(Level::Session)
        });
        found.map(|it| it.0 + 1).take(wanted).collect()
    };
    rounds[3].held.retain(|it| it != "linearizable");
    rounds[3].findings = vec![
        finding("linearizable", &lines(3, 9)),
        finding("settles", &[]),
        Finding {
            explanation: "undecided, which counts as wrong: 500 states".to_owned(),
            ..finding("convergence", &[])
        },
    ];
    rounds[3].settled_ms = None;
    rounds[2].findings = vec![finding(
        "durability",
        &acknowledged_and_gone(&histories[&2]),
    )];
    (outcome(rounds), histories)
}

/// A write that was acknowledged, others of every status around it, and what regions show at the end.
fn acknowledged_and_gone(history: &History) -> Vec<usize> {
    let all = || {
        let all = history.records.iter().enumerate();
        all.filter(|(_, it)| it.key.as_deref() == Some("registers/r0-k8"))
    };
    let statuses = [Status::Ok, Status::Fail, Status::Info].into_iter();
    let of = |status: Status| all().filter(move |it| it.1.status == status && it.1.op == Op::Put);
    let mut lines: Vec<usize> = statuses
        .flat_map(|it| of(it).take(2))
        .map(|it| it.0 + 1)
        .collect();
    lines.extend(all().filter(|it| it.1.op == Op::Final).map(|it| it.0 + 1));
    lines.sort_unstable();
    lines
}

#[test]
fn a_large_run_stays_within_its_bound_and_shows_all_that_is_wrong() {
    let (outcome, histories) = sample(2_500);
    let gaps: Vec<Gap> = (0..30)
        .map(|at| gap(at, Level::Strong, 300 + u64::from(at) * 91))
        .collect();
    let read = |round: &Round| Ok(histories[&round.number].clone());
    let page = page(&outcome, &gaps, &read);
    assert!(page.len() < BYTES_MAX, "{} bytes", page.len());
    assert!(page.contains("2 of 40 rounds are not clean"));
    assert_eq!(page.matches("class=\"finding\"").count(), 4);
    assert!(page.contains("<b>convergence</b> undecided in <a href=\"#round-3\">"));
    for id in ["finding-3-0", "finding-3-1", "finding-2-0", "round-39"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(page.contains("linearizable: &lt;seen&gt; &amp; promised"));
    assert_eq!(page.matches("data:application/jsonl;base64,").count(), 2);
    assert_eq!(page.matches("<svg ").count(), 40 * 2 + 2);
    assert!(page.contains("install faketime") && page.contains("n/a (issue 7)"));
    assert!(!page.contains(page::NO_ROOM));
    // Somebody wants to look at it.
    if let Some(folder) = std::env::var_os("HANSA_REPORT_SAMPLE") {
        fs::write(Path::new(&folder).join(FILE), &page).unwrap();
    }
}

#[test]
fn a_finding_can_be_saved_as_the_history_that_it_names() {
    use base64::Engine;
    let history = history(&[Nemesis::Kill], 5, 60, 1);
    let mut bad = round(0, &[Nemesis::Kill]);
    bad.findings = vec![finding("durability", &[4, 2, 9_999])];
    let page = page(&outcome(vec![bad]), &[], &|_| Ok(history.clone()));
    let saved = page.split("jsonl;base64,").nth(1).unwrap();
    let saved = saved.split('"').next().unwrap();
    let saved = base64::engine::general_purpose::STANDARD
        .decode(saved)
        .unwrap();
    let saved = History::read(saved.as_slice()).unwrap();
    assert_eq!(saved.records, [3, 1].map(|at| history.records[at].clone()));
    assert!(page.contains("1 line that it names are not in the history"));
    assert!(page.contains("hansa-jepsen check history-0000.jsonl"));
}

#[test]
fn what_is_in_keys_and_values_stays_text() {
    let evil = "</script><script>alert(\"1\")</script>&'\u{202e}\u{0}";
    let mut record = operation(1, Op::Put, Level::Strong, 10, 20_000);
    record.key = Some(evil.to_owned());
    record.value = Some(Datum::Text(evil.to_owned()));
    record.etag = Some(evil.to_owned());
    record.region = Some(evil.to_owned());
    let kill = fault(5, Some(evil), "begin", &[], &[evil]);
    let end = fault(90_000_000, None, "end", &[], &[]);
    let mut usage = Record::event(2, Op::Usage, 9);
    usage.node = Some(evil.to_owned());
    usage.value = Some(Datum::Json(
        json!({"memory": u64::MAX, "disk": -1, "files": "x"}),
    ));
    let history = History {
        records: vec![record, kill, end, usage],
    };
    let mut bad = round(0, &[Nemesis::Kill]);
    bad.held = vec![evil.to_owned()];
    bad.not_here.insert(Nemesis::Pause, evil.to_owned());
    bad.findings = vec![Finding {
        property: evil.to_owned(),
        explanation: evil.to_owned(),
        lines: vec![1, 2, 3, 4],
    }];
    let mut outcome = outcome(vec![bad]);
    outcome.probes.insert(evil.to_owned(), 1);
    let mut gaps = [gap(0, Level::Eventual, 3)];
    gaps[0].region = evil.to_owned();
    gaps[0].during = evil.to_owned();
    let page = page(&outcome, &gaps, &|_| Ok(history.clone()));
    assert!(page.contains("&lt;/script&gt;"));
    assert!(page.contains("\\u{202e}\\u{0}"));
}

#[test]
fn a_run_of_nothing_and_rounds_of_nothing_are_pages_too() {
    let nothing = page(&outcome(Vec::new()), &[], &|_| Ok(History::default()));
    assert!(nothing.contains("Nothing was run"));
    assert!(!nothing.contains("verdict good"));
    let one = |record: Record| History {
        records: vec![record],
    };
    let open = Record::invoked(1, Op::Get, "k", Level::Strong, 0);
    let late = operation(1, Op::Get, Level::Strong, u64::MAX - 1, u64::MAX);
    let backwards = operation(1, Op::Get, Level::Strong, 9, 3);
    for history in [
        History::default(),
        one(open),
        one(late),
        one(backwards),
        one(operation(1, Op::Get, Level::Eventual, 0, 0)),
        one(fault(0, Some("kill"), "begin", &[], &["a"])),
        one(fault(7, Some("kill"), "begin", &["a"], &[])),
    ] {
        let mut bad = round(0, &[Nemesis::Calm]);
        bad.findings = vec![finding("a", &[1]), finding("b", &[]), finding("c", &[0])];
        let all = outcome(vec![bad, round(1, &[Nemesis::Calm])]);
        let page = page(&all, &[gap(0, Level::Session, 0)], &|_| Ok(history.clone()));
        assert!(page.contains("1 of 2 rounds is not clean"));
        assert_eq!(page.matches("class=\"finding\"").count(), 3);
    }
}

#[test]
fn a_history_that_can_not_be_had_is_named_and_the_rest_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut bad = round(1, &[Nemesis::Kill]);
    bad.findings = vec![finding("durability", &[2])];
    let all = outcome(vec![round(0, &[Nemesis::Kill]), bad]);
    let first = File::create(folder.path().join("history-0000.jsonl")).unwrap();
    history(&[Nemesis::Kill], 5, 60, 1).write(first).unwrap();
    let path = folder.path().join(FILE);
    write(&all, "again", &[], &in_folder(folder.path()), &path).unwrap();
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(well_formed(&page), Ok(()));
    assert!(page.contains("The history of a round could not be read"));
    assert!(page.contains("Its history can not be had: can not read"));
    assert!(page.contains("id=\"finding-1-0\""));
    assert_eq!(page.matches("<svg ").count(), 2);
    let nowhere = folder.path().join("no").join(FILE);
    let refused = write(&all, "again", &[], &in_folder(folder.path()), &nowhere);
    assert!(refused.unwrap_err().to_string().contains("can not write"));
}

#[test]
fn however_much_is_wrong_the_page_stays_within_its_bound() {
    let large = "<".repeat(5_000);
    let mut history = history(&[Nemesis::Flapping], 6, 120, 5);
    for record in &mut history.records {
        record.key = Some(large.clone());
    }
    let lines: Vec<usize> = (1..=history.records.len()).collect();
    let mut rounds = Vec::new();
    for number in 0..400 {
        let mut bad = round(number, &[Nemesis::Flapping]);
        bad.findings = vec![finding("linearizable", &lines)];
        bad.findings[0].explanation.clone_from(&large);
        rounds.push(bad);
    }
    let page = page(&outcome(rounds), &[], &|_| Ok(history.clone()));
    assert!(page.len() < BYTES_MAX, "{} bytes", page.len());
    assert!(page.contains(page::NO_ROOM));
    assert!(page.contains("400 of 400 rounds are not clean"));
    assert!(page.contains("100 more: see") && page.contains("250 more: see"));
}

#[test]
fn a_cell_is_green_only_where_its_fault_struck() {
    let mut idle = round(0, &[Nemesis::Kill]);
    idle.strikes.clear();
    let mut not_here = round(0, &[Nemesis::ClockJump]);
    not_here
        .not_here
        .insert(Nemesis::ClockJump, "no".to_owned());
    let mut bad = round(0, &[Nemesis::Pause]);
    bad.findings = vec![finding("durability", &[])];
    let rounds = vec![
        idle,
        not_here,
        bad,
        round(0, &[Nemesis::Pause]),
        round(0, &[Nemesis::Loss]),
        round(0, &[Nemesis::Calm]),
    ];
    let grid = coverage::section(&outcome(rounds));
    assert_eq!(well_formed(&grid), Ok(()));
    for (class, fault, words) in [
        ("idle", "kill", "chosen, but it never struck"),
        ("not-here", "clock-jump", "not possible here"),
        ("bad", "pause", "1 not clean of 2"),
        ("good", "loss", "1 round clean"),
        ("good", "calm", "1 round clean"),
        ("not-run", "swizzle", "not run"),
        ("n-a", "upgrade", "n/a: issue 7"),
    ] {
        let cell = format!("<td class=\"{class}\" title=\"{fault}, all-types: {words}\">");
        assert!(grid.contains(&cell), "{cell}");
    }
    assert!(grid.contains("3 of 350 cells and 3 of 35 kinds of fault were run"));
}

#[test]
fn the_check_of_markup_refuses_what_is_none() {
    assert_eq!(well_formed("<p>a &amp; b<br/></p>"), Ok(()));
    for broken in [
        "<p>",
        "</p>",
        "<p></b>",
        "<p a=b></p>",
        "a & b",
        "<p",
        "<p a=\"&\"></p>",
        "<p id=\"a\"></p><p id=\"a\"></p>",
        "<<p></p>",
    ] {
        assert!(well_formed(broken).is_err(), "{broken}");
    }
}
