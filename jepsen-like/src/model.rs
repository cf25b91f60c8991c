//! The strong register alone, under random schedules.
//!
//! The simulator runs whole replicas; this model runs one row's ballots and nothing else, so it reaches schedules in
//! microseconds that the simulator meets once in a night. It drives the product's own arithmetic
//! (`hansa_consistency::register`, `quorum`, `record`, `value`); the coordinator around it, which lives in
//! `hansa_consistency::replica`, is repeated here in its shortest form (`proposer`, `reading`, `voter`).
//!
//! A schedule: three regions with one or three acceptors each, three proposers, four clients with up to eleven strong
//! calls, up to five eventual writes. The network loses 6 %, doubles 4 % and reorders; nodes crash; clients ask again
//! elsewhere under the same request id; acceptors lose everything and are readmitted in a new epoch. At the end all
//! is quiet and one client reads once more.
//!
//! What is checked (numbers as in the protocol's invariants):
//!
//! * S1: a ballot carries one value. S3: chosen values form a chain. S6: each call takes effect once.
//! * S4 and S5: the calls are linearizable, eventual writes joining as an environment, failed conditions as reads.
//! * S7: the eventual view shows nothing unchosen. S8: in quiet a read is answered.
//! * Replies cover the causes of what they show, etags never go back, and (E1) no reply lacks an eventual write that
//!   its session's coordinator had applied, nor the last read any at all.

mod calls;
mod causes;
mod client;
mod combining;
mod delegation;
mod epochs;
pub mod fence;
mod ledger;
mod linear;
mod logs;
mod mutants;
mod proposer;
mod reading;
mod schedule;
#[cfg(any(test, feature = "mutants"))]
mod script;
#[cfg(test)]
mod tests;
mod trace;
mod voter;
mod world;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use hansa_consistency::rules::Rules;
use xxhash_rust::xxh3::Xxh3;

pub use mutants::mutants;
#[cfg(feature = "mutants")]
pub use mutants::{Caught, catch};

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct ModelOptions {
    /// How many schedules.
    pub schedules: u64,
    /// The seed of the first one; the others follow it, so schedule `k` alone is `schedules: 1, seed: seed + k`.
    pub seed: u64,
    /// The rules in force: [`Rules::default`] for all of them.
    pub rules: Rules,
    /// Schedules with a violation after which to stop.
    pub violations_max: usize,
}

impl Default for ModelOptions {
    fn default() -> ModelOptions {
        ModelOptions {
            schedules: 100_000,
            seed: 1,
            rules: Rules::default(),
            violations_max: 5,
        }
    }
}

/// A schedule that broke an invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelViolation {
    /// The schedule's seed.
    pub seed: u64,
    /// The invariant and what was seen.
    pub what: String,
    /// Every event of the schedule, one a line, then what clients saw.
    pub trace: Vec<String>,
}

impl fmt::Display for ModelViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        write!(
            f,
            "replay: hansa-jepsen model --schedules 1 --seed {}",
            self.seed
        )
    }
}

/// What a run added up to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModelReport {
    /// Schedules run.
    pub schedules: u64,
    /// Strong calls made.
    pub calls: u64,
    /// Strong calls answered.
    pub completed: u64,
    /// Replies that the outcome is unknown (the request id is older than what is remembered).
    pub unknown: u64,
    /// Ballots chosen.
    pub chosen: u64,
    /// Groups that a delegate executed in one round trip.
    pub delegated: u64,
    /// Groups that another proposer combined with its own.
    pub combined: u64,
    /// Strong reads that took one round trip.
    pub reads_one_round_trip: u64,
    /// Strong reads that sent an unproven ballot again.
    pub reads_helped: u64,
    /// Strong reads that were proposed, as a rule to absorb eventual state.
    pub reads_absorbed: u64,
    /// Acceptors that lost everything and were readmitted in a new epoch.
    pub readmitted: u64,
    /// A fingerprint of all traces: equal for equal options and code.
    pub trace_hash: u64,
    /// Schedules that broke an invariant, at most [`ModelOptions::violations_max`].
    pub violations: Vec<ModelViolation>,
}

impl fmt::Display for ModelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "model: {} schedules, {} of {} calls completed ({} unknown outcomes), {} ballots chosen, \
             {} groups delegated, {} combined, reads: {} in one round trip, {} helped, {} absorbed, {} acceptors readmitted, \
             trace {:016x}, {} violations",
            self.schedules,
            self.completed,
            self.calls,
            self.unknown,
            self.chosen,
            self.delegated,
            self.combined,
            self.reads_one_round_trip,
            self.reads_helped,
            self.reads_absorbed,
            self.readmitted,
            self.trace_hash,
            self.violations.len()
        )
    }
}

/// Runs schedules until all are done or enough are violated. Pure: equal options, equal report.
///
/// A panic in the product's code (a failed assertion) is a violation too.
#[must_use]
pub fn run(options: ModelOptions) -> ModelReport {
    let mut report = ModelReport::default();
    let mut fingerprint = Xxh3::new();
    for seed in (options.seed..).take(usize::try_from(options.schedules).unwrap_or(usize::MAX)) {
        let outcome = guarded(seed, options.rules, false);
        outcome.fingerprint.hash(&mut fingerprint);
        report.add(&outcome);
        if let Some(what) = outcome.violation {
            report.violations.push(ModelViolation {
                seed,
                what,
                trace: trace(seed, options.rules),
            });
            if report.violations.len() >= options.violations_max {
                break;
            }
        }
    }
    report.trace_hash = fingerprint.finish();
    report
}

/// The readable trace of one schedule, then what clients saw; nothing if the schedule panics.
#[must_use]
pub fn trace(seed: u64, rules: Rules) -> Vec<String> {
    guarded(seed, rules, true).lines
}

/// Runs one schedule; a panic becomes its violation.
fn guarded(seed: u64, rules: Rules, readable: bool) -> schedule::Outcome {
    let run = catch_unwind(AssertUnwindSafe(|| schedule::run(seed, rules, readable)));
    let what = match run {
        Ok(Some(outcome)) => return outcome,
        Ok(None) => "the model's row has no valid name".to_owned(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            format!("assertion: {}", text.unwrap_or_default())
        }
    };
    schedule::Outcome {
        fingerprint: seed,
        calls: 0,
        completed: 0,
        chosen: 0,
        counts: world::Counts::default(),
        violation: Some(what),
        lines: Vec::new(),
    }
}

impl ModelReport {
    fn add(&mut self, outcome: &schedule::Outcome) {
        self.schedules += 1;
        self.calls += outcome.calls;
        self.completed += outcome.completed;
        self.chosen += outcome.chosen;
        self.unknown += outcome.counts.unknown;
        self.reads_one_round_trip += outcome.counts.one_round_trip;
        self.reads_helped += outcome.counts.helped;
        self.reads_absorbed += outcome.counts.absorbed;
        self.delegated += outcome.counts.delegated;
        self.combined += outcome.counts.combined;
        self.readmitted += outcome.counts.readmitted;
    }
}
