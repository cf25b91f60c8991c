//! Where events wait for the driver's thread.
//!
//! Two kinds are bounded: requests (one more is refused at once) and messages of peers (their link waits,
//! and with it the sender). Everything else is bounded by what causes it: one cancellation per request,
//! one report per group.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hansa_consistency::event::Event;
use hansa_consistency::key::OpId;
use hansa_consistency::message::Envelope;
use hansa_consistency::request::{Refusal, Reply, Request};
use tokio::sync::{Semaphore, oneshot};

use super::failure::Failure;

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
    Received(Envelope),
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

/// The queue between the node's tasks and the driver's thread.
#[derive(Debug)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Room for messages of peers.
    room: Semaphore,
    requests_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    mail: VecDeque<Mail>,
    requests: usize,
    poked: bool,
    closed: bool,
}

impl Mailbox {
    /// Room for `each` requests, and for as many messages of peers.
    pub(super) fn new(each: usize) -> Mailbox {
        Mailbox {
            inner: Mutex::default(),
            wake: Condvar::new(),
            room: Semaphore::new(each),
            requests_max: each,
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
        if inner.requests >= self.requests_max {
            return Err(Refused::Full);
        }
        inner.requests += 1;
        inner.mail.push_back(Mail::Request {
            id,
            request,
            answerer,
        });
        drop(inner);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes a message of a peer, waiting for room.
    pub(super) async fn received(&self, envelope: Envelope) {
        // An error means the semaphore is closed: the driver has ended, and the message is lost with it.
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
            self.put(Mail::Received(envelope));
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
            requests,
            poked,
            ..
        } = &mut *inner;
        *poked = false;
        let count = mail.len().min(max);
        let mut received = 0;
        for mail in mail.drain(..count) {
            match &mail {
                Mail::Request { .. } => *requests -= 1,
                Mail::Received(_) => received += 1,
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

    use hansa_consistency::key::NodeId;

    use super::*;

    fn link_up(node: u16) -> Mail {
        Mail::Event(Event::LinkUp(NodeId(node)))
    }

    #[test]
    fn mail_comes_out_in_order_and_in_bounded_turns() {
        let mailbox = Mailbox::new(4);
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
        let mailbox = Arc::new(Mailbox::new(4));
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
        let mailbox = Mailbox::new(4);
        mailbox.put(link_up(0));
        assert_eq!(mailbox.close().len(), 1);
        mailbox.put(link_up(1));
        assert_eq!(mailbox.close().len(), 0);
    }
}
