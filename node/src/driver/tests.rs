//! The driver over one node that is a whole cluster, with a store whose disk obeys the test.

use std::future::Future;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use hansa_consistency::key::{ClusterId, KeyspaceId, RegionId, Row};
use hansa_consistency::port::{Family, Write};
use hansa_consistency::request::{Answer, Command, Found, Level};
use hansa_consistency::rules::Rules;
use hansa_consistency::session::Context;
use hansa_consistency::topology::{Keyspace, Mixing, Topology, ValueType};
use tempfile::TempDir;

use super::*;
use crate::limits::{DISK_FULL_RETRY, GROUP_BYTES_MAX, STATUS_INTERVAL};
use crate::store::{self, Engine, Options, Stats, StoreError, View, VisitEach};

/// What the disk does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disk {
    Works,
    Hangs,
    /// So many bytes are left beside the reserve.
    Full(u64),
    FailsToSync,
    /// Reads fail with this error number.
    FailsToRead(i32),
}

/// A store on a disk that does what it is told.
struct TestStore {
    inner: Arc<dyn Store>,
    /// What a power cut leaves.
    durable: Mutex<Box<dyn View>>,
    disk: Mutex<Disk>,
    changed: Condvar,
    syncs: AtomicUsize,
}

impl TestStore {
    fn new() -> Arc<TestStore> {
        let inner = store::open(Engine::Memory, Path::new(""), Options::default()).unwrap();
        Arc::new(TestStore {
            durable: Mutex::new(inner.snapshot().unwrap()),
            inner,
            disk: Mutex::new(Disk::Works),
            changed: Condvar::new(),
            syncs: AtomicUsize::new(0),
        })
    }

    fn set(&self, disk: Disk) {
        *self.disk.lock().unwrap() = disk;
        self.changed.notify_all();
    }

    /// The store after a power cut: what was applied and not synced is gone.
    fn after_power_cut(&self) -> Arc<TestStore> {
        let left = TestStore::new();
        let durable = self.durable.lock().unwrap();
        for family in Family::ALL {
            let copied = durable.scan(family, b"", None, &mut |key, value| {
                let write = Write {
                    family,
                    key: Bytes::copy_from_slice(key),
                    value: Some(value),
                };
                left.apply(&[write]).unwrap();
                ControlFlow::Continue(())
            });
            copied.unwrap();
        }
        left.sync().unwrap();
        left
    }

    fn syncs(&self) -> usize {
        self.syncs.load(Ordering::SeqCst)
    }

    fn read(&self) -> Result<(), StoreError> {
        match *self.disk.lock().unwrap() {
            Disk::FailsToRead(number) => Err(StoreError::Io {
                what: "reading a record",
                source: io::Error::from_raw_os_error(number),
            }),
            _ => Ok(()),
        }
    }
}

impl View for TestStore {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.read()?;
        self.inner.get(family, key)
    }

    fn scan_each(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut VisitEach<'_>,
    ) -> Result<(), StoreError> {
        self.read()?;
        self.inner.scan_each(family, from, to, visit)
    }
}

impl Store for TestStore {
    fn engine(&self) -> Engine {
        self.inner.engine()
    }

    fn snapshot(&self) -> Result<Box<dyn View>, StoreError> {
        self.inner.snapshot()
    }

    fn apply(&self, batch: &[Write]) -> Result<(), StoreError> {
        let bytes = |write: &Write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len);
        self.room_for(batch.iter().map(bytes).sum::<usize>() as u64)?;
        self.inner.apply(batch)
    }

    fn room_for(&self, needed: u64) -> Result<(), StoreError> {
        match *self.disk.lock().unwrap() {
            Disk::Full(free) if free < needed => Err(StoreError::Full { free, needed }),
            _ => Ok(()),
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        let applied = self.inner.snapshot()?;
        let hangs = |disk: &mut Disk| *disk == Disk::Hangs;
        let disk = self.disk.lock().unwrap();
        // Bounded, so that a test that fails meanwhile ends.
        let patience = Duration::from_secs(10);
        let disk = self.changed.wait_timeout_while(disk, patience, hangs);
        let disk = disk.unwrap().0;
        if matches!(*disk, Disk::Hangs | Disk::FailsToSync) {
            return Err(StoreError::Poisoned {
                cause: "told to fail".into(),
            });
        }
        *self.durable.lock().unwrap() = applied;
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.inner.sync()
    }

    fn checkpoint(&self, dir: &Path) -> Result<(), StoreError> {
        self.inner.checkpoint(dir)
    }

    fn maintain(&self) -> Result<(), StoreError> {
        self.inner.maintain()
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }
}

