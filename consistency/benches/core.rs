//! What the core costs, without a network, a disk or a clock: `cargo bench -p hansa-consistency`.
//!
//! Stores are ordered maps in memory and messages arrive at once, so the figures are those of the rules alone. A cluster
//! of three counts the steps of all its nodes together. What a node costs as a process measures `hansa-jepsen bench`.

#![allow(clippy::expect_used)] // what fails here is to be seen, as in a test

use std::collections::{BTreeMap, VecDeque};
use std::hint::black_box;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

use hansa_consistency::clock::{Hlc, Now};
use hansa_consistency::codec::Encode as _;
use hansa_consistency::effect::Effect;
use hansa_consistency::event::Event;
use hansa_consistency::key::{ClusterId, KeyspaceId, NodeId, OpId, RegionId, Row};
use hansa_consistency::message::Envelope;
use hansa_consistency::port::{Damaged, Family, Reader};
use hansa_consistency::record::{Change, Entry, Record};
use hansa_consistency::register::Expect;
use hansa_consistency::replica::{Config, Opened, Replica};
use hansa_consistency::request::{Command, Level, Request};
use hansa_consistency::rules::Rules;
use hansa_consistency::session::{Context, SessionToken};
use hansa_consistency::topology::{Keyspace, Mixing, Topology, ValueType};
use hansa_consistency::value::State;
use hansa_consistency::version::{Ballot, Dot, Origin, Stamp, Tag};

/// Rows that operations go around.
const ROWS: u64 = 1024;
/// The length of values, as in `hansa-jepsen bench`.
const VALUE_BYTES: usize = 100;
/// Time between two operations: heartbeats and other timers come as often as under load.
const PAUSE: Duration = Duration::from_micros(100);
/// How long a request may take.
const WITHIN: Duration = Duration::from_secs(5);
const WALL_MS: u64 = 1_700_000_000_000;
/// Regions of which a session has seen something.
const SEEN: u8 = 7;

/// A store that is durable at once.
#[derive(Default)]
struct Store {
    families: BTreeMap<Family, BTreeMap<Bytes, Bytes>>,
}

