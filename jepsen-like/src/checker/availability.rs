//! Availability: an isolated region goes on serving eventual operations, and strong ones are served while a majority
//! of the regions is connected (`docs/consistency-model.md`, An isolated region; "sticky available" and "total
//! availability" as in Bailis and others 2013).
//!
//! Structured nemesis lines say when which regions are cut off and undisturbed, and when a majority is connected. In
//! an isolated region, and in one of that majority, every eventual operation asked for there, from a grace after the
//! change on and without further regions to wait for, is served. While a majority is connected, the longest time in which strong operations were
//! tried and none was served is no longer than a stated bound. What the asker alone is to blame for is not judged. A
//! history without structured nemesis lines has nothing to judge, and is no violation.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Verdict, Violation};
use crate::history::events::FaultEvent;
use crate::history::{DISK_LOST, History, Level, Record, Status};

/// Name of the property.
pub const NAME: &str = "availability";

/// From so long after a cut on, eventual operations are served.
pub const GRACE_NS: u64 = 1_000_000_000;
/// An eventual operation that an end of the isolation found unanswered was open too long if it was open for this.
pub const PATIENCE_NS: u64 = 5_000_000_000;
/// The longest time without a strong operation served that is accepted while a majority is connected.
pub const STRONG_GAP_NS: u64 = 10_000_000_000;
/// A time without any try that is longer than this ends a gap.
pub const IDLE_NS: u64 = 2_000_000_000;
/// The same where none was served at all.
pub const STRONG_NONE_NS: u64 = 5_000_000_000;
/// Most operations that a violation shows.
const SHOWN: usize = 8;

/// Reasons of failures that the asker is to blame for: another request would have been served.
const ASKER: &[&str] = &[
    "UNKNOWN_KEYSPACE",
    "WRONG_TYPE",
    "LEVEL_NOT_SUPPORTED",
    "LEVEL_NOT_AVAILABLE",
    "STRONG_ONLY",
    "INVALID",
    "PAGE_TOKEN_INVALID",
    "REPLY_TOO_LARGE",
    "SESSION_TOKEN_MALFORMED",
    "SESSION_TOKEN_NEWER",
    "SESSION_TOKEN_OTHER_CLUSTER",
    // What the session has seen may lie in a region that is away: without the token it would have been served.
    "SESSION_UNAVAILABLE",
    "TOPOLOGY_EPOCH_DIFFERS",
    "OVERFLOW",
    "UNKNOWN_OUTCOME",
];

/// How the cluster stood for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// From here, nanoseconds: the action was in force.
    pub from_ns: u64,
    /// To here: the next action began, or the last client was done.
    pub until_ns: u64,
    /// The line that says so, as position in [`History::records`].
    pub line: usize,
    /// What it says.
    pub event: FaultEvent,
}

/// A time in which operations were tried and none was served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When the first of them was asked for, or the last one before was served, if that was later.
    pub from_ns: u64,
    /// When the next one was served, or the period ended.
    pub until_ns: u64,
    /// Their level.
    pub level: Level,
    /// The region that was asked; `None` for all that were not isolated, where the lines do not name the majority.
    pub region: Option<String>,
}

impl Gap {
    /// How long it was.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        self.until_ns - self.from_ns
    }
}

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let periods = match periods(history) {
        Ok(periods) => periods,
        Err(why) => return Verdict::Unknown { why },
    };
    let spans = spans(&periods);
    let eventual = Asked::of(history, Level::Eventual);
    for span in spans.iter().filter(|span| span.level == Level::Eventual) {
        if let Some(line) = refused(history, span, &eventual.within(history, span)) {
            let explanation = format!(
                "region {} was undisturbed, and an eventual operation there was not served",
                span.region.unwrap_or("?")
            );
            return Violation::verdict(history, NAME, explanation, vec![span.line, line]);
        }
    }
    let strong = Asked::of(history, Level::Strong);
    for span in spans.iter().filter(|span| span.level == Level::Strong) {
        let tried = strong.within(history, span);
        let Some(gap) = span.gap(history, &tried) else {
            continue;
        };
        let served = tried.iter().any(|line| is_served(&history.records[*line]));
        let bound = if served {
            STRONG_GAP_NS
        } else {
            STRONG_NONE_NS
        };
        if gap.length_ns() > bound {
            let explanation = format!(
                "a majority of the regions was connected, and in {} no strong operation was served for {} ms",
                span.region.unwrap_or("all of them"),
                gap.length_ns() / 1_000_000
            );
            let within = tried.into_iter().filter(|&line| {
                let record = &history.records[line];
                record.invoke_ns < gap.until_ns && end(record) > gap.from_ns
            });
            let lines = within.take(SHOWN).chain([span.line]).collect();
            return Violation::verdict(history, NAME, explanation, lines);
        }
    }
    Verdict::Ok
}

