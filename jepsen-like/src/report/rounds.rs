//! A round: a line that says how it went, and behind it what it did, as tables and figures.

use std::collections::BTreeSet;

use super::chart::{self, Scene};
use super::escape::{cut, short, text};
use super::faults::Faults;
use super::figures::{self, Tally};
use super::shown::Shown;
use super::table::{row, table};
use super::words;
use crate::history::History;
use crate::run::Round;

/// Episodes of faults that are listed, at most.
const EPISODES_MAX: usize = 40;
/// Findings that the line of a round leads to, at most.
const FINDINGS_MAX: usize = 20;
/// Characters of a reason or of a list of regions, at most.
const WORDS_MAX: usize = 160;

/// A round with what is behind its line.
pub(super) fn whole(round: &Round, inner: &str) -> String {
    let class = if round.is_clean() { "good" } else { "bad" };
    format!(
        "<details class=\"round {class}\" id=\"round-{}\"><summary>{}</summary><div class=\"inside\">{inner}</div>\
         </details>",
        round.number,
        line(round),
    )
}

/// What is behind the line of a round whose history is there.
pub(super) fn inside(
    round: &Round,
    shown: &Shown,
    history: &History,
    faults: &Faults,
    tally: &Tally,
) -> String {
    let mut out = findings(round, shown);
    out += &held(round);
    out += &strikes(round);
    out += &charts(round, history, faults);
    let caption = format!("Client operations of round {}", round.number);
    out += &figures::operations(&caption, &round.figures, tally);
    out += &episodes(faults);
    let file = text(&round.history_name());
    out + &format!("<p>All of it: <a href=\"{file}\">{file}</a></p>")
}

/// The same when there is no history, or no room; `why` says so.
pub(super) fn without(round: &Round, shown: &Shown, why: &str) -> String {
    let file = text(&round.history_name());
    format!(
        "{}{}<p class=\"note\">{} See <a href=\"{file}\">{file}</a>.</p>",
        findings(round, shown),
        held(round),
        short(why, 4 * WORDS_MAX),
    )
}

fn line(round: &Round) -> String {
    let (word, class) = match round.is_clean() {
        true => ("clean", "good"),
        false => ("not clean", "bad"),
    };
    let sum = |of: fn(&crate::run::outcome::Figures) -> u64| {
        words::count(round.figures.iter().map(of).sum::<u64>())
    };
    let settled = match round.settled_ms {
        Some(ms) => format!("quiet after {}", words::micros(ms.saturating_mul(1000))),
        None => "never quiet".to_owned(),
    };
    format!(
        "<span class=\"badge {class}\">{word}</span> <h3>Round {}</h3> <span class=\"cell-name\">{}</span> \
         <span class=\"soft\">{}, {} ok, {} refused, {} unknown, {settled}</span>",
        round.number,
        text(&round.cell.describe()),
        words::plural(round.strikes.values().sum(), "fault"),
        sum(|it| it.ok),
        sum(|it| it.failed),
        sum(|it| it.unknown),
    )
}

fn findings(round: &Round, shown: &Shown) -> String {
    let links: Vec<String> = round
        .findings
        .iter()
        .enumerate()
        .take(FINDINGS_MAX)
        .map(|(at, finding)| shown.finding(round.number, at, &cut(&finding.property, 80)))
        .collect();
    let more = match round.findings.len().saturating_sub(FINDINGS_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match links.is_empty() {
        true => String::new(),
        false => format!("<p><b>Wrong:</b> {}{more}</p>", links.join(", ")),
    }
}

fn held(round: &Round) -> String {
    let names: Vec<String> = round.held.iter().map(|it| short(it, 80)).collect();
    match names.is_empty() {
        true => "<p>No property was proved to hold.</p>".to_owned(),
        false => format!("<p>Proved to hold: {}.</p>", names.join(", ")),
    }
}

fn strikes(round: &Round) -> String {
    let struck = round.cell.nemeses.iter().map(|kind| {
        let times = round.strikes.get(kind).copied().unwrap_or(0);
        let vain = match round.vain.get(kind) {
            Some(vain) => format!(", and {} without effect", words::plural(*vain, "time")),
            None => String::new(),
        };
        match round.not_here.get(kind) {
            Some(why) => format!(
                "<b>{}</b>: not possible here: {}",
                text(&kind.name()),
                short(why, WORDS_MAX)
            ),
            None => format!(
                "<b>{}</b>: {}{vain}",
                text(&kind.name()),
                words::plural(times, "time")
            ),
        }
    });
    let struck: Vec<String> = struck.map(|it| format!("<li>{it}</li>")).collect();
    format!("<p>Faults that struck:</p><ul>{}</ul>", struck.concat())
}

fn charts(round: &Round, history: &History, faults: &Faults) -> String {
    let span_ns = chart::span_ns(&history.records);
    let ids = ["throughput", "latency"].map(|it| format!("round-{}-{it}", round.number));
    let [throughput, latency] = ids.each_ref().map(|id| Scene {
        records: &history.records,
        faults,
        span_ns,
        id,
    });
    let levels = ["eventual", "session", "strong"]
        .map(|it| format!("<li><i class=\"key {it}\"></i>{it}</li>"))
        .concat();
    let shades = "<li><i class=\"key shade isolated\"></i>a region isolated</li>\
                  <li><i class=\"key shade impaired\"></i>a region impaired</li>";
    let figure = |title: &str, legend: &str, svg: &str| {
        format!(
            "<figure><figcaption>{title}<ul class=\"legend\">{levels}{legend}{shades}</ul></figcaption>\
             <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">{svg}</div></figure>"
        )
    };
    figure(
        "Operations per second",
        "<li><i class=\"key unknown\"></i>refused or unknown</li>",
        &chart::throughput(throughput),
    ) + &figure(
        "Latency of each operation",
        "<li><i class=\"key refused\"></i>refused</li><li><i class=\"key unknown\"></i>unknown</li>",
        &chart::latency(latency),
    )
}

fn episodes(faults: &Faults) -> String {
    if faults.episodes.is_empty() {
        return String::new();
    }
    let list = |names: &BTreeSet<String>| match names.is_empty() {
        true => "\u{2013}".to_owned(),
        false => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            short(&names.join(", "), WORDS_MAX)
        }
    };
    let rows: Vec<String> = faults
        .episodes
        .iter()
        .take(EPISODES_MAX)
        .map(|it| {
            let cells = [
                words::moment(it.end_ns),
                list(&it.kinds),
                list(&it.isolated),
                list(&it.impaired),
            ];
            row(&words::moment(it.begin_ns), &cells)
        })
        .collect();
    let caption = match faults.episodes.len() {
        all if all > EPISODES_MAX => format!("Times of faults, the first {EPISODES_MAX} of {all}"),
        _ => "Times of faults, until all regions were whole again".to_owned(),
    };
    let head = ["From", "until", "faults", "isolated", "impaired"];
    table("words", &caption, &head, &rows)
}

/// The faults of a round, as its history has them.
pub(super) fn faults(round: &Round, history: &History) -> Faults {
    let refused = round.not_here.keys().map(|it| it.name()).collect();
    Faults::of(&history.records, &refused, chart::span_ns(&history.records))
}
