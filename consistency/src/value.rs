//! Values: what a row holds, how two states merge, and their canonical form.
//!
//! Every state is a join-semilattice (Shapiro et al., 2011): `merge` is associative,
//! commutative and idempotent, so replicas that saw the same entries in any order
//! hold equal states, with equal encodings and equal digests. A log entry's change
//! is itself a state (a delta, Almeida et al. 2018), so applying it twice is harmless.
//!
//! * register: last writer wins by [`Stamp`], over `crdts::LWWReg`;
//! * counter: absolute totals of increments and decrements per actor, over
//!   `crdts::VClock`; strong operations share one reserved actor;
//! * element of a set: the newest live add per origin and what was removed, over
//!   `crdts::VClock`; a concurrent add wins over a remove.

use bytes::Bytes;
use crdts::{CmRDT, CvRDT, LWWReg, VClock};

use crate::clock::Hlc;
use crate::codec::{DecodeError, Decoded, Decoder, Encode, Encoder};
use crate::topology::ValueType;
use crate::version::{Ballot, Dot, Origin, Stamp};

/// What a register write wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payload {
    /// The bytes, or `None` for a delete.
    pub value: Option<Bytes>,
    /// When it ends; [`Hlc::ZERO`] for never. Not evaluated before TTL exists.
    pub expires_at: Hlc,
}

/// Who counts: a single writer of totals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Actor {
    /// The chain of strong values; grows only along it.
    Strong,
    /// One origin's own entries.
    Origin(Origin),
}

/// A counter: absolute totals per actor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counter {
    up: VClock<Actor>,
    down: VClock<Actor>,
}

/// The name of a strong add: the strong version it made, its ballot, its index in the group.
pub type StrongDot = (u32, Ballot, u16);

/// One element of a set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Element {
    /// The newest live add of each origin.
    adds: VClock<Origin>,
    /// The newest live strong add.
    strong_add: Option<StrongDot>,
    /// The highest removed add of each origin.
    removed: VClock<Origin>,
    /// The highest removed strong version.
    removed_strong: u32,
}

/// The state of one row, or a change of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Of a register keyspace.
    Register(LWWReg<Payload, Stamp>),
    /// Of a counter keyspace.
    Counter(Counter),
    /// Of a set keyspace.
    Element(Element),
}

/// A counter's total would leave the range of its type. Nothing was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the counter would overflow 64 bits")]
pub struct Overflow;

impl State {
    /// A register write.
    pub fn register(stamp: Stamp, value: Option<Bytes>) -> State {
        State::Register(LWWReg {
            val: Payload {
                value,
                expires_at: Hlc::ZERO,
            },
            marker: stamp,
        })
    }

    /// The type of the keyspace such a state belongs to.
    pub fn value_type(&self) -> ValueType {
        match self {
            State::Register(_) => ValueType::Register,
            State::Counter(_) => ValueType::Counter,
            State::Element(_) => ValueType::Set,
        }
    }

    /// The least upper bound; `true` when it differs from what was there.
    ///
    /// States of different types cannot meet: a row's type is its keyspace's.
    pub fn merge(&mut self, other: &State) -> bool {
        match (self, other) {
            (State::Register(mine), State::Register(theirs)) => {
                let wins = theirs.marker > mine.marker;
                if wins {
                    mine.merge(theirs.clone());
                }
                wins
            }
            (State::Counter(mine), State::Counter(theirs)) => mine.merge(theirs),
            (State::Element(mine), State::Element(theirs)) => mine.merge(theirs),
            (mine, theirs) => {
                debug_assert!(
                    false,
                    "{:?} met {:?}",
                    mine.value_type(),
                    theirs.value_type()
                );
                false
            }
        }
    }

    /// Whether merging this into `other` would change it.
    pub fn beyond(&self, other: Option<&State>) -> bool {
        match other {
            None => true,
            Some(other) => other.clone().merge(self),
        }
    }

    /// The strong version of a register's winning write; zero for other types.
    pub fn strong_version(&self) -> u32 {
        match self {
            State::Register(register) => register.marker.strong_version,
            _ => 0,
        }
    }

