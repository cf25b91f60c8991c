//! The WAN of the demo: one proxied TCP link for every ordered pair of nodes in different regions.
//!
//! A node dials each of its peers itself, so a pair of nodes has two connections, one dialled by
//! each, and each gets a link of its own. Every link delays both directions by half the round trip.
//! Nodes of one region talk without a proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansa_linkproxy::{Cut, Direction, DirectionSettings, Link, LinkSettings};

use super::ports::Ports;
use super::shape::{REGIONS, Shape};

/// A link as planned: who dials whom through it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Planned {
    /// The node that dials.
    pub(crate) from: usize,
    /// The node that is dialled.
    pub(crate) to: usize,
    /// Where the proxy listens: what `from` dials.
    pub(crate) listen: SocketAddr,
    /// Where `to` listens for peers.
    pub(crate) target: SocketAddr,
    /// Delay of each direction.
    pub(crate) one_way: Duration,
}

/// How many links a cluster of this shape needs.
pub(crate) fn count(shape: &Shape) -> usize {
    pairs(shape).count()
}

/// The ordered pairs of nodes that lie in different regions.
fn pairs(shape: &Shape) -> impl Iterator<Item = (usize, usize)> {
    let nodes = shape.nodes();
    let all = (0..nodes).flat_map(move |from| (0..nodes).map(move |to| (from, to)));
    all.filter(|(from, to)| shape.region_of(*from) != shape.region_of(*to))
}

/// Every link, in the order of its ports.
pub(crate) fn plan(shape: &Shape, ports: Ports) -> Vec<Planned> {
    let planned = |(link, (from, to))| Planned {
        from,
        to,
        listen: ports.link(link),
        target: ports.peer(to),
        one_way: shape.round_trip(shape.region_of(from), shape.region_of(to)) / 2,
    };
    pairs(shape).enumerate().map(planned).collect()
}

/// Which way, seen from the region that is cut or healed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// Both.
    Both,
    /// What the region receives.
    Inbound,
    /// What the region sends.
    Outbound,
}

/// What is cut. Every cut remembers the region it was made for, so that healing one region leaves
/// what another region was cut for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Cuts {
    /// (region it was made for, sending region, receiving region).
    made: BTreeSet<(usize, usize, usize)>,
}

impl Cuts {
    fn change(&mut self, region: usize, peer: Option<usize>, way: Way, cut: bool) {
        let peers = (0..REGIONS.len()).filter(|other| *other != region);
        for other in peers.filter(|other| peer.is_none_or(|peer| peer == *other)) {
            let inbound = (way != Way::Outbound).then_some((region, other, region));
            let outbound = (way != Way::Inbound).then_some((region, region, other));
            for path in inbound.into_iter().chain(outbound) {
                if cut {
                    self.made.insert(path);
                } else {
                    self.made.remove(&path);
                }
            }
        }
    }

    /// Whether nothing gets from one region to another.
    fn covers(&self, from: usize, to: usize) -> bool {
        self.made.iter().any(|(_, a, b)| (*a, *b) == (from, to))
    }

    /// What a link of two regions is to do, forward and backward.
    fn of(&self, from: usize, to: usize) -> [Cut; 2] {
        [(from, to), (to, from)].map(|(from, to)| match self.covers(from, to) {
            true => Cut::Blackhole,
            false => Cut::Open,
        })
    }
}

struct Running {
    planned: Planned,
    from: usize,
    to: usize,
    link: Link,
}

/// All links, running. Dropping them stops them.
pub(crate) struct Links {
    links: Vec<Running>,
    cuts: Mutex<Cuts>,
}

impl Links {
    /// Starts every link. The nodes need not be up.
    ///
    /// # Errors
    /// When a port can not be had.
    pub(crate) async fn start(shape: &Shape, plan: &[Planned]) -> Result<Links> {
        let mut links = Vec::with_capacity(plan.len());
        for planned in plan {
            let both = DirectionSettings::delayed(planned.one_way);
            let settings = LinkSettings::symmetric(both);
            let link = Link::start(planned.listen, planned.target, settings)
                .await
                .with_context(|| {
                    format!("no link on {}: --port-base moves all ports", planned.listen)
                })?;
            links.push(Running {
                planned: *planned,
                from: shape.region_of(planned.from),
                to: shape.region_of(planned.to),
                link,
            });
        }
        Ok(Links {
            links,
            cuts: Mutex::default(),
        })
    }

    /// Cuts (`cut`) or heals the links of a region, all or those with one other region. Returns how
    /// many directions of links changed. A cut is a black hole: connections stay up, nothing passes,
    /// and what is held passes after the heal.
    pub(crate) fn set(&self, region: usize, peer: Option<usize>, way: Way, cut: bool) -> u32 {
        // The lock is held to the end: of two changes at once, the second has the last word.
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.change(region, peer, way, cut);
        let mut changed = 0;
        for running in &self.links {
            let wanted = cuts.of(running.from, running.to);
            for (direction, cut) in [Direction::Forward, Direction::Backward]
                .into_iter()
                .zip(wanted)
            {
                let settings = running.link.settings().direction(direction);
                if settings.cut != cut {
                    running
                        .link
                        .set(direction, DirectionSettings { cut, ..settings });
                    changed += 1;
                }
            }
        }
        changed
    }

    /// Bytes taken from both ends of all links since their start, by pair of nodes (lower number first).
    pub(crate) fn bytes_by_pair(&self) -> BTreeMap<(usize, usize), u64> {
        let mut pairs = BTreeMap::new();
        for Running { planned, link, .. } in &self.links {
            let (from, to) = (planned.from, planned.to);
            let counters = link.counters();
            let bytes = counters.forward.bytes_in + counters.backward.bytes_in;
            *pairs.entry((from.min(to), from.max(to))).or_default() += bytes;
        }
        pairs
    }

    /// What is cut now, for people: `ap-northeast`, or `us-east (inbound)` when only some of its
    /// directions are. Empty when all is open.
    pub(crate) fn cut_now(&self) -> Vec<String> {
        let cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        describe(&cuts)
    }

    /// Ends all links and frees their ports.
    pub(crate) async fn shutdown(self) {
        for running in self.links {
            running.link.shutdown().await;
        }
    }
}

fn describe(cuts: &Cuts) -> Vec<String> {
    let mut by_region: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (region, _, to) in &cuts.made {
        let (inbound, outbound) = by_region.entry(*region).or_default();
        *(if to == region { inbound } else { outbound }) += 1;
    }
    let all = REGIONS.len() - 1;
    let word = |(inbound, outbound)| match (inbound, outbound) {
        _ if inbound == all && outbound == all => "",
        (_, 0) => " (inbound)",
        (0, _) => " (outbound)",
        _ => " (in part)",
    };
    let text = |(region, counts)| format!("{}{}", REGIONS[region], word(counts));
    by_region.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests;
