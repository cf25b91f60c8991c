//! A pretended cluster in this process, for tests of applications: it answers, refuses, hangs and
//! breaks as told, and remembers what it was asked. Feature `fake`.
//!
//! The nodes of a [`Cluster`] share their data, so every level reads the newest state. Keyspaces:
//! `profiles` (register), `stock` and `counters` (counter), `carts` (set). Strong writes are
//! deduplicated by request id, as real servers do; the others are not. A repetition that names another
//! level than its first attempt, or below strong another node, is refused as there. Only `Kv.Pipe` and `Admin`
//! are served. Nothing here replicates, and nothing is durable: test against real nodes, too.

mod data;
mod service;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::consistency::Consistency;
use crate::error::Applied;

use data::Data;
use service::Service;

/// What a node does to one request instead of answering it. A writer of tests lines them up with
/// [`Node::fault`]; each is used once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Refuses it; nothing is applied, whatever is claimed.
    Refuse {
        /// The stable name.
        reason: &'static str,
        /// The gRPC code.
        code: i32,
        /// What to claim.
        applied: Applied,
        /// The hint; 0 for none.
        retry_after_ms: u32,
    },
    /// Breaks the stream without executing it.
    BreakBefore,
    /// Executes it and breaks the stream instead of answering.
    BreakAfter,
    /// Executes it and never answers.
    Silence,
    /// Answers after this time.
    Delay(Duration),
}

/// One request as a node saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The node's name.
    pub node: String,
    /// `get`, `put`, `delete`, `compare_and_set`, `update`, `scan`, `batch_get` or `members`.
    pub command: &'static str,
    /// The level asked for.
    pub level: Consistency,
    /// The session token.
    pub token: Bytes,
    /// Session, number and attempt of the request id.
    pub request_id: Option<(u64, u32, u32)>,
    /// The server clock value in the request id; 0 without one.
    pub issued_hlc: u64,
    /// The node that took the first attempt, as a repetition says it.
    pub first_node: String,
    /// The deadline, milliseconds.
    pub deadline_ms: u32,
}

/// What the nodes share.
#[derive(Debug, Default)]
struct Shared {
    /// The names of all nodes.
    nodes: Vec<String>,
    data: Mutex<Data>,
    seen: Mutex<Vec<Seen>>,
    links: Mutex<Vec<(String, bool)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Some nodes that share their data.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    /// The nodes, in order of the regions given.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Starts one node in each of the regions, named `REGION-1`, on ports of the system's choice.
    /// A region may be named twice: its second node is `REGION-2`.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub fn start(regions: &[&str]) -> io::Result<Cluster> {
        let name = |(index, region): (usize, &&str)| {
            let before = regions[..index].iter().filter(|other| *other == region);
            format!("{region}-{}", before.count() + 1)
        };
        let names: Vec<String> = regions.iter().enumerate().map(name).collect();
        let shared = Arc::new(Shared {
            nodes: names.clone(),
            ..Shared::default()
        });
        let start = |(region, name): (&&str, String)| Node::start(region, name, shared.clone());
        let nodes = regions.iter().zip(names).map(start);
        Ok(Cluster {
            nodes: nodes.collect::<io::Result<_>>()?,
            shared,
        })
    }

    /// Every request any node was sent, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many writes were executed; answers from the memory of request ids do not count.
    pub fn executed(&self) -> u64 {
        lock(&self.shared.data).executed
    }

    /// What `Admin.SetLink` was asked: the region, and whether it was to be cut.
    pub fn links(&self) -> Vec<(String, bool)> {
        lock(&self.shared.links).clone()
    }
}

/// One pretended node. It stops when it is dropped.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    address: SocketAddr,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    shared: Arc<Shared>,
    /// Dropping it closes every connection at once; `None` while stopped.
    runtime: Option<Runtime>,
}

impl Node {
    fn start(region: &str, name: String, shared: Arc<Shared>) -> io::Result<Node> {
        let mut node = Node {
            name,
            region: region.to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            faults: Arc::default(),
            shared,
            runtime: None,
        };
        node.restart()?;
        Ok(node)
    }

    /// Its address, `http://127.0.0.1:PORT`; the same after a restart.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it does to the next request that has no fault lined up yet.
    pub fn fault(&self, fault: Fault) {
        lock(&self.faults).push_back(fault);
    }

    /// Dies: the port is closed and every connection breaks.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Comes back on the same port, with the cluster's data.
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let listener = self.listen()?;
        self.address = listener.local_addr()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let service = Service {
            node: self.name.clone(),
            region: self.region.clone(),
            faults: self.faults.clone(),
            shared: self.shared.clone(),
        };
        let listener = {
            let _inside = runtime.enter();
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(service.serve(listener));
        self.runtime = Some(runtime);
        Ok(())
    }

    /// The old runtime closes its sockets in the background, so its port may need a moment.
    fn listen(&self) -> io::Result<TcpListener> {
        const PATIENCE: u32 = 200;
        let mut tries = 0;
        loop {
            match TcpListener::bind(self.address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < PATIENCE => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}
