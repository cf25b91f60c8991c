//! A node from start to stop, top to bottom.
//!
//! | start | stop |
//! | --- | --- |
//! | 1. listeners bound: a port in use is told before anything else is touched | 8. listeners closed |
//! | 2. data directory locked and looked at ([`crate::open`]) | 7. store closed, directory unlocked |
//! | 3. driver | 6. driver stopped: everything acknowledged is durable, what is open is refused |
//! | 4. RPC runtime | 5. connections cut |
//! | 5. links to the peers | 4. links broken |
//! | 6. services for peers, clients and metrics | 1. health says NOT_SERVING; 2. no connection is accepted; 3. open requests end, for [`DRAIN_WITHIN`](crate::limits::DRAIN_WITHIN) at most |
//!
//! The services run on a runtime of their own. When it ends every connection ends, so a client that keeps a
//! stream open can not keep the node from stopping.

mod connections;
mod rpc;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hansa_consistency::key::NodeId;

use self::rpc::Rpc;
use crate::driver::{self, NextStart, Observer, Outbound, Parts, Stuck};
use crate::grpc::Edge;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::open::{self, Node, OpenError, Plan};
use crate::peers::{self, Outboxes, Peers};
use crate::settings::{Names, Settings, SettingsError};
use crate::store::Options;

/// How long the driver may take to make everything acknowledged durable.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Why a node did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings have problems.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A listener could not be bound. Nothing else was touched.
    #[error(
        "can not listen on {address} for {what}: {source}; give `{field}` another address, or stop what uses it"
    )]
    Listen {
        /// For whom.
        what: &'static str,
        /// The setting.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data can not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A thread or a runtime could not be started, or a listener not be used.
    #[error("{what}: {source}")]
    Start {
        /// What was being started.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the node ended by itself, which no part does unless it fails.
    #[error("{0} ended by itself; the log says why")]
    Ended(&'static str),
    /// The disk did not let the node stop in time.
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

fn start_error(what: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::Start { what, source }
}

/// The bound sockets of a node: from here on its addresses are known, and nobody is answered yet.
#[derive(Debug)]
pub struct Listeners {
    clients: TcpListener,
    peers: TcpListener,
    metrics: Option<TcpListener>,
}

impl Listeners {
    /// Binds the addresses of `settings`; port 0 lets the operating system choose.
    ///
    /// # Errors
    /// [`ServeError::Listen`], naming the address and the setting.
    pub fn bind(settings: &Settings) -> Result<Listeners, ServeError> {
        let bind = |what, field, address| {
            TcpListener::bind(address)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map_err(|source| ServeError::Listen {
                    what,
                    field,
                    address,
                    source,
                })
        };
        Ok(Listeners {
            clients: bind("clients", "listen", settings.listen)?,
            peers: bind("peers", "peer_listen", settings.peer_listen)?,
            metrics: settings
                .metrics_listen
                .map(|address| bind("metrics", "metrics_listen", address))
                .transpose()?,
        })
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// The system's.
    pub fn client_address(&self) -> io::Result<SocketAddr> {
        self.clients.local_addr()
    }

    /// Where peers connect.
    ///
    /// # Errors
    /// The system's.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.peers.local_addr()
    }

    /// Where metrics are read, if they are served.
    ///
    /// # Errors
    /// The system's.
    pub fn metrics_address(&self) -> io::Result<Option<SocketAddr>> {
        self.metrics
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()
    }
}

/// Serves until `shutdown` is done, then stops in bounded time. When this returns `Ok`, everything that was
/// acknowledged is durable and the data directory is free.
///
/// # Errors
/// [`ServeError`]: at the start, before anybody was answered; or later, when a part of the node failed.
pub async fn serve(
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listeners = Listeners::bind(&settings)?;
    serve_on(settings, listeners, shutdown).await
}

/// As [`serve`], on sockets that are bound already.
///
/// # Errors
/// As [`serve`].
pub async fn serve_on(
    settings: Settings,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    settings.check()?;
    let names = settings.names()?;
    let me = names
        .node(&settings.node)
        .ok_or(ServeError::Ended("the topology"))?;
    tokio::pin!(shutdown);
    let Some(node) = look_at_disk(&settings, &names, me, shutdown.as_mut()).await? else {
        tracing::info!(node = settings.node, "stopped before it served");
        return Ok(());
    };
    // In this order: whatever ends this function early, connections go first and the lock goes last.
    let lock = node.lock;
    let opened = node.opened;
    let metrics = Arc::new(Metrics::new(Arc::clone(&names), me));
    let outboxes = Outboxes::new(&names, me, Arc::clone(&metrics));
    let driver = driver::start(Parts {
        replica: node.replica,
        config: node.config,
        opened,
        store: node.store,
        sequence: node.sequence,
        next_start: next_start(node.identity, node.identity_path),
        outbound: Arc::clone(&outboxes) as Arc<dyn Outbound>,
        observer: Arc::clone(&metrics) as Arc<dyn Observer>,
    })
    .map_err(start_error("starting the driver"))?;
    let handle = driver.handle();
    let greeting = peers::greeting(&names, me, opened);
    let edge = Edge::new(
        Arc::clone(&names),
        me,
        opened,
        handle.clone(),
        metrics.clone(),
    );
    let mut rpc = Rpc::start().map_err(start_error("starting the RPC runtime"))?;
    let links = Peers::start(
        rpc.handle(),
        &settings,
        &names,
        outboxes,
        &handle,
        &greeting,
    );
    let reporter = rpc
        .serve(listeners, &edge, greeting, metrics, settings.reflection)
        .await?;
    tracing::info!(node = settings.node, start = opened.start, "serving");

    let failed = tokio::select! {
        () = shutdown => None,
        () = handle.ended() => Some("the driver"),
        () = rpc.ended() => Some("a listener"),
    };
    tracing::info!(node = settings.node, "stopping");
    reporter.stop().await;
    rpc.drain(handle).await;
    links.stop().await;
    let stopped = driver.stop(STOP_WITHIN).await;
    rpc.stop().await;
    drop(lock);
    stopped?;
    failed.map_or(Ok(()), |part| Err(ServeError::Ended(part)))
}

/// Opens the data directory on a thread that may block: all data is read. `None` when the shutdown came first.
async fn look_at_disk(
    settings: &Settings,
    names: &Arc<Names>,
    me: NodeId,
    shutdown: impl Future<Output = ()>,
) -> Result<Option<Node>, ServeError> {
    let (dir, engine, rebuild) = (settings.data_dir.clone(), settings.engine, settings.rebuild);
    let names = Arc::clone(names);
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let look = move || {
        let plan = Plan {
            dir: &dir,
            engine,
            options: Options::default(),
            names: &names,
            node: me,
            rebuild,
        };
        open::open(plan, &told)
    };
    let mut looking = tokio::task::spawn_blocking(look);
    let looked = tokio::select! {
        looked = &mut looking => looked,
        () = shutdown => {
            stop.store(true, Ordering::Relaxed);
            // Waited for: when this function returns the directory is free.
            looking.await
        }
    };
    let stopped = stop.load(Ordering::Relaxed);
    match looked {
        Ok(Err(OpenError::Stopped)) => Ok(None),
        Ok(opened) => Ok(opened.map(|node| (!stopped).then_some(node))?),
        Err(error) => Err(start_error("opening the data directory")(error.into())),
    }
}

fn next_start(mut identity: Identity, path: PathBuf) -> NextStart {
    Box::new(move || identity.begin_start(&path).map_err(io::Error::other))
}
