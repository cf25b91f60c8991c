//! Storage keys of everything but rows: part of the stored format.
//!
//! ```text
//! meta   clock | sequence | sure | origins | safe | seen/<node u16> | epoch/<shard> | log/<shard><origin>
//! data   <row>
//! slot   <row> p (promised)        <row> a (accepted)
//! log    <shard><origin><seq u64>
//! ```
//!
//! Numbers are big-endian, so that byte order is numeric order.

use bytes::{BufMut, Bytes, BytesMut};

use crate::key::{KeyspaceId, NodeId, Row, ShardId};
use crate::version::{Origin, Seq};

/// Under which the clock's reserved bound stands.
pub const CLOCK: &[u8] = b"clock";
/// Under which the store sequence stands.
pub const SEQUENCE: &[u8] = b"sequence";
/// Under which stands up to where the store is known to have lost nothing.
pub const SURE: &[u8] = b"sure";
/// Under which this node's own origins stand.
pub const ORIGINS: &[u8] = b"origins";
/// Under which stands up to when each peer's writes are applied.
pub const SAFE: &[u8] = b"safe";
/// First byte string of the keys of seen peers.
pub const SEEN: &[u8] = b"seen/";
/// First byte string of the keys of shard epochs.
pub const EPOCH: &[u8] = b"epoch/";
/// First byte string of the keys of log prefixes.
pub const LOG: &[u8] = b"log/";

/// Last byte of the key of a slot's promise.
pub const PROMISED: u8 = b'p';
/// Last byte of the key of a slot's accepted value.
pub const ACCEPTED: u8 = b'a';

/// Where stands what was seen of a peer.
pub fn seen(node: NodeId) -> Bytes {
    named(SEEN, |out| out.put_u16(node.0))
}

/// Where stands a shard's epoch.
pub fn epoch(shard: ShardId) -> Bytes {
    named(EPOCH, |out| out.put_slice(&shard.prefix()))
}

/// Where stands how far an origin's log of a shard is held.
pub fn log_state(shard: ShardId, origin: Origin) -> Bytes {
    named(LOG, |out| put_log(out, shard, origin))
}

/// Where stands a log entry.
pub fn entry(shard: ShardId, origin: Origin, seq: Seq) -> Bytes {
    named(b"", |out| {
        put_log(out, shard, origin);
        out.put_u64(seq);
    })
}

/// Where stands a part of a row's slot: [`PROMISED`] or [`ACCEPTED`].
pub fn slot(row: &Row, part: u8) -> Bytes {
    named(row.as_bytes(), |out| out.put_u8(part))
}

/// The row and part of a slot key.
pub fn slot_row(key: &[u8]) -> Option<(Row, u8)> {
    let (part, row) = key.split_last()?;
    Some((Row::from_bytes(Bytes::copy_from_slice(row))?, *part))
}

/// The shard and origin of a key made by [`log_state`].
pub fn log_state_of(key: &[u8]) -> Option<(ShardId, Origin)> {
    let rest: &[u8; 10] = key.strip_prefix(LOG)?.try_into().ok()?;
    let at = |i: usize| u16::from_be_bytes([rest[i], rest[i + 1]]);
    let shard = ShardId {
        keyspace: KeyspaceId(at(0)),
        index: at(2),
    };
    let origin = Origin {
        node: NodeId(at(4)),
        incarnation: u32::from_be_bytes([rest[6], rest[7], rest[8], rest[9]]),
    };
    Some((shard, origin))
}

/// The shard of a key made by [`epoch`].
pub fn epoch_of(key: &[u8]) -> Option<ShardId> {
    let rest: &[u8; 4] = key.strip_prefix(EPOCH)?.try_into().ok()?;
    Some(ShardId {
        keyspace: KeyspaceId(u16::from_be_bytes([rest[0], rest[1]])),
        index: u16::from_be_bytes([rest[2], rest[3]]),
    })
}

/// The node of a key made by [`seen`].
pub fn seen_of(key: &[u8]) -> Option<NodeId> {
    let rest: &[u8; 2] = key.strip_prefix(SEEN)?.try_into().ok()?;
    Some(NodeId(u16::from_be_bytes(*rest)))
}

fn put_log(out: &mut BytesMut, shard: ShardId, origin: Origin) {
    out.put_slice(&shard.prefix());
    out.put_u16(origin.node.0);
    out.put_u32(origin.incarnation);
}

fn named(start: &[u8], rest: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut key = BytesMut::with_capacity(start.len() + 24);
    key.put_slice(start);
    rest(&mut key);
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        let shard = ShardId {
            keyspace: KeyspaceId(7),
            index: 513,
        };
        let origin = Origin {
            node: NodeId(260),
            incarnation: 0x0102_0304,
        };
        assert_eq!(
            log_state_of(&log_state(shard, origin)),
            Some((shard, origin))
        );
        assert_eq!(epoch_of(&epoch(shard)), Some(shard));
        assert_eq!(seen_of(&seen(NodeId(9))), Some(NodeId(9)));
        assert!(entry(shard, origin, 255) < entry(shard, origin, 256));
    }
}
