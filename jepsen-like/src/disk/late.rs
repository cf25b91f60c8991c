//! Things to do later, on a thread of their own: a slow sync must not hold up anybody else.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;

/// The thread. When this is dropped, it does at once what is left, and ends.
pub(super) struct Late(Sender<(Instant, Job)>);

impl Late {
    /// Starts it.
    pub(super) fn start() -> io::Result<Late> {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("disk-late".to_owned());
        thread.spawn(move || run(&receiver))?;
        Ok(Late(sender))
    }

    /// Does this after so long. Done at once when the thread is gone, which it never is while this exists.
    pub(super) fn after(&self, delay: Duration, job: impl FnOnce() + Send + 'static) {
        let due = Instant::now() + delay;
        if let Err(mpsc::SendError((_, job))) = self.0.send((due, Box::new(job))) {
            job();
        }
    }
}

fn run(receiver: &Receiver<(Instant, Job)>) {
    let mut jobs: BTreeMap<(Instant, u64), Job> = BTreeMap::new();
    let mut number = 0;
    loop {
        let now = Instant::now();
        while let Some(first) = jobs.first_entry()
            && first.key().0 <= now
        {
            first.remove()();
        }
        let received = match jobs.first_key_value() {
            Some(((due, _), _)) => receiver.recv_timeout(due.saturating_duration_since(now)),
            None => receiver.recv().map_err(RecvTimeoutError::from),
        };
        match received {
            Ok((due, job)) => {
                jobs.insert((due, number), job);
                number += 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    for job in jobs.into_values() {
        job();
    }
}
