//! The small HTTP server beside the RPC ones: `/metrics` for Prometheus, `/healthz` for probes.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;

use super::Metrics;

/// What the server asks before it answers.
pub trait Health: Send + Sync + 'static {
    /// Brings gauges up to date: called before metrics are read.
    fn refresh(&self, metrics: &Metrics);
    /// Whether the node serves anything; the text says why, or why not.
    fn check(&self) -> Result<String, String>;
}

type Shared = (Arc<Metrics>, Arc<dyn Health>);

/// Serves until `shutdown` is done.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: impl Listener<Addr = SocketAddr>,
    metrics: Arc<Metrics>,
    health: Arc<dyn Health>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health_page))
        .with_state((metrics, health));
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn metrics_page(State((metrics, health)): State<Shared>) -> impl IntoResponse {
    health.refresh(&metrics);
    match metrics.encode() {
        Ok(text) => {
            let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(CONTENT_TYPE, form)], text)
        }
        Err(error) => {
            let form = "text/plain; charset=utf-8";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            (status, [(CONTENT_TYPE, form)], error.to_string())
        }
    }
}

async fn health_page(State((_, health)): State<Shared>) -> (StatusCode, String) {
    match health.check() {
        Ok(text) => (StatusCode::OK, text + "\n"),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text + "\n"),
    }
}
