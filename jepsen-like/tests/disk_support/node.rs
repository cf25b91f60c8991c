//! A real node whose data is on the disk: one region, one node.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hansa_client::{Client, Consistency};
use hansa_jepsen::cluster::{Addresses, Ports};
use hansa_jepsen::disk::Settings;
use hansa_jepsen::nemesis::{Data, Disk as Fault};
use hansa_jepsen::random::Random;

use super::{Bench, bench_with};
use crate::say::say;
use crate::support::program;

const ROUNDS: u64 = 5;

/// What a sync of a disk takes, milliseconds: time to be caught in the middle of.
const SYNC_MS: u64 = 5;

/// How long a disk is faulty before the power goes.
const FAULTY: Duration = Duration::from_millis(200);

/// Acknowledged writes in a round, at least.
const WANTED: usize = 60;

/// Clients that write at the same time.
const WRITERS: u64 = 8;

/// Longest value, bytes.
const VALUE_MAX: u64 = 256 << 10;

/// How long a node may take to answer after it was started, and a call to be answered, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running node. Killed when dropped.
struct Node {
    process: Child,
    url: String,
    /// Held until it is gone.
    _ports: Ports,
}

impl Node {
    fn start(bench: &Bench, engine: &str) -> Node {
        let home = bench.home.path();
        let ports = Ports::take(1).unwrap();
        let Addresses { client, peer, .. } = ports.of(0);
        let topology = format!(
            "cluster_id = \"disk\"\nepoch = 1\n[[regions]]\nname = \"here\"\n\
             nodes = [{{ name = \"node\", peer_address = \"{peer}\", client_address = \"{client}\" }}]\n\
             [[keyspaces]]\nname = \"things\"\ntype = \"register\"\n"
        );
        fs::write(home.join("topology.toml"), topology).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(home.join("log"));
        let process = Command::new(program())
            .env_clear()
            .args(["serve", "--node", "node", "--metrics-listen", "off"])
            .args(["--engine", engine, "--log-level", "error"])
            .args(["--listen", &client.to_string()])
            .args(["--peer-listen", &peer.to_string()])
            .arg("--data-dir")
            .arg(bench.at("data"))
            .arg("--topology")
            .arg(home.join("topology.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        Node {
            process,
            url: format!("http://{client}"),
            _ports: ports,
        }
    }

    /// A client, once the node answers. None when it ends instead.
    async fn client(&mut self) -> Option<Client> {
        let until = Instant::now() + PATIENCE;
        loop {
            let builder = Client::builder().region("here").endpoint("here", &self.url);
            let built = builder.deadline(Duration::from_secs(20)).build().await;
            if let Ok(client) = built
                && client.get("things", "anything").await.is_ok()
            {
                return Some(client);
            }
            if self.process.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < until, "the node does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The value of a key: 1 byte to 256 KiB, short ones as often as long ones.
fn value(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let most = 1 << random.between(0, VALUE_MAX.ilog2().into());
    let len = random.between(1, most) as usize;
    // Cheap noise, other for every key: it is not to hold up the writers.
    let mut state = number.wrapping_mul(2) + 1;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state ^ (state >> 32)).to_le_bytes()
    });
    let mut bytes: Vec<u8> = noise.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

fn key(number: u64) -> String {
    format!("key-{number}")
}

/// Acknowledged writes, and the level of each.
type Acknowledged = Arc<Mutex<BTreeMap<u64, Consistency>>>;

/// Puts keys until the node is gone. Key after key, every one new.
async fn write(client: Client, first: u64, step: u64, acknowledged: Acknowledged) {
    for number in (first..).step_by(step as usize) {
        let level = match number % 5 {
            0 => Consistency::Strong,
            _ => Consistency::Eventual,
        };
        let put = client
            .put("things", key(number), value(number))
            .level(level);
        if put.await.is_err() {
            return;
        }
        acknowledged.lock().unwrap().insert(number, level);
    }
}

/// Kills the node while it is being written to, and takes away what it had not synced.
/// Returns how many bytes that were.
async fn round(
    bench: &Bench,
    mut node: Node,
    (round, accident): (u64, Accident),
    acknowledged: &Acknowledged,
) -> u64 {
    let client = node.client().await.expect("it starts");
    bench.disk.act_disk(Fault::Slow(SYNC_MS));
    let before = acknowledged.lock().unwrap().len();
    let first = round << 32;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let acknowledged = Arc::clone(acknowledged);
            tokio::spawn(write(client.clone(), first + writer, WRITERS, acknowledged))
        })
        .collect();
    let until = Instant::now() + PATIENCE;
    while acknowledged.lock().unwrap().len() < before + WANTED {
        assert!(Instant::now() < until, "too few writes are acknowledged");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Not a wait for anything: the power is to go at a random moment.
    let moment = Random::new(round).below(4 * SYNC_MS * 1000);
    tokio::time::sleep(Duration::from_micros(moment)).await;
    if let Some(fault) = accident.fault {
        bench.disk.act_disk(fault);
        // Not a wait for anything either: time to acknowledge what may not be.
        tokio::time::sleep(FAULTY).await;
    }
    // The first as the plan of a run does it; in the others, the power goes in the middle of a sync.
    if round > 0 {
        bench.disk.power_off();
    }
    drop(node);
    for writer in writers {
        writer.abort();
        let _ = writer.await;
    }
    bench.disk.act_disk(Fault::Healthy);
    let done = bench.disk.act_data(accident.data).unwrap();
    say(&format!("disk: power cut {round}: {done}"));
    bench.disk.counters().lost
}

/// Which acknowledged keys are not there.
async fn missing(client: &Client, acknowledged: &Acknowledged) -> Vec<String> {
    let all = acknowledged.lock().unwrap().clone();
    let mut missing = Vec::new();
    for (number, level) in all {
        let got = client.get("things", key(number)).level(level).await;
        match got {
            Ok(got) if got.bytes().is_some_and(|bytes| bytes[..] == value(number)) => {}
            other => missing.push(format!(
                "{}: {:?}",
                key(number),
                other.map(|got| got.bytes().map(|it| it.len()))
            )),
        }
    }
    missing
}

/// What happens to a node that is being written to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accident {
    /// What its disk does for a while before.
    pub(crate) fault: Option<Fault>,
    /// What is left of its data.
    pub(crate) data: Data,
}

