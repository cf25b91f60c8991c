//! Hosts in network namespaces: real TCP through the WAN that the harness emulates.
//!
//! Needs root, TUN devices and `ip`; where these are missing, a line says so. Lower bounds of times are exact, upper
//! bounds are generous: the machine may be busy.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not marked as tests

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hansa_jepsen::nemesis::{Layout, NodeIndex, Refused, Wire};
use hansa_jepsen::wan::{self, Host, Wan, WireState};

#[path = "support/say.rs"]
mod say;

use say::say;

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

/// One case at a time: a busy machine makes a WAN late.
static ONE: Mutex<()> = Mutex::new(());

/// Runs a case if the machine permits it, on nodes of which each sends with a delay of so many milliseconds. `case`
/// is the name of the test: the hosts run it again, in a role.
fn with_wan<const NODES: usize>(case: &str, delays: [u32; NODES], body: impl FnOnce(&Wan)) {
    if let Some(role) = std::env::var_os(ROLE) {
        return play(role.to_str().unwrap());
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(reason) = wan::possible() {
        return say(&format!("not run: wan {case}: {reason}"));
    }
    let wan = Wan::start(layout(NODES), |from, _| delays[from] * MS, 7).unwrap();
    body(&wan);
    let hosts: Vec<_> = (0..NODES).map(|node| wan.host(node).clone()).collect();
    wan.stop().unwrap();
    for host in hosts {
        assert!(!exists(&host.namespace), "{host:?} is left behind");
    }
}

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

/// What becomes of a connection to a port where nobody listens.
fn connect_to_nobody(host: &Host) -> ErrorKind {
    let nobody = SocketAddr::from((host.address, 9));
    let connected = TcpStream::connect_timeout(&nobody, PATIENCE);
    connected.unwrap_err().kind()
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
            .args(["--exact", case, "--include-ignored", "--nocapture"])
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
        // It may wait for bytes that never come.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Plays a role on a host: `echo` and `sink` serve until their input ends; an address measures round trips there, one
/// for each line of its input; a number of bytes before it measures how long they take.
fn play(role: &str) {
    let played = match (role, role.split_once(' ')) {
        ("echo", _) => serve(echo),
        ("sink", _) => serve(sink),
        (_, Some((bytes, address))) => send(bytes.parse().unwrap(), address),
        (address, None) => measure(address),
    };
    if let Err(error) = played {
        println!("answer: {:?}", error.kind());
    }
}

fn serve(connection: fn(TcpStream)) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    println!("answer: {}", listener.local_addr()?.port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || connection(stream.unwrap()));
        }
    });
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
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

/// Says when it has everything.
fn sink(mut stream: TcpStream) {
    io::copy(&mut stream, &mut io::sink()).unwrap();
    stream.write_all(b"x").unwrap();
}

fn measure(address: &str) -> io::Result<()> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    println!("answer: {}", start.elapsed().as_micros());
    stream.set_nodelay(true)?;
    for line in io::stdin().lines() {
        let start = Instant::now();
        stream.write_all(line?.as_bytes())?;
        stream.read_exact(&mut [0])?;
        println!("answer: {}", start.elapsed().as_micros());
    }
    Ok(())
}

