//! Ports that the kernel gave, and that nobody else gets while a node that owns them is down.
//!
//! Each is held by a socket that is bound and never listens. A listener that reuses addresses, as the node's do, can
//! be bound beside such a socket; the kernel gives the port to nobody who asks for any free one.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::net::TcpSocket;

use crate::nemesis::NodeIndex;

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For clients.
    pub client: SocketAddr,
    /// For the other nodes.
    pub peer: SocketAddr,
    /// For its metrics.
    pub metrics: SocketAddr,
}

/// The addresses of some nodes, held until this is dropped.
#[derive(Debug)]
pub struct Ports {
    nodes: Vec<Addresses>,
    _held: Vec<TcpSocket>,
}

impl Ports {
    /// Three ports of loopback for each of so many nodes.
    ///
    /// # Errors
    /// When the system has none left.
    pub fn take(nodes: usize) -> Result<Ports> {
        let mut held = Vec::with_capacity(3 * nodes);
        let mut take = || -> Result<SocketAddr> {
            let (socket, address) = hold().context("no free port could be had")?;
            held.push(socket);
            Ok(address)
        };
        let mut addresses = Vec::with_capacity(nodes);
        for _ in 0..nodes {
            addresses.push(Addresses {
                client: take()?,
                peer: take()?,
                metrics: take()?,
            });
        }
        Ok(Ports {
            nodes: addresses,
            _held: held,
        })
    }

    /// The same three on every host, which has no other listeners.
    pub(super) fn on(hosts: impl Iterator<Item = Ipv4Addr>) -> Ports {
        Ports {
            nodes: hosts.map(|host| all_on(host, HOST_PORT)).collect(),
            _held: Vec::new(),
        }
    }

    /// Three more on a host, for a second process there.
    pub(super) fn beside(host: Ipv4Addr) -> Ports {
        Ports {
            nodes: vec![all_on(host, HOST_PORT + 3)],
            _held: Vec::new(),
        }
    }

    /// Those of a node.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn of(&self, node: NodeIndex) -> Addresses {
        self.nodes[node]
    }
}

/// The first of the ports of a node that has a host of its own.
const HOST_PORT: u16 = 7001;

fn all_on(host: Ipv4Addr, first: u16) -> Addresses {
    Addresses {
        client: (host, first).into(),
        peer: (host, first + 1).into(),
        metrics: (host, first + 2).into(),
    }
}

fn hold() -> std::io::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_held_port_is_for_those_who_name_it_and_refuses_until_then() {
        let ports = Ports::take(2).unwrap();
        let address = ports.of(1).peer;
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
        // Two lives of a node: each binds the same port, as the standard library and tokio do it.
        for _ in 0..2 {
            let listener = TcpListener::bind(address).unwrap();
            assert!(tokio::net::TcpStream::connect(address).await.is_ok());
            drop(listener);
        }
    }

    #[test]
    fn nobody_gets_a_port_twice() {
        let [a, b] = [Ports::take(20).unwrap(), Ports::take(20).unwrap()];
        let all = a.nodes.iter().chain(&b.nodes);
        let mut ports: Vec<u16> = all
            .flat_map(|it| [it.client, it.peer, it.metrics])
            .map(|address| address.port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 120);
    }
}