/// How a node came out of its power cuts.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Everything that it had acknowledged is there.
    Kept,
    /// These acknowledged keys are not.
    Lost(Vec<String>),
    /// It does not start again; the end of its log.
    Refused(String),
}

/// Accidents to a node that is being written to, all of one kind. None where there can be no disk.
pub(crate) fn power_cuts(
    case: &str,
    engine: &str,
    settings: Settings,
    accident: Accident,
) -> Option<Outcome> {
    let bench = bench_with(case, settings)?;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    Some(runtime.block_on(cuts(&bench, engine, accident)))
}

async fn cuts(bench: &Bench, engine: &str, accident: Accident) -> Outcome {
    let acknowledged = Acknowledged::default();
    let mut node = Node::start(bench, engine);
    let mut gone = 0;
    for number in 0..ROUNDS {
        gone += round(bench, node, (number, accident), &acknowledged).await;
        node = Node::start(bench, engine);
        let Some(client) = node.client().await else {
            return Outcome::Refused(log_of(bench.home.path()));
        };
        let missing = missing(&client, &acknowledged).await;
        if !missing.is_empty() {
            return Outcome::Lost(missing);
        }
    }
    // A node whose disk is full stops to write, so the cut finds everything synced.
    let idle = accident.fault == Some(Fault::Full);
    assert!(idle || gone > 0, "no cut came between a write and its sync");
    let keys = acknowledged.lock().unwrap().len();
    say(&format!(
        "disk: {engine}: {ROUNDS} times {accident:?}: {keys} keys acknowledged, none lost; {:?}",
        bench.disk.counters()
    ));
    Outcome::Kept
}

/// The end of what the nodes logged.
fn log_of(home: &Path) -> String {
    let log = fs::read_to_string(home.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
