//! The broken rules that this model must notice.

use hansa_consistency::rules::Mutant;
#[cfg(feature = "mutants")]
use hansa_consistency::rules::Rules;

/// The rules that the model is responsible for, each with what goes wrong without it.
#[must_use]
pub fn mutants() -> Vec<(Mutant, &'static str)> {
    MUTANTS.to_vec()
}

const MUTANTS: &[(Mutant, &str)] = &[
    (Mutant::DoubleBallot, "a ballot carries two values"),
    (
        Mutant::MergeAtAccept,
        "the eventual view shows an unchosen write",
    ),
    (Mutant::NoDedup, "a retried call takes effect twice"),
    (
        Mutant::DedupFloorNotRaised,
        "a retry that memory lost takes effect twice",
    ),
    (
        Mutant::ReadQuorumOne,
        "a read misses a write answered before it",
    ),
    (
        Mutant::PrepareQuorumOne,
        "a write is made from a value that lacks a chosen one",
    ),
    (
        Mutant::PromiseIgnored,
        "a value is chosen behind a later one's back",
    ),
    (
        Mutant::PromiseNotDurable,
        "a crash lets a value in behind a later one's back",
    ),
    (
        Mutant::ReadWithoutProof,
        "a read shows a value that is never chosen",
    ),
    (
        Mutant::CasFalseFromCache,
        "a condition is judged on a stale value",
    ),
    (
        Mutant::CasFalseAfterPrepare,
        "a condition is judged on a value that is never chosen",
    ),
    (
        Mutant::StrongReadJoinsEventual,
        "a read shows what a later strong operation does not",
    ),
    (
        Mutant::QuorumEqualityInsteadOfAbsorption,
        "a read shows what a later strong operation does not",
    ),
    (
        Mutant::CommitAboveProves,
        "the proof of one ballot is taken for that of another",
    ),
    (
        Mutant::EpochsCountedTogether,
        "an acceptor that lost its vote counts beside one that got it",
    ),
    (
        Mutant::StrongIncrementsOnOwnActor,
        "strong and eventual increments hide each other",
    ),
    (
        Mutant::GroupSharesDot,
        "two writes of a group share one version",
    ),
    (
        Mutant::DelegateNotStrict,
        "a ballot is executed twice, or behind a later one's back",
    ),
    (
        Mutant::DelegateIgnoresPromise,
        "a write is made from a value that lacks a chosen one",
    ),
    (
        Mutant::DelegatedToTwo,
        "two regions make two values of one ballot",
    ),
    (
        Mutant::ShippedPromiseNotDurable,
        "a crash lets a value in behind a later one's back",
    ),
    (
        Mutant::DelegatesWithoutVote,
        "an acceptor that lost its vote counts",
    ),
    (
        Mutant::DelegateDecides,
        "a value is answered that is not chosen",
    ),
    (
        Mutant::DelegationReusesBallot,
        "two regions make two values of one ballot",
    ),
    (
        Mutant::CombinedWithoutView,
        "a write does not rest on what its proposer has shown",
    ),
    (
        Mutant::CombinedBeforeChosen,
        "a value is answered that is not chosen",
    ),
    (
        Mutant::StrongValueWithoutDeps,
        "a reply lacks the causes of what it shows",
    ),
];

/// How a broken rule was noticed.
#[cfg(feature = "mutants")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caught {
    /// Schedules run, the telling one included. A scripted schedule counts as one.
    pub schedules: u64,
    /// The invariant and what was seen.
    pub what: String,
}

/// Breaks one rule and runs schedules until it is noticed; `None` if `budget` schedules do not tell.
///
/// Rules that chance reaches too seldom are tried on a scripted schedule first.
#[cfg(feature = "mutants")]
#[must_use]
pub fn catch(mutant: Mutant, budget: u64) -> Option<Caught> {
    let rules = Rules::without(mutant);
    if mutant == Mutant::CommitAboveProves
        && let Some(what) = super::script::commit_above_accepted(rules)
    {
        return Some(Caught { schedules: 1, what });
    }
    catch_by_chance(mutant, budget)
}

/// As [`catch`], by random schedules alone.
#[cfg(feature = "mutants")]
pub(super) fn catch_by_chance(mutant: Mutant, budget: u64) -> Option<Caught> {
    let options = super::ModelOptions {
        schedules: budget,
        rules: Rules::without(mutant),
        violations_max: 1,
        ..super::ModelOptions::default()
    };
    let report = super::run(options);
    let schedules = report.schedules;
    let first = report.violations.into_iter().next()?;
    Some(Caught {
        schedules,
        what: first.what,
    })
}
