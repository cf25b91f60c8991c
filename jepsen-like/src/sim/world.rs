//! The simulated world: virtual time, an ordered queue of what happens next, and everything it
//! happens to. One seed, one run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use hansa_consistency::effect::{Effect, Note};
use hansa_consistency::event::Event;
use hansa_consistency::key::{ClusterId, NodeId, OpId, RegionId};
use hansa_consistency::message::{Envelope, Message, Run};
use hansa_consistency::replica::{self, Standing};
use hansa_consistency::request::{Applied, Refusal, Reply, Request};
use hansa_consistency::rules::Rules;
use hansa_consistency::topology::{Keyspace, Mixing, Topology, ValueType};

use super::client::{self, Asked, Open, Process, SHARDS};
use super::disk::LostEntry;
use super::faults::{self, Faults};
use super::invariants::Invariants;
use super::loss::Losses;
use super::nemesis::{Fault, Nemesis};
use super::network::{Network, Parcel};
use super::node::{Damage, Node, Said};
use super::profile::Profile;
use crate::history::{Datum, History, Op, Record, Status};
use crate::nemesis::Layout;
use crate::nemesis::Wire;
use crate::random::Random;
use crate::workload::Generator;

mod answers;

/// Something that happens at a moment.
#[derive(Debug)]
pub enum Todo {
    /// A message arrives.
    Arrive(NodeId, Box<Envelope>),
    /// What a node said may leave: its group is synced.
    Release(NodeId, u64, Box<Said>),
    /// A replica wanted to be woken.
    Wake(NodeId, u64),
    /// A client acts.
    Act(usize),
    /// A client gives up on an operation, for this reason.
    GiveUp(u64, &'static str),
    /// A request reaches a node.
    Ask(NodeId, u64, Box<Request>),
    /// An answer reaches a client.
    Answer(u64, Box<Result<Reply, Refusal>>),
    /// A fault begins or ends.
    Fault(Fault),
    /// A node comes up again.
    Restart(NodeId),
    /// A link's state is told to a node.
    Link(NodeId, NodeId, bool),
    /// An action of a plan is due: its place in the plan.
    Planned(usize),
    /// A wake that was due while its node was held up.
    Tick(NodeId, u64),
    /// It is noticed that a connection is half open.
    Noticed(NodeId, NodeId),
    /// A record at rest is damaged.
    Rot(NodeId, u64),
    /// Everything that healed is back.
    Healed,
}

/// Time between a client and a node of its region, microseconds.
pub const CLIENT_US: u64 = 200;
/// How long a client waits, microseconds.
pub const PATIENCE_US: u64 = 3_000_000;
/// How long it takes at most until a peer learns that a node is gone, microseconds.
pub const LINK_BROKEN_US: u64 = 200_000;
/// How long until a connection that did not come about is tried again, microseconds.
const LINK_AGAIN_US: u64 = 100_000;
/// Number of the process that reads final states.
const FINAL_PROCESS: u64 = 1_000_000;

/// The world.
pub struct World {
    /// Microseconds of the run.
    pub now_us: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    todos: BTreeMap<u64, Todo>,
    next_todo: u64,
    /// All chance.
    pub random: Random,
    /// The shape of this run.
    pub profile: Profile,
    /// The nodes, by id.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The network.
    pub network: Network,
    topology: Arc<Topology>,
    rules: Rules,
    generator: Generator,
    processes: Vec<Process>,
    open: BTreeMap<u64, usize>,
    next_op: u64,
    nemesis: Nemesis,
    /// The plan and what came of it.
    pub faults: Faults,
    load_until_us: u64,
    /// What was recorded.
    pub history: History,
    /// What was watched.
    pub invariants: Invariants,
    /// What disks lost.
    pub losses: Losses,
    /// Rare paths that were taken.
    pub notes: BTreeMap<Note, u64>,
    /// Starts that failed.
    pub failures: Vec<String>,
    finals: BTreeMap<u64, Record>,
    trace: u64,
    steps: u64,
}

/// A fingerprint of everything a value's debug text names.
fn fingerprint(value: &impl std::fmt::Debug) -> u64 {
    struct Sink(xxhash_rust::xxh3::Xxh3);
    impl std::fmt::Write for Sink {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.update(text.as_bytes());
            Ok(())
        }
    }
    let mut sink = Sink(xxhash_rust::xxh3::Xxh3::new());
    // The sink takes everything, so only a `Debug` that fails by itself could fail, and ours do not.
    let _ = std::fmt::Write::write_fmt(&mut sink, format_args!("{value:?}"));
    sink.0.digest()
}

