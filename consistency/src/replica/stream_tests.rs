//! One replica whose peers are played by hand: what it sends and keeps for streams of entries.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::key::ClusterId;
use crate::key::KeyspaceId;
use crate::limits::{
    EXCHANGE_GROUPS, EXCHANGE_SHARDS_MAX, PULLS_PER_PEER_MAX, PUSH_AGAIN_MS, PUSH_BYTES_MAX,
};
use crate::message::{Append, Echo, Heartbeat, Prefix, Run, Statement};
use crate::record::{Change, Entry};
use crate::request::{Command, Reply};
use crate::session::Context;
use crate::topology::{Keyspace, Mixing, ValueType};
use crate::value::State;
use crate::version::{Dot, Seq, Stamp, Tag};

const WALL_MS: u64 = 1_700_000_000_000;

/// A store in memory on which every write is durable at once.
#[derive(Default)]
struct Disk(BTreeMap<(Family, Bytes), Bytes>);

impl Reader for Disk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged> {
        Ok(self.0.get(&(family, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Damaged> {
        let pairs = self.0.range((family, Bytes::copy_from_slice(from))..);
        for ((at, key), value) in pairs {
            let inside = *at == family && to.is_none_or(|to| &key[..] < to);
            if !inside || visit(key, value.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Three regions with as many nodes each as asked for; node 0 is the replica under test.
struct Bench {
    replica: Replica,
    disk: Disk,
    now: Now,
    sent: Vec<(NodeId, Message)>,
    replies: BTreeMap<OpId, Result<Reply, Refusal>>,
    next_op: u64,
    pings: u64,
}

fn topology(nodes: u16, replicas: u16, shards: u16) -> Topology {
    let of = |r: u16| (0..nodes).map(move |n| NodeId(r * nodes + n)).collect();
    Topology {
        cluster: ClusterId::of("bench"),
        regions: (0..3u8).map(|r| (RegionId(r), of(u16::from(r)))).collect(),
        keyspaces: vec![Keyspace {
            value_type: ValueType::Register,
            regions: (0..3).map(RegionId).collect(),
            replicas,
            shards,
            mixing: Mixing::StrongWins,
        }],
    }
}

fn opened(topology: Arc<Topology>, start: u64, lost: bool, now: Now, disk: &Disk) -> Replica {
    let config = Config {
        node: NodeId(0),
        topology,
        rules: Rules::default(),
    };
    let opened = Opened {
        incarnation: 7,
        start,
        lost,
    };
    Replica::open(config, opened, start, now, disk).unwrap()
}

impl Bench {
    fn new(nodes: u16, replicas: u16, shards: u16) -> Bench {
        let disk = Disk::default();
        let now = Now {
            monotonic: Duration::from_secs(10),
            wall_ms: WALL_MS,
        };
        let topology = Arc::new(topology(nodes, replicas, shards));
        let replica = opened(topology, 1, false, now, &disk);
        let mut bench = Bench {
            replica,
            disk,
            now,
            sent: Vec::new(),
            replies: BTreeMap::new(),
            next_op: 0,
            pings: 0,
        };
        bench.feed(Event::Started);
        for node in 1..nodes * 3 {
            bench.feed(Event::LinkUp(NodeId(node)));
        }
        bench.sent.clear();
        bench
    }

    fn restart(&mut self, start: u64, lost: bool) {
        let topology = self.replica.topology.clone();
        self.replica = opened(topology, start, lost, self.now, &self.disk);
        self.feed(Event::Started);
        for node in self.replica.peers.keys().copied().collect::<Vec<NodeId>>() {
            self.feed(Event::LinkUp(node));
        }
        self.sent.clear();
    }

    fn feed(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.replica.step(self.now, event, &self.disk, &mut effects);
        for effect in effects {
            match effect {
                Effect::Persist(writes) => {
                    for write in writes {
                        let key = (write.family, write.key);
                        match write.value {
                            Some(value) => self.disk.0.insert(key, value),
                            None => self.disk.0.remove(&key),
                        };
                    }
                }
                Effect::Send { to, envelope } => self.sent.push((to, envelope.message)),
                Effect::Reply { id, result, .. } => {
                    self.replies.insert(id, result);
                }
                Effect::StoreSequence { .. } | Effect::Wake(_) | Effect::Note(_) => {}
            }
        }
    }

    fn receive(&mut self, from: u16, message: Message) {
        self.receive_as(from, 1000, message);
    }

    fn receive_as(&mut self, from: u16, incarnation: u32, message: Message) {
        let envelope = Envelope {
            cluster: self.replica.topology.cluster,
            from: NodeId(from),
            start: 1,
            incarnation,
            store_sequence: 1,
            hlc: Hlc::from_ms(self.now.wall_ms),
            message,
        };
        self.feed(Event::Received(envelope));
    }

    fn wait(&mut self, ms: u64) {
        self.now.monotonic += Duration::from_millis(ms);
        self.now.wall_ms += ms;
        self.feed(Event::Tick);
    }

    fn ask(&mut self, command: Command, level: Level, context: Context, ack_regions: u8) -> OpId {
        self.next_op += 1;
        let id = OpId(self.next_op);
        let request = Request {
            command,
            level,
            context,
            request_id: None,
            retry_of: None,
            ack_regions,
            deadline: self.now.monotonic + Duration::from_secs(5),
        };
        self.feed(Event::Request { id, request });
        id
    }

    fn put(&mut self, row: &Row, bytes: usize) -> OpId {
        let command = Command::Put(row.clone(), Bytes::from(vec![b'x'; bytes]));
        self.ask(command, Level::Eventual, Context::new(), 0)
    }

    fn heartbeat(&mut self, from: u16, lost: bool) -> Message {
        self.pings += 1;
        let echo = self.replica.peers[&NodeId(from)].pinged;
        Message::Heartbeat(Heartbeat {
            ping: self.pings,
            echo: Some(Echo {
                ping: echo,
                held_us: 0,
            }),
            since: 0,
            assigned: Vec::new(),
            digest: None,
            votes: true,
            lost,
            urgent: false,
            quorum_us: None,
        })
    }

    /// A first word of every peer; none of them votes yet, so that it says nothing of what they wrote.
    fn greet(&mut self) {
        for node in self.replica.peers.keys().copied().collect::<Vec<NodeId>>() {
            let mut greeting = self.heartbeat(node.0, false);
            if let Message::Heartbeat(heartbeat) = &mut greeting {
                heartbeat.votes = false;
            }
            self.receive(node.0, greeting);
        }
        self.sent.clear();
    }

    fn held(&self, shard: ShardId) -> &Shard {
        &self.replica.shards[&shard]
    }

    fn own_origin(&self) -> Origin {
        *self.replica.origins.last().unwrap()
    }

    /// What was sent to a node since asked last.
    fn sent_to(&mut self, node: u16) -> Vec<Message> {
        let (to, rest) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|(to, _)| *to == NodeId(node));
        self.sent = rest;
        let to: Vec<(NodeId, Message)> = to;
        to.into_iter().map(|(_, message)| message).collect()
    }

    fn appends_to(&mut self, node: u16) -> Vec<Append> {
        let append = |message| match message {
            Message::Append(append) => Some(append),
            _ => None,
        };
        self.sent_to(node).into_iter().filter_map(append).collect()
    }

    fn pulls_to(&mut self, node: u16) -> Vec<ShardId> {
        let pull = |message: Message| match message {
            Message::Pull { shard, .. } => Some(shard),
            _ => None,
        };
        self.sent_to(node).into_iter().filter_map(pull).collect()
    }
}

fn row(shards: u16, number: u32) -> Row {
    Row::new(KeyspaceId(0), shards, &number.to_be_bytes(), b"", None).unwrap()
}

/// Rows of different shards.
fn rows(shards: u16, count: usize) -> Vec<Row> {
    let mut found: BTreeMap<ShardId, Row> = BTreeMap::new();
    for number in 0.. {
        let row = row(shards, number);
        found.entry(row.shard()).or_insert(row);
        if found.len() == count {
            break;
        }
    }
    found.into_values().collect()
}

fn origin(node: u16) -> Origin {
    Origin {
        node: NodeId(node),
        incarnation: 1000,
    }
}

fn entry(row: &Row, node: u16, seq: Seq) -> Bytes {
    let hlc = Hlc::from_ms(WALL_MS - 10_000 + seq);
    let dot = Dot {
        origin: origin(node),
        seq,
    };
    let stamp = Stamp {
        strong_version: 0,
        hlc,
        tag: Tag::Entry(dot),
    };
    let change = Change {
        row: row.clone(),
        state: State::register(stamp, Some(Bytes::from_static(b"value"))),
        chosen: Ballot::ZERO,
    };
    let entry = Entry {
        hlc,
        deps: Context::new(),
        request: None,
        changes: vec![change],
        extension: Bytes::new(),
    };
    entry.to_record()
}

fn run(row: &Row, node: u16, first: Seq, count: u64) -> Run {
    Run {
        origin: origin(node),
        first,
        entries: (first..first + count)
            .map(|s| entry(row, node, s))
            .collect(),
    }
}

fn entries(row: &Row, runs: Vec<Run>, more: bool) -> Message {
    Message::Entries {
        shard: row.shard(),
        runs,
        statements: Vec::new(),
        more,
    }
}

fn ahead(rows: &[Row], node: u16) -> Message {
    let prefix = Prefix {
        origin: origin(node),
        seq: 1,
    };
    let vectors = rows.iter().map(|r| (r.shard(), vec![prefix])).collect();
    Message::ExchangeReply { vectors }
}

// --- exchange

#[test]
fn every_shard_has_its_turn_in_an_exchange() {
    let mut bench = Bench::new(1, 1, 1500);
    let written = rows(1500, 1200);
    for row in &written {
        bench.put(row, 1);
    }
    bench.sent.clear();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let digests = vec![0; EXCHANGE_GROUPS];
        bench.receive(1, Message::ExchangeRequest { digests });
        for message in bench.sent_to(1) {
            if let Message::ExchangeReply { vectors } = message {
                assert!(vectors.len() <= EXCHANGE_SHARDS_MAX);
                seen.extend(vectors.into_iter().map(|(shard, _)| shard));
            }
        }
    }
    assert_eq!(seen.len(), written.len());
}

#[test]
fn catching_up_goes_on_when_an_answer_comes() {
    let mut bench = Bench::new(1, 1, 64);
    let behind = rows(64, 40);
    bench.receive(1, ahead(&behind, 1));
    let mut asked = bench.pulls_to(1);
    assert_eq!(asked.len(), PULLS_PER_PEER_MAX);
    let mut answered = 0;
    while let Some(shard) = asked.get(answered).copied() {
        let row = behind.iter().find(|row| row.shard() == shard).unwrap();
        bench.receive(1, entries(row, vec![run(row, 1, 1, 1)], false));
        asked.extend(bench.pulls_to(1));
        answered += 1;
    }
    assert_eq!(answered, behind.len());
}

#[test]
fn a_session_asks_at_once_though_much_is_being_pulled() {
    let mut bench = Bench::new(1, 1, 64);
    let rows = rows(64, 41);
    bench.receive(1, ahead(&rows[..40], 1));
    bench.sent.clear();
    let seen = Context::of(RegionId(1), Hlc::from_ms(bench.now.wall_ms));
    bench.ask(Command::Get(rows[40].clone()), Level::Session, seen, 0);
    assert_eq!(bench.pulls_to(1), [rows[40].shard()]);
}

#[test]
fn more_is_pulled_only_after_progress() {
    let mut bench = Bench::new(1, 1, 1);
    let row = row(1, 0);
    bench.receive(1, ahead(std::slice::from_ref(&row), 1));
    assert_eq!(bench.pulls_to(1).len(), 1);
    bench.receive(1, entries(&row, vec![run(&row, 1, 1, 1)], true));
    assert_eq!(bench.pulls_to(1).len(), 1);
    bench.receive(1, entries(&row, vec![run(&row, 1, 1, 1)], true));
    assert_eq!(bench.pulls_to(1).len(), 0);
}

#[test]
fn what_was_pulled_has_its_safe_time_behind_it() {
    let mut bench = Bench::new(1, 1, 1);
    let row = row(1, 0);
    bench.put(&row, 1);
    bench.wait(100);
    bench.sent.clear();
    let have = Vec::new();
    let shard = row.shard();
    bench.receive(1, Message::Pull { shard, have });
    let names: Vec<&str> = bench.sent_to(1).iter().map(Message::name).collect();
    assert_eq!(names, ["entries", "heartbeat"]);
}

#[test]
fn a_pulled_run_applies_no_further_than_it_reaches() {
    let mut bench = Bench::new(3, 3, 1);
    let row = row(1, 0);
    let append = Append {
        shard: row.shard(),
        run: run(&row, 1, 1, 3),
        committed: 0,
        others: Vec::new(),
        place: None,
    };
    bench.receive(1, Message::Append(append));
    assert_eq!(bench.held(row.shard()).logs[&origin(1)].logged, 3);
    bench.receive(2, entries(&row, vec![run(&row, 1, 1, 1)], false));
    assert_eq!(bench.held(row.shard()).applied(origin(1)), 1);
}

// --- the own log

#[test]
fn a_statement_counts_only_when_the_entries_it_speaks_of_are_here() {
    let mut bench = Bench::new(1, 1, 1);
    let row = row(1, 0);
    let hlc = Hlc::from_ms(WALL_MS - 1000);
    let stated = |ends, runs| Message::Entries {
        shard: row.shard(),
        runs,
        statements: vec![Statement {
            node: NodeId(2),
            hlc,
            ends,
        }],
        more: false,
    };
    let ends = vec![(origin(2), 2)];
    bench.receive(1, stated(ends.clone(), vec![run(&row, 2, 1, 1)]));
    let safe = bench.replica.safe_time(row.shard(), NodeId(2));
    assert_eq!(safe, Hlc::ZERO, "the second entry is missing");
    bench.receive(1, stated(ends, vec![run(&row, 2, 2, 1)]));
    assert_eq!(bench.replica.safe_time(row.shard(), NodeId(2)), hlc);
}

#[test]
fn a_write_nobody_waits_for_any_more_leaves_nothing_behind() {
    let mut bench = Bench::new(1, 1, 1);
    let row = row(1, 0);
    let put = |bench: &mut Bench| {
        let command = Command::Put(row.clone(), Bytes::from_static(b"x"));
        bench.ask(command, Level::Eventual, Context::new(), 2)
    };
    let expired = put(&mut bench);
    let cancelled = put(&mut bench);
    assert_eq!(bench.held(row.shard()).waiting.len(), 2);
    bench.feed(Event::Cancelled { id: cancelled });
    bench.wait(6000);
    assert!(bench.replies[&expired].is_err());
    assert!(bench.held(row.shard()).waiting.is_empty());
}

#[test]
fn neighbours_get_each_entry_once_in_bounded_pieces() {
    let mut bench = Bench::new(3, 3, 1);
    let row = row(1, 0);
    for _ in 0..100 {
        bench.put(&row, 70_000);
    }
    let appends = bench.appends_to(1);
    let firsts: Vec<Seq> = appends.iter().map(|append| append.run.first).collect();
    assert_eq!(firsts, (1..=100).collect::<Vec<Seq>>());

    // The link broke: what was under way is lost, and sent again piece by piece.
    bench.feed(Event::LinkDown(NodeId(1)));
    bench.feed(Event::LinkUp(NodeId(1)));
    let mut next = 1;
    while next <= 100 {
        let appends = bench.appends_to(1);
        assert_eq!(appends.len(), 1, "{next}");
        let run = &appends[0].run;
        assert_eq!(run.first, next);
        let bytes: usize = run.entries.iter().map(Bytes::len).sum();
        assert!(bytes <= PUSH_BYTES_MAX + 71_000);
        next += run.entries.len() as Seq;
        // Of three replicas the other one stays silent, so its acknowledgement commits.
        let (shard, origin, seq) = (row.shard(), run.origin, next - 1);
        bench.receive(1, Message::Acknowledge { shard, origin, seq });
    }
    assert_eq!(bench.held(row.shard()).applied(bench.own_origin()), 100);
}

#[test]
fn a_gap_at_a_neighbour_is_filled_from_where_it_begins() {
    let mut bench = Bench::new(3, 3, 1);
    let row = row(1, 0);
    for _ in 0..3 {
        bench.put(&row, 1);
    }
    bench.sent.clear();
    let (shard, origin, seq) = (row.shard(), bench.own_origin(), 1);
    let acknowledge = Message::Acknowledge { shard, origin, seq };
    bench.receive(1, acknowledge.clone());
    assert!(bench.appends_to(1).is_empty(), "the rest is under way");
    bench.now.monotonic += Duration::from_millis(PUSH_AGAIN_MS);
    bench.receive(1, acknowledge.clone());
    let again = bench.appends_to(1);
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].run.first, again[0].run.entries.len()), (2, 2));
    bench.receive(1, acknowledge);
    assert!(bench.appends_to(1).is_empty(), "not again at once");
}

#[test]
fn own_entries_that_others_hold_as_committed_wait_no_longer() {
    let mut bench = Bench::new(3, 3, 1);
    let row = row(1, 0);
    let id = bench.put(&row, 1);
    let (shard, origin) = (row.shard(), bench.own_origin());
    let stored = bench.disk.0[&(Family::Log, layout::entry(shard, origin, 1))].clone();
    let run = Run {
        origin,
        first: 1,
        entries: vec![stored],
    };
    bench.receive(3, entries(&row, vec![run], false));
    assert!(bench.replies[&id].is_ok());
    assert!(bench.held(shard).uncommitted.is_empty());
    assert_eq!(bench.replica.uncommitted.oldest(), None);
}

#[test]
fn what_a_push_leaves_out_it_does_not_claim() {
    let mut bench = Bench::new(3, 3, 1);
    let row = row(1, 0);
    for _ in 0..100 {
        bench.put(&row, 70_000);
    }
    bench.sent.clear();
    let (shard, origin, seq) = (row.shard(), bench.own_origin(), 100);
    bench.receive(1, Message::Acknowledge { shard, origin, seq });
    let pushed = bench.appends_to(3);
    assert_eq!(pushed.len(), 1);
    let bytes: usize = pushed[0].run.entries.iter().map(Bytes::len).sum();
    assert!(bytes <= PUSH_BYTES_MAX + 71_000);
    let last = Entry::from_record(pushed[0].run.entries.last().unwrap()).unwrap();
    let place = pushed[0].place.unwrap();
    assert_eq!(place.complete, last.hlc);

    bench.put(&row, 1);
    bench.sent.clear();
    let seq = 101;
    bench.receive(1, Message::Acknowledge { shard, origin, seq });
    let next = bench.appends_to(3)[0].place.unwrap();
    assert_eq!(next.after, place.after);
    assert!(next.number > place.number + 1, "the gap shows");
}

#[test]
fn a_region_without_its_majority_refuses_before_its_memory_is_full() {
    let mut bench = Bench::new(3, 3, 1);
    let row = row(1, 0);
    let refused = (0..100).find_map(|_| {
        let id = bench.put(&row, 1 << 20);
        bench.sent.clear();
        bench.replies.get(&id).cloned()
    });
    let refusal = refused.unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::Overloaded);
    assert_eq!(refusal.applied, crate::request::Applied::No);
    let logged = bench.held(row.shard()).logs[&bench.own_origin()].logged;

    // A majority is back: there is room again.
    let (shard, origin) = (row.shard(), bench.own_origin());
    let seq = logged;
    bench.receive(1, Message::Acknowledge { shard, origin, seq });
    let id = bench.put(&row, 1);
    assert!(!bench.replies.contains_key(&id));
}

#[test]
fn a_peer_that_lost_its_disk_has_acknowledged_nothing() {
    let mut bench = Bench::new(1, 1, 1);
    let row = row(1, 0);
    bench.put(&row, 1);
    let (shard, origin, seq) = (row.shard(), bench.own_origin(), 1);
    let acknowledge = Message::Acknowledge { shard, origin, seq };
    bench.receive(1, acknowledge.clone());
    assert_eq!(bench.held(shard).acknowledged.len(), 1);
    let lost = bench.heartbeat(1, true);
    bench.receive(1, lost);
    assert_eq!(bench.held(shard).acknowledged.len(), 0);

    bench.receive(2, acknowledge);
    assert_eq!(bench.held(shard).acknowledged.len(), 1);
    let back = bench.heartbeat(2, false);
    bench.receive_as(2, 6000, back);
    assert_eq!(bench.held(shard).acknowledged.len(), 0);
}

// --- requests

#[test]
fn what_is_finished_leaves_no_timer() {
    let mut bench = Bench::new(1, 1, 1);
    for _ in 0..100 {
        bench.put(&row(1, 0), 1);
    }
    let seen = Context::of(RegionId(1), Hlc::from_ms(bench.now.wall_ms));
    let id = bench.ask(Command::Get(row(1, 0)), Level::Session, seen, 0);
    assert_eq!(bench.held(row(1, 0).shard()).sessions.len(), 1);
    bench.feed(Event::Cancelled { id });
    assert!(bench.held(row(1, 0).shard()).sessions.is_empty());
    let left: Vec<_> = bench
        .replica
        .timers
        .iter()
        .map(|(_, t)| t.clone())
        .collect();
    assert_eq!(left, [Timer::Heartbeat]);
}

#[test]
fn an_expired_session_makes_nobody_hurry() {
    let mut bench = Bench::new(1, 1, 1);
    let seen = Context::of(RegionId(1), Hlc::from_ms(bench.now.wall_ms));
    let id = bench.ask(Command::Get(row(1, 0)), Level::Session, seen, 0);
    bench.wait(6000);
    assert!(bench.replies[&id].is_err());
    assert!(!bench.replica.somebody_waits());
}

/// A forwarded session read and its number.
fn forwarded_read(bench: &mut Bench, row: &Row) -> (OpId, u16, u64) {
    bench.greet();
    let seen = Context::of(RegionId(1), Hlc::from_ms(bench.now.wall_ms));
    let id = bench.ask(Command::Get(row.clone()), Level::Session, seen, 0);
    bench.wait(1000);
    let forward = bench.sent.iter().find_map(|(to, message)| match message {
        Message::Forward { id, .. } => Some((to.0, *id)),
        _ => None,
    });
    let (to, number) = forward.unwrap();
    bench.sent.clear();
    (id, to, number)
}

fn refused(number: u64) -> Message {
    let refusal = Refusal::not_applied(Reason::Overloaded, "busy");
    Message::Forwarded {
        id: number,
        result: Err(refusal),
    }
}

#[test]
fn only_who_was_asked_may_answer() {
    let mut bench = Bench::new(1, 1, 1);
    let (id, to, number) = forwarded_read(&mut bench, &row(1, 0));
    assert_eq!(to, 1);
    bench.receive(2, refused(number));
    assert!(!bench.replies.contains_key(&id));
    bench.receive(1, refused(number));
    assert!(bench.replies.contains_key(&id));
}

#[test]
fn a_read_comes_back_when_whom_it_was_forwarded_to_is_gone() {
    let mut bench = Bench::new(2, 2, 1);
    let (id, to, number) = forwarded_read(&mut bench, &row(1, 0));
    bench.feed(Event::LinkDown(NodeId(to)));
    bench.wait(1000);
    let again = bench.sent.iter().find_map(|(to, message)| match message {
        Message::Forward { .. } => Some(to.0),
        _ => None,
    });
    assert!(again.is_some_and(|other| other != to && (2..4).contains(&other)));
    bench.receive(to, refused(number));
    assert!(!bench.replies.contains_key(&id));
}

#[test]
fn a_request_is_forwarded_to_a_holder_that_lost_nothing() {
    let mut bench = Bench::new(3, 1, 64);
    let (foreign, holders) = (0..)
        .map(|number| row(64, number))
        .find_map(|row| {
            let replicas = bench.replica.topology.replicas(row.shard());
            let near = replicas[&RegionId(0)][0];
            (near != NodeId(0)).then_some((row, replicas))
        })
        .unwrap();
    let near = holders[&RegionId(0)][0].0;
    bench.greet();
    let lost = bench.heartbeat(near, true);
    bench.receive(near, lost);
    bench.sent.clear();
    bench.ask(Command::Get(foreign), Level::Eventual, Context::new(), 0);
    let to = bench.sent.iter().find_map(|(to, message)| match message {
        Message::Forward { .. } => Some(*to),
        _ => None,
    });
    let far: Vec<NodeId> = [1, 2].iter().map(|r| holders[&RegionId(*r)][0]).collect();
    assert!(to.is_some_and(|to| far.contains(&to)), "{to:?}");
}

#[test]
fn a_session_read_is_forwarded_to_a_node_that_holds_its_shard() {
    let mut bench = Bench::new(3, 1, 64);
    let row = (0..)
        .map(|number| row(64, number))
        .find(|row| {
            let shard = row.shard();
            let replicas = bench.replica.topology.replicas(shard);
            // Its holder there is not the region's first node, which a tie would prefer.
            bench.replica.shards.contains_key(&shard) && replicas[&RegionId(1)][0] != NodeId(3)
        })
        .unwrap();
    let holder = bench.replica.topology.replicas(row.shard())[&RegionId(1)][0];
    let (_, to, _) = forwarded_read(&mut bench, &row);
    assert_eq!(NodeId(to), holder);
}

// --- records

#[test]
fn only_the_one_encoding_of_an_epoch_is_read() {
    let encoded = |pairs: &[(u64, u64)]| {
        let mut out = crate::codec::Encoder::record();
        out.put(&crate::version::ShardEpoch::default());
        out.list(pairs.iter().copied());
        shard::EpochRecord::from_record(&out.finish())
    };
    assert!(encoded(&[(1, 5), (2, 3)]).is_ok());
    for wrong in [
        [(1, 5), (1 << 16, 5)],
        [(1, 5), (2, 1 << 32)],
        [(2, 3), (1, 5)],
        [(1, 3), (1, 5)],
    ] {
        assert!(encoded(&wrong).is_err(), "{wrong:?}");
    }
}

// --- safe times

#[test]
fn a_restart_claims_no_more_than_is_applied_in_every_shard() {
    let mut bench = Bench::new(1, 1, 2);
    let rows = rows(2, 2);
    let (first, second) = (rows[0].shard(), rows[1].shard());
    let quiet = bench.heartbeat(1, false);
    bench.receive(1, quiet);
    let complete = Hlc::from_ms(bench.now.wall_ms);
    bench.wait(5000);

    // An entry of one shard is announced, and does not come.
    let Message::Heartbeat(mut announced) = bench.heartbeat(1, false) else {
        panic!("a heartbeat")
    };
    announced.assigned = vec![(second, origin(1), 1)];
    bench.receive(1, Message::Heartbeat(announced));
    let later = Hlc::from_ms(bench.now.wall_ms);
    bench.wait(5000);
    assert_eq!(bench.replica.safe_time(first, NodeId(1)), later);
    assert_eq!(bench.replica.safe_time(second, NodeId(1)), complete);
    bench.restart(2, false);
    assert_eq!(bench.replica.safe_time(first, NodeId(1)), complete);
    assert_eq!(bench.replica.safe_time(second, NodeId(1)), complete);

    // It comes: everything is known again, and still is after the next restart.
    bench.receive(1, entries(&rows[1], vec![run(&rows[1], 1, 1, 1)], false));
    let Message::Heartbeat(mut listed) = bench.heartbeat(1, false) else {
        panic!("a heartbeat")
    };
    listed.assigned = vec![(second, origin(1), 1)];
    bench.receive(1, Message::Heartbeat(listed));
    let now = Hlc::from_ms(bench.now.wall_ms);
    bench.wait(5000);
    bench.restart(3, false);
    assert_eq!(bench.replica.safe_time(second, NodeId(1)), now);

    bench.restart(4, true);
    assert_eq!(bench.replica.safe_time(first, NodeId(1)), Hlc::ZERO);
}
