//! How the region's replicas decide the next roster: prepare and accept, as in Paxos.
//!
//! A promise to a ballot that closes a node is also a fence: from then on the replica refuses that node's entries of
//! earlier terms. Its answer brings the logs it holds. A majority of the region's replicas fenced it: whatever was
//! committed or ever will be in those terms is held by one of them, so the longest prefix among them is the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hansa_consistency::quorum::majority;
use hansa_consistency::version::{Ballot, Origin, Seq};

use super::broken::Broken;
use super::logs::{Item, writer};
use super::roster::{Held, Member, Roster, Version};
use super::world::{Body, World};

/// What a proposer wants of the next roster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Want {
    /// Another node's logs end.
    Close(usize),
    /// Its own logs end, if they have not, and it begins new ones.
    Begin,
    /// Whatever was accepted is to be decided.
    Settle,
}

/// What a replica answers to a prepare: what it has accepted, and the logs it holds of those that have not ended.
type Promise = (Option<(Ballot, Arc<Roster>)>, Held);

/// A proposal under way; volatile.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) ballot: Ballot,
    pub(super) since: u64,
    want: Want,
    version: Version,
    promised: BTreeMap<usize, Promise>,
    /// The roster asked to be accepted.
    roster: Option<Arc<Roster>>,
    accepted: BTreeSet<usize>,
}

impl World {
    /// Begins to propose the next roster.
    pub(super) fn propose(&mut self, at: usize, want: Want) {
        if !self.takes_part(at) {
            return;
        }
        let n = self.tick(at).0;
        let node = &mut self.nodes[at];
        let origin = Origin {
            node: hansa_consistency::key::NodeId(at as u16),
            incarnation: 0,
        };
        let (ballot, version) = (Ballot { n, origin }, node.roster.version + 1);
        let closing = match want {
            Want::Close(other) => Some(other),
            Want::Begin if node.roster.members[at] != Member::Closed => Some(at),
            Want::Begin | Want::Settle => None,
        };
        node.proposal = Some(Proposal {
            ballot,
            since: self.now,
            want,
            version,
            promised: BTreeMap::new(),
            roster: None,
            accepted: BTreeSet::new(),
        });
        let now = self.now;
        self.trace.note(now, (b'p', at, want), || {
            format!("n{at} proposes roster {version}: {want:?}")
        });
        self.send_home(at, &Body::Prepare(ballot, version, closing));
    }

    pub(super) fn on_prepare(
        &mut self,
        from: usize,
        to: usize,
        ballot: Ballot,
        version: Version,
        closing: Option<usize>,
    ) {
        if !self.takes_part(to) {
            return;
        }
        let node = &mut self.nodes[to];
        // The message brought the asker's roster: this node lags behind the version asked for at no time.
        if version != node.roster.version + 1 || ballot < node.acceptor.promised {
            self.send(to, from, Body::Nack(ballot));
            return;
        }
        node.acceptor.promised = ballot;
        if let Some(closing) = closing {
            let fence = node.acceptor.fences.entry(closing).or_default();
            *fence = (*fence).max(version - 1);
            node.refused |= closing == to;
        }
        let accepted = node.acceptor.accepted.clone();
        let open = node
            .logs
            .iter()
            .filter(|(o, _)| !node.roster.ends.contains_key(*o));
        let held = open
            .map(|(origin, log)| (*origin, log.items.clone()))
            .collect();
        self.send(to, from, Body::Promised(ballot, accepted, held));
    }

    pub(super) fn on_promised(
        &mut self,
        from: usize,
        to: usize,
        ballot: Ballot,
        accepted: Option<(Ballot, Arc<Roster>)>,
        held: Held,
    ) {
        let needed = majority(self.home);
        let alone = self.broken(Broken::ClosesAlone);
        let node = &mut self.nodes[to];
        let version = node.roster.version + 1;
        let Some(proposal) = node
            .proposal
            .as_mut()
            .filter(|p| p.ballot == ballot && p.version == version && p.roster.is_none())
        else {
            return;
        };
        proposal.promised.insert(from, (accepted, held));
        let closing = match proposal.want {
            Want::Close(other) => Some(other),
            Want::Begin | Want::Settle => None,
        };
        let counted = proposal
            .promised
            .keys()
            .filter(|node| Some(**node) != closing);
        let enough = counted.count()
            >= if alone && closing.is_some() {
                1
            } else {
                needed
            };
        if enough {
            self.choose(to);
        }
    }

    /// A majority promised: proposes what was accepted already, else what is wanted.
    fn choose(&mut self, at: usize) {
        let Some(proposal) = self.nodes[at].proposal.clone() else {
            return;
        };
        let accepted = proposal.promised.values().filter_map(|(a, _)| a.as_ref());
        let newest = accepted.max_by_key(|(ballot, _)| *ballot);
        let stubborn = self.broken(Broken::AdoptsNothing) && proposal.want != Want::Settle;
        let roster = match newest.filter(|_| !stubborn) {
            Some((_, roster)) => {
                self.counts.adopted += 1;
                Some(roster.clone())
            }
            None => self.wanted(at, &proposal).map(Arc::new),
        };
        let Some(roster) = roster else {
            self.nodes[at].proposal = None;
            return;
        };
        let held = ended(&self.nodes[at].roster, &roster, &proposal);
        if let Some(proposal) = &mut self.nodes[at].proposal {
            proposal.roster = Some(roster.clone());
        }
        self.send_home(at, &Body::Accept(proposal.ballot, roster, held));
    }

