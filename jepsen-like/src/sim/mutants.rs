//! Rules broken on purpose, and the shape of run in which each one matters.
//!
//! Most mutants are looked for in the shapes the seeds draw. Where a rule guards against something rare,
//! the shape is bent towards it; the checkers are the same for all.

use hansa_consistency::rules::{Mutant, Rules};

use super::profile::{Profile, Shape};
use super::scenario::Scenario;
use super::{Run, in_parallel, run_scenario, run_shaped};
use crate::workload::Mix;

/// A broken rule to look for in simulated runs.
#[derive(Clone)]
pub struct Candidate {
    /// Its name in reports.
    pub name: String,
    /// The rules without it.
    pub rules: Rules,
    shape: Option<Shape>,
    /// What the rule needs beside the shape to matter; nothing of it is broken.
    setting: fn(&mut Profile),
    /// What is broken below the core.
    disk: fn(&mut Profile),
}

/// How a broken rule was caught.
#[derive(Debug)]
pub struct Caught {
    /// Runs it took.
    pub after: u64,
    /// The seed that showed it.
    pub seed: u64,
    /// Which checker.
    pub by: String,
    /// Everything else that the same run violated.
    pub also: Vec<String>,
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
            setting: match mutant {
                // With one replica per region every own entry is committed at once.
                Mutant::PushesHideUncommitted => |profile| profile.replicas = 3,
                // The process has to come back to the node that may have taken it.
                Mutant::RetryTakenInDoubt => |profile| {
                    profile.hop = 0;
                    profile.mix = Mix {
                        eventual: 900,
                        session: 50,
                    };
                    profile.faults.isolate = 10;
                },
                // A strong write has to come by before the peers have answered.
                Mutant::DelegatesWithoutVote => |profile| {
                    profile.replicas = 1;
                    profile.restart_us = 60_000;
                    profile.mix = Mix {
                        eventual: 50,
                        session: 50,
                    };
                    profile.think_us = 20_000;
                },
                // What one node alone has is lost only with its disk, while nobody else hears of it.
                Mutant::CommittedAlone => |profile| {
                    profile.replicas = 3;
                    profile.weather.loss = 500;
                },
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
            setting: |_| {},
            disk: |profile| profile.lying_sync = true,
        }
    }

    /// All of them: the core's rules and the disk whose sync does nothing.
    #[must_use]
    pub fn all() -> Vec<Candidate> {
        let rules = Mutant::ALL.into_iter().map(Candidate::of);
        rules.chain([Candidate::lying_sync()]).collect()
    }

    /// One run with the rule broken, in the shape in which it matters (or the given one).
    #[must_use]
    pub fn run(&self, seed: u64, shape: Option<Shape>) -> Run {
        let (setting, disk) = (self.setting, self.disk);
        run_shaped(seed, self.rules, shape.or(self.shape), |profile| {
            setting(profile);
            disk(profile);
        })
    }

    /// A planned run with the rule broken.
    #[must_use]
    pub fn run_scenario(&self, scenario: &Scenario) -> Run {
        run_scenario(scenario, self.rules, self.disk)
    }

    /// Runs seeds until a checker catches it; `None` when the budget is used up.
    ///
    /// A catch counts only if the same seed in the same shape and setting is clean with all rules in force.
    #[must_use]
    pub fn catch(&self, budget: u64) -> Option<Caught> {
        let broken = self.clone();
        let runs = in_parallel(1, budget, move |seed| broken.run(seed, None));
        for run in runs {
            let seed = run.seed;
            let mut properties = run.violations.into_iter().map(|(by, _)| by);
            let Some(by) = properties.next() else {
                continue;
            };
            let mut also: Vec<String> = properties.filter(|other| *other != by).collect();
            also.dedup();
            let control = run_shaped(seed, Rules::default(), self.shape, self.setting);
            if control.violations.is_empty() {
                let after = seed;
                return Some(Caught {
                    after,
                    seed,
                    by,
                    also,
                });
            }
        }
        None
    }
}

/// The shape in which a rule matters; `None` where the drawn shapes will do.
fn shape_for(mutant: Mutant) -> Option<Shape> {
    match mutant {
        Mutant::VoteBeforeSequence | Mutant::IncarnationReused | Mutant::CommittedAlone => {
            Some(Shape::TailLosing)
        }
        Mutant::PendingNotOverlaid => Some(Shape::Busy),
        Mutant::PromiseNotDurable => Some(Shape::Crashing),
        // A clock goes back only over a restart shorter than it ran ahead.
        Mutant::ClockNotReserved => Some(Shape::Flapping),
        // Only a group of several writes can share anything.
        Mutant::GroupSharesDot => Some(Shape::Contended),
        Mutant::HeartbeatSinceSent | Mutant::HeartbeatOverGap | Mutant::PushesOverGap => {
            Some(Shape::Lossy)
        }
        // Sessions must come by while one direction is cut and a node has just come back.
        Mutant::TrustsWhoeverStarts | Mutant::RetryTakenInDoubt | Mutant::DelegatesWithoutVote => {
            Some(Shape::Forgetful)
        }
        Mutant::DepsOmitted | Mutant::PushesHideUncommitted => Some(Shape::Torn),
        Mutant::TokenReplaced
        | Mutant::TokenFromStamp
        | Mutant::ReplyBeforeEntry
        | Mutant::ReadWithoutEntry
        | Mutant::ViewJoinedAtCommit
        | Mutant::StrongValueWithoutDeps
        | Mutant::StrongIgnoresToken
        | Mutant::SessionPutDoesNotWait
        | Mutant::SessionServedUncovered => Some(Shape::Wandering),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_acknowledges_alone_loses_what_it_acknowledged() {
        let caught = Candidate::of(Mutant::CommittedAlone).catch(60);
        assert_eq!(caught.map(|it| it.by), Some("durability".to_owned()));
    }

    #[test]
    fn the_newest_rules_of_the_core_are_missed_at_once() {
        for mutant in [
            Mutant::TimeoutSaysNotApplied,
            Mutant::RetryTakenElsewhere,
            Mutant::SessionServedUncovered,
        ] {
            assert!(Candidate::of(mutant).catch(60).is_some(), "{mutant:?}");
        }
    }
}
