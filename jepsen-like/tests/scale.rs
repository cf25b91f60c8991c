//! The checkers judge what a long run leaves behind, in a time that somebody waits for.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hansa_jepsen::checker::{ALL, Verdict, linearizable};
use hansa_jepsen::history::events::{FaultEvent, Phase, UsageEvent};
use hansa_jepsen::history::{CONDITION_FAILED, Datum, Expect, History, Level, Op, Record, Status};
use hansa_jepsen::random::Random;
use hansa_jepsen::workload::{
    COUNTERS, Generator, Intent, Levels, REGISTERS, Recipe, SETS, Tie, Workload, split_key,
};
use serde_json::json;

const MS: u64 = 1_000_000;
const REGIONS: [&str; 3] = ["ap", "eu", "us"];
/// Writes of which nobody hears, permille.
const UNKNOWN: u64 = 10;
/// What one checker may take for 100 000 operations. An unoptimised build needs a few seconds where nothing else runs;
/// what is quadratic is above this many times over.
const BOUND: Duration = Duration::from_secs(60);

/// A store in which everything happens at one moment, so that every promise holds at every level.
#[derive(Default)]
struct Store {
    registers: BTreeMap<String, (Option<String>, u64)>,
    counters: BTreeMap<String, i64>,
    sets: BTreeMap<String, BTreeSet<String>>,
    version: u64,
}

fn etag(version: u64) -> Option<String> {
    (version > 0).then(|| format!("{version:012x}"))
}

impl Store {
    /// Does the operation, and writes the answer into its record.
    fn perform(&mut self, record: &mut Record) {
        let key = record.key.clone().unwrap();
        record.status = Status::Ok;
        self.version += 1;
        match (record.op, record.value.clone()) {
            (Op::Put | Op::Delete, value) => {
                let value = value.map(|_| record.text().unwrap().to_owned());
                self.registers.insert(key, (value, self.version));
                record.etag = etag(self.version);
            }
            (Op::Cas, Some(Datum::Swap(swap))) => {
                let found = self.registers.entry(key).or_default();
                let holds = match &swap.expect {
                    Expect::Absent => found.0.is_none(),
                    Expect::Value(value) => found.0.as_ref() == Some(value),
                    Expect::Etag(version) => etag(found.1).as_ref() == Some(version),
                };
                if holds {
                    *found = (Some(swap.new), self.version);
                } else {
                    record.status = Status::Fail;
                    record.error = Some(CONDITION_FAILED.to_owned());
                }
                record.etag = etag(found.1);
            }
            (Op::Incr, Some(Datum::Integer(amount))) => {
                *self.counters.entry(key).or_default() += amount;
            }
            (Op::Add, Some(Datum::Text(element))) => {
                self.sets.entry(key).or_default().insert(element);
            }
            (Op::Remove, Some(Datum::Text(element))) => {
                self.sets.entry(key).or_default().remove(&element);
            }
            (Op::Contains, Some(Datum::Membership(mut asked))) => {
                let set = self.sets.entry(key).or_default();
                asked.present = Some(set.contains(&asked.element));
                record.value = Some(Datum::Membership(asked));
            }
            (Op::BatchGet, Some(Datum::Rows(mut rows))) => {
                for (key, held) in &mut rows {
                    let (value, version) = self.registers.get(key).cloned().unwrap_or_default();
                    (held.value, held.etag) = (value, etag(version));
                }
                record.value = Some(Datum::Rows(rows));
            }
            _ => self.read(record),
        }
    }

    /// The whole state of a key.
    fn read(&self, record: &mut Record) {
        let key = record.key.clone().unwrap();
        record.status = Status::Ok;
        match split_key(&key).0 {
            REGISTERS => {
                let (value, version) = self.registers.get(&key).cloned().unwrap_or_default();
                record.value = value.map(Datum::Text);
                record.etag = etag(version);
            }
            COUNTERS => {
                let total = self.counters.get(&key).copied().unwrap_or(0);
                record.value = Some(Datum::Integer(total));
            }
            SETS => {
                let members = self.sets.get(&key).cloned().unwrap_or_default();
                record.value = Some(Datum::Members(members.into_iter().collect()));
            }
            other => unreachable!("{other}"),
        }
    }
}

/// What happens next to a process or a request.
enum Event {
    /// It asks for something.
    Invoke(usize),
    /// What it asked for takes effect, and the reply is on its way.
    Effect(usize),
    /// The reply is there.
    Complete(usize),
    /// A write of which nobody heard takes effect.
    Late(Box<Record>),
}

/// A run of many clients on a [`Store`].
struct Run {
    random: Random,
    recipe: Recipe,
    levels: Levels,
    generator: Generator,
    store: Store,
    agenda: BTreeMap<(u64, u64), Event>,
    entered: u64,
    open: Vec<Option<Record>>,
    records: Vec<Record>,
}

