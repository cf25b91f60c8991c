//! The commands of a script.
//!
//! ```text
//! cluster nodes=3                      start over with three nodes per region (a1 .. c3); one is the default
//! NODE get|delete KEY                  a request; also: put KEY VALUE, cas KEY EXPECT VALUE (`-` deletes),
//!                                      incr KEY N, add|remove|contains KEY ELEMENT, members KEY
//!      level=LEVEL                     eventual when not named
//!      session=S                       carries S's token and takes over the reply's
//!      id=SESSION.SEQ retry=NODE       names the request; says that it repeats one NODE took (NODE:LEVEL
//!                                      when that was at another level)
//!                                      (id=SESSION.SEQ+TIME: issued that much after any clock seen)
//!      ack=K within=TIME               ack_regions; the deadline (5 s when not named)
//!      etag=NAME                       keeps the reply's etag, for `cas KEY etag:NAME VALUE`
//!      &LABEL                          does not wait: the outcome appears when it comes
//! tick TIME                            time passes
//! cut A>B, cut A-B                     messages are lost, one way or both; nobody is told
//! down A-B, isolate NODE, heal         connections break (both ends know); everything is mended
//! hold KINDS A>B                       keeps messages back from now on; `*` is any node, `any` any kind
//! held, deliver, drop KINDS A>B        what is kept back; lets it arrive now; loses it
//! repeat KINDS A>B                     lets it arrive now and keeps it too
//! release                              keeps nothing back any more
//! freeze NODE, sync NODE               syncs of the disk wait; happen
//! crash NODE, start NODE               the process ends, losing what was not synced; starts again
//! destroy NODE                         takes the stopped node's disk away
//! copy NODE, rewind NODE               copies the disk; puts the store of the copy back
//! restore NODE                         puts the whole copy back, the identity file too
//! clock NODE +TIME, clock NODE -TIME   sets how far the wall clock is off
//! epoch NODE KEY N                     the control plane's word: adopt this shard epoch
//! show NODE KEY                        the row of the eventual view as stored; sets: KEY ELEMENT
//! logs NODE KEYSPACE                   for each node, how many logs of its own the asked one holds
//! status NODE, digests, notes NAME..   standing; whether all views are equal; how often since asked last
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use hansa_consistency::clock::Hlc;
use hansa_consistency::codec::Encode;
use hansa_consistency::effect::Note;
use hansa_consistency::event::Event;
use hansa_consistency::key::{KeyError, NodeId, OpId, Row, prefix_end};
use hansa_consistency::layout;
use hansa_consistency::port::{Family, Reader};
use hansa_consistency::record::{Record, RequestId};
use hansa_consistency::replica::digest;
use hansa_consistency::request::{Answer, Command, Level, Reply, Request, Scan};
use hansa_consistency::session::Context;
use hansa_consistency::version::ShardEpoch;

use super::cluster::{Cluster, Outcome};
use super::render;
use super::words::{self, Words};

/// A request whose outcome was not shown yet.
struct Open {
    asked_at: Duration,
    level: Level,
    deadline: Duration,
    label: Option<String>,
    session: Option<String>,
    etag: Option<String>,
}

/// A cluster, and what a script remembers.
pub(crate) struct Play {
    cluster: Cluster,
    per_region: u16,
    open: BTreeMap<OpId, Open>,
    sessions: BTreeMap<String, Context>,
    etags: BTreeMap<String, Bytes>,
    requests: BTreeMap<String, RequestId>,
    /// The newest server clock value any reply carried.
    last_hlc: Hlc,
}

impl Play {
    /// A cluster of one node per region.
    pub(crate) fn new() -> Play {
        Play::of(1)
    }

    fn of(per_region: u16) -> Play {
        Play {
            cluster: Cluster::new(per_region),
            per_region,
            open: BTreeMap::new(),
            sessions: BTreeMap::new(),
            etags: BTreeMap::new(),
            requests: BTreeMap::new(),
            last_hlc: Hlc::ZERO,
        }
    }