/// The longest gap of every time in which one is judged: strong operations while a majority was connected, and
/// eventual ones in isolated regions. By time. Empty where nothing is judged, or nothing was tried.
#[must_use]
pub fn gaps(history: &History) -> Vec<Gap> {
    let Ok(periods) = periods(history) else {
        return Vec::new();
    };
    let spans = spans(&periods);
    let mut gaps: Vec<Gap> = Vec::new();
    for level in [Level::Eventual, Level::Strong] {
        let asked = Asked::of(history, level);
        let spans = spans.iter().filter(|span| span.level == level);
        gaps.extend(spans.filter_map(|span| span.gap(history, &asked.within(history, span))));
    }
    gaps.sort_by_key(|gap| gap.from_ns);
    gaps
}

/// What the structured nemesis lines say, in order of time. Between two periods an action was under way.
///
/// # Errors
/// Names a line that cannot be read.
pub fn periods(history: &History) -> Result<Vec<Period>, String> {
    let clients = history.records.iter().filter(|r| r.op.is_client());
    let last = clients.map(|r| r.complete_ns.unwrap_or(r.invoke_ns)).max();
    let mut periods = Vec::new();
    for (line, record) in history.records.iter().enumerate() {
        let event = FaultEvent::of(record).map_err(|why| format!("line {}: {why}", line + 1))?;
        periods.extend(event.map(|event| Period {
            from_ns: record.complete_ns.unwrap_or(record.invoke_ns),
            until_ns: last.unwrap_or(0),
            line,
            event,
        }));
    }
    periods.sort_by_key(|period| (history.records[period.line].invoke_ns, period.line));
    for at in 1..periods.len() {
        periods[at - 1].until_ns = history.records[periods[at].line].invoke_ns;
    }
    for period in &mut periods {
        period.until_ns = period.until_ns.max(period.from_ns);
    }
    Ok(periods)
}

/// A time in which operations of a level must be served.
struct Span<'p> {
    from: u64,
    until: u64,
    level: Level,
    region: Option<&'p str>,
    /// Regions that were isolated at any time of it.
    isolated: BTreeSet<&'p str>,
    /// The nemesis line with which it began.
    line: usize,
}

fn isolated(period: &Period) -> &[String] {
    period.event.isolated.as_deref().unwrap_or_default()
}

fn connected(period: &Period) -> &[String] {
    match period.event.majority {
        Some(true) => &period.event.connected,
        _ => &[],
    }
}

/// What is judged when.
fn spans(periods: &[Period]) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    let names = |of: fn(&Period) -> &[String]| -> BTreeSet<&str> {
        periods.iter().flat_map(of).map(String::as_str).collect()
    };
    let is = |name: &str, of: &[String]| of.iter().any(|it| it == name);
    let (alone, together) = (names(isolated), names(connected));
    for region in alone.union(&together).copied() {
        let whole = |it: &Period| is(region, isolated(it)) || is(region, connected(it));
        spans.extend(while_true(periods, Level::Eventual, Some(region), whole));
    }
    for region in together {
        let holds = |it: &Period| is(region, connected(it));
        spans.extend(while_true(periods, Level::Strong, Some(region), holds));
    }
    let unnamed =
        |period: &Period| period.event.majority == Some(true) && period.event.connected.is_empty();
    spans.extend(while_true(periods, Level::Strong, None, unnamed));
    spans
}

/// The spans in which something holds. Over an action that changes nothing about it, a span goes on.
fn while_true<'p>(
    periods: &'p [Period],
    level: Level,
    region: Option<&'p str>,
    holds: impl Fn(&Period) -> bool,
) -> Vec<Span<'p>> {
    let mut spans: Vec<Span<'p>> = Vec::new();
    let mut open = false;
    for period in periods {
        let before = std::mem::replace(&mut open, holds(period));
        if !open {
            continue;
        }
        let cut_off = isolated(period).iter().map(String::as_str);
        match spans.last_mut().filter(|_| before) {
            Some(span) => {
                span.until = period.until_ns;
                span.isolated.extend(cut_off);
            }
            None => spans.push(Span {
                from: period.from_ns,
                until: period.until_ns,
                level,
                region,
                isolated: cut_off.collect(),
                line: period.line,
            }),
        }
    }
    spans
}

