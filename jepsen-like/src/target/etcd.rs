//! etcd as a target: a database that is not ours, to see that the checkers find in it what is known to be there.
//!
//! etcd's linearizable reads go through the leader's majority; its serializable reads are what the asked member happens
//! to hold. [`Reads`] says which of the two the clients use while the history claims level strong for both: with the
//! first a run is clean, with the second the checker `linearizable` has to object.
//!
//! The harness starts Debian's `etcd` (package `etcd-server`) as child processes on loopback, one member per region,
//! with a link proxy for every ordered pair of members. No root is needed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::process::in_path;
use crate::history::Record;
use crate::nemesis::{
    Action, Clock, Data, Disk, Effect, Layout, Nemesis, NodeIndex, Refused, Wire,
};
use crate::target::{RunClock, Target, Usage};
use crate::workload::{Levels, Workload};

/// Package `etcdserverpb`. Generated: its style is not ours to judge.
#[allow(warnings)]
pub mod api {
    tonic::include_proto!("etcdserverpb");
}

mod ask;
mod client;
mod member;
mod replace;
mod state;
mod wires;

pub use client::EtcdClient;

use api::cluster_client::ClusterClient;
use member::{Launch, Member};
use wires::Wires;

/// A connection to one member, made when first used and again when it broke.
type Api = api::kv_client::KvClient<Channel>;

/// Most members: etcd's own advice.
pub const MEMBERS_MAX: usize = 7;
/// Shortest time between two heartbeats of a leader: below it a busy machine is taken for a dead one.
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);
/// Heartbeats without which a member stands for election. etcd's advice is ten round trips.
const ELECTION_HEARTBEATS: u32 = 10;
/// While faults last, so much time goes into replacing a member that lost its data; what fails is done after them.
const REPLACE_WITHIN: Duration = Duration::from_secs(8);
/// After all faults. etcd wants the others to have been connected for 5 s before.
const REPLACE_AT_LAST_WITHIN: Duration = Duration::from_secs(30);
/// etcd refuses to wait longer than this for a heartbeat.
const ELECTION_MAX: Duration = Duration::from_secs(50);

/// How clients read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Through a majority: linearizable.
    Linearizable,
    /// From whatever the asked member holds. The history claims that this is linearizable, and it is not.
    Serializable,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Members, each a region of its own: odd, 3 to [`MEMBERS_MAX`].
    pub members: usize,
    /// How clients read.
    pub reads: Reads,
    /// Round trips between the members (0, 1), (0, 2), (1, 2), and so on; they begin anew where they do not suffice.
    /// Empty for no delay.
    pub round_trips: Vec<Duration>,
}

impl Default for EtcdOptions {
    /// Three regions of which the pairs are 90, 150 and 220 ms apart, and linearizable reads.
    fn default() -> EtcdOptions {
        EtcdOptions {
            members: 3,
            reads: Reads::Linearizable,
            round_trips: [90, 150, 220].map(Duration::from_millis).to_vec(),
        }
    }
}

/// Whether etcd can be asked what a workload asks, at these levels.
///
/// # Errors
/// Says what etcd does not have.
pub fn supports(workload: Workload, levels: Levels) -> Result<(), String> {
    if levels != Levels::Strong {
        let name = levels.name();
        return Err(format!(
            "etcd has no level {name}: ask it at --levels strong"
        ));
    }
    match workload {
        Workload::Register | Workload::ManyKeys | Workload::MixedKey | Workload::Contended => {
            Ok(())
        }
        Workload::All
        | Workload::Counter
        | Workload::CounterIds
        | Workload::Set
        | Workload::Sessions
        | Workload::Scan => Err(format!(
            "etcd has registers only, and the workload {} needs counters or sets: choose register, contended, \
             mixed-key or many-keys",
            workload.name()
        )),
    }
}

/// Where the `etcd` binary is, by `PATH`; `None` where it is not installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    in_path("etcd")
}

/// A running cluster of etcd.
pub struct EtcdTarget {
    reads: Reads,
    addresses: Vec<SocketAddr>,
    /// For what the harness itself asks.
    apis: Vec<Api>,
    members: Vec<Member>,
    wires: Wires,
    /// Last, so that no process is left that writes into it.
    folder: TempDir,
}

