//! The bandwidth limit: one token bucket for each direction of a link.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::settings::Direction;

/// What may come out at once after a rest, as time: so long before now the
/// bucket begins to count. It is longer than a timer is ever late on a healthy
/// machine, so that lateness does not cost bandwidth, and short against the
/// second over which the limit is exact.
const BURST: Duration = Duration::from_millis(20);

/// The buckets of a link.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    forward: Bucket,
    backward: Bucket,
}

impl Buckets {
    pub(crate) fn direction(&self, direction: Direction) -> &Bucket {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Backward => &self.backward,
        }
    }
}

/// One direction's limit. It is kept as a moment: when everything granted so
/// far has been carried. That is exact at every rate and needs no refill.
#[derive(Debug, Default)]
pub(crate) struct Bucket(Mutex<Option<Granted>>);

#[derive(Clone, Copy, Debug)]
struct Granted {
    rate: NonZeroU64,
    until: Instant,
}

impl Bucket {
    /// Grants bytes at this many per second; returns when they may come out.
    /// Another rate than before starts afresh: what was granted at the old one
    /// is forgotten.
    pub(crate) fn grant(&self, rate: NonZeroU64, bytes: usize, now: Instant) -> Instant {
        // A poisoned lock is taken: no holder leaves a half-made change.
        let mut granted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = match *granted {
            Some(last) if last.rate == rate => last.until.max(earliest),
            _ => now,
        };
        let until = begin + duration(rate, bytes);
        *granted = Some(Granted { rate, until });
        until
    }
}

/// Most bytes to ask for at a time: a burst, so that a slow link drips instead
/// of being silent for a while; at least one.
pub(crate) fn piece(rate: NonZeroU64) -> usize {
    let bytes = u128::from(rate.get()) * BURST.as_nanos() / 1_000_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX).max(1)
}

/// How long these bytes take.
fn duration(rate: NonZeroU64, bytes: usize) -> Duration {
    let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(rate.get());
    // A piece takes a burst, or a second at one byte per second.
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rate: u64) -> NonZeroU64 {
        NonZeroU64::new(rate).unwrap()
    }

    /// What comes out until `end` of somebody who always has more to send and
    /// whose timer is late by so much.
    fn carried(
        bucket: &Bucket,
        rate: NonZeroU64,
        start: Instant,
        end: Instant,
        late: Duration,
    ) -> u64 {
        let (mut now, mut bytes) = (start, 0);
        loop {
            let piece = piece(rate).min(16 << 10);
            now = now.max(bucket.grant(rate, piece, now) + late);
            if now > end {
                return bytes;
            }
            bytes += piece as u64;
        }
    }

    #[test]
    fn a_second_carries_what_it_should_at_every_rate() {
        let start = Instant::now();
        let end = start + Duration::from_secs(1);
        for bytes in [1, 7, 2_048, 20_480, 1_000_000, 100_000_000] {
            for late in [Duration::ZERO, Duration::from_millis(2)] {
                let carried = carried(&Bucket::default(), rate(bytes), start, end, late);
                let most_under = 2 * piece(rate(bytes)) as u64;
                assert!(carried <= bytes, "{carried} of {bytes}");
                // Late by more than a piece takes, it falls behind: a burst makes up for a moment, not for ever.
                if late.is_zero() || bytes <= 1_000_000 {
                    assert!(
                        carried + most_under >= bytes,
                        "{carried} of {bytes}, late {late:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_rest_saves_up_a_burst_and_no_more() {
        let (bucket, start) = (Bucket::default(), Instant::now());
        bucket.grant(rate(1000), 1, start);
        let later = start + Duration::from_secs(60);
        assert!(bucket.grant(rate(1000), 20, later) <= later);
        assert_eq!(
            bucket.grant(rate(1000), 1, later),
            later + Duration::from_millis(1)
        );
    }

    #[test]
    fn another_rate_forgets_what_was_granted() {
        let (bucket, now) = (Bucket::default(), Instant::now());
        let slow = bucket.grant(rate(1), 100, now);
        assert_eq!(slow, now + Duration::from_secs(100));
        assert_eq!(
            bucket.grant(rate(1000), 1, now),
            now + Duration::from_millis(1)
        );
    }
}