/// Remembers what left the node.
#[derive(Default)]
struct Said(watch::Sender<Vec<Envelope>>);

impl Outbound for Said {
    fn send(&self, _to: NodeId, envelope: Envelope) {
        self.0.send_modify(|said| said.push(envelope));
    }
}

#[derive(Default)]
struct Seen {
    groups: AtomicUsize,
    sequence_syncs: AtomicUsize,
}

impl Observer for Seen {
    fn note(&self, _note: Note) {}

    fn group(&self, group: &GroupStats) {
        assert!(group.events > 0 && group.writes > 0 && group.bytes > 0);
        self.groups.fetch_add(1, Ordering::SeqCst);
    }

    fn sequence_synced(&self, _took: Duration) {
        self.sequence_syncs.fetch_add(1, Ordering::SeqCst);
    }

    fn condition(&self, _condition: &Condition) {}
}

const SHARDS: u16 = 4;

fn config() -> Config {
    Config {
        node: NodeId(0),
        topology: Arc::new(Topology {
            cluster: ClusterId(1),
            regions: [(RegionId(0), vec![NodeId(0)])].into(),
            keyspaces: vec![Keyspace {
                value_type: ValueType::Register,
                regions: vec![RegionId(0)],
                replicas: 1,
                shards: SHARDS,
                mixing: Mixing::StrongWins,
            }],
        }),
        rules: Rules::default(),
    }
}

/// The store sequence as the store has it, durable or not.
fn stored_sequence(fixture: &Fixture) -> u64 {
    let opened = Opened {
        incarnation: 7,
        start: 9,
        lost: false,
    };
    let nothing = Pending::default();
    let overlay = Overlay::new(&*fixture.store, &nothing);
    Replica::open(config(), opened, 1, now(), &overlay)
        .unwrap()
        .store_sequence()
}

struct Fixture {
    store: Arc<TestStore>,
    seen: Arc<Seen>,
    dir: TempDir,
    starts: Arc<AtomicU64>,
    config: Config,
    said: Arc<Said>,
    rules: DiskRules,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(config())
    }

    fn with(config: Config) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        SequenceFile::create(&dir.path().join("sequence"), 0).unwrap();
        Fixture {
            store: TestStore::new(),
            seen: Arc::default(),
            dir,
            starts: Arc::default(),
            config,
            said: Arc::default(),
            rules: DiskRules::default(),
        }
    }

    fn sequence(&self) -> SequenceFile {
        SequenceFile::open(&self.dir.path().join("sequence")).unwrap()
    }

    fn start(&self) -> Driver {
        let starts = Arc::clone(&self.starts);
        let mut next_start: NextStart =
            Box::new(move || Ok(starts.fetch_add(1, Ordering::SeqCst) + 1));
        let opened = Opened {
            incarnation: 7,
            start: next_start().unwrap(),
            lost: false,
        };
        let nothing = Pending::default();
        let overlay = Overlay::new(&*self.store, &nothing);
        let replica = Replica::open(self.config.clone(), opened, 1, now(), &overlay).unwrap();
        let parts = Parts {
            replica,
            config: self.config.clone(),
            opened,
            store: self.store.clone(),
            sequence: self.sequence(),
            next_start,
            outbound: self.said.clone(),
            observer: self.seen.clone(),
        };
        start_with(parts, self.rules).unwrap()
    }
}

fn row(key: &str) -> Row {
    Row::new(KeyspaceId(0), SHARDS, key.as_bytes(), b"", None).unwrap()
}

