//! Real `hansa serve` processes on this machine, and everything that can be done to them.
//!
//! Every node is a process of the `hansa` binary with a directory, settings and ports of its own. Every ordered pair
//! of nodes has a link proxy, inside a region too, so each direction between two nodes can be faulted. No root is
//! needed.
//!
//! Every action is total and leaves the same state when it is repeated: killing a dead node, or resuming one that
//! runs, does nothing. What this machine has no means for is refused by name ([`Refused::NotHere`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::disk::{self, Disk};
use crate::nemesis::{self, Action, Clock, Data, Effect, Layout, NodeIndex, Refused, Wire};
use crate::random::Random;

mod clock;
mod copies;
pub(crate) mod data;
mod files;
mod links;
mod network;
mod ports;
pub(crate) mod process;
mod spec;

pub use ports::{Addresses, Ports};
pub use spec::{NODES_MAX, Spec, Wires};

use clock::Clocks;
use copies::Copies;
use files::Files;
use network::Network;
use process::{Ended, Launch, Process};

/// How long a node may take to stop by itself; longer than it gives its own open requests.
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// The exit code of a node that found its data damaged and does not serve it.
const REFUSES_DATA: i32 = 3;

/// One node: its process, if it runs, and what is done to it.
#[derive(Default)]
struct Node {
    process: Option<Process>,
    paused: bool,
    /// What it gets of a processor, percent; `None` for all it wants.
    share: Option<u8>,
    /// Whether its data was changed behind its back: it may have lost what it had synced.
    harmed: bool,
    /// Whether it was already told to set damaged data aside.
    rebuilt: bool,
    /// Whether its disk is faulty now.
    faulty: bool,
    /// Whether its disk was faulty at any time since it was started: it may not be able to make everything durable.
    doubted: bool,
    /// Whether its disk was faulty when it was started: it may not be able to begin.
    ill: bool,
    /// Whether it could not begin for that reason, and is started again when the disk is mended.
    waits: bool,
}

impl Node {
    /// Whether there is a process and something else is to be done to it than before.
    fn differs(&self, paused: bool, share: Option<u8>) -> Effect {
        let differs = (self.paused, self.share) != (paused, share);
        Effect::if_changed(self.process.is_some() && differs)
    }

    /// Lets the process run as wanted: standing, throttled, or free.
    async fn apply(&mut self) -> Result<(), Refused> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let done = match (self.paused, self.share) {
            (true, _) => process.pause().await,
            (false, Some(share)) => process.throttle(share).await,
            (false, None) => process.resume().await,
        };
        done.map_err(|error| Refused::Failed(format!("{error:#}")))
    }
}

/// A running cluster. Dropping it ends its processes without waiting for them.
pub struct Cluster {
    spec: Spec,
    program: PathBuf,
    ports: Ports,
    network: Network,
    /// Directions that are not open.
    wires: BTreeMap<(NodeIndex, NodeIndex), Wire>,
    clocks: Option<Clocks>,
    copies: Copies,
    nodes: Vec<Node>,
    deaths: Vec<String>,
    random: Random,
    /// One for each node, or none. Behind the nodes, so that the processes are gone when these are unmounted.
    disks: Vec<Disk>,
    /// Last, so that all is gone when a temporary directory is.
    files: Files,
}

impl Cluster {
    /// Starts links and nodes. Does not wait until the nodes are ready.
    ///
    /// # Errors
    /// When the specification is out of bounds, there is no binary, a directory or a port can not be had, or a
    /// process can not be started.
    pub async fn start(spec: Spec) -> Result<Cluster> {
        spec.check()?;
        let program = spec.binary()?;
        let files = Files::new(&spec)?;
        let (network, ports) = Network::start(&spec).await?;
        files.write(&spec, &ports, &network)?;
        let clocks = spec.clocks.then(|| Clocks::prepare(&spec, &files));
        let disks = disks(&spec, &files)?;
        let nodes = std::iter::repeat_with(Node::default);
        let mut cluster = Cluster {
            program,
            ports,
            network,
            wires: BTreeMap::new(),
            clocks: clocks.transpose()?,
            copies: Copies::default(),
            nodes: nodes.take(spec.layout.nodes()).collect(),
            deaths: Vec::new(),
            random: Random::new(spec.seed),
            disks,
            files,
            spec,
        };
        for node in 0..cluster.nodes.len() {
            cluster.spawn(node, false)?;
        }
        Ok(cluster)
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Regions and nodes.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.spec.layout
    }

