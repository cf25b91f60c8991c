//! What a direction between two nodes does, in the terms of the two things that can do it: a link proxy and the WAN.

use std::num::NonZeroU64;
use std::time::Duration;

use hansa_linkproxy::{Cut, DirectionSettings};

use crate::nemesis::{Refused, Wire};

/// [`Wire`] counts chances in thousandths.
const PERMILLE: u64 = 1000;

/// What the WAN does with the packets of one direction. The default is a direction without delay or fault.
///
/// [`Cut`] in terms of packets: in a black hole they are dropped, and TCP sends them again after the heal. In a
/// reset every TCP packet is answered with a reset to both ends, so that a connection ends when it is next used, and
/// a new one is refused. A half-open direction drops, and goes on to drop the packets of every connection that it
/// dropped one of, healed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireState {
    /// Whether packets are carried.
    pub cut: Cut,
    /// One-way delay, at most [`DELAY_MAX`].
    pub delay: Duration,
    /// Upper bound of an extra delay, drawn uniformly and for each packet by itself: packets overtake each other.
    /// At most [`DELAY_MAX`].
    pub jitter: Duration,
    /// Chance of a packet to be lost, in thousandths.
    pub loss: u64,
    /// Chance of a packet to arrive twice, in thousandths; each copy has a delay of its own.
    pub duplication: u64,
    /// Bytes per second, with the headers of IP; `None` for no limit. Packets wait in a queue of [`QUEUE_MAX`]
    /// bytes; those that find it full are lost.
    ///
    /// [`QUEUE_MAX`]: super::QUEUE_MAX
    pub bandwidth: Option<NonZeroU64>,
}

/// Longest delay and longest jitter of the WAN: longer ones count as this one.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

impl WireState {
    /// A direction without faults.
    #[must_use]
    pub fn delayed(delay: Duration) -> WireState {
        WireState {
            delay,
            ..WireState::default()
        }
    }
}

/// What the WAN has to do for a wire, over a path that takes `base_delay` without faults. It can do all of them.
#[must_use]
pub fn state_for(wire: Wire, base_delay: Duration) -> WireState {
    let mut state = WireState::delayed(base_delay);
    match wire {
        Wire::Open => {}
        Wire::Blackhole | Wire::Bandwidth(0) => state.cut = Cut::Blackhole,
        Wire::Reset => state.cut = Cut::Reset,
        Wire::HalfOpen => state.cut = Cut::HalfOpen,
        Wire::Delay(ms) => state.delay += Duration::from_millis(ms),
        Wire::Jitter(ms) => state.jitter = Duration::from_millis(ms),
        Wire::Loss(permille) => state.loss = permille,
        Wire::Duplication(permille) => state.duplication = permille,
        Wire::Bandwidth(bytes) => state.bandwidth = NonZeroU64::new(bytes),
    }
    state
}

/// What a link proxy has to do for a wire, over a path that takes `base_delay` without faults.
///
/// A proxy carries streams. What it loses, it loses with the connection, and a connection of which every read were
/// lost with the full chance of [`Wire::Loss`] would not outlive its handshake: the chance of a read is a tenth of
/// it, rounded up. Loss of everything is a black hole.
///
/// # Errors
/// [`Refused::NotHere`] for [`Wire::Duplication`].
pub fn settings_for(wire: Wire, base_delay: Duration) -> Result<DirectionSettings, Refused> {
    let mut settings = DirectionSettings::delayed(base_delay);
    match wire {
        Wire::Open => {}
        Wire::Blackhole | Wire::Bandwidth(0) | Wire::Loss(PERMILLE..) => {
            settings.cut = Cut::Blackhole;
        }
        Wire::Reset => settings.cut = Cut::Reset,
        Wire::HalfOpen => settings.cut = Cut::HalfOpen,
        Wire::Delay(ms) => settings.delay += Duration::from_millis(ms),
        Wire::Jitter(ms) => settings.jitter = Duration::from_millis(ms),
        // Less than a hundred.
        Wire::Loss(permille) => settings.loss = permille.div_ceil(10) as u16,
        Wire::Bandwidth(bytes) => settings.bandwidth = NonZeroU64::new(bytes),
        Wire::Duplication(_) => {
            return Err(Refused::NotHere(
                "a proxied connection has no packets that could arrive twice; duplication needs the WAN of network \
                 namespaces (root, /dev/net/tun, iproute2)"
                    .to_owned(),
            ));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(40);

    const ALL: [Wire; 9] = [
        Wire::Open,
        Wire::Blackhole,
        Wire::Reset,
        Wire::HalfOpen,
        Wire::Delay(100),
        Wire::Jitter(50),
        Wire::Loss(15),
        Wire::Duplication(7),
        Wire::Bandwidth(2048),
    ];

    #[test]
    fn every_wire_is_something_else_and_keeps_the_delay_of_the_path() {
        for (at, wire) in ALL.into_iter().enumerate() {
            let state = state_for(wire, BASE);
            assert!(state.delay >= BASE, "{wire:?}");
            for other in &ALL[..at] {
                assert_ne!(state, state_for(*other, BASE), "{wire:?}, {other:?}");
            }
            let Ok(settings) = settings_for(wire, BASE) else {
                assert_eq!(wire, Wire::Duplication(7));
                continue;
            };
            assert!(settings.delay >= BASE, "{wire:?}");
            assert_eq!(settings.cut, state.cut, "{wire:?}");
            assert_eq!(settings.bandwidth, state.bandwidth, "{wire:?}");
            for other in &ALL[..at] {
                assert_ne!(Ok(settings), settings_for(*other, BASE), "{wire:?}");
            }
        }
    }

    #[test]
    fn delays_add_up_and_chances_are_of_reads_or_of_packets() {
        let late = Duration::from_millis(140);
        assert_eq!(state_for(Wire::Delay(100), BASE).delay, late);
        assert_eq!(settings_for(Wire::Delay(100), BASE).unwrap().delay, late);
        assert_eq!(state_for(Wire::Loss(15), BASE).loss, 15);
        let loss = |permille| settings_for(Wire::Loss(permille), BASE).unwrap().loss;
        assert_eq!([loss(0), loss(1), loss(15), loss(999)], [0, 1, 2, 100]);
    }

    #[test]
    fn a_wire_that_carries_nothing_is_a_black_hole() {
        let cut = |wire| settings_for(wire, BASE).unwrap().cut;
        assert_eq!(cut(Wire::Bandwidth(0)), Cut::Blackhole);
        assert_eq!(cut(Wire::Loss(1000)), Cut::Blackhole);
        assert_eq!(state_for(Wire::Bandwidth(0), BASE).cut, Cut::Blackhole);
    }
}
