//! `hansa-jepsen`: try to refute what Hansa promises.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hansa_jepsen::commands;
use hansa_jepsen::sim::profile::Shape;

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
  hansa-jepsen model --schedules 100000   the strong register alone
Exit codes: 0 clean, 1 a violation (or a mutant that escaped), 2 wrong usage.";

#[derive(Subcommand)]
enum Command {
    /// The real core under a deterministic simulator, judged by every checker.
    Sim {
        /// How many seeds to run, from the first one on.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// Run this one seed only, and say more about it.
        #[arg(long)]
        seed: Option<u64>,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Bend the runs' shapes towards something.
        #[arg(long)]
        shape: Option<Shape>,
        /// Write the history of the (last) run to this file, as JSON lines.
        #[arg(long)]
        history: Option<PathBuf>,
    },
    /// The strong register alone under random schedules.
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
        /// Runs (or schedules of the register model, times 20) per mutant at most.
        #[arg(long, default_value_t = 2000)]
        budget: u64,
        /// Only mutants whose name contains this.
        #[arg(long)]
        only: Option<String>,
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

fn run(args: Args) -> anyhow::Result<bool> {
    match args.command {
        Command::Sim {
            seeds,
            seed,
            from,
            shape,
            history,
        } => {
            let file = history.map(File::create).transpose()?;
            let (first, count) = match seed {
                Some(seed) => (seed, 1),
                None => (from, seeds),
            };
            commands::sim(first, count, shape, seed.is_some(), file)
        }
        Command::Model { schedules, seed } => Ok(commands::model(schedules, seed)),
        #[cfg(feature = "mutants")]
        Command::Mutants { budget, only } => Ok(commands::mutants(budget, only.as_deref())),
    }
}
