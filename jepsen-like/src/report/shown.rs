//! What has a place on the page, so that links lead somewhere: not all rounds and findings of a long run have one.

use std::collections::BTreeSet;

use super::escape::text;
use crate::run::{Outcome, Round};

/// Rounds that have a line of their own, at most: those that are not clean, then the first.
const ROUNDS_MAX: usize = 300;
/// Findings that are shown, at most.
const FINDINGS_MAX: usize = 150;

/// The rounds and findings that are shown.
#[derive(Debug)]
pub(super) struct Shown {
    rounds: BTreeSet<u32>,
    /// Each with its position among the findings of its round.
    findings: BTreeSet<(u32, usize)>,
}

impl Shown {
    /// Of these rounds, the first ones.
    pub(super) fn of(outcome: &Outcome) -> Shown {
        let rounds = most_wrong_first(outcome);
        let findings = rounds
            .iter()
            .flat_map(|round| (0..round.findings.len()).map(|at| (round.number, at)));
        Shown {
            findings: findings.take(FINDINGS_MAX).collect(),
            rounds: rounds.iter().take(ROUNDS_MAX).map(|it| it.number).collect(),
        }
    }

    pub(super) fn has_round(&self, number: u32) -> bool {
        self.rounds.contains(&number)
    }

    pub(super) fn has_finding(&self, round: u32, at: usize) -> bool {
        self.findings.contains(&(round, at))
    }

    /// These words, as a link to the round if there is a place to go to.
    pub(super) fn round(&self, number: u32, words: &str) -> String {
        match self.has_round(number) {
            true => format!("<a href=\"#round-{number}\">{}</a>", text(words)),
            false => text(words),
        }
    }

    /// These words, as a link to the finding if there is a place to go to.
    pub(super) fn finding(&self, round: u32, at: usize, words: &str) -> String {
        match self.has_finding(round, at) {
            true => format!("<a href=\"#{}\">{}</a>", finding_id(round, at), text(words)),
            false => text(words),
        }
    }
}

/// The anchor of a finding.
pub(super) fn finding_id(round: u32, at: usize) -> String {
    format!("finding-{round}-{at}")
}

/// The order in which rounds get room.
pub(super) fn most_wrong_first(outcome: &Outcome) -> Vec<&Round> {
    let mut rounds: Vec<&Round> = outcome.rounds.iter().collect();
    rounds.sort_by_key(|round| (round.is_clean(), round.number));
    rounds
}
