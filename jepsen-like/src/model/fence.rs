//! Several nodes in a region: how a dead node's logs are closed, and how it begins new ones.
//!
//! The model runs one shard's logs, rosters and safe times and nothing else. Rosters and what replicas promise are the
//! product's own (`hansa_consistency::roster`), as are entries, rows, contexts, dots and ballots. The protocol is written
//! down in `docs/decisions/0013-how-a-dead-nodes-origins-are-closed.md`.
//!
//! A schedule: one, three or five nodes in the region that is written in, two readers in another one, three clients
//! that write and read anywhere under tokens. The network loses 6 %, doubles 4 %, reorders and cuts links; nodes crash,
//! pause, lose their disks (a minority) and jump ahead in time; anybody is taken for dead at any moment. At the end all
//! is quiet, but some stay dead.
//!
//! What is checked:
//!
//! * F1: nothing is shown that a majority of its region never held. F2: one roster a version, one end a log.
//! * F3: nothing shown or acknowledged lies behind an end. F4: who believes to have everything up to a moment has it,
//!   also when more comes to light later. F5: no session goes back.
//! * F6: in quiet, with a majority of the region alive, every session is served everywhere, everybody with its disk
//!   writes, and every writer whose node lives is answered. F7: no acknowledged write is missing.

mod broken;
mod decree;
mod ledger;
mod logs;
mod roster;
mod schedule;
mod script;
mod sessions;
#[cfg(test)]
mod tests;
mod time;
mod world;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use xxhash_rust::xxh3::Xxh3;

pub use broken::Broken;

/// What to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FenceOptions {
    /// How many schedules.
    pub schedules: u64,
    /// The seed of the first one; the others follow it.
    pub seed: u64,
    /// The rule left out, if any.
    pub broken: Option<Broken>,
}

/// The first schedule that broke an invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FenceViolation {
    /// The schedule's seed.
    pub seed: u64,
    /// The invariant and what was seen.
    pub what: String,
    /// Every event of the schedule, one a line.
    pub trace: Vec<String>,
}

/// What a run added up to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FenceReport {
    /// Schedules run.
    pub schedules: u64,
    /// Writes begun.
    pub writes: u64,
    /// Writes answered.
    pub acknowledged: u64,
    /// Rosters that closed a node.
    pub closed: u64,
    /// Rosters by which a node began a new term.
    pub opened: u64,
    /// Entries behind an end that their writer published again.
    pub published_again: u64,
    /// Proposals that went on with what another had begun.
    pub adopted: u64,
    /// Session reads served.
    pub session_reads: u64,
    /// Session reads that were not covered when they came.
    pub session_waits: u64,
    /// A fingerprint of all traces: equal for equal options and code.
    pub trace_hash: u64,
    /// The first schedule that broke an invariant; the run ends with it.
    pub violation: Option<FenceViolation>,
}

impl fmt::Display for FenceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fence model: {} schedules, {} of {} writes answered, {} nodes closed, {} terms begun, {} entries published \
             again, {} rosters adopted, {} session reads served and {} waiting, trace {:016x}, {} violations",
            self.schedules,
            self.acknowledged,
            self.writes,
            self.closed,
            self.opened,
            self.published_again,
            self.adopted,
            self.session_reads,
            self.session_waits,
            self.trace_hash,
            usize::from(self.violation.is_some())
        )?;
        let Some(violation) = &self.violation else {
            return Ok(());
        };
        writeln!(f, "\nseed {}: {}", violation.seed, violation.what)?;
        for line in &violation.trace {
            writeln!(f, "  {line}")?;
        }
        write!(
            f,
            "replay: hansa-jepsen model --schedules 1 --seed {}",
            violation.seed
        )
    }
}

/// Runs schedules until all are done or one is violated. Pure: equal options, equal report.
///
/// A panic is a violation too.
#[must_use]
pub fn run(options: FenceOptions) -> FenceReport {
    let mut report = FenceReport::default();
    let mut fingerprint = Xxh3::new();
    for seed in (options.seed..).take(usize::try_from(options.schedules).unwrap_or(usize::MAX)) {
        report.schedules += 1;
        let outcome = guarded(seed, options.broken, false);
        let what = match outcome {
            Ok(outcome) => {
                outcome.fingerprint.hash(&mut fingerprint);
                report.add(&outcome);
                outcome.violation
            }
            Err(panic) => Some(panic),
        };
        if let Some(what) = what {
            let trace =
                guarded(seed, options.broken, true).map_or_else(|_| Vec::new(), |o| o.lines);
            report.violation = Some(FenceViolation { seed, what, trace });
            break;
        }
    }
    report.trace_hash = fingerprint.finish();
    report
}

/// Leaves one rule out and looks whether that is noticed: by schedules written by hand, or by chance.
///
/// The number of schedules it took, and what was seen; `None` if `budget` schedules do not tell.
#[must_use]
pub fn catch(broken: Broken, budget: u64) -> Option<(u64, String)> {
    let rule = Some(broken);
    if let Some(what) = script::one_is_let_in(rule).or_else(|| script::one_is_left(rule)) {
        return Some((1, what));
    }
    let report = run(FenceOptions {
        schedules: budget,
        seed: 1,
        broken: rule,
    });
    let violation = report.violation?;
    Some((report.schedules, violation.what))
}

/// Runs one schedule; a panic becomes the error.
fn guarded(seed: u64, broken: Option<Broken>, readable: bool) -> Result<schedule::Outcome, String> {
    let run = catch_unwind(AssertUnwindSafe(|| schedule::run(seed, broken, readable)));
    match run {
        Ok(Some(outcome)) => Ok(outcome),
        Ok(None) => Err("the model's rows have no valid names".to_owned()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(format!("assertion: {}", text.unwrap_or_default()))
        }
    }
}

impl FenceReport {
    fn add(&mut self, outcome: &schedule::Outcome) {
        self.writes += outcome.writes;
        self.acknowledged += outcome.acknowledged;
        self.closed += outcome.counts.closed;
        self.opened += outcome.counts.opened;
        self.published_again += outcome.counts.published_again;
        self.adopted += outcome.counts.adopted;
        self.session_reads += outcome.counts.session_reads;
        self.session_waits += outcome.counts.session_waits;
    }
}
