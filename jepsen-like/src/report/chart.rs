//! Throughput and latency over the time of a round, as SVG, with the times of faults shaded.

use std::collections::{BTreeMap, BTreeSet};

use super::escape::{cut, number, text};
use super::faults::{Episode, Faults, Shade, Stretch};
use super::plot::{LEFT, RIGHT, WIDTH, power_of_ten, rule, svg, ticks};
use super::words;
use crate::history::{Level, Record, Status};

/// Throughput is counted in windows of this length, or of a power of two of it where a round is long.
const WINDOW_NS: u64 = 250_000_000;
/// Windows of one round, at most: a minute of them.
const WINDOWS_MAX: u64 = 240;
/// Dots of one series, at most: dots that would cover each other are one.
const DOTS_MAX: usize = 400;
/// Shaded stretches of one figure or region, at most: the closest ones become one.
const STRETCHES_MAX: usize = 200;
/// Regions that have a lane of their own below a figure, at most.
const LANES_MAX: usize = 8;
/// Fault labels of one figure, at most.
const LABELS_MAX: usize = 40;

/// Two rows of fault labels.
const TOP: f64 = 31.0;
const HEIGHT: f64 = 150.0;
const LANE: f64 = 10.0;
/// Room between the plot and the lanes.
const LANES_GAP: f64 = 9.0;
/// Room for the time axis.
const BOTTOM: f64 = 24.0 + LANES_GAP;
/// Width of a character of a label.
const CHARACTER: f64 = 5.6;

/// What a figure is drawn from.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The lines of the round.
    pub(super) records: &'a [Record],
    /// Its faults.
    pub(super) faults: &'a Faults,
    /// How long it lasted, nanoseconds; at least 1.
    pub(super) span_ns: u64,
    /// Unlike that of any other figure on the page; letters, digits and hyphens.
    pub(super) id: &'a str,
}

/// The end of the last thing that clients or faults did, nanoseconds; at least 1.
pub(super) fn span_ns(records: &[Record]) -> u64 {
    let acts = records
        .iter()
        .filter(|it| it.op.is_client() || it.op == crate::history::Op::Nemesis);
    let ends = acts.map(|it| it.complete_ns.unwrap_or(it.invoke_ns));
    ends.max().unwrap_or(0).max(1)
}

/// Operations done per second, by level, and those that were refused or of unknown outcome.
pub(super) fn throughput(scene: Scene<'_>) -> String {
    let mut window = WINDOW_NS;
    while scene.span_ns.div_ceil(window) > WINDOWS_MAX {
        window = window.saturating_mul(2);
    }
    let windows = scene.span_ns.div_ceil(window).max(1) as usize;
    let mut series: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for record in scene.records {
        if let Some((class, end_ns)) = class_of(record) {
            let class = if class == "refused" { "unknown" } else { class };
            let counts = series.entry(class).or_insert_with(|| vec![0; windows]);
            counts[((end_ns / window) as usize).min(windows - 1)] += 1;
        }
    }
    let seconds = window as f64 / 1e9;
    let most = series.values().flatten().max().copied().unwrap_or(0);
    let ticks = ticks(most as f64 / seconds);
    let top = ticks.last().copied().unwrap_or(1.0);
    let axes = Axes::new(scene.span_ns);
    let y = |rate: f64| TOP + HEIGHT * (1.0 - rate / top);
    let mut inner = axes.backdrop(scene.faults);
    for tick in &ticks {
        inner += &rule(y(*tick), &words::count(*tick as u64));
    }
    for (class, counts) in &series {
        let mut path = String::new();
        for (at, count) in counts.iter().enumerate() {
            let x = axes.x((at as u64)
                .saturating_mul(window)
                .saturating_add(window / 2));
            let verb = if at == 0 { 'M' } else { 'L' };
            path += &format!("{verb}{} {}", number(x), number(y(*count as f64 / seconds)));
        }
        // A lone window is a line across it.
        if counts.len() == 1 {
            path += "h20";
        }
        inner += &format!("<path class=\"line {class}\" d=\"{path}\"/>");
    }
    let title = format!("Operations per second over {}", words::nanos(scene.span_ns));
    let description = format!(
        "One line per level, counted in windows of {}; {} at most. {}",
        words::nanos(window),
        words::plural((most as f64 / seconds) as u64, "operation"),
        in_words(scene.faults),
    );
    axes.figure(scene, (&title, &description), inner)
}

