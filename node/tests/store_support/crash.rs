//! Processes that are killed, and disks that lose their power or fail.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use hansa_consistency::port::Family;
use hansa_node::store::{Engine, StoreError, open};
use rand::RngExt;

use super::disk::Ext4;
use super::{OPTIONS, groups, put, say};

const ACCIDENTS: u32 = 20;

/// Engine, first group and directory, for the process that writes.
const TASK: &str = "HANSA_STORE_WRITER";

/// Writes groups one after the other, and acknowledges each on the error stream once it is synced.
pub(crate) fn writer_process() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let mut parts = task.splitn(3, ' ');
    let engine: Engine = parts.next().unwrap().parse().unwrap();
    let first: u64 = parts.next().unwrap().parse().unwrap();
    let dir = Path::new(parts.next().unwrap());
    let store = open(engine, dir, OPTIONS).unwrap();
    for n in first.. {
        store.apply(&groups::group(n)).unwrap();
        store.sync().unwrap();
        say(&format!("acknowledged {n}"));
    }
}

/// A running writer. Killed when dropped.
struct Writer {
    process: Child,
    /// What it says, line by line, as it comes.
    lines: Receiver<String>,
    acknowledged: Option<u64>,
}

impl Writer {
    fn start(engine: Engine, dir: &Path, first: u64) -> Writer {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_process", "--nocapture"])
            .env(TASK, format!("{engine} {first} {}", dir.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // Ends with the process, or with this writer.
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Writer {
            process,
            lines,
            acknowledged: first.checked_sub(1),
        }
    }

    /// Takes in a line. Returns whether it was an acknowledgement.
    fn take(&mut self, line: &str) -> bool {
        let number = line.strip_prefix("acknowledged ");
        if let Some(n) = number {
            self.acknowledged = Some(n.parse().unwrap());
        }
        number.is_some()
    }

    /// Lets it acknowledge some groups, and then go on for a moment, so that the accident comes anywhere.
    fn run_for_a_while(&mut self) {
        let mut rng = rand::rng();
        let mut wanted = rng.random_range(2..30);
        while wanted > 0 {
            let line = self.lines.recv().expect("the writer goes on");
            match self.take(&line) {
                true => wanted -= 1,
                false => say(&format!("writer: {line}")),
            }
        }
        // Not a wait for anything: the accident is to come at a random moment.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..20_000)));
    }

    /// The last group it acknowledged so far.
    fn acknowledged(&mut self) -> Option<u64> {
        while let Ok(line) = self.lines.try_recv() {
            self.take(&line);
        }
        self.acknowledged
    }

    /// SIGKILL. Returns the last group it acknowledged before.
    fn kill(mut self) -> Option<u64> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        while let Ok(line) = self.lines.recv() {
            self.take(&line);
        }
        self.acknowledged
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs accidents on one store and checks it after each. `accident` ends the writer and returns what it
/// acknowledged.
fn accidents(engine: Engine, what: &str, dir: &Path, accident: impl Fn(Writer) -> Option<u64>) {
    let mut last = None;
    for round in 1..=ACCIDENTS {
        let mut writer = Writer::start(engine, dir, last.map_or(0, |last: u64| last + 1));
        writer.run_for_a_while();
        let acknowledged = accident(writer);
        let at = |error: &dyn std::fmt::Display| {
            format!("{engine}, {what} {round} after {acknowledged:?}: {error}")
        };
        let store = open(engine, dir, OPTIONS)
            .map_err(|error| at(&error))
            .unwrap();
        let found = groups::check(&*store, acknowledged);
        last = found.map_err(|error| at(&error)).unwrap();
    }
    let groups = last.map_or(0, |last| last + 1);
    say(&format!(
        "store {engine}: {ACCIDENTS} {what}s, {groups} groups, none lost, none torn"
    ));
}

pub(crate) fn kills(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    accidents(engine, "kill", dir.path(), Writer::kill);
}

/// Counts only what was acknowledged before the power went: a sync under way when `ext4` is shut down can
/// return success with nothing written (plain `fdatasync` of a plain file does, in 18 of 60 cuts). Where
/// there is power to return, there was no cut.
pub(crate) fn power_cuts(engine: Engine) {
    let disk = Ext4::new(1024);
    let dir = disk.path().join("store");
    accidents(engine, "power cut", &dir, |mut writer| {
        let acknowledged = writer.acknowledged();
        disk.cut();
        writer.kill();
        disk.restore();
        acknowledged
    });
}

/// A disk that fails under an open store: the sync fails, nothing is taken any more, and what was synced
/// is there when the store is opened again.
pub(crate) fn failed_sync(engine: Engine) {
    let disk = Ext4::new(256);
    let dir = disk.path().join("store");
    let store = open(engine, &dir, OPTIONS).unwrap();
    store.apply(&groups::group(0)).unwrap();
    store.sync().unwrap();
    disk.cut();
    // The batch may already be refused by the engine; the sync at the latest has to fail.
    let applied = store.apply(&[put(Family::Data, "late", "x")]);
    let synced = store.sync();
    assert!(
        synced.is_err(),
        "{engine}: a sync succeeded on a dead disk after {applied:?}"
    );
    for _ in 0..3 {
        let refused = store.apply(&[put(Family::Data, "later", "x")]);
        assert!(
            matches!(refused, Err(StoreError::Poisoned { .. })),
            "{refused:?}"
        );
        assert!(matches!(store.sync(), Err(StoreError::Poisoned { .. })));
    }
    assert!(store.stats().poisoned);
    assert_eq!(store.get(Family::Data, b"later").unwrap(), None);
    assert_eq!(groups::check(&*store, Some(0)), Ok(Some(0)), "reads go on");
    drop(store);

    disk.restore();
    let store = open(engine, &dir, OPTIONS).unwrap();
    assert_eq!(groups::check(&*store, Some(0)), Ok(Some(0)));
    store.apply(&groups::group(1)).unwrap();
    store.sync().unwrap();
}
