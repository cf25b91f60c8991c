//! What nobody inside the system knows: every proposal, who holds it, what is chosen; and the invariants over it.
//!
//! A ballot is *chosen* once a quorum of acceptors have held it as their accepted one within one epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use hansa_consistency::key::NodeId;
use hansa_consistency::quorum::{Tally, Voters};
use hansa_consistency::record::Record;
use hansa_consistency::register::StrongValue;
use hansa_consistency::value::{Actor, State};
use hansa_consistency::version::{Ballot, ShardEpoch, Tag};

use super::calls::Version;
use super::trace::short;

/// What went out under one ballot.
#[derive(Clone, Debug)]
struct Proposal {
    /// The ballot of the value it was made from.
    parent: Ballot,
    value: Arc<StrongValue>,
    /// Calls it answers as done, now or by an earlier ballot.
    done: BTreeSet<usize>,
}

/// All proposals of a schedule.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    proposals: BTreeMap<Ballot, Proposal>,
    holders: BTreeMap<(Ballot, ShardEpoch), Tally>,
    chosen: BTreeSet<Ballot>,
    versions: BTreeMap<Bytes, Version>,
    violation: Option<String>,
}

impl Ledger {
    /// The first violation.
    pub(super) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    /// Notes a violation unless one was noted before.
    pub(super) fn violated(&mut self, what: impl FnOnce() -> String) {
        self.violation.get_or_insert_with(what);
    }

    /// How many ballots were chosen.
    pub(super) fn chosen(&self) -> usize {
        self.chosen.len()
    }

    /// A value goes out under a ballot.
    pub(super) fn proposed(
        &mut self,
        ballot: Ballot,
        parent: Ballot,
        value: &Arc<StrongValue>,
        done: BTreeSet<usize>,
    ) {
        self.proposals.entry(ballot).or_insert(Proposal {
            parent,
            value: value.clone(),
            done,
        });
    }

    /// Names the version that an etag stands for. Two writes never share one.
    pub(super) fn name(&mut self, etag: &Bytes, version: Version) {
        let named = *self.versions.entry(etag.clone()).or_insert(version);
        if named != version {
            self.violated(|| format!("etag: versions {named} and {version} share one"));
        }
    }

    /// The version of an etag; `None` when nobody made it.
    pub(super) fn version(&self, etag: &Bytes) -> Option<Version> {
        match etag.is_empty() {
            true => Some(super::calls::NEVER),
            false => self.versions.get(etag).copied(),
        }
    }

    /// S1: a ballot has one value. Called at every accept.
    pub(super) fn accepted(&mut self, ballot: Ballot, value: &Arc<StrongValue>) {
        let known = self.proposals.get(&ballot).map(|p| &p.value);
        if !known.is_some_and(|known| Arc::ptr_eq(known, value) || known == value) {
            self.violated(|| format!("S1: two values under ballot {}", short(ballot)));
        }
    }

    /// An acceptor holds a ballot as its accepted one in an epoch; `true` when this makes it chosen.
    pub(super) fn holds(
        &mut self,
        ballot: Ballot,
        epoch: ShardEpoch,
        node: NodeId,
        voters: &Voters,
    ) -> bool {
        let holders = self.holders.entry((ballot, epoch)).or_default();
        holders.count(node) && holders.reached(voters) && self.chosen.insert(ballot)
    }

    /// S7: a row of the eventual view shows nothing unchosen.
    pub(super) fn check_view(&mut self, record: &Record) {
        if record.chosen != Ballot::ZERO && !self.chosen.contains(&record.chosen) {
            let ballot = short(record.chosen);
            self.violated(|| format!("S7: the eventual view names unchosen ballot {ballot}"));
        }
        let newest = self.chosen.last().and_then(|b| self.proposals.get(b));
        let shown = match &record.state {
            State::Counter(counter) => {
                let known = match newest.and_then(|p| p.value.state.as_ref()) {
                    Some(State::Counter(chosen)) => chosen.totals(Actor::Strong),
                    _ => (0, 0),
                };
                let shown = counter.totals(Actor::Strong);
                shown.0 <= known.0 && shown.1 <= known.1
            }
            State::Register(register) => match register.marker.tag {
                Tag::Strong(ballot, _) => self.has_taken_effect(ballot),
                Tag::Entry(_) => true,
            },
            State::Element(_) => true,
        };
        if !shown {
            self.violated(|| "S7: the eventual view shows an unchosen strong write".to_owned());
        }
    }

    /// The ballots that a ballot's value was made from, itself first.
    fn lineage(&self, ballot: Ballot) -> impl Iterator<Item = Ballot> + '_ {
        std::iter::successors(Some(ballot), |b| self.proposals.get(b).map(|p| p.parent))
            .take_while(|b| *b != Ballot::ZERO)
    }

    fn has_taken_effect(&self, ballot: Ballot) -> bool {
        let newest = self.chosen.last().copied().unwrap_or(Ballot::ZERO);
        self.lineage(newest).any(|b| b == ballot)
    }

    /// S3 and S6, over all chosen values.
    pub(super) fn check_chain(&mut self) {
        let broken = self.broken_link().or_else(|| self.effects_miscounted());
        if let Some(what) = broken {
            self.violated(|| what);
        }
    }

    /// S3: each chosen value was made from the one before, and lacks nothing of it.
    fn broken_link(&self) -> Option<String> {
        let later = self.chosen.iter().skip(1);
        for (earlier, later) in self.chosen.iter().zip(later) {
            let pair = || format!("{} and {}", short(*earlier), short(*later));
            if !self.lineage(*later).any(|b| b == *earlier) {
                return Some(format!("S3: chosen values {} form no chain", pair()));
            }
            let (before, after) = (self.proposals.get(earlier)?, self.proposals.get(later)?);
            let kept = before.value.state.as_ref();
            let shrunk = kept.is_some_and(|state| after.value.lacks(state));
            if shrunk || before.value.strong_version > after.value.strong_version {
                return Some(format!("S3: the state shrank between {}", pair()));
            }
        }
        None
    }

    /// S6: the strong version counts each call that took effect, once.
    fn effects_miscounted(&self) -> Option<String> {
        let newest = *self.chosen.last()?;
        let proposals = self.lineage(newest).filter_map(|b| self.proposals.get(&b));
        let done: BTreeSet<usize> = proposals.flat_map(|p| p.done.iter().copied()).collect();
        let effects = self.proposals.get(&newest)?.value.strong_version;
        (effects as usize != done.len()).then(|| {
            format!(
                "S6: {} calls took effect {effects} times by ballot {}",
                done.len(),
                short(newest)
            )
        })
    }
}
