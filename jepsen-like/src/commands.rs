//! What the commands of `hansa-jepsen` do and print.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::ValueEnum;
use hansa_consistency::effect::Note;
use hansa_consistency::rules::Rules;

use crate::checker::{self, Verdict};
use crate::history::{History, Level, Status};
use crate::model::fence::{self, FenceOptions};
use crate::model::{self, ModelOptions};
use crate::sim::profile::Shape;
use crate::sim::{self, Run};

pub mod bench;
pub mod matrix;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod planned;
pub mod run;

/// Which runs of the simulator to do.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// The first seed.
    pub first: u64,
    /// How many from there on.
    pub count: u64,
    /// Bends every run, instead of the shape that its seed stands for.
    pub shape: Option<Shape>,
    /// The broken rule to run with.
    #[cfg(feature = "mutants")]
    pub mutant: Option<String>,
}

/// Runs seeds of the simulator on all cores and reports; `true` when nothing was violated.
///
/// The history written is that of the first run that violated something, else of the last.
///
/// # Errors
/// When the history cannot be written, or the broken rule asked for does not exist.
pub fn sim(seeds: &Seeds, history: Option<File>) -> anyhow::Result<bool> {
    let begun = Instant::now();
    sim::quiet_panics();
    let mut totals = Totals::default();
    let mut kept: Option<Run> = None;
    for run in sim::in_parallel(seeds.first, seeds.count, runner(seeds)?) {
        totals.add(&run);
        if !run.violations.is_empty() {
            print_violations(&run, seeds);
        }
        if seeds.count == 1 {
            println!("seed {} trace {:016x}", run.seed, run.trace);
        }
        if kept.as_ref().is_none_or(|kept| kept.violations.is_empty()) {
            kept = Some(run);
        }
    }
    if let (Some(run), Some(file)) = (kept, history) {
        run.history.write(file)?;
    }
    totals.print(begun.elapsed().as_secs_f64());
    let idle = totals.idle();
    for complaint in &idle {
        println!("VIOLATED floor: {complaint}");
    }
    Ok(totals.violated == 0 && idle.is_empty())
}

/// What runs one seed.
#[cfg(not(feature = "mutants"))]
fn runner(seeds: &Seeds) -> anyhow::Result<impl Fn(u64) -> Run + Clone + Send + 'static> {
    let shape = seeds.shape;
    Ok(move |seed| sim::run_shaped(seed, Rules::default(), shape, |_| {}))
}

/// What runs one seed.
#[cfg(feature = "mutants")]
fn runner(seeds: &Seeds) -> anyhow::Result<impl Fn(u64) -> Run + Clone + Send + 'static> {
    let shape = seeds.shape;
    let candidate = match &seeds.mutant {
        Some(name) => Some(mutants::named(name)?),
        None => None,
    };
    Ok(move |seed| match &candidate {
        Some(candidate) => candidate.run(seed, shape),
        None => sim::run_shaped(seed, Rules::default(), shape, |_| {}),
    })
}

fn print_violations(run: &Run, seeds: &Seeds) {
    println!("seed {}:", run.seed);
    for (property, explanation) in &run.violations {
        println!(
            "  VIOLATED {property}: {}",
            explanation.replace('\n', "\n    ")
        );
    }
    let mut replay = format!("{} sim --seed {}", invocation(), run.seed);
    if let Some(value) = seeds.shape.and_then(|shape| shape.to_possible_value()) {
        replay += &format!(" --shape {}", value.get_name());
    }
    #[cfg(feature = "mutants")]
    if let Some(mutant) = &seeds.mutant {
        replay += &format!(" --mutant {mutant}");
    }
    println!("  replay: {replay} --history history.jsonl");
}

/// How this program is called here: by its name when that is what a shell finds, else by the form that works
/// in the repository.
pub(crate) fn invocation() -> &'static str {
    let found = env::var_os("PATH").and_then(|path| {
        let mut folders = env::split_paths(&path);
        folders.find_map(|folder| folder.join("hansa-jepsen").canonicalize().ok())
    });
    let ours = env::current_exe().and_then(|exe| exe.canonicalize()).ok();
    match (found.is_some() && found == ours, cfg!(feature = "mutants")) {
        (true, _) => "hansa-jepsen",
        (false, true) => "cargo run --release -p hansa-jepsen --features mutants --",
        (false, false) => "cargo run --release -p hansa-jepsen --",
    }
}

/// Judges histories with every checker and prints a line per property; `true` when all hold in all of them.
///
/// # Errors
/// When a file cannot be read, or is not a history: names the file and the line.
pub fn check(files: &[PathBuf]) -> anyhow::Result<bool> {
    let mut clean = true;
    for path in files {
        let name = path.display();
        let history = read(path)?;
        println!("{name}: {} lines", history.records.len());
        for (property, verdict) in checker::check_all(&history) {
            clean &= verdict.is_ok();
            match verdict {
                Verdict::Ok => println!("  ok        {property}"),
                Verdict::Violation(violation) => {
                    println!("  VIOLATED  {}", violation.render(&history));
                }
                Verdict::Unknown { why } => println!("  UNDECIDED {property}: {why}"),
            }
        }
    }
    Ok(clean)
}

