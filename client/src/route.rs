//! Which endpoint to ask first.
//!
//! Nearest first: the home region before all others, then by measured round trip, then by the order
//! in which the endpoints were named. An endpoint that failed a moment ago goes to the end of the
//! line instead of out of it, because a wrong guess must not make a call fail.

use std::time::Duration;

/// What the order is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    /// Position in the builder.
    pub(crate) index: usize,
    /// In the client's home region.
    pub(crate) home: bool,
    /// Measured round trip; `None` before the first connection.
    pub(crate) round_trip: Option<Duration>,
    /// Failed a moment ago.
    pub(crate) down: bool,
}

/// Assumed for an endpoint that was not measured yet: a far region.
const ROUND_TRIP_UNKNOWN: Duration = Duration::from_millis(200);

/// The candidates' indices, the one to ask first in front.
pub(crate) fn order(mut candidates: Vec<Candidate>) -> Vec<usize> {
    candidates.sort_by_key(|c| {
        let round_trip = c.round_trip.unwrap_or(ROUND_TRIP_UNKNOWN);
        (c.down, !c.home, round_trip, c.index)
    });
    candidates.into_iter().map(|c| c.index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: usize, home: bool, ms: Option<u64>, down: bool) -> Candidate {
        Candidate {
            index,
            home,
            round_trip: ms.map(Duration::from_millis),
            down,
        }
    }

    #[test]
    fn home_then_near_then_named_first_and_failed_ones_last() {
        let candidates = vec![
            candidate(0, false, Some(90), false),
            candidate(1, false, Some(3), false),
            candidate(2, true, Some(150), false),
            candidate(3, true, None, true),
            candidate(4, false, None, false),
            candidate(5, false, None, false),
        ];
        assert_eq!(order(candidates), [2, 1, 0, 4, 5, 3]);
    }
}
