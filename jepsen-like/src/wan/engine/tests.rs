use super::super::packet::tests::{ACK_FLAG, SYN_FLAG, tcp};
use std::num::NonZeroU64;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Three hosts, every direction with this state, and the moment at which everything begins.
struct Bench {
    engine: Engine,
    start: Instant,
}

/// A packet that arrived: when after the start, milliseconds; where; its sequence; whether it is a reset.
type Arrival = (f64, usize, u32, bool);

impl Bench {
    fn new(state: WireState) -> Bench {
        let addresses = [1, 2, 3].map(|host| Ipv4Addr::new(10, 0, 0, host));
        Bench {
            engine: Engine::new(&addresses, |_, _| state, 7),
            start: Instant::now(),
        }
    }

    /// Sends a TCP packet of a thousand bytes in all.
    fn send(&mut self, from: usize, to: usize, sequence: u32, at: Duration) {
        let packet = tcp(flow(from, to), sequence, ACK_FLAG, 960);
        self.engine.admit(from, &packet, self.start + at);
    }

    /// Everything that arrives, driven from event to event.
    fn arrivals(&mut self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        while let Some(next) = self.engine.next() {
            while let Some((to, packet)) = self.engine.due(next) {
                let segment = Segment::of(&packet).unwrap();
                let at = (next - self.start).as_secs_f64() * 1000.0;
                arrivals.push((at, to, segment.sequence, segment.resets()));
            }
        }
        arrivals
    }

    fn set(&mut self, from: usize, to: usize, state: WireState, at: Duration) {
        self.engine.set(from, to, state, self.start + at);
    }
}

fn flow(from: usize, to: usize) -> Flow {
    let address = |host: usize| Ipv4Addr::new(10, 0, 0, host as u8 + 1);
    Flow {
        source: std::net::SocketAddrV4::new(address(from), 1000),
        destination: std::net::SocketAddrV4::new(address(to), 80),
    }
}

fn cut(cut: Cut) -> WireState {
    WireState {
        cut,
        ..WireState::default()
    }
}

#[test]
fn each_direction_has_its_own_delay_and_keeps_the_order() {
    let mut bench = Bench::new(WireState::delayed(40 * MS));
    bench.set(1, 0, WireState::delayed(60 * MS), Duration::ZERO);
    for sequence in 0..3 {
        bench.send(0, 1, sequence, Duration::ZERO);
    }
    bench.send(1, 0, 9, MS);
    let expected = [(40.0, 1, 0), (40.0, 1, 1), (40.0, 1, 2), (61.0, 0, 9)];
    assert_eq!(
        bench.arrivals(),
        expected.map(|(at, to, n)| (at, to, n, false))
    );
    assert_eq!(bench.engine.in_flight, 0);
}

#[test]
fn jitter_lets_packets_overtake_each_other_within_its_bounds() {
    let mut bench = Bench::new(WireState {
        jitter: 10 * MS,
        ..WireState::delayed(5 * MS)
    });
    for sequence in 0..1000 {
        bench.send(0, 1, sequence, Duration::ZERO);
    }
    let arrivals = bench.arrivals();
    assert_eq!(arrivals.len(), 1000);
    assert!(arrivals.iter().all(|(at, ..)| (5.0..=15.0).contains(at)));
    let middle = arrivals.iter().filter(|(at, ..)| *at < 10.0).count();
    assert!((400..600).contains(&middle), "{middle}");
    assert!(!arrivals.is_sorted_by_key(|(_, _, sequence, _)| *sequence));
}

#[test]
fn packets_are_lost_and_doubled_as_often_as_told() {
    let sent = |state: WireState| {
        let mut bench = Bench::new(state);
        for sequence in 0..10_000 {
            bench.send(0, 1, sequence, Duration::ZERO);
        }
        bench.arrivals().len()
    };
    let lossy = |loss| WireState {
        loss,
        ..WireState::default()
    };
    assert_eq!([sent(lossy(0)), sent(lossy(1000))], [10_000, 0]);
    let arrived = sent(lossy(300));
    assert!((6_800..7_200).contains(&arrived), "{arrived}");
    let doubled = |duplication| WireState {
        duplication,
        ..WireState::default()
    };
    assert_eq!(sent(doubled(1000)), 20_000);
    let arrived = sent(doubled(300));
    assert!((12_800..13_200).contains(&arrived), "{arrived}");
}

