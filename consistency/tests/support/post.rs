//! The network: latency per pair of regions, cuts, and messages held back by name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hansa_consistency::key::NodeId;
use hansa_consistency::message::Envelope;

/// A message under way.
#[derive(Clone)]
pub(crate) struct Mail {
    pub(crate) to: NodeId,
    pub(crate) envelope: Envelope,
}

/// Which messages: kinds by the names of [`Message::name`](hansa_consistency::message::Message::name),
/// ends by node.
#[derive(Clone)]
pub(crate) struct Pattern {
    /// Empty for every kind.
    pub(crate) kinds: Vec<String>,
    pub(crate) from: BTreeSet<NodeId>,
    pub(crate) to: BTreeSet<NodeId>,
}

impl Pattern {
    fn matches(&self, mail: &Mail) -> bool {
        let name = mail.envelope.message.name();
        (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == name))
            && self.from.contains(&mail.envelope.from)
            && self.to.contains(&mail.to)
    }
}

/// Everything between the nodes. A node talks to itself without it.
#[derive(Default)]
pub(crate) struct Post {
    under_way: BTreeMap<(Duration, u64), Mail>,
    sent: u64,
    /// One-way cuts: messages are lost, nobody is told.
    pub(crate) cuts: BTreeSet<(NodeId, NodeId)>,
    holds: Vec<Pattern>,
    /// Messages held back, in order of sending.
    pub(crate) held: Vec<Mail>,
}

impl Post {
    /// Takes a message; it arrives `latency` later, unless it is cut off or held back.
    pub(crate) fn send(&mut self, now: Duration, latency: Duration, mail: Mail) {
        let near = mail.envelope.from == mail.to;
        if self.cuts.contains(&(mail.envelope.from, mail.to)) {
            return;
        }
        if !near && self.holds.iter().any(|pattern| pattern.matches(&mail)) {
            self.held.push(mail);
            return;
        }
        self.sent += 1;
        self.under_way.insert((now + latency, self.sent), mail);
    }

    /// When the next message arrives.
    pub(crate) fn next_arrival(&self) -> Option<Duration> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next message that has arrived.
    pub(crate) fn take_arrived(&mut self, now: Duration) -> Option<Mail> {
        let first = self.under_way.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let mail = first.remove();
        let cut = self.cuts.contains(&(mail.envelope.from, mail.to));
        if cut {
            self.take_arrived(now)
        } else {
            Some(mail)
        }
    }

    /// Forgets what a node said to itself: its process ended.
    pub(crate) fn forget_own(&mut self, node: NodeId) {
        let own = |mail: &Mail| mail.to == node && mail.envelope.from == node;
        self.under_way.retain(|_, mail| !own(mail));
    }

    /// Holds back what matches from now on.
    pub(crate) fn hold(&mut self, pattern: Pattern) {
        self.holds.push(pattern);
    }

    /// Holds nothing back any more; what was held arrives now.
    pub(crate) fn release(&mut self, now: Duration) {
        self.holds.clear();
        for mail in std::mem::take(&mut self.held) {
            self.send(now, Duration::ZERO, mail);
        }
    }

    /// Takes the held messages that match.
    pub(crate) fn take_held(&mut self, pattern: &Pattern) -> Vec<Mail> {
        let (taken, rest) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|mail| pattern.matches(mail));
        self.held = rest;
        taken
    }

    /// Lets a message arrive now, whatever is held back.
    pub(crate) fn deliver(&mut self, now: Duration, mail: Mail) {
        self.sent += 1;
        self.under_way.insert((now, self.sent), mail);
    }
}
