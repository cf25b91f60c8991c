//! When faults were in force in a round, and which regions they touched: what figures shade.
//!
//! Each fault line of a history says how every region stands from then on. Regions are *whole* again when a line names
//! none that is isolated or impaired.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::history::{Datum, Op, Record};

/// Whatever is shorter is an artefact: a fault that was refused is taken back in the next line.
const SHORTEST_NS: u64 = 1_000_000;

/// How a region stands, or all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shade {
    /// Nothing but the truth is promised.
    Impaired,
    /// Whole, but it hears nobody: eventual operations must go on.
    Isolated,
}

impl Shade {
    /// Its class in figures, and its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Shade::Impaired => "impaired",
            Shade::Isolated => "isolated",
        }
    }
}

/// A time of one shade, nanoseconds of the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    pub(super) shade: Shade,
}

/// From the first fault until all regions are whole again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    /// Kinds of fault that began in it.
    pub(super) kinds: BTreeSet<String>,
    /// Regions that were isolated at some time of it.
    pub(super) isolated: BTreeSet<String>,
    /// Regions that were impaired at some time of it.
    pub(super) impaired: BTreeSet<String>,
}

/// The faults of a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) episodes: Vec<Episode>,
    /// Isolated where any region is, else impaired where any is.
    pub(super) stretches: Vec<Stretch>,
    /// Each region that fault lines name, in order of name.
    pub(super) regions: Vec<(String, Vec<Stretch>)>,
}

/// What one fault line says.
struct Line {
    at_ns: u64,
    begins: Option<String>,
    isolated: BTreeSet<String>,
    impaired: BTreeSet<String>,
    majority: BTreeSet<String>,
}

impl Line {
    fn of(record: &Record) -> Option<Line> {
        let Some(Datum::Json(value)) = record.value.as_ref().filter(|_| record.op == Op::Nemesis)
        else {
            return None;
        };
        let names = |list: &Value| -> BTreeSet<String> {
            let items = list.as_array().into_iter().flatten();
            items
                .filter_map(|it| it.as_str().map(str::to_owned))
                .collect()
        };
        let begins = value["phase"] == "begin";
        let kind = value["nemesis"].as_str().filter(|_| begins);
        Some(Line {
            at_ns: record.invoke_ns,
            begins: kind.map(str::to_owned),
            isolated: names(&value["isolated"]),
            impaired: names(&value["impaired"]),
            majority: names(&value["connected"]),
        })
    }

    fn shade(&self) -> Option<Shade> {
        match (self.isolated.is_empty(), self.impaired.is_empty()) {
            (false, _) => Some(Shade::Isolated),
            (true, false) => Some(Shade::Impaired),
            (true, true) => None,
        }
    }

    fn shade_of(&self, region: &str) -> Option<Shade> {
        match () {
            () if self.isolated.contains(region) => Some(Shade::Isolated),
            () if self.impaired.contains(region) => Some(Shade::Impaired),
            () => None,
        }
    }
}

impl Faults {
    /// Reads the fault lines. `refused` are kinds that could not be done; the last line holds until `until_ns`.
    pub(super) fn of(records: &[Record], refused: &BTreeSet<String>, until_ns: u64) -> Faults {
        let mut lines: Vec<Line> = records.iter().filter_map(Line::of).collect();
        lines.sort_by_key(|line| line.at_ns);
        let all = lines
            .iter()
            .flat_map(|it| [&it.isolated, &it.impaired, &it.majority]);
        let regions: BTreeSet<String> = all.flatten().cloned().collect();
        let of_region = |name: String| {
            let stretches = stretches(&lines, until_ns, |line| line.shade_of(&name));
            (name, stretches)
        };
        Faults {
            episodes: episodes(&lines, refused, until_ns),
            stretches: stretches(&lines, until_ns, Line::shade),
            regions: regions.into_iter().map(of_region).collect(),
        }
    }
}

