//! The value a strong register holds, and what one group of operations makes of it.
//!
//! Besides the row's merged state it carries what must be decided atomically with
//! it: the strong version, the contexts of its writers, the outcomes of remembered
//! request ids, and the groups that each proposer had under way (so that a group re-proposed
//! under a new ballot takes effect once).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::codec::{Decoded, Decoder, Encode, Encoder};
use crate::limits::GROUPS_KEPT_MAX;
use crate::record::RequestId;
use crate::register::errand::Errand;
use crate::rules::{Mutant, Rules};
use crate::session::Context;
use crate::topology::ValueType;
use crate::value::{Actor, Counter, Element, State};
use crate::version::{Ballot, Origin, Stamp, Tag};

/// Proposers whose groups are remembered; the longest silent one is forgotten first.
const PROPOSERS_MAX: usize = 64;

/// The value chosen under some ballot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StrongValue {
    /// Strong writes so far.
    pub strong_version: u32,
    /// The row's merged state, eventual writes absorbed so far included; `None` = never written.
    pub state: Option<State>,
    /// The join of the contexts of its writers and of everything absorbed.
    pub deps: Context,
    groups: BTreeMap<Origin, Groups>,
    dedup: BTreeMap<u64, Remembered>,
    dedup_floor: Hlc,
}

/// A proposer's groups that took effect and may still be proposed again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Groups {
    /// Groups of lower numbers were given up.
    floor: u64,
    /// When the last one took effect.
    hlc: Hlc,
    groups: Vec<Group>,
}

/// A group: its number and the outcomes of its operations.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    number: u64,
    outcomes: Vec<Outcome>,
}

/// The latest request of a client session on this row.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Remembered {
    id: RequestId,
    outcome: Outcome,
    hlc: Hlc,
}

/// What a strong operation does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Reads, and absorbs the quorum's eventual state by being proposed.
    Read,
    /// Writes a register.
    Put(Bytes),
    /// Deletes a register, or takes a counter's observed value off.
    Delete,
    /// Writes (or with `None` deletes) a register if the expectation holds.
    CompareAndSet(Expect, Option<Bytes>),
    /// Adds to a counter.
    Increment(i64),
    /// Adds the row's element to its set.
    AddElement,
    /// Removes the row's element from its set.
    RemoveElement,
}

/// What a compare-and-set expects to find.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// No value.
    Absent,
    /// The version of this etag.
    Etag(Bytes),
    /// These bytes.
    Value(Bytes),
}

/// A strong operation of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// What to do.
    pub action: Action,
    /// The client's name for it.
    pub request: Option<RequestId>,
    /// What the client's session had seen.
    pub deps: Context,
}

/// What became of a strong operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A read: the state is that of the chosen value.
    Read,
    /// It took effect; the etag of the row after it, and a counter's total.
    Done {
        /// The row's version right after the operation.
        etag: Bytes,
        /// A counter's value right after the operation, else 0.
        total: i64,
    },
    /// The condition did not hold; the etag found. A linearized read.
    ConditionFailed {
        /// The row's version at that moment; empty when absent.
        etag: Bytes,
    },
    /// The request id is older than what is remembered: it may have taken effect.
    Unknown,
    /// It would overflow a counter; not applied.
    Overflow,
}

/// Everything that groups need to know about where they are applied.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The ballot under which the result will be proposed.
    pub ballot: Ballot,
    /// The clock of whoever applies them.
    pub hlc: Hlc,
    /// What the row holds.
    pub value_type: ValueType,
    /// Sessions whose latest request id the value remembers:
    /// [`DEDUP_SESSIONS_MAX`](crate::limits::DEDUP_SESSIONS_MAX) in the product.
    pub dedup_sessions: usize,
    /// Rules in force.
    pub rules: Rules,
}

impl StrongValue {
    /// Takes eventual state in: the only way in which eventual writes become visible to strong
    /// operations.
    pub fn absorb(&mut self, state: &State, context: &Context, rules: Rules) {
        match &mut self.state {
            Some(mine) => {
                mine.merge(state);
            }
            none => *none = Some(state.clone()),
        }
        if !rules.broken(Mutant::StrongValueWithoutDeps) {
            self.deps.join(context);
        }
    }

    /// Whether the state lacks something of an eventual state.
    pub fn lacks(&self, eventual: &State) -> bool {
        eventual.beyond(self.state.as_ref())
    }

