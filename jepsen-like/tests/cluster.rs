//! A cluster of real processes as a target: every operation, every fault that needs no rights, and nothing left behind.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use hansa_client::Admin;
use hansa_jepsen::checker;
use hansa_jepsen::cluster::Spec;
use hansa_jepsen::history::{
    CONDITION_FAILED, Datum, Expect, History, Level, Membership, Op, Record, Status, Swap,
};
use hansa_jepsen::nemesis::{Action, Clock, Data, Disk, Layout, Nemesis, NodeIndex, Refused, Wire};
use hansa_jepsen::run::{self, Options};
use hansa_jepsen::target::hansa::{HansaClient, HansaTarget, RemoteTarget};
use hansa_jepsen::target::{FINAL_PROCESS, RunClock, Target, TargetClient};
use hansa_jepsen::workload::{Intent, Levels, Tie, Workload};

mod support;

use support::program;

/// Longer than any operation takes that is not meant to fail.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longer than any cluster takes to settle, on a loaded machine with an unoptimised binary.
const SETTLED: Duration = Duration::from_secs(60);

fn spec() -> Spec {
    let layout = Layout {
        regions: 3,
        nodes_per_region: 1,
    };
    Spec {
        program: Some(program()),
        ..Spec::new(layout).with_round_trip(Duration::from_millis(10))
    }
}

fn text(value: &str) -> Option<Datum> {
    Some(Datum::Text(value.to_owned()))
}

/// A client, what it did, and the clock.
struct Scribe {
    client: HansaClient,
    clock: RunClock,
    records: Vec<Record>,
}

impl Scribe {
    async fn does(&mut self, intent: Intent) -> Record {
        let record = self.client.perform(&intent, self.clock, DEADLINE).await;
        self.records.push(record.clone());
        record
    }

    /// With little patience.
    async fn tries(&mut self, intent: Intent) {
        let within = Duration::from_secs(1);
        let record = self.client.perform(&intent, self.clock, within).await;
        self.records.push(record);
    }

    async fn succeeds(&mut self, intent: Intent) -> Record {
        let record = self.does(intent).await;
        assert_eq!(record.status, Status::Ok, "{}", record.describe());
        record
    }
}

fn scribe(target: &HansaTarget, process: u64, node: NodeIndex, clock: RunClock) -> Scribe {
    Scribe {
        client: target.client(process, node).unwrap(),
        clock,
        records: Vec::new(),
    }
}

/// Every kind of operation at every level that has it; `n` makes values new.
async fn one_of_each(scribe: &mut Scribe, n: u64) {
    for (number, level) in (0..).zip([Level::Eventual, Level::Session, Level::Strong]) {
        let value = format!("v{n}-{number}");
        let put = Intent::plain(Op::Put, "registers/r", text(&value), level);
        let written = scribe.succeeds(put).await;
        assert!(written.etag.is_some());
        let got = scribe
            .succeeds(Intent::plain(Op::Get, "registers/r", None, level))
            .await;
        assert_eq!(got.text(), Some(value.as_str()), "{}", got.describe());
        let unit = if level == Level::Strong {
            1 << 40
        } else {
            1 << (4 * n + 2 * number)
        };
        let amount = Some(Datum::Integer(unit));
        scribe
            .succeeds(Intent::plain(Op::Incr, "counters/c", amount, level))
            .await;
        let read = scribe
            .succeeds(Intent::plain(Op::Read, "counters/c", None, level))
            .await;
        assert!(
            read.integer().is_some_and(|total| total >= unit),
            "{}",
            read.describe()
        );
        for element in ["a", "b", "c"] {
            scribe
                .succeeds(Intent::plain(Op::Add, "sets/s", text(element), level))
                .await;
        }
        scribe
            .succeeds(Intent::plain(Op::Remove, "sets/s", text("b"), level))
            .await;
        let asked = Membership {
            element: "a".to_owned(),
            present: None,
        };
        let asked = Some(Datum::Membership(asked));
        let answer = scribe
            .succeeds(Intent::plain(Op::Contains, "sets/s", asked, level))
            .await;
        assert!(matches!(answer.value, Some(Datum::Membership(it)) if it.present == Some(true)));
        if level != Level::Strong {
            let all = scribe
                .succeeds(Intent::plain(Op::Members, "sets/s", None, level))
                .await;
            assert_eq!(all.members().unwrap(), ["a", "c"], "in two pages");
        }
        scribe
            .succeeds(Intent::plain(Op::Delete, "registers/r", None, level))
            .await;
        let got = scribe
            .succeeds(Intent::plain(Op::Get, "registers/r", None, level))
            .await;
        assert_eq!((got.value.is_none(), got.etag.is_some()), (true, true));
    }
}

