//! What people read of a benchmark: a single HTML file, in the style of the report of a run.
//!
//! Bars first, then each load with its table and its curves, then what it cost. Bounded, whatever was measured.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::escape::{cut, short, text};
use super::table::{row, table};
use super::{frame, words};
use crate::bench::bars::{Bar, Verdict};
use crate::bench::document::{Document, Facts};
use crate::bench::keys::Share;
use crate::bench::{ALL_REGIONS, Row, Run, bars};

mod bars_table;
mod costs;
mod curves;
mod losses;
mod scaling;
#[cfg(test)]
mod tests;

/// Loads that are shown, at most.
const LOADS_MAX: usize = 60;
/// Lines of one table, at most.
const ROWS_MAX: usize = 120;
/// Characters of a name, at most.
const NAME_MAX: usize = 120;

/// Characters of a version, at most.
const VERSION_MAX: usize = 40;

/// Writes the report of a benchmark.
///
/// # Errors
/// When `path` can not be written.
pub fn write(document: &Document, path: &Path) -> anyhow::Result<()> {
    fs::write(path, render(document)).with_context(|| format!("can not write {}", path.display()))
}

/// The report as text: see [`write()`].
#[must_use]
pub fn render(document: &Document) -> String {
    let heading = heading(&document.bars);
    let mut main = summary(document, &heading);
    main += &bars_table::section(document);
    main += &losses::section(&document.losses);
    main += &scaling::section(document.series.as_ref());
    main += &loads(&document.runs);
    main += &costs::section(&document.runs);
    let parts = [
        (!document.bars.is_empty(), "bars", "Bars"),
        (!document.losses.is_empty(), "losses", "A region is lost"),
        (document.series.is_some(), "scaling", "Growth"),
        (true, "loads", "Loads"),
        (true, "costs", "Cost of an operation"),
    ];
    let there = parts.iter().filter(|(there, ..)| *there);
    let links = there.map(|(_, id, name)| format!("<a href=\"#{id}\">{name}</a>"));
    let links: String = links.collect();
    let title = format!("{heading} \u{2013} Hansa benchmark");
    frame::page(&title, &frame::header("benchmark", &links), &main, FOOTER)
}

/// What no figure here says by itself.
const FOOTER: &str = "<p>Nodes, their link proxies and the generator share one machine: throughput compares what an \
     operation costs, it is not what a cluster of machines serves. Links delay and do nothing else. The peers of etcd \
     speak TLS, those of Hansa do not. A strong get of redis is what its primary has in memory: not linearizable when the \
     primary is lost, and no link to cross beside it. Loads are quiet: no faults.</p>\
     <p>Written by <code>hansa-jepsen bench</code>; <code>--json</code> prints the same as data.</p>";

/// What came of it, in a few words.
fn heading(bars: &[Bar]) -> String {
    let count =
        |wanted: fn(&Verdict) -> bool| bars.iter().filter(|bar| wanted(&bar.verdict)).count();
    let missed = count(|it| matches!(it, Verdict::Missed { .. }));
    let undecided = count(|it| matches!(it, Verdict::Undecided { .. }));
    let all = words::plural(bars.len() as u64, "bar");
    match (bars.len(), missed, undecided) {
        (0, ..) => "Measured".to_owned(),
        (_, 0, 0) => format!("{all}, all met"),
        (_, 0, undecided) => format!("{undecided} of {all} undecided, none missed"),
        (_, missed, 0) => format!("{missed} of {all} missed"),
        (_, missed, undecided) => format!("{missed} of {all} missed, {undecided} undecided"),
    }
}

fn summary(document: &Document, heading: &str) -> String {
    let missed = |bar: &Bar| matches!(bar.verdict, Verdict::Missed { .. });
    let class = match document.bars.iter().any(missed) {
        true => "bad",
        false => "good",
    };
    let runs = &document.runs;
    let mut names: Vec<&str> = runs.iter().map(|run| run.target.name()).collect();
    names.sort_unstable();
    names.dedup();
    let counted: u64 = runs
        .iter()
        .flat_map(|run| &run.rows)
        .filter(|row| row.region == ALL_REGIONS)
        .map(|row| row.count)
        .sum();
    format!(
        "<section class=\"verdict {class}\" aria-labelledby=\"verdict\"><h1 id=\"verdict\">{}</h1><p class=\"lead\">\
         {} of {} with {} operations that counted.</p>{}{}</section>",
        text(heading),
        words::plural(bars::series_of(runs).len() as u64, "load"),
        text(&names.join(", ")),
        words::count(counted),
        facts(&document.facts, runs),
        frame::repeat(&document.facts.command),
    )
}

fn facts(facts: &Facts, runs: &[Run]) -> String {
    let processors = words::plural(facts.processors as u64, "processor");
    let mut shown = vec![
        ("Machine", format!("{processors}, {}", facts.processor)),
        ("Memory", words::bytes(facts.memory_bytes)),
        ("System", facts.system.clone()),
        ("Load before", format!("{:.2}", facts.load_before)),
    ];
    let syncs = runs.iter().map(|run| run.sync_p50_ms);
    let (least, most) = syncs.fold((f64::INFINITY, 0.0_f64), |(least, most), it| {
        (least.min(it), most.max(it))
    });
    if !runs.is_empty() {
        let span = format!("{least:.2} to {most:.2} ms in the median");
        shown.push(("Disk sync", span));
    }
    for (name, version) in &facts.versions {
        shown.push((name, cut(version, VERSION_MAX)));
    }
    frame::facts(&shown)
}

