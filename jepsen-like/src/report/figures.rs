//! The tables of figures: operations and latencies, settling, gaps, rare paths, use of memory and disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use hdrhistogram::Histogram;

use super::chart::level_class;
use super::escape::{short, text};
use super::shown::Shown;
use super::table::{row, table};
use super::{Gap, words};
use crate::history::{Datum, Op, Record, Status};
use crate::run::outcome::Figures;
use crate::run::{Outcome, Round};

/// Longest latency that figures tell apart, microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Gaps that are listed, at most: the longest.
const GAPS_MAX: usize = 10;
/// Nodes whose use is listed, at most.
const NODES_MAX: usize = 60;
/// Rare paths that are listed, at most.
const PROBES_MAX: usize = 200;
/// Characters of a name, at most.
const NAME_MAX: usize = 80;

/// What histories say beyond the outcome.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Latencies of what was done, microseconds, by kind as in [`Figures::kind`].
    took: BTreeMap<String, Histogram<u64>>,
    /// The most that each node used.
    used: BTreeMap<String, Used>,
}

/// The most that a node used, and in which round.
#[derive(Debug, Default)]
struct Used {
    memory: (u64, u32),
    disk: (u64, u32),
    files: (u64, u32),
}

impl Tally {
    /// Takes the lines of a round in.
    pub(super) fn take(&mut self, round: u32, records: &[Record]) {
        for record in records {
            if record.op == Op::Usage {
                self.usage(round, record);
            }
            let Some(level) = record.level.filter(|_| record.op.is_client()) else {
                continue;
            };
            if record.status != Status::Ok {
                continue;
            }
            let does = if record.op.is_write() {
                "write"
            } else {
                "read"
            };
            let end = record.complete_ns.unwrap_or(record.invoke_ns);
            let us = end.saturating_sub(record.invoke_ns) / 1000;
            let histogram = match self.took.entry(format!("{} {does}", level_class(level))) {
                Entry::Occupied(it) => it.into_mut(),
                Entry::Vacant(it) => {
                    // The bounds are constants that the crate accepts.
                    let Ok(fresh) = Histogram::new_with_max(LATENCY_MAX_US, 3) else {
                        continue;
                    };
                    it.insert(fresh)
                }
            };
            histogram.saturating_record(us);
        }
    }

    /// Takes in what another one has.
    pub(super) fn add(&mut self, other: Tally) {
        for (kind, histogram) in other.took {
            match self.took.entry(kind) {
                // Equal bounds: nothing is beyond them.
                Entry::Occupied(mut it) => it.get_mut().add(histogram).unwrap_or_default(),
                Entry::Vacant(it) => {
                    it.insert(histogram);
                }
            }
        }
        for (node, used) in other.used {
            let most = self.used.entry(node).or_default();
            most.memory = most.memory.max(used.memory);
            most.disk = most.disk.max(used.disk);
            most.files = most.files.max(used.files);
        }
    }

    fn usage(&mut self, round: u32, record: &Record) {
        let (Some(node), Some(Datum::Json(value))) = (&record.node, &record.value) else {
            return;
        };
        let of = |name: &str| (value[name].as_u64().unwrap_or(0), round);
        let most = self.used.entry(node.clone()).or_default();
        most.memory = most.memory.max(of("memory"));
        most.disk = most.disk.max(of("disk"));
        most.files = most.files.max(of("files"));
    }
}

/// Operations and latencies by level and kind.
pub(super) fn operations(caption: &str, figures: &[Figures], tally: &Tally) -> String {
    let mut kinds: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for it in figures {
        let kind = kinds.entry(&it.kind).or_default();
        *kind = (kind.0 + it.ok, kind.1 + it.failed, kind.2 + it.unknown);
    }
    if kinds.is_empty() {
        return "<p>No client operation was recorded.</p>".to_owned();
    }
    let rows: Vec<String> = kinds
        .iter()
        .map(|(kind, (ok, failed, unknown))| {
            let took = tally.took.get(*kind).filter(|it| !it.is_empty());
            let at = |quantile: f64| match took {
                Some(it) => words::micros(it.value_at_quantile(quantile)),
                None => "\u{2013}".to_owned(),
            };
            let level = kind.split(' ').next().unwrap_or_default();
            let name = format!("<i class=\"key {}\"></i>{}", text(level), text(kind));
            let mut cells = [*ok, *failed, *unknown].map(words::count).to_vec();
            cells.extend([0.5, 0.9, 0.99, 0.999, 1.0].map(at));
            row(&name, &cells)
        })
        .collect();
    let head = [
        "Level and kind",
        "ok",
        "refused",
        "unknown",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
    ];
    table("numbers", caption, &head, &rows)
}

