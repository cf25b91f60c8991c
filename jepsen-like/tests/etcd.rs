//! The checkers against a database that is not ours: etcd keeps what it promises, and is caught where the history claims
//! more for it than it promises.
//!
//! Where `etcd` is not installed these tests say `not run:` and why.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not marked as tests

use std::path::Path;
use std::time::Duration;

use hansa_jepsen::nemesis::Nemesis;
use hansa_jepsen::run::{self, Deck, Options, Outcome, progress};
use hansa_jepsen::target::etcd::{self, EtcdOptions, Reads};
use hansa_jepsen::workload::{Levels, Workload};

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
        clients_per_node: 2,
        think: Duration::from_millis(20),
        deadline: Duration::from_secs(2),
        settle_within: Duration::from_secs(60),
        folder: folder.to_owned(),
        keep: 100,
        done: None,
    }
}

/// Plays it. The members are nearer than continents: elections take less of the short time.
async fn play(options: &Options, reads: Reads) -> Outcome {
    let start = async |_: &[Nemesis]| {
        let round_trips = [30, 50, 70].map(Duration::from_millis).to_vec();
        let options = EtcdOptions {
            reads,
            round_trips,
            ..EtcdOptions::default()
        };
        etcd::start(options).await
    };
    let told = |round: &run::Round| println!("{}", progress::line(round));
    run::run(options, start, told).await.unwrap()
}

#[tokio::test]
async fn linearizable_reads_are_clean_under_isolated_regions_and_kills() {
    if is_missing("etcd under isolated regions and kills") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nemeses = [Nemesis::RegionIsolation, Nemesis::Kill];
    let options = |seed| options(seed, &nemeses, Duration::from_secs(14), folder.path());
    let both = |seed: &u64| Deck::new(&options(*seed)).draw().nemeses == nemeses;
    let seed = (0..100).find(both).unwrap();
    let outcome = play(&options(seed), Reads::Linearizable).await;
    assert!(outcome.is_clean(), "{:?}", outcome.rounds[0].findings);
    let strikes = &outcome.rounds[0].strikes;
    for nemesis in nemeses {
        assert!(strikes[&nemesis] >= 1, "{strikes:?}");
    }
    let (done, ..) = outcome.operations();
    assert!(done >= 100, "only {done} operations");
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
