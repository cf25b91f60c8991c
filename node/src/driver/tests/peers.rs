//! What a peer is told, and when: the peer is played by the test.

use hansa_consistency::clock::Hlc;
use hansa_consistency::codec::Encode as _;
use hansa_consistency::message::{Append, Message, Run};
use hansa_consistency::record::{Change, Entry, RequestId};
use hansa_consistency::value::State;
use hansa_consistency::version::{Ballot, Dot, Origin, Stamp, Tag};

use super::*;

const PEER: NodeId = NodeId(1);

/// Two nodes: one region with both, or a region each.
pub(super) fn pair(near: bool) -> Config {
    let regions: Vec<_> = match near {
        true => vec![(RegionId(0), vec![NodeId(0), PEER])],
        false => vec![(RegionId(0), vec![NodeId(0)]), (RegionId(1), vec![PEER])],
    };
    let one = config();
    let mut keyspace = one.topology.keyspaces[0].clone();
    keyspace.regions = regions.iter().map(|(region, _)| *region).collect();
    keyspace.replicas = if near { 2 } else { 1 };
    Config {
        topology: Arc::new(Topology {
            cluster: ClusterId(1),
            regions: regions.into_iter().collect(),
            keyspaces: vec![keyspace],
        }),
        ..one
    }
}

fn from_peer(message: Message) -> Envelope {
    Envelope {
        cluster: ClusterId(1),
        from: PEER,
        start: 1,
        incarnation: 3,
        store_sequence: 0,
        hlc: Hlc::from_ms(now().wall_ms),
        message,
    }
}

/// A push of one entry of the peer's own log.
fn pushed(seq: u64) -> Envelope {
    let row = row("pushed");
    let origin = Origin {
        node: PEER,
        incarnation: 3,
    };
    let hlc = Hlc::from_ms(now().wall_ms);
    let stamp = Stamp {
        strong_version: 0,
        hlc,
        tag: Tag::Entry(Dot { origin, seq }),
    };
    let entry = Entry {
        hlc,
        deps: Context::new(),
        request: None,
        changes: vec![Change {
            row: row.clone(),
            state: State::register(stamp, Some(Bytes::from_static(b"value"))),
            chosen: Ballot::ZERO,
        }],
        extension: Bytes::new(),
    };
    from_peer(Message::Append(Append {
        shard: row.shard(),
        run: Run {
            origin,
            first: seq,
            entries: vec![entry.to_record()],
        },
        committed: seq,
        others: Vec::new(),
        place: None,
    }))
}

impl Said {
    /// How often each kind of message left.
    fn count(&self, kind: &str) -> usize {
        count(&self.0.borrow(), kind)
    }

    /// Waits until a message of a kind has left.
    async fn wait_for(&self, kind: &str) {
        let mut said = self.0.subscribe();
        let left = said.wait_for(|said| count(said, kind) > 0);
        // Generous: what counts is that it comes. Bounded, so that a test that fails ends.
        let left = tokio::time::timeout(Duration::from_secs(60), left)
            .await
            .is_ok();
        assert!(left, "no {kind} among {:?}", self.0.borrow());
    }
}

fn count(said: &[Envelope], kind: &str) -> usize {
    said.iter().filter(|e| e.message.name() == kind).count()
}

/// The newest log entries are stepped, and only the disk is missing.
async fn applied(handle: &DriverHandle, entries: u64) {
    until(handle, |driver| driver.status().entries_applied >= entries).await;
}

#[tokio::test]
async fn an_entry_is_acknowledged_after_its_sync_however_often_it_comes() {
    a_repeated_entry_is_acknowledged(Fixture::with(pair(false))).await;
}

pub(super) async fn a_repeated_entry_is_acknowledged(fixture: Fixture) {
    let driver = fixture.start();
    let handle = driver.handle();
    handle.link_up(PEER);
    fixture.said.wait_for("start_ask").await;
    fixture.store.set(Disk::Hangs);
    let entry = pushed(1);
    for _ in 0..3 {
        handle.received(entry.clone(), 0).await;
    }
    applied(&handle, 1).await;
    // What asks and claims nothing does not wait for the disk, and shows that the rest was stepped.
    handle.received(pushed(9), 0).await;
    fixture.said.wait_for("pull").await;
    assert_eq!(fixture.said.count("acknowledge"), 0, "before the sync");

    fixture.store.set(Disk::Works);
    fixture.said.wait_for("acknowledge").await;
}

#[tokio::test]
async fn an_own_entry_is_not_sent_again_before_its_sync() {
    let fixture = Fixture::with(pair(true));
    let driver = fixture.start();
    let handle = driver.handle();
    handle.link_up(PEER);
    fixture.said.wait_for("heartbeat").await;
    fixture.store.set(Disk::Hangs);
    let mut write = Box::pin(put(&handle, "own", Level::Eventual));
    assert!(is_waiting(&mut write).await);
    // Longer than the pause between two heartbeats, with which entries are sent again. The traffic keeps the
    // clock's bound fresh, so that the step which sends again writes nothing itself.
    for _ in 0..130 {
        handle.received(pushed(9), 0).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fixture.said.count("append"), 0, "before the sync");

    fixture.store.set(Disk::Works);
    fixture.said.wait_for("append").await;
}

#[tokio::test]
async fn a_forwarded_write_is_answered_after_its_sync_also_when_it_is_asked_again() {
    let fixture = Fixture::with(pair(false));
    let driver = fixture.start();
    let handle = driver.handle();
    // What a peer's first word makes a node write down is durable before the disk hangs.
    handle.received(from_peer(Message::StartAsk), 0).await;
    fixture.said.wait_for("start_answer").await;
    fixture.store.set(Disk::Hangs);
    let command = Command::Put(row("forwarded"), Bytes::from_static(b"value"));
    let mut asked = request(command, Level::Eventual);
    asked.deadline = Duration::from_secs(20);
    asked.request_id = Some(RequestId {
        session: 1,
        seq: 1,
        issued: Hlc::from_ms(now().wall_ms),
    });
    for id in 1..=3 {
        let request = asked.clone();
        let forward = Message::Forward {
            id,
            start: 1,
            request,
        };
        handle.received(from_peer(forward), 0).await;
    }
    applied(&handle, 1).await;
    handle.received(pushed(9), 0).await;
    fixture.said.wait_for("pull").await;
    assert_eq!(fixture.said.count("forwarded"), 0, "before the sync");

    fixture.store.set(Disk::Works);
    fixture.said.wait_for("forwarded").await;
    let said = fixture.said.0.borrow().clone();
    for envelope in said {
        if let Message::Forwarded { result, .. } = envelope.message {
            assert!(matches!(result.unwrap().answer, Answer::Written { .. }));
        }
    }
}
