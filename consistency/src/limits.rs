//! Every bound of the core, in one place, with its unit and its reason.

/// Longest partition key plus sort key, bytes. Keys are held in memory by open operations.
pub const KEY_BYTES_MAX: usize = 4096;

/// Longest register value or set element, bytes. One value must fit in one peer message.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Longest set element, bytes: an element is part of its row's key.
pub const ELEMENT_BYTES_MAX: usize = 4096;

/// How far a remote hybrid clock may run ahead of the local wall clock, milliseconds.
///
/// Beyond it a message or token is refused: one bad clock must not drag everybody into the future.
pub const CLOCK_AHEAD_MAX_MS: u64 = 500;

/// How far ahead of the newest issued stamp the clock is reserved durably, milliseconds.
///
/// A restart resumes at the reserved bound, so a stamp is never issued twice. Well below
/// [`CLOCK_AHEAD_MAX_MS`]: else the peers of a node that restarts quickly would refuse its clock.
pub const CLOCK_RESERVE_MS: u64 = 250;

/// Strong operations combined under one ballot, at most.
pub const GROUP_OPERATIONS_MAX: usize = 32;

/// Strong operations that may wait for one row at one coordinator; more are refused as overloaded.
pub const ROW_QUEUE_MAX: usize = 1024;

/// Requests a replica holds open at once; more are refused as overloaded.
pub const OPEN_REQUESTS_MAX: usize = 65_536;

/// Sessions whose latest request id one strong row remembers.
pub const DEDUP_SESSIONS_MAX: usize = 1024;

/// Entries in one answer to a pull, bytes. Well under the 4 MiB message bound of the wire.
pub const PULL_BYTES_MAX: usize = 1 << 20;

/// Entries in one push, bytes, about at most (the entry that crosses the bound is still in it): with one
/// value of [`VALUE_BYTES_MAX`] behind it well under the 4 MiB message bound of the wire.
pub const PUSH_BYTES_MAX: usize = 1 << 20;

/// Own entries pushed to a replica of the region and not acknowledged for this long are pushed again,
/// milliseconds. Above a slow disk's sync.
pub const PUSH_AGAIN_MS: u64 = 100;

/// Own entries of a node that wait for a majority of the region's replicas, at most; more writes are
/// refused as overloaded. They are held in memory.
pub const UNCOMMITTED_ENTRIES_MAX: usize = 65_536;

/// Bytes of those entries, about at most.
pub const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;

/// Pulls under way per peer at once, to catch up.
pub const PULLS_PER_PEER_MAX: usize = 8;

/// Pulls under way per peer at once for sessions that wait: they do not queue behind catching up.
pub const SESSION_PULLS_PER_PEER_MAX: usize = 64;

/// Shards per peer that are known to lag and wait for their pull; further ones are found again by a
/// later exchange.
pub const LAGS_PER_PEER_MAX: usize = 4096;

/// Groups of shards a version-vector exchange is narrowed down to before vectors are sent.
pub const EXCHANGE_GROUPS: usize = 16;

/// Shards whose vectors go into one exchange answer, at most.
pub const EXCHANGE_SHARDS_MAX: usize = 512;

/// Prefixes in one exchange answer, about at most (the shard that crosses the bound is still in it): a
/// shard has one for every origin that ever wrote to it.
pub const EXCHANGE_PREFIXES_MAX: usize = 16_384;

/// Rows one page of a scan holds, at most.
pub const SCAN_ROWS_MAX: usize = 1000;

/// Bytes one page of a scan holds, about at most (the row that crosses the bound is still in it).
pub const SCAN_BYTES_MAX: usize = 1 << 20;

/// Heartbeat interval while nobody waits, milliseconds.
pub const HEARTBEAT_IDLE_MS: u64 = 1000;

/// Heartbeat interval towards a peer at which somebody waits, milliseconds.
pub const HEARTBEAT_BUSY_MS: u64 = 20;

/// How long a peer that asked for fast heartbeats keeps getting them, milliseconds.
pub const HEARTBEAT_BUSY_FOR_MS: u64 = 200;

