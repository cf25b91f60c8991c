//! `hansa-jepsen mutants`: breaks one rule after the other, and reports who noticed.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Instant;

use anyhow::bail;
use hansa_consistency::rules::Mutant;
use serde::Serialize;

use super::invocation;
use crate::model;
use crate::sim::mutants::Candidate;
use crate::sim::quiet_panics;

mod processes;

pub use processes::{ProcessArgs, on_processes};

/// Schedules of the register model that one run of the simulator is worth.
const SCHEDULES_PER_RUN: u64 = 20;

/// The broken rule of this name.
///
/// # Errors
/// When there is none: names them all.
pub fn named(name: &str) -> anyhow::Result<Candidate> {
    let mut all = Candidate::all();
    let Some(at) = all.iter().position(|candidate| candidate.name == name) else {
        bail!("no broken rule is called {name}; there are {}", names(&all));
    };
    Ok(all.swap_remove(at))
}

fn names(candidates: &[Candidate]) -> String {
    let names: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
    names.join(", ")
}

/// Who looked for a broken rule, and what came of it.
#[derive(Clone, Debug, Serialize)]
struct Verdict {
    /// Whether it was noticed.
    caught: bool,
    /// Runs or schedules until then; all that were allowed when it was not noticed.
    runs: u64,
    /// The checker that noticed; of the register model what went wrong.
    checker: Option<String>,
    /// What else the same run violated.
    also: Vec<String>,
    /// The seed of that run.
    seed: Option<u64>,
    /// How long it took, seconds.
    seconds: f64,
    /// What this machine lacks to look for it.
    not_here: Option<String>,
    /// Where it is proved that no run can tell.
    equivalent: Option<String>,
    /// What was wrong although all rules were in force.
    control: Vec<String>,
}

impl Verdict {
    /// Whether it was looked for in vain, and should have been found.
    fn escaped(&self) -> bool {
        !self.caught && self.not_here.is_none() && self.equivalent.is_none()
    }

    /// In one line; a `piece` is what was tried again and again.
    fn describe(&self, piece: &str) -> String {
        let (runs, seconds) = (self.runs, self.seconds);
        let checker = self.checker.as_deref().unwrap_or_default();
        let mut text = match (&self.not_here, self.caught) {
            (Some(why), _) => format!("not possible here: {why}"),
            (None, true) => format!("{piece} {runs}, {seconds:.1} s: {checker}"),
            (None, false) => format!("NOT in {runs} {piece}s, {seconds:.1} s"),
        };
        if let Some(proof) = &self.equivalent {
            text += &format!(" (no run can tell: docs/mutants.md, {proof})");
        }
        for wrong in &self.control {
            text += &format!("\n    with all rules in force: {wrong}");
        }
        text
    }
}

/// A row of the table: a broken rule and who noticed.
#[derive(Clone, Debug, Serialize)]
struct Row {
    /// The rule.
    rule: String,
    /// The register model; `None` where it does not know the rule.
    model: Option<Verdict>,
    /// The simulator; `None` where it was not asked.
    simulator: Option<Verdict>,
    /// Real processes; `None` where they were not asked.
    processes: Option<Verdict>,
}

impl Row {
    fn made(candidate: &Candidate, budget: u64) -> Row {
        let rule = candidate.name.clone();
        let known = model::mutants();
        let modelled = known.iter().find(|(m, _)| format!("{m:?}") == rule);
        Row {
            model: modelled.map(|(mutant, _)| ask_model(*mutant, budget)),
            simulator: Some(ask_simulator(candidate, budget)),
            processes: None,
            rule,
        }
    }

    /// Who was asked.
    fn asked(&self) -> impl Iterator<Item = &Verdict> {
        let all = [&self.model, &self.simulator, &self.processes];
        all.into_iter().flatten()
    }

    fn escaped(&self) -> bool {
        self.asked().all(Verdict::escaped)
    }

    fn model_alone(&self) -> bool {
        let caught = |it: &Option<Verdict>| it.as_ref().is_some_and(|it| it.caught);
        caught(&self.model) && !caught(&self.simulator) && !caught(&self.processes)
    }

