//! What operators ask one node: status, topology, digests; and a demo's links.

use std::time::Duration;

use hansa_proto::v1;
use hansa_proto::v1::admin_client::AdminClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub use hansa_proto::v1::{
    DigestReply, KeyspaceDigest, KeyspaceInfo, KeyspaceStatus, LinkDirection, LinkState, NodeInfo,
    PeerStatus, RegionInfo, ShardDigest, Standing, StatusReply, TopologyReply,
};

use crate::endpoint::channel;
use crate::error::{Applied, Error, ErrorKind, with_sources};

/// A connection to one node's `Admin` service. The replies are the wire's own messages: see
/// `admin.proto` for units and bounds.
#[derive(Clone, Debug)]
pub struct Admin {
    url: String,
    client: AdminClient<Channel>,
    time: Duration,
}

impl Admin {
    /// Connects to `http://host:port`. Connecting and every call end after `time`. Nothing is
    /// repeated.
    ///
    /// # Errors
    /// When the address is none, or nobody answers there.
    pub async fn connect(url: &str, time: Duration) -> Result<Admin, Error> {
        let connecting = channel(url, time)?;
        let failed = |why: &str| Error::unreachable(format!("{url}: {why}")).at(url, 1);
        let connection = timeout(time, connecting.connect())
            .await
            .map_err(|_| failed("no answer in time"))?
            .map_err(|error| failed(&with_sources(&error)))?;
        Ok(Admin {
            url: url.to_owned(),
            client: AdminClient::new(connection),
            time,
        })
    }

    /// How the node sees itself and its peers.
    ///
    /// # Errors
    /// When no answer comes in time.
    pub async fn status(&self) -> Result<StatusReply, Error> {
        let mut client = self.client.clone();
        self.bounded(client.status(v1::StatusRequest {}), Applied::No)
            .await
    }

    /// The topology the node runs with.
    ///
    /// # Errors
    /// When no answer comes in time.
    pub async fn topology(&self) -> Result<TopologyReply, Error> {
        let mut client = self.client.clone();
        self.bounded(client.topology(v1::TopologyRequest {}), Applied::No)
            .await
    }

    /// Digests of what the node holds, of one keyspace or, with an empty name, of all; with
    /// `shards` of each shard, too. Reads all rows there.
    ///
    /// # Errors
    /// When the keyspace is unknown or no answer comes in time.
    pub async fn digest(&self, keyspace: &str, shards: bool) -> Result<DigestReply, Error> {
        let mut client = self.client.clone();
        let request = v1::DigestRequest {
            keyspace: keyspace.to_owned(),
            shards,
        };
        self.bounded(client.digest(request), Applied::No).await
    }

    /// Cuts or heals all links of a region, and says how many links were changed. Served by
    /// `hansa demo` only.
    ///
    /// # Errors
    /// When the region is unknown, this is no demo (`NOT_AVAILABLE`), or no answer comes in time: the
    /// links may be cut or healed then.
    pub async fn set_link(
        &self,
        region: &str,
        state: LinkState,
        direction: LinkDirection,
    ) -> Result<u32, Error> {
        let mut client = self.client.clone();
        let request = v1::SetLinkRequest {
            region: region.to_owned(),
            state: state.into(),
            direction: direction.into(),
            peer_region: String::new(),
        };
        let reply = self
            .bounded(client.set_link(request), Applied::Maybe)
            .await?;
        Ok(reply.links)
    }

    /// One unary call that surely ends. `lost` is what an unanswered one may have applied.
    async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
        lost: Applied,
    ) -> Result<T, Error> {
        let failed = |status: Status| {
            let applied = match status.code() {
                Code::Unknown | Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
                    lost
                }
                _ => Applied::No,
            };
            let code = u32::try_from(i32::from(status.code())).unwrap_or(2);
            let kind = ErrorKind::of_code(code, applied);
            let reason = match status.code() {
                Code::Unimplemented => "NOT_AVAILABLE".to_owned(),
                code => format!("{code:?}").to_uppercase(),
            };
            Error::new(kind, applied, reason, status.message()).at(&self.url, 1)
        };
        match timeout(self.time, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(failed(status)),
            Err(_) => Err(failed(Status::deadline_exceeded("no answer in time"))),
        }
    }
}