    /// The row's version; empty when it was never written.
    pub fn etag(&self) -> Bytes {
        self.state.as_ref().map_or_else(Bytes::new, State::etag)
    }

    /// Applies a group in order; one outcome per operation. Before it, under the same ballot, went `first` operations
    /// of other groups.
    ///
    /// A group that took effect before (found under the same proposer and number) is not applied
    /// again: its outcomes come back, its reads see the present state. One below those that its proposer had under way
    /// with its last was given up: a message was late, and nobody waits for it.
    pub fn apply_group(&mut self, errand: &Errand, first: u16, place: Place) -> Vec<Outcome> {
        let operations = &errand.operations;
        if let Some(known) = self.groups.get(&errand.proposer) {
            let same = |group: &&Group| group.number == errand.group;
            if let Some(group) = known.groups.iter().find(same)
                && !place.rules.broken(Mutant::NoDedup)
            {
                return group.outcomes.clone();
            }
            if errand.group < known.floor && !place.rules.broken(Mutant::StaleGroupApplied) {
                let outcome = |operation: &Operation| match operation.action {
                    Action::Read => Outcome::Read,
                    _ => Outcome::Unknown,
                };
                return operations.iter().map(outcome).collect();
            }
        }
        let outcomes: Vec<Outcome> = (first..)
            .zip(operations)
            .map(|(index, operation)| self.apply(operation, index, place))
            .collect();
        if outcomes.iter().any(|o| *o != Outcome::Read) {
            self.remember_group(errand, outcomes.clone(), place);
        }
        outcomes
    }

    fn apply(&mut self, operation: &Operation, index: u16, place: Place) -> Outcome {
        if operation.action == Action::Read {
            return Outcome::Read;
        }
        if let Some(id) = operation.request
            && let Some(outcome) = self.recall(id, place.rules)
        {
            return outcome;
        }
        let outcome = self.perform(operation, index, place);
        if let Some(id) = operation.request {
            self.remember(id, outcome.clone(), place);
        }
        outcome
    }

    fn perform(&mut self, operation: &Operation, index: u16, place: Place) -> Outcome {
        if let Action::CompareAndSet(expect, _) = &operation.action
            && !self.meets(expect)
        {
            return Outcome::ConditionFailed { etag: self.etag() };
        }
        let Some(change) = self.change(&operation.action, index, place) else {
            return Outcome::Overflow;
        };
        self.strong_version = self.next_version(index, place.rules);
        if !place.rules.broken(Mutant::StrongValueWithoutDeps) {
            self.deps.join(&operation.deps);
        }
        match &mut self.state {
            Some(state) => {
                state.merge(&change);
            }
            none => *none = Some(change),
        }
        let total = self.state.as_ref().map_or(Ok(0), State::total);
        Outcome::Done {
            etag: self.etag(),
            total: total.unwrap_or(0),
        }
    }

    /// Whether an expectation holds now.
    pub fn meets(&self, expect: &Expect) -> bool {
        let found = self.state.as_ref().filter(|state| state.is_found());
        match expect {
            Expect::Absent => found.is_none(),
            Expect::Etag(etag) => self.etag() == *etag,
            Expect::Value(value) => found.and_then(State::bytes) == Some(value),
        }
    }

    fn next_version(&self, index: u16, rules: Rules) -> u32 {
        let seen = self
            .state
            .as_ref()
            .map_or(0, State::strong_version)
            .max(self.strong_version);
        // A group that shared one version would let its own operations overwrite each other.
        let shared = rules.broken(Mutant::GroupSharesDot) && index > 0;
        seen + u32::from(!shared)
    }

    /// The state that performing the action merges in; `None` when a counter would overflow.
    fn change(&self, action: &Action, index: u16, place: Place) -> Option<State> {
        let index = if place.rules.broken(Mutant::GroupSharesDot) {
            0
        } else {
            index
        };
        let version = self.next_version(index, place.rules);
        let register = |value: Option<Bytes>| {
            let tag = Tag::Strong(place.ballot, index);
            let stamp = Stamp {
                strong_version: version,
                hlc: place.hlc,
                tag,
            };
            Some(State::register(stamp, value))
        };
        match action {
            Action::Read => None,
            Action::Put(value) => register(Some(value.clone())),
            Action::CompareAndSet(_, update) => register(update.clone()),
            Action::Delete if place.value_type == ValueType::Counter => {
                let observed = self.state.as_ref().map_or(Ok(0), State::total).ok()?;
                self.count(observed.checked_neg()?, place)
            }
            Action::Delete => register(None),
            Action::Increment(amount) => self.count(*amount, place),
            Action::AddElement => Some(State::Element(Element::strongly_added((
                version,
                place.ballot,
                index,
            )))),
            Action::RemoveElement => Some(State::Element(match &self.state {
                Some(State::Element(element)) => element.remove_observed(),
                _ => Element::default(),
            })),
        }
    }

