//! The link: a listener and its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::bucket::Buckets;
use crate::connection::{self, Context};
use crate::counters::{Counters, Gauge, LinkCounters, add};
use crate::settings::{Direction, DirectionSettings, LinkSettings, State};
use crate::timer::Timer;

/// Most connections a link keeps at a time; further ones are reset as soon as
/// they are accepted. A client that redials into a black hole cannot use up the
/// process's file descriptors.
pub const MAX_CONNECTIONS: usize = 1024;

/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// A running link. Dropping it stops it without waiting; see
/// [`Link::shutdown`].
#[derive(Debug)]
pub struct Link {
    local: SocketAddr,
    target: SocketAddr,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    acceptor: JoinHandle<()>,
}

impl Link {
    /// Listens on `listen` and forwards every connection to `target`. Port 0
    /// picks a free port, see [`Link::local_addr`]. The target need not be up:
    /// until it is, accepted connections are closed at once.
    ///
    /// Must be called inside a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, the buffer is out of bounds
    /// (`InvalidInput`), or the timer thread cannot be started.
    pub async fn start(
        listen: SocketAddr,
        target: SocketAddr,
        settings: LinkSettings,
    ) -> io::Result<Self> {
        settings.check()?;
        let listener = TcpListener::bind(listen).await?;
        let local = listener.local_addr()?;
        let (state, observed) = watch::channel(State::new(settings));
        let counters = Arc::new(Counters::default());
        let context = Context {
            target,
            state: observed,
            counters: Arc::clone(&counters),
            timer: Timer::shared()?,
            buckets: Buckets::default(),
        };
        Ok(Self {
            local,
            target,
            state,
            counters,
            acceptor: tokio::spawn(accept(listener, Arc::new(context))),
        })
    }

    /// The address the link listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address the link forwards to.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Changes one direction, at once and for all connections, open ones too.
    pub fn set(&self, direction: Direction, settings: DirectionSettings) {
        self.state
            .send_modify(|state| state.set(direction, settings));
    }

    /// The settings in force.
    pub fn settings(&self) -> LinkSettings {
        self.state.borrow().settings
    }

    /// The counters since the start.
    pub fn counters(&self) -> LinkCounters {
        self.counters.read()
    }

    /// Stops listening, resets all connections, and returns when the port is
    /// free and every task of the link has ended.
    pub async fn shutdown(self) {
        drop(self.state);
        // The task ends by itself; it failed only if it panicked, and then it
        // has ended too.
        let _ = self.acceptor.await;
    }
}

/// Accepts until the link ends, then waits for its connections.
async fn accept(listener: TcpListener, context: Arc<Context>) {
    let mut connections = JoinSet::new();
    let mut ended = std::pin::pin!(ended(context.state.clone()));
    loop {
        tokio::select! {
            biased;
            () = &mut ended => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => admit(client, &context, &mut connections),
                Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves the client in a task of its own, or resets it.
fn admit(client: TcpStream, context: &Arc<Context>, connections: &mut JoinSet<()>) {
    let counters = &context.counters;
    let number = counters.accepted.fetch_add(1, Ordering::Relaxed);
    // One look: a reset or a break after it differs from what the connection
    // remembers, and is seen by it.
    let state = *context.state.borrow();
    if connections.len() >= MAX_CONNECTIONS || state.settings.is_reset() {
        add(&counters.refused, 1);
        connection::reset(client);
        return;
    }
    let context = Arc::clone(context);
    connections.spawn(async move {
        let _open = Gauge::enter(&context.counters.open);
        connection::run(client, &context, number, state.born()).await;
    });
}

/// Returns when the link's handle is gone.
async fn ended(mut state: watch::Receiver<State>) {
    while state.changed().await.is_ok() {}
}