impl Reader for Store {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged> {
        let family = self.families.get(&family);
        Ok(family.and_then(|rows| rows.get(key).cloned()))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Damaged> {
        let Some(rows) = self.families.get(&family) else {
            return Ok(());
        };
        let range = (Bound::Included(from), Bound::Unbounded);
        let range = rows.range::<[u8], _>(range);
        for (key, value) in range.take_while(|(key, _)| to.is_none_or(|to| &key[..] < to)) {
            if visit(key, value.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A node: its replica and what it holds.
struct Machine {
    replica: Replica,
    store: Store,
}

/// One node in each region; messages arrive in the order in which they are sent.
struct Cluster {
    machines: Vec<Machine>,
    now: Now,
    under_way: VecDeque<(NodeId, Envelope)>,
    effects: Vec<Effect>,
    asked: u64,
    done: u64,
}

impl Cluster {
    fn new(regions: u8) -> Cluster {
        let all: Vec<RegionId> = (0..regions).map(RegionId).collect();
        let topology = Arc::new(Topology {
            cluster: ClusterId::of("bench"),
            regions: all
                .iter()
                .map(|it| (*it, [NodeId(it.0.into())].into()))
                .collect(),
            keyspaces: vec![Keyspace {
                value_type: ValueType::Register,
                regions: all.clone(),
                replicas: 1,
                shards: 1,
                mixing: Mixing::StrongWins,
            }],
        });
        let now = Now {
            monotonic: Duration::from_secs(10),
            wall_ms: WALL_MS,
        };
        let machine = |region: &RegionId| {
            let config = Config {
                node: NodeId(region.0.into()),
                topology: topology.clone(),
                rules: Rules::default(),
            };
            let opened = Opened {
                incarnation: 7,
                start: 1,
                lost: false,
            };
            let store = Store::default();
            let replica = Replica::open(config, opened, 1, now, &store);
            Machine {
                replica: replica.expect("an empty store opens"),
                store,
            }
        };
        let mut cluster = Cluster {
            machines: all.iter().map(machine).collect(),
            now,
            under_way: VecDeque::new(),
            effects: Vec::new(),
            asked: 0,
            done: 0,
        };
        cluster.begin();
        cluster
    }

    /// Connects all nodes, and lets them meet.
    fn begin(&mut self) {
        let nodes: Vec<NodeId> = (0..self.machines.len() as u16).map(NodeId).collect();
        for node in &nodes {
            self.feed(*node, Event::Started);
        }
        for node in &nodes {
            for peer in nodes.iter().filter(|peer| *peer != node) {
                self.feed(*node, Event::LinkUp(*peer));
            }
        }
        for _ in 0..30 {
            self.deliver();
            self.pass(Duration::from_millis(100));
            for node in &nodes {
                self.feed(*node, Event::Tick);
            }
        }
        self.deliver();
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall_ms = WALL_MS + self.now.monotonic.as_millis() as u64;
    }

    /// One step of one node; what it says is under way then.
    fn feed(&mut self, node: NodeId, event: Event) {
        let machine = &mut self.machines[usize::from(node.0)];
        let mut effects = std::mem::take(&mut self.effects);
        machine
            .replica
            .step(self.now, event, &machine.store, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Persist(writes) => {
                    for write in writes {
                        let rows = machine.store.families.entry(write.family).or_default();
                        match write.value {
                            Some(value) => rows.insert(write.key, value),
                            None => rows.remove(&write.key),
                        };
                    }
                }
                Effect::Send { to, envelope } => self.under_way.push_back((to, envelope)),
                Effect::Reply { result, .. } => {
                    result.expect("nothing is refused here");
                    self.done += 1;
                }
                _ => {}
            }
        }
        self.effects = effects;
    }

    /// Delivers until nobody has anything to say any more.
    fn deliver(&mut self) {
        while let Some((to, envelope)) = self.under_way.pop_front() {
            self.feed(to, Event::Received(envelope));
        }
    }

    /// Lets the first node do something, until all is quiet.
    fn ask(&mut self, level: Level, command: Command) {
        self.pass(PAUSE);
        self.asked += 1;
        let request = Request {
            command,
            level,
            context: Context::new(),
            request_id: None,
            retry_of: None,
            ack_regions: 0,
            deadline: self.now.monotonic + WITHIN,
        };
        let id = OpId(self.asked);
        self.feed(NodeId(0), Event::Request { id, request });
        self.deliver();
        assert_eq!(
            self.done, self.asked,
            "every operation is done when all is quiet"
        );
    }
}

fn row(number: u64) -> Row {
    let key = format!("user{:010}", number % ROWS);
    Row::new(KeyspaceId(0), 1, key.as_bytes(), b"", None).expect("a short key")
}

fn value(number: u64) -> Bytes {
    vec![number as u8; VALUE_BYTES].into()
}

/// What is measured: a name, the level, and the command on the row of a number.
type Operation = (&'static str, Level, fn(u64) -> Command);

const OPERATIONS: [Operation; 5] = [
    ("eventual get", Level::Eventual, |at| Command::Get(row(at))),
    ("eventual put", Level::Eventual, |at| {
        Command::Put(row(at), value(at))
    }),
    ("strong get", Level::Strong, |at| Command::Get(row(at))),
    ("strong put", Level::Strong, |at| {
        Command::Put(row(at), value(at))
    }),
    ("strong cas", Level::Strong, |at| {
        Command::CompareAndSet(row(at), Expect::Value(value(0)), Some(value(0)))
    }),
];

/// Steps of replicas, on rows that were written at the level that is measured.
fn replica(criterion: &mut Criterion) {
    for (regions, group) in [(1, "one node"), (3, "three regions, all nodes")] {
        let mut group = criterion.benchmark_group(group);
        for (name, level, command) in OPERATIONS {
            let mut cluster = Cluster::new(regions);
            for at in 0..ROWS {
                cluster.ask(level, Command::Put(row(at), value(0)));
            }
            let mut at = 0;
            group.bench_function(name, |bencher| {
                bencher.iter_batched(
                    || {
                        at += 1;
                        command(at)
                    },
                    |command| cluster.ask(level, command),
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

fn stamp(ms: u64) -> Stamp {
    let origin = Origin {
        node: NodeId(0),
        incarnation: 7,
    };
    Stamp {
        strong_version: 1,
        hlc: Hlc::from_ms(WALL_MS + ms),
        tag: Tag::Entry(Dot { origin, seq: ms }),
    }
}

fn context() -> Context {
    let mut context = Context::new();
    for region in 0..SEEN {
        context.raise(RegionId(region), Hlc::from_ms(WALL_MS + u64::from(region)));
    }
    context
}

fn record() -> Record {
    Record {
        state: State::register(stamp(1), Some(value(1))),
        deps: context(),
        touched: context(),
        chosen: Ballot::ZERO,
    }
}

/// The join of rows, and an entry applied to one.
fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    let older = State::register(stamp(1), Some(value(1)));
    let newer = State::register(stamp(2), Some(value(2)));
    for (name, mine, theirs) in [
        ("register, wins", &older, &newer),
        ("register, loses", &newer, &older),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || mine.clone(),
                |mine| mine.merge(black_box(theirs)),
                BatchSize::SmallInput,
            );
        });
    }
    let change = Change {
        row: row(1),
        state: newer.clone(),
        chosen: Ballot::ZERO,
    };
    let entry = Entry {
        hlc: Hlc::from_ms(WALL_MS + 2),
        deps: context(),
        request: None,
        changes: vec![change.clone()],
        extension: Bytes::new(),
    };
    group.bench_function("entry into a row", |bencher| {
        bencher.iter_batched(
            || Some(record()),
            |before| Record::apply(before, RegionId(1), &entry, &change, Rules::default()),
            BatchSize::SmallInput,
        );
    });
}

/// What a session carries.
fn token(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token of seven regions");
    let cluster = ClusterId::of("bench");
    let now = Now {
        monotonic: Duration::from_secs(10),
        wall_ms: WALL_MS + 1000,
    };
    let (mine, mut theirs) = (context(), context());
    theirs.raise(RegionId(SEEN - 1), Hlc::from_ms(WALL_MS + 500));
    group.bench_function("join", |bencher| {
        bencher.iter_batched_ref(
            || mine.clone(),
            |mine| mine.join(black_box(&theirs)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("encode", |bencher| {
        bencher.iter(|| SessionToken::encode(cluster, black_box(&theirs)));
    });
    let token = SessionToken::encode(cluster, &theirs);
    assert_eq!(SessionToken::decode(cluster, now, &token), Ok(theirs));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| SessionToken::decode(cluster, now, black_box(&token)));
    });
}

/// What lies on disk.
fn stored(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stored row of 100 bytes");
    let record = record();
    let bytes = record.to_record();
    assert_eq!(Record::from_record(&bytes).as_ref(), Ok(&record));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(&record).to_record())
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Record::from_record(black_box(&bytes)));
    });
    group.bench_function("digest of the state", |bencher| {
        bencher.iter(|| black_box(&record.state).digest());
    });
}

fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
}

criterion_group! {
    name = core;
    config = settings();
    targets = replica, merge, token, stored
}
criterion_main!(core);
