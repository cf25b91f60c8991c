//! What operators ask: status, topology, digests. And the links of a demo, which is no node.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hansa_consistency::clock::Hlc;
use hansa_consistency::key::{KeyspaceId, ShardId};
use hansa_consistency::replica::Standing;
use hansa_consistency::request::{Reason, Refusal};
use hansa_proto::v1;
use hansa_proto::v1::admin_server::{Admin, AdminServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::status::Failure;
use super::{Edge, transport_deadline, wire};
use crate::driver::Condition;
use crate::limits::DIGEST_WITHIN;
use crate::settings::{mixing_name, value_type_name};

/// The service `hansa.v1.Admin` of a node.
pub(super) struct NodeAdmin {
    edge: Arc<Edge>,
}

impl NodeAdmin {
    pub(super) fn new(edge: Arc<Edge>) -> NodeAdmin {
        NodeAdmin { edge }
    }

    /// The shards of a keyspace that this node holds.
    fn held(&self, keyspace: KeyspaceId) -> impl Iterator<Item = ShardId> + '_ {
        let topology = self.edge.names.topology();
        let shards = topology
            .keyspace(keyspace)
            .map_or(0, |policy| policy.shards);
        let shards = (0..shards).map(move |index| ShardId { keyspace, index });
        shards.filter(|shard| {
            let mut replicas = topology.replicas(*shard).into_values().flatten();
            replicas.any(|node| node == self.edge.node)
        })
    }

    fn status_reply(&self) -> v1::StatusReply {
        let (edge, names) = (&self.edge, &self.edge.names);
        let (status, disk) = (edge.driver.status(), edge.driver.condition());
        let answers = edge.disk_answers();
        let keyspaces = (0..).map(KeyspaceId).zip(names.keyspaces());
        v1::StatusReply {
            cluster_id: names.cluster_id().to_owned(),
            node: names.node_name(edge.node).to_owned(),
            region: names.region_name(status.region).to_owned(),
            epoch: names.epoch(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: edge.started.elapsed().as_millis() as u64,
            standing: standing(&status.standing).into(),
            levels: edge
                .levels()
                .unwrap_or_default()
                .iter()
                .map(|level| level.name().to_owned())
                .collect(),
            open_requests: status.open_requests as u64,
            peers: status.peers.iter().map(|peer| self.peer(peer)).collect(),
            start: status.start,
            server_hlc: edge.hlc().0,
            writable: status.writable && disk == Condition::Serving && answers,
            strong_available: status.strong_available,
            store_sequence: status.store_sequence,
            shards: status.shards as u64,
            entries_applied: status.entries_applied,
            entries_uncommitted: status.entries_uncommitted as u64,
            shards_refilling: status.shards_refilling as u64,
            sessions_waiting: status.sessions_waiting as u64,
            unsettled: status.unsettled as u64,
            damage: status.damage.clone().unwrap_or_default(),
            disk_trouble: match disk {
                Condition::Serving if answers => String::new(),
                Condition::Serving => "the disk does not answer".to_owned(),
                Condition::DiskFull => "the disk is full".to_owned(),
                Condition::DiskFailed(why) => why.to_string(),
            },
            incarnation: edge.opened.incarnation,
            keyspaces: keyspaces
                .map(|(id, keyspace)| v1::KeyspaceStatus {
                    keyspace: keyspace.name.clone(),
                    shards: self.held(id).count() as u32,
                })
                .collect(),
        }
    }

    fn peer(&self, peer: &hansa_consistency::replica::PeerStatus) -> v1::PeerStatus {
        let names = &self.edge.names;
        let millis = |age: Duration| age.as_nanos().div_ceil(1_000_000) as u64;
        v1::PeerStatus {
            node: names.node_name(peer.node).to_owned(),
            region: names.region_name(peer.region).to_owned(),
            reachable: peer.reachable,
            votes: peer.votes,
            lost: peer.lost,
            clock_disputed: peer.clock_disputed,
            rtt_us: peer.round_trip.map(|time| time.as_micros() as u64),
            staleness_ms: peer.staleness.map(millis),
            shards_behind: peer.shards_behind as u64,
        }
    }

    fn topology_reply(&self) -> v1::TopologyReply {
        let names = &self.edge.names;
        let node_infos = |region: usize| {
            let nodes = names.nodes().iter();
            let nodes = nodes.filter(move |node| usize::from(node.region.0) == region);
            nodes.map(|node| v1::NodeInfo {
                name: node.name.clone(),
                peer_address: node.peer_address.clone(),
                client_address: node.client_address.clone(),
            })
        };
        let regions = names.regions().iter().enumerate();
        let policies = names.topology().keyspaces.iter().zip(names.keyspaces());
        v1::TopologyReply {
            cluster_id: names.cluster_id().to_owned(),
            epoch: names.epoch(),
            digest: format!("{:032x}", names.digest()),
            regions: regions
                .map(|(at, name)| v1::RegionInfo {
                    name: name.clone(),
                    nodes: node_infos(at).collect(),
                })
                .collect(),
            keyspaces: policies
                .map(|(policy, keyspace)| v1::KeyspaceInfo {
                    name: keyspace.name.clone(),
                    r#type: value_type_name(policy.value_type).to_owned(),
                    regions: policy
                        .regions
                        .iter()
                        .map(|region| names.region_name(*region).to_owned())
                        .collect(),
                    replicas: u32::from(policy.replicas),
                    shards: u32::from(policy.shards),
                    default_level: keyspace.default_level.name().to_owned(),
                    mixing: mixing_name(policy.mixing).to_owned(),
                })
                .collect(),
        }
    }

    async fn keyspace_digest(
        &self,
        id: KeyspaceId,
        name: &str,
        with_shards: bool,
    ) -> Result<v1::KeyspaceDigest, Failure> {
        let cluster = self.edge.names.cluster();
        let (mut sum, mut shards) = (0u128, Vec::new());
        for shard in self.held(id) {
            let digest = self.edge.driver.digest(shard).await;
            let digest = digest.map_err(|refusal| Failure::of(cluster, refusal))?;
            sum = sum.wrapping_add(digest);
            if with_shards {
                shards.push(v1::ShardDigest {
                    index: u32::from(shard.index),
                    digest: format!("{digest:032x}"),
                });
            }
        }
        Ok(v1::KeyspaceDigest {
            keyspace: name.to_owned(),
            digest: format!("{sum:032x}"),
            shards,
        })
    }

    /// Digests, one request after the other and each within its deadline.
    async fn digests(
        &self,
        request: v1::DigestRequest,
        within: Option<Duration>,
    ) -> Result<v1::DigestReply, Failure> {
        let within = within.map_or(DIGEST_WITHIN, |time| wire::in_time(time).min(DIGEST_WITHIN));
        let digests = async {
            let _turn = self.edge.digest_turn.lock().await;
            self.digests_now(request).await
        };
        let digests = tokio::time::timeout(within, digests).await;
        digests.unwrap_or_else(|_| {
            let message = "all rows could not be read before the deadline: ask for one keyspace, \
                           give more time, or ask when no other digest is being computed";
            let refusal = Refusal::not_applied(Reason::DeadlineExceeded, message);
            Err(Failure::of(self.edge.names.cluster(), refusal))
        })
    }

    async fn digests_now(&self, request: v1::DigestRequest) -> Result<v1::DigestReply, Failure> {
        let names = &self.edge.names;
        if !request.keyspace.is_empty() && names.keyspace(&request.keyspace).is_none() {
            return Err(Failure::unknown_keyspace());
        }
        let mut keyspaces = Vec::new();
        for (id, keyspace) in (0..).map(KeyspaceId).zip(names.keyspaces()) {
            if request.keyspace.is_empty() || request.keyspace == keyspace.name {
                let digest = self.keyspace_digest(id, &keyspace.name, request.shards);
                keyspaces.push(digest.await?);
            }
        }
        Ok(v1::DigestReply { keyspaces })
    }
}

fn standing(standing: &Standing) -> v1::Standing {
    match standing {
        Standing::Asking { .. } => v1::Standing::Asking,
        Standing::Voting => v1::Standing::Voting,
        Standing::Lost => v1::Standing::Lost,
    }
}

#[tonic::async_trait]
impl Admin for NodeAdmin {
    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        Ok(Response::new(self.status_reply()))
    }

    async fn topology(
        &self,
        _: Request<v1::TopologyRequest>,
    ) -> Result<Response<v1::TopologyReply>, Status> {
        Ok(Response::new(self.topology_reply()))
    }

    async fn digest(
        &self,
        request: Request<v1::DigestRequest>,
    ) -> Result<Response<v1::DigestReply>, Status> {
        let within = transport_deadline(request.metadata());
        let reply = self.digests(request.into_inner(), within).await;
        reply
            .map(Response::new)
            .map_err(|failure| self.edge.refusal(failure))
    }

    async fn set_link(
        &self,
        _: Request<v1::SetLinkRequest>,
    ) -> Result<Response<v1::SetLinkReply>, Status> {
        let message = "a node does not control links: ask the address `hansa demo` prints";
        Err(self.edge.refusal(Failure::not_served(message)))
    }
}

