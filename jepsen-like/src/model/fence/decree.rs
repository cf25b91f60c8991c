//! How the region's replicas decide the next roster: prepare and accept, as in Paxos.
//!
//! A promise to a ballot that closes a node is also a fence: from then on the replica refuses that node's entries of
//! earlier terms. Its answer brings the logs it holds. A majority of the region's replicas fenced it: whatever was
//! committed or ever will be in those terms is held by one of them, so the longest prefix among them is the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hansa_consistency::key::ShardId;
use hansa_consistency::quorum::majority;
use hansa_consistency::roster::{Ends, Roster, Version, longest};
use hansa_consistency::version::{Ballot, Origin, Seq};

use super::broken::Broken;
use super::logs::{Item, writer};
use super::roster::{Held, SHARD, end_of, is_closed, node};
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
        let origin = Origin {
            node: node(at),
            incarnation: 0,
        };
        let n = self.tick(at).0;
        let node = &mut self.nodes[at];
        let (ballot, version) = (Ballot { n, origin }, node.roster.version() + 1);
        let closing = match want {
            Want::Close(other) => Some(other),
            Want::Begin if !is_closed(&node.roster, at) => Some(at),
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
        // The message brought the asker's roster: this node lags behind the version asked for at no time.
        let held = &mut self.nodes[to];
        let (acceptor, known) = (&mut held.acceptor, held.roster.clone());
        let Ok(accepted) = acceptor.prepare(ballot, version, closing.map(node), &known) else {
            self.send(to, from, Body::Nack(ballot));
            return;
        };
        let node = &mut self.nodes[to];
        node.refused |= closing == Some(to);
        let open = node
            .logs
            .iter()
            .filter(|(o, _)| end_of(&node.roster, **o).is_none());
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
        let version = node.roster.version() + 1;
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
        let of = match proposal.want {
            Want::Settle => return None,
            Want::Begin => at,
            Want::Close(other) => {
                let closed = is_closed(roster, other);
                if closed || !(roster.may_close(node(other)) || self.broken(Broken::MajorityClosed))
                {
                    return None;
                }
                other
            }
        };
        let held = proposal.promised.values().flat_map(|(_, held)| held);
        let held = held.filter(|(origin, _)| writer(**origin) == of);
        let mut ends = longest(held.map(|(o, items)| ((SHARD, *o), items.len() as Seq)));
        if self.broken(Broken::EndOfOneself) {
            for ((_, origin), end) in &mut ends {
                *end = self.nodes[at].held(*origin);
            }
        }
        if proposal.want != Want::Begin {
            return Some(roster.closing(node(of), ends));
        }
        if !self.broken(Broken::EmptyNotNamed) {
            // Who begins again names the logs that nobody heard of: some were told that they are not empty.
            for origin in self.nodes[at].own_origins(at) {
                ends.entry((SHARD, origin)).or_insert(0);
            }
        }
        Some(roster.opening(node(of), ends))
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
        let known = self.nodes[to].roster.clone();
        let acceptor = &self.nodes[to].acceptor;
        if acceptor.check(ballot, roster.version(), &known).is_err() {
            self.send(to, from, Body::Nack(ballot));
            return;
        }
        if !self.broken(Broken::AcceptsWithoutEntries) {
            for (origin, items) in held {
                self.extend(to, origin, 1, &items);
                // Another roster may be chosen, which does not name that log.
                let term = known.term(origin.node);
                let log = self.nodes[to].logs.entry(origin).or_default();
                log.term = log.term.or(term);
            }
            let node = &self.nodes[to];
            let mut new = roster.new_ends(&known);
            if new.any(|((_, origin), end)| node.held(*origin) < *end) {
                return;
            }
        }
        let accepted = self.nodes[to].acceptor.accept(ballot, roster, &known);
        let answer = accepted.map_or(Body::Nack(ballot), |()| Body::Accepted(ballot));
        self.send(to, from, answer);
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
            .note(now, (b'd', at, roster.version(), roster.members()), || {
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
        let far = &self.nodes[at];
        if is_closed(&far.roster, other) {
            return;
        }
        let logs = far.logs.keys().filter(|origin| writer(**origin) == other);
        let ends: Ends = logs.map(|o| ((SHARD, *o), far.held(*o))).collect();
        let roster = Arc::new(far.roster.closing(node(other), ends));
        self.decided(at, &roster);
    }
}

/// The entries of the logs that a roster ends: the longest prefix that a promise brought, up to the end.
fn ended(before: &Roster, roster: &Roster, proposal: &Proposal) -> Held {
    let most = |origin: &Origin| -> Option<&Vec<Item>> {
        let held = proposal
            .promised
            .values()
            .filter_map(|(_, held)| held.get(origin));
        held.max_by_key(|items| items.len())
    };
    let entries = |((_, origin), end): (&(ShardId, Origin), &Seq)| {
        let items = most(origin)?.iter().take(*end as usize);
        Some((*origin, items.cloned().collect()))
    };
    roster.new_ends(before).filter_map(entries).collect()
}
