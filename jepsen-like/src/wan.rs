//! Hosts in network namespaces behind a WAN that the harness emulates packet by packet.
//!
//! Every node is a host: a network namespace of its own with one interface, `wan0`, which is a TUN device. The other
//! end of all these devices is a thread of the harness (`wan/router.rs`), which decides for each packet and each direction
//! what becomes of it (`wan/engine.rs`). The processes speak real TCP, so the emulation shows what a proxy of streams can
//! not: retransmission, packets that overtake each other, handshakes that cost a round trip, lost and doubled packets.
//! The harness is a host too, in the namespace it was started in, without delay and never cut off.
//!
//! It needs root, `/dev/net/tun` and the program `ip`; [`possible`] says whether they are there. Where they are not,
//! [`hansa_linkproxy`] does what can be done with streams. [`state_for`] and [`settings_for`] say for each fault of
//! the vocabulary what the one and the other has to do.
//!
//! A process is put into a host by [`Host::command`]. Order of use: [`Wan::start`], processes, [`Wan::set`] and
//! [`Wan::heal`], end of the processes, [`Wan::stop`].
//!
//! What it costs and how exact it is: `docs/harness-wan.md`.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::nemesis::{Layout, NodeIndex, Refused, Wire};

mod engine;
mod namespace;
mod packet;
mod router;
mod wire;

pub use engine::{BROKEN_FLOWS_MAX, IN_FLIGHT_MAX, QUEUE_MAX, WanCounters};
pub use namespace::clean;
pub use wire::{DELAY_MAX, WireState, settings_for, state_for};

use engine::Engine;
use namespace::{Namespaces, claim_block, ip};
use router::Router;

/// Most nodes: a block has 254 addresses, and one is the harness's.
pub const NODES_MAX: usize = 253;

/// Largest packet, bytes: that of the internet.
pub const MTU: usize = 1500;

/// Packets that an interface holds until the router takes them. More than the kernel's 500, because a packet lost
/// here is lost by no fault that anybody asked for.
const INTERFACE_QUEUE: usize = 10_000;

/// The interface of every node's host.
const INTERFACE: &str = "wan0";

/// How long the try of [`possible`] waits for an answer over a path without delay.
const TRY: Duration = Duration::from_secs(3);

/// Where a node's processes live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name of the network namespace, for `ip netns exec`.
    pub namespace: String,
    /// Its address, the same for all other hosts and for the harness.
    pub address: Ipv4Addr,
}

impl Host {
    /// A command that runs a program on this host. The process that is spawned becomes the program: its id is the
    /// program's. It has a mount namespace of its own, with what the harness has mounted when it is spawned.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .arg(program);
        command
    }
}

/// A running WAN. Dropping it removes everything it made; processes that still run on its hosts lose their network.
pub struct Wan {
    // Dropped in this order: the router holds the devices, which hold the namespaces.
    router: Router,
    namespaces: Namespaces,
    layout: Layout,
    hosts: Vec<Host>,
    harness: Ipv4Addr,
    one_way: Vec<Duration>,
}

impl Wan {
    /// Starts hosts for all nodes, and the paths between them without faults; `one_way` is the delay from one node to
    /// another. All chance is drawn from the seed.
    ///
    /// Takes some ten milliseconds a node, and blocks that long. What processes that are gone left behind is removed
    /// before.
    ///
    /// # Errors
    /// When there are too many nodes, or the machine does not permit it; in words, see [`possible`].
    pub fn start(
        layout: Layout,
        one_way: impl Fn(NodeIndex, NodeIndex) -> Duration,
        seed: u64,
    ) -> anyhow::Result<Wan> {
        let nodes = layout.nodes();
        ensure!(
            nodes <= NODES_MAX,
            "{nodes} nodes: a WAN has at most {NODES_MAX}"
        );
        clean()?;
        let device = open_device()?;
        let name = device.name().context("a TUN device has no name")?;
        ip(&["link", "set", &name, "up"], "")?;
        let block = u32::from(claim_block(&name)?);
        // The block's addresses: the harness, then the nodes.
        let address = |number: usize| Ipv4Addr::from(block + 1 + number as u32);
        let harness = address(0);
        let configuration = format!(
            "address add {harness}/32 dev {name}\nlink set {name} mtu {MTU} txqueuelen {INTERFACE_QUEUE}\n"
        );
        ip(&["-batch", "-"], &configuration)?;

        let (mut namespaces, mut hosts) = (Namespaces::new()?, Vec::new());
        let (mut addresses, mut devices) = (Vec::new(), Vec::new());
        for node in 0..nodes {
            let (namespace, address) = (namespaces.add()?, address(1 + node));
            devices.push(join(&namespace, address)?);
            addresses.push(address);
            hosts.push(Host { namespace, address });
        }
        devices.push(device);
        addresses.push(harness);

        let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        let one_way: Vec<_> = pairs.map(|(from, to)| one_way(from, to)).collect();
        let state = |from, to| match from < nodes && to < nodes {
            true => WireState::delayed(one_way[from * nodes + to]),
            // From and to the harness.
            false => WireState::default(),
        };
        let engine = Engine::new(&addresses, state, seed);
        let router = Router::start(devices, engine).context("the WAN's router can not start")?;
        Ok(Wan {
            router,
            namespaces,
            layout,
            hosts,
            harness,
            one_way,
        })
    }