/// The times between lines that have a shade; neighbours of the same are one.
fn stretches(
    lines: &[Line],
    until_ns: u64,
    shade_of: impl Fn(&Line) -> Option<Shade>,
) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(shade) = shade_of(line) else {
            continue;
        };
        let begin_ns = line.at_ns;
        let next = lines.get(at + 1).map_or(until_ns, |next| next.at_ns);
        let end_ns = next.max(begin_ns);
        match all.last_mut() {
            Some(last) if last.shade == shade && last.end_ns == begin_ns => last.end_ns = end_ns,
            _ => all.push(Stretch {
                begin_ns,
                end_ns,
                shade,
            }),
        }
    }
    all.retain(|it| it.end_ns - it.begin_ns >= SHORTEST_NS);
    all
}

fn episodes(lines: &[Line], refused: &BTreeSet<String>, until_ns: u64) -> Vec<Episode> {
    let mut all = Vec::new();
    let mut open: Option<Episode> = None;
    for line in lines {
        if line.shade().is_none() {
            if let Some(mut episode) = open.take() {
                episode.end_ns = line.at_ns;
                all.push(episode);
            }
            continue;
        }
        let episode = open.get_or_insert_with(|| Episode {
            begin_ns: line.at_ns,
            ..Episode::default()
        });
        let begun = line.begins.iter().filter(|it| !refused.contains(*it));
        episode.kinds.extend(begun.cloned());
        episode.isolated.extend(line.isolated.iter().cloned());
        episode.impaired.extend(line.impaired.iter().cloned());
    }
    if let Some(mut episode) = open {
        episode.end_ns = until_ns.max(episode.begin_ns);
        all.push(episode);
    }
    all.retain(|it| it.end_ns - it.begin_ns >= SHORTEST_NS);
    all
}

#[cfg(test)]
mod tests {
    use super::super::tests::fault;
    use super::*;

    const MS: u64 = 1_000_000;

    fn faults(lines: &[Record]) -> Faults {
        Faults::of(lines, &BTreeSet::from(["clock-jump".to_owned()]), 100 * MS)
    }

    #[test]
    fn an_episode_lasts_until_all_regions_are_whole_again() {
        let it = faults(&[
            fault(0, None, "begin", &[], &[]),
            fault(10 * MS, Some("kill"), "begin", &[], &["a"]),
            fault(20 * MS, Some("loss"), "begin", &["b"], &["a"]),
            fault(30 * MS, Some("kill"), "act", &["b"], &[]),
            fault(40 * MS, Some("loss"), "act", &[], &[]),
            fault(90 * MS, Some("pause"), "begin", &[], &["c"]),
        ]);
        assert_eq!(it.episodes.len(), 2);
        let first = &it.episodes[0];
        assert_eq!((first.begin_ns, first.end_ns), (10 * MS, 40 * MS));
        assert_eq!(
            first.kinds,
            BTreeSet::from(["kill".to_owned(), "loss".to_owned()])
        );
        assert_eq!(first.isolated, BTreeSet::from(["b".to_owned()]));
        assert_eq!(
            it.episodes[1].end_ns,
            100 * MS,
            "what never ends lasts to the end"
        );
        let shades: Vec<(u64, u64, Shade)> = it
            .stretches
            .iter()
            .map(|it| (it.begin_ns / MS, it.end_ns / MS, it.shade))
            .collect();
        let expected = [
            (10, 20, Shade::Impaired),
            (20, 40, Shade::Isolated),
            (90, 100, Shade::Impaired),
        ];
        assert_eq!(shades, expected);
        let names: Vec<&str> = it.regions.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "whole"]);
        assert_eq!(it.regions[0].1.len(), 1);
    }

    #[test]
    fn a_refused_kind_leaves_nothing() {
        let it = faults(&[
            fault(10 * MS, Some("clock-jump"), "begin", &[], &["a"]),
            fault(10 * MS + 5, Some("clock-jump"), "act", &[], &[]),
        ]);
        assert!(it.episodes.is_empty());
        assert!(it.stretches.is_empty());
        let it = faults(&[]);
        assert!(it.regions.is_empty());
    }
}
