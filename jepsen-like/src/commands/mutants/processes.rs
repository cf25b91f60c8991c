//! `hansa-jepsen mutants --processes`: the same table for rules broken in real processes.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;

use super::{Row, Verdict, close};
use crate::run::mutants::{Candidate, Search, Trial, all, check, known_to};

/// Rules broken in real processes.
#[derive(Args, Debug)]
pub struct ProcessArgs {
    /// Break the rules in real processes instead: those of processes and disks, and some of the core.
    #[arg(long, requires = "bin")]
    processes: bool,
    /// Of --processes: a `hansa` built with feature `mutants`.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Of --processes: rounds per mutant at most.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Of --processes: the seed of all rounds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of --processes: where histories and verdicts go, `RULE/broken` and `RULE/whole`.
    #[arg(long, default_value = "jepsen-mutants")]
    out: PathBuf,
}

impl ProcessArgs {
    /// Whether processes are to be asked.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.processes
    }

    fn trial(&self) -> anyhow::Result<Trial> {
        let program = self.bin.as_ref();
        let program =
            program.context("--processes needs --bin: a hansa built with feature mutants")?;
        Ok(Trial {
            program: program
                .canonicalize()
                .with_context(|| format!("there is no {}", program.display()))?,
            folder: self.out.clone(),
            seed: self.seed,
            rounds: self.rounds,
        })
    }
}

/// Breaks one rule after the other in real processes; `true` when each was noticed, or can not be looked for on this
/// machine, and every round with all rules in force was clean. The table is printed, and written to `json`.
///
/// # Errors
/// When the binary breaks no rules or others, no rule's name contains `only`, a cluster with all rules in force does
/// not start, or a file can not be written.
pub fn on_processes(
    args: &ProcessArgs,
    only: Option<&str>,
    json: Option<File>,
) -> anyhow::Result<bool> {
    let trial = args.trial()?;
    check(&known_to(&trial.program)?)?;
    let mut candidates = all();
    candidates.retain(|it| only.is_none_or(|part| it.name.contains(part)));
    if candidates.is_empty() {
        bail!("no rule broken on processes has a name with {only:?}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let rows = runtime.block_on(async {
        tokio::select! {
            rows = rows(&candidates, &trial) => rows,
            // What is dropped here ends its processes and mounts.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })?;
    if let Some(file) = json {
        serde_json::to_writer_pretty(file, &rows)?;
    }
    println!("histories in {}", trial.folder.display());
    let whole = |row: &Row| row.processes.iter().all(|it| it.control.is_empty());
    Ok(close(&rows) && rows.iter().all(whole))
}

async fn rows(candidates: &[Candidate], trial: &Trial) -> anyhow::Result<Vec<Row>> {
    println!(
        "{:<26} {:<50} real processes",
        "broken rule", "load and faults"
    );
    let mut rows = Vec::new();
    for candidate in candidates {
        let begun = Instant::now();
        let search = candidate.search(trial).await?;
        let verdict = verdict(candidate, search, trial, begun.elapsed().as_secs_f64());
        let cell = candidate.cell.describe();
        println!(
            "{:<26} {cell:<50} {}",
            candidate.name,
            verdict.describe("round")
        );
        rows.push(Row {
            rule: candidate.name.clone(),
            model: None,
            simulator: None,
            processes: Some(verdict),
        });
    }
    Ok(rows)
}

fn verdict(candidate: &Candidate, search: Search, trial: &Trial, seconds: f64) -> Verdict {
    let mut by = search.by.into_iter();
    let checker = by.next();
    let control = search.control.into_iter();
    Verdict {
        caught: checker.is_some(),
        runs: search.rounds.into(),
        checker,
        also: by.collect(),
        seed: Some(trial.seed),
        seconds,
        not_here: search.not_here,
        equivalent: candidate.equivalent.map(str::to_owned),
        control: control
            .map(|it| format!("{}: {}", it.property, it.explanation))
            .collect(),
    }
}
