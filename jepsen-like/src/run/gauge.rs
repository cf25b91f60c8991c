//! What nodes use, measured all along a round: a peak counts, also one that is over when the round ends.

use std::time::Duration;

use super::load::Desk;
use crate::history::Record;
use crate::history::events::UsageEvent;
use crate::target::{RunClock, Target, Usage};

/// Between two measurements. A node is stopped or killed for longer than this, so none is missed for long.
const EVERY: Duration = Duration::from_secs(1);
/// Measurements in a round, at most: a long one is measured less often.
const SAMPLES_MAX: u32 = 300;

/// When to measure.
pub(super) struct Gauge {
    every: Duration,
    due: Duration,
}

impl Gauge {
    /// For a load of this length.
    pub(super) fn new(until: Duration) -> Gauge {
        let every = EVERY.max(until / SAMPLES_MAX);
        Gauge { every, due: every }
    }

    /// Waits until so much of the round is over, and measures whenever it is due meanwhile. What was missed while
    /// something else took its time is measured once.
    pub(super) async fn wait<T: Target>(
        &mut self,
        target: &mut T,
        desk: &Desk,
        clock: RunClock,
        until: Duration,
    ) {
        loop {
            let now = clock.elapsed();
            if now >= self.due {
                for record in measure(target, clock).await {
                    desk.record(record);
                }
                self.due = clock.elapsed() + self.every;
                continue;
            }
            if now >= until {
                return;
            }
            tokio::time::sleep(until.min(self.due).saturating_sub(now)).await;
        }
    }
}

/// What every running node uses now, as lines of the history.
pub(super) async fn measure<T: Target>(target: &mut T, clock: RunClock) -> Vec<Record> {
    let used = target.usage().await;
    let line = |(at, used): (usize, Usage)| {
        let event = UsageEvent {
            memory: used.memory,
            disk: used.disk,
            files: used.files,
        };
        // One process records them all, one after the other.
        event.record(&target.node_name(used.node), clock.now_ns() + at as u64)
    };
    used.into_iter().enumerate().map(line).collect()
}
