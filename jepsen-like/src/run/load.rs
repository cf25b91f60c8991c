//! The clients of a round: they act until the load is over, and every operation is recorded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::Options;
use crate::history::Record;
use crate::nemesis::Layout;
use crate::random::Random;
use crate::target::{REPEAT_PERMILLE, RunClock, Target, TargetClient};
use crate::workload::{Generator, Mix, Recipe};

/// How often a client moves to another node when its workload does not say, permille per operation.
const HOP_PERMILLE: u64 = 50;

/// What all clients of a round share.
pub(super) struct Desk {
    pub(super) records: Mutex<Vec<Record>>,
    generator: Mutex<Generator>,
    recipe: Recipe,
    mix: Mix,
    layout: Layout,
    clock: RunClock,
    think: Duration,
    deadline: Duration,
    until: Duration,
}

impl Desk {
    pub(super) fn new(
        options: &Options,
        (recipe, mix): (Recipe, Mix),
        (layout, clock, until): (Layout, RunClock, Duration),
        prefix: &str,
    ) -> Desk {
        Desk {
            records: Mutex::default(),
            generator: Mutex::new(Generator::prefixed(prefix)),
            recipe,
            mix,
            layout,
            clock,
            think: options.think,
            deadline: options.deadline,
            until,
        }
    }

    /// Takes a line of the history.
    pub(super) fn record(&self, record: Record) {
        lock(&self.generator).seen(&record);
        lock(&self.records).push(record);
    }

    /// All lines so far; none are left.
    pub(super) fn take(&self) -> Vec<Record> {
        std::mem::take(&mut *lock(&self.records))
    }
}

/// A panic of a task that held the lock is a failure of the run in any case.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the clients; they end by themselves when the load is over.
///
/// # Errors
/// When a client can not be made.
pub(super) fn start<T: Target>(
    target: &T,
    desk: &Arc<Desk>,
    clients_per_node: usize,
    random: &mut Random,
) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let nodes = desk.layout.nodes();
    for process in 0..nodes * clients_per_node {
        let node = process % nodes;
        let client = target.client(process as u64, node)?;
        let random = Random::new(random.below(u64::MAX));
        tasks.spawn(act(client, desk.clone(), random));
    }
    Ok(tasks)
}

async fn act(mut client: impl TargetClient, desk: Arc<Desk>, mut random: Random) {
    let hop = desk.recipe.hop.unwrap_or(HOP_PERMILLE);
    let think = u64::try_from(desk.think.as_micros()).unwrap_or(u64::MAX);
    while desk.clock.elapsed() < desk.until {
        if random.chance(hop) {
            client.move_to(random.below(desk.layout.nodes() as u64) as usize);
        }
        let repeated = match random.chance(REPEAT_PERMILLE) {
            true => client.repeat(desk.clock, desk.deadline).await,
            false => None,
        };
        let record = match repeated {
            Some(record) => record,
            None => {
                let intent = lock(&desk.generator).next(&mut random, &desk.recipe, desk.mix);
                client.perform(&intent, desk.clock, desk.deadline).await
            }
        };
        desk.record(record);
        let pause = random.between(think / 4, think);
        tokio::time::sleep(Duration::from_micros(pause)).await;
    }
}
