//! The processes of Redis, and the links between them: a primary, and replicas that follow it through their links.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hansa_linkproxy::{DirectionSettings, Link, LinkSettings};
use tokio::time::sleep;

use super::commands;
use super::connection::Connection;
use super::resp::Reply;
use crate::bench::Setup;
use crate::cluster::Ports;
use crate::cluster::process::{Ended, Process, in_path, mortal};

/// The region of the primary.
const PRIMARY: usize = 0;
/// How long a server may take to stop by itself before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long one question of the harness may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether replicas have all that the primary has.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the `redis-server` binary is, by `PATH`.
///
/// # Errors
/// When it is not installed.
pub(in crate::bench) fn program() -> Result<PathBuf> {
    in_path("redis-server").context(
        "there is no redis-server in PATH: install it (Debian: apt-get install redis-server; its service may stay off, \
         the harness starts its own processes), or leave redis out of --target",
    )
}

/// A server for each region.
pub(in crate::bench) struct Servers {
    processes: Vec<Process>,
    names: Vec<String>,
    ports: Ports,
    /// The way of each region to the primary; that of its own region has no link.
    links: Vec<Option<Link>>,
}

impl Servers {
    /// Starts them, with their data in this directory, and waits until every replica follows the primary.
    ///
    /// # Errors
    /// When Redis is not installed, or a server does not get ready in time.
    pub(in crate::bench) async fn start(
        setup: &Setup,
        folder: &Path,
        within: Duration,
    ) -> Result<Servers> {
        let program = program()?;
        let regions = setup.layout.regions;
        let spec = setup.spec();
        let ports = Ports::take(regions)?;
        let primary = ports.of(PRIMARY).client;
        let mut servers = Servers {
            processes: Vec::new(),
            names: (0..regions).map(|it| spec.region_name(it)).collect(),
            ports,
            links: Vec::new(),
        };
        for region in 0..regions {
            let link = match region {
                PRIMARY => None,
                _ => {
                    let one_way = DirectionSettings::delayed(spec.round_trip(PRIMARY, region) / 2);
                    let settings = LinkSettings::symmetric(one_way);
                    let any = (Ipv4Addr::LOCALHOST, 0).into();
                    Some(Link::start(any, primary, settings).await?)
                }
            };
            servers.links.push(link);
            servers.spawn(&program, region, folder)?;
        }
        match servers.settle(within).await {
            Ok(()) => Ok(servers),
            Err(error) => {
                servers.stop().await;
                Err(error)
            }
        }
    }

    fn spawn(&mut self, program: &Path, region: usize, folder: &Path) -> Result<()> {
        let name = &self.names[region];
        let own = folder.join(format!("redis-{name}"));
        std::fs::create_dir_all(&own).with_context(|| format!("can not make {}", own.display()))?;
        let mut command = mortal(program);
        command.current_dir(&own).env_clear();
        command.args(arguments(self.ports.of(region).client, &own));
        if let Some(link) = &self.links[region] {
            let through = link.local_addr();
            let address = format!("{} {}", through.ip(), through.port());
            command.args(["--replicaof", &address]);
        }
        let process = Process::start(command, &own.join("log"));
        self.processes
            .push(process.with_context(|| format!("no redis for {name}"))?);
        Ok(())
    }

    /// Where a region's own server listens, and where it finds the primary.
    pub(in crate::bench) fn addresses(&self, region: usize) -> (SocketAddr, SocketAddr) {
        let own = self.ports.of(region).client;
        let through = self.links[region].as_ref().map(Link::local_addr);
        (own, through.unwrap_or(own))
    }

