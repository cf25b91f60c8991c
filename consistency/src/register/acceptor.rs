//! The acceptor: what one replica promised and accepted for one row.
//!
//! Invariant S2: it never accepts or promises below a promise it gave, over any crash;
//! so whoever calls [`Slot::prepare`] or [`Slot::accept`] writes the slot durably
//! before the answer leaves.

use std::sync::Arc;

use crate::codec::{Decoded, Decoder, Encode, Encoder};
use crate::register::strong_value::StrongValue;
use crate::rules::{Mutant, Rules};
use crate::version::Ballot;

/// The acceptor's record of one row. An absent one promised and accepted nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// The highest ballot promised.
    pub promised: Ballot,
    /// The ballot of the accepted value, [`Ballot::ZERO`] when there is none.
    pub accepted: Ballot,
    /// The accepted value.
    pub value: Option<Arc<StrongValue>>,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot {
            promised: Ballot::ZERO,
            accepted: Ballot::ZERO,
            value: None,
        }
    }
}

/// Refused: a ballot was promised or accepted already. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nack {
    /// The ballot that stands in the way; its origin is the owner to yield to.
    pub promised: Ballot,
}

impl Slot {
    /// Promises a ballot: no lower one will be accepted from now on.
    ///
    /// # Errors
    /// [`Nack`] unless it is above everything promised and not below the accepted one; a duplicate is
    /// refused too, so that one ballot is prepared at most once.
    pub fn prepare(&mut self, ballot: Ballot) -> Result<(), Nack> {
        if ballot <= self.promised || ballot < self.accepted {
            return Err(self.nack());
        }
        self.promised = ballot;
        Ok(())
    }

    /// Accepts a value under a ballot; `true` when this was news.
    ///
    /// Helpers re-send the same pair, so accepting it again is fine.
    ///
    /// # Errors
    /// [`Nack`] when a higher ballot was promised, or another value was accepted under this one.
    pub fn accept(
        &mut self,
        ballot: Ballot,
        value: &Arc<StrongValue>,
        rules: Rules,
    ) -> Result<bool, Nack> {
        if ballot == self.accepted && ballot != Ballot::ZERO {
            let again = self.value.as_ref() != Some(value);
            if rules.broken(Mutant::DoubleBallot) {
                self.value = Some(value.clone());
                return Ok(again);
            }
            // Another value under the same ballot: no honest proposer sends one.
            return match again {
                true => Err(self.nack()),
                false => Ok(false),
            };
        }
        let floor = if rules.broken(Mutant::PromiseIgnored) {
            self.accepted
        } else {
            self.promised
        };
        if ballot < floor || ballot < self.accepted {
            return Err(self.nack());
        }
        self.accepted = ballot;
        self.value = Some(value.clone());
        self.promised = self.promised.max(ballot);
        Ok(true)
    }

    fn nack(&self) -> Nack {
        Nack {
            promised: self.promised.max(self.accepted),
        }
    }
}

/// The stored form of an accepted value: its ballot and itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The ballot.
    pub ballot: Ballot,
    /// The value.
    pub value: Arc<StrongValue>,
}

impl Encode for Accepted {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.ballot);
        out.put(self.value.as_ref());
    }
    fn decode(input: &mut Decoder) -> Decoded<Accepted> {
        Ok(Accepted {
            ballot: input.get()?,
            value: Arc::new(input.get()?),
        })
    }
}
