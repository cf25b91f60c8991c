//! Which workload met which kind of fault, as a grid.

use clap::ValueEnum;

use super::escape::text;
use super::words;
use crate::nemesis::{Nemesis, Support};
use crate::run::{Outcome, Round};
use crate::workload::{Levels, Workload};

/// What came of a cell in all rounds that had it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Square {
    clean: u64,
    bad: u64,
    /// Rounds in which the machine or engine could not do it.
    not_here: u64,
    /// Rounds that had it, but in which it never struck.
    idle: u64,
}

impl Square {
    fn add(&mut self, round: &Round, nemesis: Nemesis) {
        let struck = round.strikes.get(&nemesis).copied().unwrap_or(0) > 0;
        let counter = match () {
            // Whatever the fault that is to blame: all that were in the round are suspects.
            () if !round.is_clean() => &mut self.bad,
            () if round.not_here.contains_key(&nemesis) => &mut self.not_here,
            () if nemesis != Nemesis::Calm && !struck => &mut self.idle,
            () => &mut self.clean,
        };
        *counter += 1;
    }

    /// Class, what it shows, and what it means in words.
    fn shown(self) -> (&'static str, String, String) {
        match self {
            it if it.bad > 0 => (
                "bad",
                format!("{}/{}", it.bad, it.bad + it.clean),
                format!("{} not clean of {}", it.bad, it.bad + it.clean),
            ),
            it if it.clean > 0 => (
                "good",
                it.clean.to_string(),
                format!("{} clean", words::plural(it.clean, "round")),
            ),
            it if it.not_here > 0 => ("not-here", "no".to_owned(), "not possible here".to_owned()),
            it if it.idle > 0 => (
                "idle",
                "0".to_owned(),
                "chosen, but it never struck".to_owned(),
            ),
            _ => ("not-run", "\u{b7}".to_owned(), "not run".to_owned()),
        }
    }
}

/// The whole section.
pub(super) fn section(outcome: &Outcome) -> String {
    let mut out = "<section aria-labelledby=\"coverage\"><h2 id=\"coverage\">Coverage</h2>\
        <ul class=\"legend\"><li><i class=\"cell good\">3</i>clean rounds</li>\
        <li><i class=\"cell bad\">1/3</i>not clean, of how many</li>\
        <li><i class=\"cell not-run\">\u{b7}</i>not run</li>\
        <li><i class=\"cell idle\">0</i>chosen, never struck</li>\
        <li><i class=\"cell not-here\">no</i>not possible here</li>\
        <li><i class=\"cell n-a\">n/a</i>the product has no such thing yet</li></ul>"
        .to_owned();
    out += &summary(outcome);
    out += &grid(
        "Kinds of fault and workloads, in rounds",
        "Fault",
        Nemesis::value_variants().iter().map(|it| it.name()),
        |row, workload| fault_square(outcome, Nemesis::value_variants()[row], workload),
    );
    out += &grid(
        "Levels and workloads, in rounds",
        "Levels",
        Levels::value_variants().iter().map(|it| it.name()),
        |row, workload| level_square(outcome, Levels::value_variants()[row], workload),
    );
    out + "</section>"
}

fn fault_square(
    outcome: &Outcome,
    nemesis: Nemesis,
    workload: Workload,
) -> (&'static str, String, String) {
    if let Support::NotApplicable(issue) = nemesis.support() {
        return ("n-a", "n/a".to_owned(), format!("n/a: issue {issue}"));
    }
    let mut square = Square::default();
    for round in of_workload(outcome, workload) {
        if round.cell.nemeses.contains(&nemesis) {
            square.add(round, nemesis);
        }
    }
    square.shown()
}

fn level_square(
    outcome: &Outcome,
    levels: Levels,
    workload: Workload,
) -> (&'static str, String, String) {
    let mut square = Square::default();
    for round in of_workload(outcome, workload) {
        if round.cell.levels == levels {
            square.add(round, Nemesis::Calm);
        }
    }
    square.shown()
}

fn of_workload(outcome: &Outcome, workload: Workload) -> impl Iterator<Item = &Round> {
    let rounds = outcome.rounds.iter();
    rounds.filter(move |it| it.cell.workload == workload)
}

/// How much of what can be run was run, in words.
fn summary(outcome: &Outcome) -> String {
    let able = Nemesis::value_variants()
        .iter()
        .filter(|it| it.support() == Support::Yes);
    let (mut run, mut all, mut kinds, mut kinds_all) = (0_u64, 0_u64, 0_u64, 0_u64);
    for nemesis in able {
        let mut any = false;
        for workload in Workload::value_variants() {
            let ran = matches!(fault_square(outcome, *nemesis, *workload).0, "good" | "bad");
            any |= ran;
            run += u64::from(ran);
            all += 1;
        }
        kinds += u64::from(any);
        kinds_all += 1;
    }
    format!(
        "<p>{run} of {all} cells and {kinds} of {kinds_all} kinds of fault were run. A round with several kinds counts \
         for each of them.</p>"
    )
}

fn grid(
    caption: &str,
    corner: &str,
    rows: impl Iterator<Item = String>,
    square: impl Fn(usize, Workload) -> (&'static str, String, String),
) -> String {
    let columns = Workload::value_variants();
    let head: String = columns
        .iter()
        .map(|it| format!("<th scope=\"col\"><span>{}</span></th>", text(&it.name())))
        .collect();
    let mut out = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table class=\"grid\">\
         <caption>{caption}</caption><thead><tr><th scope=\"col\">{corner}</th>{head}</tr></thead><tbody>"
    );
    for (at, name) in rows.enumerate() {
        out += &format!("<tr><th scope=\"row\">{}</th>", text(&name));
        for workload in columns {
            let (class, shown, words) = square(at, *workload);
            out += &format!(
                "<td class=\"{class}\" title=\"{name}, {}: {words}\">{shown}</td>",
                text(&workload.name()),
                name = text(&name),
            );
        }
        out += "</tr>";
    }
    out + "</tbody></table></div>"
}
