//! The proposer's arithmetic: from promises to a base, from a base to a proposal.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::key::NodeId;
use crate::quorum::{Tally, Voters};
use crate::register::errand::Errand;
use crate::register::strong_value::{Outcome, Place, StrongValue};
use crate::rules::{Mutant, Rules};
use crate::session::Context;
use crate::value::State;
use crate::version::Ballot;

/// A replica's eventual state of a row, with what its readers have seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Eventual {
    /// The state.
    pub state: State,
    /// Its context.
    pub context: Context,
}

/// One acceptor's answer to a prepare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promise {
    /// The ballot of its accepted value.
    pub accepted: Ballot,
    /// That value.
    pub value: Option<Arc<StrongValue>>,
    /// Its eventual state, when the accepted value lacks something of it.
    pub eventual: Option<Eventual>,
}

/// The prepare phase of one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The ballot; never used again.
    pub ballot: Ballot,
    promises: BTreeMap<NodeId, Promise>,
    tally: Tally,
}

/// What a quorum of promises adds up to: the value to apply the group to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// The newest accepted value, with every reported eventual state absorbed.
    pub value: StrongValue,
    /// Its ballot.
    pub accepted: Ballot,
    /// Whether eventual state was absorbed that the value lacked.
    pub absorbed: bool,
    /// Whether all promises reported the same accepted ballot.
    pub settled: bool,
}

impl Attempt {
    /// Begins an attempt under a fresh ballot.
    pub fn new(ballot: Ballot) -> Attempt {
        Attempt {
            ballot,
            promises: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Who promised so far.
    pub fn promised_by(&self) -> &Tally {
        &self.tally
    }

    /// Counts a promise; the base once a quorum has promised.
    pub fn promise(
        &mut self,
        from: NodeId,
        promise: Promise,
        voters: &Voters,
        rules: Rules,
    ) -> Option<Base> {
        if !self.tally.count(from) {
            return None;
        }
        self.promises.insert(from, promise);
        let reached = self.tally.reached(voters) || rules.broken(Mutant::PrepareQuorumOne);
        reached.then(|| self.base(rules))
    }

    fn base(&self, rules: Rules) -> Base {
        let newest = self.promises.values().max_by_key(|p| p.accepted);
        let accepted = newest.map_or(Ballot::ZERO, |p| p.accepted);
        let mut value = newest
            .and_then(|p| p.value.as_deref().cloned())
            .unwrap_or_default();
        let mut absorbed = false;
        for eventual in self.promises.values().filter_map(|p| p.eventual.as_ref()) {
            absorbed |= value.lacks(&eventual.state);
            value.absorb(&eventual.state, &eventual.context, rules);
        }
        Base {
            value,
            accepted,
            absorbed,
            settled: self.promises.values().all(|p| p.accepted == accepted),
        }
    }
}

impl Base {
    /// Takes in what the coordinator itself has applied. Its own promise need not be among the quorum's, yet a session
    /// counts on what its coordinator covers (DESIGN 4.1, 1).
    pub fn absorb(&mut self, own: &Eventual, rules: Rules) {
        self.absorbed |= self.value.lacks(&own.state);
        self.value.absorb(&own.state, &own.context, rules);
    }

    /// Takes in what the proposers of these groups have applied, where they handed them over.
    pub fn absorb_all(&mut self, errands: &[Errand], rules: Rules) {
        let told = errands.iter().filter_map(|errand| errand.eventual.as_ref());
        for eventual in told.filter(|_| !rules.broken(Mutant::CombinedWithoutView)) {
            self.absorb(eventual, rules);
        }
    }

    /// Applies groups in order: the value to propose under the attempt's ballot, and the outcomes of all their
    /// operations, to reply with once it is chosen.
    pub fn propose(mut self, errands: &[Errand], place: Place) -> (Arc<StrongValue>, Vec<Outcome>) {
        let mut outcomes = Vec::new();
        for errand in errands {
            // At most 257 groups of 32 operations.
            let first = u16::try_from(outcomes.len()).unwrap_or(u16::MAX);
            outcomes.extend(self.value.apply_group(errand, first, place));
        }
        (Arc::new(self.value), outcomes)
    }
}