/// Starts a cluster. Does not wait until it has a leader: [`Target::settle`] does.
///
/// # Errors
/// When `etcd` is not installed, the options are out of bounds, or an address, a directory or a process can not be had.
pub async fn start(options: EtcdOptions) -> anyhow::Result<EtcdTarget> {
    let program = installed().context(
        "there is no etcd in PATH: install it (Debian: apt-get install etcd-server) and try again",
    )?;
    let count = options.members;
    anyhow::ensure!(
        count % 2 == 1 && (3..=MEMBERS_MAX).contains(&count),
        "{count} members: etcd needs an odd number of them, 3 to {MEMBERS_MAX}"
    );
    let (heartbeat, election) = pace(&options.round_trips);
    let clients = free_addresses(2 * count)?;
    let (clients, peers) = clients.split_at(count);
    let wires = Wires::start(peers, &options.round_trips).await?;
    let folder = tempfile::Builder::new().prefix("hansa-etcd-").tempdir()?;
    let names = (0..count).map(|member| {
        format!(
            "{}=https://{}",
            node_name(member),
            wires::advertised(member)
        )
    });
    let cluster = names.collect::<Vec<_>>().join(",");
    let mut members = Vec::new();
    for member in 0..count {
        let name = node_name(member);
        let own = folder.path().join(&name);
        std::fs::create_dir(&own)?;
        let mut member = Member::new(Launch {
            program: program.clone(),
            name,
            folder: own,
            clients: clients[member],
            peers: peers[member],
            advertised: wires::advertised(member),
            door: wires.door(member),
            cluster: cluster.clone(),
            heartbeat,
            election,
        });
        member.start()?;
        members.push(member);
    }
    Ok(EtcdTarget {
        reads: options.reads,
        apis: apis(clients)?,
        addresses: clients.to_vec(),
        members,
        wires,
        folder,
    })
}

/// Time between heartbeats, and time without one until an election.
fn pace(round_trips: &[Duration]) -> (Duration, Duration) {
    let longest = round_trips.iter().max().copied().unwrap_or_default();
    let most = ELECTION_MAX / ELECTION_HEARTBEATS;
    let heartbeat = longest.clamp(HEARTBEAT_MIN, most);
    (heartbeat, heartbeat * ELECTION_HEARTBEATS)
}

/// Addresses that are free now and stay so while a member does not run: they are on a loopback address of this cluster's
/// own, where neither other clusters nor outgoing connections take ports.
fn free_addresses(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    static CLUSTERS: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // 0 and 255 are networks and broadcasts elsewhere, and 127.0.0.1 is everybody's.
    let own = 2 + CLUSTERS.fetch_add(1, Ordering::Relaxed) % 250;
    let host = Ipv4Addr::new(127, high, low, own);
    let held: Result<Vec<TcpListener>, _> =
        (0..count).map(|_| TcpListener::bind((host, 0))).collect();
    let held = held.with_context(|| format!("no port can be had on {host}"))?;
    let addresses = held.iter().map(|it| Ok(it.local_addr()?));
    addresses.collect()
}

fn channel_to(address: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.connect_lazy())
}

fn api_at(address: SocketAddr) -> anyhow::Result<Api> {
    Ok(Api::new(channel_to(address)?))
}

fn apis(addresses: &[SocketAddr]) -> anyhow::Result<Vec<Api>> {
    addresses.iter().map(|address| api_at(*address)).collect()
}

fn node_name(member: NodeIndex) -> String {
    format!("etcd-{member}")
}

fn region_name(region: usize) -> String {
    format!("region-{region}")
}

impl EtcdTarget {
    /// Where a member listens for clients.
    pub(crate) fn address(&self, node: NodeIndex) -> SocketAddr {
        self.addresses[node]
    }

    /// The processes of the members that run.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        self.members.iter().filter_map(Member::process_id).collect()
    }

    /// Waits until every member serves and has what any had when it was asked, whatever the number of keys.
    ///
    /// # Errors
    /// What was still missing after `within`.
    pub(crate) async fn catch_up(&self, within: Duration) -> Result<Duration, String> {
        state::catch_up(&self.apis, within).await
    }

    fn member(&mut self, node: NodeIndex) -> Result<&mut Member, Refused> {
        let count = self.members.len();
        let member = self.members.get_mut(node);
        member.ok_or_else(|| Refused::Failed(format!("there is no member {node} of {count}")))
    }

    /// Starts a member that does not run; one that lost its data is replaced.
    async fn start_member(&mut self, node: NodeIndex, within: Duration) -> anyhow::Result<()> {
        let count = self.members.len();
        if !self.members[node].is_lost() {
            return self.members[node].start();
        }
        let url = format!("https://{}", wires::advertised(node));
        let through = ClusterClient::new(channel_to(self.addresses[(node + 1) % count])?);
        let replaced = replace::replace(&through, &url, within).await;
        let name = node_name(node);
        replaced.map_err(|why| anyhow::anyhow!("{name} can not be replaced: {why}"))?;
        self.members[node].was_added();
        self.members[node].start()?;
        // It asks the others who they are, and ends where it is cut off meanwhile.
        state::serves(&self.apis[node], node, within)
            .await
            .map_err(anyhow::Error::msg)
    }

    /// As [`EtcdTarget::start_member`] while faults last: what they keep from being replaced has to wait for their end.
    async fn restart(&mut self, node: NodeIndex) -> Result<(), Refused> {
        if !self.member(node)?.is_lost() {
            return self.member(node)?.start().map_err(|it| failed(&it));
        }
        let others = self.members.iter_mut().enumerate();
        let mut others = others.filter(|(other, _)| *other != node);
        if others.all(|(_, member)| member.runs()) && !self.wires.are_faulty() {
            // What fails now is done after the faults, and fails there for good.
            let _ = self.start_member(node, REPLACE_WITHIN).await;
        }
        Ok(())
    }
}