fn send(bytes: u64, address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let start = Instant::now();
    let chunk = vec![7; 64 << 10];
    let mut rest = bytes as usize;
    while rest > 0 {
        rest -= stream.write(&chunk[..rest.min(chunk.len())])?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    println!("answer: {}", start.elapsed().as_micros());
    Ok(())
}

/// A server on a node, and where it listens.
fn server_on(wan: &Wan, node: NodeIndex, case: &str, role: &str) -> (Actor, SocketAddr) {
    let mut actor = Actor::start(wan.host(node), case, role);
    let port = actor.answer().parse().unwrap();
    (actor, SocketAddr::from((wan.host(node).address, port)))
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

/// Waits until another packet is dropped by a fault.
fn dropped_more(wan: &Wan) {
    let dropped = || {
        let counters = wan.counters().unwrap();
        counters.cut + counters.lost
    };
    let (start, before) = (Instant::now(), dropped());
    while dropped() == before {
        assert!(start.elapsed() < PATIENCE, "nothing is dropped");
        std::thread::sleep(MS);
    }
}

#[test]
fn nodes_talk_over_a_path_with_different_delays_there_and_back() {
    let case = "nodes_talk_over_a_path_with_different_delays_there_and_back";
    with_wan(case, [30, 50], |wan| {
        let (_server, address) = server_on(wan, 1, case, "echo");
        let (mut client, connected) = client_on(wan, 0, case, address);
        for took in [connected, round_trip(&mut client), round_trip(&mut client)] {
            assert!(took >= 80 * MS, "{took:?}");
            assert!(took < PATIENCE, "{took:?}");
        }
        // The harness has no delay. The fastest of several: the machine may be busy.
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        let trips = (0..20).map(|_| {
            let start = Instant::now();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            start.elapsed()
        });
        let fastest = trips.min().unwrap();
        assert!(fastest < 30 * MS, "{fastest:?}");
    });
}

#[test]
fn what_is_lost_comes_again_after_the_heal() {
    let case = "what_is_lost_comes_again_after_the_heal";
    with_wan(case, [1, 1], |wan| {
        let (_server, address) = server_on(wan, 1, case, "echo");
        let (mut client, _) = client_on(wan, 0, case, address);
        round_trip(&mut client);
        for wire in [Wire::Loss(1000), Wire::Blackhole] {
            wan.act(0, 1, wire).unwrap();
            ask(&mut client);
            dropped_more(wan);
            std::thread::sleep(SILENCE);
            wan.heal().unwrap();
            assert_eq!(wan.state(0, 1).unwrap(), WireState::delayed(MS));
            let took = Duration::from_micros(client.answer().parse().unwrap());
            assert!(took >= SILENCE, "{wire:?}: it answered after {took:?}");
        }
    });
}

#[test]
fn faults_of_nodes_do_not_reach_the_harness() {
    let case = "faults_of_nodes_do_not_reach_the_harness";
    with_wan(case, [1, 1], |wan| {
        let (_server, address) = server_on(wan, 1, case, "echo");
        for (from, to) in [(0, 1), (1, 0)] {
            wan.act(from, to, Wire::Blackhole).unwrap();
        }
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), wan.harness());
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let nowhere = wan.act(0, 2, Wire::Open);
        assert!(matches!(nowhere, Err(Refused::Failed(_))), "{nowhere:?}");
    });
}

#[test]
fn a_reset_ends_connections_in_use_and_refuses_new_ones() {
    let case = "a_reset_ends_connections_in_use_and_refuses_new_ones";
    with_wan(case, [1, 1], |wan| {
        let (_server, address) = server_on(wan, 1, case, "echo");
        let (mut client, _) = client_on(wan, 0, case, address);
        round_trip(&mut client);
        wan.act(0, 1, Wire::Reset).unwrap();
        ask(&mut client);
        assert_eq!(client.answer(), "ConnectionReset");
        let mut refused = Actor::start(wan.host(0), case, &address.to_string());
        assert_eq!(refused.answer(), "ConnectionRefused");
        wan.heal().unwrap();
        let (mut client, _) = client_on(wan, 0, case, address);
        round_trip(&mut client);
    });
}

#[test]
fn a_half_open_connection_stays_black_after_the_heal() {
    let case = "a_half_open_connection_stays_black_after_the_heal";
    with_wan(case, [1, 1], |wan| {
        let (_server, address) = server_on(wan, 1, case, "echo");
        let (mut client, _) = client_on(wan, 0, case, address);
        round_trip(&mut client);
        wan.act(0, 1, Wire::HalfOpen).unwrap();
        ask(&mut client);
        // It is sent, and after the heal sent again, and thrown away both times.
        dropped_more(wan);
        wan.heal().unwrap();
        dropped_more(wan);
        let (mut another, _) = client_on(wan, 0, case, address);
        round_trip(&mut another);
        client.child.kill().unwrap();
        let mut rest = String::new();
        client.answers.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("answer: "), "{rest}");
    });
}

#[test]
fn a_bandwidth_slows_one_direction_down() {
    let case = "a_bandwidth_slows_one_direction_down";
    with_wan(case, [1, 1], |wan| {
        let (_server, address) = server_on(wan, 1, case, "sink");
        let send = || {
            let role = format!("200000 {address}");
            let mut sender = Actor::start(wan.host(0), case, &role);
            Duration::from_micros(sender.answer().parse().unwrap())
        };
        wan.act(0, 1, Wire::Bandwidth(100_000)).unwrap();
        let slow = send();
        assert!(slow >= 2000 * MS, "{slow:?}");
        assert!(slow < PATIENCE, "{slow:?}");
        // In the other direction there is little to carry.
        wan.act(0, 1, Wire::Open).unwrap();
        wan.act(1, 0, Wire::Bandwidth(100_000)).unwrap();
        let fast = send();
        assert!(fast < 2000 * MS, "{fast:?}");
    });
}

