//! The operations that prove a finding, as SVG: a lane per process, a bar from the request to the reply.
//!
//! A proof may hold a write that took a millisecond and a read half a minute later. So time is not to scale: between
//! any two moments that matter there is a little room, more when there is more time between them, in its logarithm.
//! What came before what, and what overlapped, is as it was.

use std::collections::{BTreeMap, BTreeSet};

use super::chart::level_class;
use super::escape::{cut, number, text};
use super::faults::Faults;
use super::plot::svg;
use super::words;
use crate::history::{Datum, Expect, Op, Record, Status};

/// Operations that are drawn, at most; of more the first ones are.
pub(super) const OPERATIONS_MAX: usize = 40;
/// Characters of a label, at most.
const LABEL_MAX: usize = 46;
/// Characters of a full description, at most.
const DESCRIPTION_MAX: usize = 400;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 112.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 26.0;
/// A bar and the label above it.
const ROW: f64 = 32.0;
const BAR: f64 = 9.0;
/// Room between lanes.
const LANE_GAP: f64 = 8.0;
const BOTTOM: f64 = 28.0;
/// Width of a character of a label, in the font of the labels.
const CHARACTER: f64 = 6.1;
/// Room that a moment on the time axis needs.
const TICK: f64 = 92.0;

/// Draws operations, each with the number of its line. `id` is unlike that of any other figure on the page.
pub(super) fn draw(id: &str, operations: &[(usize, &Record)], faults: &Faults) -> String {
    let shown = &operations[..operations.len().min(OPERATIONS_MAX)];
    let scale = Scale::new(shown);
    let keys: BTreeSet<&str> = shown.iter().filter_map(|it| it.1.key.as_deref()).collect();
    let mut lanes: BTreeMap<u64, Vec<Bar<'_>>> = BTreeMap::new();
    for (line, record) in shown {
        let bar = Bar::new(*line, record, &scale, keys.len() > 1);
        lanes.entry(record.process).or_default().push(bar);
    }
    let mut y = TOP;
    let mut inner = String::new();
    for (process, bars) in &mut lanes {
        let rows = arrange(bars);
        let height = ROW * rows as f64 + LANE_GAP;
        inner += &lane(*process, bars, (y, height));
        y += height;
    }
    let height = y + BOTTOM;
    let behind = shades(&scale, faults, y) + &scale.ticks(y);
    let title = format!(
        "{} of {}",
        words::plural(shown.len() as u64, "operation"),
        words::plural(lanes.len() as u64, "client"),
    );
    let description = "A lane per process, a bar from the request to the reply, in the order of time but not to \
                       scale. The same operations follow as text.";
    svg(
        ("wide", id),
        (WIDTH, height),
        (&title, description),
        &(behind + &inner),
    )
}

/// Where moments are: room between them grows with the logarithm of the time between them.
struct Scale {
    /// Moments and their places, both growing; never empty.
    places: Vec<(u64, f64)>,
}

impl Scale {
    fn new(operations: &[(usize, &Record)]) -> Scale {
        let mut moments: BTreeSet<u64> = BTreeSet::new();
        for (_, record) in operations {
            moments.insert(record.invoke_ns);
            moments.extend(record.complete_ns);
        }
        let first = moments.first().copied().unwrap_or(0);
        let mut weights = vec![(first, 0.0)];
        let mut last = (first, 0.0);
        for moment in moments.into_iter().skip(1) {
            let apart_us = (moment - last.0) as f64 / 1e3;
            last = (moment, last.1 + 3.0 + (1.0 + apart_us).ln());
            weights.push(last);
        }
        let width = WIDTH - LEFT - RIGHT;
        let all = if last.1 > 0.0 { last.1 } else { 1.0 };
        let place = |(moment, weight): (u64, f64)| (moment, LEFT + width * weight / all);
        Scale {
            places: weights.into_iter().map(place).collect(),
        }
    }

    /// The place of a moment, evenly between its neighbours; at an edge when it is beyond.
    fn x(&self, ns: u64) -> f64 {
        let after = self.places.partition_point(|(moment, _)| *moment <= ns);
        let Some(before) = after.checked_sub(1).map(|at| self.places[at]) else {
            return LEFT;
        };
        let Some(next) = self.places.get(after) else {
            return before.1;
        };
        let part = (ns - before.0) as f64 / (next.0 - before.0).max(1) as f64;
        before.1 + (next.1 - before.1) * part
    }

    /// Times of the moments that have room for one: the first in the round, all others since the first.
    fn ticks(&self, y: f64) -> String {
        let mut out = String::new();
        let mut free = LEFT - 40.0;
        let first = self.places.first().map_or(0, |it| it.0);
        for (moment, x) in &self.places {
            if *x < free {
                continue;
            }
            free = x + TICK;
            let anchor = match *x {
                x if x > WIDTH - TICK / 2.0 => "end",
                _ => "middle",
            };
            let shown = match *moment - first {
                0 => words::moment(first),
                later => format!("+{}", words::nanos(later)),
            };
            out += &format!(
                "<path class=\"rule\" d=\"M{x} {}V{}\"/><text class=\"tick {anchor}\" x=\"{x}\" y=\"{}\">{shown}</text>",
                number(TOP),
                number(y + 4.0),
                number(y + 18.0),
                x = number(*x),
            );
        }
        out
    }
}

