//! Connections a node accepts: bounded, because each costs a file and buffers.
//!
//! One too many is closed at once and counted. Whoever is connected is not disturbed.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use crate::limits::{
    CLIENT_CONNECTIONS_MAX, FILES_WANTED, METRICS_CONNECTIONS_MAX, PEER_CONNECTIONS_MAX,
};
use crate::metrics::Metrics;

/// How long nothing is accepted after the system could not accept: as a rule for want of files.
const PAUSE: Duration = Duration::from_secs(1);

/// When the system asks whether a silent connection's other end is still there: after a minute, then three
/// times, ten seconds apart.
fn probes() -> socket2::TcpKeepalive {
    socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3)
}

/// How many connections each listener may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Room {
    pub(super) clients: usize,
    pub(super) peers: usize,
    pub(super) metrics: usize,
}

impl Room {
    /// As many as `files` open files allow: half of them for clients, a quarter for peers, the rest is left to the
    /// store and the node's own links.
    fn within(files: usize) -> Room {
        Room {
            clients: CLIENT_CONNECTIONS_MAX.min(files / 2),
            peers: PEER_CONNECTIONS_MAX.min(files / 4),
            metrics: METRICS_CONNECTIONS_MAX.min(files / 16),
        }
    }

    /// Raises the process's limit of open files as far as it may, warns when that is little, and shares it out.
    pub(super) fn claim() -> Room {
        let mut limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let raised = rustix::process::Rlimit {
                current: limit.maximum,
                ..limit
            };
            match setrlimit(Resource::Nofile, raised) {
                Ok(()) => limit = raised,
                Err(error) => tracing::warn!(%error, "the limit of open files can not be raised"),
            }
        }
        let files = limit.current.map_or(usize::MAX, |files| files as usize);
        let room = Room::within(files);
        if files < FILES_WANTED {
            tracing::warn!(
                files,
                wanted = FILES_WANTED,
                client_connections = room.clients,
                "few files may be open: raise LimitNOFILE or ulimit -n"
            );
        }
        room
    }
}

/// A listener that accepts so many connections at once, and closes what comes beyond.
pub(super) struct Bounded {
    listener: TcpListener,
    /// For whom.
    name: &'static str,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    /// Takes over a bound listener. Must be called on a runtime.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(
        listener: std::net::TcpListener,
        name: &'static str,
        room: usize,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Bounded> {
        Ok(Bounded {
            listener: TcpListener::from_std(listener)?,
            name,
            room: Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS))),
            metrics: Arc::clone(metrics),
            pause: None,
        })
    }

    /// The next connection there is room for.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<(Connection, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, from)) => {
                    let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
                        self.metrics.connection_refused(self.name);
                        continue;
                    };
                    // Without it a reply may wait for the acknowledgement of the one before.
                    let _ = stream.set_nodelay(true);
                    // A host that vanished must not keep its place, also before or between its requests.
                    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&probes());
                    return Poll::Ready((self.connection(stream, room), from));
                }
                // The one that connected has gone already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, listener = self.name, "can not accept connections");
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
            }
        }
    }

    fn connection(&self, stream: TcpStream, room: OwnedSemaphorePermit) -> Connection {
        self.metrics.connections(self.name, 1);
        let counted = Counted {
            name: self.name,
            metrics: Arc::clone(&self.metrics),
            _room: room,
        };
        Connection {
            stream,
            _counted: counted,
        }
    }
}

impl tokio_stream::Stream for Bounded {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = self.get_mut().poll_accept(context);
        accepted.map(|(connection, _)| Some(Ok(connection)))
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        std::future::poll_fn(|context| self.poll_accept(context)).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A place among the connections, given back when it is dropped.
struct Counted {
    name: &'static str,
    metrics: Arc<Metrics>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.connections(self.name, -1);
    }
}

/// An accepted connection.
pub(super) struct Connection {
    stream: TcpStream,
    _counted: Counted,
}

impl Connected for Connection {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hansa_consistency::key::NodeId;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::settings::{Names, TOPOLOGY_EXAMPLE, TopologySettings};

    fn metrics() -> Arc<Metrics> {
        let topology = TopologySettings::from_text(Path::new("t"), TOPOLOGY_EXAMPLE).unwrap();
        let names = Arc::new(Names::new(&topology).unwrap());
        Arc::new(Metrics::new(names, NodeId(0)))
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_its_place_comes_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = metrics();
        let mut bounded = Bounded::new(listener, "clients", 1, &metrics).unwrap();

        let mut first = TcpStream::connect(address).await.unwrap();
        let mut served = bounded.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        let closed = tokio::select! {
            _ = bounded.next() => panic!("there was no room"),
            read = second.read(&mut byte) => read,
        };
        // Closed in order or reset: either way nobody waits.
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        first.write_all(b"x").await.unwrap();
        served.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, *b"x");
        let text = metrics.encode().unwrap();
        for line in [
            "hansa_connections{region=\"us-east\",node=\"us-east-1\",listener=\"clients\"} 1",
            "hansa_connections_refused_total{region=\"us-east\",node=\"us-east-1\",listener=\"clients\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }

        drop(served);
        let _third = TcpStream::connect(address).await.unwrap();
        bounded.next().await.unwrap().unwrap();
    }

    #[test]
    fn few_files_leave_some_for_the_store() {
        let all = Room {
            clients: CLIENT_CONNECTIONS_MAX,
            peers: PEER_CONNECTIONS_MAX,
            metrics: METRICS_CONNECTIONS_MAX,
        };
        assert_eq!(Room::within(FILES_WANTED), all);
        assert_eq!(Room::within(usize::MAX), all);
        let few = Room::within(1024);
        assert!(few.clients + few.peers + few.metrics <= 1024 - 192);
        assert!(few.peers > 0 && few.metrics > 0);
    }

    /// Set in the process whose limit is lowered.
    const LOWERED: &str = "HANSA_TEST_LOWERED";

    /// In a process of its own: the limit is the whole process's, and other tests need files.
    #[test]
    fn the_limit_of_open_files_is_raised() {
        if std::env::var_os(LOWERED).is_none() {
            let (_, module) = module_path!().split_once("::").unwrap();
            let name = format!("{module}::the_limit_of_open_files_is_raised");
            let lowered = std::process::Command::new(std::env::current_exe().unwrap())
                .args([&name, "--exact", "--nocapture"])
                .env(LOWERED, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&lowered.stdout);
            assert!(lowered.status.success(), "{said}");
            assert!(said.contains("raised from 256"), "it did not run: {said}");
            return;
        }
        let before = getrlimit(Resource::Nofile);
        let few = rustix::process::Rlimit {
            current: Some(256),
            ..before
        };
        setrlimit(Resource::Nofile, few).unwrap();
        assert_eq!(getrlimit(Resource::Nofile), few);
        let room = Room::claim();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current, before.maximum);
        assert_eq!(after.maximum, before.maximum);
        let files = after.current.map_or(usize::MAX, |files| files as usize);
        assert_eq!(room, Room::within(files));
        println!("raised from 256");
    }
}
