//! The page as a whole: verdict first, then what is wrong, figures, coverage, and each round.

use std::collections::{BTreeMap, BTreeSet};

use super::escape::{short, text};
use super::figures::Tally;
use super::findings::{Case, is_undecided};
use super::shown::{Shown, most_wrong_first};
use super::{Gap, Histories, coverage, figures, findings, frame, rounds, words};
use crate::nemesis::Layout;
use crate::run::{Outcome, Round};

/// Bytes of all that is behind the lines of rounds, at most; the page as a whole stays below twice as much.
const ROUNDS_BYTES_MAX: usize = 2_500_000;
/// Bytes of all findings that are shown in full, at most.
const FINDINGS_BYTES_MAX: usize = 1_200_000;
/// Characters of a reason or a command, at most.
const WORDS_MAX: usize = 1_000;
/// Rounds that are named for a property, at most.
const NAMED_MAX: usize = 12;

/// Why something is not shown in full.
pub(super) const NO_ROOM: &str = "There is no room for more in this report.";

/// What is written of the rounds as their histories are read, one after the other.
struct Written<'a> {
    replay: &'a str,
    shown: Shown,
    rounds: BTreeMap<u32, String>,
    rounds_room: Room,
    findings: Vec<String>,
    findings_room: Room,
    tally: Tally,
    /// Rounds whose history could not be had.
    unread: Vec<u32>,
}

/// What something has taken of the bytes that are there for it.
#[derive(Default)]
struct Room {
    taken: usize,
}

impl Room {
    /// The text, unless it would be more than `most` with all before it. Then nothing fits any more, so that a run with
    /// a thousand findings is not drawn for nothing.
    fn fit(&mut self, most: usize, write: impl FnOnce() -> String) -> Option<String> {
        if self.taken >= most {
            return None;
        }
        let text = write();
        self.taken = self.taken.saturating_add(text.len()).min(most);
        (self.taken < most).then_some(text)
    }
}

/// The page.
pub(super) fn render(
    outcome: &Outcome,
    replay: &str,
    gaps: &[Gap],
    histories: &Histories<'_>,
) -> String {
    let mut written = Written {
        replay,
        shown: Shown::of(outcome),
        rounds: BTreeMap::new(),
        rounds_room: Room::default(),
        findings: Vec::new(),
        findings_room: Room::default(),
        tally: Tally::default(),
        unread: Vec::new(),
    };
    for round in most_wrong_first(outcome) {
        written.take(round, histories);
    }
    let title = format!(
        "{} \u{2013} Hansa verdict, seed {}",
        word(outcome),
        outcome.seed
    );
    let mut main = verdict(outcome, &written);
    main += &written.findings(outcome);
    main += &figures::section(outcome, &written.shown, gaps, &written.tally);
    main += &coverage::section(outcome);
    main += &written.rounds(outcome);
    let footer = "<p>Written by <code>hansa-jepsen</code>. The same as data: \
            <a href=\"verdict.json\">verdict.json</a>, and a history per round beside it.</p>";
    frame::page(&title, &header(outcome), &main, footer)
}

impl Written<'_> {
    fn take(&mut self, round: &Round, histories: &Histories<'_>) {
        let history = match histories(round) {
            Ok(history) => history,
            Err(error) => {
                let why = format!("Its history can not be had: {error:#}.");
                self.unread.push(round.number);
                let cases = cases(round, &self.shown);
                self.findings
                    .extend(cases.map(|it| findings::brief(it, &why)));
                let inside = rounds::without(round, &self.shown, &why);
                self.line(round, &inside);
                return;
            }
        };
        let mut tally = Tally::default();
        tally.take(round.number, &history.records);
        if self.shown.has_round(round.number) {
            let faults = rounds::faults(round, &history);
            for case in cases(round, &self.shown) {
                let full = self.findings_room.fit(FINDINGS_BYTES_MAX, || {
                    findings::full(case, &history, &faults, self.replay)
                });
                let text = full.unwrap_or_else(|| findings::brief(case, NO_ROOM));
                self.findings.push(text);
            }
            let inside = self.rounds_room.fit(ROUNDS_BYTES_MAX, || {
                rounds::inside(round, &self.shown, &history, &faults, &tally)
            });
            let inside = inside.unwrap_or_else(|| rounds::without(round, &self.shown, NO_ROOM));
            self.line(round, &inside);
        }
        self.tally.add(tally);
    }

    fn line(&mut self, round: &Round, inside: &str) {
        if self.shown.has_round(round.number) {
            let whole = rounds::whole(round, inside);
            self.rounds.insert(round.number, whole);
        }
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

/// The findings of a round that are shown.
fn cases<'a>(round: &'a Round, shown: &'a Shown) -> impl Iterator<Item = Case<'a>> {
    let all = round.findings.iter().enumerate();
    all.filter(|(at, _)| shown.has_finding(round.number, *at))
        .map(move |(at, finding)| Case {
            round,
            at,
            finding,
            shown,
        })
}

fn header(outcome: &Outcome) -> String {
    let wrong = match outcome.rounds.iter().all(Round::is_clean) {
        true => "",
        false => "<a href=\"#findings\">What is wrong</a>",
    };
    let links = format!(
        "{wrong}<a href=\"#figures\">Figures</a><a href=\"#coverage\">Coverage</a><a href=\"#rounds\">Rounds</a>\
         <a href=\"verdict.json\">JSON</a>"
    );
    frame::header("fault-injection verdict", &links)
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

fn verdict(outcome: &Outcome, written: &Written<'_>) -> String {
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
    out += &properties(outcome, &written.shown);
    out += &facts(outcome, (ok, failed, unknown));
    out += &frame::repeat(written.replay);
    let unread = &written.unread;
    if !unread.is_empty() {
        out += &format!(
            "<p><b>{} could not be read</b>, so figures lack {}.</p>",
            match unread.len() {
                1 => "The history of a round".to_owned(),
                many => format!("The histories of {many} rounds"),
            },
            named(unread.iter().copied(), &written.shown),
        );
    }
    out + &not_done(outcome) + "</section>"
}

/// What is wrong, by property.
fn properties(outcome: &Outcome, shown: &Shown) -> String {
    let mut by_property: BTreeMap<(&str, bool), BTreeSet<u32>> = BTreeMap::new();
    for round in &outcome.rounds {
        for finding in &round.findings {
            let kind = (finding.property.as_str(), is_undecided(finding));
            by_property.entry(kind).or_default().insert(round.number);
        }
    }
    if by_property.is_empty() {
        return String::new();
    }
    let items: Vec<String> = by_property
        .iter()
        .take(4 * NAMED_MAX)
        .map(|((property, undecided), rounds)| {
            let named = named(rounds.iter().copied(), shown);
            let how = if *undecided { " undecided" } else { "" };
            format!("<li><b>{}</b>{how} in {named}</li>", short(property, 80))
        })
        .collect();
    format!("<ul class=\"wrong\">{}</ul>", items.concat())
}

/// Rounds by number, the first ones if there are many.
fn named(rounds: impl ExactSizeIterator<Item = u32>, shown: &Shown) -> String {
    let more = match rounds.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let links = rounds
        .take(NAMED_MAX)
        .map(|it| shown.round(it, &format!("round {it}")));
    links.collect::<Vec<String>>().join(", ") + &more
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
    frame::facts(&facts)
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
