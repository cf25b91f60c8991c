//! The only place where the node asks what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hansa_consistency::clock::Now;
use rustix::time::{ClockId, clock_gettime};

/// The time of a step: `CLOCK_BOOTTIME`, which never goes back and counts suspended time, and the wall clock.
///
/// The wall clock is asked of the C library, so that tools which set it for one process (`faketime`) reach it; the
/// other one is asked of the kernel, so that they do not.
pub fn now() -> Now {
    // Only a wall clock set before 1970 is negative: it counts as 1970, far behind every peer, and the
    // peers' clocks are then refused as too far ahead.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = wall.unwrap_or(Duration::ZERO);
    Now {
        monotonic: boottime(),
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
    }
}

fn boottime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // It counts from the boot, and nanoseconds are less than a second of them: neither is ever out of bounds.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn time_does_not_go_back_and_the_wall_is_in_this_century() {
        let first = now();
        let second = now();
        assert!(second.monotonic >= first.monotonic);
        assert!(first.wall_ms > 946_684_800_000);
    }
}
