//! Messages between nodes, one to one.

use std::sync::Arc;

use bytes::Bytes;
use hansa_consistency::clock::Hlc;
use hansa_consistency::codec::Encode;
use hansa_consistency::key::{ClusterId, KeyspaceId, NodeId, Row, ShardId};
use hansa_consistency::message::{
    Append, Echo, Envelope, Heartbeat, Message, Place, Prefix, Run, Statement, Vote,
};
use hansa_consistency::register::errand::Errands;
use hansa_consistency::register::proposer::Eventual;
use hansa_consistency::register::{Errand, Promise, ReadAnswer, StrongValue};
use hansa_consistency::version::{Ballot, Origin, ShardEpoch};
use hansa_proto::v1::{self, envelope::Message as Body};

use super::WireError;
use super::forward::{request_from, request_to, result_from, result_to};

/// A result of reading a peer's message.
pub(super) type Read<T> = Result<T, WireError>;

/// A required field.
pub(super) fn need<T>(field: Option<T>, what: &'static str) -> Read<T> {
    field.ok_or(WireError { what })
}

/// A number of a smaller type.
pub(super) fn small<T: TryFrom<u32>>(number: u32, what: &'static str) -> Read<T> {
    T::try_from(number).map_err(|_| WireError { what })
}

/// A thing in its stored form.
pub(super) fn stored<T: Encode>(bytes: &Bytes, what: &'static str) -> Read<T> {
    T::from_record(bytes).map_err(|_| WireError { what })
}

/// A row's storage key.
pub(super) fn row(bytes: Bytes) -> Read<Row> {
    need(Row::from_bytes(bytes), "row")
}

/// A message as it goes over a link.
pub fn envelope_to_wire(envelope: Envelope) -> v1::Envelope {
    v1::Envelope {
        cluster: envelope.cluster.0,
        from: u32::from(envelope.from.0),
        start: envelope.start,
        incarnation: envelope.incarnation,
        store_sequence: envelope.store_sequence,
        hlc: envelope.hlc.0,
        message: body_to(envelope.message),
    }
}

/// A message as it came over a link.
///
/// # Errors
/// [`WireError`] when it is none.
pub fn envelope_from_wire(envelope: v1::Envelope) -> Result<Envelope, WireError> {
    Ok(Envelope {
        cluster: ClusterId(envelope.cluster),
        from: node(envelope.from)?,
        start: envelope.start,
        incarnation: envelope.incarnation,
        store_sequence: envelope.store_sequence,
        hlc: Hlc(envelope.hlc),
        message: body_from(need(envelope.message, "message")?)?,
    })
}

/// Three functions, each for one family of kinds, hand on what is not theirs. `None`, which nobody accepts,
/// would be a kind without a form on the wire: the tests go through all of them.
fn body_to(message: Message) -> Option<Body> {
    Some(match message {
        Message::Heartbeat(heartbeat) => Body::Heartbeat(heartbeat_to(heartbeat)),
        Message::Forward { id, start, request } => Body::Forward(v1::PeerForward {
            id,
            start,
            request: Some(request_to(request)),
        }),
        Message::Forwarded { id, result } => Body::Forwarded(v1::PeerForwarded {
            id,
            result: Some(result_to(result)),
        }),
        Message::StartAsk => Body::StartAsk(v1::PeerStartAsk {}),
        Message::StartAnswer {
            seen,
            seen_start,
            lost,
        } => Body::StartAnswer(v1::PeerStartAnswer {
            seen,
            seen_start,
            lost,
        }),
        Message::ClockRefused { ahead_ms } => Body::ClockRefused(v1::PeerClockRefused { ahead_ms }),
        other => return log_to(other),
    })
}

