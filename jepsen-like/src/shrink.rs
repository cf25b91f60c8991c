//! Shrinking: from a failing simulated run to a small one that fails in the same way.
//!
//! Planned faults are dropped by delta debugging (Zeller and Hildebrandt, 2002), then the load is shortened and
//! clients are taken away, over and over until nothing helps or the runs are used up. A run is a function of its
//! scenario, so the result is too.

use crate::nemesis::Planned;
use crate::sim::Run;
use crate::sim::scenario::Scenario;

/// Runs that one shrinking may take.
pub const RUNS_MAX: u64 = 200;
/// Shorter loads than this are not tried, milliseconds: nothing is done in them.
const LOAD_MS_MIN: u64 = 250;

/// What is left of a failing run.
#[derive(Debug)]
pub struct Shrunk {
    /// The smallest scenario found that fails.
    pub scenario: Scenario,
    /// Its run.
    pub run: Run,
    /// Runs it took.
    pub runs: u64,
    /// Whether the runs were used up before nothing helped any more.
    pub gave_up: bool,
}

/// Shrinks a run of this scenario that violated a property, with at most `budget` runs by `run`.
///
/// What is left violates the same property. `None` when the scenario itself does not.
pub fn shrink(
    scenario: &Scenario,
    property: &str,
    budget: u64,
    run: impl Fn(&Scenario) -> Run,
) -> Option<Shrunk> {
    let mut search = Search {
        property,
        budget,
        run: &run,
        runs: 0,
        best: (scenario.clone(), run(scenario)),
    };
    search.runs += 1;
    if !search.fails(&search.best.1) {
        return None;
    }
    loop {
        let before = search.best.0.clone();
        search.drop_faults();
        search.shorten_load();
        search.drop_clients();
        if search.best.0 == before || search.is_over() {
            break;
        }
    }
    Some(Shrunk {
        gave_up: search.is_over(),
        runs: search.runs,
        scenario: search.best.0,
        run: search.best.1,
    })
}

/// A search for something smaller.
struct Search<'a, F> {
    property: &'a str,
    budget: u64,
    run: &'a F,
    runs: u64,
    best: (Scenario, Run),
}

impl<F: Fn(&Scenario) -> Run> Search<'_, F> {
    fn fails(&self, run: &Run) -> bool {
        run.violations.iter().any(|(by, _)| by == self.property)
    }

    fn is_over(&self) -> bool {
        self.runs >= self.budget
    }

    /// Whether this one fails too: then it is the best so far.
    fn try_one(&mut self, scenario: Scenario) -> bool {
        if self.is_over() {
            return false;
        }
        self.runs += 1;
        let run = (self.run)(&scenario);
        let fails = self.fails(&run);
        if fails {
            self.best = (scenario, run);
        }
        fails
    }

    /// Drops ever smaller shares of the faults.
    fn drop_faults(&mut self) {
        let mut share = self.best.0.faults().len();
        while share > 0 && !self.is_over() {
            let mut from = 0;
            loop {
                let faults = self.best.0.faults();
                if from >= faults.len() {
                    break;
                }
                let upto = (from + share).min(faults.len());
                let rest: Vec<Vec<Planned>> = [&faults[..from], &faults[upto..]].concat();
                let smaller = self.best.0.with_faults(&rest);
                if !self.try_one(smaller) {
                    from = upto;
                }
            }
            share /= 2;
        }
    }

    /// Shortens the load; faults that would begin after it go with it.
    fn shorten_load(&mut self) {
        for (parts, of) in [(1, 4), (1, 2), (3, 4), (9, 10)] {
            loop {
                let load_ms = self.best.0.load_ms * parts / of;
                if load_ms < LOAD_MS_MIN {
                    break;
                }
                let begins = |fault: &Vec<Planned>| fault[0].at.as_millis() < u128::from(load_ms);
                let faults: Vec<_> = self.best.0.faults().into_iter().filter(begins).collect();
                let shorter = Scenario {
                    load_ms,
                    ..self.best.0.with_faults(&faults)
                };
                if !self.try_one(shorter) {
                    break;
                }
            }
        }
    }

    fn drop_clients(&mut self) {
        let mut processes = 1;
        while processes < self.best.0.processes {
            let fewer = Scenario {
                processes,
                ..self.best.0.clone()
            };
            if self.try_one(fewer) {
                return;
            }
            processes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::History;
    use crate::nemesis::{Action, Nemesis};
    use crate::sim::scenario::Choice;
    use crate::workload::{Levels, Workload};

    fn scenario() -> Scenario {
        let choice = Choice {
            workload: Workload::Register,
            levels: Levels::Strong,
            nemeses: vec![Nemesis::Kill, Nemesis::Pause, Nemesis::Delay],
            load_ms: 60_000,
        };
        choice.draw(1)
    }

    /// A run that violates `wanted` when a node is paused, two clients act and the load lasts two seconds.
    fn fake(scenario: &Scenario) -> Run {
        let paused = |it: &Planned| matches!(it.action, Action::Pause(_));
        let fails = scenario.planned.iter().any(paused)
            && scenario.processes >= 2
            && scenario.load_ms >= 2_000;
        let violations = match fails {
            true => vec![("wanted".to_owned(), String::new())],
            false => vec![("other".to_owned(), String::new())],
        };
        Run {
            seed: scenario.seed,
            history: History::default(),
            trace: 0,
            virtual_us: 0,
            steps: 0,
            notes: std::collections::BTreeMap::new(),
            refused: std::collections::BTreeMap::new(),
            violations,
        }
    }

    #[test]
    fn nothing_is_left_that_is_not_needed() {
        let scenario = scenario();
        let shrunk = shrink(&scenario, "wanted", RUNS_MAX, fake).unwrap();
        assert!(!shrunk.gave_up, "{} runs", shrunk.runs);
        let small = &shrunk.scenario;
        assert_eq!(small.faults().len(), 1);
        assert_eq!(small.faults()[0][0].of, Nemesis::Pause);
        assert_eq!(small.planned.len(), 2, "a fault keeps its end");
        assert_eq!(small.processes, 2);
        let begins_ms = small.planned[0].at.as_millis() as u64;
        assert!(small.load_ms < 2 * begins_ms.max(2_000), "{small:?}");
    }

    #[test]
    fn it_ends_when_the_runs_are_used_up_and_refuses_what_does_not_fail() {
        let scenario = scenario();
        let shrunk = shrink(&scenario, "wanted", 3, fake).unwrap();
        assert_eq!((shrunk.runs, shrunk.gave_up), (3, true));
        assert!(shrink(&scenario, "never", RUNS_MAX, fake).is_none());
    }
}