    /// The roster that a proposer wants; `None` when that is not to be had.
    fn wanted(&self, at: usize, proposal: &Proposal) -> Option<Roster> {
        let roster = &self.nodes[at].roster;
        let (node, member) = match proposal.want {
            Want::Settle => return None,
            Want::Begin => (at, Member::Open(proposal.version)),
            Want::Close(other) => {
                // Any majority has to meet somebody who writes: see `time`.
                let enough = roster.may_close_one() || self.broken(Broken::MajorityClosed);
                if roster.members[other] == Member::Closed || !enough {
                    return None;
                }
                (other, Member::Closed)
            }
        };
        let mut ends: BTreeMap<Origin, Seq> = BTreeMap::new();
        if proposal.want == Want::Begin && !self.broken(Broken::EmptyNotNamed) {
            // Who begins again names the logs that nobody heard of: some were told that they are not empty.
            let own = self.nodes[at].own_origins(at);
            let named = |origin: &Origin| roster.ends.contains_key(origin);
            ends.extend(own.filter(|o| !named(o)).map(|origin| (origin, 0)));
        }
        for (_, held) in proposal.promised.values() {
            for (origin, items) in held.iter().filter(|(o, _)| writer(**o) == node) {
                let end = ends.entry(*origin).or_default();
                *end = (*end).max(items.len() as Seq);
            }
        }
        if self.broken(Broken::EndOfOneself) {
            for (origin, end) in &mut ends {
                *end = self.nodes[at].held(*origin);
            }
        }
        Some(roster.next(node, member, ends))
    }

    pub(super) fn on_accept(
        &mut self,
        from: usize,
        to: usize,
        ballot: Ballot,
        roster: &Arc<Roster>,
        held: Held,
    ) {
        if !self.takes_part(to) {
            return;
        }
        let node = &self.nodes[to];
        if roster.version != node.roster.version + 1 || ballot < node.acceptor.promised {
            self.send(to, from, Body::Nack(ballot));
            return;
        }
        if !self.broken(Broken::AcceptsWithoutEntries) {
            for (origin, items) in held {
                self.extend(to, origin, 1, &items);
                // Another roster may be chosen, which does not name that log.
                let node = &mut self.nodes[to];
                let term = node.roster.term(writer(origin));
                let log = node.logs.entry(origin).or_default();
                log.term = log.term.or(term);
            }
            let lacks = |(origin, end): (&Origin, &Seq)| self.nodes[to].held(*origin) < *end;
            if new_ends(&self.nodes[to].roster, roster).any(lacks) {
                return;
            }
        }
        let acceptor = &mut self.nodes[to].acceptor;
        acceptor.promised = ballot;
        acceptor.accepted = Some((ballot, roster.clone()));
        self.send(to, from, Body::Accepted(ballot));
    }

    pub(super) fn on_accepted(&mut self, from: usize, to: usize, ballot: Ballot) {
        let needed = majority(self.home);
        let Some(proposal) = self.nodes[to]
            .proposal
            .as_mut()
            .filter(|p| p.ballot == ballot)
        else {
            return;
        };
        proposal.accepted.insert(from);
        let Some(roster) = proposal.roster.clone() else {
            return;
        };
        if proposal.accepted.len() < needed {
            return;
        }
        let want = proposal.want;
        self.nodes[to].proposal = None;
        match want {
            Want::Close(_) => self.counts.closed += 1,
            Want::Begin => self.counts.opened += 1,
            Want::Settle => {}
        }
        self.decided(to, &roster);
    }

    /// A roster is chosen.
    pub(super) fn decided(&mut self, at: usize, roster: &Arc<Roster>) {
        let now = self.now;
        self.trace
            .note(now, (b'd', at, roster.version, &roster.members), || {
                format!("n{at} knows chosen: {roster:?}")
            });
        self.ledger.chosen(roster);
        self.learn_roster(at, roster);
        for to in (0..self.nodes.len()).filter(|to| *to != at) {
            self.send(at, to, Body::Nothing);
        }
    }

    /// Only where a rule is broken: a far node ends a node's logs where it holds them.
    pub(super) fn close_from_outside(&mut self, at: usize, other: usize) {
        let node = &self.nodes[at];
        if node.roster.members[other] == Member::Closed {
            return;
        }
        let logs = node.logs.keys().filter(|origin| writer(**origin) == other);
        let ends = logs.map(|origin| (*origin, node.held(*origin))).collect();
        let roster = Arc::new(node.roster.next(other, Member::Closed, ends));
        self.decided(at, &roster);
    }
}

/// The ends that a roster adds to those of an earlier one.
fn new_ends<'a>(
    before: &'a Roster,
    roster: &'a Roster,
) -> impl Iterator<Item = (&'a Origin, &'a Seq)> {
    let ends = roster.ends.iter();
    ends.filter(|(origin, _)| !before.ends.contains_key(*origin))
}

/// The entries of the logs that a roster ends: the longest prefix that a promise brought, up to the end.
fn ended(before: &Roster, roster: &Roster, proposal: &Proposal) -> Held {
    let longest = |origin: &Origin| -> Option<&Vec<Item>> {
        let held = proposal
            .promised
            .values()
            .filter_map(|(_, held)| held.get(origin));
        held.max_by_key(|items| items.len())
    };
    let entries = |(origin, end): (&Origin, &Seq)| {
        let items = longest(origin)?.iter().take(*end as usize);
        Some((*origin, items.cloned().collect()))
    };
    new_ends(before, roster).filter_map(entries).collect()
}
