//! The simulator itself: the same seed is the same run, and what is broken is noticed.

use hansa_consistency::rules::Rules;
use hansa_jepsen::sim::profile::Shape;
use hansa_jepsen::sim::{run, run_shaped};

#[test]
fn the_same_seed_gives_the_same_trace_and_history() {
    for seed in 1..=6 {
        let (one, two) = (run(seed, Rules::default()), run(seed, Rules::default()));
        assert_eq!(one.trace, two.trace, "seed {seed}");
        assert_eq!(one.history, two.history, "seed {seed}");
        assert_ne!(one.trace, run(seed + 100, Rules::default()).trace);
    }
}

#[test]
fn a_few_seeds_are_clean_and_most_of_their_operations_are_done() {
    for seed in 1..=6 {
        let run = run(seed, Rules::default());
        assert!(
            run.violations.is_empty(),
            "seed {seed}: {:?}",
            run.violations
        );
        assert!(run.history.records.len() > 50, "seed {seed}");
    }
}

#[test]
fn a_disk_whose_sync_does_nothing_is_noticed() {
    let lying = |seed| {
        run_shaped(seed, Rules::default(), Some(Shape::Crashing), |profile| {
            profile.lying_sync = true;
        })
    };
    let noticed = (1..=20).find(|seed| !lying(*seed).violations.is_empty());
    assert!(noticed.is_some());
}