    /// The host of a node.
    ///
    /// # Panics
    /// When the layout has no such node.
    #[must_use]
    pub fn host(&self, node: NodeIndex) -> &Host {
        &self.hosts[node]
    }

    /// The harness's own address, from which its clients come.
    #[must_use]
    pub fn harness(&self) -> Ipv4Addr {
        self.harness
    }

    /// The delay from one node to another without faults.
    ///
    /// # Panics
    /// When the layout has no such node.
    #[must_use]
    pub fn one_way(&self, from: NodeIndex, to: NodeIndex) -> Duration {
        self.one_way[from * self.layout.nodes() + to]
    }

    /// Changes one direction; in force when this returns.
    ///
    /// # Errors
    /// [`Refused::Failed`] when there is no such node, or the router has ended.
    pub fn set(&self, from: NodeIndex, to: NodeIndex, state: WireState) -> Result<(), Refused> {
        let nodes = self.layout.nodes();
        if from >= nodes || to >= nodes {
            let wrong = format!("no direction from node {from} to node {to} of {nodes}");
            return Err(Refused::Failed(wrong));
        }
        let change = |engine: &mut Engine| engine.set(from, to, state, Instant::now());
        self.router.with(change).map_err(Refused::Failed)
    }

    /// Makes one direction do what the vocabulary of faults says, over the path's own delay.
    ///
    /// # Errors
    /// As [`Wan::set`].
    pub fn act(&self, from: NodeIndex, to: NodeIndex, wire: Wire) -> Result<(), Refused> {
        let nodes = self.layout.nodes();
        let base = self.one_way.get(from * nodes + to).copied();
        self.set(from, to, state_for(wire, base.unwrap_or_default()))
    }

    /// What a direction does.
    ///
    /// # Errors
    /// [`Refused::Failed`] when the router has ended.
    ///
    /// # Panics
    /// When the layout has no such node.
    pub fn state(&self, from: NodeIndex, to: NodeIndex) -> Result<WireState, Refused> {
        assert!(from.max(to) < self.layout.nodes(), "no such node");
        let state = |engine: &mut Engine| engine.state(from, to);
        self.router.with(state).map_err(Refused::Failed)
    }

    /// Ends all faults. Connections that a half-open direction broke stay broken.
    ///
    /// # Errors
    /// [`Refused::Failed`] when the router has ended.
    pub fn heal(&self) -> Result<(), Refused> {
        let nodes = self.layout.nodes();
        let heal = |engine: &mut Engine| {
            for from in 0..nodes {
                for to in 0..nodes {
                    let state = WireState::delayed(self.one_way(from, to));
                    engine.set(from, to, state, Instant::now());
                }
            }
        };
        self.router.with(heal).map_err(Refused::Failed)
    }

    /// The counters since the start.
    ///
    /// # Errors
    /// [`Refused::Failed`] when the router has ended.
    pub fn counters(&self) -> Result<WanCounters, Refused> {
        let counters = |engine: &mut Engine| engine.counters;
        self.router.with(counters).map_err(Refused::Failed)
    }

    /// Ends the router and removes devices, routes and namespaces. The processes on the hosts have to be ended before.
    ///
    /// # Errors
    /// What could not be removed, and why.
    pub fn stop(self) -> anyhow::Result<()> {
        let Wan {
            router, namespaces, ..
        } = self;
        drop(router);
        namespaces.remove()
    }
}

/// A TUN device of this namespace, down and without addresses. It ends when it is dropped.
fn open_device() -> anyhow::Result<SyncDevice> {
    DeviceBuilder::new()
        .name("hansa%d") // the kernel finds a free number
        .enable(false)
        .build_sync()
        .context("no TUN device: /dev/net/tun and the right to use it (CAP_NET_ADMIN) are needed")
}

/// Gives a namespace its interface.
fn join(namespace: &str, address: Ipv4Addr) -> anyhow::Result<SyncDevice> {
    let device = open_device()?;
    let name = device.name().context("a TUN device has no name")?;
    ip(
        &["link", "set", &name, "netns", namespace, "name", INTERFACE],
        "",
    )?;
    let configuration = format!(
        "link set lo up\n\
         address add {address}/24 dev {INTERFACE}\n\
         link set {INTERFACE} mtu {MTU} txqueuelen {INTERFACE_QUEUE} up\n"
    );
    ip(&["-netns", namespace, "-batch", "-"], &configuration)?;
    Ok(device)
}

/// Whether this machine permits it: by a WAN of one host, in which a connection to a port where nobody listens has to
/// be refused by the host's own TCP. Takes some ten milliseconds, once in the life of this process.
///
/// # Errors
/// What is missing, in words.
pub fn possible() -> Result<(), String> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    TRIED.get_or_init(try_one).clone()
}

fn try_one() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("hosts in network namespaces need root".to_owned());
    }
    let layout = Layout {
        regions: 1,
        nodes_per_region: 1,
    };
    let wan = Wan::start(layout, |_, _| Duration::ZERO, 0).map_err(|error| format!("{error:#}"))?;
    let nobody = SocketAddr::from((wan.host(0).address, 9));
    let tried = TcpStream::connect_timeout(&nobody, TRY);
    wan.stop().map_err(|error| format!("{error:#}"))?;
    match tried {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(format!(
            "no packet gets from this namespace to a host and back (is there a firewall?): {error}"
        )),
        Ok(_) => Err(format!("somebody else answers at {nobody}")),
    }
}
