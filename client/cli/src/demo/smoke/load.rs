//! The load of a smoke run: clients of every region at every level, and sessions that hop between
//! regions, on few shared keys. What fails is recorded; nothing here decides whether that is right.

use std::sync::Arc;
use std::time::Duration;

use hansa_client::Consistency::{self, Eventual, Session, Strong};
use hansa_client::Error;
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::super::shape::REGIONS;
use super::actor::{Actor, Desk};

/// Registers and sets that everybody shares.
const SHARED_KEYS: u32 = 6;

/// Sessions that hop.
const HOPPERS: usize = 2;

/// Time between two operations of one client, by level.
const PAUSES: [(Consistency, Duration); 3] = [
    (Eventual, Duration::from_millis(40)),
    (Session, Duration::from_millis(80)),
    (Strong, Duration::from_millis(120)),
];

/// Between two operations of a hopping session.
const HOP_PAUSE: Duration = Duration::from_millis(100);

/// How long one operation may take. Short, so that the end of the load is near in a cut region too.
const DEADLINE: Duration = Duration::from_millis(1500);

/// The running load.
pub(super) struct Load {
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts it.
    pub(super) fn start(desk: &Arc<Desk>) -> Load {
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for region in 0..REGIONS.len() {
            for (level, pause) in PAUSES {
                let actor = Actor::new(desk, region, DEADLINE);
                let levels = vec![level];
                clients.spawn(run(
                    actor,
                    desk.clone(),
                    levels,
                    pause,
                    false,
                    stopped.clone(),
                ));
            }
        }
        for _ in 0..HOPPERS {
            let actor = Actor::new(desk, 0, DEADLINE);
            let levels = vec![Session, Session, Strong];
            clients.spawn(run(
                actor,
                desk.clone(),
                levels,
                HOP_PAUSE,
                true,
                stopped.clone(),
            ));
        }
        Load { stop, clients }
    }

    /// Ends it, each client after its operation: what is under way is completed and recorded.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.clients.join_next().await.is_some() {}
    }
}

/// One client, until it is told to stop.
async fn run(
    mut actor: Actor,
    desk: Arc<Desk>,
    levels: Vec<Consistency>,
    pause: Duration,
    hops: bool,
    mut stopped: watch::Receiver<bool>,
) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = ticks.tick() => {}
        }
        let level = levels[rand::rng().random_range(0..levels.len())];
        // The actor has recorded how it went: that is all that is wanted.
        let _ = operate(&mut actor, &desk, level).await;
        if hops {
            let region = rand::rng().random_range(0..REGIONS.len());
            if let Err(error) = actor.hop(region).await {
                desk.broke(format!("a session could not be resumed: {error}"));
                return;
            }
        }
    }
}

async fn operate(actor: &mut Actor, desk: &Desk, level: Consistency) -> Result<(), Error> {
    let (key, kind) = {
        let mut rng = rand::rng();
        let number = rng.random_range(0..SHARED_KEYS);
        (
            format!("{}/shared/{number}", desk.history.run()),
            rng.random_range(0..8),
        )
    };
    match kind {
        0 | 1 => actor.put(level, &key).await.map(drop),
        2..=4 => actor.get(level, &key).await.map(drop),
        5 => actor.increment(level).await.map(drop),
        6 => {
            let counter = desk.ledger.counter(desk.history.run());
            actor.read(level, &counter).await.map(drop)
        }
        _ => actor.add(level, &key).await.map(drop),
    }
}
