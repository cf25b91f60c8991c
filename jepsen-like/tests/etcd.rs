//! The checkers against a database that is not ours: etcd keeps what it promises, and is caught where the history claims
//! more for it than it promises.
//!
//! Where `etcd` is not installed these tests say `not run:` and why.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not marked as tests

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hansa_jepsen::history::{Datum, Level, Op, Record, Status};
use hansa_jepsen::nemesis::{Action, Nemesis, Wire};
use hansa_jepsen::run::{self, Deck, Options, Outcome, progress};
use hansa_jepsen::target::etcd::{self, EtcdOptions, EtcdTarget, Reads};
use hansa_jepsen::target::{RunClock, Target, TargetClient};
use hansa_jepsen::workload::{Intent, Levels, Tie, Workload};

/// Rounds within which a stale read has to be found; nearly always the first suffices.
const ROUNDS: u32 = 5;

fn is_missing(test: &str) -> bool {
    let missing = etcd::installed().is_none();
    if missing {
        println!("not run: {test}: etcd is not installed (Debian: apt-get install etcd-server)");
    }
    missing
}

/// One round on a cluster of its own.
fn options(seed: u64, nemeses: &[Nemesis], round: Duration, folder: &Path) -> Options {
    Options {
        seed,
        workloads: vec![Workload::Register],
        levels: vec![Levels::Strong],
        nemeses: nemeses.to_vec(),
        time: Duration::from_millis(1),
        round,
        rounds: 0,
        clients_per_node: 2,
        think: Duration::from_millis(20),
        deadline: Duration::from_secs(2),
        settle_within: Duration::from_secs(60),
        folder: folder.to_owned(),
        prefix: String::new(),
        keep: 100,
        asked: BTreeMap::new(),
        done: None,
    }
}

/// The members are nearer than continents: elections take less of the short time.
async fn cluster(reads: Reads) -> anyhow::Result<EtcdTarget> {
    let round_trips = [30, 50, 70].map(Duration::from_millis).to_vec();
    let options = EtcdOptions {
        reads,
        round_trips,
        ..EtcdOptions::default()
    };
    etcd::start(options).await
}

async fn play(options: &Options, reads: Reads) -> Outcome {
    let start = async |_: &[Nemesis]| cluster(reads).await;
    let told = |round: &run::Round| println!("{}", progress::line(round));
    run::run(options, start, told).await.unwrap()
}

#[tokio::test]
async fn linearizable_reads_are_clean_under_isolated_regions_kills_and_pauses() {
    if is_missing("etcd under isolated regions, kills and pauses") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nemeses = [Nemesis::RegionIsolation, Nemesis::Kill, Nemesis::Pause];
    let options = |seed| options(seed, &nemeses, Duration::from_secs(14), folder.path());
    let all = |seed: &u64| Deck::new(&options(*seed)).draw().nemeses == nemeses;
    let seed = (0..100).find(all).unwrap();
    let outcome = play(&options(seed), Reads::Linearizable).await;
    assert!(outcome.is_clean(), "{:?}", outcome.rounds[0].findings);
    let strikes = &outcome.rounds[0].strikes;
    for nemesis in nemeses {
        assert!(strikes[&nemesis] >= 1, "{strikes:?}");
    }
    let (done, ..) = outcome.operations();
    assert!(done >= 50, "only {done} operations");
    assert!(outcome.probes["starts"] >= 4, "nothing was killed");
}

#[tokio::test]
async fn serializable_reads_that_claim_to_be_linearizable_are_caught() {
    if is_missing("serializable reads of etcd") {
        return;
    }
    for seed in 0..u64::from(ROUNDS) {
        let folder = tempfile::tempdir().unwrap();
        let nemeses = [Nemesis::RegionIsolation];
        let options = options(seed, &nemeses, Duration::from_secs(6), folder.path());
        let outcome = play(&options, Reads::Serializable).await;
        let findings = &outcome.rounds[0].findings;
        if findings.iter().any(|it| it.property == "linearizable") {
            return;
        }
    }
    panic!("no stale read was found in {ROUNDS} rounds");
}

#[tokio::test]
async fn a_member_that_lost_its_disk_is_replaced_and_nothing_is_lost() {
    if is_missing("etcd with a wiped member") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nemeses = [Nemesis::WipedNode];
    let options = options(1, &nemeses, Duration::from_secs(8), folder.path());
    let outcome = play(&options, Reads::Linearizable).await;
    assert!(outcome.is_clean(), "{:?}", outcome.rounds[0].findings);
    assert_eq!(outcome.rounds[0].strikes[&Nemesis::WipedNode], 1);
    assert_eq!(outcome.probes["starts"], 4);
}

const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "registers/k";

/// One operation at a member, by a client of its own.
async fn ask(target: &EtcdTarget, node: usize, op: Op, value: Option<&str>) -> Record {
    let intent = Intent {
        op,
        key: KEY.to_owned(),
        value: value.map(|text| Datum::Text(text.to_owned())),
        level: Level::Strong,
        tie: Tie::None,
        identified: false,
        ack_regions: 0,
    };
    let mut client = target.client(0, node).unwrap();
    let deadline = Duration::from_secs(2);
    client.perform(&intent, RunClock::start(), deadline).await
}

/// Puts at a member until it takes one, which it does once the others have a leader; returns the value.
async fn put(target: &EtcdTarget, node: usize, name: &str) -> String {
    let clock = RunClock::start();
    for attempt in 0.. {
        let value = format!("{name}{attempt}");
        let done = ask(target, node, Op::Put, Some(&value)).await;
        if done.status == Status::Ok {
            return value;
        }
        assert!(clock.elapsed() < PATIENCE, "{done:?}");
    }
    unreachable!("it counts without end")
}

#[tokio::test]
async fn a_member_that_hears_nobody_shows_what_it_has_and_proves_nothing() {
    if is_missing("an isolated member of etcd") {
        return;
    }
    let mut target = cluster(Reads::Serializable).await.unwrap();
    target.settle(PATIENCE).await.unwrap();
    let old = put(&target, 1, "old").await;
    target.settle(PATIENCE).await.unwrap();
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        let cut = Action::Wire(from, to, Wire::Blackhole);
        target.act(cut).await.unwrap();
    }
    let new = put(&target, 1, "new").await;
    let stale = ask(&target, 0, Op::Get, None).await;
    assert_eq!(
        (stale.status, stale.text()),
        (Status::Ok, Some(old.as_str()))
    );
    let lost = ask(&target, 0, Op::Put, Some("nobody hears it")).await;
    assert_eq!(lost.status, Status::Info, "{lost:?}");
    // Final reads are linearizable, whatever clients do.
    let keys = [KEY.to_owned()];
    let finals = target.finals(&keys, RunClock::start()).await;
    let reads: Vec<&Record> = finals.iter().filter(|it| it.op == Op::Final).collect();
    assert_eq!(reads.len(), 3);
    assert_eq!(reads[0].status, Status::Info, "{:?}", reads[0]);
    assert_eq!(reads[1].text(), Some(new.as_str()));
    assert_eq!(reads[2].text(), Some(new.as_str()));
    let missing = target.settle(Duration::ZERO).await.unwrap_err();
    assert!(missing.contains("etcd-0"), "{missing}");
    target.heal().await.unwrap();
    target.settle(PATIENCE).await.unwrap();
    let healed = ask(&target, 0, Op::Get, None).await;
    assert_ne!(healed.text(), Some(old.as_str()), "{healed:?}");
    assert_eq!(target.deaths(), Vec::<String>::new());
    target.stop().await;
}