    /// Where a node listens.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn addresses(&self, node: NodeIndex) -> Addresses {
        self.ports.of(node)
    }

    /// The process id of a node that runs; of one that just ended by itself, too.
    #[must_use]
    pub fn process_id(&self, node: NodeIndex) -> Option<u32> {
        self.nodes.get(node)?.process.as_ref().map(Process::id)
    }

    /// Whether a node's process runs and is not paused.
    #[must_use]
    pub fn is_running(&self, node: NodeIndex) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|node| node.process.is_some() && !node.paused)
    }

    /// The nodes whose data was changed behind their backs, so that they may be ones that lost data.
    #[must_use]
    pub fn harmed(&self) -> BTreeSet<NodeIndex> {
        let nodes = self.nodes.iter().enumerate();
        let harmed = nodes.filter(|(_, node)| node.harmed);
        harmed.map(|(index, _)| index).collect()
    }

    /// The size of a node's data directory, bytes that the file system gave to it.
    #[must_use]
    pub fn data_bytes(&self, node: NodeIndex) -> u64 {
        data::bytes(&self.files.data(&self.spec.node_name(node)))
    }

    /// The last lines of a node's log, indented; for errors.
    #[must_use]
    pub fn log_end(&self, node: NodeIndex) -> String {
        self.files.log_end(&self.spec.node_name(node))
    }

    /// Carries an action out. Returns whether it changed anything.
    ///
    /// # Errors
    /// [`Refused::NotHere`] for what this cluster has no means for, [`Refused::Failed`] for what went wrong.
    pub async fn act(&mut self, action: Action) -> Result<Effect, Refused> {
        if let Some(node) = subject(action).filter(|node| *node >= self.nodes.len()) {
            return Err(Refused::Failed(format!("there is no node {node}")));
        }
        self.look()?;
        match action {
            Action::Wire(from, to, wire) => self.set_wire(from, to, wire),
            Action::HealWires => self.heal_wires(),
            Action::Kill(node) => self.kill(node).await,
            Action::Stop(node) => self.stop_node(node).await,
            Action::Start(node) => self.start_node(node).await,
            Action::Pause(node) => self.set(node, |node| node.paused = true).await,
            Action::Resume(node) => self.set(node, |node| node.paused = false).await,
            Action::Processor(node, percent) => {
                let share = (percent < 100).then_some(percent.max(1));
                self.set(node, |node| node.share = share).await
            }
            Action::Clock(node, clock) => self.set_clock(node, clock),
            Action::Disk(node, disk) => self.set_disk(node, disk),
            Action::Data(node, data) => self.change_data(node, data),
            Action::Clone(node) => self.clone_node(node).await,
        }
    }

    /// Ends all faults and starts every node that does not run.
    ///
    /// # Errors
    /// When a process can not be started or signalled.
    pub async fn heal(&mut self) -> Result<()> {
        self.heal_wires()?;
        self.look()?;
        for node in 0..self.nodes.len() {
            if self.copies.end(node).await {
                // The others follow the newer start, which was the copy's, and hear this process no more.
                self.kill(node).await?;
            }
            if self.clocks.is_some() {
                self.set_clock(node, Clock::True)?;
            }
            if !self.disks.is_empty() {
                self.set_disk(node, nemesis::Disk::Healthy)?;
            }
            self.nodes[node].share = None;
            self.start_node(node).await?;
        }
        Ok(())
    }

    /// Notices processes that ended by themselves. One that refuses data which was changed behind its back is started
    /// again with the order to set that data aside, as an operator would; one that was started on a faulty disk and
    /// refuses it waits until the disk is mended. Every other end is a death.
    ///
    /// # Errors
    /// When the process can not be started again.
    pub fn look(&mut self) -> Result<(), Refused> {
        for node in 0..self.nodes.len() {
            let slot = &mut self.nodes[node];
            let Some(status) = slot.process.as_mut().and_then(Process::ended) else {
                continue;
            };
            slot.process = None;
            slot.paused = false;
            if slot.harmed && !slot.rebuilt && status.code() == Some(REFUSES_DATA) {
                slot.rebuilt = true;
                self.spawn(node, true).map_err(failed)?;
                continue;
            }
            if slot.ill && status.code() == Some(REFUSES_DATA) {
                slot.waits = true;
                let faulty = slot.faulty;
                self.disk_is(node, faulty)?;
                continue;
            }
            let name = self.spec.node_name(node);
            let log = self.files.log_end(&name);
            self.deaths.push(format!(
                "{name} ended by itself, {status}; its log ends with{log}"
            ));
        }
        Ok(())
    }

    /// What [`Target::deaths`](crate::target::Target::deaths) says.
    pub fn deaths(&mut self) -> Vec<String> {
        if let Err(refused) = self.look() {
            self.deaths.push(refused.to_string());
        }
        std::mem::take(&mut self.deaths)
    }

    /// Ends everything: SIGTERM, and SIGKILL for those that are not gone within 12 s. When it returns no process is
    /// left. Says which ended by themselves before, and which did not end with code 0 in time; nothing when all is well.
    pub async fn stop(mut self) -> Vec<String> {
        let mut wrong = self.deaths();
        for node in 0..self.nodes.len() {
            self.copies.end(node).await;
        }
        for process in self.nodes.iter_mut().filter_map(|it| it.process.as_mut()) {
            process.terminate().await;
        }
        for node in 0..self.nodes.len() {
            if let Some(process) = self.nodes[node].process.take() {
                let ended = process.wait_or_kill(STOP_WITHIN).await;
                wrong.extend(self.misbehaved(node, ended));
            }
        }
        if let Err(error) = self.network.shutdown().await {
            wrong.push(format!("{error:#}"));
        }
        wrong
    }

    /// What is wrong with how a node ended that was told to by SIGTERM; its documented exit code is 0 then. Whose data
    /// or disk was tampered with may also refuse it.
    fn misbehaved(&self, node: NodeIndex, ended: Ended) -> Option<String> {
        let slot = &self.nodes[node];
        let how = match ended {
            Ended::Unheard => return None,
            Ended::Itself(status) if status.success() => return None,
            Ended::Itself(status)
                if (slot.harmed || slot.doubted) && status.code() == Some(REFUSES_DATA) =>
            {
                return None;
            }
            Ended::Itself(status) => format!("ended with {status} after SIGTERM, not with code 0"),
            Ended::Killed => {
                let seconds = STOP_WITHIN.as_secs();
                format!("did not end within {seconds} s of SIGTERM and was killed")
            }
        };
        let name = self.spec.node_name(node);
        let log = self.files.log_end(&name);
        Some(format!("{name} {how}; its log ends with{log}"))
    }

    fn spawn(&mut self, node: NodeIndex, rebuild: bool) -> Result<()> {
        let name = self.spec.node_name(node);
        let mut environment = match &mut self.clocks {
            Some(clocks) => clocks.environment(node)?,
            None => Vec::new(),
        };
        environment.extend(self.mutant());
        let launch = Launch {
            command: self.network.command(node, &self.program),
            settings: &self.files.settings(&name),
            folder: self.files.path(),
            log: &self.files.log(&name),
            rebuild,
            environment,
        };
        let process = Process::spawn(launch)
            .with_context(|| format!("the node {name} can not be started"))?;
        let slot = &mut self.nodes[node];
        slot.process = Some(process);
        (slot.doubted, slot.ill, slot.waits) = (slot.faulty, slot.faulty, false);
        Ok(())
    }

    /// What tells a process which rule to break.
    fn mutant(&self) -> Option<(&'static str, OsString)> {
        let mutant = self.spec.mutant.as_ref();
        mutant.map(|name| ("HANSA_MUTANT", OsString::from(name)))
    }

    /// The disk whose power goes with a kill.
    fn cut_with_kills(&self, node: NodeIndex) -> Option<&Disk> {
        let disk = self.disks.get(node);
        disk.filter(|_| self.spec.kills_cut_power)
    }

    fn set_wire(&mut self, from: NodeIndex, to: NodeIndex, wire: Wire) -> Result<Effect, Refused> {
        self.network.set(from, to, wire)?;
        let before = match wire {
            Wire::Open => self.wires.remove(&(from, to)),
            _ => self.wires.insert((from, to), wire),
        };
        Ok(Effect::if_changed(before.unwrap_or(Wire::Open) != wire))
    }

    fn heal_wires(&mut self) -> Result<Effect, Refused> {
        self.network.heal()?;
        let healed = std::mem::take(&mut self.wires);
        Ok(Effect::if_changed(!healed.is_empty()))
    }

    async fn kill(&mut self, node: NodeIndex) -> Result<Effect, Refused> {
        if let Some(disk) = self.cut_with_kills(node) {
            disk.power_off();
        }
        let slot = &mut self.nodes[node];
        (slot.paused, slot.waits) = (false, false);
        let Some(process) = slot.process.take() else {
            return Ok(Effect::Nothing);
        };
        process.kill().await.map_err(failed)?;
        Ok(Effect::Changed)
    }

    async fn stop_node(&mut self, node: NodeIndex) -> Result<Effect, Refused> {
        let slot = &mut self.nodes[node];
        (slot.paused, slot.waits) = (false, false);
        let Some(mut process) = slot.process.take() else {
            return Ok(Effect::Nothing);
        };
        process.terminate().await;
        let ended = process.wait_or_kill(STOP_WITHIN).await;
        let wrong = self.misbehaved(node, ended);
        self.deaths.extend(wrong);
        Ok(Effect::Changed)
    }

    async fn start_node(&mut self, node: NodeIndex) -> Result<Effect, Refused> {
        let goes_on = std::mem::take(&mut self.nodes[node].paused);
        let starts = self.nodes[node].process.is_none();
        if starts {
            // Two processes of one node with one start number is what nobody could tell apart, so the operator who
            // starts a node again has ended its copy.
            self.copies.end(node).await;
            if let Some(disk) = self.cut_with_kills(node) {
                disk.act_data(Data::DropUnsynced)?;
            }
            self.spawn(node, false).map_err(failed)?;
        }
        self.nodes[node].apply().await?;
        Ok(Effect::if_changed(starts || goes_on))
    }

    async fn set(
        &mut self,
        node: NodeIndex,
        change: impl FnOnce(&mut Node),
    ) -> Result<Effect, Refused> {
        let slot = &mut self.nodes[node];
        let (paused, share) = (slot.paused, slot.share);
        change(slot);
        if slot.process.is_none() {
            slot.paused = false;
        }
        slot.apply().await?;
        Ok(slot.differs(paused, share))
    }

    fn set_clock(&mut self, node: NodeIndex, clock: Clock) -> Result<Effect, Refused> {
        match &mut self.clocks {
            Some(clocks) => {
                clocks.set(node, clock).map_err(failed)?;
                Ok(Effect::Changed)
            }
            None => Err(Refused::NotHere(
                "clocks of their own: the cluster was started without them".to_owned(),
            )),
        }
    }

    fn set_disk(&mut self, node: NodeIndex, disk: nemesis::Disk) -> Result<Effect, Refused> {
        let own = self.disks.get(node).ok_or_else(no_disk)?;
        own.act_disk(disk);
        self.disk_is(node, disk != nemesis::Disk::Healthy)?;
        Ok(Effect::Changed)
    }

    /// Notes whether a node's disk is faulty from now on. What could not begin on a faulty one is started when it is
    /// mended, as an operator would.
    fn disk_is(&mut self, node: NodeIndex, faulty: bool) -> Result<(), Refused> {
        let slot = &mut self.nodes[node];
        slot.faulty = faulty;
        slot.doubted |= faulty;
        if slot.waits && !faulty {
            self.spawn(node, false).map_err(failed)?;
        }
        Ok(())
    }

    fn change_data(&mut self, node: NodeIndex, change: Data) -> Result<Effect, Refused> {
        let name = self.spec.node_name(node);
        if self.nodes[node].process.is_some() {
            let why = format!("{name} runs: only the data of a node that does not can be changed");
            return Err(Refused::Failed(why));
        }
        let changed = match self.disks.get(node) {
            Some(disk) => {
                disk.act_data(change)?;
                let done = disk.counters();
                match change {
                    Data::DropUnsynced | Data::LoseTail(_) => done.lost > 0,
                    Data::Tear => done.torn,
                    _ => true,
                }
            }
            None => {
                self.change_files(&name, change)?;
                true
            }
        };
        if change.destroys() {
            self.nodes[node].harmed = true;
            self.nodes[node].rebuilt = false;
        }
        Ok(Effect::if_changed(changed))
    }

    /// Changes data that lies in plain files.
    fn change_files(&mut self, name: &str, change: Data) -> Result<(), Refused> {
        let (folder, kept) = (self.files.data(name), self.files.kept(name));
        let changed = match change {
            Data::DropUnsynced | Data::Tear | Data::LoseTail(_) => return Err(no_disk()),
            Data::FlipBit => data::flip_bit(&folder, &mut self.random),
            Data::Misdirect => data::misdirect(&folder, &mut self.random),
            Data::Wipe => data::wipe(&folder),
            Data::Keep => data::copy(&folder, &kept),
            Data::Restore => data::copy(&kept, &folder),
        };
        changed.map_err(failed)
    }

    /// A second process with the same name, on a copy of the data, beside the first one, for 3 s. The first one is
    /// started again by the next [`Cluster::heal`], or by whoever ends it before.
    async fn clone_node(&mut self, node: NodeIndex) -> Result<Effect, Refused> {
        let name = self.spec.node_name(node);
        let was_paused = self.nodes[node].paused;
        // The copy of a node that goes on writing would be torn, and not what a copied disk image is.
        self.set(node, |node| node.paused = true).await?;
        let copied = self.files.write_copy(&self.spec, node, &self.network);
        self.set(node, |node| node.paused = was_paused).await?;
        let copy = copied.map_err(failed)?;
        let launch = Launch {
            command: self.network.command(node, &self.program),
            settings: &copy.settings,
            folder: self.files.path(),
            log: &self.files.log(&format!("{name}-copy")),
            rebuild: false,
            environment: self.mutant().into_iter().collect(),
        };
        let process = Process::spawn(launch).map_err(failed)?;
        self.copies.watch(node, process, copy);
        self.nodes[node].harmed = true;
        Ok(Effect::Changed)
    }
}

