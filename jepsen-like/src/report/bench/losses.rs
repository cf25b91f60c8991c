//! What it costs to lose a region: the longest time in which nothing succeeded.

use super::super::escape::short;
use super::super::table::{row, table};
use super::super::words;
use super::{NAME_MAX, none};
use crate::bench::gaps::{Gap, Loss};

/// Lines of the table, at most.
const ROWS_MAX: usize = 120;

/// The section; nothing where no region was lost.
pub(super) fn section(losses: &[Loss]) -> String {
    let lines = losses
        .iter()
        .flat_map(|loss| loss.gaps.iter().map(move |gap| line(loss, gap)));
    let rows: Vec<String> = lines.take(ROWS_MAX).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "Lost",
        "target",
        "operation",
        "asked in",
        "keys",
        "longest gap",
        "done",
        "failed",
        "slowest",
    ];
    let caption = "Strong gets and puts, one of each due every 10 ms in each region that is left";
    format!(
        "<section aria-labelledby=\"losses\"><h2 id=\"losses\">A region is lost</h2>{}</section>",
        table("words", caption, &head, &rows)
    )
}

fn line(loss: &Loss, gap: &Gap) -> String {
    let target = loss.target.name();
    let time = |ms: f64| words::micros((ms * 1000.0) as u64);
    let cells = [
        format!("<i class=\"key {target}\"></i>{target}"),
        gap.operation.name().to_owned(),
        short(&gap.region, NAME_MAX),
        match gap.written_there {
            true => "written there last".to_owned(),
            false => "all".to_owned(),
        },
        time(gap.longest_ms),
        words::count(gap.done),
        words::count(gap.failed),
        gap.slowest_ms.map_or_else(none, time),
    ];
    let lost = format!("{} {}", loss.region, loss.fault.name());
    row(&short(&lost, NAME_MAX), &cells)
}