fn read(path: &Path) -> anyhow::Result<History> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    History::read(BufReader::new(file)).with_context(|| name.to_string())
}

/// Writes a history as EDN (docs/history-format.md), of one key only if one is given; always `true`.
///
/// # Errors
/// When a file cannot be read or written, when it is no history, and when it has no operation on the key.
pub fn export(path: &Path, edn: &Path, key: Option<&str>) -> anyhow::Result<bool> {
    let history = read(path)?;
    let of_key = |key| history.records.iter().any(|r| r.tells_of(key));
    if let Some(key) = key.filter(|key| !of_key(*key)) {
        bail!(
            "{}: no operation on key {key}; keys are KEYSPACE/KEY",
            path.display()
        );
    }
    let out = File::create(edn).with_context(|| format!("cannot write {}", edn.display()))?;
    let count = checker::edn::write(&history, key, out)?;
    println!("{}: {count} lines", edn.display());
    Ok(true)
}

/// Of each kind of operation at least so many must be done, percent. Under the worst shape it is about a third.
const FLOOR_PERCENT: u64 = 10;
/// Fewer operations of a kind than this, or fewer runs, tell nothing: one run may be all faults.
const FLOOR_JUDGED_FROM: u64 = 100;
/// See [`FLOOR_JUDGED_FROM`].
const FLOOR_RUNS: u64 = 20;

/// With so many runs a rare path that none of them took deserves a line of its own.
const PROBES_JUDGED_FROM: u64 = 500;

/// Prints how often each rare path of the core was taken, and which never.
fn print_probes(count: impl Fn(&str) -> u64) {
    println!("was this path hit:");
    for note in Note::ALL {
        let count = count(note.name());
        println!("  {:<20} {count}", note.name());
    }
    let missed: Vec<&str> = Note::ALL.iter().map(|note| note.name()).collect();
    let missed: Vec<&str> = missed.into_iter().filter(|name| count(name) == 0).collect();
    if !missed.is_empty() {
        println!("NEVER HIT: {}", missed.join(", "));
    }
}

/// Sums over runs.
#[derive(Default)]
struct Totals {
    runs: u64,
    violated: u64,
    operations: BTreeMap<&'static str, u64>,
    /// Operations done and asked for, by level and by whether they write.
    done: BTreeMap<(Level, bool), (u64, u64)>,
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
            if let Some(level) = record.level.filter(|_| !record.is_refused()) {
                let kind = (level, record.op.is_write());
                let (done, asked) = self.done.entry(kind).or_default();
                *done += u64::from(record.status == Status::Ok);
                *asked += 1;
            }
        }
        for (note, count) in &run.notes {
            *self.notes.entry(*note).or_default() += count;
        }
    }

    /// Kinds of operations of which nearly none was done: a core that refuses everything is not safe but useless.
    fn idle(&self) -> Vec<String> {
        let kinds = self.done.iter().filter(|_| self.runs >= FLOOR_RUNS);
        let idle = kinds.filter(|(_, (done, asked))| {
            *asked >= FLOOR_JUDGED_FROM && *done * 100 < *asked * FLOOR_PERCENT
        });
        let named = idle.map(|((level, writes), (done, asked))| {
            let kind = if *writes { "writes" } else { "reads" };
            format!("only {done} of {asked} {kind} at level {level:?} were done")
        });
        named.collect()
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
        let count = |note: &Note| self.notes.get(note).copied().unwrap_or(0);
        if self.runs >= PROBES_JUDGED_FROM {
            let by_name: BTreeMap<&str, u64> =
                Note::ALL.iter().map(|n| (n.name(), count(n))).collect();
            print_probes(|name| by_name.get(name).copied().unwrap_or(0));
        } else {
            let named = Note::ALL
                .iter()
                .map(|n| format!("{} {}", n.name(), count(n)));
            println!("paths: {}", named.collect::<Vec<_>>().join(", "));
        }
        println!(
            "{} of {} seeds violated something",
            self.violated, self.runs
        );
    }
}

/// Runs the strong register alone, then a region's logs and rosters alone, each under so many random schedules;
/// `true` when nothing was violated.
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
    let begun = Instant::now();
    let fence = fence::run(FenceOptions {
        schedules,
        seed,
        broken: None,
    });
    println!("{fence}");
    println!("{:.1} s", begun.elapsed().as_secs_f64());
    report.violations.is_empty() && fence.violation.is_none()
}