#[test]
fn a_bandwidth_is_exact_and_what_finds_its_queue_full_is_lost() {
    let mut bench = Bench::new(WireState {
        bandwidth: NonZeroU64::new(10_000),
        ..WireState::delayed(5 * MS)
    });
    for sequence in 0..100 {
        bench.send(0, 1, sequence, Duration::ZERO);
    }
    // Another direction has a bandwidth of its own.
    bench.send(0, 2, 1, Duration::ZERO);
    let arrivals = bench.arrivals();
    assert_eq!(arrivals[1], (105.0, 2, 1, false));
    // 65 packets of a thousand bytes are in 64 KiB.
    assert_eq!(arrivals.len(), 66);
    assert_eq!(arrivals[0], (105.0, 1, 0, false));
    assert_eq!(arrivals[65], (6505.0, 1, 64, false));
    assert_eq!(bench.engine.counters.overflowed, 35);
}

#[test]
fn what_waits_goes_on_at_the_new_bandwidth() {
    let limited = |bytes| WireState {
        bandwidth: NonZeroU64::new(bytes),
        ..WireState::default()
    };
    let mut bench = Bench::new(limited(1));
    for sequence in 0..3 {
        bench.send(0, 1, sequence, Duration::ZERO);
    }
    bench.set(0, 1, limited(100_000), 500 * MS);
    // The first is on its way, 10 ms for each.
    while let Some((_, packet)) = bench.engine.due(bench.start + 510 * MS) {
        assert_eq!(Segment::of(&packet).unwrap().sequence, 0);
    }
    bench.set(0, 1, WireState::default(), 515 * MS);
    let rest: Vec<_> = bench.arrivals();
    assert_eq!(rest, [(515.0, 1, 1, false), (515.0, 1, 2, false)]);
    assert_eq!(bench.engine.links[1].queued, 0);
    bench.send(0, 1, 3, 600 * MS);
    assert_eq!(bench.arrivals(), [(600.0, 1, 3, false)]);
}

#[test]
fn a_lower_bandwidth_forgets_when_the_higher_one_would_have_been_done() {
    let limited = |bytes| WireState {
        bandwidth: NonZeroU64::new(bytes),
        ..WireState::default()
    };
    let mut bench = Bench::new(limited(1000));
    bench.send(0, 1, 1, Duration::ZERO);
    bench.set(0, 1, limited(100), 500 * MS);
    // Not after a second, but ten seconds after the change.
    assert_eq!(bench.arrivals(), [(10_500.0, 1, 1, false)]);
}

#[test]
fn a_black_hole_takes_one_direction_until_it_is_healed() {
    let mut bench = Bench::new(WireState::default());
    bench.set(0, 1, cut(Cut::Blackhole), Duration::ZERO);
    bench.send(0, 1, 1, MS);
    bench.send(1, 0, 2, MS);
    assert_eq!(bench.arrivals(), [(1.0, 0, 2, false)]);
    bench.set(0, 1, WireState::default(), 2 * MS);
    bench.send(0, 1, 1, 3 * MS);
    assert_eq!(bench.arrivals(), [(3.0, 1, 1, false)]);
    assert_eq!(bench.engine.counters.cut, 1);
}

