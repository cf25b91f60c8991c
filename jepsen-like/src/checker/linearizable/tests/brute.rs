//! Agreement with a checker that shares nothing with the real one but the definition: it tries every order of the
//! operations that had to take effect and of those that may have, and plays each on a plain value.

use super::*;

/// A plain value and what is true of it.
#[derive(Clone, Default)]
struct Plain {
    value: Option<String>,
    version: Option<String>,
    total: i64,
    present: bool,
}

impl Plain {
    /// Plays an operation; false if its answer is not the one that this state gives.
    fn play(&mut self, record: &Record) -> bool {
        match record.op {
            Op::Put => self.store(record.text(), record),
            Op::Delete => self.store(None, record),
            Op::Get => {
                let named = record.value.is_none() && record.etag.is_some();
                let value = record.text().map(str::to_owned) == self.value;
                return value && (!named || record.etag == self.version);
            }
            Op::Cas => {
                let swap = record.swap().unwrap();
                let holds = match &swap.expect {
                    Expect::Absent => self.value.is_none(),
                    Expect::Value(value) => self.value.as_ref() == Some(value),
                    Expect::Etag(version) => self.version.as_ref() == Some(version),
                };
                if record.is_refused() {
                    return !holds && (record.etag.is_none() || record.etag == self.version);
                }
                if holds {
                    self.store(Some(&swap.new), record);
                }
                return holds;
            }
            Op::Incr => self.total += record.integer().unwrap(),
            Op::Read => return record.integer() == Some(self.total),
            Op::Add => self.present = true,
            Op::Remove => self.present = false,
            Op::Contains => {
                return matches!(&record.value, Some(Datum::Membership(m)) if m.present == Some(self.present));
            }
            _ => unreachable!(),
        }
        true
    }

    fn store(&mut self, value: Option<&str>, record: &Record) {
        self.value = value.map(str::to_owned);
        // A lost reply has no version; the operation's own number stands for it.
        let hidden = format!("hidden {}", record.process);
        self.version = Some(record.etag.clone().unwrap_or(hidden));
    }
}

fn required(record: &Record) -> bool {
    record.level == Some(Strong) && (record.status == Status::Ok || record.is_refused())
}

