//! What the core takes for the word of a store waits for that store, whatever the kind of message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hansa_consistency::key::{KeyspaceId, NodeId, Row, ShardId};
use hansa_consistency::message::{Append, Heartbeat, Message, Run, Vote};
use hansa_consistency::register::{Combined, Errand, Executed, Promise, ReadAnswer};
use hansa_consistency::request::{Command, Level, Reason, Refusal, Request};
use hansa_consistency::session::Context;
use hansa_consistency::version::{Ballot, Origin, ShardEpoch};

use super::{Claim, claim};

const SHARD: ShardId = ShardId {
    keyspace: KeyspaceId(0),
    index: 0,
};
const ORIGIN: Origin = Origin {
    node: NodeId(0),
    incarnation: 1,
};

fn row() -> Row {
    Row::new(KeyspaceId(0), 1, b"key", b"", None).unwrap()
}

fn vote() -> Vote {
    Vote {
        row: row(),
        epoch: ShardEpoch::default(),
        round: 1,
    }
}

fn heartbeat() -> Message {
    Message::Heartbeat(Heartbeat {
        ping: 1,
        echo: None,
        since: 0,
        assigned: Vec::new(),
        digest: None,
        votes: true,
        lost: false,
        urgent: false,
        quorum_us: None,
    })
}

fn append() -> Message {
    Message::Append(Append {
        shard: SHARD,
        run: Run {
            origin: ORIGIN,
            first: 1,
            entries: Vec::new(),
        },
        committed: 0,
        others: Vec::new(),
        place: None,
    })
}

fn forward() -> Message {
    let request = Request {
        command: Command::Put(row(), Bytes::new()),
        level: Level::Eventual,
        context: Context::new(),
        request_id: None,
        retry_of: None,
        ack_regions: 0,
        deadline: Duration::from_secs(1),
    };
    Message::Forward {
        id: 1,
        start: 1,
        request,
    }
}

fn executed() -> Executed {
    Executed {
        value: Arc::default(),
        outcomes: Vec::new(),
        absorbed: false,
        recalled: false,
    }
}

/// The kind after this one: a new kind has to be given its place here, and is tested then.
fn next(message: &Message) -> Option<Message> {
    let (vote, ballot, origin, shard) = (vote(), Ballot::ZERO, ORIGIN, SHARD);
    Some(match message {
        Message::Heartbeat(_) => append(),
        Message::Append(_) => Message::Committed {
            shard,
            origin,
            seq: 1,
        },
        Message::Committed { .. } => Message::Acknowledge {
            shard,
            origin,
            seq: 1,
        },
        Message::Acknowledge { .. } => Message::ExchangeRequest {
            digests: Vec::new(),
        },
        Message::ExchangeRequest { .. } => Message::ExchangeReply {
            vectors: Vec::new(),
        },
        Message::ExchangeReply { .. } => Message::Pull {
            shard,
            have: Vec::new(),
        },
        Message::Pull { .. } => Message::Entries {
            shard,
            runs: Vec::new(),
            statements: Vec::new(),
            more: false,
        },
        Message::Entries { .. } => Message::Prepare { vote, ballot },
        Message::Prepare { .. } => Message::Promised {
            vote,
            ballot,
            promise: Promise {
                accepted: ballot,
                value: None,
                eventual: None,
            },
        },
        Message::Promised { .. } => Message::Accept {
            vote,
            ballot,
            value: Arc::default(),
        },
        Message::Accept { .. } => Message::Accepted { vote, ballot },
        Message::Accepted { .. } => Message::Delegate {
            vote,
            ballot,
            promise: Promise {
                accepted: ballot,
                value: None,
                eventual: None,
            },
            errands: Vec::new(),
        },
        Message::Delegate { .. } => Message::Delegated {
            vote,
            ballot,
            executed: executed(),
        },
        Message::Delegated { .. } => Message::Combine {
            vote,
            errand: Errand {
                proposer: ballot.origin,
                group: 1,
                oldest: 1,
                operations: Vec::new(),
                eventual: None,
            },
        },
        Message::Combine { .. } => Message::Combined {
            vote,
            ballot,
            combined: Combined {
                executed: executed(),
                voters: Vec::new(),
                round_trips: 1,
                busy: false,
            },
        },
        Message::Combined { .. } => Message::Nack {
            vote,
            ballot,
            promised: ballot,
        },
        Message::Nack { .. } => Message::Read { vote, have: ballot },
        Message::Read { .. } => Message::ReadAnswer {
            vote,
            answer: ReadAnswer {
                accepted: ballot,
                chosen: ballot,
                value: None,
                eventual: None,
            },
        },
        Message::ReadAnswer { .. } => Message::StaleEpoch {
            vote,
            epoch: ShardEpoch::default(),
        },
        Message::StaleEpoch { .. } => forward(),
        Message::Forward { .. } => Message::Forwarded {
            id: 1,
            result: Err(Refusal::not_applied(Reason::NotHere, "")),
        },
        Message::Forwarded { .. } => Message::StartAsk,
        Message::StartAsk => Message::StartAnswer {
            seen: 1,
            seen_start: 1,
            lost: false,
        },
        Message::StartAnswer { .. } => Message::ClockRefused { ahead_ms: 1 },
        Message::ClockRefused { .. } => return None,
    })
}

#[test]
fn what_tells_a_peer_of_the_store_waits_for_the_store() {
    let mut telling = 0;
    for message in std::iter::successors(Some(heartbeat()), next) {
        let name = message.name();
        let claim = claim(&message);
        if message.is_vote() {
            assert_eq!(claim, Claim::Vote, "{name}");
        }
        if message.tells_of_the_store() {
            assert!(matches!(claim, Claim::Stored | Claim::Vote), "{name}");
            telling += 1;
        }
    }
    assert!(telling >= 9, "only {telling} kinds tell of the store");
}