    fn count(&self, amount: i64, place: Place) -> Option<State> {
        let own = place.rules.broken(Mutant::StrongIncrementsOnOwnActor);
        let actor = if own {
            Actor::Origin(place.ballot.origin)
        } else {
            Actor::Strong
        };
        let empty = Counter::default();
        let counter = match &self.state {
            Some(State::Counter(counter)) => counter,
            _ => &empty,
        };
        let totals = Counter::plus(counter.totals(actor), amount).ok()?;
        counter.total().ok()?.checked_add(amount)?;
        Some(State::Counter(Counter::of(actor, totals)))
    }

    /// What is known of a request id: its outcome, or that it may be older than memory goes.
    fn recall(&self, id: RequestId, rules: Rules) -> Option<Outcome> {
        if rules.broken(Mutant::NoDedup) {
            return None;
        }
        match self.dedup.get(&id.session) {
            Some(known) if known.id.seq == id.seq => Some(known.outcome.clone()),
            Some(known) if known.id.seq > id.seq => Some(Outcome::Unknown),
            _ => (id.issued < self.dedup_floor).then_some(Outcome::Unknown),
        }
    }

    /// Whether one of these operations is a repeated request whose outcome is remembered.
    pub fn recalls_any(&self, operations: &[Operation]) -> bool {
        operations.iter().filter_map(|o| o.request).any(|id| {
            let known = self.dedup.get(&id.session);
            known.is_some_and(|known| known.id.seq == id.seq)
        })
    }

    fn remember(&mut self, mut id: RequestId, outcome: Outcome, place: Place) {
        let hlc = place.hlc;
        if let Some(known) = self.dedup.get(&id.session) {
            // One entry stands for all of its session's requests, whatever clock each was issued by:
            // when it is evicted, the floor must cover them all.
            id.issued = id.issued.max(known.id.issued);
        }
        self.dedup
            .insert(id.session, Remembered { id, outcome, hlc });
        while self.dedup.len() > place.dedup_sessions {
            let oldest = self
                .dedup
                .iter()
                .min_by_key(|(session, r)| (r.hlc, **session));
            let Some((session, evicted)) = oldest.map(|(s, r)| (*s, r.id)) else {
                return;
            };
            self.dedup.remove(&session);
            if !place.rules.broken(Mutant::DedupFloorNotRaised) {
                self.dedup_floor = self.dedup_floor.max(Hlc(evicted.issued.0 + 1));
            }
        }
    }

    fn remember_group(&mut self, errand: &Errand, outcomes: Vec<Outcome>, place: Place) {
        let known = self.groups.entry(errand.proposer).or_default();
        known.floor = known.floor.max(errand.oldest.min(errand.group));
        known.hlc = place.hlc;
        known.groups.push(Group {
            number: errand.group,
            outcomes,
        });
        let floor = known.floor;
        known.groups.retain(|group| group.number >= floor);
        while known.groups.len() > GROUPS_KEPT_MAX {
            let dropped = known.groups.remove(0);
            known.floor = known.floor.max(dropped.number.saturating_add(1));
        }
        while self.groups.len() > PROPOSERS_MAX {
            let silent = self.groups.iter().min_by_key(|(o, g)| (g.hlc, **o));
            let Some(origin) = silent.map(|(origin, _)| *origin) else {
                return;
            };
            self.groups.remove(&origin);
        }
    }
}

impl Encode for Expect {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Expect::Absent => out.u8(0),
            Expect::Etag(etag) => {
                out.u8(1);
                out.bytes(etag);
            }
            Expect::Value(value) => {
                out.u8(2);
                out.bytes(value);
            }
        }
    }
    fn decode(input: &mut Decoder) -> Decoded<Expect> {
        Ok(match input.u8("expectation")? {
            0 => Expect::Absent,
            1 => Expect::Etag(input.bytes("etag")?),
            2 => Expect::Value(input.bytes("value")?),
            _ => return Err(malformed("expectation")),
        })
    }
}

