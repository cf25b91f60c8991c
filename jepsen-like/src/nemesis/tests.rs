use std::collections::BTreeMap;

use super::*;

/// The smallest layout in which every kind differs from every other.
const LAYOUT: Layout = Layout {
    regions: 5,
    nodes_per_region: 1,
};

fn plan(kinds: &[Nemesis], seed: u64) -> Vec<Planned> {
    let load = Duration::from_secs(60);
    let plan = Plan::new(LAYOUT, kinds, load, &mut Random::new(seed));
    plan.planned().to_vec()
}

#[test]
fn every_kind_that_the_product_can_express_strikes_and_ends_in_time() {
    for kind in Nemesis::value_variants() {
        let planned = plan(&[*kind], 3);
        let strikes = *kind != Nemesis::Calm && kind.support() == Support::Yes;
        assert_eq!(!planned.is_empty(), strikes, "{kind:?}");
        assert!(planned.first().is_none_or(|first| first.begins), "{kind:?}");
        let last = planned.last().map_or(Duration::ZERO, |last| last.at);
        assert!(last < Duration::from_secs(70), "{kind:?} {last:?}");
    }
}

#[test]
fn the_same_seed_makes_the_same_plan() {
    let all = Nemesis::value_variants();
    assert_eq!(plan(all, 5), plan(all, 5));
    assert_ne!(plan(all, 5), plan(all, 6));
}

#[test]
fn what_is_cut_is_opened_again() {
    let kinds = [
        Nemesis::FullPartition,
        Nemesis::BridgePartition,
        Nemesis::RingPartition,
        Nemesis::RegionIsolation,
        Nemesis::Swizzle,
    ];
    for kind in kinds {
        let mut wires = BTreeMap::new();
        for planned in plan(&[kind], 9) {
            if let Action::Wire(from, to, wire) = planned.action {
                wires.insert((from, to), wire);
            }
        }
        assert!(!wires.is_empty(), "{kind:?}");
        assert!(wires.values().all(|wire| *wire == Wire::Open), "{kind:?}");
    }
}

#[test]
fn only_one_node_loses_what_it_had_synced() {
    let kinds: Vec<Nemesis> = Nemesis::value_variants()
        .iter()
        .copied()
        .filter(|kind| kind.destroys())
        .collect();
    for seed in 0..50 {
        let planned = plan(&kinds, seed);
        let victims: Vec<NodeIndex> = planned
            .iter()
            .filter_map(|it| match it.action {
                Action::Data(node, _) | Action::Clone(node) => Some(node),
                _ => None,
            })
            .collect();
        assert!(!victims.is_empty());
        assert!(victims.iter().all(|node| *node == victims[0]));
    }
}
