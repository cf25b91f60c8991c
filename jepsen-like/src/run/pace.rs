//! How long the load of each round is: as long as asked for, and shorter where too few rounds would fit into the run.

use std::time::Duration;

use super::Options;

/// What a round takes beside its load before any was played: healing, reading, judging, and its part of a cluster's
/// start.
const BESIDE: Duration = Duration::from_secs(2);
/// The load of a round is at least such a part of what was asked for.
const SHORTEST: u32 = 4;
/// So many rounds more than wanted are aimed at, percent: the last ones may take longer than those before.
const SPARE_PERCENT: u32 = 10;

/// The lengths of loads.
///
/// Before each round the time that is left is divided by the rounds that are missing; what rounds have taken beside
/// their loads until now is taken off. So a slower machine has shorter loads and not fewer rounds, and nothing of what
/// follows a load is left out.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    round: Duration,
    time: Duration,
    aim: u32,
    done: u32,
    loads: Duration,
}

impl Pace {
    pub(super) fn new(options: &Options) -> Pace {
        let wanted = options.rounds;
        Pace {
            round: options.round,
            time: options.time,
            aim: wanted + (wanted * SPARE_PERCENT).div_ceil(100),
            done: 0,
            loads: Duration::ZERO,
        }
    }

    /// The load of the round that begins now, so long after the run began.
    pub(super) fn load(&self, elapsed: Duration) -> Duration {
        let Some(missing) = self.aim.checked_sub(self.done).filter(|it| *it > 0) else {
            return self.round;
        };
        let beside = match self.done {
            0 => BESIDE,
            done => elapsed.saturating_sub(self.loads) / done,
        };
        let each = self.time.saturating_sub(elapsed) / missing;
        let load = each.saturating_sub(beside);
        load.clamp(self.round / SHORTEST, self.round)
    }

    /// A round of this load was played.
    pub(super) fn played(&mut self, load: Duration) {
        self.done += 1;
        self.loads += load;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    /// Plays a run of 300 s of which 30 rounds are wanted, each of which takes so long beside its load, and every sixth a
    /// cluster's start more; how many rounds there are, and the shortest and longest load.
    fn rounds(beside: f64, start: f64, wanted: u32) -> (u32, f64, f64) {
        let options = Options {
            time: Duration::from_secs(300),
            round: Duration::from_secs(8),
            rounds: wanted,
            ..options(std::path::Path::new("nowhere"))
        };
        let mut pace = Pace::new(&options);
        let (mut elapsed, mut loads) = (Duration::ZERO, Vec::new());
        while elapsed < options.time {
            if loads.len() % 6 == 0 {
                elapsed += Duration::from_secs_f64(start);
            }
            let load = pace.load(elapsed);
            elapsed += load + Duration::from_secs_f64(beside);
            pace.played(load);
            loads.push(load.as_secs_f64());
        }
        let shortest = loads.iter().copied().fold(f64::MAX, f64::min);
        (
            loads.len() as u32,
            shortest,
            loads.iter().copied().fold(0.0, f64::max),
        )
    }

    #[test]
    fn thirty_rounds_fit_on_slower_machines_too() {
        for (beside, start) in [(0.5, 3.0), (1.5, 4.0), (3.0, 8.0), (5.0, 10.0), (6.0, 6.0)] {
            let (count, shortest, longest) = rounds(beside, start, 30);
            assert!(count >= 30, "{beside} s and {start} s: {count}");
            assert!(shortest >= 2.0 && longest <= 8.0, "{shortest} to {longest}");
        }
        let (_, shortest, _) = rounds(0.5, 1.0, 30);
        assert!(
            shortest > 7.0,
            "a fast machine has no reason for short loads: {shortest}"
        );
    }

    #[test]
    fn where_no_number_is_wanted_loads_are_as_long_as_asked_for() {
        let (count, shortest, longest) = rounds(6.0, 6.0, 0);
        assert!(count < 30, "{count}");
        assert!((shortest - 8.0).abs() < 1e-9 && (longest - 8.0).abs() < 1e-9);
    }
}