fn log_to(message: Message) -> Option<Body> {
    Some(match message {
        Message::Append(Append {
            shard,
            run,
            committed,
            others,
            place,
        }) => Body::Append(v1::PeerAppend {
            shard: shard_to(shard),
            run: Some(run_to(run)),
            committed,
            others: prefixes_to(others),
            place: place.map(|place| v1::Place {
                after: place.after,
                number: place.number,
                complete: place.complete.0,
            }),
        }),
        Message::Committed { shard, origin, seq } => Body::Committed(v1::PeerCommitted {
            shard: shard_to(shard),
            end: Some(prefix_to(Prefix { origin, seq })),
        }),
        Message::Acknowledge { shard, origin, seq } => Body::Acknowledge(v1::PeerAcknowledge {
            shard: shard_to(shard),
            end: Some(prefix_to(Prefix { origin, seq })),
        }),
        Message::ExchangeRequest { digests } => {
            Body::ExchangeRequest(v1::PeerExchangeRequest { digests })
        }
        Message::ExchangeReply { vectors } => {
            let vector = |(shard, prefixes)| v1::ShardVector {
                shard: shard_to(shard),
                prefixes: prefixes_to(prefixes),
            };
            let vectors = vectors.into_iter().map(vector).collect();
            Body::ExchangeReply(v1::PeerExchangeReply { vectors })
        }
        Message::Pull { shard, have } => Body::Pull(v1::PeerPull {
            shard: shard_to(shard),
            have: prefixes_to(have),
        }),
        Message::Entries {
            shard,
            runs,
            statements,
            more,
        } => Body::Entries(v1::PeerEntries {
            shard: shard_to(shard),
            runs: runs.into_iter().map(run_to).collect(),
            statements: statements.into_iter().map(statement_to).collect(),
            more,
        }),
        other => return vote_body_to(other),
    })
}

fn vote_body_to(message: Message) -> Option<Body> {
    Some(match message {
        Message::Prepare { vote, ballot } => Body::Prepare(v1::PeerPrepare {
            vote: Some(vote_to(vote)),
            ballot: ballot_to(ballot),
        }),
        Message::Promised {
            vote,
            ballot,
            promise,
        } => Body::Promised(promised_to(vote, ballot, promise)),
        Message::Accept {
            vote,
            ballot,
            value,
        } => Body::Accept(v1::PeerAccept {
            vote: Some(vote_to(vote)),
            ballot: ballot_to(ballot),
            value: value.to_record(),
        }),
        Message::Accepted { vote, ballot } => Body::Accepted(v1::PeerAccepted {
            vote: Some(vote_to(vote)),
            ballot: ballot_to(ballot),
        }),
        Message::Nack {
            vote,
            ballot,
            promised,
        } => Body::Nack(v1::PeerNack {
            vote: Some(vote_to(vote)),
            ballot: ballot_to(ballot),
            promised: ballot_to(promised),
        }),
        Message::Read { vote, have } => Body::Read(v1::PeerRead {
            vote: Some(vote_to(vote)),
            have: ballot_to(have),
        }),
        Message::ReadAnswer { vote, answer } => Body::ReadAnswer(read_answer_to(vote, answer)),
        Message::StaleEpoch { vote, epoch } => Body::StaleEpoch(v1::PeerStaleEpoch {
            vote: Some(vote_to(vote)),
            epoch: Some(epoch_to(epoch)),
        }),
        other => return errand_body_to(other),
    })
}

fn errand_body_to(message: Message) -> Option<Body> {
    Some(match message {
        Message::Delegate {
            vote,
            ballot,
            promise,
            errands,
        } => Body::Delegate(delegate_to(vote, ballot, promise, errands)),
        Message::Delegated {
            vote,
            ballot,
            executed,
        } => Body::Delegated(v1::PeerDelegated {
            vote: Some(vote_to(vote)),
            ballot: ballot_to(ballot),
            executed: executed.to_record(),
        }),
        Message::Combine { vote, errand } => Body::Combine(v1::PeerCombine {
            vote: Some(vote_to(vote)),
            errand: errand.to_record(),
        }),
        Message::Combined {
            vote,
            ballot,
            combined,
        } => Body::Combined(v1::PeerCombined {
            vote: Some(vote_to(vote)),
            ballot: ballot_to(ballot),
            combined: combined.to_record(),
        }),
        _ => return None,
    })
}

fn body_from(body: Body) -> Read<Message> {
    Ok(match body {
        Body::Heartbeat(body) => Message::Heartbeat(heartbeat_from(body)?),
        Body::Forward(body) => Message::Forward {
            id: body.id,
            start: body.start,
            request: request_from(need(body.request, "request")?)?,
        },
        Body::Forwarded(body) => Message::Forwarded {
            id: body.id,
            result: result_from(need(body.result, "result")?)?,
        },
        Body::StartAsk(_) => Message::StartAsk,
        Body::StartAnswer(body) => Message::StartAnswer {
            seen: body.seen,
            seen_start: body.seen_start,
            lost: body.lost,
        },
        Body::ClockRefused(body) => Message::ClockRefused {
            ahead_ms: body.ahead_ms,
        },
        other => return log_from(other),
    })
}

