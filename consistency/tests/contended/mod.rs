//! One key, written strongly from every region again and again: nobody starves, and half of all writes take no more than
//! three round trips to the writer's nearest quorum (DESIGN 8). Time is virtual, so this is exact.

use std::time::Duration;

use hansa_consistency::effect::Note;
use hansa_consistency::key::{KeyspaceId, NodeId, OpId, Row};
use hansa_consistency::request::{Command, Level, Request};
use hansa_consistency::session::Context;

use super::support::cluster::Cluster;

const COUNTERS: KeyspaceId = KeyspaceId(1);
/// Round trips between each region and its nearest quorum, milliseconds.
const NEAREST: [u64; 3] = [90, 90, 150];

struct Client {
    node: NodeId,
    open: Option<(OpId, Duration)>,
    took: Vec<Duration>,
    failed: Vec<String>,
}

fn write(cluster: &Cluster) -> Request {
    Request {
        command: Command::Increment(Row::new(COUNTERS, 1, b"hot", b"", None).unwrap(), 1),
        level: Level::Strong,
        context: Context::new(),
        deadline: cluster.now + Duration::from_secs(5),
        request_id: None,
        retry_of: None,
        ack_regions: 0,
    }
}

/// What the clients of three regions see in a minute, each asking again when it was answered.
fn closed_loop(per_region: u16) -> (Vec<Client>, Cluster) {
    let mut cluster = Cluster::new(1);
    let client = |n: u16| Client {
        node: NodeId(n % 3),
        open: None,
        took: Vec::new(),
        failed: Vec::new(),
    };
    let mut clients: Vec<Client> = (0..3 * per_region).map(client).collect();
    let mut chance = 1u64;
    let end = cluster.now + Duration::from_secs(60);
    while cluster.now < end {
        for client in &mut clients {
            if let Some((id, asked)) = client.open
                && let Some((at, result)) = cluster.outcomes.remove(&id)
            {
                client.open = None;
                match result {
                    Ok(_) => client.took.push(at - asked),
                    Err(refusal) => client.failed.push(refusal.message),
                }
            }
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Some think for a moment, so that no two runs of ballots keep step.
            if client.open.is_none() && chance >> 60 == 0 {
                let request = write(&cluster);
                client.open = Some((cluster.ask(client.node, request), cluster.now));
            }
        }
        cluster.run_until(cluster.now + Duration::from_millis(1));
    }
    (clients, cluster)
}

/// The median and the longest, once nothing failed.
fn took(clients: &[Client], region: u16) -> (Duration, Duration) {
    let own = || clients.iter().filter(|it| it.node == NodeId(region));
    let failed: Vec<&String> = own().flat_map(|it| &it.failed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let mut took: Vec<Duration> = own().flat_map(|it| it.took.clone()).collect();
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() - 1])
}

#[test]
fn every_region_gets_its_turn() {
    for per_region in [1, 4, 40] {
        let (clients, cluster) = closed_loop(per_region);
        assert!(cluster.notes[&Note::Combined] > 0);
        for (region, nearest) in (0..).zip(NEAREST) {
            let (p50, longest) = took(&clients, region);
            let bar = Duration::from_millis(3 * nearest);
            assert!(p50 <= bar, "{per_region} clients, region {region}: {p50:?}");
            assert!(longest <= Duration::from_secs(1), "{longest:?}");
        }
    }
}
