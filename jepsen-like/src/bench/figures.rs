//! What was measured: latencies by operation, level and region, in bounded memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::mix::{Kind, level_name};
use crate::history::Level;

/// Longest latency that is told apart, microseconds; operations are given up long before.
const LATENCY_MAX_US: u64 = 120_000_000;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;
/// Different reasons of failures that are told apart in one row; the others count as `OTHER`.
const REASONS_MAX: usize = 8;
/// Points of a curve each time that half as many operations are slower.
const POINTS_PER_HALVING: i32 = 4;
/// Points of a curve, at most: of more operations than there ever are.
const POINTS_MAX: i32 = 60 * POINTS_PER_HALVING;
/// See [`REASONS_MAX`].
const OTHER: &str = "OTHER";

/// The span in which operations count: what is due (open loop) or begun (closed loop) in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) begin: Instant,
    pub(super) end: Instant,
}

impl Window {
    fn has(self, at: Instant) -> bool {
        self.begin <= at && at < self.end
    }
}

/// One operation at one level.
#[derive(Debug, Default)]
struct Cell {
    /// Microseconds, of those that succeeded. `None` before the first.
    latency: Option<Histogram<u64>>,
    /// Ended inside the window, well or not.
    ended: u64,
    /// Ended well inside the window.
    done: u64,
    failed: u64,
    reasons: BTreeMap<String, u64>,
}

impl Cell {
    fn add(&mut self, other: &Cell) {
        if let Some(theirs) = &other.latency {
            match &mut self.latency {
                // All have the same bounds, so that nothing is refused.
                Some(ours) => drop(ours.add(theirs)),
                None => self.latency = Some(theirs.clone()),
            }
        }
        self.ended += other.ended;
        self.done += other.done;
        self.failed += other.failed;
        for (reason, count) in &other.reasons {
            self.fail(reason, *count);
        }
    }

    fn fail(&mut self, reason: &str, count: u64) {
        let known = self.reasons.contains_key(reason) || self.reasons.len() < REASONS_MAX;
        let reason = if known { reason } else { OTHER };
        *self.reasons.entry(reason.to_owned()).or_default() += count;
    }

    fn succeed(&mut self, took: Duration) {
        let fresh = || Histogram::new_with_max(LATENCY_MAX_US, DIGITS).ok();
        if self.latency.is_none() {
            self.latency = fresh();
        }
        if let Some(latency) = &mut self.latency {
            latency.saturating_record(took.as_micros() as u64);
        }
    }
}

/// What the clients of one region measured. Its memory is bounded by the kinds of operation, whatever the rate.
#[derive(Debug, Default)]
pub(super) struct Tally {
    cells: BTreeMap<(Kind, Level), Cell>,
}

impl Tally {
    /// Counts one operation that was due, or begun, at `from` and ended at `to`.
    pub(super) fn note(
        &mut self,
        what: (Kind, Level),
        (from, to): (Instant, Instant),
        outcome: Result<(), String>,
        window: Window,
    ) {
        let cell = self.cells.entry(what).or_default();
        if window.has(to) {
            cell.ended += 1;
            cell.done += u64::from(outcome.is_ok());
        }
        if !window.has(from) {
            return;
        }
        match outcome {
            Ok(()) => cell.succeed(to.saturating_duration_since(from)),
            Err(reason) => {
                cell.failed += 1;
                cell.fail(&reason, 1);
            }
        }
    }

    /// Adds what another one measured.
    pub(super) fn add(&mut self, other: &Tally) {
        for (what, cell) in &other.cells {
            self.cells.entry(*what).or_default().add(cell);
        }
    }

    /// Operations that ended inside the window.
    pub(super) fn ended(&self) -> u64 {
        self.cells.values().map(|cell| cell.ended).sum()
    }

    /// A row for each operation and level, of a region that has its limit or of all.
    pub(super) fn rows(&self, region: &str, limit: Option<Duration>, seconds: f64) -> Vec<Row> {
        let row = |(what, cell): (&(Kind, Level), &Cell)| {
            let limit = limit.map(|limit| match what.1 {
                Level::Strong => limit,
                // What is local pays no link.
                Level::Eventual | Level::Session => Duration::ZERO,
            });
            Row::of(*what, cell, (region, limit, seconds))
        };
        self.cells.iter().map(row).collect()
    }
}

/// A line of the table. Latencies are milliseconds, of operations that succeeded; `None` where none did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The operation.
    pub operation: Kind,
    /// The level asked for.
    pub level: &'static str,
    /// Where it was asked; `all` for all regions together.
    pub region: String,
    /// The round trip to the nearest other region for level strong, else 0; `all` has none.
    pub limit_ms: Option<f64>,
    /// Operations whose latency was taken.
    pub count: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Why, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Ended well a second.
    pub per_second: f64,
    /// Half took no longer.
    pub p50_ms: Option<f64>,
    /// Nine of ten took no longer.
    pub p90_ms: Option<f64>,
    /// 99 % took no longer.
    pub p99_ms: Option<f64>,
    /// 99.9 % took no longer.
    pub p999_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
    /// p50 less the limit.
    pub over_limit_ms: Option<f64>,
    /// Which part of them took no longer than so many milliseconds: from the fastest to the slowest, with steps that get
    /// smaller as the parts near 1.
    pub curve: Vec<(f64, f64)>,
}

