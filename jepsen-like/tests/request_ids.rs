//! Request ids on real processes: histories have them, writes are repeated under them, and the checker judges that.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::collections::BTreeSet;
use std::time::Duration;

use hansa_jepsen::checker::{self, Verdict};
use hansa_jepsen::cluster::Spec;
use hansa_jepsen::history::{
    CONDITION_FAILED, Datum, Expect, History, Level, Op, Record, Status, Swap,
};
use hansa_jepsen::nemesis::{Action, Layout, NodeIndex};
use hansa_jepsen::random::Random;
use hansa_jepsen::target::hansa::{HansaClient, HansaTarget};
use hansa_jepsen::target::{RunClock, Target, TargetClient};
use hansa_jepsen::workload::{Generator, Intent, Levels, Tie, Workload};

mod support;

use support::program;

/// Longer than any operation takes that is not meant to fail.
const DEADLINE: Duration = Duration::from_secs(10);
/// The deadline of an operation that is meant to end without an answer.
const SHORT: Duration = Duration::from_millis(500);
/// Longer than any cluster takes to settle, on a loaded machine with an unoptimised binary.
const SETTLED: Duration = Duration::from_secs(60);
/// What a strong increment adds (`docs/history-format.md`, Rules).
const UNIT: i64 = 1 << 40;

async fn start() -> HansaTarget {
    let layout = Layout {
        regions: 3,
        nodes_per_region: 1,
    };
    let spec = Spec {
        program: Some(program()),
        ..Spec::new(layout).with_round_trip(Duration::from_millis(10))
    };
    HansaTarget::start(spec).await.unwrap()
}

fn increment(key: &str, amount: i64, level: Level, identified: bool) -> Intent {
    Intent {
        op: Op::Incr,
        key: key.to_owned(),
        value: Some(Datum::Integer(amount)),
        level,
        tie: match level {
            Level::Session => Tie::Carries,
            Level::Eventual | Level::Strong => Tie::None,
        },
        identified,
        ack_regions: 0,
    }
}

/// An increment that ends without an answer, because the node that was asked stands still; it may go on with it later.
async fn unanswered(
    target: &mut HansaTarget,
    client: &mut HansaClient,
    (intent, node): (&Intent, NodeIndex),
    clock: RunClock,
) -> Record {
    // The connection has to be there: what is never sent is not applied.
    let read = Intent {
        op: match intent.op {
            Op::Incr => Op::Read,
            _ => Op::Get,
        },
        value: None,
        identified: false,
        ..intent.clone()
    };
    let before = client.perform(&read, clock, DEADLINE).await;
    assert_eq!(before.status, Status::Ok, "{}", before.describe());
    target.act(Action::Pause(node)).await.unwrap();
    let record = client.perform(intent, clock, SHORT).await;
    target.act(Action::Resume(node)).await.unwrap();
    assert_eq!(record.status, Status::Info, "{}", record.describe());
    record
}

/// What every region shows of this counter once all is quiet, and the lines that say so.
async fn totals(target: &mut HansaTarget, key: &str, clock: RunClock) -> (Vec<i64>, Vec<Record>) {
    target.settle(SETTLED).await.unwrap();
    let lines = target.finals(&[key.to_owned()], clock).await;
    let finals = lines.iter().filter(|line| line.op == Op::Final);
    (finals.filter_map(Record::integer).collect(), lines)
}

/// The same history as if some line had not taken part in the deduplication: the totals count it once more.
fn counted_again(records: &[Record], amount: i64) -> History {
    let mut records = records.to_vec();
    for record in records.iter_mut().filter(|record| record.op == Op::Final) {
        record.value = record.integer().map(|total| Datum::Integer(total + amount));
    }
    History { records }
}

