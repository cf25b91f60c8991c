//! Planned runs of the simulator: a scenario is a run, faults do what they say, and what fails is made small.

use hansa_consistency::rules::Rules;
use hansa_jepsen::history::{Datum, Level, Op, Record, Status};
use hansa_jepsen::nemesis::Nemesis;
use hansa_jepsen::sim::scenario::{Choice, Scenario};
use hansa_jepsen::sim::{Run, run_scenario};
use hansa_jepsen::workload::{Levels, Workload};

fn choice(workload: Workload, levels: Levels, nemeses: &[Nemesis]) -> Choice {
    Choice {
        workload,
        levels,
        nemeses: nemeses.to_vec(),
        load_ms: 8_000,
    }
}

fn run(scenario: &Scenario) -> Run {
    run_scenario(scenario, Rules::default(), |_| {})
}

#[test]
fn the_same_scenario_is_the_same_run_also_when_read_from_a_file() {
    let all = choice(
        Workload::All,
        Levels::Mixed,
        &[Nemesis::Kill, Nemesis::Pause, Nemesis::Jitter],
    );
    let scenario = all.draw(3);
    let text = serde_json::to_string(&scenario).unwrap();
    let again: Scenario = serde_json::from_str(&text).unwrap();
    assert_eq!(scenario, again);
    let (one, two) = (run(&scenario), run(&again));
    assert_eq!((one.trace, &one.history), (two.trace, &two.history));
    assert_ne!(one.trace, run(&all.draw(4)).trace);
}

#[test]
fn composed_faults_are_survived_and_most_operations_done() {
    let nemeses = [
        [Nemesis::RegionIsolation, Nemesis::ClockDrift],
        [Nemesis::HalfOpen, Nemesis::TornWrite],
        [Nemesis::OldCopy, Nemesis::SlowDrip],
        [Nemesis::FailedSync, Nemesis::Swizzle],
        [Nemesis::BitFlip, Nemesis::SlowCpu],
    ];
    for pair in nemeses {
        let run = run(&choice(Workload::All, Levels::Mixed, &pair).draw(1));
        assert!(run.violations.is_empty(), "{pair:?}: {:?}", run.violations);
        assert!(run.refused.is_empty());
        let done = run.history.records.iter();
        let done = done.filter(|r| r.op.is_client() && r.status == Status::Ok);
        assert!(done.count() > 50, "{pair:?}");
    }
}

#[test]
fn what_the_simulator_cannot_do_is_named() {
    let run = run(&choice(Workload::Register, Levels::Strong, &[Nemesis::ClonedNode]).draw(1));
    let why = &run.refused[&Nemesis::ClonedNode];
    assert!(why.contains("one process per node"), "{why}");
}

/// When, kind, phase, regions that are cut off, whether a majority is connected.
type FaultLine = (u64, String, String, Vec<String>, bool);

/// The fault lines of a history; `None` when one does not say what it has to.
fn fault_lines(history: &[Record]) -> Option<Vec<FaultLine>> {
    let read = |record: &Record| {
        let Some(Datum::Json(value)) = &record.value else {
            return None;
        };
        let text = |value: &serde_json::Value| Some(value.as_str()?.to_owned());
        Some((
            record.invoke_ns,
            text(&value["nemesis"])?,
            text(&value["phase"])?,
            value["isolated"]
                .as_array()?
                .iter()
                .map(text)
                .collect::<Option<_>>()?,
            value["majority"].as_bool()?,
        ))
    };
    let lines = history.iter().filter(|record| record.op == Op::Nemesis);
    lines.map(read).collect()
}