/// Why something can not be done to etcd here.
fn not_here(action: &Action) -> Refused {
    let why = match action {
        Action::Processor(..) => "a member of etcd can not be given a part of a processor",
        Action::Clock(..) => {
            "the clock of a member of etcd can not be changed: Go does not ask a library for the time"
        }
        Action::Disk(..) | Action::Data(_, Data::DropUnsynced | Data::Tear | Data::LoseTail(_)) => {
            "the data of a member of etcd is not on a disk that obeys the harness"
        }
        Action::Clone(_) => "a member of etcd can not be started twice",
        _ => "etcd does not promise to notice that its data is not what it wrote",
    };
    Refused::NotHere(why.to_owned())
}

/// Whether a kind of fault can be done to etcd here.
///
/// # Errors
/// Says what would be needed.
pub fn suffers(nemesis: Nemesis) -> Result<(), String> {
    // What each kind would be refused for, were it begun: a kind must not end with its beginning.
    let refused = match nemesis {
        Nemesis::SlowCpu => not_here(&Action::Processor(0, 1)),
        Nemesis::ClockJump | Nemesis::ClockDrift | Nemesis::ClockFreeze => {
            not_here(&Action::Clock(0, Clock::True))
        }
        Nemesis::PowerCut | Nemesis::TornWrite | Nemesis::FailedSync | Nemesis::LostTail => {
            not_here(&Action::Data(0, Data::DropUnsynced))
        }
        Nemesis::DiskFull | Nemesis::SlowDisk => not_here(&Action::Disk(0, Disk::Healthy)),
        Nemesis::BitFlip | Nemesis::MisdirectedBlock | Nemesis::OldCopy => {
            not_here(&Action::Data(0, Data::Restore))
        }
        Nemesis::ClonedNode => not_here(&Action::Clone(0)),
        Nemesis::Duplication => return wires::can(Wire::Duplication(0)),
        _ => return Ok(()),
    };
    Err(refused.to_string())
}

fn failed(error: &impl std::fmt::Display) -> Refused {
    Refused::Failed(format!("{error:#}"))
}

impl Target for EtcdTarget {
    type Client = EtcdClient;

    fn layout(&self) -> Layout {
        Layout {
            regions: self.members.len(),
            nodes_per_region: 1,
        }
    }

    fn region_name(&self, region: usize) -> String {
        region_name(region)
    }

    fn node_name(&self, node: NodeIndex) -> String {
        node_name(node)
    }

    fn client(&self, process: u64, node: NodeIndex) -> anyhow::Result<EtcdClient> {
        let apis = apis(&self.addresses)?;
        Ok(EtcdClient::new(process, node, apis, self.reads))
    }

    async fn act(&mut self, action: Action) -> Result<Effect, Refused> {
        match action {
            Action::Wire(from, to, wire) => return self.wires.set(from, to, wire),
            Action::HealWires => return Ok(Effect::if_changed(self.wires.heal())),
            Action::Start(node) => self.restart(node).await?,
            Action::Kill(node) | Action::Stop(node) | Action::Pause(node) => {
                let member = self.member(node)?;
                if !member.runs() {
                    return Ok(Effect::Nothing);
                }
                let done = match action {
                    Action::Kill(_) => member.kill().await,
                    Action::Pause(_) => member.pause().await,
                    _ => {
                        member.stop().await;
                        Ok(())
                    }
                };
                done.map_err(|it| failed(&it))?;
            }
            Action::Data(node, Data::Wipe) => {
                self.member(node)?.wipe().map_err(|it| failed(&it))?;
            }
            Action::Resume(node) => {
                let resumed = self.member(node)?.resume().await;
                resumed.map_err(|it| failed(&it))?;
            }
            Action::Processor(..)
            | Action::Clock(..)
            | Action::Disk(..)
            | Action::Data(..)
            | Action::Clone(_) => return Err(not_here(&action)),
        }
        Ok(Effect::Changed)
    }

