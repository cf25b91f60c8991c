//! What was measured, for people.

use std::fmt::Write as _;

use super::gaps::Loss;
use super::sweep::Series;
use super::{GENERATOR_BUSY_MAX, Row, Run};

/// A table of runs of one load on several databases, side by side, with what it cost below.
#[must_use]
pub fn side_by_side(runs: &[&Run]) -> String {
    let mut out = String::new();
    let Some(first) = runs.first() else {
        return out;
    };
    let clients = first.clients.iter().map(ToString::to_string);
    let clients = clients.collect::<Vec<_>>().join(", ");
    let wan = first.wan_ms.iter().map(|ms| format!("{ms:.0}"));
    let wan = wan.collect::<Vec<_>>().join(", ");
    let loop_ = match first.rate {
        Some(rate) => format!("open loop, {rate} a second, latency from when it was due"),
        None => "closed loop, latency from when it was asked".to_owned(),
    };
    // Writing into a string does not fail.
    let _ = writeln!(
        out,
        "{}: {loop_}; clients by region {clients}; round trips {wan} ms; {:.1} s",
        first.series, first.seconds
    );
    let _ = writeln!(
        out,
        "{:<17} {:<8} {:<13} {:<6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>7}",
        "operation",
        "level",
        "region",
        "target",
        "ops/s",
        "p50 ms",
        "p90",
        "p99",
        "p99.9",
        "max",
        "over link",
        "failed"
    );
    let mut lines: Vec<(&Row, &Run)> = Vec::new();
    for run in runs {
        lines.extend(run.rows.iter().map(|row| (row, *run)));
    }
    // Regions in the order of the cluster, all of them last; for each the databases.
    let place = |row: &Row| {
        let rows = runs.iter().flat_map(|run| &run.rows);
        let regions: Vec<&str> = rows.map(|row| row.region.as_str()).collect();
        let last = row.region == super::ALL_REGIONS;
        (last, regions.iter().position(|it| *it == row.region))
    };
    lines.sort_by_key(|(row, _)| (row.operation, row.level, place(row)));
    for (row, run) in lines {
        line(&mut out, row, run.target.name());
    }
    for run in runs {
        costs(&mut out, run);
    }
    out
}

/// A table of what it cost to lose a region; nothing where none was.
#[must_use]
pub fn losses(losses: &[Loss]) -> String {
    let mut out = String::new();
    if losses.is_empty() {
        return out;
    }
    let _ = writeln!(
        out,
        "a region is lost: strong operations are due every 10 ms in those that are left; there: keys it wrote last\n\
         {:<12} {:<13} {:<6} {:<9} {:<13} {:<5} {:>10} {:>7} {:>7} {:>10}",
        "lost",
        "region",
        "target",
        "operation",
        "asked in",
        "keys",
        "longest ms",
        "done",
        "failed",
        "slowest ms"
    );
    for loss in losses {
        for gap in &loss.gaps {
            let slowest = gap.slowest_ms.map(|it| format!("{it:.0}"));
            let _ = writeln!(
                out,
                "{:<12} {:<13} {:<6} {:<9} {:<13} {:<5} {:>10.0} {:>7} {:>7} {:>10}",
                loss.fault.name(),
                loss.region,
                loss.target.name(),
                gap.operation.name(),
                gap.region,
                if gap.written_there { "there" } else { "all" },
                gap.longest_ms,
                gap.done,
                gap.failed,
                slowest.unwrap_or_else(|| "-".to_owned()),
            );
        }
    }
    out
}

/// A table of how costs grow.
#[must_use]
pub fn growth(series: &Series) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<17} {:<6} {:>9} {:>9} {:>9} {:>14} {:>12}",
        series.dimension.name(),
        "target",
        "ops/s",
        "p50 ms",
        "p99 ms",
        "server us/op",
        "resident MB"
    );
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |it| format!("{it:.2}"));
    for point in &series.points {
        let _ = writeln!(
            out,
            "{:<17} {:<6} {:>9.0} {:>9} {:>9} {:>14} {:>12.0}",
            point.value,
            point.target.name(),
            point.per_second,
            figure(point.p50_ms),
            figure(point.p99_ms),
            figure(point.server_cpu_us_per_op),
            point.resident_bytes as f64 / 1e6,
        );
    }
    for missing in &series.not_measured {
        let target = missing.target.name();
        let _ = writeln!(
            out,
            "{:<17} {target:<6} not measured: {}",
            missing.value, missing.why
        );
    }
    out
}

fn line(out: &mut String, row: &Row, target: &str) {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |it| format!("{it:.2}"));
    let over = row.over_limit_ms.map(|it| format!("{it:+.2}"));
    let _ = writeln!(
        out,
        "{:<17} {:<8} {:<13} {:<6} {:>9.0} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>7}",
        row.operation.name(),
        row.level,
        row.region,
        target,
        row.per_second,
        ms(row.p50_ms),
        ms(row.p90_ms),
        ms(row.p99_ms),
        ms(row.p999_ms),
        ms(row.max_ms),
        over.unwrap_or_else(|| "-".to_owned()),
        row.failed
    );
}

fn costs(out: &mut String, run: &Run) {
    let us = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |it| format!("{it:.0}"));
    let memory = run.resident_bytes.iter();
    let memory = memory.map(|it| format!("{:.0}", *it as f64 / 1e6));
    let _ = writeln!(
        out,
        "{}: server CPU {} us/op, generator CPU {} us/op ({:.0} % of one processor), resident {} MB, disk sync p50 {:.2} ms",
        run.target.name(),
        us(run.server_cpu_us_per_op),
        us(run.generator_cpu_us_per_op),
        run.generator_busy * 100.0,
        memory.collect::<Vec<_>>().join(" + "),
        run.sync_p50_ms
    );
    if run.generator_busy > GENERATOR_BUSY_MAX {
        let _ = writeln!(
            out,
            "{}: the generator had hardly time to spare: throughput and latency are its own",
            run.target.name()
        );
    }
    if run.not_begun > 0 {
        let _ = writeln!(
            out,
            "{}: {} operations were due and never begun: the rate is more than it serves with so many clients",
            run.target.name(),
            run.not_begun
        );
    }
    let reasons = run
        .rows
        .iter()
        .filter(|row| row.region == super::ALL_REGIONS);
    for (reason, count) in reasons.flat_map(|row| &row.reasons) {
        let _ = writeln!(out, "{}: {count} failed with {reason}", run.target.name());
    }
}
