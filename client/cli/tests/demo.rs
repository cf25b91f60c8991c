//! The demo from start to stop, as a user has it: real processes, real ports, real files.
//!
//! One test at a time: three nodes with WAN delays on a small machine leave no room for a second
//! demo beside them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Ports of one demo, from the base to the last link.
const PORTS: u16 = 210;

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A base from which all ports are free now; below the range that the system gives out by itself.
fn free_base() -> u16 {
    let start = 10_000 + (std::process::id() % 80) as u16 * 250;
    let bases = (0..80).map(|step| 10_000 + (start - 10_000 + step * 250) % 20_000);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut bases = bases.filter(|base| (*base..*base + PORTS).all(is_free));
    bases.next().expect("no free range of ports")
}

fn demo(base: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hansa"));
    command
        .args(["demo", "--port-base", &base.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The processes whose command line names a file in this directory.
fn processes_of(directory: &Path) -> Vec<Pid> {
    let wanted = directory.to_str().unwrap();
    let of = |entry: fs::DirEntry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        text(&line).contains(wanted).then(|| Pid::from_raw(id))?
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(of)
        .collect()
}

/// Waits until no node of the demo in `directory` is left.
fn assert_gone(directory: &Path) {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let left = processes_of(&directory.join("us-east-1.toml"))
            .into_iter()
            .chain(processes_of(&directory.join("eu-central-1.toml")))
            .chain(processes_of(&directory.join("ap-northeast-1.toml")));
        let left: Vec<Pid> = left.collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < give_up, "left behind: {left:?}");
        // Processes of somebody else's children: nobody tells when they are gone.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A demo that was ready when this was made, and is killed when this is dropped.
struct Running {
    child: Child,
    directory: PathBuf,
    _folder: tempfile::TempDir,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(base: u16, arguments: &[&str]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let directory = fs::canonicalize(folder.path()).unwrap().join("data");
        let mut all = vec!["--data-dir", directory.to_str().unwrap()];
        all.extend(arguments);
        let mut child = demo(base, &all).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut running = Running {
            child,
            directory,
            _folder: folder,
            lines,
        };
        running.wait_for("Try in a second terminal");
        running
    }

    /// Reads on until a line of the output has these words; the line.
    fn wait_for(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                let mut errors = String::new();
                self.child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut errors)
                    .unwrap();
                panic!("the demo ended before it said `{words}`:\n{errors}");
            }
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hansa(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hansa"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn smoke_tells_the_whole_story() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.jsonl");
    let arguments = ["--smoke", "--history", history.to_str().unwrap()];
    let started = Instant::now();
    let output = demo(free_base(), &arguments).output().unwrap();
    let (figures, progress) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{progress}\n{figures}");
    assert!(
        started.elapsed() < Duration::from_secs(90),
        "{progress}\n{figures}"
    );
    let figures: Json = serde_json::from_str(figures.lines().last().unwrap()).unwrap();
    assert_eq!(figures["ok"], true, "{figures}");
    assert!(
        figures["acknowledged_writes"].as_u64().unwrap() > 100,
        "{figures}"
    );

    let lines = fs::read_to_string(&history).unwrap();
    let lines: Vec<Json> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(figures["history_lines"], lines.len());
    let count = |op: &str| lines.iter().filter(|line| line["op"] == op).count();
    for op in [
        "put", "get", "delete", "cas", "incr", "read", "add", "remove", "contains", "final",
        "digest",
    ] {
        assert!(count(op) > 0, "no {op} in the history");
    }
    let faults = lines.iter().filter(|line| line["op"] == "nemesis");
    let faults: Vec<&str> = faults.map(|line| line["value"].as_str().unwrap()).collect();
    let expected = [
        "cut ap-northeast (outbound)",
        "heal ap-northeast (outbound)",
        "cut ap-northeast",
        "kill eu-central-1",
        "start eu-central-1",
        "heal ap-northeast",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn a_signal_ends_the_demo_and_its_nodes() {
    let _alone = alone();
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = Running::start(free_base(), &["--engine", "memory"]);
        assert_eq!(
            processes_of(&running.directory.join("us-east-1.toml")).len(),
            1
        );
        running.wait_for("| ap-northeast lag=");
        running.signal(signal);
        let status = running.child.wait().unwrap();
        assert!(status.success(), "{signal:?}: {status}");
        assert_gone(&running.directory);
    }
}

#[test]
fn the_nodes_end_when_the_demo_is_killed() {
    let _alone = alone();
    let mut running = Running::start(free_base(), &["--engine", "memory"]);
    running.signal(Signal::KILL);
    assert!(!running.child.wait().unwrap().success());
    assert_gone(&running.directory);
}

#[test]
fn a_region_is_cut_and_healed_from_a_second_terminal_and_by_schedule() {
    let _alone = alone();
    let base = free_base();
    let cut = ["--engine", "memory", "--cut", "us-east@0s..1s"];
    let mut running = Running::start(base, &cut);
    running.wait_for("cut us-east: 8 links, as scheduled");
    running.wait_for("healed us-east: 8 links, as scheduled");
    let admin = format!("http://127.0.0.1:{base}");
    let output = hansa(&["admin", "cut", "ap-northeast", "--admin", &admin]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    running.wait_for("cut ap-northeast: 8 links");
    running.wait_for("cut=ap-northeast");
    let output = hansa(&["admin", "cut", "mars", "--admin", &admin]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("us-east, eu-central, ap-northeast"));
    let output = hansa(&["admin", "heal", "ap-northeast", "--admin", &admin]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    running.wait_for("cut=none");
}

#[test]
fn a_kept_directory_keeps_what_was_written() {
    let _alone = alone();
    let (base, folder) = (free_base(), tempfile::tempdir().unwrap());
    let directory = folder.path().join("kept");
    let endpoint = format!("http://127.0.0.1:{}", base + 1);
    let asked = [
        "--endpoint",
        &endpoint,
        "--level",
        "eventual",
        "--timeout",
        "10s",
    ];
    for (start, ready) in [
        (1, "loaded 2935 records"),
        (2, "the data set is there already"),
    ] {
        let mut child = demo(base, &["--data-dir", directory.to_str().unwrap()])
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let loaded = errors.find(|line| line.as_ref().is_ok_and(|line| line.contains(ready)));
        let outcome = loaded.map(|_| match start {
            1 => hansa(&[&["kv", "put", "profiles", "kept", "yes"], &asked[..]].concat()),
            _ => hansa(&[&["kv", "get", "profiles", "kept"], &asked[..]].concat()),
        });
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        // It may have ended by itself: the assertions below say so.
        let _ = kill_process(id, Signal::TERM);
        let rest: Vec<String> = errors.map_while(Result::ok).collect();
        assert!(child.wait().unwrap().success(), "start {start}: {rest:?}");
        let output = outcome.unwrap_or_else(|| panic!("start {start} never said `{ready}`"));
        assert!(output.status.success(), "{}", text(&output.stderr));
        if start == 2 {
            assert_eq!(text(&output.stdout).trim(), "yes");
        }
    }
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_started() {
    // The port it takes could be one that another demo was about to use.
    let _alone = alone();
    let base = free_base();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, base + 2)).unwrap();
    let output = demo(base, &["--smoke"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = text(&output.stderr);
    assert!(errors.contains(&format!("port {}", base + 2)), "{errors}");
    assert!(errors.contains("--port-base"), "{errors}");
}

#[test]
fn a_killed_node_is_named_and_comes_back_by_the_command_that_is_printed() {
    let _alone = alone();
    let mut running = Running::start(free_base(), &[]);
    let settings = running.directory.join("eu-central-1.toml");
    let node = processes_of(&settings)[0];
    kill_process(node, Signal::KILL).unwrap();
    running.wait_for("eu-central-1 ended, signal: 9 (SIGKILL), and stays down");
    let command = running.wait_for("serve --config eu-central-1.toml");
    running.wait_for("no-answer=eu-central-1 ");
    // `exec` in the place of the shell, so that the child is the node.
    let command = command.replace("&& ", "&& exec ");
    let mut again = Command::new("sh")
        .args(["-c", command.trim().trim_matches(['(', ')'])])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    running.wait_for("cut=none | us-east");
    let id = Pid::from_raw(i32::try_from(again.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert!(again.wait().unwrap().success());
    running.signal(Signal::INT);
    assert!(running.child.wait().unwrap().success());
}
