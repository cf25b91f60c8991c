//! What a node serves over gRPC: thin handlers that decode, check bounds, ask the driver and encode.
//!
//! | file | what |
//! | --- | --- |
//! | `kv` | reads and writes, unary |
//! | `scan` | pages of rows, of a key or of a whole keyspace |
//! | `pipe` | all of that over one stream |
//! | `admin` | status, topology, digests; a demo's links |
//! | `peer` | the receiving end of the links between nodes |
//! | `health` | which levels can be served now |
//! | `wire` | wire messages and core types, both ways |
//! | `status` | refusals; the only file that names gRPC codes |

pub mod admin;
pub mod health;
mod kv;
pub mod peer;
mod pipe;
mod scan;
pub mod status;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::middleware::map_response_with_state;
use axum::response::Response;
use hansa_consistency::clock::Hlc;
use hansa_consistency::key::NodeId;
use hansa_consistency::replica::Opened;
use hansa_consistency::request::{Applied, Reply, Request};
use hansa_proto::v1;
use hansa_proto::v1::admin_server::AdminServer;
use hansa_proto::v1::kv_server::KvServer;
use hansa_proto::v1::peer_server::PeerServer;
use tonic::Status;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use self::health::Pulse;
use self::status::Failure;
use crate::driver::DriverHandle;
use crate::limits::{DEADLINE_GRACE, MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::metrics::Metrics;
use crate::settings::Names;

/// What the services of one node share.
pub struct Edge {
    names: Arc<Names>,
    node: NodeId,
    opened: Opened,
    driver: DriverHandle,
    metrics: Arc<Metrics>,
    started: Instant,
    pulse: Pulse,
    /// Set when the node is about to stop.
    stopping: AtomicBool,
    /// Of the unary batches; a `Pipe` has its own.
    batch_room: kv::BatchRoom,
    /// Held by the digest that is being computed.
    digest_turn: tokio::sync::Mutex<()>,
}

impl Edge {
    /// The edge of node `node`, which was opened as `opened` says.
    pub fn new(
        names: Arc<Names>,
        node: NodeId,
        opened: Opened,
        driver: DriverHandle,
        metrics: Arc<Metrics>,
    ) -> Arc<Edge> {
        let pulse = Pulse::new(driver.status(), Instant::now());
        Arc::new(Edge {
            names,
            node,
            opened,
            driver,
            metrics,
            started: Instant::now(),
            pulse,
            stopping: AtomicBool::new(false),
            batch_room: kv::BatchRoom::default(),
            digest_turn: tokio::sync::Mutex::default(),
        })
    }

    /// Asks the driver, and ends at the request's deadline even when the driver does not.
    async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        let late = match request.command.is_read() {
            true => Applied::No,
            false => Applied::Maybe,
        };
        let left = request.deadline.saturating_sub(self.driver.now().monotonic);
        let answer = self.driver.request(request);
        match tokio::time::timeout(left + DEADLINE_GRACE, answer).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(refusal)) => Err(Failure::of(self.names.cluster(), refusal)),
            Err(_) => Err(Failure::late(late)),
        }
    }

    /// A value of this node's hybrid clock that a client may name later. The published one is a little old,
    /// and zero before the first event: the wall clock is what the hybrid clock would read now.
    fn hlc(&self) -> Hlc {
        let wall = Hlc::from_ms(self.driver.now().wall_ms);
        self.driver.status().hlc.max(wall)
    }

    /// A failure as a unary call says it, with this node's clock.
    fn refusal(&self, failure: Failure) -> Status {
        failure.into_status(self.hlc())
    }

    /// Runs one client request and counts its outcome.
    async fn counted<T>(
        &self,
        command: &'static str,
        keyspace: &str,
        options: Option<&v1::RequestOptions>,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let level = self.level_name(command, keyspace, options);
        let began = Instant::now();
        let result = request.await;
        let outcome = result
            .as_ref()
            .map_or_else(|failure| failure.reason, |_| "ok");
        self.metrics
            .operation(command, level, outcome, began.elapsed());
        result
    }

    /// The level a request is counted under.
    fn level_name(
        &self,
        command: &str,
        keyspace: &str,
        options: Option<&v1::RequestOptions>,
    ) -> &'static str {
        match options.map_or(Ok(v1::Level::Unspecified), |o| v1::Level::try_from(o.level)) {
            Ok(v1::Level::Eventual) => "eventual",
            Ok(v1::Level::Session) => "session",
            Ok(v1::Level::Strong) => "strong",
            Ok(v1::Level::Unspecified) if command == "compare_and_set" => "strong",
            Ok(v1::Level::Unspecified) => {
                let known = self.names.keyspace(keyspace);
                known.map_or("unknown", |(_, _, level)| level.name())
            }
            Ok(v1::Level::Bounded | v1::Level::Sla) | Err(_) => "unknown",
        }
    }
}

/// Everything served to clients on one port.
///
/// # Errors
/// When the descriptors for server reflection are damaged, which a build of this crate can not bring about.
pub fn client_routes<H: Health>(
    edge: &Arc<Edge>,
    health: HealthServer<H>,
    reflection: bool,
) -> Result<Routes, tonic_reflection::server::Error> {
    let kv = KvServer::new(kv::KvService::new(Arc::clone(edge)))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let admin = AdminServer::new(admin::NodeAdmin::new(Arc::clone(edge)));
    let ours = Routes::new(kv).add_service(admin).into_axum_router();
    let mut routes = Routes::from(ours.layer(map_response_with_state(Arc::clone(edge), explained)))
        .add_service(health);
    if reflection {
        // Both versions: old clients know v1alpha only.
        let described = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(hansa_proto::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        routes = routes
            .add_service(described().build_v1()?)
            .add_service(described().build_v1alpha()?);
    }
    Ok(routes)
}

/// Gives a request that the transport refused unread the details every refusal has.
async fn explained(State(edge): State<Arc<Edge>>, response: Response) -> Response {
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(status::unreadable) {
        Some(failure) => edge.refusal(failure).into_http(),
        None => response,
    }
}

/// Everything served to the other nodes, on a port of its own. `greeting` is what this node says first.
pub fn peer_routes(edge: &Arc<Edge>, greeting: v1::PeerHello) -> Routes {
    let peer = PeerServer::new(peer::PeerService::new(Arc::clone(edge), greeting))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(peer)
}

/// The time a caller gives a unary call, from its `grpc-timeout` header; `None` when it gives none.
fn transport_deadline(metadata: &tonic::metadata::MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
