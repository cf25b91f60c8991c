//! What the opener makes of each state of a data directory.

use bytes::Bytes;
use hansa_consistency::clock::Now;
use hansa_consistency::effect::Effect;
use hansa_consistency::event::Event;
use hansa_consistency::key::{KeyspaceId, OpId, Row};
use hansa_consistency::request::{Command, Level, Request};
use hansa_consistency::session::Context;
use tempfile::TempDir;

use super::*;
use crate::settings::{KeyspaceSettings, NodeSettings, RegionSettings, TopologySettings};

/// As the node does, and never told to stop.
fn open(plan: Plan<'_>) -> Result<Node, OpenError> {
    super::open(plan, &AtomicBool::new(false))
}

fn names() -> Names {
    let node = |name: &str, port: u16| NodeSettings {
        name: name.to_owned(),
        peer_address: format!("127.0.0.1:{port}"),
        client_address: format!("127.0.0.1:{}", port + 1),
    };
    Names::new(&TopologySettings {
        cluster_id: "opening".to_owned(),
        epoch: 1,
        regions: vec![RegionSettings {
            name: "here".to_owned(),
            nodes: vec![node("one", 7001), node("two", 7003)],
        }],
        keyspaces: vec![KeyspaceSettings {
            name: "things".to_owned(),
            value_type: "register".to_owned(),
            regions: vec!["here".to_owned()],
            replicas: 1,
            shards: 1,
            default_level: "eventual".to_owned(),
            mixing: "strong_wins".to_owned(),
        }],
    })
    .unwrap()
}

struct Fixture {
    dir: TempDir,
    names: Names,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture {
            dir: tempfile::tempdir().unwrap(),
            names: names(),
        }
    }

    fn plan(&self) -> Plan<'_> {
        Plan {
            dir: self.dir.path(),
            engine: Engine::Fjall,
            options: Options {
                reserve_bytes: 0,
                ..Options::default()
            },
            names: &self.names,
            node: self.holder(),
            rebuild: false,
        }
    }

    /// The one of the two nodes that holds the keyspace's one shard.
    fn holder(&self) -> NodeId {
        let topology = self.names.topology();
        let shard = topology.shards().next().unwrap();
        topology.replicas(shard).into_values().next().unwrap()[0]
    }

    fn open(&self) -> Result<Node, OpenError> {
        open(self.plan())
    }

    fn rebuild(&self) -> Result<Node, OpenError> {
        open(Plan {
            rebuild: true,
            ..self.plan()
        })
    }

    /// A refusal before left everything as it was.
    fn same_as_before(&self, before: &Identity) {
        let node = self.open().unwrap();
        assert!(!node.opened.lost);
        assert_eq!(node.opened.incarnation, before.incarnation);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An earlier start that wrote something and ended well.
    fn used(&self) -> Identity {
        let mut node = self.open().unwrap();
        write(&mut node);
        node.identity
    }
}

/// One eventual write, made durable as the driver would.
fn write(node: &mut Node) {
    let mut effects = Vec::new();
    let nothing = Pending::default();
    let now = Now {
        monotonic: std::time::Duration::from_secs(1),
        wall_ms: 1_800_000_000_000,
    };
    let request = Request {
        command: Command::Put(
            Row::new(KeyspaceId(0), 1, b"key", b"", None).unwrap(),
            Bytes::from_static(b"value"),
        ),
        level: Level::Eventual,
        context: Context::new(),
        request_id: None,
        retry_of: None,
        ack_regions: 0,
        deadline: now.monotonic * 2,
    };
    let id = OpId(1);
    let event = Event::Request { id, request };
    let reader = Overlay::new(&*node.store, &nothing);
    node.replica.step(now, event, &reader, &mut effects);
    for effect in effects {
        match effect {
            Effect::Persist(writes) => node.store.apply(&writes).unwrap(),
            Effect::StoreSequence { sequence, .. } => node.sequence.write(sequence).unwrap(),
            _ => {}
        }
    }
    node.store.sync().unwrap();
    assert!(node.sequence.current() > 0);
}

fn refusal(result: Result<Node, OpenError>) -> String {
    result.err().expect("must be refused").to_string()
}

#[test]
fn a_clean_restart_keeps_the_incarnation_and_counts_a_start() {
    let fixture = Fixture::new();
    let first = fixture.used();
    let again = fixture.open().unwrap();
    assert_eq!(again.opened.incarnation, first.incarnation);
    assert!(again.opened.start > first.start);
    assert!(!again.opened.lost);
    assert!(again.replica.store_sequence() >= again.sequence.current());
}

