use super::*;

fn options(schedules: u64, seed: u64) -> ModelOptions {
    ModelOptions {
        schedules,
        seed,
        ..ModelOptions::default()
    }
}

#[test]
fn random_schedules_are_clean_and_take_every_path() {
    let report = run(options(2000, 1));
    assert!(report.violations.is_empty(), "{}", report.violations[0]);
    assert_eq!(report.schedules, 2000);
    assert!(report.completed > 5 * report.schedules, "{report}");
    for taken in [
        report.reads_one_round_trip,
        report.reads_helped,
        report.reads_absorbed,
        report.readmitted,
        report.unknown,
    ] {
        assert!(taken > 50, "{report}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(run(options(50, 7)), run(options(50, 7)));
    assert_ne!(
        run(options(50, 7)).trace_hash,
        run(options(50, 8)).trace_hash
    );
    let lines = trace(7, Rules::default());
    assert!(lines.len() > 100);
    assert_eq!(lines, trace(7, Rules::default()));
}

#[test]
fn the_script_proves_nothing_against_the_rules() {
    assert_eq!(script::commit_above_accepted(Rules::default()), None);
}

#[cfg(feature = "mutants")]
#[test]
fn every_broken_rule_is_noticed() {
    for (mutant, what) in mutants() {
        assert!(catch(mutant, 20_000).is_some(), "{mutant:?}: {what}");
    }
}