    /// Runs one command line; what it shows, line by line.
    ///
    /// # Panics
    /// When the line is no command: a script must not pass by being misspelt.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let words = Words::new(line);
        let mut shown = match words.at(0) {
            "cluster" => self.start_over(&words),
            "tick" => self.tick(words::duration(words.at(1))),
            "cut" | "down" | "isolate" | "heal" => self.connect(&words),
            "hold" | "held" | "deliver" | "drop" | "repeat" | "release" => self.mail(&words),
            "freeze" | "sync" | "crash" | "start" | "destroy" | "copy" | "rewind" | "restore"
            | "clock" | "epoch" => self.machine(&words),
            "show" | "logs" | "status" | "digests" | "notes" => self.look(&words),
            _ => self.request(&words),
        };
        shown.extend(self.show_outcomes());
        shown.join("\n")
    }

    fn start_over(&mut self, words: &Words<'_>) -> Vec<String> {
        words.allow(&["nodes"]);
        let nodes = words.named("nodes").unwrap_or("1");
        *self = Play::of(nodes.parse().expect("a number of nodes"));
        Vec::new()
    }

    fn tick(&mut self, by: Duration) -> Vec<String> {
        self.cluster.run_until(self.cluster.now + by);
        Vec::new()
    }

    fn node(&self, word: &str) -> NodeId {
        words::node(word, self.per_region)
    }

    // --- requests

    fn request(&mut self, words: &Words<'_>) -> Vec<String> {
        words.allow(&["level", "session", "id", "retry", "ack", "within", "etag"]);
        let node = self.node(words.at(0));
        let (label, plain): (Vec<&str>, Vec<&str>) = words
            .from(1)
            .iter()
            .copied()
            .partition(|word| word.starts_with('&'));
        let command = match self.command(&plain) {
            Ok(command) => command,
            Err(error) => return vec![format!("refused: {error}")],
        };
        let request = self.with_options(words, command);
        let open = Open {
            asked_at: self.cluster.now,
            level: request.level,
            deadline: request.deadline,
            label: label.first().map(|label| label[1..].to_owned()),
            session: words.named("session").map(str::to_owned),
            etag: words.named("etag").map(str::to_owned),
        };
        let (waits, end) = (open.label.is_none(), open.deadline + Duration::from_secs(1));
        let id = self.cluster.ask(node, request);
        self.open.insert(id, open);
        if waits {
            self.cluster.run_until_answered(id, end);
            if !self.cluster.outcomes.contains_key(&id) {
                self.open.remove(&id);
                return vec!["no reply".to_owned()];
            }
        }
        Vec::new()
    }

    fn command(&self, plain: &[&str]) -> Result<Command, KeyError> {
        let word = |at: usize| *plain.get(at).unwrap_or_else(|| panic!("{plain:?}"));
        let key = || words::row(word(1), None);
        let element = || words::row(word(1), Some(&words::bytes(word(2))));
        let etag = |name: &str| self.etags[name].clone();
        Ok(match word(0) {
            "get" => Command::Get(key()?),
            "contains" => Command::Get(element()?),
            "put" => Command::Put(key()?, words::bytes(word(2))),
            "delete" => Command::Delete(key()?),
            "incr" => Command::Increment(key()?, word(2).parse().expect("a number")),
            "add" => Command::AddElement(element()?),
            "remove" => Command::RemoveElement(element()?),
            "members" => Command::Scan(members(&key()?)),
            "cas" => {
                let update = Some(word(3)).filter(|value| *value != "-");
                let expect = words::expect(word(2), etag);
                Command::CompareAndSet(key()?, expect, update.map(words::bytes))
            }
            other => panic!("no command: {other}"),
        })
    }

    fn with_options(&mut self, words: &Words<'_>, command: Command) -> Request {
        let level = words.named("level").map_or(Level::Eventual, words::level);
        let session = words.named("session");
        let within = words
            .named("within")
            .map_or(Duration::from_secs(5), words::duration);
        let retry_of = words.named("retry").map(|first| {
            let (node, named) = first.split_once(':').unwrap_or((first, level.name()));
            (self.node(node), words::level(named))
        });
        Request {
            command,
            level,
            context: session
                .and_then(|name| self.sessions.get(name).cloned())
                .unwrap_or_default(),
            request_id: words.named("id").map(|name| self.request_id(name)),
            retry_of,
            ack_regions: words
                .named("ack")
                .map_or(0, |k| k.parse().expect("a number of regions")),
            deadline: self.cluster.now + within,
        }
    }

    /// The id of a name: issued at the newest clock value known when it was named first.
    fn request_id(&mut self, name: &str) -> RequestId {
        let (numbers, ahead) = name.split_once('+').unwrap_or((name, "0ms"));
        let (session, seq) = numbers.split_once('.').expect("SESSION.SEQ");
        let ahead = words::duration(ahead).as_millis() as u64;
        let id = RequestId {
            session: session.parse().expect("a session number"),
            seq: seq.parse().expect("a request number"),
            issued: self.last_hlc.plus_ms(ahead),
        };
        *self.requests.entry(name.to_owned()).or_insert(id)
    }

    /// Outcomes that came since the last command.
    fn show_outcomes(&mut self) -> Vec<String> {
        let outcomes = std::mem::take(&mut self.cluster.outcomes);
        let mut shown: Vec<(Duration, String)> = Vec::new();
        for (id, outcome) in outcomes {
            if let Some(open) = self.open.remove(&id) {
                shown.push((outcome.0, self.take_outcome(&open, &outcome)));
            }
        }
        shown.sort_by_key(|(at, _)| *at);
        shown.into_iter().map(|(_, line)| line).collect()
    }

    fn take_outcome(&mut self, open: &Open, (at, result): &Outcome) -> String {
        let (context, etag) = match result {
            Ok(reply) => {
                self.last_hlc = self.last_hlc.max(reply.hlc);
                (&reply.context, etag_of(reply))
            }
            Err(refusal) => (&refusal.context, refusal.etag.clone()),
        };
        if let Some(name) = &open.session {
            let session = self.sessions.entry(name.clone()).or_default();
            session.join(context);
        }
        if let Some(name) = &open.etag {
            self.etags.insert(name.clone(), etag);
        }
        let line = render::outcome(result, *at - open.asked_at, open.level);
        match &open.label {
            Some(label) => format!("{label}: {line}"),
            None => line,
        }
    }

    // --- the network

    fn connect(&mut self, words: &Words<'_>) -> Vec<String> {
        words.allow(&[]);
        match (words.at(0), words.from(1)) {
            ("heal", []) => self.cluster.heal(),
            ("isolate", [word]) => {
                let inside = words::nodes(word, self.per_region);
                let all = words::nodes("*", self.per_region);
                for node in &inside {
                    for other in all.difference(&inside) {
                        self.cluster.disconnect(*node, *other);
                    }
                }
            }
            ("down", [ends]) => {
                let (a, b) = ends.split_once('-').expect("A-B");
                for a in words::nodes(a, self.per_region) {
                    for b in words::nodes(b, self.per_region) {
                        self.cluster.disconnect(a, b);
                    }
                }
            }
            ("cut", [ends]) => self.cut(ends),
            _ => panic!("no command"),
        }
        self.cluster.run_until(self.cluster.now);
        Vec::new()
    }

    fn cut(&mut self, ends: &str) {
        let both = ends.contains('-');
        let (a, b) = ends.split_once(['-', '>']).expect("A-B or A>B");
        for a in words::nodes(a, self.per_region) {
            for b in words::nodes(b, self.per_region) {
                if a == b {
                    continue;
                }
                self.cluster.post.cuts.insert((a, b));
                if both {
                    self.cluster.post.cuts.insert((b, a));
                }
            }
        }
    }

    fn mail(&mut self, words: &Words<'_>) -> Vec<String> {
        words.allow(&[]);
        let now = self.cluster.now;
        let pattern = || words::pattern(words.at(1), words.at(2), self.per_region);
        match words.at(0) {
            "hold" => self.cluster.post.hold(pattern()),
            "held" => return vec![self.held()],
            "release" => self.cluster.post.release(now),
            verb => {
                let taken = self.cluster.post.take_held(&pattern());
                assert!(!taken.is_empty(), "nothing like that is held back");
                for mail in taken {
                    if verb != "drop" {
                        self.cluster.post.deliver(now, mail.clone());
                    }
                    if verb == "repeat" {
                        self.cluster.post.held.push(mail);
                    }
                }
            }
        }
        self.cluster.run_until(now);
        Vec::new()
    }

    fn held(&self) -> String {
        let name = |node| words::node_name(node, self.per_region);
        let mail = self.cluster.post.held.iter().map(|mail| {
            let kind = mail.envelope.message.name();
            format!("{kind} {}>{}", name(mail.envelope.from), name(mail.to))
        });
        mail.collect::<Vec<_>>().join(", ")
    }

    // --- nodes

    fn machine(&mut self, words: &Words<'_>) -> Vec<String> {
        words.allow(&[]);
        let node = self.node(words.at(1));
        let machine = self.cluster.machines.get_mut(&node).expect("a node");
        match words.at(0) {
            "freeze" => machine.frozen = true,
            "sync" => {
                machine.frozen = false;
                self.cluster.sync(node);
            }
            "crash" => self.cluster.crash(node),
            "start" => self.cluster.start(node),
            "destroy" => self.cluster.destroy_disk(node),
            "copy" => machine.keep(),
            "rewind" => machine.rewind(),
            "restore" => machine.restore(),
            "clock" => {
                let (sign, by) = words.at(2).split_at(1);
                let by = words::duration(by).as_millis() as i64;
                machine.skew_ms = if sign == "-" { -by } else { by };
            }
            _ => {
                let shard = words::row(words.at(2), None).expect("a key").shard();
                let epoch = ShardEpoch {
                    n: words.at(3).parse().expect("an epoch"),
                    proposer: node.0,
                };
                self.cluster.feed(node, Event::AdoptEpoch { shard, epoch });
            }
        }
        self.cluster.run_until(self.cluster.now);
        Vec::new()
    }

    // --- looking

    fn look(&mut self, words: &Words<'_>) -> Vec<String> {
        words.allow(&[]);
        let line = match words.at(0) {
            "show" => self.show(words),
            "logs" => self.logs(self.node(words.at(1)), words.at(2)),
            "status" => self.status(self.node(words.at(1))),
            "digests" => self.digests(),
            _ => self.notes(words.from(1)),
        };
        vec![line]
    }

    fn show(&self, words: &Words<'_>) -> String {
        let element = words.from(3).first().map(|word| words::bytes(word));
        let row = words::row(words.at(2), element.as_deref()).expect("a key");
        let disk = &self.cluster.machines[&self.node(words.at(1))].disk;
        let stored = disk.get(Family::Data, row.as_bytes()).expect("whole");
        let record = stored.map(|bytes| Record::from_record(&bytes).expect("a record"));
        render::record(record.as_ref())
    }

    fn logs(&self, node: NodeId, keyspace: &str) -> String {
        let mut logs: BTreeMap<NodeId, u32> = BTreeMap::new();
        let disk = &self.cluster.machines[&node].disk;
        let end = prefix_end(layout::LOG);
        let count = &mut |key: &[u8], _: Bytes| {
            let (shard, origin) = layout::log_state_of(key).expect("a log's key");
            if words::keyspace_name(shard.keyspace) == keyspace {
                *logs.entry(origin.node).or_default() += 1;
            }
            ControlFlow::Continue(())
        };
        disk.scan(Family::Meta, layout::LOG, end.as_deref(), count)
            .expect("whole");
        let named = logs
            .iter()
            .map(|(node, count)| format!("{}={count}", words::node_name(*node, self.per_region)));
        named.collect::<Vec<_>>().join(" ")
    }

    fn status(&self, node: NodeId) -> String {
        let replica = self.cluster.machines[&node].replica.as_ref();
        let Some(replica) = replica else {
            return "down".to_owned();
        };
        let status = replica.status(self.cluster.now_at(node));
        let yes = |flag: bool| if flag { "yes" } else { "no" };
        format!(
            "{} writable={} strong={} unsettled={}",
            status.standing.name(),
            yes(status.writable),
            yes(status.strong_available),
            status.unsettled,
        )
    }

    fn digests(&self) -> String {
        let mut differ = Vec::new();
        for shard in self.cluster.topology.shards() {
            let disks = self.cluster.machines.values().map(|m| &m.disk);
            let mut digests: Vec<u128> = disks.map(|d| digest(d, shard).expect("whole")).collect();
            digests.dedup();
            if digests.len() > 1 {
                differ.push(words::keyspace_name(shard.keyspace));
            }
        }
        match differ.is_empty() {
            true => "equal".to_owned(),
            false => format!("differ: {}", differ.join(", ")),
        }
    }

    fn notes(&mut self, names: &[&str]) -> String {
        let counted = std::mem::take(&mut self.cluster.notes);
        let count = |name: &&str| {
            let note = Note::ALL.into_iter().find(|note| note.name() == *name);
            let note = note.unwrap_or_else(|| panic!("no note: {name}"));
            format!("{name}={}", counted.get(&note).copied().unwrap_or(0))
        };
        names.iter().map(count).collect::<Vec<_>>().join(" ")
    }
}

fn members(key: &Row) -> Scan {
    Scan {
        keyspace: key.shard().keyspace,
        from: key.as_bytes().clone(),
        to: key.elements_end(),
        limit: 100,
    }
}

fn etag_of(reply: &Reply) -> Bytes {
    match &reply.answer {
        Answer::Read { etag, .. } | Answer::Written { etag, .. } => etag.clone(),
        Answer::Page { .. } => Bytes::new(),
    }
}