/// Lines of the operations of one level, by invocation, each with the latest end of all up to it.
struct Asked(Vec<(usize, u64)>);

impl Asked {
    fn of(history: &History, level: Level) -> Self {
        let all = history.records.iter().enumerate();
        let judged = all.filter(|(_, record)| {
            record.level == Some(level)
                && record.op.is_client()
                && record.ack_regions.is_none()
                && !askers_fault(record)
        });
        let mut lines: Vec<_> = judged.map(|(line, record)| (line, end(record))).collect();
        lines.sort_by_key(|(line, _)| history.records[*line].invoke_ns);
        for at in 1..lines.len() {
            lines[at].1 = lines[at].1.max(lines[at - 1].1);
        }
        Self(lines)
    }

    /// Those that a span is about, by invocation.
    fn within(&self, history: &History, span: &Span<'_>) -> Vec<usize> {
        let first = self.0.partition_point(|(_, latest)| *latest <= span.from);
        let asked = self.0[first..].iter().map(|(line, _)| *line);
        let mut lines: Vec<usize> = asked
            .take_while(|&line| history.records[line].invoke_ns < span.until)
            .collect();
        lines.retain(|&line| {
            let record = &history.records[line];
            let region = record.region.as_deref();
            let here = match span.region {
                Some(name) => region == Some(name),
                None => region.is_none_or(|region| !span.isolated.contains(region)),
            };
            here && end(record) > span.from
        });
        lines
    }
}

impl Span<'_> {
    /// The longest time within the span in which some of `tried` was under way and none was served.
    fn gap(&self, history: &History, tried: &[usize]) -> Option<Gap> {
        let records = || tried.iter().map(|&line| &history.records[line]);
        let ends = records().filter(|record| is_served(record)).map(end);
        let mut ends: Vec<u64> = ends.filter(|end| *end < self.until).collect();
        ends.push(self.until);
        ends.sort_unstable();
        let mut waiting = records().peekable();
        // The latest end of what was asked for so far, and the last time that something was served.
        let (mut open, mut before) = (0, self.from);
        let mut longest: Option<(u64, u64)> = None;
        let mut note = |from: Option<u64>, until: u64| {
            longest = longer(longest, from.map(|from| (from, until.max(from))));
        };
        for served in ends {
            let mut begun = (open > before).then_some(before);
            while let Some(record) = waiting.next_if(|record| record.invoke_ns < served) {
                let asked = record.invoke_ns.max(before);
                // Where nobody asks for long, nobody knows whether it would have been served.
                if begun.is_none() || open.saturating_add(IDLE_NS) < asked {
                    note(begun, open.min(served));
                    begun = Some(asked);
                }
                open = open.max(end(record));
            }
            note(begun, open.min(served));
            before = served;
        }
        let (from_ns, until_ns) = longest?;
        Some(Gap {
            from_ns,
            until_ns,
            level: self.level,
            region: self.region.map(str::to_owned),
        })
    }
}

/// The longer of two times.
fn longer(a: Option<(u64, u64)>, b: Option<(u64, u64)>) -> Option<(u64, u64)> {
    a.into_iter()
        .chain(b)
        .reduce(|a, b| match b.1 - b.0 > a.1 - a.0 {
            true => b,
            false => a,
        })
}

/// When the client was done with it.
fn end(record: &Record) -> u64 {
    record.complete_ns.unwrap_or(u64::MAX)
}

/// Whether it got its answer; a condition that did not hold is one.
fn is_served(record: &Record) -> bool {
    // What a destroyed disk may have taken along had been acknowledged.
    let forgiven = record.error.as_deref() == Some(DISK_LOST);
    record.status == Status::Ok || record.is_refused() || forgiven
}

fn askers_fault(record: &Record) -> bool {
    let reason = record.error.as_deref().unwrap_or_default();
    record.status != Status::Ok && ASKER.contains(&reason)
}

/// The first of `tried` in an isolated region that should have been served and was not.
fn refused(history: &History, span: &Span<'_>, tried: &[usize]) -> Option<usize> {
    tried.iter().copied().find(|&line| {
        let record = &history.records[line];
        let waited = span.until.saturating_sub(record.invoke_ns);
        record.invoke_ns >= span.from.saturating_add(GRACE_NS)
            && !is_served(record)
            && (end(record) <= span.until || waited >= PATIENCE_NS)
    })
}

#[cfg(test)]
mod tests;
