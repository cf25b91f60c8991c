use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use hansa_consistency::codec::Encode as _;
use hansa_consistency::key::{ClusterId, RegionId, ShardId};
use hansa_consistency::message::{
    Append, Echo, Envelope, Heartbeat, Message, Place, Prefix, Run, Statement, Vote,
};
use hansa_consistency::register::proposer::Eventual;
use hansa_consistency::register::{
    Action, Combined, Errand, Executed, Expect, Operation, Outcome, Promise, ReadAnswer,
    StrongValue,
};
use hansa_consistency::request::{Answer, Applied, Reason, Refusal, Reply, Scan, ScannedRow};
use hansa_consistency::value::State;
use hansa_consistency::version::{Ballot, Dot, Origin, ShardEpoch, Stamp, Tag};
use prost::Message as _;

use super::*;
use crate::settings::{TOPOLOGY_EXAMPLE, TopologySettings};

fn origin() -> Origin {
    Origin {
        node: NodeId(2),
        incarnation: 0xdead_beef,
    }
}

fn ballot(n: u64) -> Ballot {
    Ballot {
        n,
        origin: origin(),
    }
}

fn shard() -> ShardId {
    ShardId {
        keyspace: KeyspaceId(3),
        index: 63,
    }
}

fn a_row() -> Row {
    Row::new(KeyspaceId(3), 64, b"key\0", b"sort", Some(b"")).unwrap()
}

fn vote() -> Vote {
    Vote {
        row: a_row(),
        epoch: ShardEpoch { n: 4, proposer: 5 },
        round: u64::MAX,
    }
}

fn seen() -> Context {
    Context::of(RegionId(1), Hlc(77))
}

fn state() -> State {
    let dot = Dot {
        origin: origin(),
        seq: 6,
    };
    let stamp = Stamp {
        strong_version: 1,
        hlc: Hlc(8),
        tag: Tag::Entry(dot),
    };
    State::register(stamp, Some(Bytes::from_static(b"value")))
}

fn strong_value() -> Arc<StrongValue> {
    let mut value = StrongValue::default();
    value.strong_version = 3;
    value.state = Some(state());
    value.deps = seen();
    Arc::new(value)
}

fn eventual() -> Eventual {
    Eventual {
        state: state(),
        context: seen(),
    }
}

fn run() -> Run {
    Run {
        origin: origin(),
        first: 9,
        entries: vec![Bytes::from_static(b"entry"), Bytes::new()],
    }
}

fn prefix(seq: u64) -> Prefix {
    Prefix {
        origin: origin(),
        seq,
    }
}

fn request(command: Command) -> Request {
    Request {
        command,
        level: Level::Session,
        context: seen(),
        request_id: Some(RequestId {
            session: 1,
            seq: 2,
            issued: Hlc(3),
        }),
        retry_of: Some((NodeId(1), Level::Session)),
        ack_regions: 2,
        deadline: Duration::from_micros(1_234_567),
    }
}

fn commands() -> Vec<Command> {
    let bytes = Bytes::from_static(b"bytes");
    vec![
        Command::Get(a_row()),
        Command::Put(a_row(), bytes.clone()),
        Command::Delete(a_row()),
        Command::CompareAndSet(a_row(), Expect::Absent, None),
        Command::CompareAndSet(a_row(), Expect::Etag(bytes.clone()), Some(Bytes::new())),
        Command::CompareAndSet(a_row(), Expect::Value(bytes.clone()), Some(bytes.clone())),
        Command::Increment(a_row(), i64::MIN),
        Command::AddElement(a_row()),
        Command::RemoveElement(a_row()),
        Command::Scan(Scan {
            keyspace: KeyspaceId(3),
            from: bytes.clone(),
            to: bytes,
            limit: 1000,
        }),
    ]
}

fn receipt() -> Receipt {
    Receipt {
        staleness: Some(Duration::from_micros(1500)),
        replicas: vec![NodeId(0), NodeId(2)],
        regions: vec![RegionId(0), RegionId(2)],
        durable_regions: vec![RegionId(2)],
        wan_round_trips: 2,
        path: Some(hansa_consistency::request::Path::Prepared),
        absorbed: true,
        merged: true,
        forwarded_to: Some(NodeId(0)),
    }
}

