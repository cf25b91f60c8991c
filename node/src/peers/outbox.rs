//! What waits to go to one peer.
//!
//! Bounded by number and bytes. Closed while the link is down: then everything is dropped at once, because a
//! message that waited for a link to come back would mostly be of no use when it does.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hansa_proto::v1::PeerFrame;
use tokio::sync::Notify;

use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX};

/// A frame on its way, with what is counted of it.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) frame: PeerFrame,
    /// The message's kind.
    pub(super) kind: &'static str,
    /// Its encoded length.
    pub(super) bytes: usize,
}

/// One peer's queue.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    /// Which stream takes from it; 0 = none.
    stream: u64,
    streams: u64,
}

impl Outbox {
    /// A panic elsewhere leaves the queue whole: every change of it is one call.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets parcels in for a new stream, whose number it returns. An older stream gets nothing any more.
    pub(super) fn open(&self) -> u64 {
        let mut inner = self.lock();
        inner.parcels.clear();
        inner.bytes = 0;
        inner.streams += 1;
        inner.stream = inner.streams;
        self.filled.notify_waiters();
        inner.stream
    }

    /// Throws away what waits, and whatever comes until it is opened again.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.parcels.clear();
        inner.bytes = 0;
        inner.stream = 0;
        self.filled.notify_waiters();
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().stream != 0
    }

    /// Takes a parcel; `false` when it was dropped instead.
    pub(super) fn push(&self, parcel: Parcel) -> bool {
        let mut inner = self.lock();
        let full = inner.parcels.len() >= OUTBOX_MESSAGES_MAX
            || inner.bytes + parcel.bytes > OUTBOX_BYTES_MAX;
        if inner.stream == 0 || full {
            return false;
        }
        inner.bytes += parcel.bytes;
        inner.parcels.push_back(parcel);
        drop(inner);
        self.filled.notify_waiters();
        true
    }

    /// The next parcel for a stream; `None` when another stream has taken its place, or the link is down.
    pub(super) async fn next(&self, stream: u64) -> Option<Parcel> {
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            // Before looking, so that what is pushed after the look is not missed.
            filled.as_mut().enable();
            {
                let mut inner = self.lock();
                if inner.stream != stream {
                    return None;
                }
                if let Some(parcel) = inner.parcels.pop_front() {
                    inner.bytes -= parcel.bytes;
                    return Some(parcel);
                }
            }
            filled.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(bytes: usize) -> Parcel {
        Parcel {
            frame: PeerFrame::default(),
            kind: "test",
            bytes,
        }
    }

    #[tokio::test]
    async fn a_closed_outbox_drops_and_a_new_stream_starts_empty() {
        let outbox = Outbox::default();
        assert!(!outbox.push(parcel(1)));
        let first = outbox.open();
        assert!(outbox.push(parcel(1)));
        outbox.close();
        assert!(outbox.next(first).await.is_none());
        let second = outbox.open();
        assert!(outbox.push(parcel(7)));
        assert!(
            outbox.next(first).await.is_none(),
            "taken by the old stream"
        );
        assert_eq!(outbox.next(second).await.unwrap().bytes, 7);
    }

    #[tokio::test]
    async fn number_and_bytes_are_bounded_and_room_comes_back() {
        let outbox = Outbox::default();
        let stream = outbox.open();
        assert!(outbox.push(parcel(OUTBOX_BYTES_MAX)));
        assert!(!outbox.push(parcel(1)));
        outbox.next(stream).await.unwrap();
        for _ in 0..OUTBOX_MESSAGES_MAX {
            assert!(outbox.push(parcel(1)));
        }
        assert!(!outbox.push(parcel(1)));
    }

    #[tokio::test]
    async fn a_waiting_stream_is_woken_by_a_parcel_and_by_the_end() {
        let outbox = std::sync::Arc::new(Outbox::default());
        let stream = outbox.open();
        let taker = std::sync::Arc::clone(&outbox);
        let taking = tokio::spawn(async move {
            let first = taker.next(stream).await.map(|parcel| parcel.bytes);
            (first, taker.next(stream).await.is_none())
        });
        tokio::task::yield_now().await;
        outbox.push(parcel(3));
        while outbox.lock().bytes > 0 {
            tokio::task::yield_now().await;
        }
        outbox.close();
        assert_eq!(taking.await.unwrap(), (Some(3), true));
    }
}
