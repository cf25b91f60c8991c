//! The runtime on which everything runs that talks to the network.
//!
//! It is ended as a whole. tonic's own shutdown waits for every stream to end, and a client may keep one open
//! for ever.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hansa_proto::v1::PeerHello;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::transport::Server;

use super::connections::{Bounded, Room};
use super::{Listeners, ServeError, start_error};
use crate::driver::DriverHandle;
use crate::grpc::health::{self, Reporter};
use crate::grpc::{Edge, client_routes, peer_routes};
use crate::limits::{
    CONNECTION_WINDOW_BYTES, DRAIN_WITHIN, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
    STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX, STREAMS_PER_PEER_MAX,
};
use crate::metrics::{self, Metrics};

/// How long the last refusals may take to leave.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(250);

/// How long tasks may take to notice that the runtime ends.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Threads of the runtime, at most: one less than there are processors, because the driver's threads need one.
const WORKERS_MAX: usize = 8;

/// The runtime and what was started on it. Dropped, everything on it ends at once.
pub(super) struct Rpc {
    runtime: Option<Runtime>,
    handle: Handle,
    servers: JoinSet<()>,
    room: Room,
    /// `true` = accept nothing any more.
    stopping: watch::Sender<bool>,
}

/// Health, and who keeps it up to date.
pub(super) struct Health {
    edge: Arc<Edge>,
    reporter: Arc<Reporter>,
    keeping: JoinSet<()>,
}

impl Health {
    /// Says NOT_SERVING from now on.
    pub(super) async fn stop(mut self) {
        self.edge.begin_to_stop();
        self.keeping.shutdown().await;
        self.reporter.stop().await;
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would block, which an async context must not.
            runtime.shutdown_background();
        }
    }
}

impl Rpc {
    pub(super) fn start() -> io::Result<Rpc> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(processors.saturating_sub(1).clamp(1, WORKERS_MAX))
            .thread_name("hansa-rpc")
            .enable_all()
            .build()?;
        Ok(Rpc {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            servers: JoinSet::new(),
            room: Room::claim(),
            stopping: watch::channel(false).0,
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Starts to answer: peers first, then clients, then metrics.
    pub(super) async fn serve(
        &mut self,
        listeners: Listeners,
        edge: &Arc<Edge>,
        greeting: PeerHello,
        metrics: Arc<Metrics>,
        reflection: bool,
    ) -> Result<Health, ServeError> {
        let (reporter, health) = health::service().await;
        let clients = client_routes(edge, health, reflection)
            .map_err(|error| start_error("describing the services")(io::Error::other(error)))?;
        let peers = peer_routes(edge, greeting);
        let room = self.room;
        let bounded = |listener, name, room| {
            let _on = self.handle.enter();
            Bounded::new(listener, name, room, &metrics).map_err(start_error("using a listener"))
        };
        let for_peers = bounded(listeners.peers, "peers", room.peers)?;
        let for_clients = bounded(listeners.clients, "clients", room.clients)?;
        let for_metrics = listeners.metrics;
        let for_metrics = for_metrics.map(|listener| bounded(listener, "metrics", room.metrics));
        let for_metrics = for_metrics.transpose()?;
        self.answer(for_peers, peers, STREAMS_PER_PEER_MAX);
        self.answer(for_clients, clients, STREAMS_PER_CONNECTION_MAX);
        if let Some(listener) = for_metrics {
            self.show(listener, metrics, Arc::clone(edge));
        }
        let reporter = Arc::new(reporter);
        let mut keeping = JoinSet::new();
        let (keeper, kept) = (Arc::clone(&reporter), Arc::clone(edge));
        keeping.spawn_on(async move { keeper.keep(kept).await }, &self.handle);
        Ok(Health {
            edge: Arc::clone(edge),
            reporter,
            keeping,
        })
    }

    /// Serves gRPC on one listener.
    fn answer(&mut self, incoming: Bounded, routes: Routes, streams: u32) {
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(streams)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, self.stopping());
        let logged = async {
            if let Err(error) = server.await {
                tracing::error!(%error, "a gRPC listener failed");
            }
        };
        self.servers.spawn_on(logged, &self.handle);
    }

    /// Serves metrics over HTTP.
    fn show(&mut self, listener: Bounded, metrics: Arc<Metrics>, edge: Arc<Edge>) {
        let server = metrics::serve(listener, metrics, edge, self.stopping());
        let logged = async {
            if let Err(error) = server.await {
                tracing::error!(%error, "the metrics listener failed");
            }
        };
        self.servers.spawn_on(logged, &self.handle);
    }

    /// Done when nothing more is to be accepted.
    fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopping = self.stopping.subscribe();
        async move {
            // An error means that the sender is gone, and with it the node.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }

    /// Returns when one of the servers has ended, which none does by itself.
    pub(super) async fn ended(&mut self) {
        self.servers.join_next().await;
    }

    /// Accepts nothing any more, and gives what is open time to end: until every connection is closed, or no
    /// request is open, and for [`DRAIN_WITHIN`] at most.
    pub(super) async fn drain(&mut self, mut driver: DriverHandle) {
        self.stopping.send_replace(true);
        let closed = async { while self.servers.join_next().await.is_some() {} };
        let idle = async {
            // The first status may be older than the last request.
            driver.status_changed().await;
            driver.status_changed().await;
            while driver.status().open_requests > 0 {
                driver.status_changed().await;
            }
        };
        tokio::select! {
            () = closed => {}
            () = idle => {}
            () = tokio::time::sleep(DRAIN_WITHIN) => {}
        }
    }

    /// Cuts every connection that is left.
    pub(super) async fn stop(mut self) {
        let closed = async { while self.servers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORDS_WITHIN, closed).await;
        if let Some(runtime) = self.runtime.take() {
            let ending = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(END_WITHIN));
            // Only a panic in the shutdown itself is an error, and then it has ended, too.
            let _ = ending.await;
        }
    }
}
