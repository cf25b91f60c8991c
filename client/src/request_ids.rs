//! Names for writes, so that the server can answer a repetition instead of executing it again.
//!
//! The server remembers, per row and client session, the highest sequence number it has seen and its
//! outcome. So one session may have at most one unacknowledged write per row: a late lower number
//! would be refused as unknown. A [`Lane`] is one such session. Calls outside of a
//! [`Session`](crate::Session) borrow an idle lane from the pool for their time; there are as many
//! lanes as calls were ever under way at once, because servers remember a bounded number of them.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Serialize, Serializer};

use crate::consistency::Consistency;

/// The name of one write: all its attempts carry it, so that servers know it again.
///
/// Prints as `SESSION-SEQ-ISSUED`, three decimal numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId {
    /// The stream of request ids it belongs to; random, not 0.
    pub session: u64,
    /// Its number there, from 1.
    pub seq: u32,
    /// The newest server clock value that was known when the first attempt was made; not 0.
    pub issued: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.session, self.seq, self.issued)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A write whose outcome is unknown, as [`Call::repeat`](crate::Call::repeat) needs it.
///
/// Prints and parses as `SESSION-SEQ-ISSUED/LEVEL/NODE`, so that it can be kept over a restart of the
/// own process. It does not say what was written: keep that beside it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Unfinished {
    /// Its name.
    pub id: RequestId,
    /// The level of its first attempt.
    pub level: Consistency,
    /// The node to which the first attempt went that may have been applied.
    pub node: String,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.id, self.level, self.node)
    }
}

/// Text that is no [`Unfinished`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an unfinished write is SESSION-SEQ-ISSUED/LEVEL/NODE, the numbers decimal and not 0")]
pub struct InvalidUnfinished;

impl FromStr for Unfinished {
    type Err = InvalidUnfinished;

    fn from_str(text: &str) -> Result<Unfinished, InvalidUnfinished> {
        let parts = || {
            let (id, rest) = text.split_once('/')?;
            let (level, node) = rest.split_once('/')?;
            let mut numbers = id.splitn(3, '-');
            let mut number = || numbers.next()?.parse::<u64>().ok().filter(|it| *it > 0);
            let id = RequestId {
                session: number()?,
                seq: number()?.try_into().ok()?,
                issued: number()?,
            };
            Some(Unfinished {
                id,
                level: level.parse().ok()?,
                node: Some(node.to_owned()).filter(|node| !node.is_empty())?,
            })
        };
        parts().ok_or(InvalidUnfinished)
    }
}

/// One stream of request ids: a random session and rising numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lane {
    /// Random, never zero.
    pub(crate) session: u64,
    /// The number of the next write; starts at 1.
    pub(crate) next_seq: u32,
}

impl Lane {
    /// A fresh one. 64 random bits: two of a billion sessions meet with a probability of 3 %, and
    /// then only on one row within the five minutes a server remembers.
    pub(crate) fn random() -> Lane {
        Lane {
            session: rand::random::<u64>().max(1),
            next_seq: 1,
        }
    }

    /// Takes the next number. It is used up from now on, whatever becomes of the call.
    /// Numbers that ran out are followed by a fresh session.
    pub(crate) fn take(&mut self) -> (u64, u32) {
        let taken = (self.session, self.next_seq);
        match self.next_seq.checked_add(1) {
            Some(next) => self.next_seq = next,
            None => *self = Lane::random(),
        }
        taken
    }
}

/// The idle lanes of a client.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<Vec<Lane>>);

impl Lanes {
    /// Borrows a lane; it comes back when the loan is dropped.
    pub(crate) fn borrow(&self) -> Loan<'_> {
        let lane = self.idle().pop().unwrap_or_else(Lane::random);
        Loan { lanes: self, lane }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A borrowed lane.
#[derive(Debug)]
pub(crate) struct Loan<'a> {
    lanes: &'a Lanes,
    /// The lane.
    pub(crate) lane: Lane,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.lanes.idle().push(self.lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_writes_print_and_parse() {
        let before = Unfinished {
            id: RequestId {
                session: u64::MAX,
                seq: 7,
                issued: 1 << 60,
            },
            level: Consistency::KeyspaceDefault,
            node: "eu-central-1/a".to_owned(),
        };
        let text = format!("{}-7-{}/default/eu-central-1/a", u64::MAX, 1u64 << 60);
        assert_eq!(before.to_string(), text);
        assert_eq!(text.parse(), Ok(before));
        for wrong in [
            "",
            "1-2-3",
            "1-2-3/strong",
            "1-2-3/strong/",
            "1-2/strong/n",
            "1-2-3-4/strong/n",
            "0-2-3/strong/n",
            "1-4294967296-3/strong/n",
            "1-2-3/quorum/n",
        ] {
            assert_eq!(
                wrong.parse::<Unfinished>(),
                Err(InvalidUnfinished),
                "{wrong}"
            );
        }
    }

    #[test]
    fn calls_at_the_same_time_have_different_sessions_and_later_ones_reuse_them() {
        let lanes = Lanes::default();
        let (first, second) = (lanes.borrow(), lanes.borrow());
        assert_ne!(first.lane.session, second.lane.session);
        let mut seen = [first.lane.session, second.lane.session];
        drop((first, second));
        let mut again = lanes.borrow();
        assert!(seen.contains(&again.lane.session));
        let taken = again.lane.take();
        drop(again);
        let next = lanes.borrow();
        assert_eq!(
            (next.lane.session, next.lane.next_seq),
            (taken.0, taken.1 + 1)
        );
        seen.sort_unstable();
        assert_eq!(lanes.idle().len(), 1);
    }

    #[test]
    fn numbers_that_ran_out_start_a_fresh_session() {
        let mut lane = Lane {
            session: 7,
            next_seq: u32::MAX,
        };
        assert_eq!(lane.take(), (7, u32::MAX));
        assert_ne!(lane.session, 7);
        assert_eq!(lane.next_seq, 1);
    }
}
