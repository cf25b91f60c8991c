//! What a spectator sees: commands to try, a light workload, and a table that shows how it goes.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::board::Board;
use super::cluster::Cluster;
use super::links::{Links, Way};
use super::orders::Orders;
use super::ports::{BASE_DEFAULT, Ports};
use super::ready::status;
use super::schedule::ScheduledCut;
use super::shape::{REGIONS, Shape};
use super::table::{Lag, Screen, View};
use super::workload::Workload;
use crate::hint::invocation;

/// Time between two drawings.
const PERIOD: Duration = Duration::from_secs(2);

/// Shows the demo until the caller drops this, or the screen is gone.
///
/// # Errors
/// When the admin port can not be had.
pub(crate) async fn run(cluster: &mut Cluster, cuts: &[ScheduledCut]) -> Result<()> {
    let (news, mut told) = mpsc::unbounded_channel();
    let _orders = Orders::serve(cluster.ports.admin(), cluster.links.clone(), news.clone()).await?;
    let _cuts = schedule(&cluster.links, cuts, &news);
    let board = Arc::new(Board::default());
    let _workload = Workload::start(&cluster.clients, &board);
    let terminal = io::stdout().is_terminal();
    let mut screen = Screen::new(terminal);
    // Beside the data: a token of an earlier demo would be another cluster's.
    let session = cluster.files.path().join("me.token").display().to_string();
    if !show(&hints(cluster.ports, &session)) {
        return Ok(());
    }
    let started = Instant::now();
    let mut ticks = interval_at(started + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = started;
    loop {
        let text = tokio::select! {
            Some(text) = told.recv() => screen.news(&text),
            now = ticks.tick() => {
                let cells = board.take();
                let view = View {
                    up: now - started,
                    period: now - last,
                    cells: &cells,
                    lags: lags(&cluster.shape, cluster.ports).await,
                    cut: cluster.links.cut_now(),
                };
                last = now;
                ended(cluster, &mut screen) + &screen.draw(&view)
            }
        };
        if !show(&text) {
            return Ok(());
        }
    }
}

/// Prints; `false` when nobody reads any more.
fn show(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// The nodes that ended by themselves since the last time, as news.
fn ended(cluster: &mut Cluster, screen: &mut Screen) -> String {
    let ended = cluster.launcher.ended();
    let text = |(name, how): (String, ExitStatus)| {
        let log = cluster.files.log(&name);
        screen.news(&format!(
            "{name} ended by itself, {how}; its log is {}",
            log.display()
        ))
    };
    ended.into_iter().map(text).collect()
}

async fn lags(shape: &Shape, ports: Ports) -> [Lag; REGIONS.len()] {
    let mut asked = JoinSet::new();
    for node in 0..shape.nodes() {
        asked.spawn(async move { (node, status(ports, node).await) });
    }
    let mut answers = [const { Vec::new() }; REGIONS.len()];
    while let Some(answer) = asked.join_next().await {
        if let Ok((node, status)) = answer {
            answers[shape.region_of(node)].push(status);
        }
    }
    answers.map(|answers| Lag::of(&answers))
}

/// Cuts and heals at the times of `--cut`.
fn schedule(
    links: &Arc<Links>,
    cuts: &[ScheduledCut],
    news: &mpsc::UnboundedSender<String>,
) -> JoinSet<()> {
    let ready = Instant::now();
    let mut running = JoinSet::new();
    for cut in cuts.iter().copied() {
        let (links, news) = (links.clone(), news.clone());
        running.spawn(async move {
            for (at, is_cut, done) in [(cut.from, true, "cut"), (cut.until, false, "healed")] {
                sleep_until(ready + at).await;
                let changed = links.set(cut.region, None, Way::Both, is_cut);
                let name = cut.region_name();
                // Without a reader nobody wants the news.
                let _ = news.send(format!("{done} {name}: {changed} links, as scheduled"));
            }
        });
    }
    running
}

/// Commands to try in a second terminal. They work as printed, with shifted ports, too.
fn hints(ports: Ports, session: &str) -> String {
    let hansa = invocation();
    let (endpoints, admin) = match ports.admin().port() {
        BASE_DEFAULT => (String::new(), String::new()),
        _ => {
            let one = |(node, name)| format!("{name}=http://{}", ports.client(node));
            let all: Vec<String> = REGIONS.into_iter().enumerate().map(one).collect();
            let exported = format!("  export HANSA_ENDPOINTS={}\n", all.join(","));
            (exported, format!(" --admin http://{}", ports.admin()))
        }
    };
    format!(
        "\
Three regions are up: {}. Try in a second terminal:
{endpoints}  {hansa} kv put profiles alice Luebeck --level strong --region us-east --explain
  {hansa} kv get profiles alice --level eventual --region ap-northeast --explain
  {hansa} kv get profiles alice --level strong --region ap-northeast --explain
  {hansa} kv incr counters views/demo 1 --region eu-central --session {session}
  {hansa} kv get counters views/demo --level session --region us-east --session {session}
  {hansa} kv members carts cart/DE/0001 --region eu-central
  {hansa} admin cut ap-northeast{admin}
  {hansa} kv get profiles alice --level strong --region ap-northeast --stay
  {hansa} kv put profiles alice Kyoto --level eventual --region ap-northeast --stay
  {hansa} admin heal ap-northeast{admin}
  {hansa} status
Ctrl-C ends it all.

",
        REGIONS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_ports_only_where_they_are_shifted() {
        let text = hints(Ports::new(BASE_DEFAULT, 3, 6).unwrap(), "me.token");
        assert!(!text.contains("http://"), "{text}");
        assert!(text.contains(" admin cut ap-northeast\n"));
        let text = hints(Ports::new(9000, 3, 6).unwrap(), "me.token");
        assert!(text.contains("export HANSA_ENDPOINTS=us-east=http://127.0.0.1:9001,eu-central="));
        assert!(text.contains(" admin heal ap-northeast --admin http://127.0.0.1:9000\n"));
    }
}
