//! What operators ask one node: status, topology, digests; and a demo's links.

use std::time::Duration;

use hansa_proto::v1;
use hansa_proto::v1::admin_client::AdminClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub use hansa_proto::v1::{
    DigestReply, KeyspaceDigest, KeyspaceInfo, KeyspaceStatus, LinkDirection, LinkState, NodeInfo,
    PeerStatus, RegionInfo, ShardDigest, Standing, StatusReply, TopologyReply,
};

use crate::endpoint::channel;
use crate::error::{Applied, Error, ErrorKind, what_came_first, with_sources};

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
    /// When the region is unknown, this is no demo (`NOT_SERVED`), or no answer comes in time: the
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
        let answer = match timeout(self.time, call).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::deadline_exceeded("no answer in time")),
        };
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| refusal(&self.url, &status, lost).at(&self.url, 1))
    }
}

/// The error of a status: as its details say, else by its code alone, with a reason of the SDK's own.
/// `lost` is what a call may have applied that no node answered.
fn refusal(url: &str, status: &Status, lost: Applied) -> Error {
    let code = u32::try_from(i32::from(status.code())).unwrap_or(2);
    if let Some(info) = status.get_details_error_info() {
        let applied = match info.metadata.get("applied").map(String::as_str) {
            Some("NO") => Applied::No,
            // What a node does not rule out may have been.
            _ => lost,
        };
        let retry = status.get_details_retry_info();
        let kind = ErrorKind::of_refusal(code, &info.reason, applied);
        let field = info.metadata.get("field").cloned();
        return Error::new(kind, applied, info.reason, status.message())
            .with_field(field.unwrap_or_default())
            .with_retry_after(retry.and_then(|info| info.retry_delay));
    }
    let (reason, applied) = match status.code() {
        Code::Unimplemented => ("NOT_SERVED", Applied::No),
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::OutOfRange => {
            ("INVALID", Applied::No)
        }
        Code::ResourceExhausted => ("OVERLOADED", Applied::No),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", lost),
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal => {
            ("CONNECTION_BROKEN", lost)
        }
        _ => ("BAD_REPLY", lost),
    };
    let kind = match reason {
        // A transport says INTERNAL of a peer that speaks something else: no defect of a node.
        "CONNECTION_BROKEN" => ErrorKind::of_code(Code::Unavailable as u32, applied),
        _ => ErrorKind::of_code(code, applied),
    };
    Error::new(
        kind,
        applied,
        reason,
        format!("{url}: {}", what_came_first(status)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_keeps_the_reason_of_its_details() {
        let metadata = HashMap::from([("applied".to_owned(), "NO".to_owned())]);
        let details = ErrorDetails::with_error_info("INVALID", "hansa", metadata);
        let status = Status::with_error_details(Code::InvalidArgument, "region: no", details);
        let error = refusal("http://n", &status, Applied::Maybe);
        assert_eq!((error.reason(), error.message()), ("INVALID", "region: no"));
        assert_eq!(
            (error.kind(), error.applied()),
            (ErrorKind::Invalid, Applied::No)
        );
    }

    #[test]
    fn a_status_without_details_gets_a_documented_reason_and_says_what_came() {
        for (status, reason, applied) in [
            (Status::unimplemented(""), "NOT_SERVED", Applied::No),
            (Status::invalid_argument("x"), "INVALID", Applied::No),
            (
                Status::deadline_exceeded(""),
                "DEADLINE_EXCEEDED",
                Applied::Maybe,
            ),
            (
                Status::unavailable("gone"),
                "CONNECTION_BROKEN",
                Applied::Maybe,
            ),
            (Status::internal("h2"), "CONNECTION_BROKEN", Applied::Maybe),
            (Status::permission_denied("no"), "BAD_REPLY", Applied::Maybe),
        ] {
            let error = refusal("http://n", &status, Applied::Maybe);
            assert_eq!((error.reason(), error.applied()), (reason, applied));
            assert!(error.message().len() > "http://n: ".len(), "{error}");
        }
    }
}
