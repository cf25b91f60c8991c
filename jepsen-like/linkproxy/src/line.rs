//! The delay line: one direction of one connection.
//!
//! `fill` reads and stamps every read with the moment it may leave; `drain`
//! waits for that moment and for the direction to be open, and writes. Between
//! them lies a queue bounded in bytes. End of stream and reset are items of the
//! same queue, so they are as late as the bytes before them and stay behind a
//! black hole like these. So does the loss of a connection. A direction that is
//! broken for good ([`Cut::HalfOpen`]) has no queue any more: what its sender
//! says is read and thrown away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::bucket::{Bucket, piece};
use crate::counters::{DirectionCells, Gauge, add};
use crate::settings::{Born, Cut, Direction, DirectionSettings, LOSS_MAX, MAX_DELAY, State};
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
    /// The sender reset its connection, or a read was lost and the connection
    /// with it, and the delay has passed.
    Reset,
    /// The receiver no longer takes bytes. What it says itself comes through
    /// the other direction.
    WriteFailed,
    /// The direction is broken for good and the sender has closed its end. The
    /// receiver must not be told.
    Broken,
}

/// One direction of one connection.
pub(crate) struct Line<'a> {
    pub(crate) direction: Direction,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) timer: &'a Timer,
    pub(crate) cells: &'a DirectionCells,
    pub(crate) bucket: &'a Bucket,
    /// What the link had counted when the connection was accepted.
    pub(crate) born: Born,
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
    pub(crate) async fn carry(&self, mut from: ReadHalf<'_>, to: WriteHalf<'_>) -> End {
        let _connection = Gauge::enter(&self.cells.connections);
        let end = self.carry_in_order(&mut from, to).await;
        if end == End::Broken {
            // The sender goes on without an error, and may still be told things.
            swallow(&mut from, self.cells).await;
        }
        end
    }

    async fn carry_in_order(&self, from: &mut ReadHalf<'_>, to: WriteHalf<'_>) -> End {
        let (queue, items) = mpsc::unbounded_channel();
        let mut drain = std::pin::pin!(self.drain(items, to));
        tokio::select! {
            end = &mut drain => return end,
            () = self.fill(from, queue) => {}
        }
        drain.await
    }

    /// Reads until end of stream, error or loss, never more than the buffer
    /// ahead of `drain`.
    async fn fill(&self, from: &mut ReadHalf<'_>, queue: mpsc::UnboundedSender<Item>) {
        let room = Arc::new(Semaphore::new(self.state.borrow().settings.buffer));
        let mut dice = Dice(self.seed);
        let mut scratch = vec![0; READ_SIZE];
        loop {
            let read = from.read(&mut scratch).await;
            // Stamped before waiting for room: the wait is part of the journey.
            let settings = self.state.borrow().settings.direction(self.direction);
            // An item that is due before the one ahead of it leaves right behind it.
            let due = Instant::now() + dice.delay(settings);
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
                    if dice.loses(settings) {
                        Load::Reset
                    } else {
                        Load::Bytes(scratch[..length].to_vec(), share)
                    }
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
        loop {
            let Some(item) = self.next(&mut items, &mut state).await else {
                return End::Broken;
            };
            match item {
                Load::Bytes(bytes, _share) => {
                    if let Err(end) = self.write(&bytes, &mut to, &mut state).await {
                        return end;
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
    }

    /// The next item, when it is due and the direction is open; `None` as soon
    /// as the direction is broken for good.
    async fn next(
        &self,
        items: &mut mpsc::UnboundedReceiver<Item>,
        state: &mut watch::Receiver<State>,
    ) -> Option<Load> {
        let arrival = async {
            let item = items.recv().await;
            // `fill` ends with Fin or Reset, so the queue never just runs dry.
            let due = item.as_ref().map_or_else(Instant::now, |item| item.due);
            self.timer.sleep_until(due).await;
            item.map_or(Load::Reset, |item| item.load)
        };
        let is_broken = |state: &State| state.is_broken(self.direction, &self.born);
        let load = tokio::select! {
            biased;
            Ok(_) = state.wait_for(is_broken) => return None,
            load = arrival => load,
        };
        self.until_open(state).await.then_some(load)
    }

    /// Writes all bytes, no faster than the bandwidth; a black hole stops it
    /// even in the middle.
    async fn write(
        &self,
        mut bytes: &[u8],
        to: &mut WriteHalf<'_>,
        state: &mut watch::Receiver<State>,
    ) -> Result<(), End> {
        let mut granted = 0;
        while !bytes.is_empty() {
            if !self.until_open(state).await {
                return Err(End::Broken);
            }
            if granted == 0 {
                granted = self.grant(bytes.len(), state).await;
                continue; // the wait for it may have been long
            }
            tokio::select! {
                biased;
                Ok(()) = state.changed() => {}
                written = to.write(&bytes[..granted]) => {
                    let Ok(written @ 1..) = written else {
                        return Err(End::WriteFailed);
                    };
                    add(&self.cells.bytes_out, written);
                    bytes = &bytes[written..];
                    granted -= written;
                }
            }
        }
        Ok(())
    }

    /// Waits until the bandwidth has room for some of so many bytes, and tells
    /// for how many: none when the settings changed meanwhile.
    async fn grant(&self, bytes: usize, state: &mut watch::Receiver<State>) -> usize {
        let settings = state.borrow_and_update().settings;
        let Some(rate) = settings.direction(self.direction).bandwidth else {
            return bytes;
        };
        let granted = piece(rate).min(bytes);
        let due = self.bucket.grant(rate, granted, Instant::now());
        let is_other = |state: &State| {
            let settings = state.settings.direction(self.direction);
            settings.bandwidth != Some(rate) || state.is_broken(self.direction, &self.born)
        };
        tokio::select! {
            biased;
            Ok(_) = state.wait_for(is_other) => 0,
            () = self.timer.sleep_until(due) => granted,
        }
    }

    /// Waits until the direction carries bytes; false if it never will again.
    /// When the link ends meanwhile it returns too: the connection is being
    /// dropped then.
    async fn until_open(&self, state: &mut watch::Receiver<State>) -> bool {
        let is_broken = |state: &State| state.is_broken(self.direction, &self.born);
        let is_open = |state: &State| state.settings.direction(self.direction).cut == Cut::Open;
        let settled = state.wait_for(|state| is_broken(state) || is_open(state));
        settled.await.is_ok_and(|state| !is_broken(&state))
    }
}

/// Reads until the sender closes its end, and throws everything away.
pub(crate) async fn swallow(from: &mut (impl AsyncRead + Unpin), cells: &DirectionCells) {
    let mut scratch = vec![0; READ_SIZE];
    // An error says the same as the end of the stream: nothing more comes.
    while let Ok(length @ 1..) = from.read(&mut scratch).await {
        add(&cells.bytes_in, length);
    }
}

/// Draws delays and losses: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom
/// number generators", OOPSLA 2014), so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn delay(&mut self, settings: DirectionSettings) -> Duration {
        let delay = settings.delay.min(MAX_DELAY);
        if settings.jitter.is_zero() {
            return delay;
        }
        // MAX_DELAY in nanoseconds fits 64 bits with room to spare.
        let most = settings.jitter.min(MAX_DELAY).as_nanos() as u64;
        delay + Duration::from_nanos(self.next() % (most + 1))
    }

    /// Whether a read is lost.
    fn loses(&mut self, settings: DirectionSettings) -> bool {
        settings.loss > 0 && self.next() % u64::from(LOSS_MAX) < u64::from(settings.loss)
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
            ..DirectionSettings::default()
        };
        let mut dice = Dice(7);
        let drawn: Vec<_> = (0..1000).map(|_| dice.delay(settings)).collect();
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
            ..DirectionSettings::default()
        };
        assert!(Dice(1).delay(settings) <= MAX_DELAY * 2);
    }
    #[test]
    fn reads_are_lost_as_often_as_told() {
        let lost = |loss| {
            let settings = DirectionSettings {
                loss,
                ..DirectionSettings::default()
            };
            let mut dice = Dice(11);
            (0..10_000).filter(|_| dice.loses(settings)).count()
        };
        assert_eq!(
            (lost(0), lost(LOSS_MAX), lost(u16::MAX)),
            (0, 10_000, 10_000)
        );
        let tenth = lost(100);
        assert!((800..1200).contains(&tenth), "{tenth} of 10000");
    }
}
