//! Runs that lead to what no cell can: epochs that rise, which the plans do not know yet, and clocks further off than
//! a plan may put them, which the product has to refuse.

use std::time::Duration;

use hansa_consistency::rules::Rules;

use crate::nemesis::{Action, Clock, Layout, Nemesis, Planned};
use crate::sim::scenario::Scenario;
use crate::sim::{self, Run};
use crate::workload::{Levels, Workload};

/// Runs of the drawn chaos, in which epochs rise.
const CHAOS: u64 = 40;
/// Runs in which one clock is beyond the bound, in both directions in turn.
const CLOCKS: u64 = 4;
/// All of them.
pub(super) const COUNT: u64 = CHAOS + CLOCKS;
/// How far that clock is off, milliseconds.
const OFF_MS: i64 = 3_000;

/// The run at a place, and its name.
pub(super) fn run(place: u64) -> (String, Run) {
    match place.checked_sub(CHAOS) {
        None => {
            let seed = place + 1;
            let run = sim::run(seed, Rules::default());
            (format!("sim --seed {seed}"), run)
        }
        Some(number) => {
            let off_ms = if number % 2 == 0 { OFF_MS } else { -OFF_MS };
            let run = sim::run_scenario(&clock_off(number, off_ms), Rules::default(), |_| {});
            (format!("a clock off by {off_ms} ms, {number}"), run)
        }
    }
}

/// A run in which a node's clock is off by this for some seconds.
fn clock_off(seed: u64, off_ms: i64) -> Scenario {
    let planned = |at_ms, clock, begins| Planned {
        at: Duration::from_millis(at_ms),
        action: Action::Clock(0, clock),
        of: Nemesis::ClockJump,
        begins,
    };
    Scenario {
        seed,
        layout: Layout {
            regions: 3,
            nodes_per_region: 1,
        },
        workload: Workload::All,
        levels: Levels::Mixed,
        processes: 6,
        load_ms: 8_000,
        planned: vec![
            planned(2_000, Clock::Offset(off_ms), true),
            planned(6_000, Clock::True, false),
        ],
    }
}
