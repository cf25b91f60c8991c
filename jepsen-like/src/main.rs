//! `hansa-jepsen`: try to refute what Hansa promises.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use hansa_jepsen::commands::matrix::MatrixOptions;
use hansa_jepsen::commands::planned::PlannedRuns;
use hansa_jepsen::commands::{self, Seeds};
use hansa_jepsen::nemesis::Nemesis;
use hansa_jepsen::sim::profile::Shape;
use hansa_jepsen::sim::scenario::Choice;
use hansa_jepsen::workload::{Levels, Workload};

#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hansa-jepsen sim --seeds 500            500 seeded runs of the core under faults
  hansa-jepsen sim --seed 42              one of them, in detail
  hansa-jepsen sim --seed 42 --seeds 10   ten of them, from that one on
  hansa-jepsen sim --workload register --levels strong --nemesis kill,clock-jump --seed 7
  hansa-jepsen matrix                     every workload at every level under every fault
  hansa-jepsen run --time 300             real processes under all workloads and faults
  hansa-jepsen bench --target hansa,etcd  throughput, latency and cost, side by side
  hansa-jepsen check history.jsonl        judge a history, of a run or of anything else
  hansa-jepsen export history.jsonl --edn history.edn   for Jepsen's own tools
  hansa-jepsen model --schedules 100000   the strong register alone, and a region's logs alone
Exit codes: 0 clean, 1 a violation or an undecided property (or a mutant that escaped), 2 wrong usage or no
history.";

/// Simulated runs in the vocabulary that all engines share, instead of the drawn chaos.
#[derive(clap::Args)]
struct PlannedArgs {
    /// What clients do.
    #[arg(long)]
    workload: Option<Workload>,
    /// At which levels.
    #[arg(long)]
    levels: Option<Levels>,
    /// Which faults, composed; separated by commas.
    #[arg(long, value_delimiter = ',')]
    nemesis: Vec<Nemesis>,
    /// How long clients act, virtual seconds; 10 if not given.
    #[arg(long)]
    load_seconds: Option<u64>,
    /// Run exactly this plan, as a shrunk run wrote it.
    #[arg(long, conflicts_with_all = ["workload", "levels", "nemesis", "seeds"])]
    plan: Option<PathBuf>,
    /// Write the smallest plan that still fails here.
    #[arg(long)]
    shrunk: Option<PathBuf>,
}

impl PlannedArgs {
    /// The runs asked for, if any of it was said.
    fn runs(self, seeds: &Seeds) -> Option<PlannedRuns> {
        let drawn = self.workload.is_some() || self.levels.is_some() || !self.nemesis.is_empty();
        if !drawn && self.plan.is_none() {
            return None;
        }
        let choice = Choice {
            workload: self.workload.unwrap_or(Workload::All),
            levels: self.levels.unwrap_or(Levels::Mixed),
            nemeses: self.nemesis,
            load_ms: self.load_seconds.unwrap_or(10) * 1000,
        };
        Some(PlannedRuns {
            choice,
            plan: self.plan,
            first: seeds.first,
            count: seeds.count,
            shrunk: self.shrunk,
            #[cfg(feature = "mutants")]
            mutant: seeds.mutant.clone(),
            #[cfg(not(feature = "mutants"))]
            mutant: None,
        })
    }
}

