//! The light mixed workload behind the table: in every region, at every level, a few operations per
//! second on keys that all regions share.

use std::sync::Arc;
use std::time::Duration;

use hansa_client::{Client, Error, Receipt, Session};
use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::board::{Board, LEVELS};
use super::shape::REGIONS;

/// Operations per second in one region, by level, at most: each is made after the one before.
const RATES: [u32; LEVELS.len()] = [40, 15, 4];

/// Rows that all regions and levels write: few, so that they meet and merge.
const SHARED_ROWS: u32 = 8;

/// Longest time one operation may take; in a cut region it shows how fast the refusal comes.
const DEADLINE: Duration = Duration::from_secs(3);

/// The running workload. Dropping it ends it.
pub(crate) struct Workload {
    _workers: JoinSet<()>,
}

impl Workload {
    /// Starts it; `clients` has one client per region.
    pub(crate) fn start(clients: &[Client], board: &Arc<Board>) -> Workload {
        let mut workers = JoinSet::new();
        for (region, client) in clients.iter().enumerate() {
            for level in 0..LEVELS.len() {
                let worker = Worker {
                    region,
                    level,
                    session: client.session(),
                    client: client.clone(),
                };
                workers.spawn(worker.run(board.clone()));
            }
        }
        Workload { _workers: workers }
    }
}

/// One level in one region.
struct Worker {
    region: usize,
    /// Position in [`LEVELS`].
    level: usize,
    client: Client,
    /// For level session: all its operations are one session.
    session: Session,
}

/// What one turn does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Read,
    Write,
    Count,
    Fill,
    Total,
}

impl Turn {
    /// Two reads for three writes, in this order.
    fn of(number: u64) -> Turn {
        const ROUND: [Turn; 5] = [
            Turn::Write,
            Turn::Read,
            Turn::Count,
            Turn::Fill,
            Turn::Total,
        ];
        // Below 5: fits.
        ROUND[(number % ROUND.len() as u64) as usize]
    }
}

impl Worker {
    async fn run(self, board: Arc<Board>) {
        let mut ticks = interval(Duration::from_secs(1) / RATES[self.level]);
        // After a slow operation the next one waits its time: no burst.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0.. {
            ticks.tick().await;
            let outcome = self.operate(number).await;
            board.count(self.region, self.level, &outcome);
        }
    }

    async fn operate(&self, number: u64) -> Result<Receipt, Error> {
        let row = rand::rng().random_range(0..SHARED_ROWS);
        let (visit, cart) = (format!("visit/{row}"), format!("cart/demo/{row}"));
        let views = format!("views/demo/{row}");
        let value = format!(
            "{{\"from\":\"{}\",\"visit\":{number}}}",
            REGIONS[self.region]
        );
        let element = format!("TEA-0{} x1", number % 10);
        macro_rules! on {
            ($caller:expr) => {{
                let level = LEVELS[self.level];
                match Turn::of(number) {
                    Turn::Write => {
                        let call = $caller.put("profiles", visit, value).level(level);
                        call.deadline(DEADLINE).await?.receipt
                    }
                    Turn::Read => {
                        let call = $caller.get("profiles", visit).level(level);
                        call.deadline(DEADLINE).await?.receipt
                    }
                    Turn::Count => {
                        let call = $caller.increment("counters", views, 1).level(level);
                        call.deadline(DEADLINE).await?.receipt
                    }
                    Turn::Fill => {
                        let call = $caller.add("carts", cart, element).level(level);
                        call.deadline(DEADLINE).await?.receipt
                    }
                    Turn::Total => {
                        let call = $caller.get("counters", views).level(level);
                        call.deadline(DEADLINE).await?.receipt
                    }
                }
            }};
        }
        Ok(match self.level {
            1 => on!(self.session),
            _ => on!(self.client),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_reads_and_writes() {
        let round: Vec<Turn> = (5..10).map(Turn::of).collect();
        assert_eq!(round[0], Turn::Write);
        for turn in [Turn::Read, Turn::Count, Turn::Fill, Turn::Total] {
            assert_eq!(round.iter().filter(|it| **it == turn).count(), 1);
        }
    }
}