/// Shortest time between two records of up to when each peer's writes are known, milliseconds. They go
/// with batches that are written anyway.
pub const SAFE_TIMES_STORE_MS: u64 = 1000;

/// A peer not heard of for this long does not count as reachable, milliseconds.
pub const PEER_SILENT_MS: u64 = 3500;

/// Shortest time a session request waits locally where waiting is predicted to be sooner, before it is
/// forwarded all the same, milliseconds. It waits twice the predicted time where that is longer.
pub const SESSION_WAIT_MIN_MS: u64 = 100;

/// One attempt of a strong operation lasts this many round trips to its quorum before a new ballot.
pub const ATTEMPT_ROUND_TRIPS: u32 = 3;

/// One attempt of a strong operation lasts at least this long, milliseconds.
pub const ATTEMPT_MS_MIN: u64 = 400;

/// A group that is delegated is proposed anew a quarter beyond the round trip to its delegate, and this much
/// more, milliseconds: syncs of both, and what a busy machine adds.
pub const DELEGATE_HEDGE_MS: u64 = 50;

/// A group travels to a delegate with the value that its proposer holds and comes back with another: above this many
/// bytes of both it is prepared instead, which sends the new value alone. Far below the bound of a message.
pub const DELEGATE_BYTES_MAX: usize = 256 << 10;

/// Delegations in a row that a replica did not answer in time before it is shunned.
pub const DELEGATE_MISSES_MAX: u8 = 2;

/// A replica that did not answer its last delegations in time is handed none for this long, milliseconds.
pub const DELEGATE_SHUNNED_MS: u64 = 5000;

/// A contended row's operations go to the coordinator whose ballots won it for this long after it last did,
/// milliseconds; then they are proposed where they are asked for, which takes fewer round trips when nobody else asks.
pub const OWNER_KEPT_MS: u64 = 2000;

/// Rows whose owner is remembered, at most.
pub const OWNERS_MAX: usize = 4096;

/// Groups of one row that a coordinator may have handed to the row's owner at once; what comes by meanwhile goes out
/// together with the next one.
pub const GROUPS_AWAY_MAX: usize = 4;

/// So many of them go at once; further ones wait a part of the way there and back, so that what comes by together goes
/// out together.
pub const GROUPS_AWAY_AT_ONCE: usize = 2;

/// Groups that a value remembers of each proposer, and by how many a group may be behind the oldest one that its
/// coordinator has under way: a row's next group waits otherwise.
pub const GROUPS_KEPT_MAX: usize = 16;

/// Groups of other coordinators under one ballot, and waiting for the next, at most; more go unanswered, and are proposed
/// where they were asked for. A node has up to [`GROUPS_AWAY_MAX`] there.
pub const HANDED_MAX: usize = 256;

/// How long a group of another coordinator goes out with new ballots, milliseconds: longer than its coordinator waits for
/// an answer.
pub const HANDED_FOR_MS: u64 = 3000;

/// Values that a group writes, bytes, about at most (the operation that crosses the bound is still in it): it has to fit
/// into one message with the value it rests on, well under the 4 MiB message bound of the wire.
pub const GROUP_BYTES_MAX: usize = 1 << 20;

/// Longest group that is handed to another coordinator, bytes, with what its node has applied: a group of the largest kind.
pub const COMBINE_BYTES_MAX: usize = 13 << 18;

/// Longest pause between two attempts of a strong operation, milliseconds.
pub const BACKOFF_MS_MAX: u64 = 2000;

/// Round trip assumed towards a peer that was not measured yet, milliseconds.
pub const ROUND_TRIP_UNKNOWN_MS: u64 = 200;

/// An accepted value not known chosen for this long is settled by its acceptor, milliseconds.
pub const SETTLE_AFTER_MS: u64 = 2000;

/// Rows whose unsettled state is looked at per tick.
pub const SETTLE_ROWS_PER_TICK: usize = 64;

/// Deadline of a request that names none, milliseconds.
pub const DEADLINE_DEFAULT_MS: u64 = 5000;

/// Longest deadline a request may name, milliseconds.
pub const DEADLINE_MAX_MS: u64 = 60_000;

/// Regions a cluster may have: one clock value each in every session token.
pub const REGIONS_MAX: usize = 16;