#[derive(Subcommand)]
enum Command {
    /// The real core under a deterministic simulator, judged by every checker.
    Sim {
        /// How many seeds to run: 100, or 1 when --seed is given.
        #[arg(long)]
        seeds: Option<u64>,
        /// The first seed.
        #[arg(long, alias = "from")]
        seed: Option<u64>,
        /// Bend every run towards something, instead of what its seed stands for.
        #[arg(long)]
        shape: Option<Shape>,
        /// Write the history of the first run that violates something (else of the last) here, as JSON lines.
        #[arg(long)]
        history: Option<PathBuf>,
        /// Break this rule, in the shape in which it matters.
        #[cfg(feature = "mutants")]
        #[arg(long)]
        mutant: Option<String>,
        #[command(flatten)]
        planned: PlannedArgs,
    },
    /// Every workload at every level under every fault, one simulated run each; exits with 1 when one is red or a
    /// rare path of the core was never taken.
    Matrix {
        /// Begin no further cell after so many seconds; what is left counts as not run.
        #[arg(long)]
        budget_seconds: Option<u64>,
        /// The seed of all cells.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How long clients act in a cell, virtual seconds.
        #[arg(long, default_value_t = 10)]
        load_seconds: u64,
        /// Only cells whose `WORKLOAD LEVELS NEMESIS` contains this.
        #[arg(long)]
        only: Option<String>,
        /// Write every cell and every probe here.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Real processes under load and faults, judged by every checker.
    Run(commands::run::RunArgs),
    /// As run, for hours; it can be taken up again.
    Soak(commands::run::SoakArgs),
    /// How fast it is, beside a peer (docs/benchmarks.md); with --bars exits with 1 where one is missed.
    Bench(commands::bench::BenchArgs),
    /// Judges histories with every checker; exits with 1 when one is not proved clean.
    Check {
        /// Histories (docs/history-format.md).
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Writes a history as EDN, for Jepsen's own tools and others that read its histories.
    Export {
        /// The history (docs/history-format.md).
        file: PathBuf,
        /// Where to write the EDN.
        #[arg(long)]
        edn: PathBuf,
        /// Only the operations on this key.
        #[arg(long)]
        key: Option<String>,
    },
    /// The strong register alone, and a region's logs alone, under random schedules.
    Model {
        /// How many schedules.
        #[arg(long, default_value_t = 100_000)]
        schedules: u64,
        /// The first one's seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Breaks the protocol's rules on purpose, one at a time, and reports which checker caught it.
    #[cfg(feature = "mutants")]
    Mutants {
        /// Runs per mutant at most, and 20 times as many schedules of the register model.
        #[arg(long, default_value_t = 3000)]
        budget: u64,
        /// Only mutants whose name contains this.
        #[arg(long)]
        only: Option<String>,
        /// Write the table here: every rule, who noticed it, and after how many runs.
        #[arg(long)]
        json: Option<PathBuf>,
        #[command(flatten)]
        processes: commands::mutants::ProcessArgs,
    },
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("hansa-jepsen: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn create(path: PathBuf) -> anyhow::Result<File> {
    File::create(&path).with_context(|| format!("cannot write {}", path.display()))
}

fn run(args: Args) -> anyhow::Result<bool> {
    match args.command {
        Command::Sim {
            seeds,
            seed,
            shape,
            history,
            #[cfg(feature = "mutants")]
            mutant,
            planned,
        } => {
            let file = history.map(create).transpose()?;
            let seeds = Seeds {
                first: seed.unwrap_or(1),
                count: seeds.unwrap_or(if seed.is_some() { 1 } else { 100 }),
                shape,
                #[cfg(feature = "mutants")]
                mutant,
            };
            match planned.runs(&seeds) {
                Some(runs) => commands::planned::planned(&runs, file),
                None => commands::sim(&seeds, file),
            }
        }
        Command::Matrix {
            budget_seconds,
            seed,
            load_seconds,
            only,
            json,
        } => commands::matrix::matrix(&MatrixOptions {
            budget: budget_seconds.map(Duration::from_secs),
            seed,
            load_ms: load_seconds * 1000,
            only,
            json,
        }),
        Command::Run(args) => commands::run::run(args),
        Command::Soak(args) => commands::run::soak(args),
        Command::Bench(args) => commands::bench::bench(&args),
        Command::Check { files } => commands::check(&files),
        Command::Export { file, edn, key } => commands::export(&file, &edn, key.as_deref()),
        Command::Model { schedules, seed } => Ok(commands::model(schedules, seed)),
        #[cfg(feature = "mutants")]
        Command::Mutants {
            budget,
            only,
            json,
            processes,
        } => {
            let json = json.map(create).transpose()?;
            match processes.asked() {
                true => commands::mutants::on_processes(&processes, only.as_deref(), json),
                false => commands::mutants::mutants(budget, only.as_deref(), json),
            }
        }
    }
}