#[test]
fn two_processes_can_not_have_one_directory() {
    let fixture = Fixture::new();
    let _node = fixture.open().unwrap();
    let text = refusal(fixture.open());
    assert!(text.contains("in use by another process"), "{text}");
}

#[test]
fn somebody_elses_directory_is_refused_even_with_rebuild() {
    let fixture = Fixture::new();
    fixture.used();
    let other = Plan {
        node: NodeId(1 - fixture.holder().0),
        rebuild: true,
        ..fixture.plan()
    };
    let text = refusal(open(other));
    assert!(text.contains("belongs to node"), "{text}");
    assert!(fixture.open().is_ok(), "nothing was changed");
}

#[test]
fn a_shortened_store_is_refused_and_rebuilt_when_told_to() {
    let fixture = Fixture::new();
    let before = fixture.used();
    let mut sequence = SequenceFile::open(&fixture.path("sequence")).unwrap();
    sequence.write(sequence.current() + 1).unwrap();
    let text = refusal(fixture.open());
    assert!(text.contains("was acknowledged"), "{text}");
    assert!(text.contains("hansa serve --rebuild"), "{text}");

    let rebuilt = fixture.rebuild().unwrap();
    assert!(rebuilt.opened.lost);
    assert_ne!(rebuilt.opened.incarnation, before.incarnation);
    assert_eq!(rebuilt.replica.store_sequence(), 0);
    let aside = fixture.path(&format!("quarantine-{}", rebuilt.opened.start));
    assert!(aside.join("store").join("current").exists());
    assert!(aside.join("sequence").exists());
    let incarnation = rebuilt.opened.incarnation;
    drop(rebuilt);

    let later = fixture.rebuild().unwrap();
    assert!(later.opened.lost, "it stays so until it is readmitted");
    assert_eq!(later.opened.incarnation, incarnation, "and is rebuilt once");
}

#[test]
fn a_store_that_is_gone_is_a_loss() {
    let fixture = Fixture::new();
    let before = fixture.used();
    fs::remove_dir_all(fixture.path("store")).unwrap();
    let node = fixture.open().unwrap();
    assert!(node.opened.lost);
    assert_ne!(node.opened.incarnation, before.incarnation);
}

#[test]
fn a_damaged_file_of_the_engine_is_refused() {
    let fixture = Fixture::new();
    fixture.used();
    let journal = files_under(&fixture.path("store").join("current").join("db"))
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    fs::write(&journal, b"").unwrap();
    let text = refusal(fixture.open());
    assert!(text.contains("hansa serve --rebuild"), "{text}");
    assert!(fixture.rebuild().unwrap().opened.lost);
}

fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_under(&path)),
            false => files.push(path),
        }
    }
    files
}

#[test]
fn a_missing_or_damaged_small_file_is_refused() {
    for name in ["sequence", "identity"] {
        for damage in [
            |path: &Path| fs::remove_file(path),
            |path: &Path| fs::write(path, b"nothing of the kind"),
        ] {
            let fixture = Fixture::new();
            fixture.used();
            damage(&fixture.path(name)).unwrap();
            let text = refusal(fixture.open());
            assert!(text.contains("hansa serve --rebuild"), "{name}: {text}");
            assert!(fixture.rebuild().unwrap().opened.lost, "{name}");
        }
    }
}

#[test]
fn a_first_start_cut_off_anywhere_is_a_first_start_again() {
    let fixture = Fixture::new();
    let mut identity = fixture.used();
    identity.prepared = false;
    identity.write(&fixture.path("identity")).unwrap();
    let node = fixture.open().unwrap();
    assert!(!node.opened.lost);
    assert_eq!(node.replica.store_sequence(), 0);
}

#[test]
fn memory_on_a_directory_with_a_store_is_refused_and_elsewhere_forgets() {
    let fixture = Fixture::new();
    let memory = |fixture: &Fixture| {
        open(Plan {
            engine: Engine::Memory,
            ..fixture.plan()
        })
    };
    assert!(!memory(&fixture).unwrap().opened.lost);
    assert!(memory(&fixture).unwrap().opened.lost);

    let fixture = Fixture::new();
    fixture.used();
    let text = refusal(memory(&fixture));
    assert!(text.contains("engine"), "{text}");
    assert!(!fixture.open().unwrap().opened.lost, "nothing was changed");
}

