//! The wires between the members of an etcd cluster: a link proxy for every ordered pair of them.
//!
//! A member of etcd advertises one address, and everybody dials that. To tell apart who dials, every member is given an
//! HTTP proxy of its own, its *door*: it asks the door for a tunnel to the advertised address (`CONNECT`), and the door
//! leads it into the link of just this pair. The advertised addresses are of a network that exists nowhere (RFC 5737),
//! so what does not go through the door goes nowhere. Go asks a proxy for a tunnel only where the other end speaks TLS;
//! that is why peers do.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hansa_linkproxy::{Direction, DirectionSettings, Link, LinkSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::nemesis::{Effect, NodeIndex, Refused, Wire};
use crate::wan::settings_for;

/// Longest request for a tunnel that a door reads, bytes. Go's has about 100.
const REQUEST_MAX: usize = 4096;
/// How long a door waits for such a request.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// The port of every advertised address.
const ADVERTISED_PORT: u16 = 2380;
/// What a door says when the tunnel is there.
const TUNNEL: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// What it says when there is none.
const NO_TUNNEL: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";

/// The address that a member advertises to its peers, `HOST:PORT`.
pub(super) fn advertised(member: NodeIndex) -> String {
    format!("192.0.2.{}:{ADVERTISED_PORT}", member + 1)
}

/// All links and doors. Dropping it ends them without waiting.
pub(super) struct Wires {
    /// By who dials and who is dialled.
    links: BTreeMap<(NodeIndex, NodeIndex), Link>,
    doors: Vec<Door>,
    /// The way from one to another without faults takes this long.
    one_way: BTreeMap<(NodeIndex, NodeIndex), Duration>,
    /// Ways that are not open, and what they are.
    faulty: BTreeMap<(NodeIndex, NodeIndex), Wire>,
}

impl Wires {
    /// Links and doors between members that listen for peers at `listen`. The round trips of pairs are given in the
    /// order (0, 1), (0, 2), (1, 2), ... and begin anew where they do not suffice; without any there is no delay.
    ///
    /// # Errors
    /// When an address can not be bound.
    pub(super) async fn start(
        listen: &[SocketAddr],
        round_trips: &[Duration],
    ) -> io::Result<Wires> {
        let one_way = one_ways(listen.len(), round_trips);
        let mut links = BTreeMap::new();
        for (&(from, to), &delay) in &one_way {
            let settings = LinkSettings::symmetric(DirectionSettings::delayed(delay));
            links.insert(
                (from, to),
                Link::start(any_port(), listen[to], settings).await?,
            );
        }
        let mut doors = Vec::new();
        for from in 0..listen.len() {
            let leads = links.iter().filter(|((dials, _), _)| *dials == from);
            let leads = leads.map(|((_, to), link)| (advertised(*to), link.local_addr()));
            doors.push(Door::open(leads.collect()).await?);
        }
        Ok(Wires {
            links,
            doors,
            one_way,
            faulty: BTreeMap::new(),
        })
    }

    /// The address of a member's door.
    pub(super) fn door(&self, member: NodeIndex) -> SocketAddr {
        self.doors[member].address
    }

    /// What one direction between two members does from now on; whether it did something else before.
    ///
    /// # Errors
    /// [`Refused`]: of what links of bytes can not do, or of a pair that does not exist.
    pub(super) fn set(
        &mut self,
        from: NodeIndex,
        to: NodeIndex,
        wire: Wire,
    ) -> Result<Effect, Refused> {
        let Some(&delay) = self.one_way.get(&(from, to)) else {
            let why = format!("there is no way from member {from} to member {to}");
            return Err(Refused::Failed(why));
        };
        self.carry(from, to, settings_for(wire, delay)?);
        let before = match wire {
            Wire::Open => self.faulty.remove(&(from, to)),
            _ => self.faulty.insert((from, to), wire),
        };
        Ok(Effect::if_changed(before.unwrap_or(Wire::Open) != wire))
    }

    /// All directions are as without faults. Whether any was not.
    pub(super) fn heal(&mut self) -> bool {
        let faulty = std::mem::take(&mut self.faulty);
        let any = !faulty.is_empty();
        for (from, to) in faulty.into_keys() {
            let delay = self.one_way.get(&(from, to)).copied().unwrap_or_default();
            self.carry(from, to, DirectionSettings::delayed(delay));
        }
        any
    }

    /// Whether any direction is not as without faults.
    pub(super) fn are_faulty(&self) -> bool {
        !self.faulty.is_empty()
    }

    fn carry(&self, from: NodeIndex, to: NodeIndex, settings: DirectionSettings) {
        // What goes this way leaves through what this one dialled, and comes back through what the other dialled.
        for (pair, direction) in [
            ((from, to), Direction::Forward),
            ((to, from), Direction::Backward),
        ] {
            if let Some(link) = self.links.get(&pair) {
                link.set(direction, settings);
            }
        }
    }