#[test]
fn a_reset_answers_to_both_ends_and_lets_resets_through() {
    let mut bench = Bench::new(WireState::delayed(40 * MS));
    bench.set(0, 1, cut(Cut::Reset), Duration::ZERO);
    bench.send(0, 1, 500, MS);
    // The test's packets acknowledge 900.
    assert_eq!(bench.arrivals(), [(1.0, 0, 900, true), (1.0, 1, 500, true)]);
    let opening = tcp(flow(0, 1), 77, SYN_FLAG, 0);
    bench.engine.admit(0, &opening, bench.start + 2 * MS);
    assert_eq!(bench.arrivals(), [(2.0, 0, 0, true)]);
    let own = Segment::of(&opening).unwrap().reset_for_sender();
    bench.set(1, 0, cut(Cut::Reset), 3 * MS);
    bench.engine.admit(1, &own, bench.start + 4 * MS);
    assert_eq!(bench.arrivals(), [(4.0, 0, 0, true)]);
}

#[test]
fn a_half_open_direction_breaks_what_it_took_a_packet_of_for_ever() {
    let mut bench = Bench::new(WireState::default());
    let other = Flow {
        source: "10.0.0.1:2000".parse().unwrap(),
        ..flow(0, 1)
    };
    bench.set(0, 1, cut(Cut::HalfOpen), Duration::ZERO);
    bench.send(0, 1, 1, MS);
    bench
        .engine
        .admit(0, &tcp(other, 50, SYN_FLAG, 0), bench.start + MS);
    bench.set(0, 1, WireState::default(), 2 * MS);
    bench.send(0, 1, 2, 3 * MS);
    // The same opening again is of the connection that is broken.
    bench
        .engine
        .admit(0, &tcp(other, 50, SYN_FLAG, 0), bench.start + 3 * MS);
    assert_eq!(bench.arrivals(), []);
    // The way back, another pair, and a new connection on old ports are not broken.
    bench.send(1, 0, 3, 4 * MS);
    bench.send(0, 2, 4, 5 * MS);
    bench
        .engine
        .admit(0, &tcp(other, 51, SYN_FLAG, 0), bench.start + 6 * MS);
    bench
        .engine
        .admit(0, &tcp(other, 52, ACK_FLAG, 9), bench.start + 7 * MS);
    let arrived = [(4.0, 0, 3), (5.0, 2, 4), (6.0, 1, 51), (7.0, 1, 52)];
    assert_eq!(
        bench.arrivals(),
        arrived.map(|(at, to, n)| (at, to, n, false))
    );
}

#[test]
fn it_counts_how_late_it_is_asked() {
    let mut bench = Bench::new(WireState::delayed(5 * MS));
    bench.send(0, 1, 1, Duration::ZERO);
    bench.send(0, 1, 2, 2 * MS);
    assert!(bench.engine.due(bench.start + 4 * MS).is_none());
    for _ in 0..2 {
        assert!(bench.engine.due(bench.start + 8 * MS).is_some());
    }
    let WanCounters { late, latest, .. } = bench.engine.counters;
    assert_eq!((late, latest), (4 * MS, 3 * MS));
}

#[test]
fn what_is_for_nobody_is_counted_and_dropped() {
    let mut bench = Bench::new(WireState::default());
    let start = bench.start;
    bench.engine.admit(0, &[0x60; 48], start);
    bench
        .engine
        .admit(0, &tcp(flow(0, 7), 1, ACK_FLAG, 0), start);
    bench.engine.admit(0, &[], start);
    assert_eq!(bench.arrivals(), []);
    assert_eq!(bench.engine.counters.foreign, 3);
}

#[test]
fn the_whole_wan_holds_a_bounded_number_of_bytes() {
    let mut bench = Bench::new(WireState::delayed(DELAY_MAX * 2));
    let packet = tcp(flow(0, 1), 1, ACK_FLAG, 59_960);
    for _ in 0..IN_FLIGHT_MAX / 60_000 + 10 {
        bench.engine.admit(0, &packet, bench.start);
    }
    assert!(bench.engine.in_flight <= IN_FLIGHT_MAX);
    assert_eq!(bench.engine.counters.overflowed, 10);
    // Longer delays than the longest count as that.
    assert_eq!(bench.engine.next(), Some(bench.start + DELAY_MAX));
}
