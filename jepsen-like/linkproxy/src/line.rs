//! The delay line: one direction of one connection.
//!
//! `fill` reads and stamps every read with the moment it may leave; `drain`
//! waits for that moment and for the direction to be open, and writes. Between
//! them lies a queue bounded in bytes. End of stream and reset are items of the
//! same queue, so they are as late as the bytes before them and stay behind a
//! black hole like these.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::counters::{DirectionCells, Gauge, add};
use crate::settings::{Cut, Direction, DirectionSettings, MAX_DELAY, State};
use crate::timer::Timer;

/// Largest read. Small, because every idle direction keeps one such buffer.
const READ_SIZE: usize = 16 << 10;

/// What a queued read costs beside its bytes: queue node, vector, permit.
const ITEM_OVERHEAD: usize = 64;

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The sender half-closed and the receiver has been told.
    Finished,
    /// The sender reset its connection and the delay has passed.
    Reset,
    /// The receiver no longer takes bytes. What it says itself comes through
    /// the other direction.
    WriteFailed,
}

/// One direction of one connection.
pub(crate) struct Line<'a> {
    pub(crate) direction: Direction,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) timer: &'a Timer,
    pub(crate) cells: &'a DirectionCells,
    /// Makes the jitter of two connections differ.
    pub(crate) seed: u64,
}

struct Item {
    due: Instant,
    load: Load,
}

enum Load {
    /// Bytes, and their share of the buffer, given back when they are written.
    Bytes(Vec<u8>, OwnedSemaphorePermit),
    Fin,
    Reset,
}

impl Line<'_> {
    /// Carries bytes until the direction has ended. Dropping the future loses
    /// what is in flight.
    pub(crate) async fn carry(&self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> End {
        let _connection = Gauge::enter(&self.cells.connections);
        let (queue, items) = mpsc::unbounded_channel();
        let mut drain = std::pin::pin!(self.drain(items, to));
        tokio::select! {
            end = &mut drain => return end,
            () = self.fill(from, queue) => {}
        }
        drain.await
    }

    /// Reads until end of stream or error, never more than the buffer ahead of
    /// `drain`.
    async fn fill(&self, mut from: ReadHalf<'_>, queue: mpsc::UnboundedSender<Item>) {
        let room = Arc::new(Semaphore::new(self.state.borrow().settings.buffer));
        let mut jitter = Jitter(self.seed);
        let mut scratch = vec![0; READ_SIZE];
        loop {
            let read = from.read(&mut scratch).await;
            // Stamped before waiting for room: the wait is part of the journey.
            let settings = self.state.borrow().settings.direction(self.direction);
            // An item that is due before the one ahead of it leaves right behind it.
            let due = Instant::now() + jitter.delay(settings);
            let load = match read {
                Ok(0) => Load::Fin,
                Err(_) => Load::Reset,
                Ok(length) => {
                    add(&self.cells.bytes_in, length);
                    // At most READ_SIZE + ITEM_OVERHEAD, which fits any buffer.
                    let cost = (length + ITEM_OVERHEAD) as u32;
                    let Ok(share) = Arc::clone(&room).acquire_many_owned(cost).await else {
                        return; // unreachable: nobody closes this semaphore
                    };
                    Load::Bytes(scratch[..length].to_vec(), share)
                }
            };
            let is_last = !matches!(load, Load::Bytes(..));
            if queue.send(Item { due, load }).is_err() || is_last {
                return;
            }
        }
    }

    /// Writes each item when it is due and the direction is open.
    async fn drain(&self, mut items: mpsc::UnboundedReceiver<Item>, mut to: WriteHalf<'_>) -> End {
        let mut state = self.state.clone();
        while let Some(item) = items.recv().await {
            self.timer.sleep_until(item.due).await;
            self.until_open(&mut state).await;
            match item.load {
                Load::Bytes(bytes, _share) => {
                    if self.write(&bytes, &mut to, &mut state).await.is_err() {
                        return End::WriteFailed;
                    }
                }
                Load::Fin => {
                    // A receiver that is gone has nothing left to be told.
                    let _ = to.shutdown().await;
                    return End::Finished;
                }
                Load::Reset => return End::Reset,
            }
        }
        // `fill` ends with Fin or Reset, so the queue never just runs dry.
        End::Reset
    }

    /// Writes all bytes; a black hole stops it even in the middle.
    async fn write(
        &self,
        mut bytes: &[u8],
        to: &mut WriteHalf<'_>,
        state: &mut watch::Receiver<State>,
    ) -> std::io::Result<()> {
        while !bytes.is_empty() {
            self.until_open(state).await;
            tokio::select! {
                biased;
                Ok(()) = state.changed() => {}
                written = to.write(bytes) => {
                    let written = written?;
                    if written == 0 {
                        return Err(std::io::ErrorKind::WriteZero.into());
                    }
                    add(&self.cells.bytes_out, written);
                    bytes = &bytes[written..];
                }
            }
        }
        Ok(())
    }

    /// Waits until the direction carries bytes. When the link ends meanwhile it
    /// returns too: the connection is being dropped then.
    async fn until_open(&self, state: &mut watch::Receiver<State>) {
        let is_open = |state: &State| state.settings.direction(self.direction).cut == Cut::Open;
        let _ = state.wait_for(is_open).await;
    }
}

/// Draws delays: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom
/// number generators", OOPSLA 2014), so that a run can be repeated.
struct Jitter(u64);

impl Jitter {
    fn delay(&mut self, settings: DirectionSettings) -> Duration {
        let delay = settings.delay.min(MAX_DELAY);
        if settings.jitter.is_zero() {
            return delay;
        }
        // MAX_DELAY in nanoseconds fits 64 bits with room to spare.
        let most = settings.jitter.min(MAX_DELAY).as_nanos() as u64;
        delay + Duration::from_nanos(self.next() % (most + 1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_bounds_and_spreads() {
        let settings = DirectionSettings {
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(4),
            cut: Cut::Open,
        };
        let mut jitter = Jitter(7);
        let drawn: Vec<_> = (0..1000).map(|_| jitter.delay(settings)).collect();
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(14));
        assert!(drawn.iter().all(|delay| (least..=most).contains(delay)));
        let middle = Duration::from_millis(12);
        let late = drawn.iter().filter(|delay| **delay > middle).count();
        assert!(
            (400..600).contains(&late),
            "{late} of 1000 in the upper half"
        );
    }

    #[test]
    fn overlong_settings_are_clamped() {
        let settings = DirectionSettings {
            delay: Duration::MAX,
            jitter: Duration::MAX,
            cut: Cut::Open,
        };
        assert!(Jitter(1).delay(settings) <= MAX_DELAY * 2);
    }
}
