//! When operations are due in an open loop: at times that the rate draws, whatever becomes of the ones before.
//!
//! The runtime's timer counts whole milliseconds, which would be the largest part of a local latency, so a thread for
//! each region waits and hands out what is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::{Mutex, mpsc};

use super::keys::unit;
use super::machine::GENERATOR_THREAD;
use crate::random::Random;

/// Operations that are due and that no client has begun, kept at most; later ones wait with the thread that knows when
/// they were due.
const WAITING_MAX: usize = 1024;

/// Arrivals at random with a mean rate: the gaps are exponential.
#[derive(Debug)]
pub struct Schedule {
    random: Random,
    rate: f64,
    after: f64,
}

impl Schedule {
    /// So many a second, more than 0.
    #[must_use]
    pub fn new(rate: f64, seed: u64) -> Schedule {
        Schedule {
            random: Random::new(seed),
            rate,
            after: 0.0,
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    /// When the next operation is due, after the begin.
    fn next(&mut self) -> Option<Duration> {
        let gap = -(1.0 - unit(&mut self.random)).ln() / self.rate;
        self.after += gap;
        Some(Duration::from_secs_f64(self.after))
    }
}

/// What is due in one region. Clones take from the same.
#[derive(Clone, Debug)]
pub(super) struct Due(Arc<Mutex<mpsc::Receiver<Instant>>>);

impl Due {
    /// The next operation, once it is due; `None` when there is none any more.
    pub(super) async fn next(&self) -> Option<Instant> {
        self.0.lock().await.recv().await
    }
}

/// Hands out what is due, until nothing is or nobody takes it.
#[derive(Debug)]
pub(super) struct Dispatcher {
    thread: JoinHandle<()>,
    refused: Arc<AtomicU64>,
}

impl Dispatcher {
    /// Begins to hand out what the schedule says between `begin` and `end`.
    ///
    /// # Errors
    /// When the thread can not be started.
    pub(super) fn start(
        schedule: Schedule,
        (begin, end): (Instant, Instant),
    ) -> Result<(Dispatcher, Due)> {
        let (give, take) = mpsc::channel(WAITING_MAX);
        let refused = Arc::new(AtomicU64::new(0));
        let counted = refused.clone();
        let hand_out = move || {
            let due = schedule.map(|after| begin + after);
            for due in due.take_while(|due| *due < end) {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if give.blocking_send(due).is_err() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let thread = Builder::new()
            .name(format!("{GENERATOR_THREAD}-due"))
            .spawn(hand_out)
            .context("no thread for the schedule")?;
        let due = Due(Arc::new(Mutex::new(take)));
        Ok((Dispatcher { thread, refused }, due))
    }

    /// How many operations no client took. To be asked when all clients are gone and the end has passed.
    pub(super) async fn left(self, due: Due) -> u64 {
        let mut left = 0;
        let mut waiting = due.0.lock().await;
        waiting.close();
        while waiting.recv().await.is_some() {
            left += 1;
        }
        // Nobody takes anything any more, so the thread is through at once. One that panicked has handed out nothing
        // more, and what it counted stands.
        let ended = tokio::task::spawn_blocking(|| self.thread.join()).await;
        drop(ended);
        left + self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_keeps_its_rate_and_does_not_tick() {
        let rate = 500.0;
        let due: Vec<Duration> = Schedule::new(rate, 3).take(50_000).collect();
        assert!(due.is_sorted());
        let seconds = due[due.len() - 1].as_secs_f64();
        assert!((due.len() as f64 / seconds / rate - 1.0).abs() < 0.03);
        // Of exponential gaps 1 - 1/e is shorter than the mean.
        let short = due
            .windows(2)
            .filter(|it| (it[1] - it[0]).as_secs_f64() < 1.0 / rate);
        let share = short.count() as f64 / due.len() as f64;
        assert!((share - 0.632).abs() < 0.02, "{share}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_due_is_handed_out_once_and_the_rest_is_counted() {
        let begin = Instant::now();
        let end = begin + Duration::from_millis(300);
        let planned: Vec<Instant> = Schedule::new(1000.0, 5)
            .map(|after| begin + after)
            .take_while(|due| *due < end)
            .collect();
        let schedule = Schedule::new(1000.0, 5);
        let (dispatcher, due) = Dispatcher::start(schedule, (begin, end)).unwrap();
        let mut taken = Vec::new();
        for _ in 0..planned.len() / 2 {
            let at = due.next().await.unwrap();
            assert!(Instant::now() >= at, "handed out too early");
            taken.push(at);
        }
        assert_eq!(taken, planned[..planned.len() / 2]);
        let all = taken.len() as u64 + dispatcher.left(due).await;
        assert_eq!(all, planned.len() as u64);
    }
}
