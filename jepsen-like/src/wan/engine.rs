//! What becomes of each packet, and when: no sockets, no clock, no threads.
//!
//! A packet of a direction passes its cut, its chances, its bandwidth and its delay, in this order. What is to come
//! is a heap of events by time; whoever drives the engine brings packets in ([`Engine::admit`]) and takes out what
//! is due ([`Engine::due`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use hansa_linkproxy::Cut;

use super::packet::{Flow, Segment, addresses};
use super::wire::{DELAY_MAX, WireState};
use crate::random::Random;

/// Bytes that wait for the bandwidth of one direction, as in a small router: 64 KiB.
pub const QUEUE_MAX: usize = 64 << 10;

/// Bytes under way in the whole WAN: 128 MiB. What would be more is lost.
pub const IN_FLIGHT_MAX: usize = 128 << 20;

/// Connections that a half-open direction remembers; of more than these the packets are lost only while it lasts.
pub const BROKEN_FLOWS_MAX: usize = 1 << 16;

/// What the WAN counts since its start: packets, if nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WanCounters {
    /// Taken from a host.
    pub admitted: u64,
    /// Handed to a host, copies and resets too.
    pub delivered: u64,
    /// Lost in a black hole, a half-open direction or a reset.
    pub cut: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Lost because a queue or the whole WAN was full.
    pub overflowed: u64,
    /// Not for the WAN: another protocol than IPv4, or an address of nobody.
    pub foreign: u64,
    /// Not taken by the host that they were for.
    pub refused: u64,
    /// How much later than they should the delivered packets were handed out, all together. The machine was too busy
    /// if this is more than some hundred microseconds a packet.
    pub late: Duration,
    /// The same of the latest one.
    pub latest: Duration,
}

/// All directions between all hosts.
pub(super) struct Engine {
    hosts: usize,
    /// From host to host: `from * hosts + to`.
    links: Vec<Link>,
    by_address: BTreeMap<Ipv4Addr, usize>,
    events: BinaryHeap<Reverse<Event>>,
    /// Orders events of one moment as they were made.
    made: u64,
    /// Bytes in `events`.
    in_flight: usize,
    random: Random,
    pub(super) counters: WanCounters,
}

#[derive(Default)]
struct Link {
    state: WireState,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    /// When the bandwidth has carried the head of the queue: there is one event for it.
    next: Option<Instant>,
    /// Connections broken for good, with the sequence of the packet that would have opened them, if it was that one.
    broken: HashMap<Flow, Option<u32>>,
}

/// Ordered by its first two fields, which no two events share.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: Instant,
    made: u64,
    what: What,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A packet arrives at a host.
    Deliver(usize, Vec<u8>),
    /// The bandwidth of a link has carried a packet.
    Carried(usize),
}

impl Engine {
    /// Hosts with these addresses, and what each direction does.
    pub(super) fn new(
        addresses: &[Ipv4Addr],
        state: impl Fn(usize, usize) -> WireState,
        seed: u64,
    ) -> Engine {
        let hosts = addresses.len();
        let link = |index| Link {
            state: state(index / hosts, index % hosts),
            ..Link::default()
        };
        Engine {
            hosts,
            links: (0..hosts * hosts).map(link).collect(),
            by_address: addresses.iter().copied().zip(0..).collect(),
            events: BinaryHeap::new(),
            made: 0,
            in_flight: 0,
            random: Random::new(seed),
            counters: WanCounters::default(),
        }
    }

    /// What a direction does.
    pub(super) fn state(&self, from: usize, to: usize) -> WireState {
        self.links[from * self.hosts + to].state
    }

