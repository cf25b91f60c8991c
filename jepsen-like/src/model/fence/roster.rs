//! The roster: which nodes of a region may write, and where the logs of those that may not any more end.
//!
//! A region's replicas of a shard decide one roster after the other, each by a ballot register of their own: a
//! majority of them promises a ballot, a majority accepts a roster under it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hansa_consistency::quorum::majority;
use hansa_consistency::version::{Ballot, Origin, Seq};

use super::logs::Item;

/// A roster's number; the first is 0.
pub(super) type Version = u64;

/// Whether a node of the region may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(super) enum Member {
    /// Yes, to logs of this term: the version of the roster that let it in.
    Open(Version),
    /// No. All its logs have ended.
    Closed,
}

/// One roster.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(super) struct Roster {
    pub(super) version: Version,
    /// By number of node.
    pub(super) members: Vec<Member>,
    /// Every log that has ended, with its last entry. A log of an ended term that is not named here is empty.
    pub(super) ends: BTreeMap<Origin, Seq>,
}

/// All logs of some nodes, as one replica holds them.
pub(super) type Held = BTreeMap<Origin, Vec<Item>>;

impl Roster {
    /// Everybody writes.
    pub(super) fn first(nodes: usize) -> Roster {
        Roster {
            version: 0,
            members: vec![Member::Open(0); nodes],
            ends: BTreeMap::new(),
        }
    }

    /// The term in which a node may write.
    pub(super) fn term(&self, node: usize) -> Option<Version> {
        match self.members.get(node) {
            Some(Member::Open(term)) => Some(*term),
            _ => None,
        }
    }

    /// Whether a node's logs of a term have ended.
    pub(super) fn has_ended(&self, node: usize, term: Version) -> bool {
        match self.term(node) {
            Some(newest) => newest > term,
            None => self.version >= term,
        }
    }

    /// How many may write.
    pub(super) fn open(&self) -> usize {
        let open = self.members.iter().filter(|m| **m != Member::Closed);
        open.count()
    }

    /// Whether a majority may write when one more may not.
    pub(super) fn may_close_one(&self) -> bool {
        self.open() > majority(self.members.len())
    }

    /// The next roster, in which a node's logs end where `ends` says and it stands as `member`.
    pub(super) fn next(&self, node: usize, member: Member, ends: BTreeMap<Origin, Seq>) -> Roster {
        let mut next = self.clone();
        next.version += 1;
        if let Some(place) = next.members.get_mut(node) {
            *place = member;
        }
        next.ends.extend(ends);
        next
    }
}

/// What a replica of the region keeps durably for the register that decides the next roster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Acceptor {
    pub(super) promised: Ballot,
    pub(super) accepted: Option<(Ballot, Arc<Roster>)>,
    /// By number of node: its entries of terms up to this are refused.
    pub(super) fences: BTreeMap<usize, Version>,
}

impl Acceptor {
    pub(super) fn new() -> Acceptor {
        Acceptor {
            promised: Ballot::ZERO,
            accepted: None,
            fences: BTreeMap::new(),
        }
    }

    /// Whether a node's entries of a term are refused.
    pub(super) fn refuses(&self, node: usize, term: Version) -> bool {
        self.fences.get(&node).is_some_and(|fence| *fence >= term)
    }

    /// The version of the roster accepted and not known to be chosen.
    pub(super) fn unresolved(&self) -> Option<Version> {
        self.accepted.as_ref().map(|(_, roster)| roster.version)
    }
}
