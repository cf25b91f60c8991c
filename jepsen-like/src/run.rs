//! A run on real processes: load, faults, healing, liveness, verdict.
//!
//! A run is a row of *rounds*. Each has a [`Cell`] (workload, levels, kinds of fault), a plan of faults drawn from its
//! seed, keys of its own, and a history of its own that is judged by itself. Rounds follow each other on one cluster
//! until a disk was destroyed or enough of them were done; then a fresh one is started.
//!
//! A round has two phases. First clients act while faults strike: safety. Then everything is healed, and within a bound
//! every operation has ended, lag is zero and all replicas are equal: liveness.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::nemesis::{Layout, Nemesis};
use crate::random::Random;
use crate::target::Target;
use crate::workload::{Levels, Workload};

mod afterwards;
mod cell;
mod forgive;
mod gauge;
mod load;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod outcome;
mod pace;
pub mod progress;
mod round;
mod shipping;
mod strikes;
#[cfg(test)]
mod tests;

pub use cell::{Cell, Deck};
pub use outcome::{Outcome, Round};

use outcome::Finding;
use pace::Pace;
use strikes::Struck;

/// Rounds on one cluster before a fresh one takes over.
const ROUNDS_PER_CLUSTER: u32 = 6;
/// How long a fresh cluster may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything that varies is drawn from it.
    pub seed: u64,
    /// The workloads of which each round has one.
    pub workloads: Vec<Workload>,
    /// The levels of which each round has one.
    pub levels: Vec<Levels>,
    /// The kinds of fault of which each round has one or several.
    pub nemeses: Vec<Nemesis>,
    /// The whole run; a round that has begun is finished.
    pub time: Duration,
    /// The load of one round, at most.
    pub round: Duration,
    /// Rounds that are wanted within the time: loads are made shorter for it, to a quarter at most. 0 for any number.
    pub rounds: u32,
    /// Clients that ask each node at the beginning of a round.
    pub clients_per_node: usize,
    /// Longest pause of a client between two operations.
    pub think: Duration,
    /// An operation is given up after this.
    pub deadline: Duration,
    /// How long after healing everything must be quiet and equal.
    pub settle_within: Duration,
    /// Where histories and the verdict go.
    pub folder: PathBuf,
    /// What all keys begin with: something new for each run on a cluster that lives on.
    pub prefix: String,
    /// Histories of clean rounds that are kept, the newest ones; those of other rounds all are.
    pub keep: usize,
    /// What was asked for on the command line, by option: written into the verdict, and the same when it is taken up.
    pub asked: BTreeMap<String, String>,
    /// What an earlier run in this folder, of the same seed and options, has done: it is taken up there.
    pub done: Option<Outcome>,
}

/// Runs rounds until the time is over. `start` starts a fresh cluster for the rounds of these kinds of fault.
///
/// Histories are written as `history-NNNN.jsonl`, the verdict so far as `verdict.json`, as each round ends.
///
/// # Errors
/// When the run to take up had other options, the first cluster can not be started or a file not be written. A later
/// cluster that can not be started is a round that is not clean, and the last one. What a round finds wrong is in the outcome.
pub async fn run<T: Target>(
    options: &Options,
    mut start: impl AsyncFnMut(&[Nemesis]) -> anyhow::Result<T>,
    mut told: impl FnMut(&Round),
) -> anyhow::Result<Outcome> {
    fs::create_dir_all(&options.folder)
        .with_context(|| format!("can not make the folder {}", options.folder.display()))?;
    if let Some(done) = &options.done {
        done.is_continued_by(&options.asked)?;
    }
    let mut deck = Deck::new(options);
    let mut course = Course::new(options);
    for _ in &course.outcome.rounds {
        deck.draw();
    }
    while course.goes_on() {
        let cells = deck.upcoming(ROUNDS_PER_CLUSTER as usize);
        let kinds: Vec<Nemesis> = cells.iter().flat_map(|cell| cell.nemeses.clone()).collect();
        let mut target = match ready(start(&kinds).await).await {
            Ok(target) => target,
            // Where not even the first one starts, nothing was tried.
            Err(error) if course.played == 0 => return Err(error),
            Err(error) => {
                // There always is an upcoming one.
                course.took(course.unplayed(&cells[0], &error), &mut told)?;
                break;
            }
        };
        let mut cells = cells.into_iter().peekable();
        while let Some(cell) = cells.next() {
            deck.draw();
            let load = course.pace.load(course.begun.elapsed());
            let number = course.number();
            let mut round = match round::play(options, number, (&cell, load), &mut target).await {
                Ok(round) => round,
                Err(error) => {
                    target.stop().await;
                    return Err(error);
                }
            };
            course.pace.played(load);
            let spent = !round.is_clean() || cell.destroys();
            if spent || cells.peek().is_none() || !course.goes_on() {
                course.outcome.probes(target.probes().await);
                // The last round of a cluster answers for how its processes end.
                round.ended(target.stop().await);
                course.took(round, &mut told)?;
                break;
            }
            course.took(round, &mut told)?;
        }
    }
    course.outcome.write(&options.folder)?;
    Ok(course.outcome)
}