async fn compare_and_set(scribe: &mut Scribe) {
    let swap = |expect, new: &str| {
        let new = new.to_owned();
        let value = Some(Datum::Swap(Swap { expect, new }));
        Intent::plain(Op::Cas, "registers/swapped", value, Level::Strong)
    };
    let first = scribe.succeeds(swap(Expect::Absent, "one")).await;
    let refused = scribe.does(swap(Expect::Absent, "two")).await;
    assert_eq!(refused.error.as_deref(), Some(CONDITION_FAILED));
    assert_eq!((refused.status, &refused.etag), (Status::Fail, &first.etag));
    let etag = Expect::Etag(first.etag.unwrap());
    scribe.succeeds(swap(etag, "three")).await;
    scribe
        .succeeds(swap(Expect::Value("three".to_owned()), "four"))
        .await;
}

/// Every checker has to be content with a history.
fn judge(what: &str, records: Vec<Record>) {
    for (name, verdict) in checker::check_all(&History { records }) {
        assert!(verdict.is_ok(), "{what}: {name}: {verdict:?}");
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}

/// One direction is cut: what node 0 writes does not get to node 1, the other way it does. `far` asks node 0, `other`
/// asks node 1.
async fn one_way(target: &mut HansaTarget, far: &mut Scribe, other: &mut Scribe) {
    target
        .act(Action::Wire(0, 1, Wire::Blackhole))
        .await
        .unwrap();
    target
        .act(Action::Wire(0, 2, Wire::Blackhole))
        .await
        .unwrap();
    far.succeeds(Intent::plain(
        Op::Put,
        "registers/one-way",
        text("w1"),
        Level::Eventual,
    ))
    .await;
    let missing = other
        .succeeds(Intent::plain(
            Op::Get,
            "registers/one-way",
            None,
            Level::Eventual,
        ))
        .await;
    assert_eq!(missing.text(), None);
    other
        .succeeds(Intent::plain(
            Op::Put,
            "registers/back",
            text("w2"),
            Level::Eventual,
        ))
        .await;
    eventually("what was not cut gets through", async || {
        let get = Intent::plain(Op::Get, "registers/back", None, Level::Eventual);
        far.succeeds(get).await.text() == Some("w2")
    })
    .await;
    let unsettled = target.settle(Duration::ZERO).await.unwrap_err();
    assert!(unsettled.contains("not settled within 0 s"), "{unsettled}");

    target.heal().await.unwrap();
    target.settle(SETTLED).await.unwrap();
    let got = other
        .succeeds(Intent::plain(
            Op::Get,
            "registers/one-way",
            None,
            Level::Eventual,
        ))
        .await;
    assert_eq!(got.text(), Some("w1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn real_processes_are_loaded_broken_healed_and_judged() {
    let mut target = HansaTarget::start(spec()).await.unwrap();
    let clock = RunClock::start();
    let processes: Vec<u32> = (0..3)
        .filter_map(|it| target.cluster().process_id(it))
        .collect();
    let mut near = scribe(&target, 1, 0, clock);
    one_of_each(&mut near, 0).await;
    compare_and_set(&mut near).await;

    // The session goes along to another region, and sees there what it wrote here.
    let kept = Intent {
        tie: Tie::Keeps,
        ..Intent::plain(Op::Put, "registers/kept", text("k1"), Level::Eventual)
    };
    let kept = near.succeeds(kept).await;
    assert!(kept.session.is_some() && kept.token_out.is_some() && kept.token_in.is_none());
    near.client.move_to(2);
    let got = near
        .succeeds(Intent::plain(
            Op::Get,
            "registers/kept",
            None,
            Level::Session,
        ))
        .await;
    assert_eq!(
        (got.text(), got.region.as_deref()),
        (Some("k1"), Some("ap-northeast"))
    );
    assert_eq!(got.token_in, kept.token_out);

    // A dead node: its clients fail, the others go on; it comes back.
    target.act(Action::Kill(0)).await.unwrap();
    target.act(Action::Kill(0)).await.unwrap();
    let mut far = scribe(&target, 2, 0, clock);
    let refused = far
        .does(Intent::plain(
            Op::Get,
            "registers/kept",
            None,
            Level::Eventual,
        ))
        .await;
    assert_eq!(refused.status, Status::Fail, "{}", refused.describe());
    near.succeeds(Intent::plain(
        Op::Put,
        "registers/kept",
        text("k2"),
        Level::Strong,
    ))
    .await;
    target.act(Action::Start(0)).await.unwrap();
    target.act(Action::Start(0)).await.unwrap();
    let took = target.settle(SETTLED).await.unwrap();
    assert!(took < SETTLED);
    far.succeeds(Intent::plain(
        Op::Get,
        "registers/kept",
        None,
        Level::Eventual,
    ))
    .await;

    let mut other = scribe(&target, 3, 1, clock);
    one_way(&mut target, &mut far, &mut other).await;
    one_of_each(&mut other, 1).await;
    target.settle(SETTLED).await.unwrap();

    let keys = [
        "registers/r",
        "registers/swapped",
        "registers/kept",
        "registers/one-way",
    ];
    let keys = keys
        .iter()
        .chain(&["registers/back", "counters/c", "sets/s"]);
    let keys: Vec<String> = keys.map(|key| (*key).to_owned()).collect();
    let finals = target.finals(&keys, clock).await;
    let count = |op| {
        finals
            .iter()
            .filter(|it| it.op == op && it.status == Status::Ok)
            .count()
    };
    assert_eq!((count(Op::Final), count(Op::Digest)), (3 * keys.len(), 9));
    assert!(finals.iter().all(|it| it.process >= FINAL_PROCESS));

    let probes = target.probes().await;
    assert!(probes["votes_again"] >= 1, "{probes:?}");
    let usage = target.usage().await;
    assert_eq!(usage.len(), 3);
    assert!(
        usage
            .iter()
            .all(|it| it.memory > 0 && it.disk > 0 && it.files > 0),
        "{usage:?}"
    );
    assert_eq!(target.deaths(), Vec::<String>::new());
    assert_eq!(target.stop().await, Vec::<String>::new());
    for id in processes {
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "{id} is left");
    }

    let records = [near.records, far.records, other.records, finals].concat();
    judge("all of it", records);
}

/// Processor time that a process has had, in ticks of the system.
fn ticks(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    // User and system time: fields 14 and 15, counted from the process id.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_stand_still_run_slowly_and_go_on() {
    let mut target = HansaTarget::start(spec()).await.unwrap();
    let clock = RunClock::start();
    let id = target.cluster().process_id(1).unwrap();
    let mut scribe = scribe(&target, 1, 1, clock);
    let get = || Intent::plain(Op::Get, "registers/r", None, Level::Eventual);

    for _ in 0..2 {
        target.act(Action::Pause(1)).await.unwrap();
    }
    let before = ticks(id);
    let short = Duration::from_millis(300);
    let record = scribe.client.perform(&get(), clock, short).await;
    assert_eq!(record.status, Status::Fail, "{}", record.describe());
    assert_eq!(ticks(id), before, "it stands still");
    // A start of one that stands lets it go on: it is the same process.
    target.act(Action::Start(1)).await.unwrap();
    scribe.succeeds(get()).await;
    assert_eq!(target.cluster().process_id(1), Some(id));

    target.act(Action::Processor(1, 5)).await.unwrap();
    target.act(Action::Pause(1)).await.unwrap();
    let before = ticks(id);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ticks(id), before, "its turns do not wake it");
    target.act(Action::Resume(1)).await.unwrap();
    scribe.succeeds(get()).await;
    // One that is throttled or stands can be ended all the same.
    target.act(Action::Stop(1)).await.unwrap();
    target.act(Action::Pause(1)).await.unwrap();
    target.act(Action::Start(1)).await.unwrap();
    target.act(Action::Pause(1)).await.unwrap();
    target.act(Action::Stop(1)).await.unwrap();
    assert_eq!(target.cluster().process_id(1), None);
    target.heal().await.unwrap();
    target.settle(SETTLED).await.unwrap();
    assert_eq!(target.deaths(), Vec::<String>::new());

    // One that ends by itself is reported, once, and started again by a start.
    let id = target.cluster().process_id(1).unwrap();
    let killed = Command::new("kill").args(["-9", &id.to_string()]).status();
    assert!(killed.unwrap().success());
    let mut deaths = Vec::new();
    eventually("the death is noticed", async || {
        deaths.extend(target.deaths());
        !deaths.is_empty()
    })
    .await;
    assert!(
        deaths[0].starts_with("eu-central-1 ended by itself"),
        "{deaths:?}"
    );
    target.act(Action::Start(1)).await.unwrap();
    target.settle(SETTLED).await.unwrap();
    assert_eq!(target.deaths(), Vec::<String>::new());
    assert_eq!(target.stop().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_data_is_gone_or_old_or_damaged_comes_back_without_its_vote() {
    for damage in [Data::Wipe, Data::Restore, Data::FlipBit, Data::Misdirect] {
        let mut target = HansaTarget::start(spec()).await.unwrap();
        let clock = RunClock::start();
        let mut scribe = scribe(&target, 1, 0, clock);
        one_of_each(&mut scribe, 0).await;
        let refused = target.act(Action::Data(1, damage)).await.unwrap_err();
        assert!(
            matches!(&refused, Refused::Failed(why) if why.contains("runs")),
            "{refused}"
        );
        if damage == Data::Restore {
            target.act(Action::Kill(1)).await.unwrap();
            let nothing = target.act(Action::Data(1, damage)).await.unwrap_err();
            assert!(matches!(nothing, Refused::Failed(_)), "{nothing}");
            target.act(Action::Data(1, Data::Keep)).await.unwrap();
            target.act(Action::Start(1)).await.unwrap();
            target.settle(SETTLED).await.unwrap();
            one_of_each(&mut scribe, 1).await;
        }
        target.act(Action::Kill(1)).await.unwrap();
        target.act(Action::Data(1, damage)).await.unwrap();
        target.act(Action::Start(1)).await.unwrap();
        let settled = target.settle(SETTLED).await;
        let log = target.cluster().log_end(1);
        assert!(settled.is_ok(), "{damage:?}: {settled:?}{log}");
        let keys = ["registers/r", "counters/c", "sets/s"].map(str::to_owned);
        let finals = target.finals(&keys, clock).await;
        assert!(
            finals.iter().all(|it| it.status == Status::Ok),
            "{finals:?}"
        );
        assert_eq!(target.deaths(), Vec::<String>::new(), "{damage:?}");
        assert_eq!(target.stop().await, Vec::<String>::new());
        let records = [scribe.records, finals].concat();
        judge(&format!("{damage:?}"), records);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_copy_of_the_data_costs_nothing_that_was_acknowledged() {
    let mut target = HansaTarget::start(spec()).await.unwrap();
    let clock = RunClock::start();
    let mut scribe = scribe(&target, 1, 0, clock);
    one_of_each(&mut scribe, 0).await;
    target.act(Action::Clone(0)).await.unwrap();
    let mut scribes: Vec<Scribe> = (0..3)
        .map(|node| self::scribe(&target, 2 + node as u64, node, clock))
        .collect();
    for n in 0..10 {
        for (node, scribe) in scribes.iter_mut().enumerate() {
            for level in [Level::Session, Level::Strong] {
                // Refusals are allowed, of the node that the others hear no more above all.
                let value = format!("{level:?}-{n}-{node}");
                let put = Intent::plain(Op::Put, "registers/cloned", text(&value), level);
                scribe.tries(put).await;
                scribe
                    .tries(Intent::plain(Op::Get, "registers/cloned", None, level))
                    .await;
            }
        }
    }
    target.heal().await.unwrap();
    let settled = target.settle(SETTLED).await;
    let log = target.cluster().log_end(0);
    assert!(settled.is_ok(), "{settled:?}{log}");
    let keys = ["registers/r", "registers/cloned", "counters/c", "sets/s"].map(str::to_owned);
    let finals = target.finals(&keys, clock).await;
    assert_eq!(target.stop().await, Vec::<String>::new());
    let mut records = [scribe.records, finals].concat();
    records.extend(scribes.into_iter().flat_map(|scribe| scribe.records));
    judge("all of it", records);
}

/// Whether the peers of a node say that its clock differs.
async fn is_disputed(target: &HansaTarget, node: NodeIndex) -> bool {
    let name = target.node_name(node);
    let asked = (node + 1) % 3;
    let url = format!("http://{}", target.cluster().addresses(asked).client);
    let admin = Admin::connect(&url, DEADLINE).await.unwrap();
    let status = admin.status().await.unwrap();
    let peer = status.peers.iter().find(|peer| peer.node == name).unwrap();
    peer.clock_disputed
}

/// A cluster; `None` when this machine has no means for what it needs, which is said.
async fn if_possible(spec: Spec) -> Option<HansaTarget> {
    match HansaTarget::start(spec).await {
        Ok(target) => Some(target),
        Err(error) => match error.downcast_ref() {
            Some(Refused::NotHere(what)) => {
                println!("not run: {what}");
                None
            }
            _ => panic!("{error:#}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wall_clocks_jump_and_are_mended_while_the_node_runs() {
    let spec = Spec {
        clocks: true,
        ..spec()
    };
    let Some(mut target) = if_possible(spec).await else {
        return;
    };
    assert!(!is_disputed(&target, 0).await);
    let jump = Clock::Offset(3_000);
    target.act(Action::Clock(0, jump)).await.unwrap();
    eventually("the jump is noticed", async || {
        is_disputed(&target, 0).await
    })
    .await;
    target.heal().await.unwrap();
    target.settle(SETTLED).await.unwrap();
    assert!(!is_disputed(&target, 0).await);
    assert_eq!(target.stop().await, Vec::<String>::new());
}

fn wall_ms() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs_f64() * 1000.0
}

#[tokio::test(flavor = "multi_thread")]
async fn wall_clocks_show_what_they_are_told() {
    /// What reading a clock in whole milliseconds, and setting it, may add.
    const SLACK_MS: f64 = 5.0;
    let layout = Layout {
        regions: 1,
        nodes_per_region: 1,
    };
    let alone = Spec {
        layout,
        clocks: true,
        ..spec()
    };
    let Some(mut target) = if_possible(alone).await else {
        return;
    };
    let url = format!("http://{}", target.cluster().addresses(0).client);
    let admin = Admin::connect(&url, DEADLINE).await.unwrap();
    let mut scribe = scribe(&target, 1, 0, RunClock::start());
    let clocks = [
        Clock::True,
        Clock::Offset(200),
        Clock::Offset(-100),
        Clock::Rate(1040),
        Clock::Rate(960),
        Clock::Frozen,
        Clock::True,
    ];
    for (number, clock) in (0..).zip(clocks) {
        let [early, late] = {
            let early = wall_ms();
            target.act(Action::Clock(0, clock)).await.unwrap();
            [early, wall_ms()]
        };
        // The node's own time never goes back: until it is surely ahead of what it showed before.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let before = wall_ms();
        let value = format!("v{number}");
        let put = Intent::plain(Op::Put, "registers/r", text(&value), Level::Eventual);
        scribe.succeeds(put).await;
        let after = wall_ms();
        let shown = (admin.status().await.unwrap().server_hlc >> 16) as f64;
        let (low, high) = match clock {
            Clock::True => (before, after),
            Clock::Offset(ms) => (before + ms as f64, after + ms as f64),
            Clock::Rate(permille) => {
                let gained = permille as f64 / 1000.0 - 1.0;
                let [a, b] = [(before - late) * gained, (after - early) * gained];
                (before + a.min(b), after + a.max(b))
            }
            Clock::Frozen => (early, late),
        };
        // The server's clock is read once more for the status.
        let high = match clock {
            Clock::Frozen => high,
            _ => high + (wall_ms() - after) * 2.0,
        };
        assert!(
            (low - SLACK_MS..=high + SLACK_MS).contains(&shown),
            "{clock:?}: {shown} is not within {low} and {high}"
        );
    }
    assert_eq!(target.stop().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_and_failing_disks_cost_nothing_that_was_acknowledged() {
    let plain = HansaTarget::start(spec()).await;
    let mut plain = plain.unwrap();
    let refused = plain.act(Action::Disk(1, Disk::Full)).await.unwrap_err();
    assert!(matches!(refused, Refused::NotHere(_)), "{refused}");
    plain.stop().await;

    let spec = Spec {
        disks: true,
        ..spec()
    };
    let Some(mut target) = if_possible(spec).await else {
        return;
    };
    let clock = RunClock::start();
    let mut scribe = scribe(&target, 1, 1, clock);
    for (n, cut) in (0..).zip([Data::DropUnsynced, Data::Tear, Data::DropUnsynced]) {
        one_of_each(&mut scribe, n).await;
        if n == 2 {
            let failing = Action::Disk(1, Disk::FailSyncs);
            target.act(failing).await.unwrap();
            let put =
                |value| Intent::plain(Op::Put, "registers/failed", text(value), Level::Eventual);
            let first = scribe.does(put("f1")).await;
            assert_ne!(first.status, Status::Ok, "{}", first.describe());
            let healthy = Action::Disk(1, Disk::Healthy);
            target.act(healthy).await.unwrap();
            // What a failed sync left behind nobody knows: until it is started again the node takes nothing.
            let second = scribe.does(put("f2")).await;
            assert_eq!(second.error.as_deref(), Some("STORE_FAILED"));
        }
        target.act(Action::Kill(1)).await.unwrap();
        target.act(Action::Data(1, cut)).await.unwrap();
        target.act(Action::Start(1)).await.unwrap();
        target.settle(SETTLED).await.unwrap();
    }
    target.act(Action::Disk(1, Disk::Slow(200))).await.unwrap();
    let slow = Intent::plain(Op::Put, "registers/slow", text("s1"), Level::Eventual);
    let slow = scribe.succeeds(slow).await;
    let took = slow.complete_ns.unwrap() - slow.invoke_ns;
    assert!(took >= 200_000_000, "{took} ns");
    target.heal().await.unwrap();
    target.settle(SETTLED).await.unwrap();
    let keys = ["registers/r", "registers/slow", "registers/failed"];
    let keys = keys.iter().chain(&["counters/c", "sets/s"]);
    let keys: Vec<String> = keys.map(|key| (*key).to_owned()).collect();
    let finals = target.finals(&keys, clock).await;
    assert!(target.usage().await.iter().all(|it| it.disk > 0));
    assert_eq!(target.deaths(), Vec::<String>::new());
    assert_eq!(target.stop().await, Vec::<String>::new());
    let records = [scribe.records, finals].concat();
    judge("all of it", records);
}

/// The whole runner, on a cluster that it did not start.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_somebody_else_runs_is_tested_without_faults() {
    let theirs = HansaTarget::start(spec()).await.unwrap();
    let url = format!("http://{}", theirs.cluster().addresses(1).client);
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        seed: 3,
        workloads: vec![Workload::All],
        levels: vec![Levels::Mixed],
        nemeses: vec![Nemesis::Kill],
        time: Duration::from_millis(1),
        round: Duration::from_secs(4),
        rounds: 0,
        clients_per_node: 2,
        think: Duration::from_millis(40),
        deadline: DEADLINE,
        settle_within: SETTLED,
        folder: folder.path().to_owned(),
        prefix: "mine-".to_owned(),
        keep: 1,
        asked: BTreeMap::new(),
        done: None,
    };
    let start = async |_: &[Nemesis]| RemoteTarget::connect(&url).await;
    let outcome = run::run(&options, start, |_| {}).await.unwrap();
    assert!(outcome.is_clean(), "{:?}", outcome.rounds[0].findings);
    assert!(outcome.operations().0 > 20, "{:?}", outcome.operations());
    assert!(outcome.not_here()[&Nemesis::Kill].contains("did not start this cluster"));
    theirs.stop().await;
}