/// The latency of every operation when it ended, on a logarithmic axis.
pub(super) fn latency(scene: Scene<'_>) -> String {
    let axes = Axes::new(scene.span_ns);
    let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for record in scene.records {
        if let Some((class, end_ns)) = class_of(record) {
            let us = (end_ns.saturating_sub(record.invoke_ns) as f64 / 1e3).max(1.0);
            (low, high) = (low.min(us), high.max(us));
            let dots = series.entry(class).or_default();
            dots.push((axes.x(end_ns), us.log10()));
        }
    }
    let first = if low.is_finite() {
        low.log10().floor()
    } else {
        2.0
    };
    let last = high.max(1.0).log10().ceil().max(first + 1.0);
    let y = |log: f64| TOP + HEIGHT * (1.0 - (log - first) / (last - first));
    let mut inner = axes.backdrop(scene.faults);
    for power in first as i32..=last as i32 {
        inner += &rule(y(f64::from(power)), &power_of_ten(power));
    }
    for (class, dots) in &series {
        let dots: Vec<(f64, f64)> = dots.iter().map(|(x, log)| (*x, y(*log))).collect();
        let path: String = thin(&dots, DOTS_MAX)
            .iter()
            .map(|(x, y)| format!("M{} {}h0", number(*x), number(*y)))
            .collect();
        inner += &format!("<path class=\"dots {class}\" d=\"{path}\"/>");
    }
    let title = format!(
        "Latency of each operation over {}",
        words::nanos(scene.span_ns)
    );
    let description = format!(
        "A dot per operation at the moment it ended, logarithmic; the longest took {}. Dots that would cover each other \
         are one. {}",
        words::micros(high as u64),
        in_words(scene.faults),
    );
    axes.figure(scene, (&title, &description), inner)
}

/// How a client operation is drawn, and when it ended; `None` for all other lines.
fn class_of(record: &Record) -> Option<(&'static str, u64)> {
    let level = record.level.filter(|_| record.op.is_client())?;
    let class = match record.status {
        Status::Ok => level_class(level),
        Status::Fail if record.is_refused() => level_class(level),
        Status::Fail => "refused",
        Status::Info => "unknown",
    };
    Some((class, record.complete_ns.unwrap_or(record.invoke_ns)))
}

/// The class of a level in figures, and its name.
pub(super) fn level_class(level: Level) -> &'static str {
    match level {
        Level::Eventual => "eventual",
        Level::Session => "session",
        Level::Strong => "strong",
    }
}

/// The horizontal axis, which both figures share.
struct Axes {
    span_ns: f64,
}

impl Axes {
    fn new(span_ns: u64) -> Axes {
        Axes {
            span_ns: span_ns.max(1) as f64,
        }
    }

    fn x(&self, ns: u64) -> f64 {
        let part = (ns as f64 / self.span_ns).min(1.0);
        LEFT + (WIDTH - LEFT - RIGHT) * part
    }

    /// Shades, fault labels and the time axis: what stands behind the data.
    fn backdrop(&self, faults: &Faults) -> String {
        let mut out = self.shades(&faults.stretches, TOP, HEIGHT, "shade");
        out += &self.labels(&faults.episodes);
        let lanes = lanes(faults);
        let bottom = TOP + HEIGHT + LANES_GAP;
        for (at, (name, stretches)) in lanes.iter().enumerate() {
            let y = bottom + LANE * at as f64;
            out += &format!(
                "<path class=\"lane\" d=\"M{} {}H{}\"/><text class=\"lane-name\" x=\"{}\" y=\"{}\">{}</text>",
                number(LEFT),
                number(y + LANE / 2.0),
                number(WIDTH - RIGHT),
                number(LEFT - 6.0),
                number(y + LANE - 2.0),
                text(&cut(name, 10)),
            );
            out += &self.shades(stretches, y + 1.0, LANE - 2.0, "full");
        }
        let bottom = bottom + LANE * lanes.len() as f64;
        for tick in ticks(self.span_ns / 1e9) {
            if tick * 1e9 > self.span_ns * 1.0001 {
                break;
            }
            let x = self.x((tick * 1e9) as u64);
            out += &format!(
                "<text class=\"tick middle\" x=\"{}\" y=\"{}\">{} s</text>",
                number(x),
                number(bottom + 16.0),
                number(tick)
            );
        }
        out
    }

    fn shades(&self, stretches: &[Stretch], y: f64, height: f64, kind: &str) -> String {
        let mut paths: BTreeMap<Shade, String> = BTreeMap::new();
        for it in joined(stretches) {
            let (x, end) = (self.x(it.begin_ns), self.x(it.end_ns));
            let width = (end - x).max(1.0);
            *paths.entry(it.shade).or_default() += &format!(
                "M{} {}h{w}v{}h-{w}z",
                number(x),
                number(y),
                number(height),
                w = number(width)
            );
        }
        let drawn = paths
            .iter()
            .map(|(shade, path)| format!("<path class=\"{kind} {}\" d=\"{path}\"/>", shade.name()));
        drawn.collect()
    }

