use super::*;

fn made(workload: Workload, levels: Levels, count: usize) -> Vec<Intent> {
    let mut random = Random::new(7);
    let mut generator = Generator::default();
    let recipe = workload.recipe();
    let next = |_| generator.next(&mut random, &recipe, levels.mix());
    (0..count).map(next).collect()
}

#[test]
fn values_are_unique_and_amounts_name_their_increment() {
    let all = made(Workload::All, Levels::Mixed, 4000);
    let mut seen = std::collections::BTreeSet::new();
    for intent in all.iter().filter(|it| it.op.is_write()) {
        let fresh = match &intent.value {
            Some(Datum::Text(text)) if intent.op == Op::Put => Some(text.clone()),
            Some(Datum::Swap(swap)) => Some(swap.new.clone()),
            Some(Datum::Integer(amount)) if *amount < STRONG_UNIT => Some(amount.to_string()),
            _ => None,
        };
        if let Some(fresh) = fresh {
            assert!(seen.insert((intent.key.clone(), fresh)), "{intent:?}");
        }
    }
    assert!(seen.len() > 500, "{}", seen.len());
}

#[test]
fn a_workload_keeps_to_its_types_levels_and_keys() {
    for intent in made(Workload::Contended, Levels::Strong, 500) {
        assert_eq!(intent.address().0, REGISTERS);
        assert_eq!(intent.level, Level::Strong);
    }
    let keys = |workload| {
        let intents = made(workload, Levels::Mixed, 100);
        let keys: std::collections::BTreeSet<_> = intents.into_iter().map(|it| it.key).collect();
        keys.len()
    };
    assert_eq!(keys(Workload::MixedKey), 1);
    assert!(keys(Workload::ManyKeys) > 50);
    let scans = made(Workload::Scan, Levels::Session, 1000);
    let count = |op| scans.iter().filter(|it| it.op == op).count();
    assert!(count(Op::Members) > 100, "{}", count(Op::Members));
    assert!(count(Op::Scan) > 100, "{}", count(Op::Scan));
}

#[test]
fn increments_carry_request_ids_or_not_as_the_workload_says() {
    let writes = |workload| {
        let intents = made(workload, Levels::Mixed, 300).into_iter();
        intents.filter(|it| it.op.is_write())
    };
    assert!(writes(Workload::Counter).all(|it| !it.identified));
    assert!(writes(Workload::CounterIds).all(|it| it.identified));
}

#[test]
fn scans_cover_rows_and_keyspaces_and_are_never_strong() {
    let mut random = Random::new(7);
    let mut generator = Generator::prefixed("r3-");
    let recipe = Workload::Scan.recipe();
    let mut shapes = std::collections::BTreeSet::new();
    let mut registers = std::collections::BTreeSet::new();
    let mut covered = 0;
    for _ in 0..4000 {
        let intent = generator.next(&mut random, &recipe, Levels::Mixed.mix());
        match intent.op {
            Op::Scan => {
                assert_ne!(intent.level, Level::Strong);
                let (space, name) = intent.address();
                assert_eq!(space, REGISTERS);
                assert!(name.starts_with("r3-g"), "{name}");
                let (_, sort) = split_row(name);
                shapes.insert((name.contains('/'), sort.to_owned()));
                let from = registers.range(intent.key.clone()..);
                covered += from
                    .take_while(|key: &&String| key.starts_with(&intent.key))
                    .count();
            }
            Op::Put => {
                let (_, name) = intent.address();
                assert!(ROWS.contains(&split_row(name).1) || intent.key.starts_with(SETS));
                registers.insert(intent.key);
            }
            _ => {}
        }
    }
    let all = [(false, ""), (true, ""), (true, "a"), (true, "b")];
    assert_eq!(
        shapes,
        all.map(|(rows, sort)| (rows, sort.to_owned())).into()
    );
    assert!(covered > 200, "{covered}");
}

#[test]
fn batches_ask_for_several_keys_of_the_moment() {
    for (workload, most) in [
        (Workload::ManyKeys, 6),
        (Workload::All, 2),
        (Workload::Scan, 6),
    ] {
        let intents = made(workload, Levels::Mixed, 3000);
        let batches = intents.iter().filter(|it| it.op == Op::BatchGet);
        let mut sizes = std::collections::BTreeSet::new();
        for batch in batches.clone() {
            let Some(Datum::Rows(rows)) = &batch.value else {
                panic!("{batch:?}");
            };
            sizes.insert(rows.len());
            assert!(rows.values().all(|held| *held == Held::default()));
            assert!(rows.keys().all(|key| key.starts_with(&batch.key)));
        }
        assert_eq!(sizes, (2..=most).collect(), "{workload:?}");
        assert!(batches.filter(|it| it.level == Level::Strong).count() > 10);
        let keys: std::collections::BTreeSet<&str> = intents
            .iter()
            .filter(|it| it.op == Op::Put)
            .map(|it| it.key.as_str())
            .collect();
        let known = |batch: &&Intent| {
            let Some(Datum::Rows(rows)) = &batch.value else {
                return false;
            };
            rows.keys().all(|key| keys.contains(key.as_str()))
        };
        let batches = || intents.iter().filter(|it| it.op == Op::BatchGet);
        assert!(
            batches().filter(known).count() * 2 > batches().count(),
            "{workload:?}"
        );
    }
}

/// What `service Kv` has and no operation is: it carries all the others, and the SDK goes through it.
const CARRIERS: [&str; 1] = ["Pipe"];

#[test]
fn every_verb_of_the_service_is_in_some_workload() {
    let proto = include_str!("../../../proto/proto/hansa/v1/kv.proto");
    let service = proto.split("service Kv {").nth(1).unwrap();
    let service = service.split("\n}").next().unwrap();
    let calls = service.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("rpc ")?;
        rest.split('(').next()
    });
    let calls: std::collections::BTreeSet<&str> = calls.collect();
    assert!(calls.len() > 5, "{calls:?}");
    let workloads = Workload::value_variants().iter();
    let intents = workloads.flat_map(|workload| made(*workload, Levels::Mixed, 2000));
    let mut done: std::collections::BTreeSet<&str> =
        intents.map(|it| verb(it.op).unwrap()).collect();
    done.extend(CARRIERS);
    assert_eq!(calls, done, "verbs of the service, and those in workloads");
}
