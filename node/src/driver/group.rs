//! What leaves the driver's thread together: writes, and what may be said once they are durable.

use hansa_consistency::key::NodeId;
use hansa_consistency::message::{Envelope, Message};
use hansa_consistency::port::Write;
use hansa_consistency::request::{Refusal, Reply};

use super::failure::{Failure, Open};
use crate::limits::{GROUP_BYTES_MAX, GROUP_EVENTS_MAX};

/// Something to say once the writes before it are durable.
#[derive(Debug)]
pub(super) enum Say {
    /// To a peer, or to this node itself.
    Send { to: NodeId, envelope: Envelope },
    /// To a client.
    Reply {
        open: Open,
        result: Result<Reply, Refusal>,
    },
}

/// One atomic batch with one sync, and what waits for it.
#[derive(Debug)]
pub(super) struct Group {
    /// Rises by one with every group of a driver.
    pub(super) number: u64,
    /// Which life of the replica stepped it; see [`Failure`].
    pub(super) life: u64,
    pub(super) writes: Vec<Write>,
    /// The store sequence after its writes, if it has any.
    pub(super) sequence: Option<u64>,
    pub(super) says: Vec<Say>,
    /// Whether something it says waits for the small sequence file.
    pub(super) votes: bool,
    /// Steps that left something in it.
    pub(super) events: usize,
    /// Bytes of keys and values written.
    pub(super) bytes: usize,
    /// Why it is not to be carried out, when an earlier one failed.
    pub(super) failed: Option<Failure>,
}

impl Group {
    pub(super) fn new(number: u64, life: u64) -> Group {
        Group {
            number,
            life,
            writes: Vec::new(),
            sequence: None,
            says: Vec::new(),
            votes: false,
            events: 0,
            bytes: 0,
            failed: None,
        }
    }

    /// How many writes and things to say are in it.
    pub(super) fn held(&self) -> usize {
        self.writes.len() + self.says.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held() == 0
    }

    /// Whether it must be handed on before more events are stepped. Never when it is empty: an empty group is
    /// not handed on, and the driver would wait for ever.
    pub(super) fn is_full(&self) -> bool {
        !self.is_empty() && (self.events >= GROUP_EVENTS_MAX || self.bytes >= GROUP_BYTES_MAX)
    }

    pub(super) fn write(&mut self, writes: Vec<Write>) {
        let bytes = |write: &Write| write.key.len() + write.value.as_ref().map_or(0, |v| v.len());
        self.bytes += writes.iter().map(bytes).sum::<usize>();
        if self.writes.is_empty() {
            self.writes = writes;
        } else {
            self.writes.extend(writes);
        }
    }

    pub(super) fn send(&mut self, to: NodeId, envelope: Envelope) {
        self.votes |= envelope.message.is_vote();
        self.says.push(Say::Send { to, envelope });
    }

    pub(super) fn reply(&mut self, open: Open, result: Result<Reply, Refusal>) {
        self.says.push(Say::Reply { open, result });
    }

    /// Tells everybody who waits for this group that it was not made durable. What it was to send stays unsaid.
    pub(super) fn fail(self, failure: &Failure, leaked: u64) {
        for say in self.says {
            if let Say::Reply { open, result } = say {
                open.fail_with(result, failure, leaked);
            }
        }
    }
}

/// Whether a message may bring a client's write into effect elsewhere.
pub(super) fn carries_writes(message: &Message) -> bool {
    matches!(
        message,
        Message::Append(_)
            | Message::Entries { .. }
            | Message::Accept { .. }
            | Message::Delegate { .. }
            | Message::Combine { .. }
            | Message::Forward { .. }
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hansa_consistency::port::Family;

    use super::*;

    #[test]
    fn a_group_is_full_by_events_or_bytes_and_never_when_empty() {
        let write = |bytes: usize| Write {
            family: Family::Data,
            key: Bytes::from_static(b"key"),
            value: Some(vec![0; bytes].into()),
        };
        let mut group = Group::new(1, 0);
        group.events = GROUP_EVENTS_MAX;
        assert!(
            !group.is_full(),
            "reads that left at once leave nothing to hand on"
        );
        group.write(vec![write(1)]);
        assert!(group.is_full());
        group.events = 1;
        assert!(!group.is_full());
        group.write(vec![write(GROUP_BYTES_MAX)]);
        assert!(group.is_full());
    }
}
