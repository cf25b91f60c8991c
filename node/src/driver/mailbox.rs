//! Where events wait for the driver's thread.
//!
//! Two kinds are bounded, by bytes: requests (one more is refused at once) and messages of peers (their link
//! waits, and with it the sender). Everything else is bounded by what causes it: one cancellation per request,
//! one report per group.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hansa_consistency::event::Event;
use hansa_consistency::key::OpId;
use hansa_consistency::message::Envelope;
use hansa_consistency::register::Expect;
use hansa_consistency::request::{Command, Refusal, Reply, Request};
use tokio::sync::{Semaphore, oneshot};

use super::failure::Failure;
use crate::limits::MAILBOX_EVENT_BYTES;

/// Where the outcome of a request goes.
pub(super) type Answerer = oneshot::Sender<Result<Reply, Refusal>>;

/// One thing for the driver to do.
#[derive(Debug)]
pub(super) enum Mail {
    /// A client asks.
    Request {
        id: OpId,
        request: Request,
        answerer: Answerer,
    },
    /// A peer says something.
    Received {
        envelope: Envelope,
        /// How much of the room it takes.
        room: u32,
    },
    /// Anything else the core is told as it is.
    Event(Event),
    /// A group could not be made durable.
    Failed(Failure),
    /// End: everything acknowledged is to be durable.
    Stop,
}

/// Why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// Too many wait already.
    Full,
    /// The driver has ended.
    Closed,
}

/// What a waiting request takes, bytes, about.
fn weight(request: &Request) -> usize {
    let row = request.command.row();
    let payload = match &request.command {
        Command::Put(_, value) => value.len(),
        Command::CompareAndSet(_, expected, value) => {
            let expected = match expected {
                Expect::Absent => 0,
                Expect::Etag(bytes) | Expect::Value(bytes) => bytes.len(),
            };
            expected + value.as_ref().map_or(0, Bytes::len)
        }
        Command::Scan(scan) => scan.from.len() + scan.to.len(),
        Command::Get(_)
        | Command::Delete(_)
        | Command::Increment(..)
        | Command::AddElement(_)
        | Command::RemoveElement(_) => 0,
    };
    MAILBOX_EVENT_BYTES + row.map_or(0, |row| row.as_bytes().len()) + payload
}

/// The queue between the node's tasks and the driver's thread.
#[derive(Debug)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Room for messages of peers, bytes.
    room: Semaphore,
    room_max: u32,
    request_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    mail: VecDeque<Mail>,
    /// Of the requests in it.
    request_bytes: usize,
    poked: bool,
    closed: bool,
}

impl Mailbox {
    /// Room for so many bytes of requests, and of messages of peers.
    pub(super) fn new(request_bytes_max: usize, peer_bytes_max: usize) -> Mailbox {
        let room_max = u32::try_from(peer_bytes_max).unwrap_or(u32::MAX);
        Mailbox {
            inner: Mutex::default(),
            wake: Condvar::new(),
            room: Semaphore::new(room_max as usize),
            room_max,
            request_bytes_max,
        }
    }