fn log_from(body: Body) -> Read<Message> {
    Ok(match body {
        Body::Append(body) => Message::Append(Append {
            shard: shard_from(body.shard)?,
            run: run_from(need(body.run, "run")?)?,
            committed: body.committed,
            others: prefixes_from(body.others)?,
            place: body.place.map(|place| Place {
                after: place.after,
                number: place.number,
                complete: Hlc(place.complete),
            }),
        }),
        Body::Committed(body) => {
            let Prefix { origin, seq } = prefix_from(need(body.end, "end")?)?;
            let shard = shard_from(body.shard)?;
            Message::Committed { shard, origin, seq }
        }
        Body::Acknowledge(body) => {
            let Prefix { origin, seq } = prefix_from(need(body.end, "end")?)?;
            let shard = shard_from(body.shard)?;
            Message::Acknowledge { shard, origin, seq }
        }
        Body::ExchangeRequest(body) => Message::ExchangeRequest {
            digests: body.digests,
        },
        Body::ExchangeReply(body) => {
            let vector = |vector: v1::ShardVector| {
                Ok((shard_from(vector.shard)?, prefixes_from(vector.prefixes)?))
            };
            let vectors = body.vectors.into_iter().map(vector);
            Message::ExchangeReply {
                vectors: vectors.collect::<Read<_>>()?,
            }
        }
        Body::Pull(body) => Message::Pull {
            shard: shard_from(body.shard)?,
            have: prefixes_from(body.have)?,
        },
        Body::Entries(body) => Message::Entries {
            shard: shard_from(body.shard)?,
            runs: body.runs.into_iter().map(run_from).collect::<Read<_>>()?,
            statements: body
                .statements
                .into_iter()
                .map(statement_from)
                .collect::<Read<_>>()?,
            more: body.more,
        },
        other => return vote_body_from(other),
    })
}

fn vote_body_from(body: Body) -> Read<Message> {
    Ok(match body {
        Body::Prepare(body) => Message::Prepare {
            vote: vote_from(body.vote)?,
            ballot: ballot_from(body.ballot)?,
        },
        Body::Promised(body) => Message::Promised {
            vote: vote_from(body.vote)?,
            ballot: ballot_from(body.ballot)?,
            promise: promise_from(body.accepted, body.value.as_ref(), body.eventual)?,
        },
        Body::Accept(body) => Message::Accept {
            vote: vote_from(body.vote)?,
            ballot: ballot_from(body.ballot)?,
            value: Arc::new(stored(&body.value, "value")?),
        },
        Body::Accepted(body) => Message::Accepted {
            vote: vote_from(body.vote)?,
            ballot: ballot_from(body.ballot)?,
        },
        Body::Delegate(body) => Message::Delegate {
            vote: vote_from(body.vote)?,
            ballot: ballot_from(body.ballot)?,
            promise: promise_from(body.accepted, body.value.as_ref(), body.eventual)?,
            errands: stored::<Errands>(&body.errand, "errand")?.0,
        },
        Body::Delegated(body) => Message::Delegated {
            vote: vote_from(body.vote)?,
            ballot: ballot_from(body.ballot)?,
            executed: stored(&body.executed, "executed")?,
        },
        Body::Combine(body) => Message::Combine {
            vote: vote_from(body.vote)?,
            errand: stored(&body.errand, "errand")?,
        },
        Body::Combined(body) => Message::Combined {
            vote: vote_from(body.vote)?,
            ballot: ballot_from(body.ballot)?,
            combined: stored(&body.combined, "combined")?,
        },
        Body::Nack(body) => Message::Nack {
            vote: vote_from(body.vote)?,
            ballot: ballot_from(body.ballot)?,
            promised: ballot_from(body.promised)?,
        },
        Body::Read(body) => Message::Read {
            vote: vote_from(body.vote)?,
            have: ballot_from(body.have)?,
        },
        Body::ReadAnswer(body) => Message::ReadAnswer {
            vote: vote_from(body.vote)?,
            answer: ReadAnswer {
                accepted: ballot_from(body.accepted)?,
                chosen: ballot_from(body.chosen)?,
                value: value_from(body.value.as_ref())?,
                eventual: body.eventual.map(eventual_from).transpose()?,
            },
        },
        Body::StaleEpoch(body) => Message::StaleEpoch {
            vote: vote_from(body.vote)?,
            epoch: epoch_from(body.epoch)?,
        },
        _ => return Err(WireError { what: "kind" }),
    })
}

