//! The roster: which replicas of a region may write, and where the logs of those end that may not any more.
//!
//! The replicas that hold the same shards in one region decide one roster after the other, each by a ballot register
//! of their own: a majority promises a ballot, a majority accepts a roster under it, and then it is chosen. A promise
//! may be a fence: whoever gives it refuses a node's entries from then on, so that the longest prefix among a majority
//! holds all that was ever committed. The protocol, and what each rule is for, stands in
//! `docs/decisions/0013-how-a-dead-nodes-origins-are-closed.md`; this is its arithmetic. Messages and logs are the
//! caller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::{DecodeError, Decoded, Decoder, Encode, Encoder};
use crate::key::{KeyspaceId, NodeId, ShardId};
use crate::quorum::majority;
use crate::version::{Ballot, Origin, Seq};

/// A roster's number; the first is 0. The version of the roster that let a node in is the *term* of its logs.
pub type Version = u64;

/// The last entries of logs that have ended.
pub type Ends = BTreeMap<(ShardId, Origin), Seq>;

/// Whether a replica may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Member {
    /// Yes, to logs of this term.
    Open(Version),
    /// No. All its logs have ended.
    Closed,
}

/// One roster.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Roster {
    version: Version,
    members: BTreeMap<NodeId, Member>,
    ends: Ends,
}

impl Roster {
    /// The first one: all these replicas write.
    pub fn first(nodes: impl IntoIterator<Item = NodeId>) -> Roster {
        let open = |node| (node, Member::Open(0));
        Roster {
            version: 0,
            members: nodes.into_iter().map(open).collect(),
            ends: Ends::new(),
        }
    }

    /// Its number.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The replicas, and whether they may write.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// Every log that has ended, with the seq of its last entry. A log of an ended term that is not among them is
    /// empty.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The term in which a replica may write; `None` when it may not, or is none of these.
    pub fn term(&self, node: NodeId) -> Option<Version> {
        match self.members.get(&node) {
            Some(Member::Open(term)) => Some(*term),
            Some(Member::Closed) | None => None,
        }
    }

    /// Whether a replica's logs of a term have ended.
    pub fn has_ended(&self, node: NodeId, term: Version) -> bool {
        match self.term(node) {
            Some(newest) => newest > term,
            None => self.version >= term,
        }
    }

    /// Whether one more replica may be closed: a majority stays open. Any majority of the replicas has to meet one that
    /// safe time counts, since it may be the majority that lets a closed one in again.
    pub fn may_close(&self, node: NodeId) -> bool {
        let open = self.members.values().filter(|m| **m != Member::Closed);
        self.term(node).is_some() && open.count() > majority(self.members.len())
    }

    /// The next roster: a replica's logs end there, and it may write no more.
    #[must_use]
    pub fn closing(&self, node: NodeId, ends: Ends) -> Roster {
        self.next(node, Member::Closed, ends)
    }

    /// The next roster: a replica's earlier logs end there, if they had not ended, and it may write new ones.
    #[must_use]
    pub fn opening(&self, node: NodeId, ends: Ends) -> Roster {
        self.next(node, Member::Open(self.version + 1), ends)
    }

    fn next(&self, node: NodeId, member: Member, ends: Ends) -> Roster {
        let mut next = self.clone();
        next.version += 1;
        next.members.insert(node, member);
        // An end never changes.
        for (log, end) in ends {
            next.ends.entry(log).or_insert(end);
        }
        next
    }

    /// The ends that this roster adds to those of an earlier one.
    pub fn new_ends<'a>(
        &'a self,
        before: &'a Roster,
    ) -> impl Iterator<Item = (&'a (ShardId, Origin), &'a Seq)> {
        let ends = self.ends.iter();
        ends.filter(|(log, _)| !before.ends.contains_key(*log))
    }
}

/// Where the logs end of which fenced replicas hold these prefixes: the longest of each.
pub fn longest(prefixes: impl IntoIterator<Item = ((ShardId, Origin), Seq)>) -> Ends {
    let mut ends = Ends::new();
    for (log, seq) in prefixes {
        let end = ends.entry(log).or_default();
        *end = (*end).max(seq);
    }
    ends
}

/// Refused: something higher was promised, or the version asked for is not the next one. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nack {
    /// The ballot promised.
    pub promised: Ballot,
}

/// What one replica promised, accepted and refuses. Whoever changes it writes it durably before the answer leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acceptor {
    /// The highest ballot promised.
    pub promised: Ballot,
    /// The roster accepted and not known to be chosen, with its ballot.
    pub accepted: Option<(Ballot, Arc<Roster>)>,
    /// Replicas whose entries of terms up to this are refused.
    pub fences: BTreeMap<NodeId, Version>,
}

impl Default for Acceptor {
    fn default() -> Acceptor {
        Acceptor {
            promised: Ballot::ZERO,
            accepted: None,
            fences: BTreeMap::new(),
        }
    }
}

