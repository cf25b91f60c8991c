//! Delegation: a write in one round trip between regions.
//!
//! A proposer whose own promise and that of one far replica are a quorum need not wait for the promise before
//! it proposes: it ships its own promise and its operations, and the *delegate* does in one step what a
//! proposer does in two, promising and accepting at its own slot. The proposer accepts what comes back. Phases
//! and votes are those of an ordinary attempt; only who applies the operations differs.
//!
//! What keeps one value per ballot: the delegate promises strictly, so it executes a ballot at most once, and a
//! ballot is delegated to one region only. Whoever hears nothing goes on under a new ballot.

use std::sync::Arc;

use crate::codec::{Decoded, Decoder, Encode, Encoder};
use crate::key::NodeId;
use crate::quorum::Voters;
use crate::register::acceptor::{Nack, Slot};
use crate::register::proposer::{Attempt, Promise};
use crate::register::strong_value::{Operation, Outcome, Place, StrongValue};
use crate::rules::Mutant;
use crate::version::Ballot;

/// The operations of a group, as its proposer hands them over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errand {
    /// The proposer's number for the group: equal when it is proposed again.
    pub group: u64,
    /// What to do, in order.
    pub operations: Vec<Operation>,
}

/// What a delegate made of a group, accepted at its slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executed {
    /// The value it accepted.
    pub value: Arc<StrongValue>,
    /// What became of each operation, once the value is chosen.
    pub outcomes: Vec<Outcome>,
    /// Whether eventual state was absorbed that the newest accepted value lacked.
    pub absorbed: bool,
    /// Whether it answers a repeated request from what the value remembers.
    pub recalled: bool,
}

/// Why a delegate did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Declined {
    /// A ballot as high was promised.
    Nack(Nack),
    /// The two promises are no quorum: the value would rest on too little.
    NoQuorum,
}

/// Executes a group at the delegate's slot, under the ballot of `place`. `asker` and `own` are the promises of
/// the proposer and of the delegate; the slot in memory is changed, the caller writes it before the answer leaves.
///
/// # Errors
/// [`Declined`]; the slot is then as it was.
pub fn execute(
    slot: &mut Slot,
    asker: (NodeId, Promise),
    own: (NodeId, Promise),
    voters: &Voters,
    operations: &[Operation],
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
    let base = base_of(asker, own, voters, place).ok_or(Declined::NoQuorum)?;
    let (absorbed, recalled) = (base.absorbed, base.value.recalls_any(operations));
    let (value, outcomes) = base.propose(operations, place);
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

impl Encode for Errand {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.group);
        out.list(self.operations.iter().cloned());
    }
    fn decode(input: &mut Decoder) -> Decoded<Errand> {
        Ok(Errand {
            group: input.number("group")?,
            operations: input.list("operations")?,
        })
    }
}

impl Encode for Executed {
    fn encode(&self, out: &mut Encoder) {
        out.put(self.value.as_ref());
        out.list(self.outcomes.iter().cloned());
        out.bool(self.absorbed);
        out.bool(self.recalled);
    }
    fn decode(input: &mut Decoder) -> Decoded<Executed> {
        Ok(Executed {
            value: Arc::new(input.get()?),
            outcomes: input.list("outcomes")?,
            absorbed: input.bool("absorbed")?,
            recalled: input.bool("recalled")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::Hlc;
    use crate::key::RegionId;
    use crate::record::RequestId;
    use crate::register::{Action, Expect};
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
            group: n,
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
        execute(slot, asker, own, &voters(3), what, place(n))
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
        let refused = execute(&mut slot, asker, own, &voters(5), &[put("a")], place(3));
        assert_eq!(refused, Err(Declined::NoQuorum));
        assert_eq!(slot, Slot::default());
    }

    #[test]
    fn what_travels_comes_back_as_it_was() {
        let mut operation = put("a");
        operation.request = Some(RequestId {
            session: 7,
            seq: 2,
            issued: Hlc(3),
        });
        let actions = [
            Action::Read,
            Action::Put(Bytes::from_static(b"v")),
            Action::Delete,
            Action::CompareAndSet(Expect::Absent, None),
            Action::CompareAndSet(Expect::Value(Bytes::new()), Some(Bytes::from_static(b"w"))),
            Action::CompareAndSet(Expect::Etag(Bytes::from_static(b"e")), None),
            Action::Increment(-3),
            Action::AddElement,
            Action::RemoveElement,
        ];
        let operations = actions.map(|action| Operation {
            action,
            ..operation.clone()
        });
        let errand = Errand {
            group: 9,
            operations: operations.to_vec(),
        };
        assert_eq!(Errand::from_record(&errand.to_record()), Ok(errand));
        let (asker, mut slot) = (Slot::default(), Slot::default());
        let executed = run(&mut slot, &asker, 5, &[put("a"), put("b")]).unwrap();
        assert_eq!(Executed::from_record(&executed.to_record()), Ok(executed));
    }
}
