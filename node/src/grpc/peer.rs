//! The receiving end of the links between nodes.
//!
//! A peer that dials says hello; if it is one of ours it hears our hello, and from then on only speaks. What it
//! says goes to the driver one message after the other: while the driver has too much to do the stream is not
//! read, and flow control slows the peer down.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::{Stream, StreamExt as _, stream};
use hansa_consistency::key::NodeId;
use hansa_proto::v1::peer_server::Peer;
use hansa_proto::v1::{PeerFrame, PeerHello, peer_frame::Body};
use hansa_proto::{PEER_FORMAT_VERSION, v1};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::Edge;
use super::status::{garbled_peer, refused_peer};
use super::wire::envelope_from_wire;
use crate::limits::{HELLO_WITHIN, REFUSED_PEER_LOG_INTERVAL};
use crate::metrics::Direction;
use crate::settings::Names;

/// Why a peer is none of ours. Said to both sides.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HelloError {
    /// It speaks a newer protocol.
    #[error(
        "the peer protocol has version {theirs}, this node speaks up to {ours}: upgrade this node first"
    )]
    NewerFormat {
        /// Its version.
        theirs: u32,
        /// This build's.
        ours: u32,
    },
    /// It belongs to another cluster.
    #[error("the peer belongs to cluster `{theirs}`, this node to `{ours}`: check the addresses")]
    OtherCluster {
        /// Its cluster.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// It runs with another topology.
    #[error(
        "the peer's topology (epoch {theirs}) is not this node's (epoch {ours}): give all nodes the same file"
    )]
    OtherTopology {
        /// Its epoch.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// The topology does not know it, or has it elsewhere.
    #[error("the topology names no node `{node}` in region `{region}`")]
    UnknownNode {
        /// The name it gave.
        node: String,
        /// The region it gave.
        region: String,
    },
    /// It claims to be this node.
    #[error(
        "the peer says it is `{0}`, which is this node: two nodes run under one name, or one dials itself"
    )]
    Ourselves(String),
}

/// Which node says this hello to node `me`.
///
/// # Errors
/// [`HelloError`] when it is none of ours.
pub fn check_hello(names: &Names, me: NodeId, hello: &PeerHello) -> Result<NodeId, HelloError> {
    if hello.format_version > PEER_FORMAT_VERSION || hello.format_version == 0 {
        return Err(HelloError::NewerFormat {
            theirs: hello.format_version,
            ours: PEER_FORMAT_VERSION,
        });
    }
    if hello.cluster_id != names.cluster_id() {
        return Err(HelloError::OtherCluster {
            theirs: hello.cluster_id.clone(),
            ours: names.cluster_id().to_owned(),
        });
    }
    if hello.topology_digest[..] != names.digest().to_be_bytes() {
        return Err(HelloError::OtherTopology {
            theirs: hello.topology_epoch,
            ours: names.epoch(),
        });
    }
    let region = |node: NodeId| names.node_names(node).map(|node| node.region);
    let claimed = names.region(&hello.region);
    match names.node(&hello.node) {
        Some(node) if node == me => Err(HelloError::Ourselves(hello.node.clone())),
        Some(node) if region(node) == claimed => Ok(node),
        _ => Err(HelloError::UnknownNode {
            node: hello.node.clone(),
            region: hello.region.clone(),
        }),
    }
}

/// Which refusals are logged: a refused peer dials again every few seconds, for as long as its file differs.
///
/// One place for each node of the topology, and one for all others: names are what strangers chose.
#[derive(Debug, Default)]
struct Refusals {
    places: Mutex<BTreeMap<Option<NodeId>, Refused>>,
}

#[derive(Debug)]
struct Refused {
    logged: Instant,
    /// Since then.
    unlogged: u64,
}

impl Refusals {
    /// Counts a refusal at `now`. `Some` when it is to be logged: how many went before it unlogged.
    fn refused(&self, peer: Option<NodeId>, now: Instant) -> Option<u64> {
        let mut places = self.lock();
        let Some(place) = places.get_mut(&peer) else {
            let (logged, unlogged) = (now, 0);
            places.insert(peer, Refused { logged, unlogged });
            return Some(0);
        };
        if now.saturating_duration_since(place.logged) < REFUSED_PEER_LOG_INTERVAL {
            place.unlogged += 1;
            return None;
        }
        place.logged = now;
        Some(std::mem::take(&mut place.unlogged))
    }

    /// A link stands: the next refusal of this peer is news.
    fn accepted(&self, peer: NodeId) {
        self.lock().remove(&Some(peer));
    }