    /// A panic elsewhere leaves the queue whole: every change of it is one call.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request, or refuses it at once.
    pub(super) fn request(
        &self,
        id: OpId,
        request: Request,
        answerer: Answerer,
    ) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Refused::Closed);
        }
        let bytes = weight(&request);
        if inner.request_bytes + bytes > self.request_bytes_max {
            return Err(Refused::Full);
        }
        inner.request_bytes += bytes;
        inner.mail.push_back(Mail::Request {
            id,
            request,
            answerer,
        });
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes a message of a peer, `bytes` long, waiting for room. One that is too long for all the room takes all.
    pub(super) async fn received(&self, envelope: Envelope, bytes: usize) {
        let bytes = bytes.saturating_add(MAILBOX_EVENT_BYTES);
        let room = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room_max);
        // An error means the semaphore is closed: the driver has ended, and the message is lost with it.
        if let Ok(permit) = self.room.acquire_many(room).await {
            permit.forget();
            self.put(Mail::Received { envelope, room });
        }
    }

    /// Takes anything that needs no bound.
    pub(super) fn put(&self, mail: Mail) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.mail.push_back(mail);
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// Makes the driver look up: a group has made progress.
    pub(super) fn poke(&self) {
        self.lock().poked = true;
        self.wake.notify_one();
    }

    /// Moves up to `max` mails into `into`, waiting at most `patience` (for ever when `None`) for the first,
    /// or for a poke. With a `max` of 0 only a poke or the time ends the wait.
    pub(super) fn take(&self, into: &mut VecDeque<Mail>, max: usize, patience: Option<Duration>) {
        let mut inner = self.lock();
        let idle = |inner: &mut Inner| !inner.poked && (inner.mail.is_empty() || max == 0);
        inner = match patience {
            Some(patience) => {
                let waited = self.wake.wait_timeout_while(inner, patience, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.wake.wait_while(inner, idle);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        let Inner {
            mail,
            request_bytes,
            poked,
            ..
        } = &mut *inner;
        *poked = false;
        let count = mail.len().min(max);
        let mut received = 0;
        for mail in mail.drain(..count) {
            match &mail {
                Mail::Request { request, .. } => *request_bytes -= weight(request),
                Mail::Received { room, .. } => received += *room as usize,
                _ => {}
            }
            into.push_back(mail);
        }
        drop(inner);
        self.room.add_permits(received);
    }

    /// Takes nothing any more, and gives back what is there.
    pub(super) fn close(&self) -> VecDeque<Mail> {
        self.room.close();
        let mut inner = self.lock();
        inner.closed = true;
        std::mem::take(&mut inner.mail)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hansa_consistency::clock::Hlc;
    use hansa_consistency::key::{ClusterId, KeyspaceId, NodeId, Row};
    use hansa_consistency::message::Message;
    use hansa_consistency::request::Level;
    use hansa_consistency::session::Context;

    use super::*;

    const ROOM: usize = 16 * MAILBOX_EVENT_BYTES;

    fn link_up(node: u16) -> Mail {
        Mail::Event(Event::LinkUp(NodeId(node)))
    }

    #[test]
    fn mail_comes_out_in_order_and_in_bounded_turns() {
        let mailbox = Mailbox::new(ROOM, ROOM);
        (0..5).for_each(|node| mailbox.put(link_up(node)));
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken, 3, None);
        assert_eq!(taken.len(), 3);
        mailbox.take(&mut taken, 3, None);
        let nodes: Vec<_> = taken
            .iter()
            .map(|mail| match mail {
                Mail::Event(Event::LinkUp(node)) => node.0,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(nodes, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_poke_ends_the_wait_of_a_full_driver_and_mail_does_not() {
        let mailbox = Arc::new(Mailbox::new(ROOM, ROOM));
        mailbox.put(link_up(0));
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken, 0, Some(Duration::from_millis(1)));
        assert!(taken.is_empty());
        let poker = Arc::clone(&mailbox);
        let poking = std::thread::spawn(move || poker.poke());
        mailbox.take(&mut taken, 0, None);
        assert!(taken.is_empty());
        poking.join().unwrap();
    }

    #[test]
    fn a_closed_mailbox_takes_nothing() {
        let mailbox = Mailbox::new(ROOM, ROOM);
        mailbox.put(link_up(0));
        assert_eq!(mailbox.close().len(), 1);
        mailbox.put(link_up(1));
        assert_eq!(mailbox.close().len(), 0);
    }

    fn put(bytes: usize) -> Request {
        let row = Row::new(KeyspaceId(0), 1, b"key", b"", None).unwrap();
        Request {
            command: Command::Put(row, vec![0; bytes].into()),
            level: Level::Eventual,
            context: Context::new(),
            request_id: None,
            retry_of: None,
            ack_regions: 0,
            deadline: Duration::ZERO,
        }
    }

    #[test]
    fn requests_are_refused_by_their_bytes_until_some_are_taken() {
        let mailbox = Mailbox::new(ROOM, ROOM);
        let ask = |bytes| {
            let (answerer, _) = oneshot::channel();
            mailbox.request(OpId(1), put(bytes), answerer)
        };
        ask(ROOM / 2).unwrap();
        assert_eq!(ask(ROOM / 2), Err(Refused::Full));
        let small = (0..).take_while(|_| ask(0).is_ok()).count();
        assert!((1..ROOM / 2 / MAILBOX_EVENT_BYTES).contains(&small));
        let mut taken = VecDeque::new();
        mailbox.take(&mut taken, 1, None);
        ask(ROOM / 2).unwrap();
        mailbox.take(&mut taken, usize::MAX, None);
        assert_eq!(mailbox.lock().request_bytes, 0);
    }

    #[tokio::test]
    async fn a_peer_waits_by_its_bytes_until_some_are_taken() {
        let mailbox = Mailbox::new(ROOM, ROOM);
        let envelope = Envelope {
            cluster: ClusterId(1),
            from: NodeId(1),
            start: 1,
            incarnation: 1,
            store_sequence: 0,
            hlc: Hlc::ZERO,
            message: Message::StartAsk,
        };
        let mut taken = VecDeque::new();
        // Also one that is longer than all the room gets in, alone.
        for (bytes, must_wait) in [(ROOM / 2, false), (ROOM * 2, true), (ROOM / 2, true)] {
            let next = mailbox.received(envelope.clone(), bytes);
            let mut next = std::pin::pin!(next);
            let patience = Duration::from_millis(20);
            let waits = tokio::time::timeout(patience, next.as_mut()).await.is_err();
            assert_eq!(waits, must_wait);
            if waits {
                mailbox.take(&mut taken, 1, None);
                next.await;
            }
        }
        mailbox.take(&mut taken, 1, None);
        assert_eq!(taken.len(), 3);
        assert_eq!(mailbox.room.available_permits(), ROOM);
    }
}
