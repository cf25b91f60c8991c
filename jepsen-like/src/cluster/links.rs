//! The network between the nodes: one proxied TCP link for every ordered pair of them.
//!
//! A node dials each of its peers itself, so a pair has two connections, one dialled by each. What one direction
//! between two nodes is to do is done on both: to the forward direction of the link that the sender dials, and to the
//! backward direction of the one that the receiver dials.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use hansa_linkproxy::{Direction, DirectionSettings, Link, LinkSettings};

use super::ports::Ports;
use super::spec::Spec;
use crate::nemesis::{NodeIndex, Refused, Wire};
use crate::wan::settings_for;

/// A link and what it does without faults.
struct Running {
    link: Link,
    healthy: DirectionSettings,
}

/// All links. Dropping them stops them.
pub(super) struct Links {
    nodes: usize,
    /// By dialling node, then by dialled one, without the node itself.
    links: Vec<Running>,
}

impl Links {
    /// Starts every link on a free port. The nodes need not be up.
    ///
    /// # Errors
    /// When the system has no port left.
    pub(super) async fn start(spec: &Spec, ports: &Ports) -> Result<Links> {
        let layout = spec.layout;
        let nodes = layout.nodes();
        let mut links = Vec::with_capacity(nodes * (nodes - 1));
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                let (a, b) = (layout.region_of(from), layout.region_of(to));
                let healthy = DirectionSettings::delayed(spec.round_trip(a, b) / 2);
                let settings = LinkSettings::symmetric(healthy);
                let listen = (Ipv4Addr::LOCALHOST, 0).into();
                let link = Link::start(listen, ports.of(to).peer, settings).await;
                let link = link.context("no link between two nodes could be made")?;
                links.push(Running { link, healthy });
            }
        }
        Ok(Links { nodes, links })
    }

    /// Where a node dials another one.
    pub(super) fn dial(&self, from: NodeIndex, to: NodeIndex) -> SocketAddr {
        self.link(from, to).link.local_addr()
    }

    /// Changes what becomes of the bytes from one node to another one, on both connections. From a node to itself
    /// there is no wire: nothing happens then.
    ///
    /// # Errors
    /// [`Refused::NotHere`] for what a proxy of streams can not do.
    pub(super) fn set(&self, from: NodeIndex, to: NodeIndex, wire: Wire) -> Result<(), Refused> {
        if from == to {
            return Ok(());
        }
        let dialled = [
            (self.link(from, to), Direction::Forward),
            (self.link(to, from), Direction::Backward),
        ];
        for (running, direction) in dialled {
            let settings = settings_for(wire, running.healthy.delay)?;
            running.link.set(direction, settings);
        }
        Ok(())
    }

    /// Everything is as without faults.
    pub(super) fn heal(&self) {
        for running in &self.links {
            for direction in [Direction::Forward, Direction::Backward] {
                running.link.set(direction, running.healthy);
            }
        }
    }

    /// Ends all links and frees their ports.
    pub(super) async fn shutdown(self) {
        for running in self.links {
            running.link.shutdown().await;
        }
    }

    fn link(&self, from: NodeIndex, to: NodeIndex) -> &Running {
        // A node has no link to itself: those behind it move up by one.
        let at = from * (self.nodes - 1) + to - usize::from(to > from);
        &self.links[at]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hansa_linkproxy::Cut;

    use super::*;
    use crate::nemesis::Layout;

    async fn start(nodes_per_region: usize) -> Links {
        let layout = Layout {
            regions: 2,
            nodes_per_region,
        };
        let ports = Ports::take(layout.nodes()).unwrap();
        Links::start(&Spec::new(layout), &ports).await.unwrap()
    }

    fn settings(links: &Links, from: usize, to: usize) -> [DirectionSettings; 2] {
        let settings = links.link(from, to).link.settings();
        [settings.forward, settings.backward]
    }

    #[tokio::test]
    async fn one_direction_is_cut_on_both_connections_and_nothing_else_is() {
        let links = start(2).await;
        links.set(0, 3, Wire::Blackhole).unwrap();
        for from in 0..4 {
            for to in (0..4).filter(|to| *to != from) {
                let wanted = match (from, to) {
                    (0, 3) => [Cut::Blackhole, Cut::Open],
                    (3, 0) => [Cut::Open, Cut::Blackhole],
                    _ => [Cut::Open, Cut::Open],
                };
                let cuts = settings(&links, from, to).map(|it| it.cut);
                assert_eq!(cuts, wanted, "{from} to {to}");
            }
        }
        links.heal();
        assert_eq!(settings(&links, 0, 3), settings(&links, 1, 2));
        links.shutdown().await;
    }

    #[tokio::test]
    async fn faults_come_on_top_of_the_way_and_go_without_a_trace() {
        let links = start(2).await;
        let ms = Duration::from_millis;
        assert_eq!(settings(&links, 0, 1)[0].delay, ms(0), "one region");
        links.set(1, 2, Wire::Delay(100)).unwrap();
        assert_eq!(settings(&links, 1, 2)[0].delay, ms(145));
        links.set(1, 2, Wire::Jitter(30)).unwrap();
        let now = settings(&links, 1, 2)[0];
        assert_eq!((now.delay, now.jitter), (ms(45), ms(30)));
        links.set(1, 2, Wire::Loss(300)).unwrap();
        assert_eq!(settings(&links, 1, 2)[0].loss, 30, "for each read a tenth");
        links.set(1, 2, Wire::Open).unwrap();
        assert_eq!(settings(&links, 1, 2), settings(&links, 2, 1));
        assert_eq!(links.set(1, 1, Wire::Blackhole), Ok(()), "no wire");
        let refused = links.set(1, 2, Wire::Duplication(5)).unwrap_err();
        assert!(matches!(refused, Refused::NotHere(_)), "{refused}");
        links.shutdown().await;
    }
}
