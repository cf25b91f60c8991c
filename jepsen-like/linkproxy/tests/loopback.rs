//! The link over real sockets on loopback, through the public API only.
//!
//! Lower bounds of times are exact, upper bounds are generous: the machine may
//! be busy. Everything that should happen is awaited; a hang is a failure after
//! [`PATIENCE`].

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not marked as tests

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use hansa_linkproxy::{
    Cut, Direction, DirectionSettings, LOSS_MAX, Link, LinkCounters, LinkSettings, MAX_CONNECTIONS,
    MIN_BUFFER,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// How long silence is watched where nothing may arrive.
const SILENCE: Duration = Duration::from_millis(150);

const BLACKHOLE: DirectionSettings = DirectionSettings {
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    cut: Cut::Blackhole,
    bandwidth: None,
    loss: 0,
};
const RESET: DirectionSettings = DirectionSettings {
    cut: Cut::Reset,
    ..BLACKHOLE
};
const HALF_OPEN: DirectionSettings = DirectionSettings {
    cut: Cut::HalfOpen,
    ..BLACKHOLE
};
const OPEN: DirectionSettings = DirectionSettings {
    cut: Cut::Open,
    ..BLACKHOLE
};

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn delays(forward_ms: u64, backward_ms: u64) -> LinkSettings {
    LinkSettings {
        forward: DirectionSettings::delayed(Duration::from_millis(forward_ms)),
        backward: DirectionSettings::delayed(Duration::from_millis(backward_ms)),
        ..LinkSettings::default()
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what)
        .await
        .expect("did not happen in 30 s")
}

/// A link and the listener it forwards to.
struct Bench {
    link: Link,
    target: TcpListener,
}

impl Bench {
    async fn start(settings: LinkSettings) -> Self {
        let target = TcpListener::bind(local()).await.unwrap();
        let address = target.local_addr().unwrap();
        let link = Link::start(local(), address, settings).await.unwrap();
        Self { link, target }
    }

    /// Waits until the link's counters are as told.
    async fn until(&self, reached: impl Fn(LinkCounters) -> bool) {
        soon(async {
            while !reached(self.link.counters()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.link.local_addr()).await.unwrap()
    }

    /// The two ends of a new connection through the link, which carries it
    /// already. No other one may be ending.
    async fn pair(&self) -> (TcpStream, TcpStream) {
        let before = self.link.counters().backward.connections;
        let client = self.connect().await;
        self.until(|now| now.backward.connections > before).await;
        let (target, _) = soon(self.target.accept()).await.unwrap();
        client.set_nodelay(true).unwrap();
        target.set_nodelay(true).unwrap();
        (client, target)
    }
}

/// Sends some bytes and returns how long they took.
async fn cross(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    from.write_all(bytes).await.unwrap();
    let mut read = vec![0; bytes.len()];
    soon(to.read_exact(&mut read)).await.unwrap();
    let took = start.elapsed();
    assert_eq!(read, bytes);
    took
}

/// Fails unless the stream stays silent for a while: no byte, no end, no error.
async fn assert_silent(stream: &mut TcpStream) {
    let read = timeout(SILENCE, stream.read_u8()).await;
    assert!(read.is_err(), "expected silence, got {read:?}");
}

/// Fails unless the stream has been reset.
async fn assert_reset(stream: &mut TcpStream) {
    let read = soon(stream.read_u8()).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn each_direction_has_its_own_delay() {
    let bench = Bench::start(delays(30, 90)).await;
    let (mut client, mut target) = bench.pair().await;
    let forward = cross(&mut client, &mut target, b"there").await;
    let backward = cross(&mut target, &mut client, b"back").await;
    assert!(forward >= Duration::from_millis(30), "{forward:?}");
    assert!(backward >= Duration::from_millis(90), "{backward:?}");
    assert!(forward < Duration::from_millis(1030), "{forward:?}");
    assert!(backward < Duration::from_millis(1090), "{backward:?}");
}

#[tokio::test]
async fn delays_are_precise() {
    let delay = Duration::from_millis(10);
    let bench = Bench::start(delays(10, 0)).await;
    let (mut client, mut target) = bench.pair().await;
    let mut late = Vec::new();
    for _ in 0..40 {
        late.push(cross(&mut client, &mut target, b"x").await - delay);
    }
    late.sort_unstable();
    println!(
        "late by: least {:?}, median {:?}, most {:?}",
        late[0], late[20], late[39]
    );
    // The lower quartile, because others may keep the machine busy. The runtime's
    // own timer is 1.2 ms late.
    assert!(late[10] < Duration::from_millis(1), "{late:?}");
}

#[tokio::test]
async fn a_new_delay_applies_to_open_connections() {
    let bench = Bench::start(delays(60, 0)).await;
    let (mut client, mut target) = bench.pair().await;
    assert!(cross(&mut client, &mut target, b"1").await >= Duration::from_millis(60));
    let longer = DirectionSettings::delayed(Duration::from_millis(120));
    bench.link.set(Direction::Forward, longer);
    assert_eq!(bench.link.settings().forward, longer);
    assert!(cross(&mut client, &mut target, b"2").await >= Duration::from_millis(120));
    // Bytes under a shorter delay do not overtake those under the longer one.
    client.write_all(b"3").await.unwrap();
    bench.until(|now| now.forward.bytes_in == 3).await;
    bench.link.set(Direction::Forward, OPEN);
    client.write_all(b"4").await.unwrap();
    let mut read = [0; 2];
    soon(target.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"34");
}

#[tokio::test]
async fn jitter_keeps_the_order() {
    let jittery = DirectionSettings {
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(8),
        ..OPEN
    };
    let bench = Bench::start(LinkSettings::symmetric(jittery)).await;
    let (mut client, mut target) = bench.pair().await;
    let sender = tokio::spawn(async move {
        for number in 0..2000_u32 {
            client.write_u32(number).await.unwrap();
            tokio::task::yield_now().await;
        }
        client
    });
    for expected in 0..2000 {
        assert_eq!(soon(target.read_u32()).await.unwrap(), expected);
    }
    soon(sender).await.unwrap();
}

#[tokio::test]
async fn a_delay_does_not_cost_throughput() {
    const SIZE: usize = 8 << 20;
    let bench = Bench::start(delays(50, 50)).await;
    let (mut client, mut target) = bench.pair().await;
    let sent: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    let expected = sent.clone();
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    let mut read = Vec::with_capacity(SIZE);
    soon(target.read_to_end(&mut read)).await.unwrap();
    let took = start.elapsed();
    println!("8 MiB through 50 ms in {took:?}");
    assert!(read == expected, "bytes differ");
    // One read at a time would need 512 delays, 25 s.
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(soon(sender).await.unwrap());
    let forward = bench.link.counters().forward;
    assert_eq!(
        (forward.bytes_in, forward.bytes_out),
        (SIZE as u64, SIZE as u64)
    );
}

#[tokio::test]
async fn a_one_way_black_hole_holds_and_delivers_after_the_heal() {
    let bench = Bench::start(LinkSettings::default()).await;
    let (mut client, mut target) = bench.pair().await;
    bench.link.set(Direction::Forward, BLACKHOLE);
    client.write_all(b"held ").await.unwrap();
    client.write_all(b"bytes").await.unwrap();
    client.shutdown().await.unwrap();
    assert_silent(&mut target).await;
    // The other way is open all the time.
    cross(&mut target, &mut client, b"still here").await;
    bench.link.set(Direction::Forward, OPEN);
    let mut read = String::new();
    soon(target.read_to_string(&mut read)).await.unwrap();
    assert_eq!(read, "held bytes");
}

#[tokio::test]
async fn a_black_hole_pushes_back_and_loses_nothing() {
    let settings = LinkSettings {
        forward: BLACKHOLE,
        buffer: MIN_BUFFER,
        ..LinkSettings::default()
    };
    let bench = Bench::start(LinkSettings {
        forward: OPEN,
        ..settings
    })
    .await;
    let (mut client, mut target) = bench.pair().await;
    bench.link.set(Direction::Forward, BLACKHOLE);
    let chunk = [7; 64 << 10];
    let mut sent = 0;
    // Ends when the kernel's buffers and the link's are full.
    while let Ok(written) = timeout(Duration::from_millis(300), client.write(&chunk)).await {
        sent += written.unwrap() as u64;
        assert!(sent < 256 << 20, "no backpressure");
    }
    let held = bench.link.counters().forward;
    // One read may wait for room outside the buffer.
    assert!(held.bytes_in <= MIN_BUFFER as u64 + (16 << 10), "{held:?}");
    assert_eq!(held.bytes_out, 0);
    bench.link.set(Direction::Forward, OPEN);
    client.shutdown().await.unwrap();
    let mut read = Vec::new();
    soon(target.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read.len() as u64, sent);
}

#[tokio::test]
async fn a_connection_made_in_a_black_hole_reaches_the_target_after_the_heal() {
    let bench = Bench::start(LinkSettings {
        forward: BLACKHOLE,
        ..LinkSettings::default()
    })
    .await;
    let mut gave_up = bench.connect().await;
    gave_up.write_all(b"nobody").await.unwrap();
    let mut patient = bench.connect().await;
    patient.write_all(b"hello").await.unwrap();
    drop(gave_up);
    bench.until(|now| now.refused == 1).await;
    let dialled = timeout(SILENCE, bench.target.accept()).await;
    assert!(dialled.is_err(), "the black hole let a connection through");
    bench.link.set(Direction::Forward, OPEN);
    let (mut target, _) = soon(bench.target.accept()).await.unwrap();
    let mut read = [0; 5];
    soon(target.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"hello");
    cross(&mut target, &mut patient, b"welcome").await;
}

#[tokio::test]
async fn reset_ends_connections_and_refuses_new_ones_until_it_is_lifted() {
    let bench = Bench::start(LinkSettings::default()).await;
    let (mut client, mut target) = bench.pair().await;
    bench.link.set(Direction::Backward, RESET);
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
    assert_reset(&mut bench.connect().await).await;
    assert_eq!(bench.link.counters().refused, 1);
    bench.link.set(Direction::Backward, OPEN);
    let (mut client, mut target) = bench.pair().await;
    cross(&mut client, &mut target, b"again").await;
}

#[tokio::test]
async fn each_reset_lifted_at_once_still_ends_connections() {
    let bench = Bench::start(LinkSettings::default()).await;
    for _ in 0..2 {
        let (mut client, mut target) = bench.pair().await;
        bench.link.set(Direction::Forward, RESET);
        bench.link.set(Direction::Forward, OPEN);
        assert_reset(&mut client).await;
        assert_reset(&mut target).await;
        bench.until(|now| now.open == 0).await;
    }
}

/// A direction that carries so many bytes a second.
fn limited(bytes: u64) -> DirectionSettings {
    DirectionSettings {
        bandwidth: NonZeroU64::new(bytes),
        ..OPEN
    }
}

#[tokio::test]
async fn a_bandwidth_is_exact_and_shared_by_the_connections_of_its_direction() {
    const RATE: u64 = 200_000;
    const SIZE: usize = 100_000;
    let bench = Bench::start(LinkSettings {
        forward: limited(RATE),
        ..LinkSettings::default()
    })
    .await;
    let start = Instant::now();
    let mut crossings = JoinSet::new();
    for _ in 0..2 {
        let (mut client, mut target) = bench.pair().await;
        crossings.spawn(async move { cross(&mut client, &mut target, &[7; SIZE]).await });
    }
    let crossed: Vec<_> = soon(crossings.join_all()).await;
    let took = start.elapsed();
    println!("200 kB at 200 kB/s in {took:?}, each connection in {crossed:?}");
    // 20 ms' worth may come out at once.
    assert!(took >= Duration::from_millis(980), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    bench.until(|now| now.open == 0).await;
    // The way back has no limit.
    let (mut client, mut target) = bench.pair().await;
    let back = cross(&mut target, &mut client, &vec![7; 10 * SIZE]).await;
    assert!(back < Duration::from_secs(5), "{back:?}");
}

#[tokio::test]
async fn a_slow_link_drips_and_lets_go_when_the_limit_is_lifted() {
    const SIZE: usize = 40_000;
    let bench = Bench::start(LinkSettings::default()).await;
    let (mut client, mut target) = bench.pair().await;
    bench.link.set(Direction::Forward, limited(100));
    client.write_all(&[7; SIZE]).await.unwrap();
    let mut read = vec![0; SIZE];
    // All of it would take 400 s.
    soon(target.read_exact(&mut read[..20])).await.unwrap();
    let out = bench.link.counters().forward.bytes_out;
    assert!((20..SIZE as u64 / 2).contains(&out), "{out}");
    bench.link.set(Direction::Forward, OPEN);
    soon(target.read_exact(&mut read[20..])).await.unwrap();
    assert!(read.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn nobody_waits_for_a_limit_that_was_lifted() {
    const CONNECTIONS: usize = 90;
    let bench = Bench::start(LinkSettings {
        forward: limited(1),
        ..LinkSettings::default()
    })
    .await;
    let mut pairs = Vec::new();
    for _ in 0..CONNECTIONS {
        let (mut client, target) = bench.pair().await;
        client.write_all(b"x").await.unwrap();
        pairs.push((client, target));
    }
    bench
        .until(|now| now.forward.bytes_in == CONNECTIONS as u64)
        .await;
    // A second each: the last one's turn would be later than anybody here is patient.
    bench.link.set(Direction::Forward, OPEN);
    soon(async {
        for (_, target) in &mut pairs {
            assert_eq!(target.read_u8().await.unwrap(), b'x');
        }
    })
    .await;
}

#[tokio::test]
async fn a_half_open_direction_stays_black_after_the_heal_and_the_other_does_not() {
    let bench = Bench::start(LinkSettings::default()).await;
    let (mut client, mut target) = bench.pair().await;
    // What a black hole holds is lost too.
    bench.link.set(Direction::Forward, BLACKHOLE);
    client.write_all(b"held").await.unwrap();
    bench.until(|now| now.forward.bytes_in == 4).await;
    // Lifted at once it is still for ever.
    bench.link.set(Direction::Forward, HALF_OPEN);
    bench.link.set(Direction::Forward, OPEN);
    client.write_all(b"lost").await.unwrap();
    assert_silent(&mut target).await;
    cross(&mut target, &mut client, b"the way back").await;
    let (mut second_client, mut second_target) = bench.pair().await;
    cross(&mut second_client, &mut second_target, b"new ones work").await;
    client.write_all(b"still lost").await.unwrap();
    assert_silent(&mut target).await;
    assert_eq!(bench.link.counters().forward.bytes_out, 13);
}

#[tokio::test]
async fn a_half_open_direction_never_pushes_back() {
    let bench = Bench::start(LinkSettings {
        buffer: MIN_BUFFER,
        ..LinkSettings::default()
    })
    .await;
    let (mut client, mut target) = bench.pair().await;
    bench.link.set(Direction::Backward, HALF_OPEN);
    // More than the kernel's buffers and the link's hold.
    soon(target.write_all(&vec![7; 64 << 20])).await.unwrap();
    assert_silent(&mut client).await;
    assert_eq!(bench.link.counters().backward.bytes_out, 0);
}

#[tokio::test]
async fn each_end_of_a_half_open_connection_gives_up_by_itself() {
    let bench = Bench::start(LinkSettings::default()).await;
    let (client, mut target) = bench.pair().await;
    bench.link.set(Direction::Forward, HALF_OPEN);
    drop(client);
    bench.until(|now| now.forward.connections == 0).await;
    // It is not told that the client is gone, not even by an answer to what it sends.
    target.write_all(b"are you there?").await.unwrap();
    assert_silent(&mut target).await;
    target.write_all(b"hello?").await.unwrap();
    assert_silent(&mut target).await;
    assert_eq!(bench.link.counters().open, 1);
    drop(target);
    bench.until(|now| now.open == 0).await;
}

#[tokio::test]
async fn a_connection_made_while_half_open_is_accepted_and_swallowed_for_ever() {
    let bench = Bench::start(LinkSettings {
        forward: HALF_OPEN,
        ..LinkSettings::default()
    })
    .await;
    let mut client = bench.connect().await;
    soon(client.write_all(&vec![7; 16 << 20])).await.unwrap();
    bench
        .until(|now| now.forward.bytes_in == 16 << 20 && now.refused == 1)
        .await;
    bench.link.set(Direction::Forward, OPEN);
    assert_silent(&mut client).await;
    let dialled = timeout(SILENCE, bench.target.accept()).await;
    assert!(dialled.is_err(), "the target was dialled");
    drop(client);
    bench.until(|now| now.open == 0).await;
    // The other way round the target hears everything and is never heard.
    bench.link.set(Direction::Backward, HALF_OPEN);
    let (mut client, mut target) = bench.pair().await;
    bench.link.set(Direction::Backward, OPEN);
    cross(&mut client, &mut target, b"heard").await;
    target.write_all(b"not heard").await.unwrap();
    assert_silent(&mut client).await;
}

#[tokio::test]
async fn a_reset_ends_half_open_connections_too() {
    let bench = Bench::start(LinkSettings::default()).await;
    let (mut client, mut target) = bench.pair().await;
    bench.link.set(Direction::Forward, HALF_OPEN);
    let mut undialled = bench.connect().await;
    bench.until(|now| now.refused == 1).await;
    bench.link.set(Direction::Forward, RESET);
    for stream in [&mut client, &mut target, &mut undialled] {
        assert_reset(stream).await;
    }
    bench.until(|now| now.open == 0).await;
}

#[tokio::test]
async fn a_lost_read_takes_its_connection_with_it() {
    let bench = Bench::start(LinkSettings::default()).await;
    let (mut client, mut target) = bench.pair().await;
    let lossy = DirectionSettings {
        loss: LOSS_MAX,
        ..OPEN
    };
    bench.link.set(Direction::Backward, lossy);
    cross(&mut client, &mut target, b"this way loses nothing").await;
    target.write_all(b"lost").await.unwrap();
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
    assert_eq!(bench.link.counters().backward.bytes_out, 0);
    bench.link.set(Direction::Backward, OPEN);
    let (mut client, mut target) = bench.pair().await;
    cross(&mut target, &mut client, b"again").await;
}

#[tokio::test]
async fn a_half_closed_connection_still_carries_the_answer() {
    let bench = Bench::start(delays(10, 10)).await;
    let (mut client, mut target) = bench.pair().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    soon(target.read_to_string(&mut question)).await.unwrap();
    assert_eq!(question, "question");
    target.write_all(b"answer").await.unwrap();
    drop(target);
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn a_reset_of_one_end_reaches_the_other_and_not_through_a_black_hole() {
    let bench = Bench::start(LinkSettings::default()).await;
    let (client, mut target) = bench.pair().await;
    bench.link.set(Direction::Forward, BLACKHOLE);
    client.set_zero_linger().unwrap();
    drop(client);
    assert_silent(&mut target).await;
    bench.link.set(Direction::Forward, OPEN);
    assert_reset(&mut target).await;
}

#[tokio::test]
async fn without_a_target_connections_close_at_once_and_work_when_it_is_up() {
    let reserved = TcpListener::bind(local()).await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let link = Link::start(local(), address, delays(50, 50)).await.unwrap();
    let mut early = TcpStream::connect(link.local_addr()).await.unwrap();
    let mut nothing = Vec::new();
    // Closed or reset, both say "nobody there".
    let ended = soon(early.read_to_end(&mut nothing)).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(link.counters().refused, 1);
    let target = TcpListener::bind(address).await.unwrap();
    let bench = Bench { link, target };
    let (mut client, mut target) = bench.pair().await;
    cross(&mut client, &mut target, b"up").await;
}

#[tokio::test]
async fn many_connections_do_not_wait_for_each_other() {
    const CLIENTS: usize = 200;
    let bench = Bench::start(delays(40, 40)).await;
    let echo = tokio::spawn(async move {
        let mut echoes = JoinSet::new();
        for _ in 0..CLIENTS {
            let (mut stream, _) = bench.target.accept().await.unwrap();
            echoes.spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
        }
        echoes.join_all().await;
    });
    let address = bench.link.local_addr();
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let sent = vec![number as u8; 1000 + number];
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, sent);
        });
    }
    soon(clients.join_all()).await;
    // One after the other they would need 200 round trips of 80 ms, 16 s.
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    soon(echo).await.unwrap();
    assert_eq!(bench.link.counters().accepted, CLIENTS as u64);
    bench.link.shutdown().await;
}

#[tokio::test]
async fn a_full_link_resets_the_next_connection() {
    let bench = Bench::start(LinkSettings {
        forward: BLACKHOLE,
        ..LinkSettings::default()
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        clients.push(bench.connect().await);
    }
    assert_reset(&mut bench.connect().await).await;
    assert_eq!(bench.link.counters().refused, 1);
    bench.link.shutdown().await;
}

#[tokio::test]
async fn shutdown_ends_every_task_and_frees_the_port() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let bench = Bench::start(delays(3_000_000, 0)).await;
    let (mut client, mut target) = bench.pair().await;
    // In the line for most of an hour, so the shutdown cuts a sleep short.
    client.write_all(b"late").await.unwrap();
    assert!(tasks() > before);
    let address = bench.link.local_addr();
    soon(bench.link.shutdown()).await;
    assert_eq!(tasks(), before);
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
    TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn a_dropped_link_ends_its_connections() {
    let bench = Bench::start(LinkSettings::default()).await;
    let (mut client, mut target) = bench.pair().await;
    drop(bench.link);
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
}

#[tokio::test]
async fn a_bad_buffer_and_a_port_in_use_are_errors() {
    let small = LinkSettings {
        buffer: MIN_BUFFER - 1,
        ..LinkSettings::default()
    };
    let error = Link::start(local(), local(), small).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let taken = TcpListener::bind(local()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = Link::start(address, local(), LinkSettings::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}
