//! `hansa-jepsen sim` with a workload, levels and faults of the shared vocabulary, or with a plan from a file.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
#[cfg(not(feature = "mutants"))]
use hansa_consistency::rules::Rules;

use super::{Totals, invocation};
use crate::nemesis::Nemesis;
use crate::shrink::{self, Shrunk};
use crate::sim::scenario::{Choice, Scenario};
use crate::sim::{self, Run};

/// Which planned runs of the simulator to do.
#[derive(Clone, Debug)]
pub struct PlannedRuns {
    /// What the scenarios are drawn from; not asked when there is a plan.
    pub choice: Choice,
    /// A scenario to run instead of drawn ones.
    pub plan: Option<PathBuf>,
    /// The first seed.
    pub first: u64,
    /// How many from there on.
    pub count: u64,
    /// Where the smallest plan that still fails is written; `None`: into the folder for temporary files.
    pub shrunk: Option<PathBuf>,
    /// The broken rule to run with.
    pub mutant: Option<String>,
}

/// Runs the scenarios on all cores and reports; `true` when nothing was violated. The first that violates
/// something is shrunk.
///
/// The history written is that of the shrunk run, or of the last one when none violates anything.
///
/// # Errors
/// When the plan cannot be read, a file cannot be written, or the broken rule asked for does not exist.
pub fn planned(runs: &PlannedRuns, history: Option<File>) -> anyhow::Result<bool> {
    let begun = Instant::now();
    sim::quiet_panics();
    let read = runs.plan.as_deref().map(read).transpose()?;
    let count = if read.is_some() { 1 } else { runs.count };
    let run_one = runner(runs.mutant.as_deref())?;
    let (choice, first) = (runs.choice.clone(), runs.first);
    let make = {
        let (run_one, read) = (run_one.clone(), read.clone());
        move |place: u64| {
            let scenario = match &read {
                Some(scenario) => scenario.clone(),
                None => choice.draw(first + place),
            };
            let run = run_one(&scenario);
            (scenario, run)
        }
    };
    let mut totals = Totals::default();
    let mut kept: Option<Run> = None;
    for (place, (scenario, run)) in (0..).zip(sim::in_order(count, make)) {
        totals.add(&run);
        let failed_before = kept
            .as_ref()
            .is_some_and(|kept| !kept.violations.is_empty());
        if count == 1 {
            describe(&scenario, &run);
        }
        if !run.violations.is_empty() {
            println!("seed {}:", first + place);
            print_violations(&run);
            let replay = match &runs.plan {
                Some(path) => format!("{} sim --plan {}", invocation(), path.display()),
                None => replay(&runs.choice, first + place),
            };
            println!("  replay: {replay}{}", mutant_option(runs));
        }
        if !run.violations.is_empty() && !failed_before {
            let left = Left {
                plan: runs.shrunk.as_deref(),
                options: &mutant_option(runs),
            };
            let shrunk = shrink_and_print(&scenario, &run, &run_one, left)?;
            kept = Some(shrunk.unwrap_or(run));
        } else if !failed_before {
            kept = Some(run);
        }
    }
    if let (Some(run), Some(file)) = (kept, history) {
        run.history.write(file)?;
    }
    totals.print(begun.elapsed().as_secs_f64());
    Ok(totals.violated == 0)
}

fn mutant_option(runs: &PlannedRuns) -> String {
    let name = runs.mutant.as_ref();
    name.map_or_else(String::new, |name| format!(" --mutant {name}"))
}

/// Reads a scenario, as the shrinking wrote it.
fn read(path: &Path) -> anyhow::Result<Scenario> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no plan", path.display()))
}

/// What runs one scenario.
#[cfg(not(feature = "mutants"))]
pub(super) fn runner(
    mutant: Option<&str>,
) -> anyhow::Result<impl Fn(&Scenario) -> Run + Clone + Send + 'static> {
    anyhow::ensure!(
        mutant.is_none(),
        "this build has no broken rules: use --features mutants"
    );
    Ok(move |scenario: &Scenario| sim::run_scenario(scenario, Rules::default(), |_| {}))
}

/// What runs one scenario.
#[cfg(feature = "mutants")]
pub(super) fn runner(
    mutant: Option<&str>,
) -> anyhow::Result<impl Fn(&Scenario) -> Run + Clone + Send + 'static> {
    let candidate = match mutant {
        Some(name) => Some(super::mutants::named(name)?),
        None => None,
    };
    Ok(move |scenario: &Scenario| match &candidate {
        Some(candidate) => candidate.run_scenario(scenario),
        None => sim::run_scenario(scenario, hansa_consistency::rules::Rules::default(), |_| {}),
    })
}

/// The command that runs a drawn scenario again.
pub(super) fn replay(choice: &Choice, seed: u64) -> String {
    let nemeses: Vec<String> = choice.nemeses.iter().map(|it| Nemesis::name(*it)).collect();
    format!(
        "{} sim --workload {} --levels {} --nemesis {} --load-seconds {} --seed {seed}",
        invocation(),
        choice.workload.name(),
        choice.levels.name(),
        nemeses.join(","),
        choice.load_ms / 1000,
    )
}

fn describe(scenario: &Scenario, run: &Run) {
    println!(
        "layout {}x{}, {} clients, {} faults, trace {:016x}",
        scenario.layout.regions,
        scenario.layout.nodes_per_region,
        scenario.processes,
        scenario.faults().len(),
        run.trace
    );
    for (nemesis, why) in &run.refused {
        println!("n/a {}: {why}", nemesis.name());
    }
}

fn print_violations(run: &Run) {
    for (property, explanation) in &run.violations {
        let explanation = explanation.replace('\n', "\n    ");
        println!("  VIOLATED {property}: {explanation}");
    }
}

/// What a shrinking leaves behind.
#[derive(Clone, Copy, Default)]
pub(super) struct Left<'a> {
    /// Where the plan is written; `None`: into the folder for temporary files.
    pub(super) plan: Option<&'a Path>,
    /// What the replay needs beside the plan.
    pub(super) options: &'a str,
}

/// Shrinks a failing run, prints what is left of it and writes its plan. Returns its run.
///
/// # Errors
/// When the plan cannot be written.
pub(super) fn shrink_and_print(
    scenario: &Scenario,
    run: &Run,
    run_one: impl Fn(&Scenario) -> Run,
    left: Left<'_>,
) -> anyhow::Result<Option<Run>> {
    let Some((property, _)) = run.violations.first() else {
        return Ok(None);
    };
    let Some(shrunk) = shrink::shrink(scenario, property, shrink::RUNS_MAX, run_one) else {
        println!(
            "  not shrunk: a second run did not violate {property}; please report it as a bug"
        );
        return Ok(None);
    };
    let Shrunk {
        scenario: small,
        run,
        runs,
        gave_up,
    } = shrunk;
    println!(
        "shrunk in {runs} runs{}: {} of {} faults, {} of {} clients, {} of {} ms of load",
        if gave_up { " (all there are)" } else { "" },
        small.faults().len(),
        scenario.faults().len(),
        small.processes,
        scenario.processes,
        small.load_ms,
        scenario.load_ms,
    );
    for planned in &small.planned {
        println!("  {:>6} ms {}", planned.at.as_millis(), planned.action);
    }
    print_violations(&run);
    let default = env::temp_dir().join(format!("hansa-jepsen-plan-{}.json", small.seed));
    let path = left.plan.map_or(default, Path::to_owned);
    let text = serde_json::to_string_pretty(&small)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "  replay: {} sim --plan {}{}",
        invocation(),
        path.display(),
        left.options
    );
    Ok(Some(run))
}
