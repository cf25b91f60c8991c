//! What a spectator sees: commands to try, a light workload, and a table that shows how it goes.

use std::collections::BTreeSet;
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
use super::files::Files;
use super::links::{Links, Way};
use super::orders::Orders;
use super::ports::{BASE_DEFAULT, Ports};
use super::ready::status;
use super::schedule::ScheduledCut;
use super::shape::{REGIONS, Shape};
use super::table::{LEGEND, Lag, Screen, View};
use super::workload::Workload;
use crate::hint::{invocation, quoted};

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
    let hints = hints(&cluster.shape, cluster.ports, &session);
    // A terminal has it under every table.
    let legend = if terminal { "" } else { LEGEND };
    if !show(&(hints + legend)) {
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
                let (lags, silent) = look(&cluster.shape, cluster.ports).await;
                let view = View {
                    up: now - started,
                    period: now - last,
                    cells: &cells,
                    lags,
                    cut: cluster.links.cut_now(),
                    silent,
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
            "{name} ended, {how}, and stays down; its log is {}\n{}",
            log.display(),
            restart(&cluster.files, &name)
        ))
    };
    ended.into_iter().map(text).collect()
}

/// The command that starts an ended node again, where its settings find their files.
fn restart(files: &Files, name: &str) -> String {
    let folder = quoted(&files.path().to_string_lossy());
    let settings = quoted(&format!("{name}.toml"));
    // The path, not the form with cargo: that one works in the repository only.
    let program = std::env::current_exe().unwrap_or_else(|_| "hansa".into());
    let program = quoted(&program.to_string_lossy());
    format!(
        "start it again in a terminal of its own (Ctrl-C there ends it, before the demo ends):\n  \
         (cd {folder} && {program} serve --config {settings})"
    )
}

/// How the regions' replication stands, and the names of the nodes that do not answer.
async fn look(shape: &Shape, ports: Ports) -> ([Lag; REGIONS.len()], Vec<String>) {
    let mut asked = JoinSet::new();
    for node in 0..shape.nodes() {
        asked.spawn(async move { (node, status(ports, node).await) });
    }
    let mut answers = [const { Vec::new() }; REGIONS.len()];
    let mut silent = BTreeSet::new();
    while let Some(answer) = asked.join_next().await {
        if let Ok((node, status)) = answer {
            if status.is_none() {
                silent.insert(node);
            }
            answers[shape.region_of(node)].push(status);
        }
    }
    let silent = silent.into_iter().map(|node| shape.node_name(node));
    (answers.map(|answers| Lag::of(&answers)), silent.collect())
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
fn hints(shape: &Shape, ports: Ports, session: &str) -> String {
    let hansa = invocation();
    let is_default = ports.admin().port() == BASE_DEFAULT;
    let admin = match is_default {
        true => String::new(),
        false => format!(" --admin http://{}", ports.admin()),
    };
    let endpoints = match is_default && shape.nodes() == REGIONS.len() {
        true => String::new(),
        false => endpoints(shape, ports),
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

/// Where the nodes answer, a line per region, and all of it for the environment.
fn endpoints(shape: &Shape, ports: Ports) -> String {
    let (mut lines, mut all) = (String::new(), Vec::new());
    for (region, name) in REGIONS.into_iter().enumerate() {
        let url = |node| format!("http://{}", ports.client(node));
        let urls: Vec<String> = shape.nodes_of(region).map(url).collect();
        if urls.len() > 1 {
            lines += &format!("  # {name}: {}\n", urls.join(" "));
        }
        all.extend(urls.into_iter().map(|url| format!("{name}={url}")));
    }
    format!("{lines}  export HANSA_ENDPOINTS={}\n", all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_ports_only_where_they_are_shifted() {
        let text = hints(
            &Shape::new(1, &[]),
            Ports::new(BASE_DEFAULT, 3, 6).unwrap(),
            "me.token",
        );
        assert!(!text.contains("http://"), "{text}");
        assert!(text.contains(" admin cut ap-northeast\n"));
        let text = hints(
            &Shape::new(1, &[]),
            Ports::new(9000, 3, 6).unwrap(),
            "me.token",
        );
        assert!(text.contains("export HANSA_ENDPOINTS=us-east=http://127.0.0.1:9001,eu-central="));
        assert!(text.contains(" admin heal ap-northeast --admin http://127.0.0.1:9000\n"));
    }

    #[test]
    fn every_node_is_named_in_its_region() {
        let shape = Shape::new(3, &[]);
        let text = hints(&shape, Ports::new(BASE_DEFAULT, 9, 54).unwrap(), "me.token");
        let line =
            "  # eu-central: http://127.0.0.1:7102 http://127.0.0.1:7105 http://127.0.0.1:7108\n";
        assert!(text.contains(line), "{text}");
        assert_eq!(text.matches("=http://127.0.0.1:").count(), 9, "{text}");
    }

    #[test]
    fn an_ended_node_is_started_again_by_the_command_that_is_printed() {
        let files = Files::temporary().unwrap();
        let text = restart(&files, "us-east-1");
        let folder = format!("(cd {} && ", files.path().display());
        assert!(text.contains(&folder), "{text}");
        assert!(text.ends_with(" serve --config us-east-1.toml)"), "{text}");
    }
}
