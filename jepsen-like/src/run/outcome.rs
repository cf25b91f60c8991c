//! What came of a run, as it is written down: `verdict.json` beside the histories.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::strikes::Struck;
use super::{Cell, Layout, Options};
use crate::checker::Verdict;
use crate::checker::availability::{self, Gap};
use crate::history::{History, Level, Record, Status};
use crate::nemesis::{Nemesis, Support};

/// Longest latency that figures tell apart, microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// The name of the file.
pub const VERDICT: &str = "verdict.json";

/// Gaps of a round that are kept, the longest ones.
pub const GAPS_KEPT: usize = 8;

/// Fewer operations of a kind than this tell nothing.
const FLOOR_ASKED: u64 = 30;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The property.
    pub property: String,
    /// What was seen, and what was promised.
    pub explanation: String,
    /// The lines of the history that prove it, from 1.
    pub lines: Vec<usize>,
}

impl Finding {
    pub(super) fn new(property: &str, explanation: String) -> Finding {
        Finding {
            property: property.to_owned(),
            explanation,
            lines: Vec::new(),
        }
    }
}

/// Figures of the operations of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// `LEVEL read` or `LEVEL write`.
    pub kind: String,
    /// Done.
    pub ok: u64,
    /// Refused: nothing was applied.
    pub failed: u64,
    /// Of unknown outcome.
    pub unknown: u64,
    /// Median latency of those that were done, microseconds.
    pub p50_us: u64,
    /// Ninety-ninth percentile.
    pub p99_us: u64,
}

/// One round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Its number in the run, from 0.
    pub number: u32,
    /// What it did.
    pub cell: Cell,
    /// Regions and nodes of each.
    pub layout: Layout,
    /// How long clients acted, milliseconds.
    #[serde(default)]
    pub load_ms: u64,
    /// How often each kind of fault struck and did what it is about.
    pub strikes: BTreeMap<Nemesis, u64>,
    /// How often each kind of fault was brought about and did nothing: a process was dead already, a power cut found
    /// nothing unsynced.
    #[serde(default)]
    pub vain: BTreeMap<Nemesis, u64>,
    /// Kinds of fault that this machine or engine can not do, and what would be needed.
    pub not_here: BTreeMap<Nemesis, String>,
    /// Time from healing until everything was quiet and equal; `None` when it never was.
    pub settled_ms: Option<u64>,
    /// Client operations, by kind.
    pub figures: Vec<Figures>,
    /// The longest times in which a level was tried and not served although it had to be; at most [`GAPS_KEPT`].
    pub gaps: Vec<Gap>,
    /// Properties that were proved to hold.
    pub held: Vec<String>,
    /// What is wrong, undecided properties included.
    pub findings: Vec<Finding>,
}

impl Round {
    pub(super) fn new(number: u32, cell: &Cell, layout: Layout, struck: &Struck) -> Round {
        let failed = struck.failed.iter();
        Round {
            number,
            cell: cell.clone(),
            layout,
            load_ms: 0,
            strikes: struck.strikes.clone(),
            vain: struck.vain.clone(),
            not_here: struck.not_here.clone(),
            settled_ms: None,
            figures: Vec::new(),
            gaps: Vec::new(),
            held: Vec::new(),
            findings: failed
                .map(|why| Finding::new("harness", why.clone()))
                .collect(),
        }
    }

