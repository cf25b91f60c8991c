//! `hansa-jepsen mutants`: breaks one rule after the other, and reports who noticed.

use std::time::Instant;

use anyhow::bail;
use hansa_consistency::rules::Mutant;

use super::invocation;
use crate::model;
use crate::sim::mutants::Candidate;
use crate::sim::quiet_panics;

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

/// Breaks one rule after the other and asks the register model, where it knows the rule, and the simulator;
/// `true` when each was noticed by at least one of them.
///
/// # Errors
/// When no rule's name contains `only`.
pub fn mutants(budget: u64, only: Option<&str>) -> anyhow::Result<bool> {
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
    let known = model::mutants();
    println!("{:<34} {:<44} simulator", "broken rule", "register model");
    let (mut escaped, mut model_only) = (Vec::new(), Vec::new());
    for candidate in &candidates {
        let name = candidate.name.as_str();
        let modelled = known.iter().find(|(m, _)| format!("{m:?}") == name);
        let by_model = modelled.map(|(mutant, _)| ask_model(*mutant, budget));
        let begun = Instant::now();
        let by_simulator = candidate.catch(budget);
        let seconds = begun.elapsed().as_secs_f64();
        match (
            &by_simulator,
            by_model.as_ref().is_some_and(|(caught, _)| *caught),
        ) {
            (None, true) => model_only.push(name),
            (None, false) => escaped.push(name),
            (Some(_), _) => {}
        }
        let column = by_model.map_or_else(|| "-".to_owned(), |(_, text)| text);
        match by_simulator {
            Some(found) => println!(
                "{name:<34} {column:<44} seed {} in {seconds:.1} s: {}",
                found.seed, found.by
            ),
            None => println!("{name:<34} {column:<44} NOT in {budget} runs, {seconds:.1} s"),
        }
    }
    for (what, names) in [
        ("escaped", &escaped),
        ("noticed by the model only", &model_only),
    ] {
        if !names.is_empty() {
            println!("{what}: {}", names.join(", "));
        }
    }
    println!("replay: {} sim --mutant RULE --seed SEED", invocation());
    println!(
        "caught {} of {}",
        candidates.len() - escaped.len(),
        candidates.len()
    );
    Ok(escaped.is_empty())
}

/// Whether the register model notices, and what to print.
fn ask_model(mutant: Mutant, budget: u64) -> (bool, String) {
    let schedules = budget * SCHEDULES_PER_RUN;
    match model::catch(mutant, schedules) {
        Some(found) => {
            let what = found.what.lines().next().unwrap_or_default();
            let what: String = what.chars().take(24).collect();
            (true, format!("schedule {}: {what}", found.schedules))
        }
        None => (false, format!("NOT in {schedules} schedules")),
    }
}