#[test]
fn a_wan_that_is_dropped_leaves_nothing_behind() {
    let case = "a_wan_that_is_dropped_leaves_nothing_behind";
    with_wan(case, [1], |wan| {
        // Two at a time, each with addresses of its own.
        let second = Wan::start(layout(1), |_, _| MS, 7).unwrap();
        let (first, dropped) = (wan.host(0), second.host(0).clone());
        assert_ne!(first.address, dropped.address);
        assert_ne!(first.namespace, dropped.namespace);
        assert_eq!(connect_to_nobody(&dropped), ErrorKind::ConnectionRefused);
        drop(second);
        assert!(!exists(&dropped.namespace));
        assert_eq!(connect_to_nobody(first), ErrorKind::ConnectionRefused);
        // What belongs to somebody who lives is no leftover.
        wan::clean().unwrap();
        assert!(exists(&first.namespace));
    });
}

#[test]
fn what_a_dead_harness_left_behind_is_removed_with_its_processes() {
    let case = "what_a_dead_harness_left_behind_is_removed_with_its_processes";
    with_wan(case, [1], |wan| {
        // Of a process id that is never given.
        let (nobody, us) = (i32::MAX, std::process::id());
        let dead = Host {
            namespace: format!("hansa-wan-{nobody}-7-{us}-0"),
            address: Ipv4Addr::LOCALHOST,
        };
        let add = ["netns", "add", &dead.namespace];
        assert!(Command::new("ip").args(add).status().unwrap().success());
        let mut left = dead.command("sleep").arg("600").spawn().unwrap();
        // Until it is there: `ip` becomes the program.
        let comm = format!("/proc/{}/comm", left.id());
        while std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() != "sleep") {
            assert!(left.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(MS);
        }
        wan::clean().unwrap();
        assert!(!left.wait().unwrap().success());
        assert!(!exists(&dead.namespace));
        assert!(exists(&wan.host(0).namespace));
    });
}

#[test]
#[ignore = "a measurement, for docs/harness-wan.md: run it by hand and alone"]
fn how_exact_and_how_fast() {
    let case = "how_exact_and_how_fast";
    with_wan(case, [40, 60], |wan| {
        let (_echo, echo) = server_on(wan, 1, case, "echo");
        let (_sink, sink) = server_on(wan, 1, case, "sink");
        let (mut client, connected) = client_on(wan, 0, case, echo);
        let mut trips: Vec<_> = (0..100).map(|_| round_trip(&mut client)).collect();
        trips.sort_unstable();
        let mean = trips.iter().sum::<Duration>() / 100;
        let counters = wan.counters().unwrap();
        let late = counters.late / counters.delivered as u32;
        let [least, p95, most] = [trips[0], trips[95], trips[99]];
        say(&format!(
            "40 ms + 60 ms: connected in {connected:?}; round trip {least:?}, mean {mean:?}, p95 {p95:?}, {most:?}; \
             router late by {late:?} a packet, {:?} at most",
            counters.latest
        ));
        for one_way in [0, 1, 10, 50] {
            for (from, to) in [(0, 1), (1, 0)] {
                let state = WireState::delayed(one_way * MS);
                wan.set(from, to, state).unwrap();
            }
            let before = (processor(), wan.counters().unwrap());
            let role = format!("100000000 {sink}");
            let mut sender = Actor::start(wan.host(0), case, &role);
            let took = Duration::from_micros(sender.answer().parse().unwrap());
            let after = (processor(), wan.counters().unwrap());
            let rate = 100.0 / took.as_secs_f64();
            let packets = after.1.delivered - before.1.delivered;
            let overflowed = after.1.overflowed - before.1.overflowed;
            let used = after.0 - before.0;
            say(&format!(
                "{one_way} ms each way: 100 MB in {took:?}, {rate:.0} MB/s, {packets} packets, {overflowed} too many, \
                 router used {used:?}"
            ));
        }
    });
}

/// Processor time of this process so far.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat[stat.rfind(')').unwrap()..]
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    // A tick is 10 ms wherever Hansa runs.
    Duration::from_millis((ticks(12) + ticks(13)) * 10)
}