    /// Changes a direction. What is under way keeps its time of arrival; what waits for the bandwidth goes on at the
    /// new one.
    pub(super) fn set(&mut self, from: usize, to: usize, state: WireState, now: Instant) {
        let at = from * self.hosts + to;
        let link = &mut self.links[at];
        let is_new_rate = link.state.bandwidth != state.bandwidth;
        link.state = state;
        if is_new_rate {
            link.next = None;
            self.carry_next(at, now);
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.events.peek().map(|event| event.0.at)
    }

    /// Takes a packet that a host sends.
    pub(super) fn admit(&mut self, from: usize, packet: &[u8], now: Instant) {
        self.counters.admitted += 1;
        let to = addresses(packet).and_then(|(_, to)| self.by_address.get(&to).copied());
        let Some(to) = to else {
            self.counters.foreign += 1;
            return;
        };
        let at = from * self.hosts + to;
        if !self.passes(at, packet, now) {
            self.counters.cut += 1;
            return;
        }
        let WireState {
            loss, duplication, ..
        } = self.links[at].state;
        if loss > 0 && self.random.chance(loss) {
            self.counters.lost += 1;
            return;
        }
        let twice = duplication > 0 && self.random.chance(duplication);
        self.counters.duplicated += u64::from(twice);
        for _ in 0..=usize::from(twice) {
            self.enter(at, packet.to_vec(), now);
        }
    }

    /// What is due: to which host, and the packet.
    pub(super) fn due(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        while self.next()? <= now {
            let Reverse(event) = self.events.pop()?;
            match event.what {
                What::Deliver(to, packet) => {
                    self.in_flight -= packet.len();
                    let late = now.saturating_duration_since(event.at);
                    self.counters.delivered += 1;
                    self.counters.late += late;
                    self.counters.latest = self.counters.latest.max(late);
                    return Some((to, packet));
                }
                What::Carried(at) => self.carried(at, event.at),
            }
        }
        None
    }

    /// Whether the cut of a link lets a packet through. A reset answers to both ends.
    fn passes(&mut self, at: usize, packet: &[u8], now: Instant) -> bool {
        let segment = Segment::of(packet);
        let link = &mut self.links[at];
        match (link.state.cut, segment) {
            (Cut::Open, Some(segment)) => !link.is_broken(&segment),
            (Cut::Open, None) => true,
            (Cut::Blackhole, _) | (_, None) => false,
            (Cut::HalfOpen, Some(segment)) => {
                link.break_flow(&segment);
                false
            }
            // An end that resets by itself does what is wanted.
            (Cut::Reset, Some(segment)) if segment.resets() => true,
            (Cut::Reset, Some(segment)) => {
                let (from, to) = (at / self.hosts, at % self.hosts);
                self.deliver(from, segment.reset_for_sender(), now);
                if let Some(reset) = segment.reset_for_receiver() {
                    self.deliver(to, reset, now);
                }
                false
            }
        }
    }

    /// Brings a packet before the bandwidth of a link.
    fn enter(&mut self, at: usize, packet: Vec<u8>, now: Instant) {
        let link = &mut self.links[at];
        if link.state.bandwidth.is_none() {
            return self.depart(at, packet, now);
        }
        if link.queued + packet.len() > QUEUE_MAX {
            self.counters.overflowed += 1;
            return;
        }
        link.queued += packet.len();
        link.queue.push_back(packet);
        if link.next.is_none() {
            self.carry_next(at, now);
        }
    }

    /// The bandwidth begins with the head of the queue; with no limit the whole queue is through at once.
    fn carry_next(&mut self, at: usize, now: Instant) {
        let link = &mut self.links[at];
        let Some(bandwidth) = link.state.bandwidth else {
            link.queued = 0;
            for packet in std::mem::take(&mut link.queue) {
                self.depart(at, packet, now);
            }
            return;
        };
        let Some(head) = link.queue.front() else {
            return;
        };
        let nanoseconds = head.len() as u64 * 1_000_000_000 / bandwidth;
        let then = now + Duration::from_nanos(nanoseconds);
        link.next = Some(then);
        self.schedule(then, What::Carried(at));
    }

    /// The head of a queue has been carried, if the bandwidth is still that for which the event was made.
    fn carried(&mut self, at: usize, then: Instant) {
        let link = &mut self.links[at];
        if link.next != Some(then) {
            return;
        }
        link.next = None;
        if let Some(packet) = link.queue.pop_front() {
            link.queued -= packet.len();
            // From the moment it was due, not from now: lateness does not add up.
            self.depart(at, packet, then);
        }
        self.carry_next(at, then);
    }

    /// Sends a packet on its way, which takes the delay.
    fn depart(&mut self, at: usize, packet: Vec<u8>, now: Instant) {
        let WireState { delay, jitter, .. } = self.links[at].state;
        let jitter = match jitter.min(DELAY_MAX).as_nanos() as u64 {
            0 => 0,
            most => self.random.below(most + 1),
        };
        let then = now + delay.min(DELAY_MAX) + Duration::from_nanos(jitter);
        self.deliver(at % self.hosts, packet, then);
    }

    fn deliver(&mut self, to: usize, packet: Vec<u8>, then: Instant) {
        if self.in_flight + packet.len() > IN_FLIGHT_MAX {
            self.counters.overflowed += 1;
            return;
        }
        self.in_flight += packet.len();
        self.schedule(then, What::Deliver(to, packet));
    }

    fn schedule(&mut self, at: Instant, what: What) {
        self.made += 1;
        let made = self.made;
        self.events.push(Reverse(Event { at, made, what }));
    }
}

impl Link {
    /// Remembers that a connection lost a packet for good.
    fn break_flow(&mut self, segment: &Segment) {
        if self.broken.len() < BROKEN_FLOWS_MAX {
            let opened_by = segment.opens().then_some(segment.sequence);
            self.broken.entry(segment.flow).or_insert(opened_by);
        }
    }

    /// Whether a packet belongs to a connection that is broken for good. Ports are used again: what opens another
    /// connection than the broken one ends that.
    fn is_broken(&mut self, segment: &Segment) -> bool {
        let Some(opened_by) = self.broken.get(&segment.flow) else {
            return false;
        };
        let is_another = segment.opens() && *opened_by != Some(segment.sequence);
        if is_another {
            self.broken.remove(&segment.flow);
        }
        !is_another
    }
}

#[cfg(test)]
mod tests;