fn heartbeat_to(heartbeat: Heartbeat) -> v1::PeerHeartbeat {
    let assigned = |(shard, origin, seq)| v1::Assigned {
        shard: shard_to(shard),
        end: Some(prefix_to(Prefix { origin, seq })),
    };
    v1::PeerHeartbeat {
        ping: heartbeat.ping,
        echo: heartbeat.echo.map(|echo| v1::Echo {
            ping: echo.ping,
            held_us: echo.held_us,
        }),
        since: heartbeat.since,
        assigned: heartbeat.assigned.into_iter().map(assigned).collect(),
        digest: heartbeat.digest,
        votes: heartbeat.votes,
        lost: heartbeat.lost,
        urgent: heartbeat.urgent,
        quorum_us: heartbeat.quorum_us,
    }
}

fn heartbeat_from(body: v1::PeerHeartbeat) -> Read<Heartbeat> {
    let assigned = |assigned: v1::Assigned| {
        let Prefix { origin, seq } = prefix_from(need(assigned.end, "end")?)?;
        Ok((shard_from(assigned.shard)?, origin, seq))
    };
    Ok(Heartbeat {
        ping: body.ping,
        echo: body.echo.map(|echo| Echo {
            ping: echo.ping,
            held_us: echo.held_us,
        }),
        since: body.since,
        assigned: body
            .assigned
            .into_iter()
            .map(assigned)
            .collect::<Read<_>>()?,
        digest: body.digest,
        votes: body.votes,
        lost: body.lost,
        urgent: body.urgent,
        quorum_us: body.quorum_us,
    })
}

fn promised_to(vote: Vote, ballot: Ballot, promise: Promise) -> v1::PeerPromised {
    v1::PeerPromised {
        vote: Some(vote_to(vote)),
        ballot: ballot_to(ballot),
        accepted: ballot_to(promise.accepted),
        value: promise.value.map(|value| value.to_record()),
        eventual: promise.eventual.map(eventual_to),
    }
}

fn delegate_to(
    vote: Vote,
    ballot: Ballot,
    promise: Promise,
    errands: Vec<Errand>,
) -> v1::PeerDelegate {
    v1::PeerDelegate {
        vote: Some(vote_to(vote)),
        ballot: ballot_to(ballot),
        accepted: ballot_to(promise.accepted),
        value: promise.value.map(|value| value.to_record()),
        eventual: promise.eventual.map(eventual_to),
        errand: Errands(errands).to_record(),
    }
}

fn read_answer_to(vote: Vote, answer: ReadAnswer) -> v1::PeerReadAnswer {
    v1::PeerReadAnswer {
        vote: Some(vote_to(vote)),
        accepted: ballot_to(answer.accepted),
        chosen: ballot_to(answer.chosen),
        value: answer.value.map(|value| value.to_record()),
        eventual: answer.eventual.map(eventual_to),
    }
}

fn promise_from(
    accepted: Option<v1::Ballot>,
    value: Option<&Bytes>,
    eventual: Option<v1::Eventual>,
) -> Read<Promise> {
    Ok(Promise {
        accepted: ballot_from(accepted)?,
        value: value_from(value)?,
        eventual: eventual.map(eventual_from).transpose()?,
    })
}

fn value_from(value: Option<&Bytes>) -> Read<Option<Arc<StrongValue>>> {
    value
        .map(|value| stored(value, "value").map(Arc::new))
        .transpose()
}

fn eventual_to(eventual: Eventual) -> v1::Eventual {
    v1::Eventual {
        state: eventual.state.to_record(),
        context: eventual.context.to_record(),
    }
}

fn eventual_from(eventual: v1::Eventual) -> Read<Eventual> {
    Ok(Eventual {
        state: stored(&eventual.state, "state")?,
        context: stored(&eventual.context, "context")?,
    })
}

