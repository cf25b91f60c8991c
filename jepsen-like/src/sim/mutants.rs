//! Rules broken on purpose, and the shape of run in which each one matters.
//!
//! Most mutants are looked for in the shapes the seeds draw. Where a rule guards against something rare,
//! the shape is bent towards it; the checkers are the same for all.

use hansa_consistency::rules::{Mutant, Rules};

use super::profile::{Profile, Shape};
use super::run_shaped;

/// A broken rule to look for in simulated runs.
pub struct Candidate {
    /// Its name in reports.
    pub name: String,
    /// The rules without it.
    pub rules: Rules,
    shape: Option<Shape>,
    /// What is broken below the core.
    disk: fn(&mut Profile),
}

/// How a broken rule was caught.
#[derive(Debug)]
pub struct Caught {
    /// Runs (or schedules) it took.
    pub after: u64,
    /// Which checker, and what it said first.
    pub by: String,
}

impl Candidate {
    /// The candidate of a rule of the core.
    #[must_use]
    pub fn of(mutant: Mutant) -> Candidate {
        Candidate {
            name: format!("{mutant:?}"),
            rules: Rules::without(mutant),
            shape: shape_for(mutant),
            disk: match mutant {
                Mutant::VoteBeforeSequence => |profile| profile.sequence_late = true,
                Mutant::PendingNotOverlaid => |profile| profile.hides_pending = true,
                _ => |_| {},
            },
        }
    }

    /// The disk whose sync does nothing.
    #[must_use]
    pub fn lying_sync() -> Candidate {
        Candidate {
            name: "LyingSync".into(),
            rules: Rules::default(),
            shape: Some(Shape::Crashing),
            disk: |profile| profile.lying_sync = true,
        }
    }

    /// Runs seeds until a checker catches it; `None` when the budget is used up.
    ///
    /// A catch counts only if the same seed in the same shape is clean with all rules in force.
    #[must_use]
    pub fn catch(&self, first: u64, budget: u64) -> Option<Caught> {
        (1..=budget).find_map(|after| {
            let seed = first + after;
            let bend = |profile: &mut Profile| {
                if let Some(shape) = self.shape {
                    shape.bend(profile);
                }
            };
            let broken = |profile: &mut Profile| {
                bend(profile);
                (self.disk)(profile);
            };
            let run = run_shaped(seed, self.rules, broken);
            let (by, _) = run.violations.into_iter().next()?;
            let control = run_shaped(seed, Rules::default(), bend);
            control
                .violations
                .is_empty()
                .then_some(Caught { after, by })
        })
    }
}

/// The shape in which a rule matters; `None` where the drawn shapes will do.
fn shape_for(mutant: Mutant) -> Option<Shape> {
    match mutant {
        Mutant::VoteBeforeSequence | Mutant::IncarnationReused => Some(Shape::TailLosing),
        Mutant::PendingNotOverlaid => Some(Shape::Busy),
        Mutant::PromiseNotDurable => Some(Shape::Crashing),
        // A clock goes back only over a restart shorter than it ran ahead.
        Mutant::ClockNotReserved => Some(Shape::Flapping),
        // Only a group of several writes can share anything.
        Mutant::GroupSharesDot => Some(Shape::Contended),
        Mutant::HeartbeatSinceSent | Mutant::HeartbeatOverGap => Some(Shape::Lossy),
        Mutant::DepsOmitted => Some(Shape::Torn),
        Mutant::TokenReplaced
        | Mutant::TokenFromStamp
        | Mutant::ReplyBeforeEntry
        | Mutant::ReadWithoutEntry
        | Mutant::ViewJoinedAtCommit
        | Mutant::StrongValueWithoutDeps
        | Mutant::StrongIgnoresToken
        | Mutant::SessionPutDoesNotWait => Some(Shape::Wandering),
        _ => None,
    }
}