fn results() -> Vec<Result<Reply, Refusal>> {
    let found = [
        Found::Nothing,
        Found::Value(Bytes::new()),
        Found::Total(-1),
        Found::Member,
    ];
    let row = |found| ScannedRow {
        row: a_row(),
        found,
        etag: Bytes::from_static(b"e"),
    };
    let answers = found.clone().map(|found| Answer::Read {
        found,
        etag: Bytes::from_static(b"e"),
    });
    let mut answers = answers.to_vec();
    answers.push(Answer::Written {
        etag: Bytes::new(),
        total: i64::MAX,
    });
    for next in [None, Some(Bytes::new())] {
        let rows = found.clone().map(row).to_vec();
        answers.push(Answer::Page { rows, next });
    }
    let reply = |answer| Reply {
        answer,
        level: Level::Strong,
        context: seen(),
        hlc: Hlc(5),
        receipt: receipt(),
    };
    let refusals = Reason::ALL.map(|reason| Refusal {
        applied: Applied::Maybe,
        etag: Bytes::from_static(b"e"),
        context: seen(),
        ..Refusal::not_applied(reason, "why")
    });
    let replies = answers.into_iter().map(|answer| Ok(reply(answer)));
    replies.chain(refusals.map(Err)).collect()
}

/// Every kind at least once. A new kind does not compile until it has its number here.
fn number(message: &Message) -> usize {
    match message {
        Message::Heartbeat(_) => 0,
        Message::Append(_) => 1,
        Message::Committed { .. } => 2,
        Message::Acknowledge { .. } => 3,
        Message::ExchangeRequest { .. } => 4,
        Message::ExchangeReply { .. } => 5,
        Message::Pull { .. } => 6,
        Message::Entries { .. } => 7,
        Message::Prepare { .. } => 8,
        Message::Promised { .. } => 9,
        Message::Accept { .. } => 10,
        Message::Accepted { .. } => 11,
        Message::Nack { .. } => 12,
        Message::Read { .. } => 13,
        Message::ReadAnswer { .. } => 14,
        Message::StaleEpoch { .. } => 15,
        Message::Forward { .. } => 16,
        Message::Forwarded { .. } => 17,
        Message::StartAsk => 18,
        Message::StartAnswer { .. } => 19,
        Message::ClockRefused { .. } => 20,
        Message::Delegate { .. } => 21,
        Message::Delegated { .. } => 22,
        Message::Combine { .. } => 23,
        Message::Combined { .. } => 24,
    }
}

const KINDS: usize = 25;

fn log_messages() -> Vec<Message> {
    let (shard, origin) = (shard(), origin());
    vec![
        Message::Append(Append {
            shard,
            run: run(),
            committed: 8,
            others: vec![Prefix { origin, seq: 3 }],
            place: Some(Place {
                after: 4,
                number: 2,
                complete: Hlc(98),
            }),
        }),
        Message::Committed {
            shard,
            origin,
            seq: 7,
        },
        Message::Acknowledge {
            shard,
            origin,
            seq: 0,
        },
        Message::ExchangeRequest {
            digests: vec![0, u64::MAX],
        },
        Message::ExchangeReply {
            vectors: vec![(shard, vec![prefix(1), prefix(2)]), (shard, vec![])],
        },
        Message::Pull {
            shard,
            have: vec![prefix(0)],
        },
        Message::Entries {
            shard,
            runs: vec![run()],
            statements: vec![Statement {
                node: NodeId(1),
                hlc: Hlc(99),
                ends: vec![(origin, 9)],
            }],
            more: true,
        },
    ]
}

fn errand() -> Errand {
    let put = Operation {
        action: Action::Put(Bytes::from_static(b"value")),
        request: None,
        deps: Context::new(),
    };
    Errand {
        proposer: origin(),
        group: 12,
        oldest: 11,
        operations: vec![put],
        eventual: None,
    }
}

