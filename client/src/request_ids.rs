//! Names for writes, so that the server can answer a repetition instead of executing it again.
//!
//! The server remembers, per row and client session, the highest sequence number it has seen and its
//! outcome. So one session may have at most one unacknowledged write per row: a late lower number
//! would be refused as unknown. A [`Lane`] is one such session. Calls outside of a
//! [`Session`](crate::Session) borrow an idle lane from the pool for their time; there are as many
//! lanes as calls were ever under way at once, because servers remember a bounded number of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

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