/// The node that an action is about.
fn subject(action: Action) -> Option<NodeIndex> {
    match action {
        Action::HealWires => None,
        Action::Wire(a, b, _) => Some(a.max(b)),
        Action::Kill(node)
        | Action::Stop(node)
        | Action::Start(node)
        | Action::Pause(node)
        | Action::Resume(node)
        | Action::Processor(node, _)
        | Action::Clock(node, _)
        | Action::Disk(node, _)
        | Action::Data(node, _)
        | Action::Clone(node) => Some(node),
    }
}

/// The disks of all nodes, mounted where their data goes; none unless they are asked for.
fn disks(spec: &Spec, files: &Files) -> Result<Vec<Disk>, Refused> {
    let nodes = 0..if spec.disks { spec.layout.nodes() } else { 0 };
    let mount = |node| {
        let name = spec.node_name(node);
        // Two nodes are not to lose the same part of what they write at the same time.
        let seed = spec.seed.wrapping_add(node as u64);
        let settings = disk::Settings {
            entries: match spec.strict_names {
                true => disk::Entries::WithDirectory,
                false => disk::Entries::WithFile,
            },
            ..disk::Settings::default()
        };
        Disk::mount_with(&files.backing(&name), &files.data(&name), seed, settings)
    };
    nodes.map(mount).collect()
}