#[test]
fn an_isolated_region_is_named_and_serves_eventual_but_no_strong_operations() {
    let mut isolations = 0;
    for seed in 1..=4 {
        let scenario = choice(
            Workload::Register,
            Levels::Mixed,
            &[Nemesis::RegionIsolation],
        )
        .draw(seed);
        let history = run(&scenario).history.records;
        let lines = fault_lines(&history).unwrap();
        assert_eq!(lines[0].1, "region-isolation");
        assert_eq!(lines[0].2, "begin");
        assert!(
            lines.iter().all(|line| line.4),
            "two of three regions stay connected"
        );
        assert_eq!(lines.last().unwrap().2, "end");
        for (at, cut) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| !line.3.is_empty())
        {
            // From when the last wire is cut until the first is open again.
            let Some(next) = lines.get(at + 1).filter(|next| next.3.is_empty()) else {
                continue;
            };
            isolations += 1;
            let inside = |record: &&Record| {
                record.region.as_ref() == Some(&cut.3[0])
                    && record.invoke_ns > cut.0
                    && record.complete_ns.is_some_and(|end| end < next.0)
                    && record.op.is_client()
            };
            for record in history.iter().filter(inside) {
                let ok = record.status == Status::Ok;
                match record.level {
                    Some(Level::Eventual) => assert!(ok, "{}", record.describe()),
                    // Every operation of a quorum in a region alone ends without one.
                    Some(Level::Strong) => assert!(!ok, "{}", record.describe()),
                    _ => {}
                }
            }
        }
    }
    assert!(isolations > 2, "{isolations}");
}

#[test]
fn a_cut_through_every_link_leaves_no_majority() {
    let scenario = choice(Workload::Register, Levels::Strong, &[Nemesis::Swizzle]).draw(1);
    let lines = fault_lines(&run(&scenario).history.records).unwrap();
    assert!(lines.iter().any(|line| !line.4), "{lines:?}");
}

#[cfg(feature = "mutants")]
mod broken {
    use super::*;
    use hansa_consistency::rules::Mutant;
    use hansa_jepsen::shrink::shrink;

    /// Fewer than the command takes: enough to drop every fault that is not needed.
    const BUDGET: u64 = 25;

    fn broken(scenario: &Scenario) -> Run {
        run_scenario(scenario, Rules::without(Mutant::PromiseIgnored), |_| {})
    }

    #[test]
    fn a_failing_run_shrinks_to_a_smaller_one_that_fails_the_same_way() {
        let faults = [Nemesis::PowerCut, Nemesis::Loss, Nemesis::FullPartition];
        let choice = choice(Workload::Register, Levels::Mixed, &faults);
        let drawn = (1..=100).map(|seed| choice.draw(seed));
        let mut failing = drawn.filter_map(|scenario| {
            let property = broken(&scenario).violations.first()?.0.clone();
            Some((scenario, property))
        });
        // Some runs need every fault that they have.
        let smaller = failing.find_map(|(scenario, property)| {
            let shrunk = shrink(&scenario, &property, BUDGET, broken).unwrap();
            assert!(shrunk.runs <= BUDGET);
            let fewer = shrunk.scenario.faults().len() < scenario.faults().len();
            fewer.then_some((scenario, property, shrunk))
        });
        let (scenario, property, shrunk) = smaller.expect("no seed of a hundred fails and shrinks");
        assert!(shrunk.scenario.load_ms <= scenario.load_ms);
        let again = broken(&shrunk.scenario);
        assert_eq!(again.trace, shrunk.run.trace);
        assert!(again.violations.iter().any(|(by, _)| *by == property));
        let once_more = shrink(&scenario, &property, BUDGET, broken).unwrap();
        assert_eq!(once_more.scenario, shrunk.scenario);
        // With the rule in force there is nothing to shrink.
        assert!(shrink(&scenario, &property, BUDGET, run).is_none());
    }

    #[test]
    fn planned_faults_show_broken_rules() {
        let caught = |mutant, workload, levels, nemeses: &[Nemesis]| {
            let choice = choice(workload, levels, nemeses);
            (1..=60).any(|seed| {
                let scenario = choice.draw(seed);
                let run = run_scenario(&scenario, Rules::without(mutant), |_| {});
                !run.violations.is_empty()
            })
        };
        let (all, mixed) = (Workload::Contended, Levels::Mixed);
        assert!(caught(
            Mutant::MergeAtAccept,
            all,
            mixed,
            &[Nemesis::FullPartition]
        ));
        let counters = Workload::CounterIds;
        assert!(caught(Mutant::NoDedup, counters, mixed, &[Nemesis::Loss]));
        let (sessions, session) = (Workload::Sessions, Levels::Session);
        assert!(caught(
            Mutant::PushesOverGap,
            sessions,
            session,
            &[Nemesis::Loss]
        ));
    }
}