fn request(command: Command, level: Level) -> Request {
    Request {
        command,
        level,
        context: Context::new(),
        request_id: None,
        retry_of: None,
        ack_regions: 0,
        deadline: now().monotonic + Duration::from_secs(20),
    }
}

async fn put(driver: &DriverHandle, key: &str, level: Level) -> Result<Reply, Refusal> {
    let command = Command::Put(row(key), Bytes::copy_from_slice(key.as_bytes()));
    driver.request(request(command, level)).await
}

async fn get(driver: &DriverHandle, key: &str, level: Level) -> Result<Option<Bytes>, Refusal> {
    let reply = driver
        .request(request(Command::Get(row(key)), level))
        .await?;
    match reply.answer {
        Answer::Read {
            found: Found::Value(value),
            ..
        } => Ok(Some(value)),
        Answer::Read { .. } => Ok(None),
        other => panic!("{other:?}"),
    }
}

/// Whether it is still not there after everything that needs no disk had its time.
async fn is_waiting<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    let patience = Duration::from_millis(100);
    tokio::time::timeout(patience, future).await.is_err()
}

async fn until(driver: &DriverHandle, what: impl Fn(&DriverHandle) -> bool) {
    let mut watching = driver.clone();
    while !what(driver) {
        watching.status_changed().await;
    }
}

const LEVELS: [Level; 3] = [Level::Eventual, Level::Session, Level::Strong];

#[cfg(feature = "mutants")]
mod mutants;
mod peers;

#[tokio::test]
async fn every_level_writes_and_reads_and_a_restart_keeps_it() {
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    for level in LEVELS {
        put(&handle, level.name(), level).await.unwrap();
    }
    driver.stop(Duration::from_secs(5)).await.unwrap();
    let late = put(&handle, "late", Level::Eventual).await.unwrap_err();
    assert_eq!(
        (late.reason, late.applied),
        (Reason::ShuttingDown, Applied::No)
    );

    let again = fixture.start();
    for written in LEVELS {
        for read in LEVELS {
            let found = get(&again.handle(), written.name(), read).await.unwrap();
            assert_eq!(found.unwrap(), written.name());
        }
    }
}

#[tokio::test]
async fn a_write_waits_for_the_disk_and_reads_wait_only_for_what_they_read() {
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    put(&handle, "settled", Level::Eventual).await.unwrap();

    fixture.store.set(Disk::Hangs);
    let mut write = Box::pin(put(&handle, "pending", Level::Eventual));
    assert!(is_waiting(&mut write).await, "acknowledged before the sync");
    let settled = get(&handle, "settled", Level::Eventual);
    let settled = tokio::time::timeout(Duration::from_secs(5), settled).await;
    assert_eq!(settled.unwrap().unwrap().unwrap(), "settled");
    let mut touching = Box::pin(get(&handle, "pending", Level::Eventual));
    assert!(
        is_waiting(&mut touching).await,
        "showed what is not durable"
    );

    fixture.store.set(Disk::Works);
    write.await.unwrap();
    assert_eq!(touching.await.unwrap().unwrap(), "pending");
}

#[tokio::test]
async fn many_writes_share_few_syncs() {
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    put(&handle, "first", Level::Eventual).await.unwrap();
    fixture.store.set(Disk::Hangs);
    let before = fixture.store.syncs();
    let writes: Vec<_> = (0..64)
        .map(|n| {
            let handle = handle.clone();
            tokio::spawn(async move { put(&handle, &format!("key {n}"), Level::Eventual).await })
        })
        .collect();
    until(&handle, |driver| driver.status().entries_applied >= 65).await;
    fixture.store.set(Disk::Works);
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let syncs = fixture.store.syncs() - before;
    assert!((1..=8).contains(&syncs), "{syncs} syncs for 64 writes");
}

#[tokio::test]
async fn votes_wait_for_the_sequence_file_and_the_end_brings_it_up_to_date() {
    votes_wait_for_the_sequence_file(Fixture::new()).await;
}