impl Row {
    fn of(
        (operation, level): (Kind, Level),
        cell: &Cell,
        (region, limit, seconds): (&str, Option<Duration>, f64),
    ) -> Row {
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |quantile: f64| {
            let latency = cell.latency.as_ref();
            latency.map(|it| ms(it.value_at_quantile(quantile)))
        };
        let limit_ms = limit.map(|it| it.as_secs_f64() * 1000.0);
        Row {
            operation,
            level: level_name(level),
            region: region.to_owned(),
            limit_ms,
            count: cell.latency.as_ref().map_or(0, Histogram::len),
            failed: cell.failed,
            reasons: cell.reasons.clone(),
            per_second: cell.done as f64 / seconds.max(1e-9),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: cell.latency.as_ref().map(|it| ms(it.max())),
            over_limit_ms: at(0.5).zip(limit_ms).map(|(p50, limit)| p50 - limit),
            curve: cell.latency.as_ref().map(curve).unwrap_or_default(),
        }
    }
}

/// As [`Row::curve`]. The last point is the slowest operation.
fn curve(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for step in 0..POINTS_MAX {
        let slower = 0.5_f64.powf(f64::from(step) / f64::from(POINTS_PER_HALVING));
        let part = 1.0 - slower;
        points.push((part, latency.value_at_quantile(part) as f64 / 1000.0));
        if slower * (latency.len() as f64) < 1.0 {
            break;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: (Kind, Level) = (Kind::Get, Level::Strong);

    fn window() -> Window {
        let begin = Instant::now();
        Window {
            begin,
            end: begin + Duration::from_secs(10),
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn merged_regions_are_as_one_that_measured_all() {
        let window = window();
        let mut parts = [Tally::default(), Tally::default()];
        let mut whole = Tally::default();
        for took in 1..=1000 {
            let from = window.begin;
            let times = (from, from + ms(took));
            let outcome = || match took % 100 {
                0 => Err("TIMEOUT".to_owned()),
                _ => Ok(()),
            };
            parts[usize::from(took % 3 == 0)].note(WHAT, times, outcome(), window);
            whole.note(WHAT, times, outcome(), window);
        }
        let mut merged = Tally::default();
        parts.iter().for_each(|part| merged.add(part));
        let rows = |tally: &Tally| tally.rows("us", Some(ms(90)), 10.0);
        assert_eq!(rows(&merged), rows(&whole));
        assert_eq!(merged.ended(), 1000);
        let row = &rows(&merged)[0];
        assert_eq!((row.count, row.failed), (990, 10));
        assert_eq!(row.reasons["TIMEOUT"], 10);
        assert!((row.per_second - 99.0).abs() < 1e-9);
        let p50 = row.p50_ms.unwrap();
        assert!((p50 - 500.0).abs() < 5.0, "{p50}");
        assert!((row.over_limit_ms.unwrap() - (p50 - 90.0)).abs() < 1e-9);
        assert!(row.max_ms.unwrap() >= row.p999_ms.unwrap());
    }

    #[test]
    fn a_curve_goes_from_the_fastest_to_the_slowest_and_is_short() {
        let mut latency = Histogram::new_with_max(LATENCY_MAX_US, DIGITS).unwrap();
        for us in 1..=100_000 {
            latency.record(us).unwrap();
        }
        let points = curve(&latency);
        assert!(points.is_sorted() && points.is_sorted_by_key(|it| it.1));
        assert!((60..80).contains(&points.len()), "{}", points.len());
        let (part, ms) = points[POINTS_PER_HALVING as usize];
        assert!((part - 0.5).abs() < 1e-9 && (ms - 50.0).abs() < 0.1, "{ms}");
        let slowest = points.last().unwrap().1;
        assert!((slowest - 100.0).abs() < 0.1, "{slowest}");
        let mut one = Histogram::new_with_max(LATENCY_MAX_US, DIGITS).unwrap();
        one.record(7).unwrap();
        assert_eq!(curve(&one).len(), 2);
    }

    #[test]
    fn only_the_window_counts() {
        let window = window();
        let mut tally = Tally::default();
        let early = window.begin.checked_sub(ms(5)).unwrap();
        tally.note(WHAT, (early, window.begin + ms(1)), Ok(()), window);
        tally.note(
            WHAT,
            (window.end - ms(1), window.end + ms(1)),
            Ok(()),
            window,
        );
        tally.note(WHAT, (window.end, window.end + ms(1)), Ok(()), window);
        let row = tally.rows("all", None, 10.0).remove(0);
        assert_eq!(row.count, 1, "due inside");
        assert_eq!(tally.ended(), 1, "ended inside");
        let p50 = row.p50_ms.unwrap();
        assert!((p50 - 2.0).abs() < 0.01, "{p50}");
    }

    #[test]
    fn reasons_are_bounded_and_rows_without_latency_say_none() {
        let window = window();
        let mut tally = Tally::default();
        for reason in 0..100 {
            let times = (window.begin, window.begin);
            tally.note(WHAT, times, Err(format!("R{reason}")), window);
        }
        let row = tally.rows("us", Some(ms(90)), 1.0).remove(0);
        assert_eq!(row.reasons.len(), REASONS_MAX + 1);
        assert_eq!(row.reasons.values().sum::<u64>(), 100);
        assert_eq!(row.reasons[OTHER], 100 - REASONS_MAX as u64);
        assert_eq!((row.p50_ms, row.over_limit_ms), (None, None));
    }
}
