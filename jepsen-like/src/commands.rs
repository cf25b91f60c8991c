//! What the commands of `hansa-jepsen` do and print.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Instant;

use hansa_consistency::effect::Note;
use hansa_consistency::rules::Rules;

use crate::history::Status;
use crate::model::{self, ModelOptions};
use crate::sim::profile::{Profile, Shape};
use crate::sim::{self, Run};
use clap::ValueEnum;

/// Runs seeds of the simulator on all cores and reports; `true` when nothing was violated.
///
/// # Errors
/// When the history cannot be written.
pub fn sim(
    first: u64,
    count: u64,
    shape: Option<Shape>,
    detailed: bool,
    history: Option<File>,
) -> anyhow::Result<bool> {
    let begun = Instant::now();
    quiet_panics();
    let mut totals = Totals::default();
    let mut last = None;
    for run in in_parallel(first, count, shape) {
        totals.add(&run);
        if !run.violations.is_empty() {
            print_violations(&run, shape);
        }
        if detailed {
            println!("seed {} trace {:016x}", run.seed, run.trace);
        }
        last = Some(run);
    }
    if let (Some(run), Some(file)) = (last, history) {
        run.history.write(file)?;
    }
    totals.print(begun.elapsed().as_secs_f64());
    Ok(totals.violated == 0)
}

/// A violated assertion is reported as a violation of its seed; the default message would only be noise.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Runs seeds on as many threads as there are cores; results come in order of the seeds.
fn in_parallel(first: u64, count: u64, shape: Option<Shape>) -> impl Iterator<Item = Run> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let (sender, receiver) = std::sync::mpsc::sync_channel(64);
    for thread in 0..threads {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for seed in (first..first + count)
                .skip(thread as usize)
                .step_by(threads as usize)
            {
                let bend = |profile: &mut Profile| {
                    if let Some(shape) = shape {
                        shape.bend(profile);
                    }
                };
                let run = sim::run_shaped(seed, Rules::default(), bend);
                if sender.send(run).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut waiting: BTreeMap<u64, Run> = BTreeMap::new();
    let mut next = first;
    std::iter::from_fn(move || {
        loop {
            if let Some(run) = waiting.remove(&next) {
                next += 1;
                return Some(run);
            }
            let run = receiver.recv().ok()?;
            waiting.insert(run.seed, run);
        }
    })
}

fn print_violations(run: &Run, shape: Option<Shape>) {
    println!("seed {}:", run.seed);
    for (property, explanation) in &run.violations {
        println!(
            "  VIOLATED {property}: {}",
            explanation.replace('\n', "\n    ")
        );
    }
    let shape = shape.and_then(|shape| Some(shape.to_possible_value()?.get_name().to_owned()));
    let shape = shape.map_or_else(String::new, |name| format!(" --shape {name}"));
    let seed = run.seed;
    println!("  replay: hansa-jepsen sim --seed {seed}{shape} --history history.jsonl");
}

/// Sums over runs.
#[derive(Default)]
struct Totals {
    runs: u64,
    violated: u64,
    operations: BTreeMap<&'static str, u64>,
    notes: BTreeMap<Note, u64>,
    virtual_us: u64,
    steps: u64,
}

impl Totals {
    fn add(&mut self, run: &Run) {
        self.runs += 1;
        self.violated += u64::from(!run.violations.is_empty());
        self.virtual_us += run.virtual_us;
        self.steps += run.steps;
        for record in run.history.records.iter().filter(|r| r.op.is_client()) {
            let status = match record.status {
                Status::Ok => "ok",
                Status::Fail => "failed",
                Status::Info => "unknown",
            };
            *self.operations.entry(status).or_default() += 1;
        }
        for (note, count) in &run.notes {
            *self.notes.entry(*note).or_default() += count;
        }
    }

    fn print(&self, seconds: f64) {
        let virtual_s = self.virtual_us as f64 / 1e6;
        println!(
            "{} seeds, {:.0} virtual seconds in {seconds:.1} s ({:.0} times real time), {} steps",
            self.runs,
            virtual_s,
            virtual_s / seconds.max(1e-9),
            self.steps
        );
        println!("operations: {:?}", self.operations);
        let named: Vec<String> = Note::ALL
            .iter()
            .map(|note| format!("{} {}", note.name(), self.notes.get(note).unwrap_or(&0)))
            .collect();
        println!("paths: {}", named.join(", "));
        println!(
            "{} of {} seeds violated something",
            self.violated, self.runs
        );
    }
}

/// Runs the strong register alone under random schedules; `true` when nothing was violated.
#[must_use]
pub fn model(schedules: u64, seed: u64) -> bool {
    let begun = Instant::now();
    let report = model::run(ModelOptions {
        schedules,
        seed,
        ..ModelOptions::default()
    });
    println!("{report}");
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    report.violations.is_empty()
}

/// Schedules of the register model that one run of the simulator is worth.
#[cfg(feature = "mutants")]
const SCHEDULES_PER_RUN: u64 = 20;

/// Breaks one rule after the other and reports what caught it; `true` when none escaped.
///
/// The register model is asked first where it knows the rule: it is faster by far.
#[cfg(feature = "mutants")]
#[must_use]
pub fn mutants(budget: u64, only: Option<&str>) -> bool {
    use crate::sim::mutants::Candidate;
    use hansa_consistency::rules::Mutant;
    quiet_panics();
    let modelled = |name: &str| {
        let known = model::mutants();
        let found = known.iter().find(|(m, _)| format!("{m:?}") == name);
        found.map(|(mutant, _)| *mutant)
    };
    let mut candidates: Vec<Candidate> = Mutant::ALL.into_iter().map(Candidate::of).collect();
    candidates.push(Candidate::lying_sync());
    candidates.retain(|c| only.is_none_or(|part| c.name.contains(part)));
    let mut caught = 0;
    for candidate in &candidates {
        let begun = Instant::now();
        let by_model = modelled(&candidate.name)
            .and_then(|mutant| model::catch(mutant, budget * SCHEDULES_PER_RUN))
            .map(|found| {
                (
                    format!("model: {}", found.what),
                    found.schedules,
                    "schedules",
                )
            });
        let by_simulator = || {
            let found = candidate.catch(0, budget)?;
            Some((format!("sim: {}", found.by), found.after, "runs"))
        };
        let outcome = by_model.or_else(by_simulator);
        caught += usize::from(outcome.is_some());
        let seconds = begun.elapsed().as_secs_f64();
        let name = &candidate.name;
        match outcome {
            Some((by, after, unit)) => {
                let by = by.lines().next().unwrap_or_default();
                println!("{name:<36} caught after {after:>5} {unit:<9} {seconds:>5.1} s  {by}");
            }
            None => println!("{name:<36} ESCAPED {budget} runs, {seconds:.1} s"),
        }
    }
    println!("caught {caught} of {}", candidates.len());
    caught == candidates.len()
}