    /// The version as clients see it: for a register its stamp in order-preserving bytes, for
    /// other types a digest of the state. Equal states have equal etags.
    pub fn etag(&self) -> Bytes {
        match self {
            State::Register(register) => Bytes::copy_from_slice(&register.marker.ordered_bytes()),
            _ => Bytes::copy_from_slice(&self.digest().to_be_bytes()),
        }
    }

    /// A digest of the canonical encoding.
    pub fn digest(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(&self.to_record())
    }

    /// A register's bytes; `None` when deleted or of another type.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            State::Register(register) => register.val.value.as_ref(),
            _ => None,
        }
    }

    /// A counter's value; zero for other types.
    ///
    /// # Errors
    /// [`Overflow`] when the actors' totals add up to more than 64 bits hold.
    pub fn total(&self) -> Result<i64, Overflow> {
        match self {
            State::Counter(counter) => counter.total(),
            _ => Ok(0),
        }
    }

    /// Whether an element is in the set; `false` for other types.
    pub fn present(&self) -> bool {
        matches!(self, State::Element(element) if element.is_live())
    }

    /// Whether a reader finds something: a value, a counter, a live element.
    pub fn is_found(&self) -> bool {
        match self {
            State::Register(register) => register.val.value.is_some(),
            State::Counter(_) => true,
            State::Element(element) => element.is_live(),
        }
    }
}

fn raise<A: Ord + Clone + std::fmt::Debug>(clock: &mut VClock<A>, actor: A, to: u64) {
    clock.apply(crdts::Dot::new(actor, to));
}

impl Counter {
    /// One actor's totals of increments and decrements.
    pub fn totals(&self, actor: Actor) -> (u64, u64) {
        (self.up.get(&actor), self.down.get(&actor))
    }

    /// A counter that knows one actor's absolute totals only: what an entry carries.
    pub fn of(actor: Actor, (up, down): (u64, u64)) -> Counter {
        let mut counter = Counter::default();
        raise(&mut counter.up, actor, up);
        raise(&mut counter.down, actor, down);
        counter
    }

    /// The totals after adding `amount` to `totals`.
    ///
    /// # Errors
    /// [`Overflow`] when one of them would.
    pub fn plus((up, down): (u64, u64), amount: i64) -> Result<(u64, u64), Overflow> {
        let by = amount.unsigned_abs();
        let (up, down) = if amount >= 0 {
            (up.checked_add(by), Some(down))
        } else {
            (Some(up), down.checked_add(by))
        };
        up.zip(down).ok_or(Overflow)
    }

    /// The value.
    ///
    /// # Errors
    /// [`Overflow`] when it is outside 64 bits.
    pub fn total(&self) -> Result<i64, Overflow> {
        let sum = |clock: &VClock<Actor>| clock.dots.values().map(|t| i128::from(*t)).sum::<i128>();
        i64::try_from(sum(&self.up) - sum(&self.down)).map_err(|_| Overflow)
    }

    /// Adds the other's totals onto these: what an additive entry would do. Only mutants call it.
    pub fn add_totals(&mut self, other: &Counter) {
        for (mine, theirs) in [(&mut self.up, &other.up), (&mut self.down, &other.down)] {
            for (actor, total) in &theirs.dots {
                let sum = mine.get(actor).saturating_add(*total);
                raise(mine, *actor, sum);
            }
        }
    }

    fn merge(&mut self, other: &Counter) -> bool {
        let grows = |mine: &VClock<Actor>, theirs: &VClock<Actor>| {
            theirs.dots.iter().any(|(a, t)| mine.get(a) < *t)
        };
        let changed = grows(&self.up, &other.up) || grows(&self.down, &other.down);
        self.up.merge(other.up.clone());
        self.down.merge(other.down.clone());
        changed
    }
}

impl Element {
    /// An add by a log entry.
    pub fn added(dot: Dot) -> Element {
        let mut element = Element::default();
        raise(&mut element.adds, dot.origin, dot.seq);
        element
    }

    /// An add by a strong operation.
    pub fn strongly_added(dot: StrongDot) -> Element {
        Element {
            strong_add: Some(dot),
            ..Element::default()
        }
    }

