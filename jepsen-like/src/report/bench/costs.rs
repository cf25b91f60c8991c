//! What an operation costs: processor time of servers and generator, memory, and how fast the disk was meanwhile.

use super::super::escape::{number, short};
use super::super::table::{row, table};
use super::super::words;
use super::{NAME_MAX, none};
use crate::bench::{ALL_REGIONS, Run};

/// Lines of the table, at most.
const ROWS_MAX: usize = 240;
/// The width of a bar, in the units of its view box.
const BAR: f64 = 140.0;

/// The section.
pub(super) fn section(runs: &[Run]) -> String {
    let mut out =
        "<section aria-labelledby=\"costs\"><h2 id=\"costs\">Cost of an operation</h2>".to_owned();
    let rows: Vec<String> = runs
        .iter()
        .take(ROWS_MAX)
        .map(|run| line(run, runs))
        .collect();
    if rows.is_empty() {
        return out + "<p>Nothing was measured.</p></section>";
    }
    let head = [
        "Load",
        "target",
        "ops/s",
        "server CPU",
        "",
        "generator CPU",
        "generator busy",
        "resident of each node",
        "disk sync",
    ];
    let caption = "Processor time of all server processes for each operation; bars compare the databases under one load";
    out += &table("words", caption, &head, &rows);
    out + "</section>"
}

fn line(run: &Run, runs: &[Run]) -> String {
    let target = run.target.name();
    let us = |value: Option<f64>| value.map_or_else(none, |it| format!("{it:.0} \u{b5}s"));
    let all = run.rows.iter().filter(|row| row.region == ALL_REGIONS);
    let per_second: f64 = all.map(|row| row.per_second).sum();
    let same = runs.iter().filter(|other| other.series == run.series);
    let most = same
        .filter_map(|it| it.server_cpu_us_per_op)
        .fold(0.0, f64::max);
    let memory = run.resident_bytes.iter().map(|it| words::bytes(*it));
    let cells = [
        format!("<i class=\"key {target}\"></i>{target}"),
        words::count(per_second.round() as u64),
        us(run.server_cpu_us_per_op),
        bar(target, run.server_cpu_us_per_op.unwrap_or(0.0), most),
        us(run.generator_cpu_us_per_op),
        format!("{:.0} %", run.generator_busy * 100.0),
        short(&memory.collect::<Vec<_>>().join(" + "), NAME_MAX),
        format!("{:.2} ms", run.sync_p50_ms),
    ];
    row(&short(&run.series, NAME_MAX), &cells)
}

/// A part of the most.
fn bar(class: &str, value: f64, most: f64) -> String {
    if most <= 0.0 {
        return String::new();
    }
    format!(
        "<svg class=\"gauge\" viewBox=\"0 0 {BAR} 12\" aria-hidden=\"true\"><rect class=\"{class}\" x=\"0\" y=\"2\" \
         width=\"{}\" height=\"8\" rx=\"1\"/></svg>",
        number((value / most * BAR).clamp(0.5, BAR)),
    )
}
