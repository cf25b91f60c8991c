//! The page as a whole: verdict first, then what is wrong, figures, coverage, and each round.

use std::collections::{BTreeMap, BTreeSet};

use super::escape::{short, text};
use super::figures::Tally;
use super::findings::Case;
use super::{Gap, Histories, coverage, figures, findings, rounds, words};
use crate::nemesis::Layout;
use crate::run::{Outcome, Round};

/// Bytes of all that is behind the lines of rounds, at most; the page as a whole stays below twice as much.
const ROUNDS_BYTES_MAX: usize = 2_500_000;
/// Bytes of all findings that are shown in full, at most.
const FINDINGS_BYTES_MAX: usize = 1_200_000;
/// Rounds that have a line of their own, at most: those that are not clean, then the first.
const ROUNDS_MAX: usize = 300;
/// Findings that are shown at all, at most.
const FINDINGS_MAX: usize = 150;
/// Characters of a reason or a command, at most.
const WORDS_MAX: usize = 1_000;
/// Rounds that are named for a property, at most.
const NAMED_MAX: usize = 12;

const STYLE: &str = include_str!("style.css");

/// Why something is not shown in full.
pub(super) const NO_ROOM: &str = "There is no room for more in this report.";

/// What is written of the rounds as their histories are read, one after the other.
#[derive(Default)]
struct Written {
    rounds: BTreeMap<u32, String>,
    rounds_bytes: usize,
    findings: Vec<String>,
    findings_bytes: usize,
    tally: Tally,
    /// Rounds whose history could not be had.
    unread: Vec<u32>,
}

/// The page.
pub(super) fn render(
    outcome: &Outcome,
    replay: &str,
    gaps: &[Gap],
    histories: &Histories<'_>,
) -> String {
    let mut written = Written::default();
    // What is wrong comes first, so that it has room.
    let (clean, bad): (Vec<&Round>, Vec<&Round>) =
        outcome.rounds.iter().partition(|round| round.is_clean());
    for round in bad.into_iter().chain(clean) {
        written.take(round, replay, histories);
    }
    let title = format!(
        "{} \u{2013} Hansa verdict, seed {}",
        word(outcome),
        outcome.seed
    );
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\
         <title>{}</title><style>{STYLE}</style></head><body>",
        text(&title)
    );
    out += &header(outcome);
    out += "<main>";
    out += &verdict(outcome, replay, &written.unread);
    out += &written.findings(outcome);
    out += &figures::section(outcome, gaps, &written.tally);
    out += &coverage::section(outcome);
    out += &written.rounds(outcome);
    out += "</main><footer><p>Written by <code>hansa-jepsen</code>. The same as data: \
            <a href=\"verdict.json\">verdict.json</a>, and a history per round beside it.</p></footer>";
    out + "</body></html>\n"
}

impl Written {
    fn take(&mut self, round: &Round, replay: &str, histories: &Histories<'_>) {
        let room = self.rounds.len() < ROUNDS_MAX;
        let history = match histories(round) {
            Ok(history) => history,
            Err(error) => {
                let why = format!("Its history can not be had: {error:#}.");
                self.unread.push(round.number);
                self.briefly(round, &why);
                if room {
                    self.line(round, &rounds::without(round, &why));
                }
                return;
            }
        };
        let mut tally = Tally::default();
        tally.take(round.number, &history.records);
        let faults = rounds::faults(round, &history);
        for case in cases(round) {
            if self.findings.len() >= FINDINGS_MAX {
                break;
            }
            let full = findings::full(case, &history, &faults, replay);
            if self.findings_bytes + full.len() > FINDINGS_BYTES_MAX {
                self.findings.push(findings::brief(case, NO_ROOM));
                continue;
            }
            self.findings_bytes += full.len();
            self.findings.push(full);
        }
        if room {
            let inside = rounds::inside(round, &history, &faults, &tally);
            match self.rounds_bytes + inside.len() > ROUNDS_BYTES_MAX {
                true => self.line(round, &rounds::without(round, NO_ROOM)),
                false => self.line(round, &inside),
            }
        }
        self.tally.add(tally);
    }

