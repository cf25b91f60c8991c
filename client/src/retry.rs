//! When a failed attempt may be followed by another, and where.
//!
//! The rule: a call is never executed twice. A read may run anywhere again. A write that the server
//! refused with `applied: no` left nothing behind. A write whose connection broke may have been
//! applied, so it runs again only where that cannot be seen: at level strong the request id answers
//! the repetition, at the other levels only the same node does, and only for operations that
//! repeated leave the same state. Without a request id nobody knows a write again. A compare-and-set
//! or an increment never crosses a region by itself once it may have been applied.

/// How safe a request is to repeat after its outcome became unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Safety {
    /// Changes nothing.
    Read,
    /// Put, delete, add or remove at level strong: deduplicated everywhere by the request id.
    StrongIdempotent,
    /// Compare-and-set or increment at level strong: deduplicated too, but kept in one region.
    StrongOnce,
    /// Put, delete, add or remove at another level: only the node that took it knows it again. So is
    /// every write that the caller itself repeats there.
    LocalIdempotent,
    /// Increment at another level, or a write without a request id: never by itself.
    Once,
}

/// How an attempt ended without a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// Never left this process.
    NotSent,
    /// Was sent; the connection broke before the answer.
    Broken,
    /// Was refused, nothing applied, and another node may do better.
    RefusedHere,
    /// Was refused, nothing applied, and the same node may do better in a moment; another one if it
    /// does not.
    RefusedNow,
    /// Was refused for good.
    RefusedForGood,
}

impl Ended {
    /// What a refusal that applied nothing allows, by its stable reason.
    ///
    /// `QUORUM_UNREACHABLE` and `SESSION_UNAVAILABLE` are for good: the caller chose the level and
    /// the region, and is told at once that they do not go together now.
    pub(crate) fn refused(reason: &str) -> Ended {
        match reason {
            "OVERLOADED" => Ended::RefusedNow,
            "NOT_HERE"
            | "AWAITING_READMISSION"
            | "CLOCK_OUT_OF_BOUNDS"
            | "DAMAGED"
            | "STORE_FAILED"
            | "SHUTTING_DOWN" => Ended::RefusedHere,
            _ => Ended::RefusedForGood,
        }
    }
}

/// Where the next attempt may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Any endpoint, another one first.
    Anywhere,
    /// Endpoints of the region of the first attempt that was sent.
    SameRegion,
    /// The node of the first attempt that was sent.
    SameNode,
    /// Nowhere.
    GiveUp,
}

/// Where to go after an attempt `ended`. `unknown` says that this attempt or an earlier one may have
/// been applied.
pub(crate) fn next(safety: Safety, ended: Ended, unknown: bool) -> Next {
    if ended == Ended::RefusedForGood {
        return Next::GiveUp;
    }
    if !unknown {
        return Next::Anywhere;
    }
    match safety {
        Safety::Read | Safety::StrongIdempotent => Next::Anywhere,
        Safety::StrongOnce => Next::SameRegion,
        Safety::LocalIdempotent => Next::SameNode,
        Safety::Once => Next::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_write_goes_on_only_where_it_is_known_again() {
        let places = [
            (Safety::Read, Next::Anywhere),
            (Safety::StrongIdempotent, Next::Anywhere),
            (Safety::StrongOnce, Next::SameRegion),
            (Safety::LocalIdempotent, Next::SameNode),
            (Safety::Once, Next::GiveUp),
        ];
        for (safety, place) in places {
            assert_eq!(next(safety, Ended::Broken, true), place, "{safety:?}");
            // A later attempt that was not sent or refused does not forget the broken one.
            assert_eq!(next(safety, Ended::NotSent, true), place, "{safety:?}");
            assert_eq!(next(safety, Ended::RefusedNow, true), place, "{safety:?}");
        }
    }

    #[test]
    fn what_left_nothing_behind_may_go_anywhere() {
        for ended in [Ended::NotSent, Ended::RefusedHere, Ended::RefusedNow] {
            assert_eq!(next(Safety::Once, ended, false), Next::Anywhere);
        }
    }

    #[test]
    fn a_missing_quorum_is_told_at_once() {
        let ended = Ended::refused("QUORUM_UNREACHABLE");
        assert_eq!(next(Safety::Read, ended, false), Next::GiveUp);
    }
}
