//! One key, written strongly from every region again and again: nobody starves, and half of all writes take no more than
//! three round trips to the writer's nearest quorum (DESIGN 8). Time is virtual, so this is exact.

use std::time::Duration;

use hansa_consistency::effect::Note;
use hansa_consistency::key::{KeyspaceId, NodeId, OpId, Row};
use hansa_consistency::request::{Command, Level, Path, Reply, Request};
use hansa_consistency::session::Context;

use super::support::cluster::Cluster;

const REGISTERS: KeyspaceId = KeyspaceId(0);
/// Round trips between each region and its nearest quorum, milliseconds.
const NEAREST: [u64; 3] = [90, 90, 150];

struct Client {
    node: NodeId,
    open: Option<(OpId, Duration)>,
    /// When it began, how long it took, and how.
    done: Vec<(Duration, Duration, Option<Path>)>,
    failed: Vec<String>,
}

impl Client {
    fn take(&mut self, cluster: &mut Cluster) {
        let Some((id, asked)) = self.open else {
            return;
        };
        let Some((at, result)) = cluster.outcomes.remove(&id) else {
            return;
        };
        self.open = None;
        match result {
            Ok(Reply { receipt, .. }) => self.done.push((asked, at - asked, receipt.path)),
            Err(refusal) => self.failed.push(refusal.message),
        }
    }
}

/// Clients that ask again when they were answered.
struct Load {
    cluster: Cluster,
    clients: Vec<Client>,
    bytes: usize,
    chance: u64,
}

impl Load {
    /// So many clients in each region, and values of so many bytes.
    fn new(clients: [usize; 3], bytes: usize) -> Load {
        let client = |region: u16| Client {
            node: NodeId(region),
            open: None,
            done: Vec::new(),
            failed: Vec::new(),
        };
        let each = (0..).zip(clients);
        let clients = each.flat_map(|(region, count)| (0..count).map(move |_| client(region)));
        Load {
            cluster: Cluster::new(1),
            clients: clients.collect(),
            bytes,
            chance: 1,
        }
    }

    fn run(&mut self, time: Duration, asks: impl Fn(NodeId) -> bool) {
        let end = self.cluster.now + time;
        let row = Row::new(REGISTERS, 1, b"hot", b"", None).unwrap();
        while self.cluster.now < end {
            for client in &mut self.clients {
                client.take(&mut self.cluster);
                self.chance = self
                    .chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // Some think for a moment, so that no two runs of ballots keep step.
                if client.open.is_none() && asks(client.node) && self.chance >> 60 == 0 {
                    let request = Request {
                        command: Command::Put(row.clone(), vec![7; self.bytes].into()),
                        level: Level::Strong,
                        context: Context::new(),
                        deadline: self.cluster.now + Duration::from_secs(5),
                        request_id: None,
                        retry_of: None,
                        ack_regions: 0,
                    };
                    let id = self.cluster.ask(client.node, request);
                    client.open = Some((id, self.cluster.now));
                }
            }
            self.cluster
                .run_until(self.cluster.now + Duration::from_millis(1));
        }
    }

    /// What a region's writes took, shortest first, once nothing failed.
    fn took(&self, region: u16) -> Vec<Duration> {
        let own = || self.clients.iter().filter(|it| it.node == NodeId(region));
        let failed: Vec<&String> = own().flat_map(|it| &it.failed).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(own().all(|it| it.done.len() > 10), "a client starves");
        let mut took: Vec<Duration> = own()
            .flat_map(|it| it.done.iter().map(|(_, took, _)| *took))
            .collect();
        took.sort_unstable();
        took
    }
}

#[test]
fn every_region_gets_its_turn() {
    for (per_region, bytes) in [(1, 9), (4, 9), (40, 9), (1, 300_000), (4, 70_000)] {
        let mut load = Load::new([per_region; 3], bytes);
        load.run(Duration::from_secs(30), |_| true);
        assert!(load.cluster.notes[&Note::Combined] > 0);
        for (region, nearest) in (0..).zip(NEAREST) {
            let took = load.took(region);
            let (p50, longest) = (took[took.len() / 2], took[took.len() - 1]);
            let what = format!("{per_region} clients, {bytes} bytes, region {region}");
            // Large groups are prepared, smaller ones delegated: their owners meet.
            let (round_trips, seconds) = if bytes < 1000 { (3, 1) } else { (6, 5) };
            let bar = Duration::from_millis(round_trips * nearest);
            assert!(p50 <= bar, "{what}: {p50:?}");
            assert!(
                longest <= Duration::from_secs(seconds),
                "{what}: {longest:?}"
            );
        }
    }
}

#[test]
fn writers_of_one_region_are_back_at_one_round_trip_when_the_others_stop() {
    for region in [1, 2] {
        let mut load = Load::new([3; 3], 9);
        load.run(Duration::from_secs(10), |_| true);
        load.run(Duration::from_secs(10), |node| node.0 == region);
        let since = load.cluster.now - Duration::from_secs(5);
        let done = load.clients.iter().flat_map(|it| &it.done);
        let late = done.filter(|(asked, ..)| *asked > since);
        let paths: Vec<Option<Path>> = late.map(|(.., path)| *path).collect();
        assert!(paths.len() > 20);
        assert!(paths.iter().all(|path| *path == Some(Path::Delegated)));
    }
}
