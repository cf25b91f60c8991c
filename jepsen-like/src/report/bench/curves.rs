//! Latency over percentile: a line for each database and region, with as much room for the slowest of a thousand as for
//! the faster half.

use std::collections::BTreeSet;

use super::super::escape::{number, short, text};
use super::super::plot::{self, LEFT, RIGHT, WIDTH, rule, svg};
use super::super::words;
use crate::bench::mix::Kind;
use crate::bench::{ALL_REGIONS, Row, Run};

/// Lines of one figure, at most.
const LINES_MAX: usize = 24;
/// Patterns of lines there are in the style.
const PATTERNS: usize = 7;
const TOP: f64 = 12.0;
const HEIGHT: f64 = 210.0;
const BOTTOM: f64 = 26.0;
/// Percentiles that have a tick, and the part that is slower.
const TICKS: [(&str, f64); 8] = [
    ("0 %", 1.0),
    ("50 %", 0.5),
    ("90 %", 0.1),
    ("99 %", 0.01),
    ("99.9 %", 0.001),
    ("99.99 %", 1e-4),
    ("99.999 %", 1e-5),
    ("99.9999 %", 1e-6),
];
/// The least room between two ticks.
const TICK: f64 = 52.0;

/// A line: of which database, in which pattern, and what it goes through.
struct Line<'a> {
    target: &'static str,
    region: &'a str,
    pattern: usize,
    points: &'a [(f64, f64)],
}

/// A figure for each operation and level of one load. `at` is unlike that of any other load on the page.
pub(super) fn figures(at: usize, runs: &[&Run]) -> String {
    let rows = runs.iter().flat_map(|run| &run.rows);
    let kinds: BTreeSet<(Kind, &str)> = rows.map(|row| (row.operation, row.level)).collect();
    let mut out = String::new();
    for (operation, level) in kinds {
        let lines = lines(runs, |row| (row.operation, row.level) == (operation, level));
        if lines.iter().all(|line| line.points.is_empty()) {
            continue;
        }
        let title = format!("{level} {}: latency by percentile", operation.name());
        let id = format!("load-{at}-{level}-{}", operation.name());
        out += &figure(&title, &id, &lines);
    }
    out
}

/// Where all regions are alike they are one line, else each is.
fn lines<'a>(runs: &[&'a Run], wanted: impl Fn(&Row) -> bool) -> Vec<Line<'a>> {
    let mut out = Vec::new();
    for run in runs {
        let near = run.wan_ms.iter().all(|ms| *ms == 0.0);
        let rows = run.rows.iter().filter(|row| wanted(row));
        let rows = rows.filter(|row| (row.region == ALL_REGIONS) == near);
        out.extend(rows.enumerate().map(|(at, row)| Line {
            target: run.target.name(),
            region: &row.region,
            pattern: at % PATTERNS,
            points: &row.curve,
        }));
    }
    out.truncate(LINES_MAX);
    out
}

fn figure(title: &str, id: &str, lines: &[Line<'_>]) -> String {
    let legend: String = lines
        .iter()
        .map(|line| {
            let name = format!("{} {}", line.target, short(line.region, 24));
            format!(
                "<li><svg class=\"sample\" viewBox=\"0 0 28 8\" aria-hidden=\"true\"><path class=\"line {}\" \
                 d=\"M1 4H27\"/></svg>{name}</li>",
                class(line)
            )
        })
        .collect();
    format!(
        "<figure><figcaption>{title}<ul class=\"legend\">{legend}</ul></figcaption>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">{}</div></figure>",
        draw(title, id, lines),
        title = text(title),
    )
}

fn class(line: &Line<'_>) -> String {
    format!("{} p{}", line.target, line.pattern)
}

fn draw(title: &str, id: &str, lines: &[Line<'_>]) -> String {
    let points = || lines.iter().flat_map(|line| line.points);
    let least_ms = points().map(|it| it.1).fold(f64::INFINITY, f64::min);
    let most_ms = points().map(|it| it.1).fold(0.0, f64::max);
    let ticks = plot::log_ticks(least_ms * 1000.0, most_ms * 1000.0);
    let [first, last] = [ticks.first(), ticks.last()].map(|it| it.copied().unwrap_or(1.0).log10());
    let y = |ms: f64| {
        let log = (ms * 1000.0).max(1.0).log10();
        TOP + HEIGHT * (1.0 - (log - first) / (last - first))
    };
    // Halvings of what is slower, from 0: the axis.
    let halvings = |part: f64| -(1.0 - part).max(1e-12).log2();
    let span = points().map(|it| halvings(it.0)).fold(1.0, f64::max);
    let x = |part: f64| LEFT + (WIDTH - LEFT - RIGHT) * halvings(part) / span;
    let mut inner = String::new();
    for tick in &ticks {
        inner += &rule(y(tick / 1000.0), &plot::time_label(*tick as u64));
    }
    let mut free = 0.0;
    for (name, slower) in TICKS {
        let at = x(1.0 - slower);
        if at > WIDTH - RIGHT + 0.1 || at < free {
            continue;
        }
        free = at + TICK;
        inner += &percentile(name, at);
    }
    for line in lines {
        let path: String = line
            .points
            .iter()
            .enumerate()
            .map(|(at, (part, ms))| {
                let verb = if at == 0 { 'M' } else { 'L' };
                format!("{verb}{} {}", number(x(*part)), number(y(*ms)))
            })
            .collect();
        inner += &format!("<path class=\"line {}\" d=\"{path}\"/>", class(line));
    }
    let description = format!(
        "Both axes are logarithmic; each line goes from the fastest operation to the slowest. {} in all, from {} to {}.",
        words::plural(lines.len() as u64, "line"),
        words::micros((least_ms * 1000.0) as u64),
        words::micros((most_ms * 1000.0) as u64),
    );
    let size = (WIDTH, TOP + HEIGHT + BOTTOM);
    svg(("plot", id), size, (title, &description), &inner)
}

/// A tick of the lower axis.
fn percentile(name: &str, x: f64) -> String {
    let anchor = if x > WIDTH - RIGHT - 20.0 {
        "end"
    } else {
        "middle"
    };
    format!(
        "<path class=\"rule\" d=\"M{x} {}V{}\"/><text class=\"tick {anchor}\" x=\"{x}\" y=\"{}\">{name}</text>",
        number(TOP),
        number(TOP + HEIGHT + 4.0),
        number(TOP + HEIGHT + 18.0),
        x = number(x),
    )
}