    /// The kinds of fault above the plot, where there is room in one of two rows.
    fn labels(&self, episodes: &[Episode]) -> String {
        let mut free = [LEFT; 2];
        let mut out = String::new();
        for episode in episodes.iter().take(LABELS_MAX) {
            let kinds: Vec<&str> = episode.kinds.iter().map(String::as_str).collect();
            let label = cut(&kinds.join(" + "), 48);
            let width = label.chars().count() as f64 * CHARACTER;
            let at = self.x(episode.begin_ns);
            // The last ones end at the edge instead of beyond it.
            let x = at.min(WIDTH - RIGHT - width).max(LEFT);
            let Some(row) = free.iter().position(|free| *free <= x) else {
                continue;
            };
            free[row] = x + width + 10.0;
            out += &format!(
                "<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>",
                number(x),
                number(TOP - 6.0 - 13.0 * row as f64),
                text(&label)
            );
        }
        out
    }

    fn figure(
        &self,
        scene: Scene<'_>,
        (title, description): (&str, &str),
        inner: String,
    ) -> String {
        let lanes = lanes(scene.faults).len() as f64;
        let height = TOP + HEIGHT + LANE * lanes + BOTTOM;
        svg(
            ("plot", scene.id),
            (WIDTH, height),
            (title, description),
            &inner,
        )
    }
}

fn lanes(faults: &Faults) -> &[(String, Vec<Stretch>)] {
    &faults.regions[..faults.regions.len().min(LANES_MAX)]
}

/// Leaves one of the dots that would lie on each other, on a grid that gets coarser until few enough are left.
fn thin(dots: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let mut cell = 1.0;
    loop {
        let mut taken = BTreeSet::new();
        let mut kept = dots.to_vec();
        kept.retain(|(x, y)| taken.insert(((x / cell) as i64, (y / cell) as i64)));
        // A cell as large as the figure holds all.
        if kept.len() <= most || cell > WIDTH {
            return kept;
        }
        cell *= 1.3;
    }
}

/// Not more stretches than can be told apart: those of a shade that are close become one.
fn joined(stretches: &[Stretch]) -> Vec<Stretch> {
    let mut all = stretches.to_vec();
    let mut close_ns = 1_000_000_u64;
    while all.len() > STRETCHES_MAX && close_ns < u64::MAX {
        let mut fewer: Vec<Stretch> = Vec::new();
        for it in all {
            match fewer.last_mut() {
                Some(last) if it.begin_ns.saturating_sub(last.end_ns) <= close_ns => {
                    last.end_ns = last.end_ns.max(it.end_ns);
                    last.shade = last.shade.min(it.shade);
                }
                _ => fewer.push(it),
            }
        }
        all = fewer;
        close_ns = close_ns.saturating_mul(2);
    }
    all
}

/// The faults of a figure for those who do not see it.
fn in_words(faults: &Faults) -> String {
    let kinds: BTreeSet<&str> = faults
        .episodes
        .iter()
        .flat_map(|it| &it.kinds)
        .map(String::as_str)
        .collect();
    if faults.episodes.is_empty() {
        return "No faults.".to_owned();
    }
    let kinds: Vec<&str> = kinds.into_iter().collect();
    format!(
        "Faults were in force {}: {}.",
        words::plural(faults.episodes.len() as u64, "time"),
        kinds.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_thinned_and_the_outermost_stays() {
        let mut dots: Vec<(f64, f64)> = (0..50_000)
            .map(|at| (f64::from(at % 700), f64::from(at / 700) * 0.1 + 100.0))
            .collect();
        dots.push((350.0, 3.0));
        let kept = thin(&dots, DOTS_MAX);
        assert!(kept.len() <= DOTS_MAX && kept.len() > DOTS_MAX / 3);
        assert!(
            kept.contains(&(350.0, 3.0)),
            "the slowest operation is shown"
        );
        assert_eq!(thin(&[], 5), []);
        assert_eq!(thin(&[(f64::NAN, 1.0); 9], 1).len(), 1);
    }

    #[test]
    fn stretches_that_can_not_be_told_apart_become_one() {
        let many: Vec<Stretch> = (0..5_000_u64)
            .map(|at| Stretch {
                begin_ns: at * 10_000_000,
                end_ns: at * 10_000_000 + 6_000_000,
                shade: Shade::Isolated,
            })
            .collect();
        let few = joined(&many);
        assert!(few.len() <= STRETCHES_MAX);
        assert_eq!(few[0].begin_ns, 0);
        assert_eq!(few.last().unwrap().end_ns, many.last().unwrap().end_ns);
    }
}