/// The whole section.
pub(super) fn section(outcome: &Outcome, shown: &Shown, gaps: &[Gap], tally: &Tally) -> String {
    let all: Vec<Figures> = outcome
        .rounds
        .iter()
        .flat_map(|it| it.figures.clone())
        .collect();
    let mut out = "<section aria-labelledby=\"figures\"><h2 id=\"figures\">Figures</h2>".to_owned();
    out += &operations("Client operations, all rounds", &all, tally);
    out += "<p class=\"note\"><b>ok</b>: done, a condition that did not hold included. <b>refused</b>: nothing was \
            applied. <b>unknown</b>: no answer in time; it may have been applied. Latencies are those of what was \
            done, from the request to the reply.</p>";
    out += &settling(&outcome.rounds, shown);
    out += &longest_gaps(gaps, shown);
    out += "<div class=\"pair\">";
    out += &usage(tally);
    out += &probes(&outcome.probes);
    out + "</div></section>"
}

fn settling(rounds: &[Round], shown: &Shown) -> String {
    let mut took: Vec<(u64, u32)> = rounds
        .iter()
        .filter_map(|it| Some((it.settled_ms?, it.number)))
        .collect();
    took.sort_unstable();
    let never = rounds.len() - took.len();
    let mut out = "<h3>Settling after all faults were healed</h3><p>".to_owned();
    match (took.get(took.len() / 2), took.last()) {
        (Some((median, _)), Some((most, round))) => {
            let of = |ms: u64| words::micros(ms.saturating_mul(1000));
            out += &format!(
                "Quiet and equal in {}: median {}, longest {} ({}).",
                words::plural(took.len() as u64, "round"),
                of(*median),
                of(*most),
                shown.round(*round, &format!("round {round}")),
            );
        }
        _ => out += "No round became quiet and equal.",
    }
    if never > 0 && !took.is_empty() {
        out += &format!(
            " <b>{} never did.</b>",
            words::plural(never as u64, "round")
        );
    }
    out + "</p>"
}

fn longest_gaps(gaps: &[Gap], shown: &Shown) -> String {
    let title = "<h3>Longest gaps of availability</h3>";
    let mut longest: Vec<&Gap> = gaps.iter().collect();
    longest.sort_by_key(|it| (std::cmp::Reverse(it.length_ns()), it.round));
    if longest.is_empty() {
        return format!("{title}<p>No gap was reported.</p>");
    }
    let rows: Vec<String> = longest
        .iter()
        .take(GAPS_MAX)
        .map(|it| {
            let level = level_class(it.level);
            let name = format!("<i class=\"key {level}\"></i>{level}");
            let cells = [
                words::nanos(it.length_ns()),
                short(&it.region, NAME_MAX),
                short(&it.during, NAME_MAX),
                shown.round(it.round, &it.round.to_string()),
                words::moment(it.begin_ns),
            ];
            row(&name, &cells)
        })
        .collect();
    let caption = match longest.len() {
        all if all > GAPS_MAX => format!("The longest {GAPS_MAX} of {}", words::count(all as u64)),
        _ => "Times in which a level did nothing although it had to".to_owned(),
    };
    let head = ["Level", "Longest", "Region", "During", "Round", "From"];
    format!("{title}{}", table("words", &caption, &head, &rows))
}

fn usage(tally: &Tally) -> String {
    let mut out = "<div><h3>Use of memory and disk</h3>".to_owned();
    if tally.used.is_empty() {
        return out + "<p>Not recorded.</p></div>";
    }
    let shown = |(most, round): (u64, u32), unit: fn(u64) -> String| {
        format!("{} <span class=\"soft\">r{round}</span>", unit(most))
    };
    let rows: Vec<String> = tally
        .used
        .iter()
        .take(NODES_MAX)
        .map(|(node, used)| {
            let cells = [
                shown(used.memory, words::bytes),
                shown(used.disk, words::bytes),
                shown(used.files, words::count),
            ];
            row(&short(node, NAME_MAX), &cells)
        })
        .collect();
    let caption = "The most that each node used after a round, and in which";
    out += &table(
        "numbers",
        caption,
        &["Node", "memory", "disk", "open files"],
        &rows,
    );
    out + "</div>"
}

fn probes(probes: &BTreeMap<String, u64>) -> String {
    let mut out = "<div><h3>Rare paths</h3>".to_owned();
    if probes.is_empty() {
        return out + "<p>Not recorded.</p></div>";
    }
    let never = probes.values().filter(|it| **it == 0).count();
    if never > 0 {
        out += &format!(
            "<p>{} never taken in this run.</p>",
            words::plural(never as u64, "path")
        );
    }
    let rows: Vec<String> = probes
        .iter()
        .take(PROBES_MAX)
        .map(|(name, count)| {
            let shown = match count {
                0 => "<b>never</b>".to_owned(),
                count => words::count(*count),
            };
            row(&short(name, NAME_MAX), &[shown])
        })
        .collect();
    out += &table(
        "numbers",
        "How often each was taken, over all nodes",
        &["Path", "times"],
        &rows,
    );
    out + "</div>"
}
