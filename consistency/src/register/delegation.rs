//! Delegation: a write in one round trip between regions.
//!
//! A proposer whose own promise and that of one far replica are a quorum need not wait for the promise before
//! it proposes: it ships its own promise and its operations, and the *delegate* does in one step what a
//! proposer does in two, promising and accepting at its own slot. The proposer accepts what comes back. Phases
//! and votes are those of an ordinary attempt; only who applies the operations differs.
//!
//! What keeps one value per ballot: the delegate promises strictly, so it executes a ballot at most once, and a
//! ballot is delegated to one region only. Whoever hears nothing goes on under a new ballot.

use crate::key::NodeId;
use crate::quorum::Voters;
use crate::register::acceptor::{Nack, Slot};
use crate::register::errand::{Errand, Executed, recalls_any};
use crate::register::proposer::{Attempt, Promise};
use crate::register::strong_value::Place;
use crate::rules::Mutant;
use crate::version::Ballot;

/// Why a delegate did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Declined {
    /// A ballot as high was promised.
    Nack(Nack),
    /// The two promises are no quorum: the value would rest on too little.
    NoQuorum,
}

/// Executes groups at the delegate's slot, under the ballot of `place`. `asker` and `own` are the promises of
/// the proposer and of the delegate; the slot in memory is changed, the caller writes it before the answer leaves.
///
/// # Errors
/// [`Declined`]; the slot is then as it was.
pub fn execute(
    slot: &mut Slot,
    asker: (NodeId, Promise),
    own: (NodeId, Promise),
    voters: &Voters,
    errands: &[Errand],
    place: Place,
) -> Result<Executed, Declined> {
    let rules = place.rules;
    let mut promised = slot.clone();
    if let Err(nack) = promised.prepare(place.ballot) {
        if !rules.broken(Mutant::DelegateNotStrict) {
            return Err(Declined::Nack(nack));
        }
        promised.promised = place.ballot;
    }
    let mut base = base_of(asker, own, voters, place).ok_or(Declined::NoQuorum)?;
    base.absorb_all(errands, rules);
    let (absorbed, recalled) = (base.absorbed, recalls_any(&base.value, errands));
    let (value, outcomes) = base.propose(errands, place);
    promised
        .accept(place.ballot, &value, rules)
        .map_err(Declined::Nack)?;
    *slot = promised;
    Ok(Executed {
        value,
        outcomes,
        absorbed,
        recalled,
    })
}

fn base_of(
    asker: (NodeId, Promise),
    own: (NodeId, Promise),
    voters: &Voters,
    place: Place,
) -> Option<crate::register::Base> {
    let Place { ballot, rules, .. } = place;
    let (asker, mut promise) = asker;
    if rules.broken(Mutant::DelegateIgnoresPromise) {
        (promise.accepted, promise.value) = (Ballot::ZERO, None);
    }
    let mut attempt = Attempt::new(ballot);
    attempt.promise(asker, promise, voters, rules);
    attempt.promise(own.0, own.1, voters, rules)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::Hlc;
    use crate::key::RegionId;
    use crate::register::{Action, Expect, Operation, Outcome};
    use crate::rules::Rules;
    use crate::session::Context;
    use crate::topology::ValueType;
    use crate::version::Origin;

    fn ballot(n: u64) -> Ballot {
        let origin = Origin {
            node: NodeId(0),
            incarnation: 1,
        };
        Ballot { n, origin }
    }

    fn place(n: u64) -> Place {
        Place {
            ballot: ballot(n),
            hlc: Hlc(n),
            value_type: ValueType::Register,
            dedup_sessions: 8,
            rules: Rules::default(),
        }
    }

    fn voters(regions: u16) -> Voters {
        let alone = |n: u16| (RegionId(n as u8), vec![NodeId(n)]);
        Voters::new((0..regions).map(alone).collect())
    }

    fn put(value: &'static str) -> Operation {
        Operation {
            action: Action::Put(Bytes::from_static(value.as_bytes())),
            request: None,
            deps: Context::new(),
        }
    }

    fn errand(n: u64, what: &[Operation]) -> Errand {
        Errand {
            proposer: ballot(n).origin,
            group: n,
            oldest: n,
            operations: what.to_vec(),
            eventual: None,
        }
    }

    fn promise(slot: &Slot) -> Promise {
        Promise {
            accepted: slot.accepted,
            value: slot.value.clone(),
            eventual: None,
        }
    }

    fn run(
        slot: &mut Slot,
        asker: &Slot,
        n: u64,
        what: &[Operation],
    ) -> Result<Executed, Declined> {
        let (asker, own) = (promise(asker), promise(slot));
        let (asker, own) = ((NodeId(0), asker), (NodeId(1), own));
        execute(slot, asker, own, &voters(3), &[errand(n, what)], place(n))
    }

    #[test]
    fn it_rests_on_the_newer_of_both_promises() {
        let (mut asker, mut slot) = (Slot::default(), Slot::default());
        let first = run(&mut slot, &asker, 5, &[put("old")]).unwrap();
        assert_eq!((slot.promised, slot.accepted), (ballot(5), ballot(5)));
        let newer = run(&mut asker, &slot, 7, &[put("new")]).unwrap();
        assert_eq!(newer.value.strong_version, first.value.strong_version + 1);
        let etag = newer.value.etag();
        let swap = Operation {
            action: Action::CompareAndSet(Expect::Etag(etag), None),
            ..put("")
        };
        let swapped = run(&mut slot, &asker, 9, &[swap]).unwrap();
        assert!(matches!(swapped.outcomes[..], [Outcome::Done { .. }]));
        assert_eq!(swapped.value.strong_version, newer.value.strong_version + 1);
    }

    #[test]
    fn a_ballot_is_executed_once_and_never_below_a_promise() {
        let (asker, mut slot) = (Slot::default(), Slot::default());
        run(&mut slot, &asker, 5, &[put("a")]).unwrap();
        let before = slot.clone();
        for n in [5, 4] {
            let refused = run(&mut slot, &asker, n, &[put("b")]);
            let promised = ballot(5);
            assert_eq!(refused, Err(Declined::Nack(Nack { promised })));
        }
        assert_eq!(slot, before);
    }

    #[test]
    fn two_of_five_regions_are_too_few() {
        let mut slot = Slot::default();
        let (asker, own) = (promise(&slot), promise(&slot));
        let (asker, own) = ((NodeId(0), asker), (NodeId(1), own));
        let errands = [errand(3, &[put("a")])];
        let refused = execute(&mut slot, asker, own, &voters(5), &errands, place(3));
        assert_eq!(refused, Err(Declined::NoQuorum));
        assert_eq!(slot, Slot::default());
    }
}