impl Run {
    fn of(
        seed: u64,
        recipe: Recipe,
        levels: Levels,
        processes: usize,
        operations: usize,
    ) -> History {
        let mut run = Run {
            random: Random::new(seed),
            recipe,
            levels,
            generator: Generator::default(),
            store: Store::default(),
            agenda: BTreeMap::new(),
            entered: 0,
            open: vec![None; processes],
            records: Vec::new(),
        };
        for process in 0..processes {
            run.after(1 + process as u64, 50, Event::Invoke(process));
        }
        while run.records.len() < operations {
            let ((at, _), event) = run.agenda.pop_first().unwrap();
            run.happen(at, event);
        }
        run.end();
        History {
            records: run.records,
        }
    }

    /// Puts an event on the agenda, up to so many milliseconds after `now`, at a moment of its own.
    fn after(&mut self, now: u64, ms: u64, event: Event) {
        self.entered += 1;
        let at = now + 1 + self.random.below(ms * MS);
        self.agenda.insert((at, self.entered), event);
    }

    fn happen(&mut self, now: u64, event: Event) {
        match event {
            Event::Invoke(process) => self.invoke(now, process),
            Event::Late(mut record) => self.store.perform(&mut record),
            Event::Effect(process) => {
                let record = self.open[process].as_mut().unwrap();
                self.store.perform(record);
                self.after(now, 60, Event::Complete(process));
            }
            Event::Complete(process) => {
                let mut record = self.open[process].take().unwrap();
                record.complete_ns = Some(now);
                self.generator.seen(&record);
                self.records.push(record);
                self.after(now, 5, Event::Invoke(process));
            }
        }
    }

    fn invoke(&mut self, now: u64, process: usize) {
        let mix = self.levels.mix();
        let intent = self.generator.next(&mut self.random, &self.recipe, mix);
        let mut record = intent.record(process as u64, &format!("s{process}"), now);
        place(&mut record, process % 3, &intent);
        // Eventual ones are all served: of each moment some region is isolated.
        let may_be_lost = intent.op.is_write() && intent.level != Level::Eventual;
        let lost = may_be_lost && self.random.chance(UNKNOWN);
        if lost {
            record.receipt = None;
            if self.random.chance(500) {
                self.after(now, 3_000, Event::Late(Box::new(record.clone())));
            }
            self.after(now, 60, Event::Complete(process));
        } else {
            self.after(now, 60, Event::Effect(process));
        }
        self.open[process] = Some(record);
    }

    /// Final reads and digests.
    fn end(&mut self) {
        while let Some(((at, _), event)) = self.agenda.pop_first() {
            if !matches!(event, Event::Invoke(_)) {
                self.happen(at, event);
            }
        }
        let keys: BTreeSet<String> = self
            .records
            .iter()
            .filter(|r| !r.op.is_several())
            .filter_map(|r| r.key.clone())
            .collect();
        let ends = self.records.iter().filter_map(|r| r.complete_ns);
        let now = ends.max().unwrap();
        let seconds = now / (1_000 * MS);
        for second in 0..seconds {
            self.records.extend(REGIONS.map(|region| {
                let usage = UsageEvent {
                    memory: 20 << 20,
                    disk: 1 << 20,
                    files: 30,
                };
                usage.record(&format!("{region}-1"), second * 1_000 * MS)
            }));
            if second % 5 == 0 {
                self.records.push(fault(second));
            }
        }
        for key in &keys {
            for region in REGIONS {
                let mut record = Record::event(1_000_000, Op::Final, now + 10_000 * MS);
                record.key = Some(key.clone());
                record.region = Some(region.to_owned());
                record.complete_ns = Some(now + 10_001 * MS);
                self.store.read(&mut record);
                self.records.push(record);
            }
        }
    }
}

fn fault(second: u64) -> Record {
    let isolated = REGIONS[second as usize % 3];
    let others = REGIONS.iter().filter(|region| **region != isolated);
    let event = FaultEvent {
        nemesis: "region-isolation".into(),
        phase: Phase::Act,
        action: None,
        isolated: Some(vec![isolated.to_owned()]),
        majority: Some(true),
        connected: others.map(|region| (*region).to_owned()).collect(),
        impaired: Vec::new(),
    };
    event.record(second * 1_000 * MS, second * 1_000 * MS + 5)
}

/// Who is asked, and the receipt that would be true.
fn place(record: &mut Record, region: usize, intent: &Intent) {
    let (here, there) = (REGIONS[region], REGIONS[(region + 1) % 3]);
    let far = intent.level == Level::Strong || intent.ack_regions > 0;
    let regions = match (far, intent.ack_regions) {
        (_, 2) => REGIONS.to_vec(),
        (true, _) => vec![here, there],
        (false, _) => vec![here],
    };
    let node = format!("{here}-1");
    record.receipt = Some(json!({
        "level": intent.level, "staleness_ms": 0, "served_by": node, "served_in": here,
        "regions": regions, "durable_regions": regions, "wan_round_trips": u8::from(far),
    }));
    record.node = Some(node);
    record.region = Some(here.to_owned());
    if intent.tie == Tie::Keeps {
        record.token_out = Some("kept".to_owned());
    }
}