/// A fingerprint of who says what kind of thing to whom, and at which clock value and store sequence.
fn brief(envelope: &Envelope, to: NodeId) -> u64 {
    let ends = u64::from(envelope.from.0) << 16 | u64::from(to.0);
    let kind = xxhash_rust::xxh3::xxh3_64(envelope.message.name().as_bytes());
    envelope.hlc.0 ^ envelope.store_sequence.rotate_left(40) ^ ends ^ kind
}

/// About how many bytes a message is: what matters are the entries that it carries.
fn size(message: &Message) -> u64 {
    const REST: u64 = 150;
    let entries = |run: &Run| run.entries.iter().map(|it| it.len() as u64).sum::<u64>();
    REST + match message {
        Message::Append(append) => entries(&append.run),
        Message::Entries { runs, .. } => runs.iter().map(entries).sum(),
        _ => 0,
    }
}

fn topology(profile: &Profile) -> Topology {
    let regions: Vec<RegionId> = (0..profile.regions).map(RegionId).collect();
    let nodes = |region: &RegionId| {
        let first = u16::from(region.0) * profile.replicas;
        (
            *region,
            (first..first + profile.replicas).map(NodeId).collect(),
        )
    };
    let keyspace = |value_type| Keyspace {
        value_type,
        regions: regions.clone(),
        replicas: profile.replicas,
        shards: SHARDS,
        mixing: Mixing::StrongWins,
    };
    Topology {
        cluster: ClusterId(4711),
        regions: regions.iter().map(nodes).collect(),
        keyspaces: [ValueType::Register, ValueType::Counter, ValueType::Set]
            .map(keyspace)
            .to_vec(),
    }
}

