//! What a message claims of its sender's disk: decides what it has to wait for.
//!
//! The replica in memory is ahead of the disk by what is under way. A message built from memory may therefore
//! claim what a crash takes back, even when its own step wrote nothing and read no pending row.

use hansa_consistency::message::Message;
use hansa_consistency::request::{Answer, Level, Refusal, Reply};

/// What must be durable before a message leaves, given that its own step wrote and read nothing pending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// Nothing: it asks, or tells what its step read from durable records. Forgotten, it was only asked in vain.
    Nothing,
    /// The clock's bound: its ballot must not be made a second time after a crash.
    Clock,
    /// Everything stepped before it: it tells what this node holds, as the replica in memory has it.
    Stored,
    /// As `Stored`, and the small sequence file up to the store sequence it carries.
    Vote,
}

/// Lists every kind, so that a new one is decided on before it is sent.
pub(super) fn claim(message: &Message) -> Claim {
    match message {
        Message::Read { .. }
        | Message::Pull { .. }
        | Message::ExchangeRequest { .. }
        | Message::Forward { .. }
        | Message::ClockRefused { .. }
        // The ballot in the way was read by this step.
        | Message::Nack { .. } => Claim::Nothing,
        Message::Prepare { .. } | Message::Accept { .. } => Claim::Clock,
        Message::Append(_)
        | Message::Committed { .. }
        | Message::Acknowledge { .. }
        | Message::ExchangeReply { .. }
        | Message::Entries { .. }
        | Message::StaleEpoch { .. }
        // The ballot is chosen by votes that were counted when they were durable.
        | Message::Combined { .. }
        // Whoever heard it knows that this node's store is not empty.
        | Message::StartAsk
        | Message::StartAnswer { .. } => Claim::Stored,
        Message::Forwarded { result, .. } => outcome(result),
        // The group's number must not be given a second time after a crash.
        Message::Combine { errand, .. } if errand.eventual.is_none() => Claim::Clock,
        Message::Heartbeat(_)
        | Message::Combine { .. }
        | Message::Promised { .. }
        | Message::Accepted { .. }
        | Message::Delegate { .. }
        | Message::Delegated { .. }
        | Message::ReadAnswer { .. } => Claim::Vote,
    }
}

/// A read below level strong claims no more than the rows its step read, as towards an own client.
fn outcome(result: &Result<Reply, Refusal>) -> Claim {
    match result {
        Ok(Reply {
            answer: Answer::Read { .. } | Answer::Page { .. },
            level: Level::Eventual | Level::Session,
            ..
        }) => Claim::Nothing,
        _ => Claim::Stored,
    }
}

#[cfg(test)]
mod kinds;
#[cfg(test)]
mod tests {
    use hansa_consistency::clock::Hlc;
    use hansa_consistency::key::{KeyspaceId, Row};
    use hansa_consistency::message::Vote;
    use hansa_consistency::request::{Found, Receipt};
    use hansa_consistency::session::Context;
    use hansa_consistency::version::{Ballot, ShardEpoch};

    use super::*;

    #[test]
    fn what_the_core_calls_a_vote_waits_as_one_and_a_question_for_nothing() {
        let vote = Vote {
            row: Row::new(KeyspaceId(0), 1, b"key", b"", None).unwrap(),
            epoch: ShardEpoch::default(),
            round: 1,
        };
        let ballot = Ballot::ZERO;
        let read = Message::Read {
            vote: vote.clone(),
            have: ballot,
        };
        assert_eq!(claim(&read), Claim::Nothing);
        let prepare = Message::Prepare {
            vote: vote.clone(),
            ballot,
        };
        assert_eq!(claim(&prepare), Claim::Clock);
        let accepted = Message::Accepted { vote, ballot };
        assert!(accepted.is_vote());
        assert_eq!(claim(&accepted), Claim::Vote);
    }

    #[test]
    fn only_a_weak_read_is_answered_to_a_peer_without_waiting() {
        let forwarded = |answer, level| {
            let reply = Reply {
                answer,
                level,
                context: Context::new(),
                hlc: Hlc::ZERO,
                receipt: Receipt::default(),
            };
            claim(&Message::Forwarded {
                id: 1,
                result: Ok(reply),
            })
        };
        let etag = bytes::Bytes::new();
        let read = Answer::Read {
            found: Found::Nothing,
            etag: etag.clone(),
        };
        assert_eq!(forwarded(read.clone(), Level::Session), Claim::Nothing);
        assert_eq!(forwarded(read, Level::Strong), Claim::Stored);
        let written = Answer::Written { etag, total: 0 };
        assert_eq!(forwarded(written, Level::Eventual), Claim::Stored);
    }
}