/// Judges with every checker, and says what each took.
fn judge_all(name: &str, history: &History) {
    println!("{name}: {} lines", history.records.len());
    for property in ALL {
        let start = Instant::now();
        let verdict = (property.check)(history);
        let spent = start.elapsed();
        println!("  {:<20} {spent:?}", property.name);
        assert_eq!(verdict, Verdict::Ok, "{name}: {}", property.name);
        assert!(spent < BOUND, "{name}: {}: {spent:?}", property.name);
    }
}

#[test]
fn five_minutes_of_a_real_run() {
    let history = Run::of(1, Workload::All.recipe(), Levels::Mixed, 30, 100_000);
    judge_all("all", &history);
}

#[test]
fn five_minutes_on_one_key_at_a_time() {
    let history = Run::of(2, Workload::MixedKey.recipe(), Levels::Mixed, 30, 100_000);
    judge_all("mixed-key", &history);
}

#[test]
fn five_minutes_of_strong_operations_on_one_key_at_a_time() {
    let history = Run::of(3, Workload::Contended.recipe(), Levels::Strong, 30, 100_000);
    judge_all("contended", &history);
}

/// Registers written at every level by 30 clients at a time, 100 operations each. Eventual writes enter the order that
/// strong operations see at any later time, or never; so do those of which nobody heard.
#[test]
fn a_hundred_thousand_operations_on_a_thousand_keys_with_late_joins() {
    let mut random = Random::new(4);
    let mut records = Vec::new();
    for key in 0..1_000 {
        register(&mut random, &format!("{REGISTERS}/k{key}"), &mut records);
    }
    let history = History { records };
    let unknown = history.records.iter().filter(|r| r.status == Status::Info);
    assert!(unknown.count() > 300);
    let begun = Instant::now();
    assert_eq!(linearizable::check(&history), Verdict::Ok);
    println!(
        "{} operations in {:?}",
        history.records.len(),
        begun.elapsed()
    );
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
}

fn register(random: &mut Random, key: &str, records: &mut Vec<Record>) {
    let mut store = Store::default();
    // By the moment at which each takes effect; about 30 are under way at once.
    let mut effects: BTreeMap<u64, (bool, Record)> = BTreeMap::new();
    for number in 0..100u64 {
        let invoke = 1_000 + 10 * number;
        let weak = random.chance(200);
        let level = if weak { Level::Eventual } else { Level::Strong };
        let mut record = Record::invoked(number, Op::Get, key, level, invoke);
        if weak || random.chance(500) {
            record.op = Op::Put;
            record.value = Some(Datum::Text(format!("v{number}")));
        }
        let unknown = record.op == Op::Put && random.chance(UNKNOWN);
        // Such a write is recorded as it is, and joins the order when it likes.
        let joins = weak || unknown;
        let late = random.below(if joins { 2_000 } else { 150 });
        record.complete_ns = Some(invoke + 151 + random.below(150));
        if joins {
            record.status = if weak { Status::Ok } else { Status::Info };
            records.push(record.clone());
        }
        if !joins || random.chance(600) {
            // Moments are distinct: the last digits are the operation's own.
            effects.insert((invoke + late) * 100 + number, (joins, record));
        }
    }
    for (joins, mut record) in effects.into_values() {
        store.perform(&mut record);
        if !joins {
            records.push(record);
        }
    }
}

/// One strong read in the middle shows what another write had replaced before it began.
#[test]
fn one_stale_read_among_a_hundred_thousand_operations_is_found_and_shown() {
    let recipe = Workload::Contended.recipe();
    let mut history = Run::of(5, recipe, Levels::Strong, 30, 100_000);
    let records = &history.records;
    let reads = |record: &Record| record.op == Op::Get && record.value.is_some();
    let stale = (50_000..).find(|at| reads(&records[*at])).unwrap();
    let read = &records[stale];
    let mut older = records[..stale].iter().filter(|write| {
        let done = write.op == Op::Put && write.status == Status::Ok;
        done && write.key == read.key && write.complete_ns < Some(read.invoke_ns)
    });
    let old = older.next().unwrap().clone();
    assert!(older.any(|newer| Some(newer.invoke_ns) > old.complete_ns));
    for version in [old.etag, None] {
        history.records[stale].value = old.value.clone();
        history.records[stale].etag = version;
        let begun = Instant::now();
        let verdict = linearizable::check(&history);
        println!("{:?}", begun.elapsed());
        let Verdict::Violation(violation) = verdict else {
            panic!("{verdict:?}");
        };
        assert!(violation.operations.contains(&stale), "{violation:?}");
        assert!(violation.operations.len() < 15, "{violation:?}");
        assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    }
}
