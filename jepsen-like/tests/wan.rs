//! Hosts in network namespaces: real TCP through the WAN that the harness emulates.
//!
//! Needs root, TUN devices and `ip`; where these are missing, a line says so. Lower bounds of times are exact, upper
//! bounds are generous: the machine may be busy.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not marked as tests

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hansa_jepsen::nemesis::{Layout, NodeIndex, Refused, Wire};
use hansa_jepsen::wan::{self, Host, Wan, WireState};

/// What this program does instead of testing, when it is started on a host.
const ROLE: &str = "HANSA_WAN_ROLE";

const PATIENCE: Duration = Duration::from_secs(30);

/// How long silence is watched where nothing may arrive.
const SILENCE: Duration = Duration::from_millis(400);

const MS: Duration = Duration::from_millis(1);

/// One node in each of so many regions.
fn layout(regions: usize) -> Layout {
    Layout {
        regions,
        nodes_per_region: 1,
    }
}

/// Prints a line that the test runner does not swallow.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs a case if the machine permits it. `case` is the name of the test: the hosts run it again, in a role.
fn with_wan(
    case: &str,
    regions: usize,
    one_way: fn(NodeIndex, NodeIndex) -> Duration,
    body: impl FnOnce(&Wan),
) {
    if let Some(role) = std::env::var_os(ROLE) {
        return play(role.to_str().unwrap());
    }
    if let Err(reason) = wan::possible() {
        return say(&format!("not run: wan {case}: {reason}"));
    }
    let wan = Wan::start(layout(regions), one_way, 7).unwrap();
    body(&wan);
    let namespaces: Vec<_> = (0..regions)
        .map(|node| wan.host(node).namespace.clone())
        .collect();
    wan.stop().unwrap();
    for namespace in namespaces {
        assert!(
            !std::path::Path::new("/run/netns").join(&namespace).exists(),
            "{namespace} is left behind"
        );
    }
}

/// A program on a host: this one, in a role. It ends with its input.
struct Actor {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Actor {
    fn start(host: &Host, case: &str, role: &str) -> Actor {
        let mut child = host
            .command(std::env::current_exe().unwrap())
            .args(["--exact", case, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Actor { child, answers }
    }

    /// The next line that the role itself printed.
    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.answers.read_line(&mut line).unwrap() > 0,
                "the program on the host ended"
            );
            if let Some((_, answer)) = line.trim_end().split_once("answer: ") {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Plays a role on a host: `echo` serves, `ADDRESS` measures round trips there, one for each line of its input.
fn play(role: &str) {
    if role == "echo" {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        println!("answer: {}", listener.local_addr().unwrap().port());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || echo(stream.unwrap()));
            }
        });
        // Until the test closes it.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let connecting = Instant::now();
    let mut stream = TcpStream::connect(role).unwrap();
    println!("answer: {}", connecting.elapsed().as_micros());
    stream.set_nodelay(true).unwrap();
    for line in std::io::stdin().lines() {
        let start = Instant::now();
        stream.write_all(line.unwrap().as_bytes()).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        println!("answer: {}", start.elapsed().as_micros());
    }
}

fn echo(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 64 << 10];
    // An error ends the connection as its end does.
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// An echo server on a node, and where it listens.
fn echo_on(wan: &Wan, node: NodeIndex, case: &str) -> (Actor, SocketAddr) {
    let mut actor = Actor::start(wan.host(node), case, "echo");
    let port = actor.answer().parse().unwrap();
    let address = SocketAddr::from((wan.host(node).address, port));
    (actor, address)
}

/// A client on a node that is connected to an address; how long that took.
fn client_on(wan: &Wan, node: NodeIndex, case: &str, address: SocketAddr) -> (Actor, Duration) {
    let mut actor = Actor::start(wan.host(node), case, &address.to_string());
    let took = Duration::from_micros(actor.answer().parse().unwrap());
    (actor, took)
}

/// Sends one byte there and back.
fn round_trip(client: &mut Actor) -> Duration {
    ask(client);
    Duration::from_micros(client.answer().parse().unwrap())
}

/// Sends one byte and does not wait for it.
fn ask(client: &mut Actor) {
    client
        .child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"x\n")
        .unwrap();
}

fn delays(from: NodeIndex, _to: NodeIndex) -> Duration {
    [30, 50][from] * MS
}