#[test]
fn a_path_that_can_not_be_looked_at_is_no_missing_store() {
    use std::os::unix::fs::symlink;
    // Each leads nowhere that can be told: through a file, and in a circle.
    let through_a_file = |path: &Path| fs::write(path, b"a file");
    let in_a_circle = |path: &Path| symlink(path, path);
    for name in ["store", "store/current"] {
        let fixture = Fixture::new();
        let before = fixture.used();
        let path = fixture.path(name);
        let away = fixture.path("away");
        fs::rename(&path, &away).unwrap();
        match name {
            "store" => through_a_file(&path).unwrap(),
            _ => in_a_circle(&path).unwrap(),
        }
        for rebuild in [false, true] {
            let plan = Plan {
                rebuild,
                ..fixture.plan()
            };
            let text = refusal(open(plan));
            assert!(text.contains("nothing was changed"), "{name}: {text}");
        }
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
        fixture.same_as_before(&before);
    }
}

#[test]
fn without_an_identity_a_path_that_can_not_be_looked_at_is_no_empty_directory() {
    let fixture = Fixture::new();
    fixture.used();
    for name in ["identity", "sequence"] {
        fs::remove_file(fixture.path(name)).unwrap();
    }
    fs::remove_dir_all(fixture.path("store")).unwrap();
    let circle = fixture.path("store");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    let text = refusal(fixture.open());
    assert!(text.contains("nothing was changed"), "{text}");
}

/// A store of an earlier start with one more record in it.
fn with_record(fixture: &Fixture, value: Bytes) -> Identity {
    let mut node = fixture.open().unwrap();
    write(&mut node);
    let record = hansa_consistency::port::Write {
        family: Family::Data,
        key: Bytes::from_static(b"zzz"),
        value: Some(value),
    };
    node.store.apply(&[record]).unwrap();
    node.store.sync().unwrap();
    node.identity
}

#[test]
fn a_record_of_a_newer_version_is_refused_by_name_and_never_put_aside() {
    let fixture = Fixture::new();
    let before = with_record(&fixture, Bytes::from_static(&[FORMAT + 1, 7, 7]));
    for refused in [fixture.open(), fixture.rebuild()] {
        let text = refusal(refused);
        assert!(
            text.contains("format 2") && text.contains("use the version that wrote it"),
            "{text}"
        );
        assert!(!text.contains("--rebuild"), "{text}");
    }
    assert!(fixture.path("store/current").exists());
    let identity = Identity::read(&fixture.path("identity")).unwrap().unwrap();
    assert_eq!(identity.incarnation, before.incarnation);
    assert!(!identity.lost);
}

#[test]
fn an_opening_that_is_told_to_stop_stops_and_changes_nothing() {
    let fixture = Fixture::new();
    let before = fixture.used();
    let stop = AtomicBool::new(true);
    for rebuild in [false, true] {
        let plan = Plan {
            rebuild,
            ..fixture.plan()
        };
        let stopped = super::open(plan, &stop);
        assert!(matches!(stopped.err(), Some(OpenError::Stopped)));
    }
    fixture.same_as_before(&before);
    let fresh = Fixture::new();
    let stopped = super::open(fresh.plan(), &stop);
    assert!(matches!(stopped.err(), Some(OpenError::Stopped)));
    assert!(!fresh.path("store").exists());
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;
    use crate::mutant::breaking;

    #[test]
    fn without_the_sequence_file_a_shortened_store_is_served() {
        let fixture = Fixture::new();
        fixture.used();
        let mut sequence = SequenceFile::open(&fixture.path("sequence")).unwrap();
        sequence.write(sequence.current() + 1).unwrap();
        assert!(fixture.open().is_err());
        let served = breaking(DiskMutant::ShortStoreAccepted, || fixture.open());
        assert!(!served.unwrap().opened.lost);
    }

    #[test]
    fn without_the_look_at_everything_a_record_of_tomorrow_is_served() {
        let fixture = Fixture::new();
        let node = fixture.open().unwrap();
        let tomorrow = hansa_consistency::port::Write {
            family: Family::Data,
            key: Bytes::from_static(b"of no row"),
            value: Some(vec![u8::MAX; 8].into()),
        };
        node.store.apply(&[tomorrow]).unwrap();
        node.store.sync().unwrap();
        drop(node);
        assert!(fixture.open().is_err());
        assert!(breaking(DiskMutant::VerifySkipped, || fixture.open()).is_ok());
    }

    #[test]
    fn counted_starts_on_one_copy_have_one_number() {
        let fixture = Fixture::new();
        let before = fixture.used();
        let path = fixture.path("identity");
        let starts = || [(); 2].map(|()| before.clone().begin_start(&path).unwrap());
        let [one, other] = starts();
        assert_ne!(one, other);
        let [one, other] = breaking(DiskMutant::StartCounted, starts);
        assert_eq!(one, other);
    }
}