async fn votes_wait_for_the_sequence_file(fixture: Fixture) {
    let driver = fixture.start();
    let handle = driver.handle();
    put(&handle, "strong", Level::Strong).await.unwrap();
    let in_file = fixture.sequence().current();
    assert!(
        in_file > 0,
        "a vote was counted before the file was written"
    );
    for n in 0..10 {
        put(&handle, &format!("key {n}"), Level::Eventual)
            .await
            .unwrap();
    }
    driver.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(fixture.sequence().current(), stored_sequence(&fixture));
    assert!(fixture.sequence().current() > in_file);
}

#[tokio::test]
async fn the_sequence_file_is_never_ahead_of_what_the_disk_holds() {
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    put(&handle, "settled", Level::Strong).await.unwrap();
    // The end of the driver's work on that put, and of the file's own interval.
    until(&handle, |_| {
        fixture.sequence().current() == stored_sequence(&fixture)
    })
    .await;
    fixture.store.set(Disk::Hangs);
    let before = fixture.sequence().current();
    let mut write = Box::pin(put(&handle, "strong", Level::Strong));
    assert!(is_waiting(&mut write).await);
    assert!(stored_sequence(&fixture) > before, "applied and not synced");
    assert_eq!(fixture.sequence().current(), before);
    fixture.store.set(Disk::Works);
    write.await.unwrap();
    assert!(fixture.sequence().current() > before);
}

