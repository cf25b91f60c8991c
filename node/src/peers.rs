//! The links to the other nodes: one outgoing stream each.
//!
//! A node dials every peer and says everything on the streams it opened itself; what a peer says comes in on the
//! stream that peer opened (`grpc`'s side). So a cut in one direction stops one stream and not the other. A link
//! that breaks is dialled again after a jittered pause that doubles up to
//! [`RECONNECT_PAUSE_MAX`](crate::limits::RECONNECT_PAUSE_MAX).
//!
//! A link carries what fits its outbox and drops the rest, counted: the core tolerates loss.

mod link;
mod outbox;

use std::collections::BTreeMap;
use std::sync::Arc;

use hansa_consistency::key::NodeId;
use hansa_consistency::message::Envelope;
use hansa_consistency::replica::Opened;
use hansa_proto::PEER_FORMAT_VERSION;
use hansa_proto::v1::{PeerFrame, PeerHello, peer_frame};
use prost::Message as _;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use self::link::Link;
use self::outbox::{Outbox, Parcel};
use crate::driver::{DriverHandle, Outbound};
use crate::grpc::wire::envelope_to_wire;
use crate::metrics::{Direction, Metrics};
use crate::settings::{Names, Settings};

/// What this node says first on every link.
pub fn greeting(names: &Names, me: NodeId, opened: Opened) -> PeerHello {
    let region = names.node_names(me).map(|node| node.region);
    PeerHello {
        format_version: PEER_FORMAT_VERSION,
        cluster_id: names.cluster_id().to_owned(),
        topology_epoch: names.epoch(),
        topology_digest: names.digest().to_be_bytes().to_vec().into(),
        node: names.node_name(me).to_owned(),
        region: region
            .map_or("?", |region| names.region_name(region))
            .to_owned(),
        start: opened.start,
        incarnation: opened.incarnation,
        build_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The outboxes of all peers: what the driver sends into.
pub struct Outboxes {
    me: NodeId,
    boxes: BTreeMap<NodeId, Arc<Outbox>>,
    metrics: Arc<Metrics>,
}

impl Outboxes {
    /// One for each node of the topology but `me`, all closed.
    pub fn new(names: &Names, me: NodeId, metrics: Arc<Metrics>) -> Arc<Outboxes> {
        let nodes = (0..).map(NodeId).take(names.nodes().len());
        Arc::new(Outboxes {
            me,
            boxes: nodes
                .filter(|node| *node != me)
                .map(|node| (node, Arc::default()))
                .collect(),
            metrics,
        })
    }
}

impl Outbound for Outboxes {
    fn send(&self, to: NodeId, envelope: Envelope) {
        let Some(outbox) = self.boxes.get(&to) else {
            return;
        };
        let kind = envelope.message.name();
        let dropped = |bytes| self.metrics.message(to, Direction::Dropped, kind, bytes);
        // Nothing is encoded for a peer that is away.
        if !outbox.is_open() {
            return dropped(0);
        }
        let envelope = envelope_to_wire(envelope);
        let bytes = envelope.encoded_len();
        let frame = PeerFrame {
            body: Some(peer_frame::Body::Envelope(envelope)),
        };
        if !outbox.push(Parcel { frame, kind, bytes }) {
            dropped(bytes);
        }
    }
}

/// The running links. Dropped, they end at once.
pub struct Peers {
    links: JoinSet<()>,
    outboxes: Arc<Outboxes>,
}

impl Peers {
    /// Starts to dial every peer on `runtime`, and tells `driver` when a link stands or broke.
    pub fn start(
        runtime: &Handle,
        settings: &Settings,
        names: &Arc<Names>,
        outboxes: Arc<Outboxes>,
        driver: &DriverHandle,
        greeting: &PeerHello,
    ) -> Peers {
        let mut links = JoinSet::new();
        for (peer, outbox) in &outboxes.boxes {
            let Some(node) = names.node_names(*peer) else {
                continue;
            };
            let dialled = settings.dial.get(&node.name);
            let link = Link {
                me: outboxes.me,
                peer: *peer,
                address: dialled.unwrap_or(&node.peer_address).clone(),
                names: Arc::clone(names),
                greeting: greeting.clone(),
                outbox: Arc::clone(outbox),
                driver: driver.clone(),
                metrics: Arc::clone(&outboxes.metrics),
            };
            links.spawn_on(link.run(), runtime);
        }
        Peers { links, outboxes }
    }

    /// Breaks all links and returns when none is left.
    pub async fn stop(mut self) {
        for outbox in self.outboxes.boxes.values() {
            outbox.close();
        }
        self.links.shutdown().await;
    }
}