impl Encode for Action {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Action::Read => out.u8(0),
            Action::Put(value) => {
                out.u8(1);
                out.bytes(value);
            }
            Action::Delete => out.u8(2),
            Action::CompareAndSet(expect, update) => {
                out.u8(3);
                out.put(expect);
                out.bool(update.is_some());
                out.bytes(update.as_deref().unwrap_or_default());
            }
            Action::Increment(amount) => {
                out.u8(4);
                out.number(*amount as u64);
            }
            Action::AddElement => out.u8(5),
            Action::RemoveElement => out.u8(6),
        }
    }
    fn decode(input: &mut Decoder) -> Decoded<Action> {
        Ok(match input.u8("action")? {
            0 => Action::Read,
            1 => Action::Put(input.bytes("value")?),
            2 => Action::Delete,
            3 => {
                let (expect, writes) = (input.get()?, input.bool("update")?);
                let update = input.bytes("update")?;
                Action::CompareAndSet(expect, writes.then_some(update))
            }
            4 => Action::Increment(input.number("amount")? as i64),
            5 => Action::AddElement,
            6 => Action::RemoveElement,
            _ => return Err(malformed("action")),
        })
    }
}

impl Encode for Operation {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.action);
        out.option(self.request.as_ref());
        out.put(&self.deps);
    }
    fn decode(input: &mut Decoder) -> Decoded<Operation> {
        Ok(Operation {
            action: input.get()?,
            request: input.option()?,
            deps: input.get()?,
        })
    }
}

fn malformed(what: &'static str) -> crate::codec::DecodeError {
    crate::codec::DecodeError::Malformed { what }
}

impl Encode for Outcome {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Outcome::Read => out.u8(0),
            Outcome::Done { etag, total } => {
                out.u8(1);
                out.bytes(etag);
                out.number(*total as u64);
            }
            Outcome::ConditionFailed { etag } => {
                out.u8(2);
                out.bytes(etag);
            }
            Outcome::Unknown => out.u8(3),
            Outcome::Overflow => out.u8(4),
        }
    }
    fn decode(input: &mut Decoder) -> Decoded<Outcome> {
        Ok(match input.u8("outcome")? {
            0 => Outcome::Read,
            1 => Outcome::Done {
                etag: input.bytes("etag")?,
                total: input.number("total")? as i64,
            },
            2 => Outcome::ConditionFailed {
                etag: input.bytes("etag")?,
            },
            3 => Outcome::Unknown,
            4 => Outcome::Overflow,
            _ => return Err(malformed("outcome")),
        })
    }
}

impl Encode for Group {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.number);
        out.list(self.outcomes.iter().cloned());
    }
    fn decode(input: &mut Decoder) -> Decoded<Group> {
        Ok(Group {
            number: input.number("group")?,
            outcomes: input.list("outcomes")?,
        })
    }
}

impl Encode for Groups {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.floor);
        out.put(&self.hlc);
        out.list(self.groups.iter().cloned());
    }
    fn decode(input: &mut Decoder) -> Decoded<Groups> {
        Ok(Groups {
            floor: input.number("floor")?,
            hlc: input.get()?,
            groups: input.list("groups")?,
        })
    }
}

impl Encode for Remembered {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.id);
        out.put(&self.outcome);
        out.put(&self.hlc);
    }
    fn decode(input: &mut Decoder) -> Decoded<Remembered> {
        Ok(Remembered {
            id: input.get()?,
            outcome: input.get()?,
            hlc: input.get()?,
        })
    }
}

impl Encode for StrongValue {
    fn encode(&self, out: &mut Encoder) {
        out.number(u64::from(self.strong_version));
        out.option(self.state.as_ref());
        out.put(&self.deps);
        out.list(self.groups.iter().map(|(o, g)| (*o, g.clone())));
        out.list(self.dedup.values().cloned());
        out.put(&self.dedup_floor);
    }
    fn decode(input: &mut Decoder) -> Decoded<StrongValue> {
        Ok(StrongValue {
            strong_version: input.small("strong version")?,
            state: input.option()?,
            deps: input.get()?,
            groups: input
                .list::<(Origin, Groups)>("groups")?
                .into_iter()
                .collect(),
            dedup: input
                .list::<Remembered>("request ids")?
                .into_iter()
                .map(|r| (r.id.session, r))
                .collect(),
            dedup_floor: input.get()?,
        })
    }
}

#[cfg(test)]
mod tests;