fn vote_to(vote: Vote) -> v1::Vote {
    v1::Vote {
        row: vote.row.as_bytes().clone(),
        epoch: Some(epoch_to(vote.epoch)),
        round: vote.round,
    }
}

fn vote_from(vote: Option<v1::Vote>) -> Read<Vote> {
    let vote = need(vote, "vote")?;
    Ok(Vote {
        row: row(vote.row)?,
        epoch: epoch_from(vote.epoch)?,
        round: vote.round,
    })
}

fn epoch_to(epoch: ShardEpoch) -> v1::ShardEpoch {
    v1::ShardEpoch {
        n: epoch.n,
        proposer: u32::from(epoch.proposer),
    }
}

fn epoch_from(epoch: Option<v1::ShardEpoch>) -> Read<ShardEpoch> {
    let epoch = need(epoch, "epoch")?;
    Ok(ShardEpoch {
        n: epoch.n,
        proposer: small(epoch.proposer, "epoch proposer")?,
    })
}

/// The zero ballot is an absent one.
fn ballot_to(ballot: Ballot) -> Option<v1::Ballot> {
    (ballot != Ballot::ZERO).then(|| v1::Ballot {
        n: ballot.n,
        origin: Some(origin_to(ballot.origin)),
    })
}

fn ballot_from(ballot: Option<v1::Ballot>) -> Read<Ballot> {
    let Some(ballot) = ballot else {
        return Ok(Ballot::ZERO);
    };
    Ok(Ballot {
        n: ballot.n,
        origin: origin_from(ballot.origin)?,
    })
}

fn origin_to(origin: Origin) -> v1::Origin {
    v1::Origin {
        node: u32::from(origin.node.0),
        incarnation: origin.incarnation,
    }
}

fn origin_from(origin: Option<v1::Origin>) -> Read<Origin> {
    let origin = need(origin, "origin")?;
    Ok(Origin {
        node: node(origin.node)?,
        incarnation: origin.incarnation,
    })
}

/// A node's number.
pub(super) fn node(number: u32) -> Read<NodeId> {
    small(number, "node").map(NodeId)
}

fn shard_to(shard: ShardId) -> Option<v1::Shard> {
    Some(v1::Shard {
        keyspace: u32::from(shard.keyspace.0),
        index: u32::from(shard.index),
    })
}

fn shard_from(shard: Option<v1::Shard>) -> Read<ShardId> {
    let shard = need(shard, "shard")?;
    Ok(ShardId {
        keyspace: KeyspaceId(small(shard.keyspace, "keyspace")?),
        index: small(shard.index, "shard")?,
    })
}

fn prefix_to(prefix: Prefix) -> v1::Prefix {
    v1::Prefix {
        origin: Some(origin_to(prefix.origin)),
        seq: prefix.seq,
    }
}

fn prefix_from(prefix: v1::Prefix) -> Read<Prefix> {
    Ok(Prefix {
        origin: origin_from(prefix.origin)?,
        seq: prefix.seq,
    })
}

fn prefixes_to(prefixes: Vec<Prefix>) -> Vec<v1::Prefix> {
    prefixes.into_iter().map(prefix_to).collect()
}

fn prefixes_from(prefixes: Vec<v1::Prefix>) -> Read<Vec<Prefix>> {
    prefixes.into_iter().map(prefix_from).collect()
}

fn run_to(run: Run) -> v1::Run {
    v1::Run {
        origin: Some(origin_to(run.origin)),
        first: run.first,
        entries: run.entries,
    }
}

fn run_from(run: v1::Run) -> Read<Run> {
    Ok(Run {
        origin: origin_from(run.origin)?,
        first: run.first,
        entries: run.entries,
    })
}

fn statement_to(statement: Statement) -> v1::Statement {
    let end = |(origin, seq)| prefix_to(Prefix { origin, seq });
    v1::Statement {
        node: u32::from(statement.node.0),
        hlc: statement.hlc.0,
        ends: statement.ends.into_iter().map(end).collect(),
    }
}

fn statement_from(statement: v1::Statement) -> Read<Statement> {
    let end = |prefix| prefix_from(prefix).map(|prefix| (prefix.origin, prefix.seq));
    Ok(Statement {
        node: node(statement.node)?,
        hlc: Hlc(statement.hlc),
        ends: statement.ends.into_iter().map(end).collect::<Read<_>>()?,
    })
}
