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
    let whole = made(Workload::Scan, Levels::Session, 100);
    assert!(whole.iter().filter(|it| it.op == Op::Members).count() > 50);
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