fn no_disk() -> Refused {
    let why = "a FUSE disk: the cluster was started without disks of its own";
    Refused::NotHere(why.to_owned())
}

fn failed(error: anyhow::Error) -> Refused {
    Refused::Failed(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Longer than a script takes to begin, on any machine.
    const SOON: Duration = Duration::from_secs(30);

    /// A cluster of which every node is this script of the shell; `ready` is in the log of each when it returns.
    async fn cluster_of(script: &str) -> (Cluster, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("node");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let layout = Layout {
            regions: 3,
            nodes_per_region: 1,
        };
        let spec = Spec {
            program: Some(program),
            ..Spec::new(layout)
        };
        let cluster = Cluster::start(spec).await.unwrap();
        let ready = |node| cluster.log_end(node).contains("ready");
        soon("no script runs", || (0..3).all(ready)).await;
        (cluster, folder)
    }

    /// Whether a node's process has ended and was not waited for.
    /// Waits for what processes do by themselves; of that there is no other word than what they left behind.
    async fn soon(otherwise: &str, mut done: impl FnMut() -> bool) {
        let give_up = tokio::time::Instant::now() + SOON;
        while !done() {
            assert!(tokio::time::Instant::now() < give_up, "{otherwise}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn is_over(cluster: &Cluster, node: NodeIndex) -> bool {
        let id = cluster.process_id(node).unwrap();
        let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        status.contains(") Z ")
    }

    const ENDS_WITH_3: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done";

    #[tokio::test]
    async fn a_node_that_ends_with_another_code_than_0_is_told() {
        let (mut cluster, _folder) = cluster_of(ENDS_WITH_3).await;
        cluster.act(Action::Stop(0)).await.unwrap();
        let deaths = cluster.deaths();
        assert_eq!(deaths.len(), 1, "{deaths:?}");
        assert!(
            deaths[0].contains("exit status: 3 after SIGTERM, not with code 0"),
            "{deaths:?}"
        );
        // Of a node whose disk was tampered with it is a documented answer.
        cluster.nodes[1].harmed = true;
        let wrong = cluster.stop().await;
        assert_eq!(
            wrong.len(),
            1,
            "the harmed one may, and the stopped one is gone: {wrong:?}"
        );
        assert!(
            wrong[0].starts_with("ap-northeast-1 ended with exit status: 3"),
            "{wrong:?}"
        );
    }

    #[tokio::test]
    async fn a_node_that_ends_by_itself_is_told_also_with_code_0_and_at_the_very_end() {
        let (mut cluster, _folder) = cluster_of("echo ready; sleep 0.3; exit 0").await;
        let mut deaths = Vec::new();
        soon("not all ends are noticed", || {
            deaths.extend(cluster.deaths());
            deaths.len() >= 3
        })
        .await;
        assert!(
            deaths[2].contains("ended by itself, exit status: 0"),
            "{deaths:?}"
        );
        assert_eq!(cluster.stop().await, Vec::<String>::new(), "told once");

        let (cluster, _folder) = cluster_of("echo ready; exit 101").await;
        soon("they do not end", || {
            (0..3).all(|node| is_over(&cluster, node))
        })
        .await;
        let wrong = cluster.stop().await;
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("exit status: 101"), "{wrong:?}");
    }

    #[tokio::test]
    async fn a_node_that_can_not_begin_on_a_faulty_disk_waits_until_it_is_mended() {
        let script = "trap 'exit 0' TERM; [ -e \"$(dirname \"$0\")/ill\" ] && exit 3; echo ready; \
                      while :; do sleep 0.02; done";
        let (mut cluster, folder) = cluster_of(script).await;
        cluster.act(Action::Stop(0)).await.unwrap();
        fs::write(folder.path().join("ill"), "").unwrap();
        cluster.disk_is(0, true).unwrap();
        cluster.act(Action::Start(0)).await.unwrap();
        soon("it does not end", || {
            let ended = cluster.process_id(0).is_none();
            if !ended {
                assert_eq!(cluster.deaths(), Vec::<String>::new());
            }
            ended
        })
        .await;
        fs::remove_file(folder.path().join("ill")).unwrap();
        cluster.disk_is(0, false).unwrap();
        assert!(cluster.is_running(0), "it is started again");
        let began = || cluster.log_end(0).matches("ready").count() >= 2;
        soon("it does not begin", began).await;
        // One that was started on a healthy disk has no such excuse.
        fs::write(folder.path().join("ill"), "").unwrap();
        cluster.act(Action::Kill(1)).await.unwrap();
        cluster.act(Action::Start(1)).await.unwrap();
        let mut deaths = Vec::new();
        soon("its end is not noticed", || {
            deaths.extend(cluster.deaths());
            !deaths.is_empty()
        })
        .await;
        assert!(
            deaths[0].contains("ended by itself, exit status: 3"),
            "{deaths:?}"
        );
        assert_eq!(cluster.stop().await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_node_that_does_what_it_is_told_is_none_to_complain_about() {
        let good = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done";
        let (mut cluster, _folder) = cluster_of(good).await;
        cluster.act(Action::Stop(0)).await.unwrap();
        cluster.act(Action::Kill(1)).await.unwrap();
        assert_eq!(cluster.deaths(), Vec::<String>::new());
        assert_eq!(cluster.stop().await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_was_so_already_or_has_nobody_to_suffer_it_has_no_effect() {
        let good = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done";
        let (mut cluster, _folder) = cluster_of(good).await;
        let cut = Action::Wire(0, 1, Wire::Blackhole);
        let twice = [
            cut,
            Action::HealWires,
            Action::Pause(0),
            Action::Resume(0),
            Action::Processor(0, 5),
            Action::Processor(0, 100),
            Action::Pause(0),
            Action::Start(0),
            Action::Kill(0),
            Action::Start(0),
            Action::Stop(1),
        ];
        for action in twice {
            let effects = [cluster.act(action).await, cluster.act(action).await];
            assert_eq!(
                effects,
                [Ok(Effect::Changed), Ok(Effect::Nothing)],
                "{action}"
            );
        }
        for action in [Action::Kill(1), Action::Pause(1), Action::Processor(1, 5)] {
            assert_eq!(cluster.act(action).await, Ok(Effect::Nothing), "{action}");
        }
        cluster.stop().await;
    }
}