    async fn heal(&mut self) -> anyhow::Result<()> {
        self.wires.heal();
        for member in &mut self.members {
            member.resume().await?;
        }
        // Members that lost their data last: all others are needed to replace them.
        let mut order: Vec<NodeIndex> = (0..self.members.len()).collect();
        order.sort_by_key(|node| self.members[*node].is_lost());
        for node in order {
            self.start_member(node, REPLACE_AT_LAST_WITHIN).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, within: Duration) -> Result<Duration, String> {
        let settled = state::settle(&self.apis, within).await;
        settled.map_err(|missing| {
            let members = self.members.iter_mut();
            let down = members.filter_map(|it| (!it.runs()).then(|| it.launch.name.clone()));
            let down: Vec<String> = down.collect();
            match down.is_empty() {
                true => missing,
                false => format!("{missing}; not running: {}", down.join(", ")),
            }
        })
    }

    async fn finals(&mut self, keys: &[String], clock: RunClock) -> Vec<Record> {
        state::finals(&self.apis, keys, clock).await
    }

    async fn probes(&mut self) -> BTreeMap<String, u64> {
        let starts = self.members.iter().map(|member| member.starts).sum();
        let term = state::term(&self.apis).await;
        BTreeMap::from([
            ("starts".to_owned(), starts),
            ("raft_terms".to_owned(), term),
        ])
    }

    async fn usage(&mut self) -> Vec<Usage> {
        let all = self.members.iter_mut().enumerate();
        let used = all.filter_map(|(node, member)| {
            let (memory, disk, files) = member.usage()?;
            Some(Usage {
                node,
                memory,
                disk,
                files,
            })
        });
        used.collect()
    }

    fn deaths(&mut self) -> Vec<String> {
        self.members.iter_mut().flat_map(Member::deaths).collect()
    }

    async fn stop(mut self) -> Vec<String> {
        let wrong = self.deaths();
        for member in &mut self.members {
            // One that can not be waited for has ended; nothing of a run depends on its last words.
            let _ = member.kill().await;
        }
        self.wires.stop().await;
        // What can not be removed from the directory for temporary files is the system's to remove.
        let _ = self.folder.close();
        wrong
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::nemesis::Plan;
    use crate::random::Random;

    #[test]
    fn only_strong_registers_are_supported() {
        let all = Workload::value_variants().iter().copied();
        let able = all.filter(|workload| supports(*workload, Levels::Strong).is_ok());
        for workload in able.clone() {
            let recipe = workload.recipe();
            assert_eq!((recipe.counters, recipe.sets), (0, 0), "{workload:?}");
        }
        assert_eq!(able.count(), 4);
        let why = supports(Workload::Register, Levels::Mixed).unwrap_err();
        assert!(why.contains("no level mixed"), "{why}");
        let why = supports(Workload::Scan, Levels::Strong).unwrap_err();
        assert!(why.contains("the workload scan needs"), "{why}");
    }

    #[test]
    fn an_election_takes_ten_round_trips_within_what_etcd_accepts() {
        let ms = Duration::from_millis;
        assert_eq!(
            pace(&EtcdOptions::default().round_trips),
            (ms(220), ms(2200))
        );
        assert_eq!(pace(&[]), (ms(50), ms(500)));
        assert_eq!(pace(&[ms(9000)]), (ms(5000), ELECTION_MAX));
    }

    #[test]
    fn a_kind_of_fault_is_possible_exactly_if_all_its_actions_are() {
        let layout = Layout {
            regions: 3,
            nodes_per_region: 1,
        };
        let refused = |action: &Action| match *action {
            Action::Wire(_, _, wire) => wires::can(wire).is_err(),
            Action::Data(_, data) => data != Data::Wipe,
            Action::Processor(..) | Action::Clock(..) | Action::Disk(..) | Action::Clone(_) => true,
            _ => false,
        };
        for nemesis in Nemesis::value_variants() {
            let mut random = Random::new(1);
            let plan = Plan::new(layout, &[*nemesis], Duration::from_secs(20), &mut random);
            let possible = !plan.planned().iter().any(|it| refused(&it.action));
            assert_eq!(suffers(*nemesis).is_ok(), possible, "{nemesis:?}");
        }
    }

    #[test]
    fn addresses_are_free_and_of_one_cluster() {
        let one = free_addresses(6).unwrap();
        let other = free_addresses(6).unwrap();
        assert_eq!(one.len(), 6);
        assert!(one.iter().all(|it| it.ip() == one[0].ip()));
        assert_ne!(one[0].ip(), other[0].ip());
    }

    #[tokio::test]
    async fn an_even_cluster_is_refused() {
        let options = EtcdOptions {
            members: 4,
            ..EtcdOptions::default()
        };
        let why = start(options).await.err().unwrap().to_string();
        let expected = match installed() {
            Some(_) => "4 members: etcd needs an odd number of them, 3 to 7",
            None => "apt-get install etcd-server",
        };
        assert!(why.contains(expected), "{why}");
    }
}
