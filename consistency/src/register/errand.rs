//! The operations of one coordinator as somebody else applies them.
//!
//! A coordinator may leave it to another node to apply its group: to a *delegate*, under its own ballot
//! ([`super::delegation`]), or to the coordinator whose ballots win the row, which *combines* it into its own next
//! ballot (flat combining, Hendler et al. 2010). Either way the group keeps its name, so that whoever proposes it
//! again, it takes effect once.

use std::sync::Arc;

use crate::codec::{Decoded, Decoder, Encode, Encoder};
use crate::key::NodeId;
use crate::register::proposer::Eventual;
use crate::register::strong_value::{Operation, Outcome, StrongValue};
use crate::version::Origin;

/// A group as its coordinator hands it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errand {
    /// Whose group it is.
    pub proposer: Origin,
    /// The proposer's number for the group: equal when it is proposed again, higher for each later one.
    pub group: u64,
    /// The lowest number of a group that the proposer had not given up yet, at most that of this one: older ones are
    /// never proposed again, so what became of them need not be remembered.
    pub oldest: u64,
    /// What to do, in order.
    pub operations: Vec<Operation>,
    /// What the proposer has applied of the row, unless a chosen value contains it: its sessions count on it, and it
    /// need not be among the voters that answer. `None` beside its promise, which tells it.
    pub eventual: Option<Eventual>,
}

/// Groups that go out under one ballot, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Errands(pub Vec<Errand>);

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

/// What became of a group that another coordinator combined into its ballot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Combined {
    /// The chosen value, and the outcomes of this group's operations.
    pub executed: Executed,
    /// The voters that chose it.
    pub voters: Vec<NodeId>,
    /// Round trips between regions that it took since it joined.
    pub round_trips: u8,
    /// Whether more came by for the row: then the next group had better come here, too.
    pub busy: bool,
}

/// Whether one of these groups holds a repeated request whose outcome the value remembers.
pub fn recalls_any(value: &StrongValue, errands: &[Errand]) -> bool {
    let recalls = |errand: &Errand| value.recalls_any(&errand.operations);
    errands.iter().any(recalls)
}

impl Encode for Errand {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.proposer);
        out.number(self.group);
        out.number(self.oldest);
        out.list(self.operations.iter().cloned());
        out.option(self.eventual.as_ref());
    }
    fn decode(input: &mut Decoder) -> Decoded<Errand> {
        Ok(Errand {
            proposer: input.get()?,
            group: input.number("group")?,
            oldest: input.number("oldest group")?,
            operations: input.list("operations")?,
            eventual: input.option()?,
        })
    }
}

impl Encode for Errands {
    fn encode(&self, out: &mut Encoder) {
        out.list(self.0.iter().cloned());
    }
    fn decode(input: &mut Decoder) -> Decoded<Errands> {
        Ok(Errands(input.list("errands")?))
    }
}

impl Encode for Eventual {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.state);
        out.put(&self.context);
    }
    fn decode(input: &mut Decoder) -> Decoded<Eventual> {
        Ok(Eventual {
            state: input.get()?,
            context: input.get()?,
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

impl Encode for Combined {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.executed);
        out.list(self.voters.iter().map(|node| u64::from(node.0)));
        out.number(u64::from(self.round_trips));
        out.bool(self.busy);
    }
    fn decode(input: &mut Decoder) -> Decoded<Combined> {
        let executed = input.get()?;
        let node = |number: u64| u16::try_from(number).ok().map(NodeId);
        let voters = input.list::<u64>("voters")?.into_iter().map(node);
        let malformed = |what| crate::codec::DecodeError::Malformed { what };
        Ok(Combined {
            executed,
            voters: voters
                .collect::<Option<_>>()
                .ok_or_else(|| malformed("voters"))?,
            round_trips: u8::try_from(input.number("round trips")?)
                .map_err(|_| malformed("round trips"))?,
            busy: input.bool("busy")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::Hlc;
    use crate::record::RequestId;
    use crate::register::{Action, Expect};
    use crate::session::Context;
    use crate::value::State;
    use crate::version::{Ballot, Stamp, Tag};

    #[test]
    fn what_travels_comes_back_as_it_was() {
        let operation = |action| Operation {
            action,
            request: Some(RequestId {
                session: 7,
                seq: 2,
                issued: Hlc(3),
            }),
            deps: Context::new(),
        };
        let bytes = Bytes::from_static;
        let actions = [
            Action::Read,
            Action::Put(bytes(b"v")),
            Action::Delete,
            Action::CompareAndSet(Expect::Absent, None),
            Action::CompareAndSet(Expect::Value(Bytes::new()), Some(bytes(b"w"))),
            Action::CompareAndSet(Expect::Etag(bytes(b"e")), None),
            Action::Increment(-3),
            Action::AddElement,
            Action::RemoveElement,
        ];
        let stamp = Stamp {
            strong_version: 2,
            hlc: Hlc(9),
            tag: Tag::Strong(Ballot::ZERO, 1),
        };
        let errand = Errand {
            proposer: Origin {
                node: NodeId(4),
                incarnation: 5,
            },
            group: 9,
            oldest: 7,
            operations: actions.map(operation).to_vec(),
            eventual: Some(Eventual {
                state: State::register(stamp, Some(bytes(b"seen"))),
                context: Context::new(),
            }),
        };
        assert_eq!(Errand::from_record(&errand.to_record()), Ok(errand));
        let combined = Combined {
            executed: Executed {
                value: Arc::default(),
                outcomes: vec![Outcome::Read, Outcome::Unknown, Outcome::Overflow],
                absorbed: true,
                recalled: false,
            },
            voters: vec![NodeId(0), NodeId(300)],
            round_trips: 3,
            busy: true,
        };
        assert_eq!(Combined::from_record(&combined.to_record()), Ok(combined));
    }
}