/// Whether the operations in `left` can follow `state`.
fn brute(state: &Plain, left: &[Record]) -> bool {
    if !left.iter().any(required) {
        return true;
    }
    let bound = left
        .iter()
        .filter(|r| required(r))
        .map(|r| r.complete_ns.unwrap())
        .min()
        .unwrap();
    (0..left.len()).any(|at| {
        let mut next = state.clone();
        if left[at].invoke_ns > bound || !next.play(&left[at]) {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(at);
        brute(&next, &rest)
    })
}

/// Operations that take effect in order, with intervals around, and sometimes one lie.
fn random(rng: &mut Rng, kind: Kind) -> Vec<Record> {
    let mut state = Plain::default();
    let mut records: Vec<Record> = Vec::new();
    let (mut values, mut acked) = (Vec::new(), Vec::new());
    let width = 1 + rng.below(40);
    for n in 0..3 + rng.below(5) {
        let moment = 50 + 10 * n;
        let level = if rng.chance(30) { Eventual } else { Strong };
        let mut record = op(
            n,
            Op::Get,
            level,
            moment - rng.below(width),
            moment + 1 + rng.below(width),
        );
        let write = rng.chance(50) || level == Eventual;
        record = match (kind, write) {
            (Kind::Register, false) => answer(rng, &state, record, &values, &acked, n),
            (Kind::Register, true) => {
                record.op = if rng.chance(75) { Op::Put } else { Op::Delete };
                record.value = (record.op == Op::Put).then(|| Datum::Text(format!("w{n}")));
                record.etag(&format!("v{n}"))
            }
            (Kind::Counter, false) => Record {
                op: Op::Read,
                ..record
            }
            .int(state.total),
            (Kind::Counter, true) => {
                let strong = UNIT * (1 + rng.below(2) as i64);
                Record {
                    op: Op::Incr,
                    ..record
                }
                .int(if level == Strong { strong } else { 1 << n })
            }
            (Kind::Set, false) => Record {
                op: Op::Contains,
                ..record
            }
            .value(asked("x", state.present)),
            (Kind::Set, true) => {
                let op = if rng.chance(50) { Op::Add } else { Op::Remove };
                Record { op, ..record }.text("x")
            }
        };
        if record.op.is_write() && !record.is_refused() && rng.chance(15) {
            record = record.info();
        }
        if required(&record) || rng.chance(60) {
            state.play(&record);
        }
        if record.op.is_write() && record.status == Status::Ok {
            acked.push(record.etag.clone().unwrap_or_default());
        }
        values.extend(record.stores().map(str::to_owned));
        records.push(record);
    }
    for _ in 0..rng.below(4) {
        lie(rng, &mut records, &values);
    }
    records.sort_by_key(|record| record.invoke_ns);
    records
}

/// A get or compare-and-set as the state answers it.
fn answer(
    rng: &mut Rng,
    state: &Plain,
    record: Record,
    values: &[String],
    acked: &[String],
    n: u64,
) -> Record {
    // Only versions that some reply told are used; hidden ones nobody can name.
    let version = state
        .version
        .clone()
        .filter(|version| acked.contains(version));
    if rng.chance(50) {
        let value = state.value.clone().map(Datum::Text);
        let etag = version.filter(|_| rng.chance(50));
        return Record {
            value,
            etag,
            ..record
        };
    }
    let pick = |rng: &mut Rng, from: &[String]| from[rng.below(from.len() as u64) as usize].clone();
    let expect = match (&state.value, &version) {
        (Some(value), _) if rng.chance(40) => Expect::Value(value.clone()),
        (_, Some(version)) if rng.chance(40) => Expect::Etag(version.clone()),
        _ if !values.is_empty() && rng.chance(40) => Expect::Value(pick(rng, values)),
        _ if !acked.is_empty() && rng.chance(40) => Expect::Etag(pick(rng, acked)),
        _ => Expect::Absent,
    };
    let record = Record {
        op: Op::Cas,
        ..record
    }
    .value(swap(expect, &format!("w{n}")))
    .etag(&format!("v{n}"));
    if state.clone().play(&record) {
        return record;
    }
    let etag = version.filter(|_| rng.chance(50));
    Record {
        etag,
        ..record.refused()
    }
}

/// Changes one answer or one interval.
fn lie(rng: &mut Rng, records: &mut [Record], values: &[String]) {
    let at = rng.below(records.len() as u64) as usize;
    let record = &mut records[at];
    if rng.chance(50) {
        let invoke = rng.below(120);
        record.invoke_ns = invoke;
        record.complete_ns = Some(invoke + 1 + rng.below(20));
        return;
    }
    match record.op {
        Op::Get => {
            record.etag = None;
            record.value = None;
            if !values.is_empty() && rng.chance(80) {
                let value = &values[rng.below(values.len() as u64) as usize];
                record.value = Some(Datum::Text(value.clone()));
            }
        }
        Op::Read => {
            let total = record.integer().unwrap();
            let off = if rng.chance(50) {
                UNIT
            } else {
                1 << rng.below(4)
            };
            record.value = Some(Datum::Integer((total - off).max(0)));
        }
        Op::Contains => {
            let Some(Datum::Membership(asked)) = &mut record.value else {
                unreachable!("a membership question has its answer");
            };
            asked.present = asked.present.map(|present| !present);
        }
        _ => {}
    }
}

fn agree(kind: Kind, seed: u64, rounds: u32) {
    let mut rng = Rng(seed);
    let mut good = 0;
    for round in 0..rounds {
        let records = random(&mut rng, kind);
        let expected = brute(&Plain::default(), &records);
        let whole = history(records);
        let keys = index::by_key(&whole);
        let mut objects = keys.iter().flat_map(Object::of);
        let answer =
            objects.all(
                |object| match object.answer(&object.operations, &mut 1_000_000) {
                    Answer::Order => true,
                    Answer::None { .. } => false,
                    Answer::Unknown(why) => panic!("{why}"),
                },
            );
        assert_eq!(
            answer,
            expected,
            "round {round}: {:#?}",
            whole
                .records
                .iter()
                .map(Record::describe)
                .collect::<Vec<_>>()
        );
        good += u32::from(expected);
    }
    println!("{kind:?}: {good} of {rounds} have an order");
    assert!(
        good > rounds / 4 && good < rounds * 9 / 10,
        "{good} of {rounds}"
    );
}

#[test]
fn registers_agree_with_brute_force() {
    agree(Kind::Register, 1, 6_000);
}

#[test]
fn counters_agree_with_brute_force() {
    agree(Kind::Counter, 2, 3_000);
}

#[test]
fn elements_agree_with_brute_force() {
    agree(Kind::Set, 3, 3_000);
}
