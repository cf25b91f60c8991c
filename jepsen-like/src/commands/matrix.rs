//! `hansa-jepsen matrix`: every workload at every level under every fault, in simulation.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::planned;
use crate::matrix::{self, Options};
use crate::sim;

/// Which part of the matrix to run, and what to leave behind.
#[derive(Clone, Debug)]
pub struct MatrixOptions {
    /// No further cell is begun after this.
    pub budget: Option<Duration>,
    /// The seed of all cells.
    pub seed: u64,
    /// How long clients act in a cell, virtual milliseconds.
    pub load_ms: u64,
    /// Only cells whose name contains this.
    pub only: Option<String>,
    /// Where every cell is written.
    pub json: Option<PathBuf>,
}

/// Runs the matrix and prints it; the first red cell is shrunk. `true` when no cell is red and, if all cells were
/// asked for and run, every rare path of the core was taken.
///
/// # Errors
/// When no cell has the name asked for, or a file cannot be written.
pub fn matrix(options: &MatrixOptions) -> anyhow::Result<bool> {
    sim::quiet_panics();
    let run_one = planned::runner(None)?;
    let asked = Options {
        seed: options.seed,
        load_ms: options.load_ms,
        budget: options.budget,
        only: options.only.clone(),
    };
    let mut first_red = None;
    let mut violations = Vec::new();
    let matrix = matrix::run(&asked, run_one.clone(), |place, scenario, run| {
        let by = run
            .violations
            .first()
            .map_or("floor", |(by, _)| by.as_str());
        let replay = planned::replay(&place.choice(options.load_ms), options.seed);
        violations.push(format!("RED {}: {by}\n  replay: {replay}", place.name()));
        if !run.violations.is_empty() && first_red.is_none() {
            first_red = Some(scenario.clone());
        }
    });
    if matrix.cells.is_empty() {
        let part = options.only.as_deref().unwrap_or_default();
        anyhow::bail!("no cell's name contains {part:?}; a name is `register strong kill`");
    }
    print!("{}", matrix.table());
    for red in &violations {
        println!("{red}");
    }
    if let Some(scenario) = &first_red {
        let run = run_one(scenario);
        planned::shrink_and_print(scenario, &run, &run_one, planned::Left::default())?;
    }
    println!(
        "{} cells: {} green, {} red, {} not run, {} n/a; {:.0} virtual seconds in {:.1} s ({:.0} times real time)",
        matrix.cells.len(),
        matrix.count('.'),
        matrix.count('R'),
        matrix.count('-'),
        matrix.count('/'),
        matrix.virtual_seconds,
        matrix.seconds,
        matrix.virtual_seconds / matrix.seconds.max(1e-9),
    );
    for directed in &matrix.directed {
        for (property, explanation) in &directed.violations {
            println!("RED {}: {property}: {explanation}", directed.name);
        }
    }
    super::print_probes(|name| matrix.probes.get(name).copied().unwrap_or(0));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&matrix)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let whole = options.only.is_none() && matrix.count('-') == 0;
    Ok(matrix.is_clean() && (!whole || matrix.never_hit().is_empty()))
}