impl World {
    /// A world in which everything is about to start.
    #[must_use]
    pub fn new(seed: u64, profile: Profile, rules: Rules) -> World {
        let mut random = Random::new(seed);
        let topology = Arc::new(topology(&profile));
        let layout = Layout {
            regions: profile.regions.into(),
            nodes_per_region: profile.replicas.into(),
        };
        let mut nodes = BTreeMap::new();
        for (region, ids) in &topology.regions {
            for id in ids {
                let skew = random.between(0, 2 * profile.skew_ms) as i64 - profile.skew_ms as i64;
                let incarnation = random.between(1, 1 << 30) as u32;
                let boot = Duration::from_millis(random.between(0, 1_000_000));
                let node = Node::new(*id, *region, skew, incarnation, boot);
                nodes.insert(*id, node);
            }
        }
        let ids: Vec<NodeId> = nodes.keys().copied().collect();
        let processes = (0..profile.processes)
            .map(|id| Process::new(id, ids[id as usize % ids.len()]))
            .collect();
        let mut world = World {
            now_us: 0,
            queue: BinaryHeap::new(),
            todos: BTreeMap::new(),
            next_todo: 0,
            random,
            network: Network::new(profile.weather),
            nodes,
            topology,
            rules,
            generator: Generator::default(),
            processes,
            open: BTreeMap::new(),
            next_op: 0,
            nemesis: Nemesis::default(),
            faults: Faults::none(layout),
            load_until_us: profile.load_us,
            profile,
            history: History::default(),
            invariants: Invariants::default(),
            losses: Losses::default(),
            notes: BTreeMap::new(),
            failures: Vec::new(),
            finals: BTreeMap::new(),
            trace: 0,
            steps: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in &ids {
            self.after(0, Todo::Restart(*id));
        }
        for index in 0..self.processes.len() {
            let start = self.random.between(300_000, 900_000);
            self.after(start, Todo::Act(index));
        }
        for (at, fault) in Nemesis::schedule(&mut self.random, &self.profile, &ids) {
            self.after(at, Todo::Fault(fault));
        }
    }

    /// Plans something.
    pub fn after(&mut self, delay_us: u64, todo: Todo) {
        let number = self.next_todo;
        self.next_todo += 1;
        self.queue.push(Reverse((self.now_us + delay_us, number)));
        self.todos.insert(number, todo);
    }

    /// Lets everything happen up to a moment.
    pub fn run_until(&mut self, until_us: u64) {
        while let Some(Reverse((at, number))) = self.queue.peek().copied()
            && at <= until_us
        {
            self.queue.pop();
            self.now_us = at;
            if let Some(todo) = self.todos.remove(&number) {
                self.happen(todo);
            }
        }
        self.now_us = until_us;
    }

    fn happen(&mut self, todo: Todo) {
        let Some(todo) = self.unhindered(todo) else {
            return;
        };
        match todo {
            Todo::Arrive(node, envelope) => self.feed(node, Event::Received(*envelope)),
            Todo::Release(node, life, said) => self.release(node, life, *said),
            Todo::Wake(node, life) => {
                let wanted = self.nodes.get(&node).map(|n| (n.life, n.wake_us));
                if wanted == Some((life, Some(self.now_us))) {
                    self.feed(node, Event::Tick);
                }
            }
            Todo::Act(process) => self.act(process),
            Todo::GiveUp(number, why) => self.give_up(number, why),
            Todo::Ask(node, number, request) => self.ask(node, number, *request),
            Todo::Answer(number, result) => self.answered(number, *result),
            Todo::Fault(fault) => Nemesis::strike(self, &fault),
            Todo::Restart(node) => self.restart(node),
            // Nobody gets a connection to a node that is down.
            Todo::Link(_, peer, true)
                if self.nodes.get(&peer).is_none_or(|n| n.replica.is_none()) => {}
            Todo::Link(node, peer, true) if !self.network.connects(node, peer) => {
                self.after(LINK_AGAIN_US, Todo::Link(node, peer, true));
            }
            Todo::Planned(place) => self.carry_out(place),
            Todo::Tick(node, life) => {
                if self.nodes.get(&node).is_some_and(|n| n.life == life) {
                    self.feed(node, Event::Tick);
                }
            }
            Todo::Noticed(from, to) => self.notice(from, to),
            Todo::Rot(node, place) => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.disk.damage_in_use(place);
                }
            }
            Todo::Healed => self.note_healed(),
            Todo::Link(node, peer, up) => self.feed(
                node,
                match up {
                    true => Event::LinkUp(peer),
                    false => Event::LinkDown(peer),
                },
            ),
        }
    }

    /// Feeds an event to a replica that is up, and plans what follows.
    pub fn feed(&mut self, id: NodeId, event: Event) {
        let now = self.now_us;
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.replica.is_some()) else {
            return;
        };
        self.steps += 1;
        let (at_once, said) = node.step(now, event);
        let (life, wake) = (node.life, node.wake_us);
        for effect in at_once {
            self.leave(id, effect);
        }
        if let Some(said) = said {
            let node = self.nodes.get_mut(&id);
            let Some(node) = node else { return };
            let sync = match node.disk.is_clean() {
                true => 0,
                false => self.random.between(200, 2_000) + node.sync_takes_longer_us(),
            };
            let at = (now + sync).max(node.release_us);
            node.release_us = at;
            self.after(at - now, Todo::Release(id, life, Box::new(said)));
        }
        if let Some(at) = wake {
            let at = at.max(now + 1);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.wake_us = Some(at);
            }
            self.after(at - now, Todo::Wake(id, life));
        }
    }

    fn release(&mut self, id: NodeId, life: u64, said: Said) {
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.life == life) else {
            return;
        };
        if node.disk_fails() {
            self.strand(id);
            return;
        }
        if !self.profile.lying_sync {
            node.disk.sync(said.group);
            if let Some(sequence) = said.sequence.filter(|_| !self.profile.sequence_late) {
                node.disk.write_sequence(sequence);
            }
        }
        for (row, ballot) in &said.accepted {
            self.invariants.accepted(&self.topology, id, row, *ballot);
        }
        for effect in said.effects {
            self.leave(id, effect);
        }
    }

    /// An effect leaves its node.
    fn leave(&mut self, from: NodeId, effect: Effect) {
        match effect {
            Effect::Send { to, envelope } => self.transmit(from, to, envelope),
            Effect::Reply { id, result, .. } => {
                let said = match self.profile.whole_trace {
                    true => fingerprint(&result),
                    false => u64::from(result.is_ok()),
                };
                self.mix_trace(id.0 ^ said);
                self.after(CLIENT_US, Todo::Answer(id.0, Box::new(result)));
            }
            Effect::Note(note) => *self.notes.entry(note).or_default() += 1,
            Effect::Persist(_) | Effect::StoreSequence { .. } | Effect::Wake(_) => {}
        }
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, envelope: Envelope) {
        self.invariants.sent(&self.topology, &envelope);
        self.mix_trace(match self.profile.whole_trace {
            true => fingerprint(&envelope),
            false => brief(&envelope, to),
        });
        if from == to {
            self.after(0, Todo::Arrive(to, Box::new(envelope)));
            return;
        }
        let region = |id: NodeId| self.nodes.get(&id).map_or(RegionId(0), |n| n.region);
        let parcel = Parcel {
            from: (from, region(from)),
            to: (to, region(to)),
            bytes: size(&envelope.message),
        };
        let now = self.now_us;
        for delay in self.network.arrivals(&mut self.random, now, parcel) {
            self.after(delay, Todo::Arrive(to, Box::new(envelope.clone())));
        }
        if self.network.wire(from, to) == Wire::Blackhole {
            self.faults.hold((from, to), envelope);
        }
    }

    fn mix_trace(&mut self, what: u64) {
        self.trace = (self.trace ^ what ^ self.now_us)
            .rotate_left(17)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// A fingerprint of everything that was said, when.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// Steps taken by all replicas.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    // --- nodes

    /// Stops a node; it comes back after a while.
    pub fn crash(&mut self, id: NodeId, damage: Damage, back_after_us: u64) {
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.replica.is_some()) else {
            return;
        };
        let lost = node.crash(damage);
        self.lose(id, lost);
        self.tell_gone(id);
        self.after(back_after_us, Todo::Restart(id));
    }

    /// A disk lost these entries, which had been durable on it.
    pub fn lose(&mut self, id: NodeId, lost: Vec<LostEntry>) {
        let now_ns = self.now_ns();
        self.losses.struck(&self.nodes, id, lost, now_ns);
    }

    /// Every peer, and every client that waits for an answer, learns soon that a node's process is gone.
    pub fn tell_gone(&mut self, id: NodeId) {
        let peers: Vec<NodeId> = self.nodes.keys().copied().filter(|n| *n != id).collect();
        for peer in peers {
            let told = self.random.between(1_000, LINK_BROKEN_US - 1);
            self.after(told, Todo::Link(peer, id, false));
        }
        for (number, _) in self.asked(id) {
            let told = self.random.between(1_000, LINK_BROKEN_US - 1);
            self.after(told, Todo::GiveUp(number, "UNREACHABLE"));
        }
    }

    /// Breaks the links between two nodes and lets them stand again soon; both ends are told.
    pub fn drop_link(&mut self, a: NodeId, b: NodeId) {
        let broken = self.random.between(1_000, LINK_BROKEN_US);
        for (from, to) in [(a, b), (b, a)].into_iter().filter(|_| a != b) {
            let told = self.random.between(0, 1_000);
            self.after(told, Todo::Link(from, to, false));
            self.after(broken, Todo::Link(from, to, true));
        }
    }

    fn restart(&mut self, id: NodeId) {
        let seed = self.random.below(u64::MAX);
        let (topology, rules, now) = (self.topology.clone(), self.rules, self.now_us);
        let hides = self.profile.hides_pending;
        let Some(node) = self.nodes.get_mut(&id).filter(|n| n.replica.is_none()) else {
            return;
        };
        if node.disk.is_damaged() {
            let lost = node.put_aside();
            self.losses
                .struck(&self.nodes, id, lost, self.now_us * 1000);
        }
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.disk.hides_pending = hides;
        if let Err(error) = node.start(&topology, rules, now, seed) {
            self.failures
                .push(format!("node {} does not open: {error}", id.0));
            return;
        }
        self.feed(id, Event::Started);
        let peers: Vec<NodeId> = self.nodes.keys().copied().filter(|n| *n != id).collect();
        for peer in peers {
            // Later than anybody was told of the crash: links break before they stand again.
            self.after(50_000, Todo::Link(id, peer, true));
            self.after(LINK_BROKEN_US, Todo::Link(peer, id, true));
        }
    }

    /// Everything heals, every node comes back.
    pub fn heal(&mut self) {
        self.network.calm();
        self.end_faults();
        let down: Vec<NodeId> = self
            .nodes
            .values()
            .filter(|n| n.replica.is_none())
            .map(|n| n.id)
            .collect();
        for id in down {
            self.after(0, Todo::Restart(id));
        }
    }

    // --- clients

    /// Nanoseconds of the run.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_us * 1000
    }

    fn act(&mut self, index: usize) {
        if self.now_us >= self.load_until_us || self.processes[index].open.is_some() {
            return;
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let hop = self.profile.recipe.hop.unwrap_or(self.profile.hop);
        let hops = self.random.chance(hop);
        if let Some(node) = self.random.pick(&ids).copied().filter(|_| hops) {
            self.processes[index].node = node;
        }
        let now_ns = self.now_ns();
        let Profile { mix, recipe, .. } = self.profile;
        let (random, generator) = (&mut self.random, &mut self.generator);
        let process = &mut self.processes[index];
        let intend = |random: &mut Random| generator.next(random, &recipe, mix);
        let made = client::next(random, process, intend, now_ns);
        let Some((mut record, mut asked)) = made else {
            return;
        };
        self.next_op += 1;
        let number = self.next_op;
        let node = process.node;
        record.node = Some(format!("n{}", node.0));
        let region = self.nodes.get(&node).map(|n| n.region.0);
        record.region = region.map(|region| format!("r{region}"));
        let requests = match &mut asked {
            Asked::One(request) => vec![(number, (**request).clone())],
            Asked::Several(several) => several.begin(|| {
                self.next_op += 1;
                self.next_op
            }),
        };
        process.open = Some(Open {
            number,
            record,
            asked,
        });
        self.open.insert(number, index);
        for (part, request) in requests {
            self.open.insert(part, index);
            self.after(CLIENT_US, Todo::Ask(node, part, Box::new(request)));
        }
        self.after(PATIENCE_US, Todo::GiveUp(number, "TIMEOUT"));
    }

    fn ask(&mut self, id: NodeId, number: u64, mut request: Request) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        if node.stranded {
            let refused = faults::stranded(Applied::No);
            self.after(CLIENT_US, Todo::Answer(number, Box::new(Err(refused))));
            return;
        }
        request.deadline = node.now(self.now_us).monotonic + Duration::from_millis(2_500);
        self.feed(
            id,
            Event::Request {
                id: OpId(number),
                request,
            },
        );
    }

    fn answered(&mut self, number: u64, result: Result<Reply, Refusal>) {
        if let Some(record) = self.finals.remove(&number) {
            self.finish_final(record, &result);
            return;
        }
        let Some(index) = self.open.get(&number).copied() else {
            return;
        };
        let Some(result) = self.put_together(index, number, result) else {
            return;
        };
        let now_ns = self.now_ns();
        let Some(mut open) = self.close(index) else {
            return;
        };
        let process = &mut self.processes[index];
        client::complete(process, &mut open, &result);
        open.record.complete_ns = Some(now_ns);
        let region = self.nodes.get(&process.node).map(|node| node.region);
        client::served(&mut open.record, process.node, region, result.as_ref().ok());
        self.watch(&open, &result);
        if let Ok(reply) = result {
            let line = self.history.records.len();
            self.losses.told(line, reply.context.clone());
        }
        self.record(index, open.record);
    }

    fn give_up(&mut self, number: u64, why: &str) {
        let now_ns = self.now_ns();
        let Some(index) = self.open.get(&number).copied() else {
            return;
        };
        let Some(mut open) = self.close(index) else {
            return;
        };
        open.record.complete_ns = Some(now_ns);
        open.record.error = Some(why.into());
        open.record.status = match open.record.op.is_write() {
            true => Status::Info,
            false => Status::Fail,
        };
        self.record(index, open.record);
    }

    fn record(&mut self, index: usize, record: Record) {
        self.generator.seen(&record);
        if record.status == Status::Info && record.request_id.is_some() {
            self.processes[index].retry = Some(record.clone());
        }
        self.history.records.push(record);
        let think = self
            .random
            .between(self.profile.think_us / 4, self.profile.think_us);
        self.after(think, Todo::Act(index));
    }

    // --- the end

    /// Whether all replicas of every shard show equal digests, none still fetches what it lost, and no
    /// voter holds an accepted value that is still to be settled.
    #[must_use]
    pub fn converged(&self) -> bool {
        self.statuses().len() == self.nodes.len()
            && self
                .statuses()
                .iter()
                .all(|status| status.unsettled == 0 || status.standing == Standing::Lost)
            && self.statuses().iter().all(|it| it.shards_refilling == 0)
            && self.topology.shards().all(|shard| {
                let mut digests = self
                    .nodes
                    .values()
                    .map(|node| replica::digest(&node.disk, shard));
                let first = digests.next();
                digests.all(|digest| Some(&digest) == first.as_ref())
            })
    }

    /// What every node that is up says of itself.
    #[must_use]
    pub fn statuses(&self) -> Vec<replica::Status> {
        let now = self.now_us;
        let up = self.nodes.values();
        up.filter_map(|node| Some(node.replica.as_ref()?.status(node.now(now))))
            .collect()
    }

    /// Records every key's final state in every region, and every node's digests.
    pub fn record_finals(&mut self) {
        let mut keys: Vec<String> = self
            .history
            .records
            .iter()
            .filter(|r| !r.op.is_several())
            .filter_map(|r| r.key.clone())
            .collect();
        keys.sort();
        keys.dedup();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let at = self.now_ns() + 1;
        for id in &ids {
            let Some(node) = self.nodes.get(id) else {
                continue;
            };
            for shard in self.topology.shards() {
                let digest = replica::digest(&node.disk, shard);
                let mut record = Record::event(FINAL_PROCESS, Op::Digest, at);
                record.node = Some(format!("n{}", id.0));
                record.key = Some(format!("{}/{}", shard.keyspace.0, shard.index));
                record.value = Some(Datum::Text(format!("{digest:x?}")));
                record.status = Status::Ok;
                record.complete_ns = Some(at);
                self.history.records.push(record);
            }
        }
        for key in keys {
            for id in &ids {
                self.ask_final(&key, *id);
            }
        }
        self.run_until(self.now_us + 5_000_000);
        self.give_up_reads_at_end();
    }

    fn ask_final(&mut self, key: &str, id: NodeId) {
        let Some(request) = client::final_request(key) else {
            return;
        };
        let region = self.nodes.get(&id).map_or(0, |n| n.region.0);
        let mut record = Record::event(FINAL_PROCESS, Op::Final, self.now_ns());
        record.key = Some(key.to_owned());
        record.region = Some(format!("r{region}"));
        self.read_at_end(record, request, id);
    }

    /// Asks a node after everything healed; the answer goes into the history.
    pub fn read_at_end(&mut self, mut record: Record, request: Request, id: NodeId) {
        self.next_op += 1;
        let number = self.next_op;
        record.node = Some(format!("n{}", id.0));
        self.finals.insert(number, record);
        self.ask(id, number, request);
    }

    /// Reads at the end that are not answered yet.
    #[must_use]
    pub fn reads_at_end(&self) -> usize {
        self.finals.len()
    }

    /// Records every read at the end that is not answered yet as failed.
    pub fn give_up_reads_at_end(&mut self) {
        for (_, mut record) in std::mem::take(&mut self.finals) {
            record.complete_ns = Some(self.now_ns());
            record.status = Status::Fail;
            record.error = Some("TIMEOUT".into());
            self.history.records.push(record);
        }
    }

    fn finish_final(&mut self, mut record: Record, result: &Result<Reply, Refusal>) {
        record.complete_ns = Some(self.now_ns());
        record.status = Status::Fail;
        match result {
            Ok(reply) => {
                record.status = Status::Ok;
                client::fill(&mut record, &reply.answer);
                let key = record.key.as_deref();
                let counter = key.is_some_and(|k| k.starts_with("counters/"));
                if counter && record.value.is_none() {
                    record.value = Some(Datum::Integer(0));
                }
            }
            Err(refusal) => record.error = Some(refusal.reason.name().into()),
        }
        self.history.records.push(record);
    }

    /// The number of the operation in flight of everybody who asked this node.
    #[must_use]
    pub fn asked(&self, id: NodeId) -> Vec<(u64, bool)> {
        let asks = self.processes.iter().filter(|process| process.node == id);
        let open = asks.filter_map(|process| process.open.as_ref());
        open.map(|open| (open.number, open.record.op.is_write()))
            .collect()
    }

    /// The faults that struck, for the record.
    pub fn nemesis(&mut self) -> &mut Nemesis {
        &mut self.nemesis
    }

    /// The cluster.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }
}