#[test]
fn nodes_talk_over_a_path_with_different_delays_there_and_back() {
    let case = "nodes_talk_over_a_path_with_different_delays_there_and_back";
    with_wan(case, 2, delays, |wan| {
        let (_server, address) = echo_on(wan, 1, case);
        let (mut client, connected) = client_on(wan, 0, case, address);
        for took in [connected, round_trip(&mut client), round_trip(&mut client)] {
            assert!(took >= 80 * MS, "{took:?}");
            assert!(took < PATIENCE, "{took:?}");
        }
        // The harness has no delay. The fastest of several: the machine may be busy.
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        let fastest = (0..20).map(|_| {
            let start = Instant::now();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            start.elapsed()
        });
        let fastest = fastest.min().unwrap();
        assert!(fastest < 30 * MS, "{fastest:?}");
    });
}

#[test]
fn what_is_lost_comes_again_after_the_heal() {
    let case = "what_is_lost_comes_again_after_the_heal";
    with_wan(
        case,
        2,
        |_, _| MS,
        |wan| {
            let (_server, address) = echo_on(wan, 1, case);
            let (mut client, _) = client_on(wan, 0, case, address);
            round_trip(&mut client);
            for wire in [Wire::Loss(1000), Wire::Blackhole] {
                wan.act(0, 1, wire).unwrap();
                let before = wan.counters().unwrap();
                ask(&mut client);
                std::thread::sleep(SILENCE);
                let after = wan.counters().unwrap();
                assert!(
                    after.lost + after.cut > before.lost + before.cut,
                    "{wire:?}: nothing was sent"
                );
                wan.heal().unwrap();
                assert_eq!(wan.state(0, 1).unwrap(), WireState::delayed(MS));
                let took = Duration::from_micros(client.answer().parse().unwrap());
                assert!(
                    took >= SILENCE,
                    "{wire:?}: an echo came out of it after {took:?}"
                );
            }
        },
    );
}

#[test]
fn faults_of_nodes_do_not_reach_the_harness() {
    let case = "faults_of_nodes_do_not_reach_the_harness";
    with_wan(
        case,
        2,
        |_, _| MS,
        |wan| {
            let (_server, address) = echo_on(wan, 1, case);
            for (from, to) in [(0, 1), (1, 0)] {
                wan.act(from, to, Wire::Blackhole).unwrap();
            }
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
            assert_eq!(stream.local_addr().unwrap().ip(), wan.harness());
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            assert!(matches!(wan.act(0, 2, Wire::Open), Err(Refused::Failed(_))));
        },
    );
}

#[test]
fn a_reset_ends_connections_at_both_ends_and_refuses_new_ones() {
    let case = "a_reset_ends_connections_at_both_ends_and_refuses_new_ones";
    with_wan(
        case,
        2,
        |_, _| MS,
        |wan| {
            let (_server, address) = echo_on(wan, 1, case);
            let (mut client, _) = client_on(wan, 0, case, address);
            round_trip(&mut client);
            wan.act(0, 1, Wire::Reset).unwrap();
            ask(&mut client);
            // The client's role ends with the error of its connection.
            let mut rest = String::new();
            client.answers.read_to_string(&mut rest).unwrap();
            assert!(!client.child.wait().unwrap().success(), "{rest}");
            let mut refused = Actor::start(wan.host(0), case, &address.to_string());
            assert!(!refused.child.wait().unwrap().success());
            wan.heal().unwrap();
            let (mut client, _) = client_on(wan, 0, case, address);
            round_trip(&mut client);
        },
    );
}

#[test]
fn a_wan_that_is_dropped_leaves_nothing_behind() {
    let case = "a_wan_that_is_dropped_leaves_nothing_behind";
    with_wan(
        case,
        2,
        |_, _| MS,
        |first| {
            // Two at a time, each with addresses of its own.
            let second = Wan::start(layout(1), |_, _| MS, 7).unwrap();
            let host = second.host(0).clone();
            assert_ne!(first.host(0).address, host.address);
            assert_ne!(first.host(0).namespace, host.namespace);
            let nobody = SocketAddr::from((host.address, 9));
            let refused = |address| {
                TcpStream::connect_timeout(address, PATIENCE)
                    .unwrap_err()
                    .kind()
            };
            assert_eq!(refused(&nobody), ErrorKind::ConnectionRefused);
            drop(second);
            assert!(
                !std::path::Path::new("/run/netns")
                    .join(host.namespace)
                    .exists()
            );
            assert_eq!(
                refused(&SocketAddr::from((first.host(0).address, 9))),
                ErrorKind::ConnectionRefused
            );
            // Nothing of ours that lives is taken for a leftover.
            wan::clean().unwrap();
            assert!(
                std::path::Path::new("/run/netns")
                    .join(&first.host(0).namespace)
                    .exists()
            );
        },
    );
}
