//! The reader's arithmetic: from answers to a linearizable read, without a new ballot.
//!
//! A read returns only a value that is provably chosen: the newest ballot any answer
//! reports, if a quorum of the answers accepted exactly that one, or if some answer knows
//! exactly that one to be chosen. A chosen ballot *above* the newest accepted one that
//! was reported proves nothing about it (`notes/protocol.md` 16.3). Otherwise the same
//! ballot and value are sent again, which disturbs no writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::key::NodeId;
use crate::quorum::Voters;
use crate::register::proposer::Eventual;
use crate::register::strong_value::StrongValue;
use crate::rules::{Mutant, Rules};
use crate::version::Ballot;

/// One acceptor's answer to a strong read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadAnswer {
    /// The ballot of its accepted value.
    pub accepted: Ballot,
    /// The newest ballot it knows chosen: the newest that an applied log entry carried.
    pub chosen: Ballot,
    /// The accepted value.
    pub value: Option<Arc<StrongValue>>,
    /// Its eventual state, when the accepted value lacks something of it.
    pub eventual: Option<Eventual>,
}

/// The answers to one strong read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    answers: BTreeMap<NodeId, ReadAnswer>,
}

/// What the answers so far allow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// More answers are needed.
    Wait,
    /// This value is chosen and lacks nothing of the quorum's eventual state.
    Chosen(Ballot, Arc<StrongValue>),
    /// This value may be chosen: send it again under its own ballot to who lacks it.
    Resend(Ballot, Arc<StrongValue>),
    /// The quorum holds eventual state beyond the chosen value, or the newest chosen value is not
    /// among the answers: propose the read, so that it is absorbed.
    Absorb,
}

impl Reading {
    /// Counts an answer and says what follows.
    pub fn answer(
        &mut self,
        from: NodeId,
        answer: ReadAnswer,
        voters: &Voters,
        rules: Rules,
    ) -> Decision {
        self.answers.entry(from).or_insert(answer);
        let reached = voters.reached(|n| self.answers.contains_key(&n));
        if reached || rules.broken(Mutant::ReadQuorumOne) {
            self.decide(voters, rules)
        } else {
            Decision::Wait
        }
    }

    /// Who answered.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.answers.keys().copied()
    }

    /// Who accepted this ballot.
    pub fn accepted_by(&self, ballot: Ballot) -> impl Iterator<Item = NodeId> + '_ {
        self.answers
            .iter()
            .filter(move |(_, a)| a.accepted == ballot)
            .map(|(node, _)| *node)
    }

    fn decide(&self, voters: &Voters, rules: Rules) -> Decision {
        let answers = || self.answers.values();
        let accepted = answers().map(|a| a.accepted).max().unwrap_or(Ballot::ZERO);
        let chosen = answers().map(|a| a.chosen).max().unwrap_or(Ballot::ZERO);
        let trusts_commit = rules.broken(Mutant::CommitAboveProves);
        if chosen > accepted && !trusts_commit {
            return Decision::Absorb;
        }
        let newest = answers().find(|a| a.accepted == accepted);
        let value = newest
            .and_then(|a| a.value.clone())
            .unwrap_or_else(|| Arc::new(StrongValue::default()));
        let holds = |n| self.answers.get(&n).is_some_and(|a| a.accepted == accepted);
        let proven = chosen == accepted
            || voters.reached(holds)
            || (rules.broken(Mutant::ReadQuorumOne) && answers().all(|a| a.accepted == accepted))
            || (trusts_commit && chosen >= accepted)
            || rules.broken(Mutant::ReadWithoutProof);
        let behind = self.eventual().any(|e| value.lacks(&e.state));
        match (proven, behind) {
            (true, false) => Decision::Chosen(accepted, value),
            (false, false) => Decision::Resend(accepted, value),
            (true, true) => self.with_eventual(accepted, value, rules),
            // Sent again, the value would still lack it: a read returns all that its quorum holds.
            (false, true) => Decision::Absorb,
        }
    }

    fn eventual(&self) -> impl Iterator<Item = &Eventual> {
        self.answers.values().filter_map(|a| a.eventual.as_ref())
    }

    /// A proven value lacks eventual state of the quorum: it is not returned as it is.
    fn with_eventual(&self, ballot: Ballot, value: Arc<StrongValue>, rules: Rules) -> Decision {
        let agreed = self.answers.values().all(|a| {
            let first = self
                .answers
                .values()
                .next()
                .and_then(|f| f.eventual.as_ref());
            a.eventual.as_ref().map(|e| &e.state) == first.map(|e| &e.state)
        });
        let joins = rules.broken(Mutant::StrongReadJoinsEventual)
            || (rules.broken(Mutant::QuorumEqualityInsteadOfAbsorption) && agreed);
        if joins {
            let mut joined = value.as_ref().clone();
            for e in self.eventual() {
                joined.absorb(&e.state, &e.context, rules);
            }
            return Decision::Chosen(ballot, Arc::new(joined));
        }
        Decision::Absorb
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RegionId;
    use crate::version::Origin;

    #[test]
    fn a_quorum_that_accepted_the_newest_ballot_proves_it_beside_older_answers() {
        let region = |r: u8| (u16::from(r) * 3..u16::from(r) * 3 + 3).map(NodeId);
        let regions = (0..3).map(|r| (RegionId(r), region(r).collect()));
        let voters = Voters::new(regions.collect());
        let accepted = |n: u64| ReadAnswer {
            accepted: Ballot {
                n,
                origin: Origin {
                    node: NodeId(0),
                    incarnation: 1,
                },
            },
            chosen: Ballot::ZERO,
            value: Some(Arc::new(StrongValue::default())),
            eventual: None,
        };
        let mut reading = Reading::default();
        let rules = Rules::default();
        for (node, n) in [(6, 1), (0, 2), (1, 2), (3, 2)] {
            let decision = reading.answer(NodeId(node), accepted(n), &voters, rules);
            assert_eq!(decision, Decision::Wait);
        }
        let decision = reading.answer(NodeId(4), accepted(2), &voters, rules);
        assert!(matches!(decision, Decision::Chosen(ballot, _) if ballot.n == 2));
    }
}
