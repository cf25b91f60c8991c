//! How costs grow: throughput, processor time and memory over one dimension, a line for each database.

use std::collections::BTreeMap;

use super::super::escape::{number, text};
use super::super::plot::{LEFT, RIGHT, WIDTH, rule, svg, ticks};
use super::super::table::{row, table};
use super::super::words;
use super::none;
use crate::bench::sweep::{Point, Series};

const TOP: f64 = 12.0;
const HEIGHT: f64 = 130.0;
const BOTTOM: f64 = 26.0;
/// Room at both ends of the axis of sizes.
const MARGIN: f64 = 24.0;

/// What a figure is of.
struct What {
    title: &'static str,
    id: &'static str,
    value: fn(&Point) -> Option<f64>,
}

const FIGURES: [What; 3] = [
    What {
        title: "Operations per second",
        id: "scaling-throughput",
        value: |point| Some(point.per_second),
    },
    What {
        title: "Server CPU of an operation, \u{b5}s",
        id: "scaling-cpu",
        value: |point| point.server_cpu_us_per_op,
    },
    What {
        title: "Resident memory of the largest node, MB",
        id: "scaling-memory",
        value: |point| Some(point.resident_bytes as f64 / 1e6),
    },
];

/// The section; nothing where no dimension was varied.
pub(super) fn section(series: Option<&Series>) -> String {
    let Some(series) = series else {
        return String::new();
    };
    let name = series.dimension.name();
    let mut out = format!(
        "<section aria-labelledby=\"scaling\"><h2 id=\"scaling\">Growth over {name}</h2>{}",
        points(series)
    );
    for missing in &series.not_measured {
        let why = format!(
            "{name} {} of {}: {}",
            missing.value,
            missing.target.name(),
            missing.why
        );
        out += &format!("<p class=\"note\">Not measured: {}.</p>", text(&why));
    }
    for what in &FIGURES {
        out += &figure(what, series);
    }
    out + "</section>"
}

fn points(series: &Series) -> String {
    let rows = series.points.iter().map(|point| {
        let target = point.target.name();
        let ms = |value: Option<f64>| value.map_or_else(none, |it| format!("{it:.2} ms"));
        let cpu = point.server_cpu_us_per_op;
        let cells = [
            format!("<i class=\"key {target}\"></i>{target}"),
            words::count(point.per_second.round() as u64),
            ms(point.p50_ms),
            ms(point.p99_ms),
            cpu.map_or_else(none, |it| format!("{it:.0} \u{b5}s")),
            format!("{:.0} MB", point.resident_bytes as f64 / 1e6),
        ];
        row(&words::count(point.value), &cells)
    });
    let rows: Vec<String> = rows.collect();
    let head = [
        series.dimension.name(),
        "target",
        "ops/s",
        "p50",
        "p99",
        "server CPU",
        "resident",
    ];
    let caption =
        "Each size on a cluster of its own; latencies of the operation that takes longest";
    table("numbers", caption, &head, &rows)
}

fn figure(what: &What, series: &Series) -> String {
    let mut lines: BTreeMap<&str, Vec<(u64, f64)>> = BTreeMap::new();
    for point in &series.points {
        if let Some(value) = (what.value)(point) {
            lines
                .entry(point.target.name())
                .or_default()
                .push((point.value, value));
        }
    }
    let legend = lines
        .keys()
        .map(|it| format!("<li><i class=\"key {it}\"></i>{it}</li>"));
    format!(
        "<figure><figcaption>{title}<ul class=\"legend\">{}</ul></figcaption>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">{}</div></figure>",
        legend.collect::<String>(),
        draw(what, series.dimension.name(), &lines),
        title = text(what.title),
    )
}

fn draw(what: &What, dimension: &str, lines: &BTreeMap<&str, Vec<(u64, f64)>>) -> String {
    let points = || lines.values().flatten();
    let sizes: std::collections::BTreeSet<u64> = points().map(|it| it.0).collect();
    let log = |size: u64| (size.max(1) as f64).log10();
    let first = sizes.first().copied().map_or(0.0, log);
    // One size alone stands at the left.
    let span = (sizes.last().copied().map_or(0.0, log) - first).max(1e-9);
    let width = WIDTH - LEFT - RIGHT - 2.0 * MARGIN;
    let x = |size: u64| LEFT + MARGIN + width * (log(size) - first) / span;
    let most = points().map(|it| it.1).fold(0.0, f64::max);
    let ticks = ticks(most);
    let top = ticks.last().copied().unwrap_or(1.0);
    let y = |value: f64| TOP + HEIGHT * (1.0 - value / top);
    let mut inner = String::new();
    for tick in &ticks {
        inner += &rule(y(*tick), &amount(*tick));
    }
    for size in &sizes {
        inner += &format!(
            "<text class=\"tick middle\" x=\"{}\" y=\"{}\">{}</text>",
            number(x(*size)),
            number(TOP + HEIGHT + 18.0),
            words::count(*size),
        );
    }
    for (target, points) in lines {
        let places = points
            .iter()
            .map(|(size, value)| (number(x(*size)), number(y(*value))));
        let places: Vec<(String, String)> = places.collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x} {y}")).collect();
        let dots: String = places.iter().map(|(x, y)| format!("M{x} {y}h0")).collect();
        inner += &format!(
            "<path class=\"line {target}\" d=\"M{}\"/><path class=\"dots {target}\" d=\"{dots}\"/>",
            path.join("L")
        );
    }
    let description = format!(
        "Over {dimension}, which grow by their logarithm; {} at most.",
        amount(most)
    );
    let size = (WIDTH, TOP + HEIGHT + BOTTOM);
    svg(("plot", what.id), size, (what.title, &description), &inner)
}

/// As it stands at an axis.
fn amount(value: f64) -> String {
    match value {
        v if v >= 10.0 || v == 0.0 => words::count(v.round() as u64),
        v => format!("{v:.1}"),
    }
}