    /// A remove of every add that `self` holds.
    pub fn remove_observed(&self) -> Element {
        let mut removed = self.removed.clone();
        removed.merge(self.adds.clone());
        Element {
            removed,
            removed_strong: self
                .removed_strong
                .max(self.strong_add.map_or(0, |dot| dot.0)),
            ..Element::default()
        }
    }

    /// Whether any add is live.
    pub fn is_live(&self) -> bool {
        !self.adds.is_empty() || self.strong_add.is_some()
    }

    fn merge(&mut self, other: &Element) -> bool {
        let before = self.clone();
        self.adds.merge(other.adds.clone());
        self.removed.merge(other.removed.clone());
        self.strong_add = self.strong_add.max(other.strong_add);
        self.removed_strong = self.removed_strong.max(other.removed_strong);
        let removed = &self.removed;
        self.adds
            .dots
            .retain(|origin, seq| removed.get(origin) < *seq);
        let removed_strong = self.removed_strong;
        self.strong_add = self.strong_add.filter(|dot| dot.0 > removed_strong);
        before != *self
    }
}

impl Encode for Actor {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Actor::Strong => out.u8(0),
            Actor::Origin(origin) => {
                out.u8(1);
                out.put(origin);
            }
        }
    }
    fn decode(input: &mut Decoder) -> Decoded<Actor> {
        match input.u8("actor")? {
            0 => Ok(Actor::Strong),
            1 => Ok(Actor::Origin(input.get()?)),
            _ => Err(DecodeError::Malformed { what: "actor" }),
        }
    }
}

fn put_clock<A: Encode + Ord + Clone + std::fmt::Debug>(out: &mut Encoder, clock: &VClock<A>) {
    out.list(clock.dots.iter().map(|(a, t)| (a.clone(), *t)));
}

fn get_clock<A: Encode + Ord + Clone + std::fmt::Debug>(input: &mut Decoder) -> Decoded<VClock<A>> {
    let mut clock = VClock::default();
    for (actor, total) in input.list::<(A, u64)>("clock")? {
        raise(&mut clock, actor, total);
    }
    Ok(clock)
}

impl Encode for Counter {
    fn encode(&self, out: &mut Encoder) {
        put_clock(out, &self.up);
        put_clock(out, &self.down);
    }
    fn decode(input: &mut Decoder) -> Decoded<Counter> {
        Ok(Counter {
            up: get_clock(input)?,
            down: get_clock(input)?,
        })
    }
}

impl Encode for Element {
    fn encode(&self, out: &mut Encoder) {
        put_clock(out, &self.adds);
        out.bool(self.strong_add.is_some());
        if let Some((version, ballot, index)) = self.strong_add {
            out.number(u64::from(version));
            out.put(&ballot);
            out.number(u64::from(index));
        }
        put_clock(out, &self.removed);
        out.number(u64::from(self.removed_strong));
    }
    fn decode(input: &mut Decoder) -> Decoded<Element> {
        let adds = get_clock(input)?;
        let strong_add = match input.bool("strong add")? {
            true => Some((
                input.small("strong version")?,
                input.get()?,
                input.small("group index")?,
            )),
            false => None,
        };
        Ok(Element {
            adds,
            strong_add,
            removed: get_clock(input)?,
            removed_strong: input.small("strong version")?,
        })
    }
}

impl Encode for State {
    fn encode(&self, out: &mut Encoder) {
        match self {
            State::Register(register) => {
                out.u8(0);
                out.put(&register.marker);
                out.put(&register.val.expires_at);
                out.option(register.val.value.as_ref());
            }
            State::Counter(counter) => {
                out.u8(1);
                out.put(counter);
            }
            State::Element(element) => {
                out.u8(2);
                out.put(element);
            }
        }
    }
    fn decode(input: &mut Decoder) -> Decoded<State> {
        match input.u8("value type")? {
            0 => {
                let marker = input.get()?;
                let expires_at = input.get()?;
                let value = input.option()?;
                Ok(State::Register(LWWReg {
                    val: Payload { value, expires_at },
                    marker,
                }))
            }
            1 => Ok(State::Counter(input.get()?)),
            2 => Ok(State::Element(input.get()?)),
            _ => Err(DecodeError::Malformed { what: "value type" }),
        }
    }
}