/// A change of links, checked as far as the wire goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkChange {
    /// The region whose links are meant.
    pub region: String,
    /// Only those with this region; `None` = with all others.
    pub peer_region: Option<String>,
    /// Whether what the region receives is meant.
    pub inbound: bool,
    /// Whether what the region sends is meant.
    pub outbound: bool,
    /// Whether they are cut, or healed.
    pub cut: bool,
}

/// Somebody who controls links: `hansa demo`.
#[tonic::async_trait]
pub trait Links: Send + Sync + 'static {
    /// Makes the change and returns how many links were changed, each direction for itself.
    ///
    /// # Errors
    /// What is wrong with it and what to do: an unknown region. Nothing was changed.
    async fn set(&self, change: LinkChange) -> Result<u32, String>;
}

/// The service `hansa.v1.Admin` of a demo: links only.
struct LinkAdmin {
    links: Arc<dyn Links>,
}

/// Serves [`Links`] over gRPC, with reflection, until `shutdown` is done.
///
/// # Errors
/// The transport's, and damaged descriptors.
pub async fn serve_links(
    listener: TcpListener,
    links: Arc<dyn Links>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(hansa_proto::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    tonic::transport::Server::builder()
        .add_service(AdminServer::new(LinkAdmin { links }))
        .add_service(reflection)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
        .await?;
    Ok(())
}

fn link_change(request: v1::SetLinkRequest) -> Result<LinkChange, Failure> {
    let cut = match request.state() {
        v1::LinkState::Cut => true,
        v1::LinkState::Healed => false,
        v1::LinkState::Unspecified => {
            return Err(Failure::invalid("state", "say cut or healed"));
        }
    };
    let direction = v1::LinkDirection::try_from(request.direction)
        .map_err(|_| Failure::invalid("direction", "is none"))?;
    if request.region.is_empty() {
        return Err(Failure::invalid("region", "name a region"));
    }
    Ok(LinkChange {
        region: request.region,
        peer_region: (!request.peer_region.is_empty()).then_some(request.peer_region),
        inbound: direction != v1::LinkDirection::Outbound,
        outbound: direction != v1::LinkDirection::Inbound,
        cut,
    })
}

/// A refusal of a demo's links, which have no hybrid clock.
fn without_clock(failure: Failure) -> Status {
    failure.into_status(Hlc::ZERO)
}

fn only_links<T>() -> Result<Response<T>, Status> {
    let message = "this address controls a demo's links and is no node: ask one of the nodes";
    Err(without_clock(Failure::not_served(message)))
}

#[tonic::async_trait]
impl Admin for LinkAdmin {
    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        only_links()
    }

    async fn topology(
        &self,
        _: Request<v1::TopologyRequest>,
    ) -> Result<Response<v1::TopologyReply>, Status> {
        only_links()
    }

    async fn digest(
        &self,
        _: Request<v1::DigestRequest>,
    ) -> Result<Response<v1::DigestReply>, Status> {
        only_links()
    }

    async fn set_link(
        &self,
        request: Request<v1::SetLinkRequest>,
    ) -> Result<Response<v1::SetLinkReply>, Status> {
        let change = link_change(request.into_inner()).map_err(without_clock)?;
        let set = self.links.set(change).await;
        let links = set.map_err(|why| without_clock(Failure::invalid("region", why)))?;
        Ok(Response::new(v1::SetLinkReply { links }))
    }
}