#[tokio::test]
async fn after_a_failed_sync_only_eventual_reads_are_served() {
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    put(&handle, "before", Level::Eventual).await.unwrap();
    fixture.store.set(Disk::FailsToSync);
    let refused = put(&handle, "lost", Level::Eventual).await.unwrap_err();
    assert_eq!(refused.applied, Applied::Maybe);
    assert_eq!(refused.reason, Reason::StoreFailed);
    // The disk seems to work again, but nobody can tell what it holds.
    fixture.store.set(Disk::Works);
    until(&handle, |driver| driver.condition() != Condition::Serving).await;
    assert!(matches!(handle.condition(), Condition::DiskFailed(_)));
    for level in LEVELS {
        let refused = put(&handle, "later", level).await.unwrap_err();
        assert_eq!(refused.applied, Applied::No);
    }
    assert!(get(&handle, "before", Level::Strong).await.is_err());
    let read = get(&handle, "before", Level::Eventual).await;
    assert_eq!(read.unwrap().unwrap(), "before");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_space() {
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    put(&handle, "before", Level::Eventual).await.unwrap();
    fixture.store.set(Disk::Full(0));
    for level in LEVELS {
        let refused = put(&handle, "refused", level).await.unwrap_err();
        assert_eq!(refused.applied, Applied::No, "{level:?}");
        assert_eq!(refused.reason, Reason::StoreFailed);
    }
    until(&handle, |driver| driver.condition() != Condition::Serving).await;
    assert_eq!(handle.condition(), Condition::DiskFull);
    let read = get(&handle, "before", Level::Eventual).await;
    assert_eq!(read.unwrap().unwrap(), "before");
    let refused = get(&handle, "refused", Level::Eventual).await;
    assert_eq!(
        refused.unwrap(),
        None,
        "showed a write that was not applied"
    );
    let start = handle.status().start;

    // Space for a small write, but not for a whole group: it would be full again at once.
    fixture.store.set(Disk::Full(GROUP_BYTES_MAX as u64 - 1));
    tokio::time::sleep(DISK_FULL_RETRY + STATUS_INTERVAL).await;
    assert_eq!(handle.condition(), Condition::DiskFull);

    fixture.store.set(Disk::Full(GROUP_BYTES_MAX as u64));
    until(&handle, |driver| driver.status().start > start).await;
    assert_eq!(handle.condition(), Condition::Serving);
    for level in LEVELS {
        put(&handle, "after", level).await.unwrap();
        let found = get(&handle, "refused", level).await.unwrap();
        assert_eq!(found, None, "a write that was not applied came back");
    }
}

#[tokio::test]
async fn a_read_that_fails_for_want_of_something_costs_no_vote() {
    const EMFILE: i32 = 24;
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    put(&handle, "before", Level::Strong).await.unwrap();
    let start = handle.status().start;
    fixture.store.set(Disk::FailsToRead(EMFILE));
    for level in LEVELS {
        let refused = put(&handle, "refused", level).await.unwrap_err();
        assert_eq!(refused.applied, Applied::No, "{level:?}");
        assert!(!refused.message.contains("rebuild"), "{refused:?}");
    }
    assert!(get(&handle, "before", Level::Eventual).await.is_err());
    assert!(matches!(handle.condition(), Condition::DiskFailed(_)));

    fixture.store.set(Disk::Works);
    until(&handle, |driver| driver.status().start > start).await;
    assert_eq!(handle.condition(), Condition::Serving);
    for level in LEVELS {
        put(&handle, "after", level).await.unwrap();
        assert_eq!(get(&handle, "refused", level).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_disk_that_fails_to_read_is_not_used_until_the_restart_and_costs_no_vote() {
    const EIO: i32 = 5;
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    put(&handle, "before", Level::Strong).await.unwrap();
    fixture.store.set(Disk::FailsToRead(EIO));
    let refused = put(&handle, "refused", Level::Strong).await.unwrap_err();
    assert_eq!(refused.applied, Applied::No);
    fixture.store.set(Disk::Works);
    assert!(put(&handle, "refused", Level::Strong).await.is_err());
    driver.stop(Duration::from_secs(5)).await.unwrap();

    let again = fixture.start();
    put(&again.handle(), "after", Level::Strong).await.unwrap();
}

#[tokio::test]
async fn a_request_nobody_waits_for_is_forgotten() {
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    fixture.store.set(Disk::Hangs);
    let mut write = Box::pin(put(&handle, "strong", Level::Strong));
    assert!(is_waiting(&mut write).await);
    until(&handle, |driver| driver.status().open_requests == 1).await;
    drop(write);
    until(&handle, |driver| driver.status().open_requests == 0).await;
    fixture.store.set(Disk::Works);
}

#[tokio::test]
async fn a_power_cut_in_the_middle_of_writes_leaves_what_was_acknowledged() {
    the_power_is_cut(Fixture::new()).await;
}

async fn the_power_is_cut(mut fixture: Fixture) {
    for round in 0..6 {
        let driver = fixture.start();
        let handle = driver.handle();
        let (acknowledged, mut count) = tokio::sync::mpsc::unbounded_channel();
        let writer = tokio::spawn(async move {
            for n in 0.. {
                let key = format!("round {round} key {n}");
                if put(&handle, &key, LEVELS[n % 3]).await.is_err() {
                    return;
                }
                acknowledged.send(key).unwrap();
            }
        });
        let mut keys = Vec::new();
        while keys.len() < 20 {
            keys.push(count.recv().await.unwrap());
        }
        // Half of the time the power goes between a batch and its sync.
        if round % 2 == 0 {
            fixture.store.set(Disk::FailsToSync);
        }
        tokio::task::spawn_blocking(move || drop(driver))
            .await
            .unwrap();
        writer.await.unwrap();
        while let Some(key) = count.recv().await {
            keys.push(key);
        }
        fixture.store = fixture.store.after_power_cut();
        let in_file = fixture.sequence().current();
        assert!(in_file <= stored_sequence(&fixture), "taken for shortened");
        let again = fixture.start();
        for key in keys {
            let found = get(&again.handle(), &key, Level::Eventual).await.unwrap();
            assert_eq!(found.unwrap(), key);
        }
        tokio::task::spawn_blocking(move || drop(again))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_digest_of_a_shard_changes_with_its_rows_only() {
    let fixture = Fixture::new();
    let driver = fixture.start();
    let handle = driver.handle();
    let mut digests = Vec::new();
    for key in ["one", "two"] {
        put(&handle, key, Level::Eventual).await.unwrap();
        let mut all = Vec::new();
        for index in 0..SHARDS {
            let keyspace = KeyspaceId(0);
            all.push(handle.digest(ShardId { keyspace, index }).await.unwrap());
        }
        digests.push(all);
    }
    let changed = (0..usize::from(SHARDS)).filter(|at| digests[0][*at] != digests[1][*at]);
    assert_eq!(changed.count(), 1);
}
