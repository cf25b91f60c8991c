use std::collections::BTreeSet;
use std::path::Path;

use hansa_consistency::clock::Hlc;
use hansa_consistency::key::RegionId;
use hansa_consistency::replica::{PeerStatus, Standing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::settings::{TOPOLOGY_EXAMPLE, TopologySettings};

fn metrics() -> Metrics {
    let topology = TopologySettings::from_text(Path::new("t"), TOPOLOGY_EXAMPLE).unwrap();
    Metrics::new(Arc::new(Names::new(&topology).unwrap()), NodeId(0))
}

/// Something of everything: a family without members is not shown.
fn fill(metrics: &Metrics) {
    metrics.operation("get", "strong", "ok", Duration::from_millis(90));
    metrics.message(NodeId(1), Direction::Sent, "append", 100);
    metrics.link(NodeId(1), true);
    metrics.connections("clients", 1);
    metrics.connection_refused("clients");
    metrics.note(Note::Absorbed);
    metrics.condition(&Condition::DiskFull);
    metrics.sequence_synced(Duration::from_millis(1));
    metrics.group(&GroupStats {
        events: 7,
        writes: 21,
        bytes: 2100,
        took: Duration::from_millis(1),
    });
    metrics.status(&status());
}

fn status() -> Status {
    Status {
        node: NodeId(0),
        region: RegionId(0),
        start: 1,
        standing: Standing::Voting,
        writable: true,
        strong_available: true,
        store_sequence: 9,
        hlc: Hlc(1),
        peers: vec![PeerStatus {
            node: NodeId(1),
            region: RegionId(1),
            reachable: true,
            votes: true,
            lost: false,
            clock_disputed: false,
            round_trip: Some(Duration::from_millis(90)),
            staleness: None,
            shards_behind: 2,
        }],
        shards: 208,
        entries_applied: 12,
        entries_uncommitted: 0,
        shards_refilling: 0,
        open_requests: 3,
        sessions_waiting: 1,
        unsettled: 0,
        damage: None,
    }
}

#[test]
fn the_table_names_every_metric_and_no_other() {
    let metrics = metrics();
    fill(&metrics);
    let text = metrics.encode().unwrap();
    let mut shown = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            shown.insert((format!("{name}{suffix}"), kind.to_owned()));
        }
    }
    let told: BTreeSet<_> = TABLE
        .iter()
        .map(|row| (row.name.to_owned(), row.kind.to_owned()))
        .collect();
    assert_eq!(shown, told);
    assert_eq!(told.len(), TABLE.len());
}

#[test]
fn counts_carry_their_labels() {
    let metrics = metrics();
    fill(&metrics);
    let text = metrics.encode().unwrap();
    for line in [
        "hansa_operations_total{region=\"us-east\",node=\"us-east-1\",command=\"get\",level=\"strong\",outcome=\"ok\"} 1",
        "hansa_group_events_total{region=\"us-east\",node=\"us-east-1\"} 7",
        "hansa_syncs_total{region=\"us-east\",node=\"us-east-1\",file=\"store\"} 1",
        "peer=\"eu-central-1\",peer_region=\"eu-central\",direction=\"sent\",kind=\"append\"} 1",
        "peer=\"eu-central-1\",peer_region=\"eu-central\",direction=\"sent\"} 100",
        "hansa_peer_link_up{region=\"us-east\",node=\"us-east-1\",peer=\"eu-central-1\",peer_region=\"eu-central\"} 1",
        "note=\"absorbed\"} 1",
        "note=\"merged\"} 0",
        "condition=\"disk_full\"} 1",
        "condition=\"serving\"} 0",
        "standing=\"voting\"} 1",
        "standing=\"lost\"} 0",
        "hansa_peer_rtt_seconds{region=\"us-east\",node=\"us-east-1\",peer=\"eu-central-1\",peer_region=\"eu-central\"} 0.09",
        "hansa_peer_staleness_seconds{region=\"us-east\",node=\"us-east-1\",peer=\"eu-central-1\",peer_region=\"eu-central\"} -1.0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_disk_owes_something_while_a_link_stands() {
    let begun = Instant::now();
    let after = |s| begun + Duration::from_secs(s);
    let mut owed = Owed {
        links: BTreeSet::new(),
        since: begun,
    };
    owed.link(NodeId(1), false, begun);
    assert_eq!(owed.silent_for(after(9)), Duration::ZERO);
    owed.link(NodeId(1), true, after(10));
    owed.link(NodeId(2), true, after(12));
    assert_eq!(owed.silent_for(after(14)), Duration::from_secs(4));
    owed.since = after(14);
    owed.link(NodeId(1), false, after(15));
    assert_eq!(owed.silent_for(after(16)), Duration::from_secs(2));
    owed.link(NodeId(2), false, after(16));
    assert_eq!(owed.silent_for(after(99)), Duration::ZERO);
}

struct Sick;

impl Health for Sick {
    fn refresh(&self, metrics: &Metrics) {
        metrics.pipes(3);
    }
    fn check(&self) -> Result<String, String> {
        Err("no quorum".to_owned())
    }
}

#[tokio::test]
async fn both_pages_are_served_and_shutdown_ends_the_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(
        listener,
        Arc::new(metrics()),
        Arc::new(Sick),
        async {
            let _ = stopped.await;
        },
    ));
    let page = |path: &'static str| async move {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        socket.write_all(ask.as_bytes()).await.unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).await.unwrap();
        text
    };
    let text = page("/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(
        text.contains("hansa_pipes{region=\"us-east\",node=\"us-east-1\"} 3"),
        "{text}"
    );
    let text = page("/healthz").await;
    assert!(
        text.starts_with("HTTP/1.1 503") && text.contains("no quorum"),
        "{text}"
    );
    assert!(page("/").await.starts_with("HTTP/1.1 404"));
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
