use hansa_consistency::rules::Rules;

use super::*;

fn small(part: &str, seed: u64) -> Matrix {
    let options = Options {
        seed,
        load_ms: 3_000,
        budget: None,
        only: Some(part.to_owned()),
    };
    let run_one = |scenario: &Scenario| sim::run_scenario(scenario, Rules::default(), |_| {});
    run(&options, run_one, |_, _, _| {})
}

#[test]
fn it_has_every_workload_at_every_level_under_every_fault() {
    let places = Place::all();
    assert_eq!(places.len(), 10 * 4 * Nemesis::value_variants().len());
    let mut names: Vec<String> = places.iter().map(Place::name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), places.len());
}

#[test]
fn a_cell_is_green_when_everything_held_and_not_applicable_with_a_reason() {
    let matrix = small("register strong calm", 1);
    assert_eq!(matrix.cells.len(), 1);
    assert_eq!(matrix.cells[0].state, State::Green);
    assert!(matrix.cells[0].operations[0] > 10);
    let matrix = small("contended mixed membership", 1);
    assert_eq!(matrix.count('/'), 1);
    assert!(
        matrix
            .table()
            .contains("membership           1 n/a (issue 5)")
    );
}

#[test]
fn a_violation_and_a_run_in_which_nothing_was_done_are_red() {
    let options = Options {
        seed: 1,
        load_ms: 3_000,
        budget: None,
        only: Some("set eventual calm".to_owned()),
    };
    let mut seen = 0;
    let nothing = |scenario: &Scenario| {
        let mut run = sim::run_scenario(scenario, Rules::default(), |_| {});
        run.history.records.clear();
        run
    };
    let matrix = run(&options, nothing, |_, _, _| seen += 1);
    assert_eq!((matrix.count('R'), seen), (1, 1));
}

#[test]
fn what_the_time_did_not_suffice_for_is_not_run() {
    let options = Options {
        seed: 1,
        load_ms: 1_000,
        budget: Some(Duration::ZERO),
        only: Some("register strong".to_owned()),
    };
    let run_one = |scenario: &Scenario| sim::run_scenario(scenario, Rules::default(), |_| {});
    let matrix = run(&options, run_one, |_, _, _| {});
    assert!(matrix.count('-') > 20, "{}", matrix.table());
    assert!(!matrix.never_hit().is_empty());
}