    /// Ends all links and doors; returns when their ports are free.
    pub(super) async fn stop(self) {
        for door in self.doors {
            door.close().await;
        }
        for link in self.links.into_values() {
            link.shutdown().await;
        }
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn one_ways(
    members: usize,
    round_trips: &[Duration],
) -> BTreeMap<(NodeIndex, NodeIndex), Duration> {
    let mut one_way = BTreeMap::new();
    let mut round_trips = round_trips.iter().cycle();
    for a in 0..members {
        for b in a + 1..members {
            let delay = round_trips.next().copied().unwrap_or_default() / 2;
            one_way.insert((a, b), delay);
            one_way.insert((b, a), delay);
        }
    }
    one_way
}

/// Whether links between members can be such a wire.
///
/// # Errors
/// Says what they can not do.
pub(super) fn can(wire: Wire) -> Result<(), String> {
    let settings = settings_for(wire, Duration::ZERO);
    settings.map(drop).map_err(|refused| refused.to_string())
}

/// Where one member asks for tunnels to the others.
struct Door {
    address: SocketAddr,
    keeper: JoinHandle<()>,
}

impl Door {
    async fn open(leads: BTreeMap<String, SocketAddr>) -> io::Result<Door> {
        let listener = TcpListener::bind(any_port()).await?;
        let address = listener.local_addr()?;
        let keeper = tokio::spawn(keep(listener, Arc::new(leads)));
        Ok(Door { address, keeper })
    }

    async fn close(mut self) {
        self.keeper.abort();
        // It was cancelled, or had ended: either way it is gone, and its tunnels with it.
        let _ = (&mut self.keeper).await;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(listener: TcpListener, leads: Arc<BTreeMap<String, SocketAddr>>) {
    let mut tunnels = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = tunnels.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((member, _)) => {
                    tunnels.spawn(lead(member, leads.clone()));
                }
                // Mostly a lack of file descriptors, which passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
    }
}

/// Serves one connection of a member until either end is gone. Nothing is told of its errors: to the member they are
/// what a broken connection is.
async fn lead(mut member: TcpStream, leads: Arc<BTreeMap<String, SocketAddr>>) {
    let Ok(Ok(request)) = timeout(REQUEST_WITHIN, read_request(&mut member)).await else {
        return;
    };
    let link = match asked_for(&request).and_then(|host| leads.get(host)) {
        Some(link) => TcpStream::connect(link).await,
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let Ok(mut link) = link else {
        let _ = member.write_all(NO_TUNNEL).await;
        return;
    };
    let undelayed = member.set_nodelay(true).and(link.set_nodelay(true));
    if undelayed.is_ok() && member.write_all(TUNNEL).await.is_ok() {
        let _ = copy_bidirectional(&mut member, &mut link).await;
    }
}

/// Reads up to the empty line. The member says nothing more before it is answered.
async fn read_request(member: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() >= REQUEST_MAX || member.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(request)
}

/// The `HOST:PORT` that a request wants a tunnel to.
fn asked_for(request: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(request).ok()?.lines().next()?;
    let mut words = line.split(' ');
    (words.next() == Some("CONNECT")).then(|| words.next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Duration; 3] = [
        Duration::from_millis(90),
        Duration::from_millis(150),
        Duration::from_millis(220),
    ];

    #[test]
    fn every_ordered_pair_has_half_its_round_trip() {
        let ways = one_ways(3, &ALL);
        assert_eq!(ways.len(), 6);
        assert_eq!(ways[&(0, 1)], Duration::from_millis(45));
        assert_eq!(ways[&(2, 0)], Duration::from_millis(75));
        assert_eq!(ways[&(2, 1)], Duration::from_millis(110));
        assert_eq!(one_ways(5, &ALL[..1]).len(), 20);
        assert!(one_ways(5, &[]).values().all(Duration::is_zero));
    }

    #[test]
    fn links_can_do_everything_but_send_twice() {
        for wire in [
            Wire::HalfOpen,
            Wire::Loss(1),
            Wire::Bandwidth(1),
            Wire::Delay(1),
        ] {
            assert_eq!(can(wire), Ok(()), "{wire:?}");
        }
        let why = can(Wire::Duplication(1)).unwrap_err();
        assert!(why.contains("arrive twice"), "{why}");
    }

    #[test]
    fn a_request_for_a_tunnel_names_its_end() {
        let request = b"CONNECT 192.0.2.2:2380 HTTP/1.1\r\nHost: 192.0.2.2:2380\r\n\r\n";
        assert_eq!(asked_for(request), Some(advertised(1).as_str()));
        assert_eq!(
            asked_for(b"GET http://192.0.2.2:2380/ HTTP/1.1\r\n\r\n"),
            None
        );
        assert_eq!(asked_for(b"\xff\r\n\r\n"), None);
    }

    /// A member that greets whoever comes.
    async fn greeter(name: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind(any_port()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(name).await.unwrap();
            }
        });
        address
    }

    async fn through(door: SocketAddr, to: NodeIndex) -> Vec<u8> {
        let mut stream = TcpStream::connect(door).await.unwrap();
        let request = format!("CONNECT {} HTTP/1.1\r\n\r\n", advertised(to));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let patience = Duration::from_secs(30);
        // A reset ends it like an end of file.
        let _ = timeout(patience, stream.read_to_end(&mut all))
            .await
            .unwrap();
        all
    }

    #[tokio::test]
    async fn a_door_leads_into_the_link_of_its_pair_only() {
        let listen = [greeter(b"zero").await, greeter(b"one").await];
        let mut wires = Wires::start(&listen, &[]).await.unwrap();
        assert!(through(wires.door(0), 1).await.ends_with(b"\r\n\r\none"));
        assert!(through(wires.door(1), 0).await.ends_with(b"\r\n\r\nzero"));
        assert_eq!(through(wires.door(0), 0).await, NO_TUNNEL);
        assert_eq!(wires.set(0, 1, Wire::Reset), Ok(Effect::Changed));
        assert_eq!(wires.set(0, 1, Wire::Reset), Ok(Effect::Nothing));
        assert!(!through(wires.door(0), 1).await.ends_with(b"one"));
        assert!(wires.are_faulty());
        wires.heal();
        assert!(!wires.are_faulty());
        assert!(through(wires.door(0), 1).await.ends_with(b"one"));
        assert!(matches!(
            wires.set(0, 0, Wire::Open),
            Err(Refused::Failed(_))
        ));
        wires.stop().await;
    }
}