fn loads(runs: &[Run]) -> String {
    let mut out = "<section aria-labelledby=\"loads\"><h2 id=\"loads\">Loads</h2>".to_owned();
    let names = bars::series_of(runs);
    if names.is_empty() {
        out += "<p>Nothing was measured.</p>";
    }
    for (at, name) in names.iter().take(LOADS_MAX).enumerate() {
        let same: Vec<&Run> = runs.iter().filter(|run| run.series == *name).collect();
        out += &load(at, name, &same);
    }
    if names.len() > LOADS_MAX {
        let more = words::count((names.len() - LOADS_MAX) as u64);
        out += &format!("<p class=\"note\">{more} more: see what <code>--json</code> prints.</p>");
    }
    out + "</section>"
}

/// One load on all databases.
fn load(at: usize, name: &str, runs: &[&Run]) -> String {
    let mut out = format!("<h3>{}</h3>", short(name, NAME_MAX));
    if let Some(first) = runs.first() {
        out += &format!("<p class=\"note\">{}</p>", text(&conditions(first)));
    }
    out += &latencies(name, runs);
    for run in runs {
        for remark in remarks(run) {
            out += &format!("<p class=\"note\">{}</p>", text(&remark));
        }
    }
    out + &curves::figures(at, runs)
}

/// Under which settings it ran, in words.
fn conditions(run: &Run) -> String {
    let settings = &run.settings;
    let list = |all: Vec<String>| all.join(", ");
    let schedule = match run.rate {
        Some(rate) => format!("open loop, {rate} a second, latency from when it was due"),
        None => "closed loop, latency from when it was asked".to_owned(),
    };
    let parts = |shares: &std::collections::BTreeMap<&str, f64>| match shares.len() {
        1 => shares.keys().map(|it| (*it).to_owned()).collect(),
        _ => {
            let parts = shares.iter();
            list(
                parts
                    .map(|(name, part)| format!("{name} {:.0} %", part * 100.0))
                    .collect(),
            )
        }
    };
    let keys = match settings.keys_of {
        Share::All => "of all regions",
        Share::Own => "each region's own",
        Share::Elsewhere => "each region's own, written elsewhere before",
        Share::Each => "all, each once in each region",
    };
    format!(
        "{schedule}; {} at level {}; clients by region {}; {} ({keys}) of {}; {} with {}; round trips {} ms; {:.1} s",
        parts(&settings.mix),
        parts(&settings.levels),
        list(run.clients.iter().map(ToString::to_string).collect()),
        words::plural(settings.keys, "key"),
        words::bytes(settings.value_bytes as u64),
        words::plural(settings.regions as u64, "region"),
        words::plural(settings.nodes_per_region as u64, "node"),
        list(run.wan_ms.iter().map(|ms| format!("{ms:.0}")).collect()),
        run.seconds,
    )
}

fn latencies(name: &str, runs: &[&Run]) -> String {
    let mut lines: Vec<(&Row, &Run)> = Vec::new();
    for run in runs {
        lines.extend(run.rows.iter().map(|row| (row, *run)));
    }
    // The regions of a run are in the order of its cluster, with all of them last: the sort keeps that order.
    let place = |row: &Row| {
        let known = runs.iter().flat_map(|run| &run.rows);
        let mut regions = known.map(|it| it.region.as_str());
        (
            row.region == ALL_REGIONS,
            regions.position(|it| it == row.region),
        )
    };
    lines.sort_by_key(|(row, _)| (row.operation, row.level, place(row)));
    let rows: Vec<String> = lines
        .iter()
        .take(ROWS_MAX)
        .map(|(row, run)| line(row, run))
        .collect();
    let caption = format!("{name}: latencies in milliseconds");
    let head = [
        "Operation",
        "level",
        "region",
        "target",
        "ops/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "over link",
        "failed",
    ];
    table("numbers", &caption, &head, &rows)
}

fn line(it: &Row, run: &Run) -> String {
    let ms = |value: Option<f64>| value.map_or_else(none, |it| format!("{it:.2}"));
    let over = it.over_limit_ms.map_or_else(none, |it| format!("{it:+.2}"));
    let failed = match it.failed {
        0 => "0".to_owned(),
        some => format!("<b>{}</b>", words::count(some)),
    };
    let target = run.target.name();
    let cells = [
        it.level.to_owned(),
        short(&it.region, NAME_MAX),
        format!("<i class=\"key {target}\"></i>{target}"),
        words::count(it.per_second.round() as u64),
        ms(it.p50_ms),
        ms(it.p90_ms),
        ms(it.p99_ms),
        ms(it.p999_ms),
        ms(it.max_ms),
        over,
        failed,
    ];
    row(it.operation.name(), &cells)
}

/// What there is no figure of.
fn none() -> String {
    "\u{2013}".to_owned()
}

/// What makes a run less than it seems.
fn remarks(run: &Run) -> Vec<String> {
    let name = run.target.name();
    let mut out = Vec::new();
    if run.generator_busy > crate::bench::GENERATOR_BUSY_MAX {
        let why = "the generator had hardly time to spare: throughput and latency are its own";
        out.push(format!("{name}: {why}."));
    }
    if run.not_begun > 0 {
        let count = words::plural(run.not_begun, "operation");
        out.push(format!("{name}: {count} due and never begun."));
    }
    let all = run.rows.iter().filter(|row| row.region == ALL_REGIONS);
    for (reason, count) in all.flat_map(|row| &row.reasons) {
        out.push(format!(
            "{name}: {} failed with {reason}.",
            words::count(*count)
        ));
    }
    out
}