impl Acceptor {
    /// Promises a ballot for the roster after `known`, the newest one known here to be chosen, and, if a replica is to
    /// be closed, to refuse its entries of every term up to now.
    ///
    /// # Errors
    /// [`Nack`] when a higher ballot was promised, or `version` is not the next one.
    pub fn prepare(
        &mut self,
        ballot: Ballot,
        version: Version,
        closing: Option<NodeId>,
        known: &Roster,
    ) -> Result<Option<(Ballot, Arc<Roster>)>, Nack> {
        self.check(ballot, version, known)?;
        self.promised = ballot;
        if let Some(node) = closing {
            let fence = self.fences.entry(node).or_default();
            *fence = (*fence).max(known.version);
        }
        Ok(self.accepted.clone())
    }

    /// Whether [`Acceptor::accept`] would accept: whoever accepts has to hold the entries up to the new ends before.
    ///
    /// # Errors
    /// [`Nack`] when a higher ballot was promised, or the roster is not the next one.
    pub fn check(&self, ballot: Ballot, version: Version, known: &Roster) -> Result<(), Nack> {
        match version == known.version + 1 && ballot >= self.promised {
            true => Ok(()),
            false => Err(Nack {
                promised: self.promised,
            }),
        }
    }

    /// Accepts a roster. The caller holds the entries up to its new ends durably, at the latest with this.
    ///
    /// # Errors
    /// As [`Acceptor::check`].
    pub fn accept(
        &mut self,
        ballot: Ballot,
        roster: &Arc<Roster>,
        known: &Roster,
    ) -> Result<(), Nack> {
        self.check(ballot, roster.version, known)?;
        self.promised = ballot;
        self.accepted = Some((ballot, roster.clone()));
        Ok(())
    }

    /// A roster is known to be chosen: what was accepted for its version or an earlier one is settled.
    pub fn learn(&mut self, chosen: &Roster) {
        if self
            .unresolved()
            .is_some_and(|version| version <= chosen.version)
        {
            self.accepted = None;
        }
    }

    /// The version of the roster that was accepted and is not known to be chosen.
    pub fn unresolved(&self) -> Option<Version> {
        self.accepted.as_ref().map(|(_, roster)| roster.version)
    }

    /// The newest roster accepted or known to be chosen: what this replica says of safe time is not to be believed by
    /// who knows no chosen roster as new as that.
    pub fn newest(&self, known: &Roster) -> Version {
        self.unresolved().unwrap_or(known.version)
    }

    /// Whether a replica's entries of a term are refused, whatever the roster says.
    pub fn refuses(&self, node: NodeId, term: Version) -> bool {
        self.fences.get(&node).is_some_and(|fence| *fence >= term)
    }

    /// Whether entries of a replica's logs of a term may be taken from it.
    pub fn takes(&self, node: NodeId, term: Version, known: &Roster) -> bool {
        known.term(node) == Some(term) && !self.refuses(node, term)
    }
}

impl Encode for Member {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Member::Closed => out.number(0),
            Member::Open(term) => out.number(term.saturating_add(1)),
        }
    }
    fn decode(input: &mut Decoder) -> Decoded<Member> {
        Ok(match input.number("member")? {
            0 => Member::Closed,
            number => Member::Open(number - 1),
        })
    }
}

/// One end as encoded.
struct End((ShardId, Origin), Seq);

impl Encode for End {
    fn encode(&self, out: &mut Encoder) {
        let End((shard, origin), seq) = self;
        out.number(u64::from(shard.keyspace.0));
        out.number(u64::from(shard.index));
        out.put(origin);
        out.number(*seq);
    }
    fn decode(input: &mut Decoder) -> Decoded<End> {
        let shard = ShardId {
            keyspace: KeyspaceId(input.small("keyspace")?),
            index: input.small("shard")?,
        };
        Ok(End((shard, input.get()?), input.number("end")?))
    }
}

impl Encode for Roster {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.version);
        let members = self.members.iter();
        out.list(members.map(|(node, member)| (u64::from(node.0), *member)));
        out.list(self.ends.iter().map(|(log, seq)| End(*log, *seq)));
    }
    fn decode(input: &mut Decoder) -> Decoded<Roster> {
        let version = input.number("roster version")?;
        let node = |number| u16::try_from(number).ok().map(NodeId);
        let members = BTreeMap::from_iter(input.map("roster members", node)?);
        let listed: Vec<End> = input.list("roster ends")?;
        // One map has one encoding.
        if !listed.is_sorted_by(|one, next| one.0 < next.0) {
            return Err(DecodeError::Malformed {
                what: "roster ends",
            });
        }
        Ok(Roster {
            version,
            members,
            ends: listed.into_iter().map(|End(log, seq)| (log, seq)).collect(),
        })
    }
}

impl Encode for Acceptor {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.promised);
        out.bool(self.accepted.is_some());
        if let Some((ballot, roster)) = &self.accepted {
            out.put(ballot);
            out.put(roster.as_ref());
        }
        let fences = self.fences.iter();
        out.list(fences.map(|(node, version)| (u64::from(node.0), *version)));
    }
    fn decode(input: &mut Decoder) -> Decoded<Acceptor> {
        let promised = input.get()?;
        let accepted = match input.bool("accepted roster")? {
            true => Some((input.get()?, Arc::new(input.get()?))),
            false => None,
        };
        let node = |number| u16::try_from(number).ok().map(NodeId);
        Ok(Acceptor {
            promised,
            accepted,
            fences: BTreeMap::from_iter(input.map("fences", node)?),
        })
    }
}

#[cfg(test)]
mod tests;
