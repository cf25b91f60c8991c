//! What can be set on a link.

use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

/// Default of [`LinkSettings::buffer`]: 4 MiB.
pub const DEFAULT_BUFFER: usize = 4 << 20;

/// Smallest accepted [`LinkSettings::buffer`]: 128 KiB, one largest read and
/// some room.
pub const MIN_BUFFER: usize = 128 << 10;

/// Longest delay and longest jitter: longer ones count as this one.
pub const MAX_DELAY: Duration = Duration::from_secs(3600);

/// [`DirectionSettings::loss`] counts in thousandths: at this value, and above it, every read is lost.
pub const LOSS_MAX: u16 = 1000;

/// One of the two ways through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client that connected to the target.
    Forward,
    /// From the target to the client that connected.
    Backward,
}

/// Whether a direction carries bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Bytes are carried.
    #[default]
    Open,
    /// Nothing comes out: no byte, no half-close, no reset. Connections stay
    /// up, bytes are still accepted and held up to the buffer bound, then the
    /// sender feels backpressure. After the heal the held bytes come out in
    /// order, none is lost. While `Forward` is a black hole, new connections
    /// wait and the target is not dialled.
    Blackhole,
    /// Existing connections are reset at both ends at once, bytes in flight
    /// are lost, and new connections are reset as soon as they are accepted.
    /// One direction in this mode is enough: TCP cannot reset half a
    /// connection.
    Reset,
    /// The other end is gone without a word. What is read of existing
    /// connections is thrown away, what they held too, half-closes and resets
    /// with it, and that stays so after the heal, until both ends have closed
    /// the connection by themselves: a stream with a hole in it can not go on.
    /// The other direction is not affected. New connections are accepted and
    /// are the same for ever; while `Forward` is half-open, the target is not
    /// dialled for them.
    HalfOpen,
}

/// Settings of one direction. The default is an open direction without delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionSettings {
    /// One-way delay, at most [`MAX_DELAY`]. A change applies to bytes read
    /// from then on; they never overtake bytes read before.
    pub delay: Duration,
    /// Upper bound of an extra delay per read, drawn uniformly from
    /// `0..=jitter`, at most [`MAX_DELAY`]. Order is kept, so a late read also
    /// holds up the ones behind it.
    pub jitter: Duration,
    /// Whether bytes are carried.
    pub cut: Cut,
    /// Most bytes per second that come out, all connections of the link
    /// together; `None` for no limit. At most 20 ms' worth of them come out at
    /// once. The limit stands behind the delay: bytes that wait for it count
    /// for [`LinkSettings::buffer`].
    pub bandwidth: Option<NonZeroU64>,
    /// Chance of every read to be lost, in thousandths ([`LOSS_MAX`]). A proxy
    /// of streams can not leave bytes out, so the connection is lost with them:
    /// it is reset at both ends when the read would have come out.
    pub loss: u16,
}

impl DirectionSettings {
    /// An open direction with this one-way delay and no jitter.
    pub fn delayed(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }
}

/// Settings of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Client to target.
    pub forward: DirectionSettings,
    /// Target to client.
    pub backward: DirectionSettings,
    /// Bytes that may be inside the proxy, per direction and connection. Each
    /// read also counts 64 bytes of bookkeeping, so that many tiny reads are
    /// bounded too. At least [`MIN_BUFFER`]; fixed for the life of the link.
    /// Throughput of a connection is at most `buffer / delay`.
    pub buffer: usize,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self::symmetric(DirectionSettings::default())
    }
}

impl LinkSettings {
    /// The same settings in both directions, with the default buffer.
    pub fn symmetric(both: DirectionSettings) -> Self {
        Self {
            forward: both,
            backward: both,
            buffer: DEFAULT_BUFFER,
        }
    }

    /// The settings of one direction.
    pub fn direction(&self, direction: Direction) -> DirectionSettings {
        match direction {
            Direction::Forward => self.forward,
            Direction::Backward => self.backward,
        }
    }

    /// The settings of one direction, to change them.
    pub fn direction_mut(&mut self, direction: Direction) -> &mut DirectionSettings {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Backward => &mut self.backward,
        }
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.forward.cut == Cut::Reset || self.backward.cut == Cut::Reset
    }

    pub(crate) fn check(&self) -> io::Result<()> {
        // The upper bound is what a semaphore of 32-bit requests can count.
        if self.buffer < MIN_BUFFER || u32::try_from(self.buffer).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "link buffer of {} bytes: must be at least {MIN_BUFFER} and below 4 GiB",
                    self.buffer
                ),
            ));
        }
        Ok(())
    }
}

/// What the tasks of a link see of it. The link owns the sender: when that is
/// gone, the link has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) settings: LinkSettings,
    /// How often a direction was set to [`Cut::Reset`]: a reset that is lifted
    /// at once still reaches every connection.
    pub(crate) resets: u64,
    /// The same for [`Cut::HalfOpen`], for each direction.
    breaks: [u64; 2],
}

/// What a link counted when a connection was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Born {
    pub(crate) resets: u64,
    breaks: [u64; 2],
}

impl State {
    pub(crate) fn new(settings: LinkSettings) -> Self {
        Self {
            settings,
            resets: 0,
            breaks: [0; 2],
        }
    }

    pub(crate) fn set(&mut self, direction: Direction, settings: DirectionSettings) {
        *self.settings.direction_mut(direction) = settings;
        match settings.cut {
            Cut::Reset => self.resets += 1,
            Cut::HalfOpen => self.breaks[direction as usize] += 1,
            Cut::Open | Cut::Blackhole => {}
        }
    }

    /// What a connection remembers that is accepted now.
    pub(crate) fn born(&self) -> Born {
        let broken_at_birth = |direction| {
            let cut = self.settings.direction(direction).cut;
            u64::from(cut == Cut::HalfOpen)
        };
        let [forward, backward] = self.breaks;
        Born {
            resets: self.resets,
            // Another count than the link's, now and later.
            breaks: [
                forward.wrapping_sub(broken_at_birth(Direction::Forward)),
                backward.wrapping_sub(broken_at_birth(Direction::Backward)),
            ],
        }
    }

    /// Whether a direction of a connection is broken for good.
    pub(crate) fn is_broken(&self, direction: Direction, born: &Born) -> bool {
        self.breaks[direction as usize] != born.breaks[direction as usize]
    }
}