    /// The process ids of all servers.
    pub(in crate::bench) fn process_ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }

    /// Waits until every replica has all that the primary had when it was asked.
    ///
    /// # Errors
    /// What is missing when it takes too long; a server that ended.
    pub(in crate::bench) async fn settle(&mut self, within: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let Err(missing) = self.settled().await else {
                return Ok(());
            };
            let deaths = self.deaths();
            ensure!(deaths.is_empty(), "{}", deaths.join("\n"));
            if begun.elapsed() >= within {
                return Err(missing);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn settled(&self) -> Result<()> {
        let primary = info(self.ports.of(PRIMARY).client).await?;
        let offset = number(&primary, "master_repl_offset")?;
        let online = primary.matches("state=online").count();
        let replicas = self.processes.len() - 1;
        ensure!(
            online == replicas,
            "{online} of {replicas} replicas are online"
        );
        for region in (0..self.processes.len()).filter(|it| *it != PRIMARY) {
            let replica = info(self.ports.of(region).client).await?;
            let has = number(&replica, "slave_repl_offset")?;
            let name = &self.names[region];
            ensure!(
                replica.contains("master_link_status:up"),
                "{name} does not follow"
            );
            ensure!(has >= offset, "{name} has {has} of {offset} bytes");
        }
        Ok(())
    }

    fn deaths(&mut self) -> Vec<String> {
        let all = self.names.iter().zip(&mut self.processes);
        let ended = all.filter_map(|(name, process)| {
            let status = process.ended()?;
            Some(format!("the redis of {name} ended by itself, {status}"))
        });
        ended.collect()
    }

    /// Ends everything. Says which servers ended by themselves, or not as they should.
    pub(in crate::bench) async fn stop(mut self) -> Vec<String> {
        let mut wrong = self.deaths();
        for process in &mut self.processes {
            process.terminate().await;
        }
        for (name, process) in self.names.iter().zip(self.processes) {
            if process.wait_or_kill(STOP_WITHIN).await == Ended::Killed {
                wrong.push(format!("the redis of {name} did not end and was killed"));
            }
        }
        for link in self.links.into_iter().flatten() {
            link.shutdown().await;
        }
        wrong
    }
}

/// What every server is told. All the rest is as Redis has it by itself.
fn arguments(listen: SocketAddr, folder: &Path) -> Vec<String> {
    let pairs = [
        ("--port", listen.port().to_string()),
        ("--bind", listen.ip().to_string()),
        ("--dir", folder.display().to_string()),
        ("--daemonize", "no".to_owned()),
        // Durable before it is answered, as the others are.
        ("--appendonly", "yes".to_owned()),
        ("--appendfsync", "always".to_owned()),
        // No second copy of what the log has.
        ("--save", String::new()),
        // A new replica gets its copy at once.
        ("--repl-diskless-sync-delay", "0".to_owned()),
    ];
    let words = pairs.into_iter();
    words
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
}

/// What a server tells of its replication.
async fn info(address: SocketAddr) -> Result<String> {
    let connection = Connection::open(address, PATIENCE).await?;
    let asked = connection.ask(commands(&[&[b"INFO", b"replication"]]), 1);
    let replies = tokio::time::timeout(PATIENCE, asked).await;
    let replies = replies
        .context("a redis does not answer")?
        .map_err(anyhow::Error::msg)?;
    match &replies[..] {
        [Reply::Bulk(Some(said))] => Ok(String::from_utf8_lossy(said).into_owned()),
        other => bail!("a redis tells nothing of its replication: {other:?}"),
    }
}

/// The number behind a name.
fn number(info: &str, name: &str) -> Result<u64> {
    let mut pairs = info.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(key, _)| *key == name);
    let found = found.and_then(|(_, value)| value.trim().parse().ok());
    found.with_context(|| format!("a redis does not tell its {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_tells_is_read() {
        let said =
            "# Replication\r\nrole:master\r\nslave0:ip=1,state=online\r\nmaster_repl_offset:17\r\n";
        assert_eq!(number(said, "master_repl_offset").unwrap(), 17);
        let why = number(said, "slave_repl_offset").unwrap_err().to_string();
        assert!(why.contains("slave_repl_offset"), "{why}");
    }

    #[test]
    fn servers_sync_before_they_answer() {
        let words = arguments(([127, 0, 0, 1], 7).into(), Path::new("/x"));
        let said = words.join(" ");
        assert!(
            said.contains("--appendonly yes --appendfsync always"),
            "{said}"
        );
        assert!(said.starts_with("--port 7 --bind 127.0.0.1"), "{said}");
    }
}
