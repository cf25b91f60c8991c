//! A timer with sub-millisecond precision.
//!
//! The runtime's timer counts whole milliseconds and is on average more than
//! one late. A strong write crosses a link four times, so that error would be
//! the largest part of what a benchmark over emulated links measures. Here one
//! thread waits on a condition variable, which the kernel wakes within its
//! timer slack (50 us). All links of a process share the thread; it ends with
//! the last of them.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use tokio::sync::oneshot;

/// The timer in use, if any link lives.
static SHARED: Mutex<Weak<Timer>> = Mutex::new(Weak::new());

/// Handle of the timer thread; dropping the last one stops and joins it.
pub(crate) struct Timer {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    sleepers: BinaryHeap<Reverse<Sleeper>>,
    stopped: bool,
}

/// One waiting task. A cancelled sleep stays in the heap until it is due; a
/// direction of a connection has at most one sleep that is not cancelled, and
/// cancels only when the link is set or its connection ends.
struct Sleeper {
    due: Instant,
    wake: oneshot::Sender<()>,
}

impl Timer {
    /// The timer of this process, started when no link holds it yet.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub(crate) fn shared() -> io::Result<Arc<Self>> {
        let mut shared = lock(&SHARED);
        if let Some(timer) = shared.upgrade() {
            return Ok(timer);
        }
        let timer = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&timer);
        Ok(timer)
    }

    fn start() -> io::Result<Self> {
        let inner = Arc::new(Inner {
            queue: Mutex::new(Queue::default()),
            changed: Condvar::new(),
        });
        let of_thread = Arc::clone(&inner);
        let thread = Builder::new()
            .name("linkproxy-timer".to_owned())
            .spawn(move || of_thread.run())?;
        Ok(Self {
            inner,
            thread: Some(thread),
        })
    }

    /// Returns at `due` or shortly after, never before. At once if `due` has
    /// passed. Cancel safe.
    pub(crate) async fn sleep_until(&self, due: Instant) {
        if due <= Instant::now() {
            return;
        }
        let (wake, woken) = oneshot::channel();
        let is_first = {
            let mut queue = lock(&self.inner.queue);
            let is_first = queue.sleepers.peek().is_none_or(|first| due < first.0.due);
            queue.sleepers.push(Reverse(Sleeper { due, wake }));
            is_first
        };
        if is_first {
            self.inner.changed.notify_one();
        }
        // The sender is dropped unsent only when the timer stops, and it does
        // not stop while `self` is borrowed.
        let _ = woken.await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        lock(&self.inner.queue).stopped = true;
        self.inner.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread runs no code that panics; nothing to report here.
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn run(&self) {
        let mut queue = lock(&self.queue);
        while !queue.stopped {
            let now = Instant::now();
            let next_due = queue.sleepers.peek().map(|first| first.0.due);
            queue = match next_due {
                None => self
                    .changed
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    self.changed
                        .wait_timeout(queue, due - now)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                Some(_) => {
                    if let Some(Reverse(sleeper)) = queue.sleepers.pop() {
                        // A cancelled sleeper no longer listens.
                        let _ = sleeper.wake.send(());
                    }
                    queue
                }
            };
        }
    }
}

/// Locks; a poisoned lock is taken, because no holder leaves a queue half
/// changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn sleeps_end_in_order_of_due_and_never_early() {
        let timer = Timer::start().unwrap();
        let start = Instant::now();
        let (far, near) = (Duration::from_millis(40), Duration::from_millis(5));
        tokio::join!(
            async {
                timer.sleep_until(start + far).await;
                assert!(start.elapsed() >= far);
            },
            async {
                // Registered second and due first: the thread must re-arm.
                timer.sleep_until(start + near).await;
                assert!(start.elapsed() >= near);
                assert!(
                    start.elapsed() < far,
                    "the near sleep waited for the far one"
                );
            }
        );
    }

    #[tokio::test]
    async fn a_cancelled_sleep_wakes_nobody_and_the_thread_ends() {
        let timer = Timer::start().unwrap();
        let hour = Instant::now() + Duration::from_secs(3600);
        let soon = Instant::now() + Duration::from_millis(5);
        tokio::select! {
            () = timer.sleep_until(hour) => unreachable!("an hour has not passed"),
            () = timer.sleep_until(soon) => {}
        }
        let inner = Arc::downgrade(&timer.inner);
        drop(timer);
        assert!(
            inner.upgrade().is_none(),
            "the thread still holds the queue"
        );
    }
}