fn votes() -> Vec<Message> {
    let (vote, ballot) = (vote, ballot);
    let mut messages = vec![
        Message::Prepare {
            vote: vote(),
            ballot: ballot(1),
        },
        Message::Accept {
            vote: vote(),
            ballot: ballot(1),
            value: strong_value(),
        },
        Message::Accepted {
            vote: vote(),
            ballot: ballot(1),
        },
        Message::Nack {
            vote: vote(),
            ballot: ballot(1),
            promised: ballot(2),
        },
        Message::Read {
            vote: vote(),
            have: Ballot::ZERO,
        },
        Message::StaleEpoch {
            vote: vote(),
            epoch: ShardEpoch { n: 9, proposer: 1 },
        },
    ];
    for (value, eventual) in [(None, None), (Some(strong_value()), Some(eventual()))] {
        messages.push(Message::Promised {
            vote: vote(),
            ballot: ballot(3),
            promise: Promise {
                accepted: ballot(2),
                value: value.clone(),
                eventual: eventual.clone(),
            },
        });
        messages.push(Message::Delegate {
            vote: vote(),
            ballot: ballot(3),
            promise: Promise {
                accepted: ballot(2),
                value: value.clone(),
                eventual: eventual.clone(),
            },
            errands: vec![errand(), errand()],
        });
        messages.push(Message::Combine {
            vote: vote(),
            errand: Errand {
                eventual: eventual.clone(),
                ..errand()
            },
        });
        messages.push(Message::Combined {
            vote: vote(),
            ballot: ballot(3),
            combined: Combined {
                executed: Executed {
                    value: strong_value(),
                    outcomes: vec![Outcome::Read, Outcome::Unknown],
                    absorbed: value.is_some(),
                    recalled: false,
                },
                voters: vec![NodeId(0), NodeId(2)],
                round_trips: 2,
                busy: value.is_some(),
            },
        });
        messages.push(Message::Delegated {
            vote: vote(),
            ballot: ballot(3),
            executed: Executed {
                value: strong_value(),
                outcomes: vec![Outcome::Read, Outcome::Overflow],
                absorbed: value.is_some(),
                recalled: value.is_none(),
            },
        });
        messages.push(Message::ReadAnswer {
            vote: vote(),
            answer: ReadAnswer {
                accepted: ballot(2),
                chosen: Ballot::ZERO,
                value,
                eventual,
            },
        });
    }
    messages
}

fn messages() -> Vec<Message> {
    let heartbeat = Heartbeat {
        ping: 1,
        echo: Some(Echo {
            ping: 2,
            held_us: 3,
        }),
        since: 4,
        assigned: vec![(shard(), origin(), 5)],
        digest: Some(6),
        votes: true,
        lost: true,
        urgent: true,
        quorum_us: Some(90_000),
    };
    let quiet = Heartbeat {
        echo: None,
        digest: None,
        assigned: vec![],
        votes: false,
        ..heartbeat.clone()
    };
    let mut messages = vec![
        Message::Heartbeat(heartbeat),
        Message::Heartbeat(quiet),
        Message::StartAsk,
        Message::StartAnswer {
            seen: 1,
            seen_start: 2,
            lost: true,
        },
        Message::ClockRefused { ahead_ms: 600_000 },
    ];
    messages.extend(log_messages());
    messages.extend(votes());
    let forward = |command| Message::Forward {
        id: 1,
        start: 1_800_000_000,
        request: request(command),
    };
    messages.extend(commands().into_iter().map(forward));
    let forwarded = |result| Message::Forwarded { id: 1, result };
    messages.extend(results().into_iter().map(forwarded));
    messages
}

fn envelope(message: Message) -> Envelope {
    Envelope {
        cluster: ClusterId(u64::MAX),
        from: NodeId(1),
        start: 2,
        incarnation: 3,
        store_sequence: 4,
        hlc: Hlc(5),
        message,
    }
}

#[test]
fn every_kind_of_message_comes_back() {
    let mut numbers = BTreeSet::new();
    for message in messages() {
        numbers.insert(number(&message));
        let sent = envelope(message);
        let bytes = Bytes::from(envelope_to_wire(sent.clone()).encode_to_vec());
        let wire = v1::Envelope::decode(bytes).unwrap();
        assert_eq!(envelope_from_wire(wire), Ok(sent));
    }
    assert_eq!(numbers, (0..KINDS).collect());
}

