//! The network of a cluster: link proxies on loopback, or hosts in network namespaces.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::task::block_in_place;

use super::links::Links;
use super::ports::Ports;
use super::spec::{Spec, Wires};
use crate::nemesis::{NodeIndex, Refused, Wire};
use crate::wan::{self, Wan};

/// A network, running. Dropping it ends it.
pub(super) enum Network {
    /// A proxy for every ordered pair of nodes. No root is needed.
    Proxies(Links),
    /// A host for every node, and a router that sees every packet between them.
    Hosts(Box<Wan>),
}

impl Network {
    /// Starts the network that a specification asks for, and says where its nodes listen. The nodes need not be up.
    ///
    /// # Errors
    /// [`Refused::NotHere`] when this machine does not permit it; when the system has no port left.
    pub(super) async fn start(spec: &Spec) -> Result<(Network, Ports)> {
        match spec.wires {
            Wires::Proxies => {
                let ports = Ports::take(spec.layout.nodes())?;
                let links = Links::start(spec, &ports).await?;
                Ok((Network::Proxies(links), ports))
            }
            // It runs commands and waits for them: some ten milliseconds a node.
            Wires::Hosts => block_in_place(|| {
                wan::possible().map_err(Refused::NotHere)?;
                let region = |node| spec.layout.region_of(node);
                let one_way = |from, to| spec.round_trip(region(from), region(to)) / 2;
                let wan = Wan::start(spec.layout, one_way, spec.seed)?;
                let hosts = 0..spec.layout.nodes();
                let ports = Ports::on(hosts.map(|node| wan.host(node).address));
                Ok((Network::Hosts(Box::new(wan)), ports))
            }),
        }
    }

    /// Where a node dials another one; `None` for the address that the topology names.
    pub(super) fn dial(&self, from: NodeIndex, to: NodeIndex) -> Option<SocketAddr> {
        match self {
            Network::Proxies(links) => Some(links.dial(from, to)),
            Network::Hosts(_) => None,
        }
    }

    /// Where a second process of a node may listen.
    ///
    /// # Errors
    /// When the system has no port left.
    pub(super) fn ports_of_copy(&self, node: NodeIndex) -> Result<Ports> {
        match self {
            Network::Proxies(_) => Ports::take(1),
            Network::Hosts(wan) => Ok(Ports::beside(wan.host(node).address)),
        }
    }

    /// A command that runs a program where a node lives.
    pub(super) fn command(&self, node: NodeIndex, program: &Path) -> Command {
        match self {
            Network::Proxies(_) => Command::new(program),
            Network::Hosts(wan) => wan.host(node).command(program).into(),
        }
    }

    /// Changes what becomes of what one node sends another one.
    ///
    /// # Errors
    /// [`Refused::NotHere`] for what this kind of network can not do.
    pub(super) fn set(&self, from: NodeIndex, to: NodeIndex, wire: Wire) -> Result<(), Refused> {
        match self {
            Network::Proxies(links) => links.set(from, to, wire),
            Network::Hosts(_) if from == to => Ok(()),
            Network::Hosts(wan) => block_in_place(|| wan.act(from, to, wire)),
        }
    }

    /// Everything is as without faults.
    ///
    /// # Errors
    /// [`Refused::Failed`] when the network has ended.
    pub(super) fn heal(&self) -> Result<(), Refused> {
        match self {
            Network::Proxies(links) => {
                links.heal();
                Ok(())
            }
            Network::Hosts(wan) => block_in_place(|| wan.heal()),
        }
    }

    /// Ends it, after the processes.
    ///
    /// # Errors
    /// What could not be removed.
    pub(super) async fn shutdown(self) -> Result<()> {
        match self {
            Network::Proxies(links) => links.shutdown().await,
            Network::Hosts(wan) => {
                block_in_place(|| wan.stop()).context("the hosts could not be removed")?;
            }
        }
        Ok(())
    }
}