    /// Notes processes that ended although nobody ended them, or otherwise than they should.
    pub(super) fn ended(&mut self, wrong: Vec<String>) {
        let found = wrong.into_iter();
        self.findings
            .extend(found.map(|what| Finding::new("process_ended", what)));
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The name of its history's file.
    #[must_use]
    pub fn history_name(&self) -> String {
        format!("history-{:04}.jsonl", self.number)
    }

    pub(super) fn judged(&mut self, history: &History, verdicts: Vec<(&'static str, Verdict)>) {
        self.figures = figures(&history.records);
        self.findings.extend(idle(&self.figures));
        self.gaps = availability::gaps(history);
        self.gaps.sort_by_key(|gap| Reverse(gap.length_ns()));
        self.gaps.truncate(GAPS_KEPT);
        for (property, verdict) in verdicts {
            match verdict {
                Verdict::Ok => self.held.push(property.to_owned()),
                Verdict::Violation(violation) => self.findings.push(Finding {
                    property: property.to_owned(),
                    explanation: violation.explanation,
                    lines: violation.operations.iter().map(|it| it + 1).collect(),
                }),
                Verdict::Unknown { why } => {
                    let why = format!("undecided, which counts as wrong: {why}");
                    self.findings.push(Finding::new(property, why));
                }
            }
        }
    }
}

/// Kinds of operations that were asked for again and again and never done: a cluster that refuses everything keeps
/// every other promise.
fn idle(figures: &[Figures]) -> Vec<Finding> {
    let asked = |it: &Figures| it.ok + it.failed + it.unknown;
    let never = figures
        .iter()
        .filter(|it| it.ok == 0 && asked(it) >= FLOOR_ASKED);
    never
        .map(|it| Finding::new("floor", format!("no {} of {} was done", it.kind, asked(it))))
        .collect()
}

/// Figures of all client operations, by level and by whether they write.
fn figures(records: &[Record]) -> Vec<Figures> {
    let mut kinds: BTreeMap<(Level, bool), (Figures, Vec<u64>)> = BTreeMap::new();
    for record in records.iter().filter(|record| record.op.is_client()) {
        let Some(level) = record.level else { continue };
        let kind = kinds.entry((level, record.op.is_write())).or_default();
        let end = record.complete_ns.unwrap_or(record.invoke_ns);
        match record.status {
            Status::Ok => {
                kind.0.ok += 1;
                kind.1.push((end - record.invoke_ns.min(end)) / 1000);
            }
            // A condition that did not hold was served.
            Status::Fail if record.is_refused() => kind.0.ok += 1,
            Status::Fail => kind.0.failed += 1,
            Status::Info => kind.0.unknown += 1,
        }
    }
    let named = kinds.into_iter().map(|((level, writes), (mut it, took))| {
        let does = if writes { "write" } else { "read" };
        it.kind = format!("{level:?} {does}").to_lowercase();
        (it.p50_us, it.p99_us) = percentiles(&took);
        it
    });
    named.collect()
}

fn percentiles(took_us: &[u64]) -> (u64, u64) {
    let Ok(mut histogram) = Histogram::<u64>::new_with_max(LATENCY_MAX_US, 3) else {
        // The bounds are constants that the crate accepts.
        return (0, 0);
    };
    for us in took_us {
        histogram.saturating_record(*us);
    }
    (
        histogram.value_at_quantile(0.5),
        histogram.value_at_quantile(0.99),
    )
}

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was asked for, by option of the command line, without the time and the folder.
    #[serde(default)]
    pub asked: BTreeMap<String, String>,
    /// How long it took, seconds.
    pub seconds: f64,
    /// How many rounds were wanted within that time; 0 for any number.
    #[serde(default)]
    pub wanted: u32,
    /// Its rounds.
    pub rounds: Vec<Round>,
    /// How often rare paths were taken.
    pub probes: BTreeMap<String, u64>,
    /// Kinds of fault asked for that the product can not express yet, and the issue that brings them.
    pub not_applicable: BTreeMap<Nemesis, u32>,
}

impl Outcome {
    pub(super) fn new(options: &Options) -> Outcome {
        if let Some(done) = &options.done {
            return Outcome {
                wanted: done.wanted + options.rounds,
                ..done.clone()
            };
        }
        let lacking = options.nemeses.iter().filter_map(|it| match it.support() {
            Support::NotApplicable(issue) => Some((*it, issue)),
            Support::Yes => None,
        });
        Outcome {
            seed: options.seed,
            asked: options.asked.clone(),
            seconds: 0.0,
            wanted: options.rounds,
            rounds: Vec::new(),
            probes: BTreeMap::new(),
            not_applicable: lacking.collect(),
        }
    }

