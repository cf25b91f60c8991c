//! What is wrong: in words, as a timeline, as text, and as a history of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::chart::level_class;
use super::escape::{cut, short, text};
use super::faults::Faults;
use super::shown::{Shown, finding_id};
use super::{timeline, words};
use crate::history::{History, HistoryWriter, Level, Record};
use crate::run::Round;
use crate::run::outcome::Finding;

/// Characters of an explanation, at most; `verdict.json` has all of it.
const EXPLANATION_MAX: usize = 4_000;
/// The same where there is no room for more than words.
const BRIEF_MAX: usize = 500;
/// Lines of a history that are listed, at most.
const LINES_MAX: usize = 60;
/// Characters of such a line, at most.
const LINE_MAX: usize = 300;
/// How the runner begins the explanation of a property that no checker could decide.
const UNDECIDED: &str = "undecided";
/// Bytes of a history that can be saved from the report, at most.
const SAVED_MAX: usize = 64 << 10;

/// A finding of a round, and what is needed to show it.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) round: &'a Round,
    /// Its position among the findings of the round.
    pub(super) at: usize,
    pub(super) finding: &'a Finding,
    /// What links may lead to.
    pub(super) shown: &'a Shown,
}

impl Case<'_> {
    fn id(self) -> String {
        finding_id(self.round.number, self.at)
    }

    fn heading(self) -> String {
        let number = self.round.number;
        let word = match is_undecided(self.finding) {
            true => "undecided",
            false => "wrong",
        };
        format!(
            "<h3 id=\"{}\"><span class=\"badge bad\">{word}</span> {} <span class=\"soft\">in {}: {}</span></h3>",
            self.id(),
            short(&self.finding.property, 80),
            self.shown.round(number, &format!("round {number}")),
            text(&self.round.cell.describe()),
        )
    }
}

/// Whether no checker could decide it.
pub(super) fn is_undecided(finding: &Finding) -> bool {
    finding.explanation.starts_with(UNDECIDED)
}

/// All of a finding.
pub(super) fn full(case: Case<'_>, history: &History, faults: &Faults, replay: &str) -> String {
    let mut out = format!("<article class=\"finding\">{}", case.heading());
    out += &format!(
        "<p class=\"explanation\">{}</p>",
        short(&case.finding.explanation, EXPLANATION_MAX)
    );
    let named: Vec<(usize, &Record)> = case
        .finding
        .lines
        .iter()
        .filter_map(|line| Some((*line, history.records.get(line.checked_sub(1)?)?)))
        .collect();
    if named.is_empty() {
        out += "<p class=\"note\">It names no operations: it is about the round as a whole.</p>";
    } else {
        out += &proof(case, &named, faults);
    }
    let lacking = case.finding.lines.len() - named.len();
    if lacking > 0 {
        out += &format!(
            "<p class=\"note\">{} that it names are not in the history.</p>",
            words::plural(lacking as u64, "line")
        );
    }
    out + &again(case, replay) + "</article>"
}

/// A finding in words alone, and why.
pub(super) fn brief(case: Case<'_>, why: &str) -> String {
    let lines: Vec<String> = case.finding.lines.iter().map(ToString::to_string).collect();
    let lines = match lines.is_empty() {
        true => String::new(),
        false => format!(" Lines {}.", short(&lines.join(", "), 200)),
    };
    format!(
        "<article class=\"finding\">{}<p class=\"explanation\">{}</p><p class=\"note\">{}{lines} See \
         <a href=\"{file}\">{file}</a>.</p></article>",
        case.heading(),
        short(&case.finding.explanation, BRIEF_MAX),
        short(why, BRIEF_MAX),
        file = text(&case.round.history_name()),
    )
}

/// The operations: drawn, as text, and to be saved.
fn proof(case: Case<'_>, named: &[(usize, &Record)], faults: &Faults) -> String {
    let id = format!("{}-figure", case.id());
    let shown = named.len().min(timeline::OPERATIONS_MAX);
    let legend: String = [Level::Eventual, Level::Session, Level::Strong]
        .map(level_class)
        .map(|it| format!("<li><i class=\"key {it}\"></i>{it}</li>"))
        .concat();
    let mut out = format!(
        "<figure><figcaption>The {}{}, in order; time is not to scale, and a dashed bar has no known outcome\
         <ul class=\"legend\">{legend}<li><i class=\"key shade isolated\"></i>a region isolated</li>\
         <li><i class=\"key shade impaired\"></i>a region impaired</li></ul></figcaption>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Timeline of the operations\">{}</div></figure>",
        match shown < named.len() {
            true => format!("first {shown} of {} operations", named.len()),
            false => words::plural(shown as u64, "operation"),
        },
        only_key(named).map_or_else(String::new, |key| format!(" on {}", short(key, 60))),
        timeline::draw(&id, named, faults),
    );
    let lines: Vec<String> = named
        .iter()
        .take(LINES_MAX)
        .map(|(line, record)| {
            let described = cut(&record.describe(), LINE_MAX);
            format!("line {line:>5}  {}", text(&described))
        })
        .collect();
    out += &format!(
        "<pre tabindex=\"0\" aria-label=\"The operations as text\">{}</pre>",
        lines.join("\n")
    );
    let (saved, count) = jsonl(named);
    let all = match count < named.len() {
        true => format!("the first {count} of these lines"),
        false => "these lines".to_owned(),
    };
    out + &format!(
        "<p><a class=\"button\" download=\"round-{}-{}.jsonl\" href=\"data:application/jsonl;base64,{}\">Save {all} as \
         a history</a></p>",
        case.round.number,
        file_name(&case.finding.property),
        STANDARD.encode(saved),
    )
}

/// The key of all operations, if it is one and the same.
fn only_key<'a>(named: &[(usize, &'a Record)]) -> Option<&'a str> {
    let first = named.first()?.1.key.as_deref()?;
    let same = |it: &(usize, &Record)| it.1.key.as_deref() == Some(first);
    named.iter().all(same).then_some(first)
}

/// Lines as a history of their own, as many as may be saved; and how many those are.
fn jsonl(named: &[(usize, &Record)]) -> (Vec<u8>, usize) {
    let mut all = Vec::new();
    for (count, (_, record)) in named.iter().enumerate() {
        let mut writer = HistoryWriter::new(Vec::new());
        // Writing to memory fails only for what has no form in JSON, and the record was read from JSON.
        let line = writer
            .append(record)
            .and_then(|()| writer.finish())
            .unwrap_or_default();
        if all.len() + line.len() > SAVED_MAX {
            return (all, count);
        }
        all.extend(line);
    }
    (all, named.len())
}

/// How to see it again.
fn again(case: Case<'_>, replay: &str) -> String {
    let file = text(&case.round.history_name());
    format!(
        "<p class=\"note\">Judge the whole history of this round (<a href=\"{file}\">{file}</a>) again, or repeat the run. Its seed \
         fixes load and faults, not the timing of processes: it may take several runs to show again.</p>\
         <pre tabindex=\"0\" aria-label=\"Commands\">hansa-jepsen check {file}\n{}</pre>",
        short(replay, EXPLANATION_MAX),
    )
}

/// What any system takes as a part of a file's name.
fn file_name(property: &str) -> String {
    let plain = property.chars().take(40);
    plain
        .map(|it| if it.is_ascii_alphanumeric() { it } else { '_' })
        .collect()
}
