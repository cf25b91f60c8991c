//! What must hold at every moment, seen from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hansa_consistency::clock::Hlc;
use hansa_consistency::quorum::majority;
use hansa_consistency::roster::{Roster, Version};
use hansa_consistency::version::{Origin, Seq};

use super::roster::{end_of, first_roster};
use super::world::Node;

/// Every fact that a later event may contradict.
#[derive(Debug)]
pub(super) struct Ledger {
    home: usize,
    /// Who held an entry durably at some time.
    held: BTreeMap<(Origin, Seq), BTreeSet<usize>>,
    /// Every entry that was applied anywhere, with its clock.
    visible: BTreeMap<(Origin, Seq), Hlc>,
    terms: BTreeMap<Origin, Version>,
    rosters: BTreeMap<Version, Arc<Roster>>,
    /// By number of node: up to when it ever believed to have everything.
    believed: Vec<Hlc>,
    violation: Option<String>,
}

impl Ledger {
    pub(super) fn new(home: usize, nodes: usize) -> Ledger {
        Ledger {
            home,
            held: BTreeMap::new(),
            visible: BTreeMap::new(),
            terms: BTreeMap::new(),
            rosters: BTreeMap::from([(0, Arc::new(first_roster(home)))]),
            believed: vec![Hlc::ZERO; nodes],
            violation: None,
        }
    }

    /// The first violation.
    pub(super) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub(super) fn violated(&mut self, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(what);
    }

    /// A violation, if there is one.
    pub(super) fn violated_if(&mut self, bad: bool, what: impl FnOnce() -> String) {
        if bad {
            self.violated(what);
        }
    }

    /// A node holds an entry durably.
    pub(super) fn holds(&mut self, at: usize, origin: Origin, seq: Seq) {
        if at < self.home {
            self.held.entry((origin, seq)).or_default().insert(at);
        }
    }

    /// A log is of a term of its writer.
    pub(super) fn term_of(&mut self, origin: Origin, term: Version) {
        self.terms.insert(origin, term);
    }

    /// A node that lost its disk believes nothing any more.
    pub(super) fn forgets(&mut self, at: usize) {
        self.believed[at] = Hlc::ZERO;
    }

    /// A node applied an entry: a majority holds it, its log had not ended, and nobody believed to have all without it.
    pub(super) fn applied(
        &mut self,
        at: usize,
        origin: Origin,
        seq: Seq,
        hlc: Hlc,
        nodes: &[Node],
    ) {
        if self.visible.insert((origin, seq), hlc).is_some() {
            return;
        }
        let holders = self.held.get(&(origin, seq)).map_or(0, BTreeSet::len);
        if holders < majority(self.home) {
            self.violated(|| {
                format!("F1: n{at} shows {origin:?}:{seq}, which {holders} nodes hold")
            });
        }
        if let Some(roster) = self.rosters.values().next_back().cloned() {
            self.check_ends(&roster);
        }
        for (other, believed) in self.believed.clone().into_iter().enumerate() {
            self.check_safe(other, believed, (origin, seq), hlc, nodes);
        }
    }

    /// A roster was chosen: the only one of its version, and no end differs from what was said or shown before.
    pub(super) fn chosen(&mut self, roster: &Arc<Roster>) {
        let before = self
            .rosters
            .entry(roster.version())
            .or_insert_with(|| roster.clone());
        if before != roster {
            let what = format!(
                "F2: version {} is {before:?} and {roster:?}",
                roster.version()
            );
            self.violated(|| what);
        }
        let earlier = self.rosters.values().flat_map(|r| r.ends().clone());
        for ((_, origin), end) in earlier.collect::<Vec<_>>() {
            if end_of(roster, origin).is_some_and(|other| other != end) {
                self.violated(|| format!("F2: {origin:?} ends at {end} and elsewhere: {roster:?}"));
            }
        }
        self.check_ends(&roster.clone());
    }

    /// Nothing that was ever shown lies behind an end.
    fn check_ends(&mut self, roster: &Roster) {
        for (origin, seq) in self.visible.keys().copied().collect::<Vec<_>>() {
            let term = self.terms.get(&origin).copied().unwrap_or(0);
            let end = end_of(roster, origin);
            let ended = end.is_some() || roster.has_ended(origin.node, term);
            if ended && seq > end.unwrap_or(0) {
                self.violated(|| format!("F3: {origin:?}:{seq} is shown and lies behind {end:?}"));
            }
        }
    }

    /// A node believes to have every entry with a clock up to this, now and for good.
    pub(super) fn believes(&mut self, at: usize, safe: Hlc, nodes: &[Node]) {
        if safe <= self.believed[at] {
            return;
        }
        self.believed[at] = safe;
        for (name, hlc) in self.visible.clone() {
            self.check_safe(at, safe, name, hlc, nodes);
        }
    }

    fn check_safe(
        &mut self,
        at: usize,
        believed: Hlc,
        (origin, seq): (Origin, Seq),
        hlc: Hlc,
        nodes: &[Node],
    ) {
        if hlc <= believed && nodes[at].applied(origin) < seq {
            self.violated(|| {
                format!("F4: n{at} believes to have all up to {believed:?} and lacks {origin:?}:{seq} of {hlc:?}")
            });
        }
    }
}
