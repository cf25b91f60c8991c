//! The bars: what is asked, what was measured, and what came of it.

use super::super::escape::{number, short, text};
use super::super::table::{row, table};
use super::{NAME_MAX, none};
use crate::bench::bars::{Bar, SYNC_MAX_MS, Verdict};
use crate::bench::document::Document;

/// Bars that are shown, at most.
const BARS_MAX: usize = 200;
/// The width of a gauge, in the units of its view box; its bound stands at two thirds.
const GAUGE: f64 = 120.0;

/// The section; nothing where no bar was asked for.
pub(super) fn section(document: &Document) -> String {
    if document.bars.is_empty() {
        return String::new();
    }
    let rows: Vec<String> = document.bars.iter().take(BARS_MAX).map(line).collect();
    let head = ["Bar", "asked", "measured", "", "by, or why"];
    let caption = "The line in a gauge is what is asked for; a gauge ends at half as much again";
    let mut out = format!(
        "<section aria-labelledby=\"bars\"><h2 id=\"bars\">Bars</h2><p>They hold where a disk sync takes at most \
         {SYNC_MAX_MS} ms in the median. On a slower disk a bar that is missed is undecided, unless no disk explains \
         by how much.</p>{}",
        table("words bars", caption, &head, &rows)
    );
    if !document.bars_not_decided.is_empty() {
        let names = document.bars_not_decided.iter();
        let names: String = names.map(|it| format!("<li>{}</li>", text(it))).collect();
        out += &format!("<p>Not decided by this run:</p><ul>{names}</ul>");
    }
    out + "</section>"
}

fn line(bar: &Bar) -> String {
    let sign = if bar.at_most { "\u{2264}" } else { "\u{2265}" };
    let (word, class, note) = match &bar.verdict {
        Verdict::Met { by } => (
            "met",
            "good",
            format!("{} {} to spare", quantity(*by), bar.unit),
        ),
        Verdict::Missed { by: Some(by) } => {
            ("missed", "bad", format!("{} {}", quantity(*by), bar.unit))
        }
        Verdict::Missed { by: None } => ("missed", "bad", "no operation succeeded".to_owned()),
        Verdict::Undecided { why } => ("undecided", "idle", why.clone()),
    };
    let measured = bar
        .measured
        .map_or_else(none, |it| format!("{} {}", quantity(it), text(bar.unit)));
    let cells = [
        format!("{sign} {} {}", quantity(bar.bound), text(bar.unit)),
        measured,
        gauge(bar, class),
        short(&note, NAME_MAX),
    ];
    let name = short(&bar.name, NAME_MAX);
    row(
        &format!("<i class=\"badge {class}\">{word}</i> {name}"),
        &cells,
    )
}

/// Three digits that count.
fn quantity(value: f64) -> String {
    match value.abs() {
        v if v < 10.0 => format!("{value:.2}"),
        v if v < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// How near to its bound a bar is.
fn gauge(bar: &Bar, class: &str) -> String {
    let Some(measured) = bar.measured.filter(|_| bar.bound > 0.0) else {
        return String::new();
    };
    let bound = GAUGE * 2.0 / 3.0;
    let width = (measured / bar.bound * bound).clamp(1.0, GAUGE);
    format!(
        "<svg class=\"gauge\" viewBox=\"0 0 {GAUGE} 12\" aria-hidden=\"true\"><path class=\"lane\" d=\"M0 6H{GAUGE}\"/>\
         <rect class=\"{class}\" x=\"0\" y=\"2\" width=\"{}\" height=\"8\" rx=\"1\"/><path class=\"bound\" d=\"M{b} 0V12\"/></svg>",
        number(width),
        b = number(bound),
    )
}
