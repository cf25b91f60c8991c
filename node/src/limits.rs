//! Every bound of a node outside the core, in one place, with its unit and its reason.
//!
//! The bounds of keys, values, deadlines and the protocol are the core's:
//! [`hansa_consistency::limits`].

use std::time::Duration;

// --- clients

/// Longest encoded request taken from a client, bytes. No valid one has more than about 2 MiB: the rest is room
/// for a request that is too long to be refused by its field, and on a `Pipe` to leave the others alone. What is
/// longer than this is refused unread, and ends a `Pipe`. Memory: one request per stream that is being received,
/// so a client that means harm can cost this times [`STREAMS_PER_CONNECTION_MAX`] by really sending as much.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Longest encoded reply to a client, and longest message of a peer, bytes: a value, its key and room to spare.
pub const MESSAGE_BYTES_MAX: usize = hansa_proto::MESSAGE_BYTES_MAX;

/// Longest etag, bytes: those of this version are shorter. A longer one is none of ours.
pub const ETAG_BYTES_MAX: usize = 64;

/// Longest page token, bytes: a storage key in which every byte may be escaped, and room to spare.
pub const PAGE_TOKEN_BYTES_MAX: usize = 16 << 10;

/// Requests open on one `Pipe` at once; more stay unread, so that the client's flow control holds them.
pub const PIPE_IN_FLIGHT_MAX: usize = 1024;

/// Keys in one `BatchGet`: each is a request of its own inside the node.
pub const BATCH_KEYS_MAX: usize = 100;

/// Values in one `BatchGet` reply, bytes: with keys and header it stays below [`MESSAGE_BYTES_MAX`].
pub const BATCH_REPLY_BYTES_MAX: usize = 3 << 20;

/// Keys read side by side for the batches of one `Pipe`, and for all unary batches of a node; a batch waits within
/// its deadline until all its keys fit. Bounds the values held before a batch is known to be too large: 1 MiB
/// each, so 512 MiB.
pub const BATCH_READS_MAX: usize = 512;

/// Rows of a scan's page when the request names no number.
pub const PAGE_ROWS_DEFAULT: usize = 100;

/// Bytes of a scan's page, about at most: the row that crosses the bound is still in it.
pub const PAGE_BYTES_MAX: usize = hansa_consistency::limits::SCAN_BYTES_MAX;

/// Shards one page of a scan over a whole keyspace asks, at most; behind them it ends, full or not.
pub const PAGE_SHARDS_MAX: usize = 256;

/// Longest keyspace, region, node or cluster name, bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// How much longer than its deadline a request may take inside the node before the caller is told
/// `DEADLINE_EXCEEDED` without the core's word. Only a driver that is stuck makes it count.
pub const DEADLINE_GRACE: Duration = Duration::from_millis(250);

/// How long one request for digests may take, the wait for its turn included: it reads all rows, and only one at
/// a time does. A caller may give it less.
pub const DIGEST_WITHIN: Duration = Duration::from_secs(300);

/// Streams open on one client connection at once, unary calls included.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1024;

// --- peers and sockets

/// Streams open on one peer connection at once: one link, and one that is being replaced.
pub const STREAMS_PER_PEER_MAX: u32 = 8;

/// Connections of clients one node holds at once; one more is closed. Fewer where the process may open few files:
/// half of them. A connection costs a file, and what it sends unread up to [`CONNECTION_WINDOW_BYTES`].
pub const CLIENT_CONNECTIONS_MAX: usize = 16_384;

/// Connections of peers one node holds at once; one more is closed. Two for each node: one link, and one that is
/// being replaced. Fewer where the process may open few files: a quarter of them.
pub const PEER_CONNECTIONS_MAX: usize = 2 * NODES_MAX;

/// Connections to metrics and `/healthz` one node holds at once; one more is closed.
pub const METRICS_CONNECTIONS_MAX: usize = 64;

/// Files a process should be allowed to open, so that all bounds above hold: clients get half of them. The rest
/// is for peers, the store (about 256) and the node's own links.
pub const FILES_WANTED: usize = 2 * CLIENT_CONNECTIONS_MAX;

/// How long a dialler may take to say hello.
pub const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// How often the refusals of one peer are logged, at most: it dials again every [`RECONNECT_PAUSE_MAX`].
pub const REFUSED_PEER_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How long a connection may take to stand.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// How often an HTTP/2 connection is asked whether it lives. Without it calls fail after a healed partition.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// How long the answer to that may take.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest pause between two attempts to reach a peer.
pub const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Messages waiting for one peer's link; more are dropped and counted, which the core tolerates.
pub const OUTBOX_MESSAGES_MAX: usize = 4096;

/// Bytes waiting for one peer's link, about; more are dropped and counted.
pub const OUTBOX_BYTES_MAX: usize = 32 << 20;

/// HTTP/2 window of one stream, bytes: a WAN link of 250 ms and 100 Mbit/s stays full.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// HTTP/2 window of one connection, bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

// --- the driver

/// Events taken from the mailbox at once.
pub const EVENTS_PER_TURN: usize = 256;

/// Eventual reads that wait, for some milliseconds after the disk failed, for the replica that will serve them; more
/// are refused.
pub const READS_DEFERRED_MAX: usize = 1024;

/// Steps whose effects grow into one group while the disk is busy with the last one; then no more are taken
/// until it is done.
pub const GROUP_EVENTS_MAX: usize = 4096;

/// Bytes of one group's writes, about at most: the step that crosses the bound is still in it.
pub const GROUP_BYTES_MAX: usize = 16 << 20;

/// How often a full disk is tried again.
pub const DISK_FULL_RETRY: Duration = Duration::from_secs(1);

/// Bytes of requests waiting for the driver, about; more requests are refused as overloaded. Behind a disk that
/// hangs everything waits, and values are up to a mebibyte.
pub const MAILBOX_REQUEST_BYTES_MAX: usize = 64 << 20;

/// Bytes of peer messages waiting for the driver, about; the links of further ones are not read meanwhile.
pub const MAILBOX_PEER_BYTES_MAX: usize = 64 << 20;

/// What one waiting request or message counts beside its payload, bytes: it bounds their number to 16 384 each.
pub const MAILBOX_EVENT_BYTES: usize = 4096;

/// Groups handed to the commit thread and not yet synced.
pub const GROUPS_IN_FLIGHT_MAX: usize = 2;

/// How often the small sequence file is synced while no vote asks for it.
pub const SEQUENCE_SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// How often the driver publishes its status.
pub const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// A driver that has published no status for this long does not answer anybody: its thread hangs, or there is no
/// replica to read from. Far above [`STATUS_INTERVAL`]: a long turn is no silence.
pub const STATUS_SILENT_MAX: Duration = Duration::from_secs(3);

/// A disk that has made nothing durable for this long, while the node says heartbeats and so has something to write
/// every second, does not answer: health says that the node takes no writes.
pub const DISK_SILENT_MAX: Duration = Duration::from_secs(5);

/// How often health is brought up to date from the published status.
pub const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// How long open requests may take when the node stops; then they are cut off.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(5);

// --- the cluster

/// Nodes a topology may name.
pub const NODES_MAX: usize = 1024;

/// Keyspaces a topology may name.
pub const KEYSPACES_MAX: usize = 256;

/// Shards of one keyspace.
pub const SHARDS_MAX: u16 = 4096;