    /// Whether a run that is asked for with these options is this one, taken up again: what was proved in its rounds
    /// would be claimed for others else.
    ///
    /// # Errors
    /// Names every option that differs, and both values.
    pub fn is_continued_by(&self, asked: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let said = |of: &BTreeMap<String, String>, name: &str| match of.get(name) {
            Some(value) if value.is_empty() => "given".to_owned(),
            Some(value) => format!("`{value}`"),
            None => "not given".to_owned(),
        };
        let names: BTreeSet<&String> = self.asked.keys().chain(asked.keys()).collect();
        let differ = names
            .into_iter()
            .filter(|it| self.asked.get(*it) != asked.get(*it));
        let lines = differ.map(|name| {
            let (before, now) = (said(&self.asked, name), said(asked, name));
            format!("--{name} was {before} and is {now}")
        });
        let lines: Vec<String> = lines.collect();
        anyhow::ensure!(
            lines.is_empty(),
            "--resume takes a run up with the options that it was begun with: {}; give the same ones, or name another \
             folder with --out",
            lines.join(", ")
        );
        Ok(())
    }

    pub(super) fn probes(&mut self, probes: BTreeMap<String, u64>) {
        for (name, count) in probes {
            *self.probes.entry(name).or_default() += count;
        }
    }

    pub(super) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// Whether there was a round and nothing is wrong in any.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.rounds.is_empty() && self.rounds.iter().all(Round::is_clean)
    }

    /// Kinds of fault that could not be done here, with the reason.
    #[must_use]
    pub fn not_here(&self) -> BTreeMap<Nemesis, String> {
        let all = self.rounds.iter().flat_map(|round| &round.not_here);
        all.map(|(kind, why)| (*kind, why.clone())).collect()
    }

    /// The longest gap of each level, over all rounds.
    #[must_use]
    pub fn longest_gaps(&self) -> Vec<(u32, &Gap)> {
        let all = self.rounds.iter();
        let all = all.flat_map(|round| round.gaps.iter().map(|gap| (round.number, gap)));
        let mut longest: BTreeMap<Level, (u32, &Gap)> = BTreeMap::new();
        for (round, gap) in all {
            let known = longest.entry(gap.level).or_insert((round, gap));
            if gap.length_ns() > known.1.length_ns() {
                *known = (round, gap);
            }
        }
        longest.into_values().collect()
    }

    /// Client operations: done, refused, of unknown outcome.
    #[must_use]
    pub fn operations(&self) -> (u64, u64, u64) {
        let all = self.rounds.iter().flat_map(|round| &round.figures);
        all.fold((0, 0, 0), |(ok, failed, unknown), it| {
            (ok + it.ok, failed + it.failed, unknown + it.unknown)
        })
    }

    /// Reads `verdict.json` of an earlier run from a folder; `None` when there is none.
    ///
    /// # Errors
    /// When it can not be read or is none.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Outcome>> {
        let path = folder.join(VERDICT);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("can not read {}", path.display()));
            }
        };
        let outcome = serde_json::from_slice(&text);
        outcome
            .map(Some)
            .with_context(|| format!("{} is not a verdict", path.display()))
    }

    /// Writes `verdict.json` into a folder.
    ///
    /// # Errors
    /// When it can not be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(VERDICT);
        let text = serde_json::to_string_pretty(self)?;
        let failed = || format!("can not write {}", path.display());
        // In whole or not at all: a run that is interrupted is taken up from it.
        let fresh = folder.join("verdict.json.new");
        fs::write(&fresh, text).with_context(failed)?;
        fs::rename(&fresh, &path).with_context(failed)
    }
}