/// A cluster that was started, when it is ready; none of its processes is left when it does not get so.
async fn ready<T: Target>(started: anyhow::Result<T>) -> anyhow::Result<T> {
    let mut target = started?;
    let Err(missing) = target.settle(READY_WITHIN).await else {
        return Ok(target);
    };
    let ends = target.stop().await;
    let ends = ends
        .iter()
        .map(|end| format!("\n{end}"))
        .collect::<String>();
    anyhow::bail!("the cluster is not ready after {READY_WITHIN:?}: {missing}{ends}")
}

/// A run so far.
struct Course<'a> {
    options: &'a Options,
    begun: Instant,
    pace: Pace,
    /// Rounds that this run itself has played.
    played: u32,
    /// What earlier runs that it takes up have taken, seconds.
    before: f64,
    outcome: Outcome,
}

impl Course<'_> {
    fn new(options: &Options) -> Course<'_> {
        let outcome = Outcome::new(options);
        Course {
            options,
            begun: Instant::now(),
            pace: Pace::new(options),
            played: 0,
            before: outcome.seconds,
            outcome,
        }
    }

    /// Whether there is time for another round.
    fn goes_on(&self) -> bool {
        self.begun.elapsed() < self.options.time
    }

    /// The number of the next round.
    fn number(&self) -> u32 {
        self.outcome.rounds.len() as u32
    }

    /// A round whose cluster did not start.
    fn unplayed(&self, cell: &Cell, error: &anyhow::Error) -> Round {
        // Its own layout nobody knows: that of the round before, without which there is no such round.
        let layout = self.outcome.rounds.last().map(|round| round.layout);
        let layout = layout.unwrap_or(Layout {
            regions: 1,
            nodes_per_region: 1,
        });
        let mut round = Round::new(self.number(), cell, layout, &Struck::default());
        let what = format!("the cluster for it can not be started: {error:#}");
        round.findings.push(Finding::new("cluster_starts", what));
        round
    }

    /// Takes in a round that is over, and writes down what came of the run so far.
    fn took(&mut self, round: Round, told: &mut impl FnMut(&Round)) -> anyhow::Result<()> {
        told(&round);
        self.played += 1;
        self.outcome.add(round);
        self.outcome.seconds = self.before + self.begun.elapsed().as_secs_f64();
        self.outcome.write(&self.options.folder)?;
        prune(self.options, &self.outcome);
        Ok(())
    }
}

/// Removes the verdict and the histories of the run in a folder; nothing else of what is there.
///
/// # Errors
/// When the folder can not be read or a file not be removed.
pub fn remove(folder: &Path) -> anyhow::Result<()> {
    let failed = || format!("can not empty {}", folder.display());
    let Some(outcome) = Outcome::read(folder)? else {
        return Ok(());
    };
    let histories = outcome.rounds.iter().map(Round::history_name);
    for name in histories.chain([outcome::VERDICT.to_owned()]) {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes histories of clean rounds but the newest, so that a long run does not fill the disk.
fn prune(options: &Options, outcome: &Outcome) {
    let mut clean = outcome.rounds.iter().rev().filter(|round| round.is_clean());
    // One at most is new each time.
    if let Some(old) = clean.nth(options.keep) {
        // It may have been removed before.
        let _ = fs::remove_file(options.folder.join(old.history_name()));
    }
}

/// The generator of a round, whatever rounds came before.
fn random_of(seed: u64, round: u32) -> Random {
    Random::new(seed ^ (u64::from(round) << 32) ^ 0x726f_756e_6400)
}
