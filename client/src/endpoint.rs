//! One endpoint: an address, how it is doing, and the stream to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::error::{Applied, Error, ErrorKind};
use crate::pipe::Stream;

/// A ping on every idle connection: without it a call over a connection that a firewall or a
/// partition forgot would wait for the kernel's retransmissions.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long its answer may take before the connection counts as broken.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// First and longest pause between two attempts to reach a failed endpoint in the background.
const PROBE_PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// What all endpoints of a client share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The cluster that the first endpoint named; another one is refused.
    cluster: OnceLock<String>,
    /// The newest server clock value that any reply or greeting told.
    newest_hlc: AtomicU64,
}

impl Shared {
    pub(crate) fn saw_hlc(&self, hlc: u64) {
        self.newest_hlc.fetch_max(hlc, Ordering::Relaxed);
    }

    pub(crate) fn newest_hlc(&self) -> u64 {
        self.newest_hlc.load(Ordering::Relaxed)
    }
}

/// What is known about how an endpoint is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    /// Its region: as configured, else as it said.
    pub(crate) region: Option<String>,
    /// Its node's name, as it said.
    pub(crate) node: Option<String>,
    /// Smoothed round trip.
    pub(crate) round_trip: Option<Duration>,
    /// The last attempt to reach it failed.
    pub(crate) down: bool,
    /// Somebody tries to reach it in the background.
    probed: bool,
}

/// The current stream, and the last failure to get one.
#[derive(Debug, Default)]
struct Link {
    stream: Option<Arc<Stream>>,
    failed: Option<(Instant, Error)>,
}

/// One endpoint of a client.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Its address, `http://host:port`.
    pub(crate) url: String,
    configured_region: Option<String>,
    channel: tonic::transport::Endpoint,
    connect_timeout: Duration,
    shared: Arc<Shared>,
    health: Mutex<Health>,
    /// Held while connecting, so that all calls wait for one attempt.
    link: tokio::sync::Mutex<Link>,
}

impl Endpoint {
    /// Does not connect.
    pub(crate) fn new(
        url: &str,
        region: Option<String>,
        connect_timeout: Duration,
        shared: Arc<Shared>,
    ) -> Result<Endpoint, Error> {
        let channel = channel(url, connect_timeout)?;
        let health = Health {
            region: region.clone(),
            ..Health::default()
        };
        Ok(Endpoint {
            url: url.to_owned(),
            configured_region: region,
            channel,
            connect_timeout,
            shared,
            health: Mutex::new(health),
            link: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn health(&self) -> Health {
        self.lock_health().clone()
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Smooths a measured round trip in, one eighth at a time as TCP does (RFC 6298).
    pub(crate) fn measured(&self, round_trip: Duration) {
        let mut health = self.lock_health();
        health.round_trip = Some(match health.round_trip {
            Some(smoothed) => (smoothed * 7 + round_trip) / 8,
            None => round_trip,
        });
    }

    /// The stream to the endpoint, made if there is none.
    ///
    /// # Errors
    /// When none can be made within the connect timeout. Nothing was sent then.
    pub(crate) async fn stream(self: &Arc<Self>) -> Result<Arc<Stream>, Error> {
        let asked = Instant::now();
        let mut link = self.link.lock().await;
        if let Some(stream) = link.stream.as_ref().filter(|stream| stream.is_open()) {
            return Ok(stream.clone());
        }
        // The attempt that this call waited for failed: the next one would, too.
        if let Some((when, error)) = &link.failed
            && *when >= asked
        {
            return Err(error.clone());
        }
        let result = match timeout(self.connect_timeout, Stream::open(&self.channel)).await {
            Ok(Ok(stream)) => self.check(stream),
            Ok(Err(error)) => Err(self.unreachable(error.message())),
            Err(_) => Err(self.unreachable("no node's greeting within the connect timeout")),
        };
        match result {
            Ok(stream) => {
                let stream = Arc::new(stream);
                link.stream = Some(stream.clone());
                Ok(stream)
            }
            Err(error) => {
                let error = error.at(&self.url, 0);
                link.stream = None;
                link.failed = Some((Instant::now(), error.clone()));
                self.failed();
                Err(error)
            }
        }
    }

    /// Has the next call make a new stream. Calls that are under way on this one go on.
    pub(crate) async fn forget(&self, stream: &Arc<Stream>) {
        let mut link = self.link.lock().await;
        link.stream.take_if(|current| Arc::ptr_eq(current, stream));
    }

    /// Holds the greeting against what is configured and already known.
    fn check(&self, stream: Stream) -> Result<Stream, Error> {
        let hello = &stream.hello;
        let cluster = self.shared.cluster.get_or_init(|| hello.cluster_id.clone());
        if *cluster != hello.cluster_id {
            let message = format!(
                "{} belongs to cluster `{}`, another endpoint to `{cluster}`: name endpoints of one cluster",
                self.url, hello.cluster_id
            );
            return Err(wrong_endpoint(message));
        }
        if let Some(region) = &self.configured_region
            && *region != hello.region
        {
            let message = format!(
                "{} is in region `{}` and was named as `{region}`: correct the endpoint's region",
                self.url, hello.region
            );
            return Err(wrong_endpoint(message));
        }
        self.shared.saw_hlc(hello.server_hlc);
        self.measured(stream.greeted_in);
        let mut health = self.lock_health();
        health.region = Some(hello.region.clone());
        health.node = Some(hello.node.clone());
        health.down = false;
        drop(health);
        Ok(stream)
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::unreachable(format!("{}: {why}", self.url))
    }

    /// Marks the endpoint as down and has it watched, so that no call pays for finding out that it
    /// is back.
    fn failed(self: &Arc<Self>) {
        let mut health = self.lock_health();
        health.down = true;
        if !std::mem::replace(&mut health.probed, true) {
            tokio::spawn(probe(Arc::downgrade(self)));
        }
    }
}

/// Tries to reach a failed endpoint until it answers or its client is gone.
async fn probe(endpoint: Weak<Endpoint>) {
    let [mut pause, longest] = PROBE_PAUSE;
    loop {
        // Between half and the whole of it, so that many clients do not come at once.
        sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        let Some(endpoint) = endpoint.upgrade() else {
            return;
        };
        let back = endpoint.stream().await.is_ok();
        let mut health = endpoint.lock_health();
        if back && !health.down {
            health.probed = false;
            return;
        }
        pause = (pause * 2).min(longest);
    }
}

/// The settings of every connection of the SDK.
pub(crate) fn channel(
    url: &str,
    connect_timeout: Duration,
) -> Result<tonic::transport::Endpoint, Error> {
    let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned())
        .ok()
        .filter(|endpoint| endpoint.uri().scheme_str() == Some("http"))
        .filter(|endpoint| endpoint.uri().host().is_some())
        .ok_or_else(|| {
            Error::invalid(format!(
                "`{url}` is no endpoint: write it as http://host:port"
            ))
            .with_field("endpoint")
        })?;
    Ok(endpoint
        .connect_timeout(connect_timeout)
        // Without it a small request waits 40 ms for the acknowledgement of the one before.
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

fn wrong_endpoint(message: String) -> Error {
    Error::new(ErrorKind::Invalid, Applied::No, "WRONG_ENDPOINT", message).with_field("endpoint")
}