fn judged(history: &History) -> Verdict {
    let mut verdicts = checker::check_all(history).into_iter();
    verdicts.find(|(name, _)| *name == "request_ids").unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_unknown_outcome_is_repeated_under_its_id_and_counts_once() {
    let mut target = start().await;
    let clock = RunClock::start();
    for (process, level, amount, elsewhere) in [
        (1, Level::Strong, UNIT, true),
        (2, Level::Session, 1, false),
        (3, Level::Eventual, 1, false),
    ] {
        let key = format!("counters/{level:?}");
        let mut client = target.client(process, 0).unwrap();
        let intent = increment(&key, amount, level, true);
        let first = unanswered(&mut target, &mut client, (&intent, 0), clock).await;
        let id = first.request_id.clone().unwrap();
        assert_eq!(id.split('-').count(), 3, "{id}");
        if elsewhere {
            client.move_to(1);
        }
        let again = client.repeat(clock, DEADLINE).await.unwrap();
        assert_eq!(again.status, Status::Ok, "{}", again.describe());
        assert_eq!(again.request_id, first.request_id);
        assert_eq!((again.op, &again.value), (first.op, &first.value));
        assert_eq!((&again.key, again.level), (&first.key, first.level));
        assert!(
            client.repeat(clock, DEADLINE).await.is_none(),
            "it is known"
        );

        let (shown, finals) = totals(&mut target, &key, clock).await;
        assert_eq!(shown, [amount; 3], "{level:?}");
        let records = [vec![first, again], finals].concat();
        assert!(judged(&counted_again(&records, 0)).is_ok(), "{level:?}");
        let twice = judged(&counted_again(&records, amount));
        assert!(
            matches!(twice, Verdict::Violation(_)),
            "{level:?}: {twice:?}"
        );
    }
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_compare_and_set_is_told_its_outcome() {
    let mut target = start().await;
    let clock = RunClock::start();
    let mut client = target.client(1, 0).unwrap();
    // The second finds what the first wrote.
    for (new, refused) in [("one", false), ("two", true)] {
        let swap = Swap {
            expect: Expect::Absent,
            new: new.to_owned(),
        };
        let intent = Intent {
            op: Op::Cas,
            key: "registers/swapped".to_owned(),
            value: Some(Datum::Swap(swap)),
            ..increment("", 0, Level::Strong, true)
        };
        let first = unanswered(&mut target, &mut client, (&intent, 0), clock).await;
        client.move_to(1);
        let again = client.repeat(clock, DEADLINE).await.unwrap();
        let expected = if refused { Status::Fail } else { Status::Ok };
        assert_eq!(again.status, expected, "{}", again.describe());
        assert_eq!(again.error.as_deref(), refused.then_some(CONDITION_FAILED));
        assert!(again.etag.is_some());
        assert_eq!(again.request_id, first.request_id);
        client.move_to(0);
    }
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_strong_no_other_node_takes_a_repeated_write() {
    let mut target = start().await;
    let clock = RunClock::start();
    let mut client = target.client(1, 0).unwrap();
    let key = "counters/elsewhere";
    let intent = increment(key, 1, Level::Eventual, true);
    let first = unanswered(&mut target, &mut client, (&intent, 0), clock).await;
    client.move_to(1);
    for _ in 0..2 {
        let again = client.repeat(clock, DEADLINE).await.unwrap();
        assert_eq!(again.error.as_deref(), Some("UNKNOWN_OUTCOME"));
        assert_eq!(again.status, Status::Info);
        assert_eq!(again.request_id, first.request_id);
    }
    let (shown, _) = totals(&mut target, key, clock).await;
    assert!(shown == [1; 3] || shown == [0; 3], "{shown:?}");
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_with_and_without_ids_differ() {
    let mut target = start().await;
    let clock = RunClock::start();
    let mut client = target.client(1, 0).unwrap();
    for (workload, identified) in [(Workload::Counter, false), (Workload::CounterIds, true)] {
        let mut generator = Generator::prefixed(&workload.name());
        let mut random = Random::new(7);
        let mut ids = BTreeSet::new();
        let mut writes = 0;
        while writes < 20 {
            let intent = generator.next(&mut random, &workload.recipe(), Levels::Mixed.mix());
            let record = client.perform(&intent, clock, DEADLINE).await;
            assert_eq!(record.status, Status::Ok, "{}", record.describe());
            let named = intent.op.is_write() && identified;
            assert_eq!(record.request_id.is_some(), named, "{}", record.describe());
            let shown = &record.receipt.as_ref().unwrap()["request_id"];
            assert_eq!(shown.as_str(), record.request_id.as_deref());
            writes += usize::from(intent.op.is_write());
            ids.extend(record.request_id);
        }
        assert_eq!(
            ids.len(),
            if identified { writes } else { 0 },
            "each its own"
        );
    }

    // Without an id nobody can ask again.
    let intent = increment("counters/unnamed", 1, Level::Session, false);
    let record = unanswered(&mut target, &mut client, (&intent, 0), clock).await;
    assert_eq!(record.request_id, None);
    assert!(client.repeat(clock, DEADLINE).await.is_none());
    target.stop().await;
}