    /// A panic elsewhere leaves whole counts.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<NodeId>, Refused>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service `hansa.v1.Peer`.
pub(super) struct PeerService {
    edge: Arc<Edge>,
    greeting: PeerHello,
    refusals: Refusals,
}

impl PeerService {
    pub(super) fn new(edge: Arc<Edge>, greeting: PeerHello) -> PeerService {
        PeerService {
            edge,
            greeting,
            refusals: Refusals::default(),
        }
    }

    /// Refuses a peer that is none of ours, and logs that now and then.
    fn refuse(&self, hello: &PeerHello, error: &HelloError) -> Status {
        let peer = self.edge.names.node(&hello.node);
        if let Some(unlogged) = self.refusals.refused(peer, Instant::now()) {
            tracing::warn!(peer = hello.node, why = %error, unlogged, "refused a peer's link");
        }
        refused_peer(error.to_string())
    }
}

/// One accepted link.
struct Inbound {
    edge: Arc<Edge>,
    peer: NodeId,
    frames: Streaming<PeerFrame>,
}

impl Inbound {
    /// Hands messages to the driver until the link ends; why it ended, if the peer shall know.
    async fn drain(mut self) -> Option<Status> {
        loop {
            let frame = match self.frames.message().await {
                Ok(Some(frame)) => frame,
                // The peer closed it, or is gone.
                Ok(None) | Err(_) => return None,
            };
            match frame.body {
                Some(Body::Envelope(envelope)) => {
                    if let Err(status) = self.receive(envelope).await {
                        let peer = self.edge.names.node_name(self.peer);
                        tracing::warn!(peer, why = status.message(), "ended a peer's link");
                        return Some(status);
                    }
                }
                // A frame of a later version.
                Some(Body::Hello(_)) | None => {}
            }
        }
    }

    async fn receive(&self, envelope: v1::Envelope) -> Result<(), Status> {
        let bytes = envelope.encoded_len();
        let envelope =
            envelope_from_wire(envelope).map_err(|error| garbled_peer(error.to_string()))?;
        if envelope.from != self.peer {
            return Err(garbled_peer("a message in another node's name"));
        }
        let kind = envelope.message.name();
        let metrics = &self.edge.metrics;
        metrics.message(self.peer, Direction::Received, kind, bytes);
        self.edge.driver.received(envelope, bytes).await;
        Ok(())
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<PeerFrame, Status>> + Send>>;

    async fn link(
        &self,
        request: Request<Streaming<PeerFrame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut frames = request.into_inner();
        let first = tokio::time::timeout(HELLO_WITHIN, frames.message()).await;
        let first = first.map_err(|_| refused_peer("no hello in time"))??;
        let Some(Body::Hello(hello)) = first.and_then(|frame| frame.body) else {
            return Err(refused_peer("the first frame is no hello"));
        };
        let (names, me) = (&self.edge.names, self.edge.node);
        let peer = check_hello(names, me, &hello).map_err(|error| self.refuse(&hello, &error))?;
        self.refusals.accepted(peer);
        tracing::info!(
            peer = hello.node,
            start = hello.start,
            "a peer's link stands"
        );
        let greeting = PeerFrame {
            body: Some(Body::Hello(self.greeting.clone())),
        };
        let inbound = Inbound {
            edge: Arc::clone(&self.edge),
            peer,
            frames,
        };
        // The stream of our frames drives the reading of theirs: no task, and both end together.
        let rest = stream::once(inbound.drain()).filter_map(|end| async move { end.map(Err) });
        let link = stream::once(async move { Ok(greeting) }).chain(rest);
        Ok(Response::new(Box::pin(link)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_refused_again_and_again_is_logged_at_first_and_then_with_a_count() {
        let (refusals, begun) = (Refusals::default(), Instant::now());
        let (one, other) = (Some(NodeId(1)), Some(NodeId(2)));
        let later = begun + REFUSED_PEER_LOG_INTERVAL;
        assert_eq!(refusals.refused(one, begun), Some(0));
        for _ in 0..30 {
            assert_eq!(refusals.refused(one, begun), None);
        }
        assert_eq!(refusals.refused(other, begun), Some(0));
        assert_eq!(refusals.refused(None, begun), Some(0));
        assert_eq!(refusals.refused(one, later), Some(30));
        assert_eq!(refusals.refused(one, later), None);
        refusals.accepted(NodeId(1));
        assert_eq!(refusals.refused(one, later), Some(0));
    }
}