    fn print(&self) {
        let model = match &self.model {
            None => "-".to_owned(),
            Some(it) if it.caught => {
                let what = it.checker.as_deref().unwrap_or_default();
                let what: String = what.chars().take(24).collect();
                format!("schedule {}: {what}", it.runs)
            }
            Some(it) => format!("NOT in {} schedules", it.runs),
        };
        let simulator = self.simulator.as_ref().map(|it| it.describe("run"));
        let simulator = simulator.unwrap_or_else(|| "-".to_owned());
        println!("{:<34} {model:<44} {simulator}", self.rule);
    }
}

/// Breaks one rule after the other and asks the register model, where it knows the rule, and the simulator;
/// `true` when each was noticed by at least one of them. The table is printed, and written to `json`.
///
/// # Errors
/// When no rule's name contains `only`, or the table cannot be written.
pub fn mutants(budget: u64, only: Option<&str>, json: Option<File>) -> anyhow::Result<bool> {
    quiet_panics();
    let mut candidates = Candidate::all();
    let all = names(&candidates);
    candidates.retain(|c| only.is_none_or(|part| c.name.contains(part)));
    if candidates.is_empty() {
        bail!(
            "no broken rule's name contains {}; there are {all}",
            only.unwrap_or_default()
        );
    }
    println!("{:<34} {:<44} simulator", "broken rule", "register model");
    let mut rows = Vec::new();
    for candidate in &candidates {
        let row = Row::made(candidate, budget);
        row.print();
        rows.push(row);
    }
    if let Some(file) = json {
        serde_json::to_writer_pretty(file, &rows)?;
    }
    let caught = close(&rows);
    println!("replay: {} sim --mutant RULE --seed RUN", invocation());
    Ok(caught)
}

/// Prints what the rows come to; `true` when no rule escaped.
fn close(rows: &[Row]) -> bool {
    print_checkers(rows);
    let named = |which: fn(&Row) -> bool| {
        let names = rows.iter().filter(|row| which(row));
        names.map(|row| row.rule.as_str()).collect::<Vec<_>>()
    };
    let escaped = named(Row::escaped);
    for (what, names) in [
        ("escaped", &escaped),
        ("noticed by the model only", &named(Row::model_alone)),
    ] {
        if !names.is_empty() {
            println!("{what}: {}", names.join(", "));
        }
    }
    let caught = rows.iter().filter(|row| row.asked().any(|it| it.caught));
    println!("caught {} of {}", caught.count(), rows.len());
    escaped.is_empty()
}

/// Prints how many broken rules each checker noticed first, in the simulator or on real processes, and how many runs
/// that took at most.
fn print_checkers(rows: &[Row]) {
    let mut by_checker: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in rows {
        for verdict in [&row.simulator, &row.processes].into_iter().flatten() {
            if let Some(checker) = &verdict.checker {
                let (rules, most) = by_checker.entry(checker).or_default();
                *rules += 1;
                *most = (*most).max(verdict.runs);
            }
        }
    }
    println!("{:<24} rules  runs at most", "noticed first by");
    for (checker, (rules, most)) in by_checker {
        println!("{checker:<24} {rules:>5}  {most:>5}");
    }
}

fn ask_simulator(candidate: &Candidate, budget: u64) -> Verdict {
    let begun = Instant::now();
    let found = candidate.catch(budget);
    let seconds = begun.elapsed().as_secs_f64();
    match found {
        Some(found) => Verdict {
            caught: true,
            runs: found.after,
            checker: Some(found.by),
            also: found.also,
            seed: Some(found.seed),
            seconds,
            not_here: None,
            equivalent: None,
            control: Vec::new(),
        },
        None => Verdict {
            caught: false,
            runs: budget,
            checker: None,
            also: Vec::new(),
            seed: None,
            seconds,
            not_here: None,
            equivalent: None,
            control: Vec::new(),
        },
    }
}

fn ask_model(mutant: Mutant, budget: u64) -> Verdict {
    let begun = Instant::now();
    let schedules = budget * SCHEDULES_PER_RUN;
    let found = model::catch(mutant, schedules);
    let what = |what: &str| what.lines().next().unwrap_or_default().to_owned();
    Verdict {
        caught: found.is_some(),
        runs: found.as_ref().map_or(schedules, |found| found.schedules),
        checker: found.map(|found| what(&found.what)),
        also: Vec::new(),
        seed: None,
        seconds: begun.elapsed().as_secs_f64(),
        not_here: None,
        equivalent: None,
        control: Vec::new(),
    }
}