    fn line(&mut self, round: &Round, inside: &str) {
        self.rounds_bytes += inside.len();
        self.rounds
            .insert(round.number, rounds::whole(round, inside));
    }

    fn briefly(&mut self, round: &Round, why: &str) {
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        let all = cases(round).take(room);
        self.findings
            .extend(all.map(|case| findings::brief(case, why)));
    }

    fn findings(&self, outcome: &Outcome) -> String {
        let all: usize = outcome.rounds.iter().map(|it| it.findings.len()).sum();
        if all == 0 {
            return String::new();
        }
        let mut out =
            "<section aria-labelledby=\"findings\"><h2 id=\"findings\">What is wrong</h2>"
                .to_owned();
        out += &self.findings.concat();
        if all > self.findings.len() {
            out += &format!(
                "<p class=\"note\">{} more: see <a href=\"verdict.json\">verdict.json</a>.</p>",
                all - self.findings.len()
            );
        }
        out + "</section>"
    }

    fn rounds(&self, outcome: &Outcome) -> String {
        let mut out =
            "<section aria-labelledby=\"rounds\"><h2 id=\"rounds\">Rounds</h2>".to_owned();
        if outcome.rounds.is_empty() {
            out += "<p>No round was played.</p>";
        }
        out.extend(self.rounds.values().map(String::as_str));
        if outcome.rounds.len() > self.rounds.len() {
            out += &format!(
                "<p class=\"note\">{} more: see <a href=\"verdict.json\">verdict.json</a>.</p>",
                outcome.rounds.len() - self.rounds.len()
            );
        }
        out + "</section>"
    }
}

fn cases(round: &Round) -> impl Iterator<Item = Case<'_>> {
    let all = round.findings.iter().enumerate();
    all.map(move |(at, finding)| Case { round, at, finding })
}

fn header(outcome: &Outcome) -> String {
    let wrong = match outcome.rounds.iter().all(Round::is_clean) {
        true => "",
        false => "<a href=\"#findings\">What is wrong</a>",
    };
    format!(
        "<header><p class=\"brand\">Hansa <span>fault-injection verdict</span></p><nav aria-label=\"Sections\">{wrong}\
         <a href=\"#figures\">Figures</a><a href=\"#coverage\">Coverage</a><a href=\"#rounds\">Rounds</a>\
         <a href=\"verdict.json\">JSON</a></nav></header>"
    )
}

/// The verdict in a few words.
fn word(outcome: &Outcome) -> String {
    let bad = outcome.rounds.iter().filter(|it| !it.is_clean()).count() as u64;
    let all = outcome.rounds.len() as u64;
    match (all, bad) {
        (0, _) => "Nothing was run".to_owned(),
        (_, 0) => "Clean".to_owned(),
        (all, 1) => format!("1 of {} is not clean", words::plural(all, "round")),
        (all, bad) => format!("{bad} of {} are not clean", words::plural(all, "round")),
    }
}

