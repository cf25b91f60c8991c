//! A node is killed with SIGKILL under load and comes back with its data.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hansa_client::Consistency::{Eventual, Strong};
use hansa_client::admin::{Standing, StatusReply};
use tokio::time::Instant;

use super::super::cluster::Cluster;
use super::super::ready::status;
use super::super::shape::REGIONS;
use super::actor::{Actor, Desk};
use super::{Figures, KILLED_NODE, millis, until};

/// How long the node may take until it votes again. The majority needs its region while another one
/// is cut off.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// How long an operation may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// Writes that are acknowledged just before the node is killed.
const WRITES: usize = 10;

/// Kills the node, starts it again, and looks whether it has what it acknowledged.
pub(super) async fn run(
    cluster: &mut Cluster,
    desk: &Arc<Desk>,
    figures: &mut Figures,
) -> Result<()> {
    let name = cluster.shape.node_name(KILLED_NODE);
    let region = cluster.shape.region_of(KILLED_NODE);
    let before = status(cluster.ports, KILLED_NODE)
        .await
        .with_context(|| format!("{name} does not answer"))?;
    let mut actor = Actor::new(desk, region, DEADLINE);
    let mut kept = Vec::new();
    for number in 0..WRITES {
        let key = format!("{}/crash/{number}", desk.history.run());
        let (value, _) = actor.put(Eventual, &key).await?;
        kept.push((key, value));
    }
    desk.history.nemesis(&format!("kill {name}"));
    let killed = Instant::now();
    cluster.launcher.kill(KILLED_NODE).await?;
    cluster.launcher.restart(KILLED_NODE, &cluster.files)?;
    desk.history.nemesis(&format!("start {name}"));

    let ports = cluster.ports;
    until("the killed node votes again", BACK_WITHIN, || async {
        let status = status(ports, KILLED_NODE).await;
        (!status.is_some_and(|it| is_back(&before, &it))).then(|| "it does not".to_owned())
    })
    .await
    .with_context(|| format!("its log ends with{}", cluster.files.log_end(&name)))?;
    figures.insert(
        "killed_node_votes_after_ms".to_owned(),
        millis(killed.elapsed()),
    );

    for (key, value) in &kept {
        let got = actor.get(Eventual, key).await?;
        let found = got.bytes().is_some_and(|it| *it == *value);
        ensure!(found, "{name} lost a write that it had acknowledged");
    }
    let key = format!("{}/crash/strong", desk.history.run());
    let served = until("strong is served again", BACK_WITHIN, || {
        let (mut actor, key) = (Actor::new(desk, region, DEADLINE), key.clone());
        async move {
            actor
                .put(Strong, &key)
                .await
                .err()
                .map(|error| error.to_string())
        }
    });
    served
        .await
        .with_context(|| format!("in {}", REGIONS[region]))?;
    figures.insert("strong_back_after_ms".to_owned(), millis(killed.elapsed()));
    Ok(())
}

/// Whether the node votes after a later start with the incarnation it had: a new one would mean that
/// it had lost its data and came back without.
fn is_back(before: &StatusReply, now: &StatusReply) -> bool {
    now.standing == i32::from(Standing::Voting)
        && now.start > before.start
        && now.incarnation == before.incarnation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_back_only_with_its_own_data() {
        let reply = |start, incarnation, standing: Standing| StatusReply {
            start,
            incarnation,
            standing: standing.into(),
            ..StatusReply::default()
        };
        let before = reply(1, 7, Standing::Voting);
        assert!(is_back(&before, &reply(2, 7, Standing::Voting)));
        assert!(
            !is_back(&before, &reply(1, 7, Standing::Voting)),
            "it was not killed"
        );
        assert!(
            !is_back(&before, &reply(2, 8, Standing::Voting)),
            "it lost its data"
        );
        assert!(!is_back(&before, &reply(2, 7, Standing::Asking)));
    }
}