#[test]
fn damaged_messages_are_refused_or_read_as_others_and_never_panic() {
    let (mut refused, mut read) = (0, 0);
    for message in messages() {
        let bytes = envelope_to_wire(envelope(message)).encode_to_vec();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            let cut = v1::Envelope::decode(&bytes[..at]);
            for wire in [v1::Envelope::decode(&damaged[..]), cut]
                .into_iter()
                .flatten()
            {
                match envelope_from_wire(wire) {
                    Ok(_) => read += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(
        refused > 500 && read > 500,
        "{refused} refused, {read} read"
    );
}

#[test]
fn required_fields_are_named() {
    let mut wire = envelope_to_wire(envelope(Message::StartAsk));
    wire.message = None;
    let error = envelope_from_wire(wire).unwrap_err();
    assert_eq!(error.to_string(), "a peer message without a valid message");
    let prepare = v1::envelope::Message::Prepare(v1::PeerPrepare::default());
    let mut wire = envelope_to_wire(envelope(Message::StartAsk));
    wire.message = Some(prepare);
    assert_eq!(envelope_from_wire(wire.clone()).unwrap_err().what, "vote");
    wire.from = 70_000;
    assert_eq!(envelope_from_wire(wire).unwrap_err().what, "node");
}

fn names() -> Names {
    let topology = TopologySettings::from_text(Path::new("t"), TOPOLOGY_EXAMPLE).unwrap();
    Names::new(&topology).unwrap()
}

fn at_noon() -> Now {
    Now {
        monotonic: Duration::from_secs(100),
        wall_ms: 1_000_000,
    }
}

fn taken(change: impl FnOnce(&mut v1::RequestOptions)) -> Result<Options, Failure> {
    let mut asked = v1::RequestOptions::default();
    change(&mut asked);
    options(&names(), at_noon(), Some(asked), Level::Eventual, None)
}

/// The field and reason of a refusal.
fn refused(change: impl FnOnce(&mut v1::RequestOptions)) -> (&'static str, &'static str) {
    let failure = taken(change).unwrap_err();
    assert_eq!(failure.applied, Applied::No);
    (failure.field, failure.reason)
}

fn id() -> v1::RequestId {
    v1::RequestId {
        session: 7,
        seq: 1,
        issued_hlc: 9,
        ..v1::RequestId::default()
    }
}

#[test]
fn options_have_defaults() {
    let options = options(&names(), at_noon(), None, Level::Session, None).unwrap();
    let request = options.request(Command::Get(a_row()));
    assert_eq!(request.level, Level::Session);
    assert_eq!(request.deadline, Duration::from_secs(105));
    assert_eq!((request.request_id, request.retry_of), (None, None));
    assert!(request.context.is_empty());
}

#[test]
fn options_out_of_bounds_name_their_field() {
    let level = |level: i32| refused(move |o| o.level = level);
    assert_eq!(level(99), ("options.level", "INVALID"));
    for later in [v1::Level::Bounded, v1::Level::Sla] {
        assert_eq!(
            level(later.into()),
            ("options.level", "LEVEL_NOT_AVAILABLE")
        );
    }
    assert_eq!(
        refused(|o| o.ack_regions = 3),
        ("options.ack_regions", "INVALID")
    );
    assert!(taken(|o| o.ack_regions = 2).is_ok());
    assert_eq!(
        refused(|o| o.deadline_ms = 60_001),
        ("options.deadline_ms", "INVALID")
    );
    assert_eq!(
        refused(|o| o.epoch = 2),
        ("options.epoch", "TOPOLOGY_EPOCH_DIFFERS")
    );
    assert!(taken(|o| o.epoch = 1).is_ok());
    let changed =
        |change: fn(&mut v1::RequestId)| refused(move |o| change(o.request_id.insert(id())));
    type Case = (fn(&mut v1::RequestId), &'static str);
    let cases: [Case; 5] = [
        (|id| id.session = 0, "options.request_id.session"),
        (|id| id.seq = 0, "options.request_id.seq"),
        (|id| id.issued_hlc = 0, "options.request_id.issued_hlc"),
        (|id| id.attempt = 1, "options.request_id.first_node"),
        (
            |id| {
                id.attempt = 1;
                id.first_node = "us-east-1".to_owned();
                id.first_level = 99;
            },
            "options.request_id.first_level",
        ),
    ];
    for (change, field) in cases {
        assert_eq!(changed(change), (field, "INVALID"));
    }
}

#[test]
fn a_retry_names_the_first_attempt() {
    let options = taken(|o| {
        o.request_id = Some(v1::RequestId {
            attempt: 1,
            first_node: "eu-central-1".to_owned(),
            first_level: v1::Level::Strong.into(),
            ..id()
        });
    });
    let request = options.unwrap().request(Command::Get(a_row()));
    assert_eq!(request.retry_of, Some((NodeId(1), Level::Strong)));
    assert_eq!(
        request.request_id.map(|id| (id.session, id.seq)),
        Some((7, 1))
    );
}

#[test]
fn a_retry_whose_first_attempt_named_no_level_was_at_the_default() {
    for default in [Level::Eventual, Level::Session, Level::Strong] {
        let asked = v1::RequestOptions {
            request_id: Some(v1::RequestId {
                attempt: 1,
                first_node: "eu-central-1".to_owned(),
                ..id()
            }),
            ..v1::RequestOptions::default()
        };
        let options = options(&names(), at_noon(), Some(asked), default, None).unwrap();
        let request = options.request(Command::Get(a_row()));
        assert_eq!(request.level, default);
        assert_eq!(request.retry_of, Some((NodeId(1), default)));
    }
}

#[test]
fn tokens_that_can_not_be_used_are_refused_by_kind() {
    let cluster = names().cluster();
    let token = |cluster, context: Context| SessionToken::encode(cluster, &context);
    let good = token(cluster, Context::of(RegionId(2), Hlc::from_ms(999_000)));
    let options = taken(|o| o.session_token = good.clone()).unwrap();
    assert_eq!(options.context.get(RegionId(2)), Hlc::from_ms(999_000));

    let mut newer = good.to_vec();
    newer[0] += 1;
    let early = Hlc::from_ms(1);
    let cases = [
        (good.slice(1..), "SESSION_TOKEN_MALFORMED"),
        (Bytes::from(newer), "SESSION_TOKEN_NEWER"),
        (
            token(ClusterId(1), Context::of(RegionId(2), early)),
            "SESSION_TOKEN_OTHER_CLUSTER",
        ),
        (
            token(cluster, Context::of(RegionId(3), early)),
            "SESSION_TOKEN_OTHER_CLUSTER",
        ),
        (
            token(cluster, Context::of(RegionId(2), Hlc::from_ms(1_600_000))),
            "CLOCK_OUT_OF_BOUNDS",
        ),
    ];
    for (token, reason) in cases {
        let expected = ("options.session_token", reason);
        assert_eq!(refused(|o| o.session_token = token), expected);
    }
}

#[test]
fn the_smaller_deadline_wins_and_leaves_time_to_answer() {
    let ms = Duration::from_millis;
    assert_eq!(budget(0, None), Ok(ms(5000)));
    assert_eq!(budget(100, Some(ms(1000))), Ok(ms(100)));
    assert_eq!(budget(1000, Some(ms(200))), Ok(ms(190)));
    assert_eq!(budget(1000, Some(ms(20))), Ok(ms(18)));
    assert_eq!(budget(1000, Some(ms(0))), Ok(ms(0)));
}

#[test]
fn receipts_are_told_by_name_and_rounded_up() {
    let header = header(
        &names(),
        NodeId(1),
        Level::Strong,
        &seen(),
        Hlc(4),
        &receipt(),
    );
    let told = header.receipt.unwrap();
    assert_eq!(told.staleness_ms, Some(2));
    assert_eq!(
        (told.served_by.as_str(), told.served_in.as_str()),
        ("eu-central-1", "eu-central")
    );
    assert_eq!(told.regions, ["us-east", "ap-northeast"]);
    assert_eq!(told.durable_regions, ["ap-northeast"]);
    assert_eq!(told.forwarded_to, "us-east-1");
    assert_eq!((header.server_hlc, header.epoch), (4, 1));
}

#[test]
fn joined_receipts_are_worth_the_worst_part() {
    let mut sum = receipt();
    let part = Receipt {
        staleness: Some(Duration::from_secs(1)),
        replicas: vec![NodeId(1)],
        ..Receipt::default()
    };
    sum.join(&part);
    assert_eq!(sum.staleness, Some(Duration::from_secs(1)));
    assert_eq!(sum.replicas, [NodeId(0), NodeId(1), NodeId(2)]);
    sum.join(&Receipt::default());
    assert_eq!(sum.staleness, None);
}

#[test]
fn rows_are_checked_against_the_keyspace() {
    let names = names();
    let row = |keyspace: &str, key: &[u8], element: Option<&[u8]>| {
        let target = target(&names, keyspace).unwrap();
        let checked = target.row(key, b"", element);
        checked.map_err(|failure| (failure.field, failure.reason))
    };
    assert!(row("profiles", b"k", None).is_ok());
    assert_eq!(row("carts", b"k", None), Err(("element", "WRONG_TYPE")));
    assert_eq!(
        row("stock", b"k", Some(b"e")),
        Err(("element", "WRONG_TYPE"))
    );
    assert_eq!(row("profiles", b"", None), Err(("key", "INVALID")));
    assert_eq!(row("profiles", &[1; 4097], None), Err(("key", "INVALID")));
    assert_eq!(
        row("carts", b"k", Some(&[1; 4097])),
        Err(("element", "INVALID"))
    );
    assert_eq!(
        target(&names, "mars").unwrap_err().reason,
        "UNKNOWN_KEYSPACE"
    );
    assert_eq!(target(&names, "").unwrap_err().field, "keyspace");
    assert!(value("value", Bytes::from(vec![0; 1 << 20])).is_ok());
    assert_eq!(
        value("value", Bytes::from(vec![0; (1 << 20) + 1]))
            .unwrap_err()
            .field,
        "value"
    );
    // A state's stored form is what the messages carry: a change of it changes the wire.
    assert_eq!(state().to_record()[0], 1);
}