fn verdict(outcome: &Outcome, replay: &str, unread: &[u32]) -> String {
    let class = if outcome.is_clean() { "good" } else { "bad" };
    let (ok, failed, unknown) = outcome.operations();
    let strikes = outcome.rounds.iter().flat_map(|it| it.strikes.values());
    let mut out = format!(
        "<section class=\"verdict {class}\" aria-labelledby=\"verdict\"><h1 id=\"verdict\">{}</h1><p class=\"lead\">\
         {} with {} and {} operations in {}.",
        text(&word(outcome)),
        words::plural(outcome.rounds.len() as u64, "round"),
        words::plural(strikes.sum(), "fault"),
        words::count(ok + failed + unknown),
        words::long(outcome.seconds),
    );
    out += match (outcome.rounds.is_empty(), outcome.is_clean()) {
        (true, _) => " What was not tried is not proved.</p>",
        (_, true) => " Every property was proved to hold in every round.</p>",
        _ => "</p>",
    };
    out += &properties(outcome);
    out += &facts(outcome, (ok, failed, unknown));
    out += &format!(
        "<p class=\"replay\">Repeat it:</p><pre tabindex=\"0\" aria-label=\"Command that repeats the run\">{}</pre>",
        short(replay, WORDS_MAX)
    );
    if !unread.is_empty() {
        let named: Vec<String> = unread.iter().take(NAMED_MAX).map(|it| link(*it)).collect();
        out += &format!(
            "<p><b>{} could not be read</b>, so figures lack {}.</p>",
            match unread.len() {
                1 => "The history of a round".to_owned(),
                many => format!("The histories of {many} rounds"),
            },
            named.join(", ")
        );
    }
    out + &not_done(outcome) + "</section>"
}

/// What is wrong, by property.
fn properties(outcome: &Outcome) -> String {
    let mut by_property: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for round in &outcome.rounds {
        for finding in &round.findings {
            let rounds = by_property.entry(&finding.property).or_default();
            rounds.insert(round.number);
        }
    }
    if by_property.is_empty() {
        return String::new();
    }
    let items: Vec<String> = by_property
        .iter()
        .take(4 * NAMED_MAX)
        .map(|(property, rounds)| {
            let named: Vec<String> = rounds.iter().take(NAMED_MAX).map(|it| link(*it)).collect();
            let more = match rounds.len().saturating_sub(NAMED_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!(
                "<li><b>{}</b> in {}{more}</li>",
                short(property, 80),
                named.join(", ")
            )
        })
        .collect();
    format!("<ul class=\"wrong\">{}</ul>", items.concat())
}

fn link(round: u32) -> String {
    format!("<a href=\"#round-{round}\">round {round}</a>")
}

fn facts(outcome: &Outcome, (ok, failed, unknown): (u64, u64, u64)) -> String {
    let layout = |it: &Layout| {
        format!(
            "{}, {} in each",
            words::plural(it.regions as u64, "region"),
            words::plural(it.nodes_per_region as u64, "node")
        )
    };
    let mut layouts: Vec<Layout> = outcome.rounds.iter().map(|it| it.layout).collect();
    layouts.sort_by_key(|it| (it.regions, it.nodes_per_region));
    layouts.dedup();
    let layouts: Vec<String> = layouts.iter().map(layout).collect();
    let facts = [
        ("Seed", outcome.seed.to_string()),
        ("Layout", layouts.join("; ")),
        (
            "Operations",
            format!(
                "{} ok, {} refused, {} unknown",
                words::count(ok),
                words::count(failed),
                words::count(unknown)
            ),
        ),
    ];
    let shown =
        facts.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", text(&value)));
    format!("<dl class=\"facts\">{}</dl>", shown.concat())
}

/// Kinds of fault that did not strike, with the reason.
fn not_done(outcome: &Outcome) -> String {
    let mut out = String::new();
    let not_here = outcome.not_here();
    if !not_here.is_empty() {
        out += "<h2 class=\"small\">Not done here</h2><ul>";
        for (kind, why) in not_here {
            out += &format!(
                "<li><b>{}</b>: {}</li>",
                text(&kind.name()),
                short(&why, WORDS_MAX)
            );
        }
        out += "</ul>";
    }
    if !outcome.not_applicable.is_empty() {
        out += "<h2 class=\"small\">Not applicable yet</h2><ul>";
        for (kind, issue) in &outcome.not_applicable {
            out += &format!(
                "<li><b>{}</b>: n/a (issue {issue})</li>",
                text(&kind.name())
            );
        }
        out += "</ul>";
    }
    out
}
