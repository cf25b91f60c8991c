//! Time as the core sees it, and the hybrid logical clock (Kulkarni et al., 2014).
//!
//! Safety never rests on a clock: the hybrid clock orders eventual writes and
//! measures session tokens; a wrong wall clock makes last-writer-wins unfair, never
//! inconsistent. A remote value too far ahead is refused ([`ClockAhead`]).

use std::time::Duration;

use crate::limits::{CLOCK_AHEAD_MAX_MS, CLOCK_RESERVE_MS};

/// The time of one step, handed in by the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Time since some fixed point, never going back, counting suspended time (CLOCK_BOOTTIME).
    pub monotonic: Duration,
    /// Milliseconds since 1970, as the machine believes them.
    pub wall_ms: u64,
}

/// A hybrid clock value: 48 bits of milliseconds, 16 bits of counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// Before everything.
    pub const ZERO: Hlc = Hlc(0);

    /// The first value of a millisecond.
    pub fn from_ms(ms: u64) -> Hlc {
        Hlc(ms << 16)
    }

    /// The millisecond the value lies in.
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The value this many milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Hlc {
        Hlc(self.0.saturating_add(ms << 16))
    }

    fn next(self) -> Hlc {
        Hlc(self.0 + 1)
    }
}

/// A remote clock value lies too far ahead of the local wall clock. Nothing was taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a clock {ahead_ms} ms ahead of this node's, at most {CLOCK_AHEAD_MAX_MS} ms are allowed")]
pub struct ClockAhead {
    /// How far ahead it is.
    pub ahead_ms: u64,
}

/// One node's hybrid clock, with the bound it reserved durably.
#[derive(Clone, Debug)]
pub struct Clock {
    last: Hlc,
    /// The newest value handed out; `last` may lie above it by what was taken over.
    issued: Hlc,
    reserved: Hlc,
}

impl Clock {
    /// A clock that resumes at a bound reserved by an earlier start (zero at the first).
    pub fn resume(reserved: Hlc) -> Clock {
        Clock {
            last: reserved,
            issued: Hlc::ZERO,
            reserved,
        }
    }

    /// The newest value issued or taken over.
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// A new value above every earlier one.
    pub fn tick(&mut self, now: Now) -> Hlc {
        self.last = self.last.next().max(Hlc::from_ms(now.wall_ms));
        self.issued = self.last;
        self.last
    }

    /// The value of this moment, without issuing a stamp: never goes back, may repeat.
    pub fn read(&mut self, now: Now) -> Hlc {
        self.last = self.last.max(Hlc::from_ms(now.wall_ms));
        self.issued = self.last;
        self.last
    }

    /// A recent value within the reserved bound: handing it out makes nobody wait for a write.
    pub fn within_reserve(&self) -> Hlc {
        self.last.min(self.reserved)
    }

    /// Takes over a remote value: later ticks lie above it.
    ///
    /// # Errors
    /// [`ClockAhead`] when it lies more than [`CLOCK_AHEAD_MAX_MS`] ahead of the local wall clock.
    pub fn observe(&mut self, now: Now, remote: Hlc) -> Result<(), ClockAhead> {
        check_ahead(now, remote)?;
        self.last = self.last.max(remote);
        Ok(())
    }

    /// The bound to write durably, and whether a value above the last written bound was already
    /// handed out, so that nothing of this step may leave before the write is durable. `None` while the
    /// reserved bound covers the clock with half of [`CLOCK_RESERVE_MS`] to spare.
    pub fn reserve(&mut self) -> Option<(Hlc, bool)> {
        if self.last.plus_ms(CLOCK_RESERVE_MS / 2) <= self.reserved {
            return None;
        }
        let urgent = self.issued >= self.reserved;
        self.reserved = self.last.plus_ms(CLOCK_RESERVE_MS);
        Some((self.reserved, urgent))
    }
}

/// Whether a remote value is within the bound.
///
/// # Errors
/// [`ClockAhead`] when it is not.
pub fn check_ahead(now: Now, remote: Hlc) -> Result<(), ClockAhead> {
    let ahead_ms = remote.ms().saturating_sub(now.wall_ms);
    if ahead_ms > CLOCK_AHEAD_MAX_MS {
        return Err(ClockAhead { ahead_ms });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_ms: u64) -> Now {
        Now {
            monotonic: Duration::from_millis(wall_ms),
            wall_ms,
        }
    }

    #[test]
    fn ticks_rise_when_the_wall_steps_back() {
        let mut clock = Clock::resume(Hlc::ZERO);
        let first = clock.tick(at(1000));
        assert!(clock.tick(at(10)) > first);
        assert!(clock.tick(at(1000)) > first);
    }

    #[test]
    fn a_far_future_is_refused_and_not_taken_over() {
        let mut clock = Clock::resume(Hlc::ZERO);
        clock.tick(at(1000));
        let refused = clock.observe(at(1000), Hlc::from_ms(601_000));
        assert_eq!(refused, Err(ClockAhead { ahead_ms: 600_000 }));
        assert!(clock.tick(at(1001)).ms() < 1010);
        assert!(clock.observe(at(1001), Hlc::from_ms(1500)).is_ok());
        assert!(clock.tick(at(1001)) > Hlc::from_ms(1500));
    }

    #[test]
    fn a_value_within_the_reserve_is_never_urgent() {
        let mut clock = Clock::resume(Hlc::ZERO);
        clock.tick(at(1000));
        assert!(matches!(clock.reserve(), Some((_, true))));
        let durable = clock.within_reserve();
        // Time and a remote value run past the bound, but nothing above it was handed out.
        clock.observe(at(9000), Hlc::from_ms(9100)).unwrap();
        assert!(clock.within_reserve() >= durable);
        assert!(clock.within_reserve() < Hlc::from_ms(1000 + CLOCK_RESERVE_MS + 1));
        assert!(matches!(clock.reserve(), Some((_, false))));
        clock.read(at(12_000));
        assert!(matches!(clock.reserve(), Some((_, true))));
    }

    #[test]
    fn a_restart_never_issues_a_stamp_twice() {
        let mut clock = Clock::resume(Hlc::ZERO);
        let mut durable = Hlc::ZERO;
        let mut newest = Hlc::ZERO;
        for ms in 0..5000 {
            newest = clock.tick(at(ms));
            durable = clock.reserve().map_or(durable, |(bound, _)| bound);
            assert!(durable > newest);
        }
        assert!(Clock::resume(durable).tick(at(0)) > newest);
    }
}