/// One operation in its lane.
struct Bar<'a> {
    line: usize,
    record: &'a Record,
    label: String,
    x: f64,
    end: f64,
    /// Where the label begins.
    label_x: f64,
    row: usize,
}

impl<'a> Bar<'a> {
    fn new(line: usize, record: &'a Record, scale: &Scale, with_key: bool) -> Bar<'a> {
        let label = cut(&label(record, with_key), LABEL_MAX);
        let x = scale.x(record.invoke_ns);
        // Without a reply it may take effect at any time: to the edge.
        let end = record
            .complete_ns
            .map_or(WIDTH - RIGHT, |end| scale.x(end))
            .max(x + 3.0);
        let width = label.chars().count() as f64 * CHARACTER;
        Bar {
            line,
            record,
            label,
            x,
            end,
            label_x: x.min(WIDTH - 4.0 - width).max(LEFT),
            row: 0,
        }
    }

    fn width(&self) -> f64 {
        self.label.chars().count() as f64 * CHARACTER
    }

    fn draw(&self, lane_y: f64) -> String {
        let y = lane_y + ROW * self.row as f64;
        let class = self.record.level.map_or("neutral", level_class);
        let status = match self.record.status {
            Status::Ok => "ok",
            Status::Fail => "fail",
            Status::Info => "info",
        };
        let title = format!("line {}: {}", self.line, self.record.describe());
        format!(
            "<g class=\"{class} {status}\"><title>{}</title><text class=\"op\" x=\"{}\" y=\"{}\">{}</text>\
             <rect class=\"bar\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\"/></g>",
            text(&cut(&title, DESCRIPTION_MAX)),
            number(self.label_x),
            number(y + 15.0),
            text(&self.label),
            number(self.x),
            number(y + 19.0),
            number(self.end - self.x),
            number(BAR),
        )
    }
}

/// Puts bars whose labels would cover each other into rows of their own; returns how many rows.
fn arrange(bars: &mut [Bar<'_>]) -> usize {
    let mut free: Vec<f64> = Vec::new();
    bars.sort_by_key(|bar| (bar.record.invoke_ns, bar.line));
    for bar in bars {
        let begin = bar.x.min(bar.label_x);
        let end = bar.end.max(bar.label_x + bar.width()) + 6.0;
        match free.iter().position(|free| *free <= begin) {
            Some(row) => {
                bar.row = row;
                free[row] = end;
            }
            None => {
                bar.row = free.len();
                free.push(end);
            }
        }
    }
    free.len()
}

fn lane(process: u64, bars: &[Bar<'_>], (y, height): (f64, f64)) -> String {
    let name = match bars.first().map(|bar| bar.record.op) {
        Some(Op::Final) => "final reads".to_owned(),
        Some(Op::Digest) => "digests".to_owned(),
        Some(Op::Usage) => "usage".to_owned(),
        Some(Op::Nemesis) => "faults".to_owned(),
        _ => format!("process {process}"),
    };
    let mut out = format!(
        "<path class=\"divide\" d=\"M0 {line}H{}\"/><text class=\"who\" x=\"4\" y=\"{}\">{}</text>",
        number(WIDTH),
        number(y + LANE_GAP / 2.0 + ROW - 5.0),
        text(&name),
        line = number(y + height),
    );
    for bar in bars {
        out += &bar.draw(y + LANE_GAP / 2.0);
    }
    out
}

/// The times of faults, as far as they lie between the operations.
fn shades(scale: &Scale, faults: &Faults, bottom: f64) -> String {
    let mut out = String::new();
    for it in &faults.stretches {
        let (x, end) = (scale.x(it.begin_ns), scale.x(it.end_ns));
        if end - x >= 1.0 {
            out += &format!(
                "<rect class=\"shade {}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                it.shade.name(),
                number(x),
                number(TOP),
                number(end - x),
                number(bottom - TOP),
            );
        }
    }
    let mut free = LEFT;
    for it in &faults.episodes {
        let (begin, end) = (scale.x(it.begin_ns), scale.x(it.end_ns));
        let kinds: Vec<&str> = it.kinds.iter().map(String::as_str).collect();
        let label = cut(&kinds.join(" + "), LABEL_MAX);
        let width = label.chars().count() as f64 * CHARACTER;
        let x = begin.min(WIDTH - 4.0 - width).max(LEFT);
        if end - begin >= 1.0 && x >= free {
            free = x + width + 8.0;
            out += &format!(
                "<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>",
                number(x),
                number(TOP - 8.0),
                text(&label)
            );
        }
    }
    out
}

/// What an operation did, in a few words.
fn label(record: &Record, with_key: bool) -> String {
    let mut out = serde_json::to_value(record.op)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default();
    if matches!(record.op, Op::Final | Op::Digest | Op::Usage) {
        let place = record.region.as_ref().or(record.node.as_ref());
        out += &place.map_or_else(String::new, |it| format!(" {}", cut(it, 14)));
    }
    if let Some(key) = record.key.as_ref().filter(|_| with_key) {
        out += &format!(" {}", cut(key, 18));
    }
    let value = value(record);
    let does = if record.op.is_write() {
        ""
    } else {
        "\u{2192} "
    };
    if !value.is_empty() {
        out += &format!(" {does}{value}");
    }
    if let Some(etag) = &record.etag {
        let skip = etag.chars().count().saturating_sub(6);
        let tail: String = etag.chars().skip(skip).collect();
        let mark = if skip > 0 { "\u{2026}" } else { "" };
        out += &format!(" @{mark}{tail}");
    }
    match record.status {
        Status::Ok => out,
        Status::Fail => out + " refused",
        Status::Info => out + " unknown",
    }
}

fn value(record: &Record) -> String {
    match &record.value {
        None if matches!(record.op, Op::Get | Op::Final) && record.status == Status::Ok => {
            "nothing".to_owned()
        }
        None => String::new(),
        Some(Datum::Integer(number)) => number.to_string(),
        Some(Datum::Text(it)) => format!("\"{}\"", cut(it, 16)),
        Some(Datum::Members(all)) => format!("{{{}}}", cut(&all.join(","), 20)),
        Some(Datum::Swap(swap)) => {
            let expected = match &swap.expect {
                Expect::Absent => "nothing".to_owned(),
                Expect::Value(value) => format!("\"{}\"", cut(value, 10)),
                Expect::Etag(etag) => format!("@{}", cut(etag, 10)),
            };
            format!("{expected}\u{2192}\"{}\"", cut(&swap.new, 10))
        }
        Some(Datum::Membership(it)) => match it.present {
            Some(present) => format!("{} {present}", cut(&it.element, 12)),
            None => cut(&it.element, 12),
        },
        Some(Datum::Rows(rows)) => {
            match rows.values().filter(|held| held.value.is_some()).count() {
                found if record.status == Status::Ok => format!("{found} rows"),
                _ => String::new(),
            }
        }
        Some(Datum::Json(value)) => cut(&value.to_string(), 24),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fault, operation, well_formed};
    use super::*;
    use crate::history::Level;

    fn none() -> Faults {
        Faults::default()
    }

    #[test]
    fn every_operation_has_a_bar_and_a_lane_and_order_is_kept() {
        let mut lost = operation(1, Op::Put, Level::Eventual, 1_000, 2_000);
        lost.value = Some(Datum::Text("<v1>".to_owned()));
        let read = operation(2, Op::Get, Level::Strong, 30_000_000_000, 30_000_900_000);
        let mut open = operation(3, Op::Cas, Level::Session, 1_500, 1_600);
        open.complete_ns = None;
        open.status = Status::Info;
        let shown = [(4, &lost), (9, &read), (11, &open)];
        let out = draw("t", &shown, &none());
        assert_eq!(well_formed(&out), Ok(()));
        assert_eq!(out.matches("class=\"bar\"").count(), 3);
        assert_eq!(out.matches("class=\"who\"").count(), 3);
        assert!(out.contains("put &quot;&lt;v1&gt;&quot;"), "{out}");
        assert!(out.contains("line 9: process 2 strong get"), "{out}");
        assert!(out.contains("nothing"), "a read that found nothing says so");
        let scale = Scale::new(&shown);
        let places: Vec<f64> = [1_000, 1_500, 2_000, 30_000_000_000]
            .map(|moment| scale.x(moment))
            .to_vec();
        assert!(places.is_sorted(), "{places:?}");
        assert!(
            places[2] - places[0] > 30.0,
            "a microsecond is visible: {places:?}"
        );
    }

    #[test]
    fn labels_of_a_lane_do_not_cover_each_other() {
        let all: Vec<Record> = (0..30_u64)
            .map(|at| operation(1, Op::Get, Level::Strong, at * 1_000, at * 1_000 + 500))
            .collect();
        let shown: Vec<(usize, &Record)> = all.iter().enumerate().collect();
        let scale = Scale::new(&shown);
        let mut bars: Vec<Bar<'_>> = shown
            .iter()
            .map(|(line, record)| Bar::new(*line, record, &scale, true))
            .collect();
        let rows = arrange(&mut bars);
        assert!(rows > 1);
        for (at, a) in bars.iter().enumerate() {
            for b in bars[at + 1..].iter().filter(|b| b.row == a.row) {
                let end = a.end.max(a.label_x + a.width());
                assert!(end <= b.x.min(b.label_x), "{} and {}", a.line, b.line);
            }
        }
    }

    #[test]
    fn nothing_and_one_moment_are_figures_too() {
        for shown in [
            &[][..],
            &[(1, &operation(1, Op::Get, Level::Strong, 7, 7))][..],
        ] {
            let faults = Faults::of(
                &[fault(0, Some("kill"), "begin", &[], &["a"])],
                &BTreeSet::new(),
                u64::MAX,
            );
            let out = draw("t", shown, &faults);
            assert_eq!(well_formed(&out), Ok(()));
            assert!(!out.contains("NaN") && !out.contains("inf"), "{out}");
        }
    }
}
