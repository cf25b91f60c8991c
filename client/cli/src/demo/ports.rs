//! The demo's ports: fixed, so that commands can be printed and typed, and shifted by `--port-base`.
//!
//! | what | default | from the base |
//! | --- | --- | --- |
//! | demo admin | 7100 | 0 |
//! | clients, one per node | 7101.. | 1.. |
//! | metrics, one per node | 7201.. | 101.. |
//! | peers, one per node, then one per link | 7301.. | 201.. |

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};

use super::shape::{NODES_PER_REGION_MAX, REGIONS};

/// Base of the ports unless told otherwise.
pub(crate) const BASE_DEFAULT: u16 = 7100;

/// The lowest base: a port below it takes rights that a demo should not have.
const BASE_MIN: u16 = 1024;

// Every kind of port of a node has 100 numbers to itself.
const _: () = assert!(NODES_PER_REGION_MAX as usize * REGIONS.len() < 100);

const CLIENTS: u16 = 1;
const METRICS: u16 = 101;
const PEERS: u16 = 201;

/// Who listens where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ports {
    base: u16,
    nodes: u16,
    links: u16,
}

impl Ports {
    /// Ports for this many nodes (at most 99) and links, from `base` upward.
    ///
    /// # Errors
    /// When the base is below 1024 or the last port would be above 65535.
    pub(crate) fn new(base: u16, nodes: usize, links: usize) -> Result<Ports> {
        let last = usize::from(base) + usize::from(PEERS) + nodes + links - 1;
        if base < BASE_MIN || last > usize::from(u16::MAX) {
            let highest = usize::from(u16::MAX) - (last - usize::from(base));
            bail!(
                "--port-base {base} is out of bounds: choose {BASE_MIN} to {highest}; nothing was started"
            );
        }
        // Both are below 65536: their sum is.
        let (nodes, links) = (nodes as u16, links as u16);
        Ok(Ports { base, nodes, links })
    }

    /// Where `hansa admin cut` and `heal` are served.
    pub(crate) fn admin(self) -> SocketAddr {
        local(self.base)
    }

    /// Where a node serves clients.
    pub(crate) fn client(self, node: usize) -> SocketAddr {
        local(self.base + CLIENTS + node as u16)
    }

    /// Where a node serves metrics.
    pub(crate) fn metrics(self, node: usize) -> SocketAddr {
        local(self.base + METRICS + node as u16)
    }

    /// Where a node serves its peers.
    pub(crate) fn peer(self, node: usize) -> SocketAddr {
        local(self.base + PEERS + node as u16)
    }

    /// Where a link listens.
    pub(crate) fn link(self, link: usize) -> SocketAddr {
        local(self.base + PEERS + self.nodes + link as u16)
    }

    /// All of them, with what they are for.
    fn all(self) -> impl Iterator<Item = (SocketAddr, &'static str)> {
        let nodes = move || 0..usize::from(self.nodes);
        let links = 0..usize::from(self.links);
        std::iter::once((self.admin(), "the demo's admin"))
            .chain(nodes().map(move |node| (self.client(node), "clients of a node")))
            .chain(nodes().map(move |node| (self.metrics(node), "metrics of a node")))
            .chain(nodes().map(move |node| (self.peer(node), "peers of a node")))
            .chain(links.map(move |link| (self.link(link), "a link between nodes")))
    }

    /// Looks whether every port can be had, before anything is started.
    ///
    /// # Errors
    /// Names the first port that can not, and the flag that shifts them.
    pub(crate) fn check_free(self) -> Result<()> {
        for (address, what) in self.all() {
            if let Err(error) = TcpListener::bind(address) {
                let port = address.port();
                bail!(
                    "port {port} ({what}) can not be used: {error}. Is another demo running? \
                     --port-base moves all ports, for example --port-base {}",
                    if self.base < 17_100 {
                        self.base + 10_000
                    } else {
                        BASE_DEFAULT
                    }
                );
            }
        }
        Ok(())
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_default_ports_are_the_documented_ones() {
        let ports = Ports::new(BASE_DEFAULT, 3, 6).unwrap();
        assert_eq!(ports.admin().port(), 7100);
        assert_eq!(
            [0, 1, 2].map(|node| ports.client(node).port()),
            [7101, 7102, 7103]
        );
        assert_eq!(ports.metrics(0).port(), 7201);
        assert_eq!((ports.peer(0).port(), ports.link(0).port()), (7301, 7304));
    }

    #[test]
    fn no_port_is_given_twice() {
        let ports = Ports::new(9000, 15, 150).unwrap();
        let all: BTreeSet<_> = ports.all().map(|(address, _)| address).collect();
        assert_eq!(all.len(), 1 + 3 * 15 + 150);
    }

    #[test]
    fn a_base_out_of_bounds_is_refused() {
        for base in [0, 80, 1023, 65_327, 65_400] {
            let error = Ports::new(base, 3, 6).unwrap_err().to_string();
            assert!(error.contains("choose 1024 to 65326"), "{error}");
        }
        for base in [1024, 65_326] {
            assert!(Ports::new(base, 3, 6).is_ok());
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_the_flag() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        // As the admin port of a demo; the others may be free or not.
        let Ok(ports) = Ports::new(port, 3, 6) else {
            // The system gave a port too high for a base: nothing to look at.
            return;
        };
        let error = ports.check_free().unwrap_err().to_string();
        assert!(error.contains(&port.to_string()), "{error}");
        assert!(error.contains("--port-base"), "{error}");
    }
}
